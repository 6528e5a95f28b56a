"""`efaas submit` and `kubectl efaas` against a real cluster, on one session from its script to its end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.support.devices import TWIN, bring
from e2e.support.kubectl import SHORT_S, Kubectl, wait_until
from e2e.support.sessions import loop

Run = Callable[..., str]
PROGRAMS = Path(sys.executable).parent
SCRIPT = """\
import argparse

from qiskit.circuit.library import real_amplitudes
from qiskit.quantum_info import SparsePauliOp

import efaas

arguments = argparse.ArgumentParser()
arguments.add_argument("--steps", type=int)
steps = arguments.parse_args().steps
circuit = real_amplitudes(2, reps=1)
with efaas.session() as session:
    for step in range(steps):
        session.report(session.energy(circuit, [0.1 * step] * circuit.num_parameters, SparsePauliOp(["ZZ"])))
    print(f"{steps} steps are done")
    session.finish(energy=-1.0)
"""


@pytest.fixture(scope="module")
def run(kubectl: Kubectl) -> Run:
    """Run a program with the cluster's kubeconfig and return what it prints; it must end well."""
    bring(kubectl, {"left": {**TWIN, "simulation": {"timeScale": "0.2"}}, "right": TWIN})
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubectl.kubeconfig),
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
    }

    def run(*command: str) -> str:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=150, env=environment
        )
        assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    return run


@pytest.fixture(scope="module")
def running(kubectl: Kubectl, run: Run) -> str:
    """A session that is on its way."""
    kubectl.apply(loop("watched", 300, device={"matchLabels": {"efaas.dev/device": "left"}}))
    kubectl.wait_for_state("watched", "Running")
    wait_until("progress", lambda: _iterations(kubectl, "watched") >= 3, SHORT_S)
    return "watched"


def _iterations(kubectl: Kubectl, name: str) -> int:
    return int((kubectl.session(name).get("progress") or {}).get("iterations", 0))


def test_a_script_is_submitted_and_followed_to_its_end(kubectl: Kubectl, run: Run, tmp_path: Path):
    script = tmp_path / "sweep.py"
    script.write_text(SCRIPT)
    said = run("efaas", "submit", "--name", "sweep", "--qubits", "2", str(script), "--", "--steps", "3")
    assert "vqasession default/sweep submitted" in said
    assert "3 steps are done" in said
    assert "energy -1;" in said
    assert kubectl.session("sweep")["state"] == "Completed"
    assert "3 steps are done" in run("kubectl", "efaas", "logs", "sweep")


def test_top_shows_sessions_and_devices(run: Run, running: str):
    said = run("kubectl", "efaas", "top", "--once")
    (line,) = [line for line in said.splitlines() if line.startswith(running)]
    assert "Running" in line
    assert "left" in line
    assert any(line.startswith("right") for line in said.splitlines())


def test_describe_says_where_it_is_and_what_happened(run: Run, running: str):
    said = run("kubectl", "efaas", "describe", running)
    for word in ("Running", "left", "Admitted", "Placed"):
        assert word in said


def test_why_names_the_device_that_was_taken_and_what_speaks_against_the_other(run: Run, running: str):
    said = run("kubectl", "efaas", "why", running)
    assert "left" in said
    assert "label" in said


def test_logs_are_those_of_its_runner(run: Run, running: str):
    assert "iteration" in run("kubectl", "efaas", "logs", running)


def test_plot_draws_the_convergence(run: Run, running: str, tmp_path: Path):
    picture = tmp_path / "convergence.png"
    run("kubectl", "efaas", "plot", running, "-o", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_calibrate_has_the_device_calibrated(kubectl: Kubectl, run: Run):
    def epoch() -> int:
        return int(kubectl.get("qpudevice", "right")["status"]["calibration"]["epoch"])

    before = epoch()
    run("kubectl", "efaas", "calibrate", "right")
    wait_until("a calibration", lambda: epoch() > before, SHORT_S)


def test_cancel_ends_the_session_and_keeps_what_it_used(kubectl: Kubectl, run: Run, running: str):
    run("kubectl", "efaas", "cancel", running)
    wait_until("its end", lambda: f"/{running}" not in kubectl("get", "vqa", "-o", "name"), SHORT_S)
    said = run("kubectl", "efaas", "usage", "--history", "--by", "session")
    (mine,) = [line for line in said.splitlines() if running in line]
    assert any(digit in mine for digit in "123456789")
