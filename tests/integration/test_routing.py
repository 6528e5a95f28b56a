"""Sessions that turn to another device, live: on twins nothing about the trajectory may change."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from efaas.api.wire import qpu_pb2, qpu_pb2_grpc

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

TWIN = """
apiVersion: efaas.dev/v1alpha1
kind: QPUDevice
metadata: {{name: {name}}}
spec:
  model: {{snapshot: manila-5}}
  simulation: {{timeScale: "0.02"}}
---
"""
SESSION = """
apiVersion: efaas.dev/v1alpha1
kind: VQASession
metadata: {name: loop}
spec:
  problem: {molecule: {name: H2, qubits: 2}}
  ansatz: {realAmplitudes: {repetitions: 1}}
  optimizer: {spsa: {learningRate: "0.1"}}
  stop: {maxIterations: 120}
  shots: 2048
  seed: 7
"""


class Run:
    """`efaas run` over twins."""

    def __init__(self, folder: Path, *devices: str) -> None:
        folder.mkdir()
        (folder / "twins.yaml").write_text("".join(TWIN.format(name=name) for name in devices) + SESSION)
        self.runs = folder / "runs"
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "efaas.cli", "run", "--json", "--no-plot"),
                *("--runs-dir", str(self.runs), str(folder / "twins.yaml")),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def until(self, text: str, times: int = 1) -> None:
        """Wait until the session's log says this so often."""
        end = time.monotonic() + 100
        while sum(log.read_text().count(text) for log in self.runs.glob("*/logs/default.loop.log")) < times:
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < end, f"never said {text!r}"
            time.sleep(0.02)

    def device(self, name: str) -> Path:
        (folder,) = self.runs.glob(f"*/devices/{name}")
        return folder

    def wait_for_server(self, name: str) -> dict[str, Any]:
        end = time.monotonic() + 60
        while not (address := self.runs.glob(f"*/devices/{name}/address.json")) or not list(address):
            assert time.monotonic() < end
            time.sleep(0.02)
        told: dict[str, Any] = json.loads((self.device(name) / "address.json").read_text())
        return told

    def calibrate(self, name: str) -> None:
        endpoint = self.wait_for_server(name)["endpoint"]
        token = (self.device(name) / "token").read_text().strip()
        with grpc.insecure_channel(endpoint) as channel:
            stub = qpu_pb2_grpc.QpuStub(channel)  # type: ignore[no-untyped-call]
            stub.Calibrate(
                qpu_pb2.CalibrateRequest(), metadata=[("authorization", f"Bearer {token}")], timeout=10
            )

    def finish(self) -> tuple[dict[str, Any], list[tuple[int, float]]]:
        out, err = self.process.communicate(timeout=200)
        assert self.process.returncode == 0, err[-3000:]
        (history,) = self.runs.glob("*/history.jsonl")
        lines = [json.loads(line) for line in history.read_text().splitlines()]
        (session,) = json.loads(out)["sessions"]
        return session, sorted((line["evaluation"], line["energy"]) for line in lines)


def test_moves_between_frozen_twins_leave_the_trajectory_as_it_is(tmp_path: Path) -> None:
    undisturbed, expected = Run(tmp_path / "alone", "left").finish()
    assert undisturbed["moves"] == []

    run = Run(tmp_path / "twins", "left", "right")
    run.until("evaluation ", 5)
    run.wait_for_server("right")
    run.until("evaluation ", 15)
    run.calibrate("left")  # 150 s on the device, 3 s here
    run.until("moved from left to right")
    run.until("evaluation ", 40)
    os.kill(run.wait_for_server("right")["pid"], signal.SIGKILL)
    session, energies = run.finish()
    assert session["moves"][0]["reason"] == "left is calibrating"
    assert [move["target"] for move in session["moves"]][:2] == ["right", "left"]
    assert energies == expected
    for same in ("energy", "parameters", "iterations", "evaluations"):
        assert session[same] == undisturbed[same]
    assert session["usage"]["shots"] == undisturbed["usage"]["shots"]
