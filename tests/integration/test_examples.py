"""Every example runs to its end, on real servers and real Aer, and finds the energy that it should.

`WITHIN` says how close to the exact energy each example comes, in its own unit: on noisy devices the distance
is the device's noise, and the run's own comparison with the best energy under it is asserted for H2.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# examples/contention.yaml has tests of its own (test_contention.py).
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.yaml") if path.stem != "contention")

WITHIN = {
    "default/h2-ideal": 0.0016,
    "default/h2-noisy": 0.25,
    "default/h2-two-qubits": 0.1,
    "default/hamiltonian-line": 0.1,
    "default/hardware-native": 0.2,
    "default/heisenberg-chain": 2.2,
    "default/ising-chain": 0.8,
    "default/lih": 0.3,
    "default/maxcut": 2.5,
    "default/pauli-terms": 0.9,
    "default/quantum-natural": 0.5,
}


def run_example(manifest: Path, folder: Path) -> dict[str, object]:
    """Run `efaas run` as a person would and return its summary."""
    command = [sys.executable, "-m", "efaas.cli", "run", str(manifest), "--json", "--runs-dir", str(folder)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert finished.returncode == 0, finished.stderr[-4000:]
    summary: dict[str, object] = json.loads(finished.stdout)
    return summary


@pytest.mark.integration
@pytest.mark.timeout(300)
@pytest.mark.parametrize("manifest", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_completes_and_finds_its_energy(manifest: Path, tmp_path: Path):
    summary = run_example(manifest, tmp_path)
    assert summary["outcome"] == "Completed"
    sessions = summary["sessions"]
    assert isinstance(sessions, list)
    assert sessions
    for session in sessions:
        assert session["state"] == "Completed"
        assert session["usage"]["shots"] > 0
        if session["session"] in WITHIN:
            slack = 4 * session["std_error"]
            assert -slack <= session["energy"] - session["exact"] <= WITHIN[session["session"]]
    folder = Path(str(summary["folder"]))
    assert {"manifest.yaml", "result.json", "history.jsonl", "convergence.png"} <= {
        path.name for path in folder.iterdir()
    }


@pytest.mark.integration
@pytest.mark.timeout(300)
def test_h2_reaches_chemical_accuracy_without_noise_and_the_best_of_its_ansatz_with_noise(tmp_path: Path):
    summary = run_example(ROOT / "examples" / "h2.yaml", tmp_path)
    assert isinstance(summary["sessions"], list)
    ideal, noisy = summary["sessions"]
    assert abs(ideal["error"]) <= 0.0016
    assert abs(noisy["noisy_best"]["difference_std_errors"]) <= 3.0


def test_there_are_at_least_ten_examples():
    assert len(EXAMPLES) >= 10
