"""A program on Qiskit's primitives, run as a session by `efaas run` with a real server and runner."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from qiskit.quantum_info import SparsePauliOp

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

TERMS = [("II", -1.0524), ("IZ", 0.3979), ("ZI", -0.3979), ("ZZ", -0.0113), ("XX", 0.1809)]

MANIFEST = """
apiVersion: efaas.dev/v1alpha1
kind: QPUDevice
metadata: {name: ideal}
spec:
  model: {snapshot: manila-5}
  simulation: {noise: None}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: code}
data:
  main.py: |
PROGRAM
---
apiVersion: efaas.dev/v1alpha1
kind: VQASession
metadata: {name: vqe}
spec:
  program: {script: {name: code, key: main.py}}
  seed: 11
"""

PROGRAM = f"""
import numpy as np
from qiskit.circuit.library import real_amplitudes
from qiskit.quantum_info import SparsePauliOp
from qiskit.transpiler import generate_preset_pass_manager
from scipy.optimize import minimize

import efaas
from efaas import EstimatorV2 as Estimator
from efaas import Session

hamiltonian = SparsePauliOp.from_list({TERMS!r})
ansatz = real_amplitudes(2, reps=1)
with Session(backend="torino-133") as session:
    circuit = generate_preset_pass_manager(backend=session.backend(), optimization_level=1).run(ansatz)
    observable = hamiltonian.apply_layout(circuit.layout)
    estimator = Estimator(mode=session)

    def energy(point):
        return float(estimator.run([(circuit, observable, point)], precision=0.005).result()[0].data.evs)

    found = minimize(energy, np.full(4, 0.1), method="COBYLA", options={{"maxiter": 60, "rhobeg": 0.6}})
    job = estimator.run([(circuit, observable, found.x)], precision=0.002)
    data = job.result()[0].data
    assert job.status() == "DONE"
    efaas.session().finish(energy=float(data.evs), parameters=found.x, error=float(data.stds))
"""


def test_a_vqe_on_the_estimator_finds_the_ground_state(tmp_path: Path) -> None:
    script = "".join(f"    {line}\n" for line in PROGRAM.strip().splitlines())
    (tmp_path / "vqe.yaml").write_text(MANIFEST.replace("PROGRAM\n", script))
    ended = subprocess.run(
        [sys.executable, "-m", "efaas.cli", "run", "--json", "--runs-dir", tmp_path / "runs", "vqe.yaml"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=150,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    result = json.loads((folder / "sessions" / "default.vqe" / "result.json").read_text())
    exact = float(np.linalg.eigvalsh(SparsePauliOp.from_list(TERMS).to_matrix())[0])
    assert result["status"] == "Completed"
    assert result["final_evaluation"]
    assert set(result["devices"]) == {"ideal"}, "inside a session the session's own device is used"
    # Five standard errors below the ground state at most, and chemical usefulness above it.
    error = result["further"]["error"]
    assert exact - 5 * error <= result["energy"] <= exact + 0.02
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    energies = [line["energy"] for line in history if line["energy"] is not None]
    assert len(energies) >= 20
    assert min(energies) <= exact + 0.05
