"""First points, the parameter-shift rule's conditions, and overlaps."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import Statevector

from efaas.ansatze import build_ansatz, initial_point, overlap_circuit, parameter_shift_violations
from efaas.api.session import Ansatz
from efaas.errors import ManifestError
from efaas.problems import Hamiltonian, expectation

HAMILTONIAN = Hamiltonian((("IXZ", 0.7), ("YYI", -0.4), ("ZZZ", 0.9), ("XIX", 0.3)))


def built(**choice: Any) -> QuantumCircuit:
    return build_ansatz(Ansatz.model_validate(choice), HAMILTONIAN)


def test_a_drawn_point_follows_from_the_seed() -> None:
    circuit = built(efficientSU2={})
    point = initial_point(circuit, 7)
    assert point.shape == (circuit.num_parameters,)
    assert point.tobytes() == initial_point(circuit, 7).tobytes()
    assert point.tobytes() != initial_point(circuit, 8).tobytes()


def test_drawn_points_are_uniform_around_zero() -> None:
    circuit = built(efficientSU2={"repetitions": 100})
    drawn = np.concatenate([initial_point(circuit, seed) for seed in range(10)])
    assert ((drawn >= -np.pi) & (drawn < np.pi)).all()
    # 6060 draws: the mean's standard error is π/√3/√6060 = 0.023, that of each quarter's share 0.0056.
    assert abs(drawn.mean()) < 0.1
    shares = np.histogram(drawn, bins=4, range=(-np.pi, np.pi))[0] / drawn.size
    assert shares == pytest.approx([0.25] * 4, abs=0.025)


def test_a_given_point_is_taken() -> None:
    circuit = built(qaoa={"layers": 1})
    assert initial_point(circuit, 0, (Decimal("0.1"), Decimal("-2"))).tolist() == [0.1, -2.0]


def test_a_given_point_must_fit() -> None:
    circuit = built(qaoa={"layers": 1})
    with pytest.raises(ManifestError) as caught:
        initial_point(circuit, 0, (Decimal(1),))
    assert str(caught.value) == "spec.initialParameters: has 1 number, the ansatz has 2 parameters"
    with pytest.raises(ManifestError) as caught:
        initial_point(circuit, 0, (Decimal(1), Decimal("1e999")))
    assert str(caught.value) == "spec.initialParameters[1]: 1E+999 is too large"


@pytest.mark.parametrize(
    "choice",
    [
        {"efficientSU2": {}},
        {"realAmplitudes": {}},
        {"nLocal": {"rotations": ["rx", "sx"], "entanglers": ["rzz", "rxx", "ryy"]}},
    ],
)
def test_where_the_shift_rule_is_said_to_hold_it_gives_the_gradient(choice: dict[str, Any]) -> None:
    circuit = built(**choice)
    assert parameter_shift_violations(circuit) == []
    point = initial_point(circuit, 3)

    def energy(at: np.ndarray) -> float:
        return expectation(HAMILTONIAN, Statevector(circuit.assign_parameters(at)).data)

    for axis in np.eye(point.size)[:: max(1, point.size // 6)]:
        by_shift = (energy(point + np.pi / 2 * axis) - energy(point - np.pi / 2 * axis)) / 2
        by_difference = (energy(point + 1e-5 * axis) - energy(point - 1e-5 * axis)) / 2e-5
        assert by_shift == pytest.approx(by_difference, abs=1e-7)


def test_each_parameter_that_breaks_the_shift_rule_is_named() -> None:
    a, b, c, d, e, f = (Parameter(name) for name in "abcdef")
    circuit = QuantumCircuit(2)
    circuit.rx(a, 0)
    circuit.ry(a, 1)
    circuit.rz(2 * b, 0)
    circuit.cry(c, 0, 1)
    circuit.rx(-d + 0.5, 0)
    circuit.rzx(e + f, 0, 1)
    assert parameter_shift_violations(circuit) == [
        "parameter a is in 2 gates instead of one",
        "parameter b has factor 2 in gate rz instead of 1 or -1",
        "parameter c is in gate cry, which is none of p, rx, rxx, ry, ryy, rz, rzx, rzz",
    ]


def test_qaoa_breaks_the_shift_rule() -> None:
    sentences = parameter_shift_violations(built(qaoa={"layers": 1}))
    assert [sentence.split()[1] for sentence in sentences] == ["β_0", "γ_0"]


@pytest.mark.parametrize(
    "choice", [{"efficientSU2": {}}, {"qaoa": {"layers": 2}}, {"nLocal": {"entanglers": ["ecr", "rzz"]}}]
)
def test_the_overlap_circuit_measures_the_fidelity(choice: dict[str, Any]) -> None:
    circuit = built(**choice)
    overlap = overlap_circuit(circuit)
    n = circuit.num_parameters
    assert [p.name[0] for p in overlap.parameters] == ["a"] * n + ["b"] * n
    assert overlap.count_ops()["measure"] == 3
    a, b = initial_point(circuit, 1), initial_point(circuit, 2)
    states = [Statevector(circuit.assign_parameters(point)).data for point in (a, b)]
    bound = overlap.remove_final_measurements(inplace=False).assign_parameters(np.concatenate([a, b]))
    fidelity = abs(np.vdot(*states)) ** 2
    assert Statevector(bound).probabilities()[0] == pytest.approx(fidelity, abs=1e-9)


def test_the_drawn_point_is_the_same_in_another_process() -> None:
    program = (
        "from qiskit import QuantumCircuit\nfrom qiskit.circuit import Parameter\n"
        "from efaas.ansatze import initial_point\ncircuit = QuantumCircuit(1)\n"
        "circuit.rx(Parameter('a'), 0)\nprint(initial_point(circuit, 5)[0].hex())"
    )
    circuit = QuantumCircuit(1)
    circuit.rx(Parameter("a"), 0)
    printed = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    assert float.fromhex(printed) == initial_point(circuit, 5)[0]
