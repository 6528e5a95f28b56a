"""`efaas run` with real servers and runners: results, and what is left after everything was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

MANIFEST = """
apiVersion: efaas.dev/v1alpha1
kind: QPUDevice
metadata: {name: ideal}
spec:
  model: {snapshot: manila-5}
  simulation: {noise: None}
---
apiVersion: efaas.dev/v1alpha1
kind: QPUDevice
metadata: {name: noisy}
spec:
  model: {snapshot: manila-5}
"""

SESSION = """
---
apiVersion: efaas.dev/v1alpha1
kind: VQASession
metadata: {{name: {name}}}
spec:
  problem: {{molecule: {{name: H2, qubits: 2}}}}
  ansatz: {ansatz}
  optimizer: {{spsa: {{}}}}
  stop: {{maxIterations: {iterations}}}
  shots: 2048
  finalShots: 100000
  seed: 7
  device: {{matchLabels: {{efaas.dev/device: {name}}}}}
"""


def manifest(*names: str, iterations: int = 40, ansatz: str = "{realAmplitudes: {repetitions: 1}}") -> str:
    sessions = [SESSION.format(name=name, iterations=iterations, ansatz=ansatz) for name in names]
    return MANIFEST + "".join(sessions)


@dataclass
class Run:
    """A started `efaas run`."""

    process: subprocess.Popen[str]
    runs: Path

    @property
    def folder(self) -> Path:
        (folder,) = self.runs.iterdir()
        return folder

    def wait_until(self, happened: Callable[[], bool], limit_s: float = 60.0) -> None:
        end = time.monotonic() + limit_s
        while not happened():
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < end, "did not happen"
            time.sleep(0.01)

    def evaluations(self) -> int:
        logs = list(self.runs.glob("*/logs/default.*.log"))
        return sum(log.read_text().count("evaluation ") for log in logs)

    def finish(self) -> tuple[int, dict[str, Any], str]:
        out, err = self.process.communicate(timeout=120)
        return self.process.returncode, json.loads(out) if out else {}, err


def efaas_run(tmp_path: Path, *arguments: str) -> Run:
    command = [
        sys.executable,
        "-m",
        "efaas.cli",
        "run",
        "--json",
        "--runs-dir",
        str(tmp_path / "runs"),
        *arguments,
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    return Run(process, tmp_path / "runs")


def start(tmp_path: Path, text: str) -> Run:
    path = tmp_path / "h2.yaml"
    path.write_text(text)
    return efaas_run(tmp_path, str(path))


def trajectory(folder: Path) -> list[tuple[str, int, float, float]]:
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return sorted((line["session"], line["evaluation"], line["energy"], line["std_error"]) for line in lines)


def descendants(pid: int) -> list[int]:
    """Process ids of all children and their children, from the kernel's process table."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found = [pid]
    for candidate in found:
        found += [child for child, parent in parents.items() if parent == candidate]
    return found[1:]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def wait_for_their_end(pids: list[int]) -> None:
    end = time.monotonic() + 10
    while any(command_line(pid) for pid in pids):
        assert time.monotonic() < end, [command_line(pid) for pid in pids]
        time.sleep(0.02)


