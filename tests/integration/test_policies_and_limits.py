"""Every queue policy shares a device to the end, and every limit ends a session: live."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from efaas.api.device import QueuePolicy

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

DEVICE = """
apiVersion: efaas.dev/v1alpha1
kind: QPUDevice
metadata: {name: shared}
spec:
  model: {snapshot: manila-5}
  simulation: {timeScale: "0.02", noise: None}
"""
SESSION = """
---
apiVersion: efaas.dev/v1alpha1
kind: VQASession
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  problem: {{molecule: {{name: H2, qubits: 2}}}}
  ansatz: {{realAmplitudes: {{repetitions: 1}}}}
  optimizer: {optimizer}
  stop: {{maxIterations: {iterations}}}
  shots: 256
  seed: 3
  {rest}
"""
IDLE = """
---
apiVersion: efaas.dev/v1alpha1
kind: ConfigMap
metadata: {name: sleeper}
data:
  sleep.py: |
    import time
    from efaas.sdk import Session
    time.sleep(120)
---
apiVersion: efaas.dev/v1alpha1
kind: VQASession
metadata: {name: idle}
spec:
  program: {script: {name: sleeper, key: sleep.py}}
  limits: {idle: 1s}
"""


def session(
    name: str, *, namespace: str = "default", optimizer: str = "", iterations: int = 10, rest: str = ""
) -> str:
    return SESSION.format(
        name=name,
        namespace=namespace,
        optimizer=optimizer or '{spsa: {learningRate: "0.1"}}',
        iterations=iterations,
        rest=rest,
    )


def efaas_run(folder: Path, text: str, *options: str) -> tuple[int, dict[str, Any], str]:
    (folder / "manifest.yaml").write_text(text)
    command = [sys.executable, "-m", "efaas.cli", "run", "--json", "--no-plot", "--runs-dir", "runs"]
    run = subprocess.run(
        [*command, *options, "manifest.yaml"],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=200,
        check=False,
    )
    assert run.stdout, run.stderr[-3000:]
    return run.returncode, json.loads(run.stdout), run.stderr


@pytest.mark.parametrize("policy", list(QueuePolicy))
def test_loops_and_batch_work_of_two_tenants_complete_under_every_policy(tmp_path: Path, policy: str) -> None:
    text = (
        DEVICE
        + session("one", namespace="left")
        + session("two", namespace="right")
        + session("scan", namespace="right", optimizer="{scan: {points: 6}}")
    )
    code, summary, err = efaas_run(tmp_path, text, "--policy", policy)
    assert code == 0, err[-3000:]
    assert [each["state"] for each in summary["sessions"]] == ["Completed"] * 3
    assert "warning" not in err
    (device,) = summary["devices"]
    assert device["usage"]["held_ns"] == device["usage"]["billed_ns"] + device["usage"]["unbilled_ns"] > 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert f"policy: {policy}" in (folder / "devices" / "shared" / "device.yaml").read_text()


def test_each_limit_ends_its_session_as_expired_with_the_reason(tmp_path: Path) -> None:
    text = (
        DEVICE
        + session("shots", iterations=5000, rest="limits: {shots: 5000}")
        + session("time", iterations=5000, rest="limits: {qpuTime: 2s}")
        + session("wall", iterations=50000, rest="limits: {duration: 6s}")
        + IDLE
    )
    code, summary, err = efaas_run(tmp_path, text)
    assert code == 1, err[-3000:]
    ended = {each["session"]: each for each in summary["sessions"]}
    assert {each["state"] for each in ended.values()} == {"Expired"}, ended
    assert "spec.limits.shots is 5000" in ended["default/shots"]["reason"]
    assert ended["default/shots"]["usage"]["shots"] >= 5000
    assert "spec.limits.qpuTime is 2 s" in ended["default/time"]["reason"]
    assert 2.0 <= ended["default/time"]["usage"]["qpu_s"] < 4.0
    assert "spec.limits.duration is 6 s" in ended["default/wall"]["reason"]
    assert "spec.limits.idle is 1 s" in ended["default/idle"]["reason"]
