"""Ansätze from the library: width, parameters, limits, and what their states are."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any, get_args

import numpy as np
import pytest
from qiskit.quantum_info import Statevector

from efaas.ansatze import build_ansatz
from efaas.api.session import Ansatz, Entanglement
from efaas.errors import ManifestError
from efaas.problems import Hamiltonian, expectation

TWO_BODY = {"cx", "cz", "ecr", "rxx", "ryy", "rzz"}


def ansatz(**choice: Any) -> Ansatz:
    return Ansatz.model_validate(choice)


def chain(qubits: int) -> Hamiltonian:
    return Hamiltonian(tuple(("I" * q + "X" + "I" * (qubits - 1 - q), 1.0) for q in range(qubits)))


@pytest.mark.parametrize("entanglement", get_args(Entanglement))
@pytest.mark.parametrize("qubits", [1, 2, 3, 5])
def test_every_entanglement_is_built_on_every_width(qubits: int, entanglement: str) -> None:
    options = {"repetitions": 2, "entanglement": entanglement}
    for choice, parameters in (("efficientSU2", 6 * qubits), ("realAmplitudes", 3 * qubits)):
        circuit = build_ansatz(ansatz(**{choice: options}), chain(qubits))
        assert (circuit.num_qubits, circuit.num_clbits) == (qubits, 0)
        assert circuit.num_parameters == parameters


@pytest.mark.parametrize("entangler", sorted(TWO_BODY))
@pytest.mark.parametrize("rotation", ["rx", "ry", "rz"])
def test_n_local_has_the_gates_it_was_asked_for(rotation: str, entangler: str) -> None:
    local = {
        "rotations": [rotation, "h"],
        "entanglers": [entangler],
        "repetitions": 1,
        "entanglement": "full",
    }
    counts = build_ansatz(ansatz(nLocal=local), chain(3)).count_ops()
    assert dict(counts) == {rotation: 6, "h": 6, entangler: 3}


def test_n_local_on_one_qubit_leaves_the_entanglers_out() -> None:
    assert dict(build_ansatz(ansatz(nLocal={}), chain(1)).count_ops()) == {"ry": 3}


def test_parameters_keep_their_order_when_there_are_more_than_ten() -> None:
    circuit = build_ansatz(ansatz(realAmplitudes={"repetitions": 3}), chain(3))
    assert [p.name for p in circuit.parameters] == [f"θ_{k:02d}" for k in range(12)]
    # The order of rotations in the circuit is the order of the parameters.
    assert [g.operation.params[0].name for g in circuit.data if g.operation.name == "ry"] == [
        p.name for p in circuit.parameters
    ]


def test_one_layer_of_qaoa_on_one_edge_has_its_closed_form() -> None:
    # Wang et al. 2018 for a single edge: <C> = 1/2 + 1/2 sin 4β sin γ for the cut C = (1 - ZZ) / 2
    # and exp(-i γ C). The energy is H = -C and Qiskit evolves with exp(-i γ H), so γ changes its sign.
    hamiltonian = Hamiltonian((("II", -0.5), ("ZZ", 0.5)))
    circuit = build_ansatz(ansatz(qaoa={"layers": 1}), hamiltonian)
    assert [p.name for p in circuit.parameters] == ["β_0", "γ_0"]
    for beta, gamma in ((0.3, 0.7), (-0.4, 1.1), (math.pi / 8, -math.pi / 2)):
        state = Statevector(circuit.assign_parameters([beta, gamma])).data
        expected = -0.5 + 0.5 * math.sin(4 * beta) * math.sin(gamma)
        assert expectation(hamiltonian, state) == pytest.approx(expected, abs=1e-9)


def test_qaoa_of_a_general_hamiltonian_is_the_product_of_its_evolutions() -> None:
    import scipy.linalg
    from qiskit.quantum_info import SparsePauliOp

    hamiltonian = Hamiltonian((("III", 3.0), ("XYZ", 0.4)))
    circuit = build_ansatz(ansatz(qaoa={"layers": 2}), hamiltonian)
    betas, gammas = [0.3, -0.8], [1.2, 0.5]
    state = np.full(8, 8**-0.5, dtype=complex)
    cost = SparsePauliOp(["XYZ"], [0.4]).to_matrix()
    mixer = SparsePauliOp(["IIX", "IXI", "XII"]).to_matrix()
    for beta, gamma in zip(betas, gammas, strict=True):
        state = scipy.linalg.expm(-1j * beta * mixer) @ scipy.linalg.expm(-1j * gamma * cost) @ state
    built = Statevector(circuit.assign_parameters([*betas, *gammas])).data
    assert abs(np.vdot(built, state)) == pytest.approx(1, abs=1e-9)
    assert circuit.global_phase == 0


@pytest.mark.parametrize(
    ("choice", "qubits", "message"),
    [
        (
            {"nLocal": {"rotations": ["h"]}},
            2,
            "spec.ansatz.nLocal: has no parameters to optimise; add a rotation rx, ry or rz",
        ),
        (
            {"efficientSU2": {"repetitions": 100, "entanglement": "full"}},
            1000,
            "spec.ansatz.efficientSU2: would have about 50152000 gates, and 100000 is the limit; "
            "take fewer repetitions or a sparser entanglement",
        ),
        (
            {"qaoa": {"layers": 100}},
            600,
            "spec.ansatz.qaoa: would have about 120600 gates, and 100000 is the limit; "
            "take fewer repetitions or a sparser entanglement",
        ),
    ],
)
def test_what_cannot_be_a_session_gets_one_sentence(
    choice: dict[str, Any], qubits: int, message: str
) -> None:
    with pytest.raises(ManifestError) as caught:
        build_ansatz(ansatz(**choice), chain(qubits))
    assert str(caught.value) == message


def test_importing_ansatze_does_not_load_qiskit() -> None:
    program = "import sys, efaas.ansatze; sys.exit('qiskit' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