def test_h2_on_an_ideal_and_a_noisy_device(tmp_path: Path) -> None:
    run = start(tmp_path, manifest("ideal", "noisy"))
    code, summary, err = run.finish()
    assert code == 0, err
    ideal, noisy = summary["sessions"]
    assert ideal["state"] == noisy["state"] == "Completed"
    assert ideal["exact"] == pytest.approx(-1.137306, abs=1e-5)
    # Forty SPSA iterations from a fixed seed come this far; the reach of examples/h2.yaml is tested there.
    assert abs(ideal["error"]) < 0.1
    assert noisy["energy"] > ideal["exact"] - 5 * noisy["std_error"]
    assert ideal["noisy_best"] is None
    assert noisy["noisy_best"]["energy"] > noisy["exact"]
    for session in (ideal, noisy):
        assert session["ttns_s"]["n"] == session["evaluations"] > 40
        assert session["usage"]["shots"] > 40 * 2048
        assert session["usage"]["qpu_s"] > 0
    assert [device["device"] for device in summary["devices"]] == ["ideal", "noisy"]
    assert all(0 < device["qdc"] <= 1 for device in summary["devices"])
    assert len(trajectory(run.folder)) == sum(session["evaluations"] for session in (ideal, noisy))
    assert (run.folder / "convergence.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((run.folder / "result.json").read_text()) == summary


def test_everything_is_killed_and_the_resumed_run_has_the_same_trajectory(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = start(tmp_path / "whole", manifest("ideal", iterations=60))
    assert whole.finish()[0] == 0

    (tmp_path / "torn").mkdir()
    torn = start(tmp_path / "torn", manifest("ideal", iterations=60))
    torn.wait_until(lambda: torn.evaluations() > 10)
    children = descendants(torn.process.pid)
    for pid in [torn.process.pid, *children]:
        os.kill(pid, signal.SIGKILL)
    torn.process.communicate()
    wait_for_their_end(children)

    resumed = efaas_run(tmp_path / "torn", "--resume", torn.folder.name)
    code, summary, err = resumed.finish()
    assert code == 0, err
    assert summary["sessions"][0]["lease_epoch"] == 2
    assert trajectory(torn.folder) == trajectory(whole.folder)
    result = json.loads((whole.folder / "result.json").read_text())["sessions"][0]
    for same in ("energy", "parameters", "iterations", "evaluations"):
        assert summary["sessions"][0][same] == result[same]
    # No shot is counted twice.
    assert summary["sessions"][0]["usage"]["shots"] == result["usage"]["shots"]


def test_a_killed_supervisor_takes_its_children_along(tmp_path: Path) -> None:
    run = start(tmp_path, manifest("ideal", iterations=2000))
    run.wait_until(lambda: run.evaluations() > 3)
    children = descendants(run.process.pid)
    assert any("efaas.runner" in command_line(pid) for pid in children)
    run.process.kill()
    run.process.communicate()
    wait_for_their_end(children)


def test_a_killed_runner_and_a_killed_server_cost_nothing_but_time(tmp_path: Path) -> None:
    run = start(tmp_path, manifest("ideal", iterations=150))
    for victim, past in (("efaas.runner", 5), ("efaas_qpu serve", 30)):
        run.wait_until(lambda past=past: run.evaluations() > past)  # type: ignore[misc]
        pids = [pid for pid in descendants(run.process.pid) if victim in command_line(pid)]
        assert pids
        os.kill(pids[0], signal.SIGKILL)
    code, summary, err = run.finish()
    assert code == 0, err
    (session,) = summary["sessions"]
    assert (session["state"], session["iterations"]) == ("Completed", 150)
    evaluations = [evaluation for _, evaluation, _, _ in trajectory(run.folder)]
    assert evaluations == list(range(len(evaluations)))


def test_ctrl_c_leaves_a_run_that_goes_on(tmp_path: Path) -> None:
    run = start(tmp_path, manifest("ideal", iterations=60))
    run.wait_until(lambda: run.evaluations() > 10)
    children = descendants(run.process.pid)
    run.process.send_signal(signal.SIGINT)
    code, summary, err = run.finish()
    assert code == 130
    assert summary["outcome"] == "Interrupted"
    assert f"efaas run --resume {run.folder}" in err
    wait_for_their_end(children)
    code, summary, err = efaas_run(tmp_path, "--resume", str(run.folder)).finish()
    assert code == 0, err
    assert summary["sessions"][0]["iterations"] == 60


def test_a_circuit_that_the_runner_refuses_is_bad_input(tmp_path: Path) -> None:
    circuit = json.dumps("OPENQASM 3.0; qubit[2] q; U(0, 0, 0) q[0]; nonsense q[1];")
    run = start(tmp_path, manifest("ideal", ansatz=f"{{openqasm3: {circuit}}}"))
    code, summary, err = run.finish()
    assert code == 2, (summary, err)
    sentences = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(sentences) == 1
    assert sentences[0].startswith("error: VQASession ideal: spec.ansatz.openqasm3")


def test_stdout_without_a_terminal_is_plain_lines_and_the_report(tmp_path: Path) -> None:
    path = tmp_path / "h2.yaml"
    path.write_text(manifest("ideal", iterations=3))
    command = [sys.executable, "-m", "efaas.cli", "run", str(path), "--no-plot"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert "\x1b" not in run.stdout
    assert "ideal: Completed on ideal" in run.stdout
    assert "exact             −1.1373 Ha" in run.stdout
    assert dedent(run.stdout).rstrip().endswith("history.jsonl")
