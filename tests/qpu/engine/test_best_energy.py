"""The noisy optimum: reached, and never below what physics allows."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from efaas_qpu.engine.messages import Configuration
from efaas_qpu.engine.reference import best_energy, read_problem
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.quantum_info import SparsePauliOp

from efaas.devices import load_snapshot
from efaas.errors import CircuitError, InputError, ManifestError

TERMS = (("II", -1.05), ("IZ", 0.39), ("ZI", -0.39), ("ZZ", -0.01), ("XX", 0.18))


def configuration(*, noisy: bool, method: str = "Auto") -> Configuration:
    snapshot = load_snapshot("manila-5")
    return Configuration(snapshot, snapshot, noisy, method)


def test_without_noise_it_is_the_ground_state(ansatz: Any, as_qpy: Any) -> None:
    found = best_energy(configuration(noisy=False), as_qpy(ansatz(2)), TERMS, budget_s=4)
    exact = np.linalg.eigvalsh(SparsePauliOp.from_list(TERMS).to_matrix())[0]
    assert found.energy == pytest.approx(exact, abs=1e-7)
    assert len(found.parameters) == ansatz(2).num_parameters


def test_noise_raises_it_and_mitigation_wins_some_back(ansatz: Any, as_qpy: Any) -> None:
    program = as_qpy(ansatz(2))
    exact = np.linalg.eigvalsh(SparsePauliOp.from_list(TERMS).to_matrix())[0]
    raw = best_energy(configuration(noisy=True), program, TERMS, budget_s=2)
    mitigated = best_energy(configuration(noisy=True), program, TERMS, readout_mitigation=True, budget_s=2)
    assert exact < mitigated.energy < raw.energy


def test_parameters_in_several_angles_are_minimised_by_differences(as_qpy: Any) -> None:
    angles = ParameterVector("t", 2)
    circuit = QuantumCircuit(2)
    circuit.ry(angles[0], 0)
    circuit.cx(0, 1)
    circuit.ry(angles[0] + angles[1], 1)
    circuit.rx(2 * angles[1], 0)
    terms = (("ZZ", 1.0), ("XI", 0.5))
    found = best_energy(configuration(noisy=False), as_qpy(circuit), terms, [[0.1, 0.2]], budget_s=4)
    grid = np.linspace(-np.pi, np.pi, 61)
    from qiskit.quantum_info import Statevector

    operator = SparsePauliOp.from_list(terms)
    lowest = min(
        Statevector(circuit.assign_parameters([a, b])).expectation_value(operator).real
        for a in grid
        for b in grid[::3]
    )
    assert found.energy <= lowest + 1e-6


def test_a_circuit_without_parameters_has_one_energy(as_qpy: Any) -> None:
    circuit = QuantumCircuit(2)
    circuit.x(0)
    found = best_energy(configuration(noisy=False), as_qpy(circuit), TERMS)
    assert found.energy == pytest.approx(-1.05 - 0.39 - 0.39 + 0.01)
    assert found.parameters == ()


def test_starts_of_another_length_are_refused(ansatz: Any, as_qpy: Any) -> None:
    with pytest.raises(InputError, match="3 values do not fit 8 parameters"):
        best_energy(configuration(noisy=False), as_qpy(ansatz(2)), TERMS, [[0, 0, 0]])


def test_circuits_that_need_trajectories_are_refused(ansatz: Any, as_qpy: Any) -> None:
    with pytest.raises(CircuitError, match="no exact energy"):
        best_energy(configuration(noisy=True, method="Trajectories"), as_qpy(ansatz(2)), TERMS)


def test_a_problem_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "problem.json"
    file.write_text(
        json.dumps(
            {
                "program": base64.b64encode(b"abc").decode(),
                "terms": [["Z", 1]],
                "starts": [[1]],
                "readoutMitigation": True,
            }
        )
    )
    assert read_problem(file) == (b"abc", (("Z", 1.0),), [[1.0]], True)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ("[]", ""),
        ("{", ""),
        ('{"terms": []}', "program"),
        ('{"program": "!", "terms": []}', "program"),
        ('{"openqasm3": "x", "terms": [1]}', "terms"),
        ('{"openqasm3": "x", "terms": [], "starts": [["a"]]}', "starts"),
        ('{"openqasm3": "x", "terms": [], "starts": [[NaN]]}', "starts"),
        ('{"openqasm3": "x", "terms": [], "readoutMitigation": 1}', "readoutMitigation"),
    ],
)
def test_a_faulty_problem_file_is_refused_by_field(tmp_path: Path, document: str, field: str) -> None:
    file = tmp_path / "problem.json"
    file.write_text(document)
    with pytest.raises(ManifestError) as caught:
        read_problem(file)
    assert caught.value.place.endswith(field)
