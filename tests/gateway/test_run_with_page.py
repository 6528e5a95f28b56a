"""`efaas run --ui`: the page's API knows the run while it goes on, and cancels its sessions."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from efaas.journal import read_records

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

MANIFEST = """
apiVersion: efaas.dev/v1alpha1
kind: VQASession
metadata: {name: short}
spec:
  problem: {molecule: {name: H2, qubits: 2}}
  ansatz: {realAmplitudes: {repetitions: 1}}
  optimizer: {spsa: {learningRate: "0.1"}}
  shots: 256
  stop: {maxIterations: 8}
---
apiVersion: efaas.dev/v1alpha1
kind: VQASession
metadata: {name: endless}
spec:
  problem: {molecule: {name: H2, qubits: 2}}
  ansatz: {realAmplitudes: {repetitions: 1}}
  optimizer: {spsa: {learningRate: "0.1"}}
  shots: 256
  stop: {maxIterations: 1000000}
"""


def test_the_page_sees_the_run_and_cancels_a_session(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(MANIFEST)
    process = subprocess.Popen(
        [sys.executable, "-m", "efaas.cli", "run", "two.yaml", "--ui", "--no-plot"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said: list[str] = []
    address: list[tuple[str, str]] = []

    def hear() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if found := re.search(r"page: (http://127\.0\.0\.1:\d+)/#token=(\S+)", line):
                address.append((found[1], found[2]))

    hearing = threading.Thread(target=hear)
    hearing.start()
    try:
        _wait(lambda: address, said)
        url, token = address[0]
        with httpx.Client(
            base_url=f"{url}/api/v1", headers={"Authorization": f"Bearer {token}"}, timeout=20
        ) as client:

            def get(path: str) -> Any:
                return client.get(path).json()

            _wait(lambda: get("/sessions/default/short").get("state") == "Completed", said)
            _wait(lambda: get("/sessions/default/endless").get("evaluations", 0) > 3, said)
            _wait(lambda: get("/devices")["items"][0]["condition"] == "Ready", said)
            # What the API shows is what the runner journalled, as soon as all of it has been worked out.
            folder = next((tmp_path / "runs").glob("*/sessions/default.short/journal"))
            steps = [item for item in read_records(folder) if item["kind"] in ("iteration", "final")]
            energies = [item["energy"] for item in steps]
            shots = sum(job["shots"] for item in steps for job in item["jobs"])
            trajectory = "/sessions/default/short/trajectory"
            _wait(lambda: get(trajectory)["columns"]["energy"] == energies, said)
            _wait(lambda: get("/sessions/default/short")["shots"] == shots, said)
            assert get("/usage")["items"][0]["qpu_s"] > 0
            assert client.post("/sessions/default/endless/cancel").status_code == 202
        process.wait(120)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
        hearing.join(20)
        process.stdout.close()
    # Cancelled is not completed.
    assert process.returncode == 1, "".join(said)
    assert "Cancelled" in "".join(said)


def _wait(condition: Any, said: list[str]) -> None:
    deadline = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < deadline, "".join(said)
        time.sleep(0.1)
