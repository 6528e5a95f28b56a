"""A QPU server and a runner, as processes, whose journals the gateway keeps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway.running import TOKEN, RunningGateway
from tests.support.processes import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

DEVICE = """
apiVersion: efaas.dev/v1alpha1
kind: QPUDevice
metadata: {name: manila}
spec: {model: {snapshot: manila-5}, calibration: {drift: Model}}
"""
SESSION = """
apiVersion: efaas.dev/v1alpha1
kind: VQASession
metadata: {name: h2, namespace: red}
spec:
  problem: {molecule: {name: H2, qubits: 2}}
  ansatz: {realAmplitudes: {repetitions: 1}}
  optimizer: {spsa: {learningRate: "0.1"}}
  shots: 256
  stop: {maxIterations: 6}
"""


@contextmanager
def qpu_server(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """The server's endpoint, once it listens."""
    (folder / "data").mkdir(parents=True)
    (folder / "device.yaml").write_text(DEVICE)
    command = [
        sys.executable, "-m", "efaas_qpu", "serve", "--device", str(folder / "device.yaml"),
        "--data", str(folder / "data"), "--address-file", str(folder / "address.json"),
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stderr=log)
        try:
            wait_until("address of the server", (folder / "address.json").exists, within_s=90)
            yield json.loads((folder / "address.json").read_text())["endpoint"]
        finally:
            process.terminate()
            process.wait(30)


def test_a_new_server_and_a_new_runner_go_on_elsewhere(
    sqlite_gateway: RunningGateway, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "session.yaml").write_text(SESSION)
    environment = {
        **os.environ,
        "EFAAS_GATEWAY": sqlite_gateway.endpoint,
        "EFAAS_GATEWAY_TOKEN_FILE": str(tmp_path / "token"),
    }

    def get(path: str) -> Any:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return httpx.get(f"{sqlite_gateway.address}/api/v1{path}", headers=headers, timeout=20).json()

    def run(epoch: int, endpoint: str) -> subprocess.CompletedProcess[str]:
        folder = tmp_path / f"runner-{epoch}"  # another machine's disk each time
        return subprocess.run(
            [sys.executable, "-m", "efaas.runner"],
            env={
                **environment,
                "EFAAS_SESSION_FILE": str(tmp_path / "session.yaml"),
                "EFAAS_QPUS": json.dumps([{"device": "manila", "endpoint": endpoint}]),
                "EFAAS_JOURNAL": str(folder / "journal"),
                "EFAAS_LEASE_EPOCH": str(epoch),
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    with qpu_server(tmp_path / "here", environment) as endpoint:
        first = run(1, endpoint)
        assert first.returncode == 0, first.stderr
        device = wait_until(
            "ready device that has been busy",
            lambda: (d := get("/devices/manila")).get("condition") == "Ready" and d["busy_s"] and d,
            within_s=90,
        )
        assert device["known_error"] > 0
        assert device["true_error"] > 0
        # A device tells once a second how it is: until it has told the last of it.
        wait_until("end of the device", lambda: get("/devices/manila")["queue_depth"] == 0, within_s=90)
        sqlite_gateway.settle()
        charged = get("/usage?by=session")["items"]
        session = get("/sessions/red/h2")
        for _ in range(2):  # the report on its way may be older than the runner's end
            clock_s = device["clock_s"]
            device = wait_until(
                "newer report of the device",
                lambda clock_s=clock_s: (d := get("/devices/manila"))["clock_s"] > clock_s and d,
                within_s=90,
            )
        busy_s = device["busy_s"]
    # What the device charged is what the runner was told.
    assert [row["session"] for row in charged] == ["red/h2"]
    assert charged[0]["qpu_s"] == pytest.approx(session["qpu_s"])
    assert charged[0]["shots"] == session["shots"]
    # A new server of the device, on another disk, knows what the former one did; so does a new runner.
    with qpu_server(tmp_path / "there", environment) as endpoint:
        again = wait_until(
            "ready device that has been busy",
            lambda: (d := get("/devices/manila")).get("condition") == "Ready" and d["busy_s"] and d,
            within_s=90,
        )
        assert again["busy_s"] == pytest.approx(busy_s)
        second = run(2, endpoint)
        assert second.returncode == 0, second.stderr
        sqlite_gateway.settle()
        # Nothing was run, charged or journalled once more.
        assert get("/sessions/red/h2")["records"] == session["records"]
        assert get("/usage?by=session")["items"] == charged
