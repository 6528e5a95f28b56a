"""A circuit's program has the same bytes in every process, and the same state as the circuit."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from qiskit import QuantumCircuit, qasm3, qpy
from qiskit.circuit import Gate, Parameter, ParameterVector
from qiskit.circuit.library import PauliEvolutionGate, UnitaryGate
from qiskit.quantum_info import Operator, SparsePauliOp, Statevector

from efaas.ansatze import canonical_program, standard_form
from efaas.errors import CircuitError

PROGRAM = """
import hashlib
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector
from efaas.ansatze import build_ansatz, canonical_program, overlap_circuit
from efaas.api.session import Ansatz
from efaas.problems import Hamiltonian

hamiltonian = Hamiltonian((("ZZI", 0.5), ("XYZ", 0.25), ("IXX", -1.0)))
local = {"entanglers": ["rzz"]}
choices = [{"efficientSU2": {}}, {"realAmplitudes": {}}, {"nLocal": local}, {"qaoa": {"layers": 2}}]
circuits = [build_ansatz(Ansatz.model_validate(choice), hamiltonian) for choice in choices]
circuits.append(overlap_circuit(circuits[0]))
angles = [Parameter(name) for name in "hgfedcba"]
several = QuantumCircuit(2)
several.rx(sum(angles[1:], 2.5 * angles[0]) + 0.1, 0)
several.rzz(angles[3] - 0.3 * angles[5], 0, 1)
vector = ParameterVector("w", 12)
own = QuantumCircuit(2, metadata={"made": "by hand"})
inner = QuantumCircuit(2)
inner.ryy(3 * vector[11] / 2, 0, 1)
own.append(inner.to_gate(), [1, 0])
for angle in vector[:11]:
    own.p(angle, 0)
own.measure_all()
for circuit in [*circuits, several, own]:
    program = canonical_program(circuit)
    print(hashlib.sha256(program if isinstance(program, bytes) else program.encode()).hexdigest())
"""


def test_processes_with_different_hash_seeds_write_the_same_bytes() -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert len(outputs[0].split()) == 7
    assert outputs[0] == outputs[1]


def load(program: bytes | str) -> QuantumCircuit:
    return qpy.load(io.BytesIO(program))[0] if isinstance(program, bytes) else qasm3.loads(program)


def same_state(one: QuantumCircuit, other: QuantumCircuit) -> bool:
    """Whether two circuits make the same state for the same parameter vector, but for a global phase."""
    values = np.random.default_rng(5).uniform(-3, 3, one.num_parameters)
    states = [Statevector(c.assign_parameters(values)) for c in (one, other)]
    return bool(np.isclose(abs(np.vdot(states[0].data, states[1].data)), 1, atol=1e-9))


def a_circuit(kind: str) -> QuantumCircuit:
    a, b = Parameter("a"), Parameter("b")
    circuit = QuantumCircuit(3, name="any")
    circuit.h([0, 1, 2])
    if kind == "vector":
        for position, angle in enumerate(ParameterVector("t", 12)):
            circuit.rx(angle, position % 3)
            circuit.cx(position % 3, (position + 1) % 3)
    elif kind == "affine":
        circuit.rx(2 * a - 0.5, 0)
        circuit.rzz(-b / 3, 0, 1)
        circuit.u(a, 0.1, b + 1, 2)
    elif kind == "several":
        circuit.rx(a + 2 * b, 0)
        circuit.rxx(a - b + 0.25, 1, 2)
    elif kind == "nested":
        inner = QuantumCircuit(2, name="inner", global_phase=a)
        inner.ry(b, 0)
        inner.cry(2 * a, 0, 1)
        circuit.append(inner.to_gate(), [2, 0])
        circuit.append(inner.to_gate(), [0, 1])
    elif kind == "evolution":
        operator = SparsePauliOp(["XYZ", "ZZI", "III"], [0.5, 0.25, 2])
        circuit.append(PauliEvolutionGate(operator, time=a), range(3))
        circuit.rx(b, 0)
    elif kind == "unitary":
        circuit.append(UnitaryGate(Operator(QuantumCircuit(2)).power(1)), [0, 1])
        matrix = np.linalg.qr(np.random.default_rng(1).standard_normal((4, 4)))[0]
        circuit.append(UnitaryGate(matrix), [0, 2])
        circuit.rx(a, 0)
        circuit.ry(b, 2)
    elif kind == "open control":
        circuit.cx(0, 1, ctrl_state=0)
        circuit.rx(a, 0)
        circuit.crz(b, 1, 2, ctrl_state=0)
    return circuit


KINDS = pytest.mark.parametrize(
    "kind", ["vector", "affine", "several", "nested", "evolution", "unitary", "open control"]
)


# Qiskit's own matrix of an evolution makes SciPy complain about a storage format.
@pytest.mark.filterwarnings("ignore::scipy.sparse.SparseEfficiencyWarning")
@KINDS
def test_the_program_makes_the_state_of_the_circuit(kind: str) -> None:
    circuit = a_circuit(kind)
    assert same_state(circuit, load(canonical_program(circuit)))


@KINDS
def test_the_standard_form_is_a_fixed_point(kind: str) -> None:
    form = standard_form(a_circuit(kind))
    assert canonical_program(form) == canonical_program(a_circuit(kind))
    assert standard_form(form) == form


@KINDS
def test_the_program_lists_the_parameters_in_the_order_of_the_circuit(kind: str) -> None:
    form = standard_form(a_circuit(kind))
    loaded = load(canonical_program(form))
    assert [p.name for p in loaded.parameters] == [p.name for p in form.parameters]


def test_only_angles_of_several_parameters_need_text() -> None:
    texts = {
        kind
        for kind in ("vector", "affine", "several", "nested")
        if isinstance(canonical_program(a_circuit(kind)), str)
    }
    assert texts == {"several"}


def test_qpy_is_of_the_version_that_every_server_reads() -> None:
    program = canonical_program(a_circuit("affine"))
    assert isinstance(program, bytes)
    assert qpy.get_qpy_version(io.BytesIO(program)) == 13


def test_names_labels_and_metadata_do_not_show() -> None:
    programs = set()
    for name in ("one", "two"):
        circuit = QuantumCircuit(1, name=name, metadata={"of": name}, global_phase=len(name))
        circuit.rx(Parameter("a"), 0, label=name)
        programs.add(canonical_program(circuit))
    assert len(programs) == 1


@pytest.mark.parametrize("name", ["my angle", "input", "1st", "θ{2}"])
def test_a_name_that_openqasm_does_not_have_is_replaced(name: str) -> None:
    circuit = QuantumCircuit(1)
    circuit.rx(Parameter(name), 0)
    assert [p.name for p in standard_form(circuit).parameters] == ["parameter_0"]


def test_measurements_and_barriers_are_kept() -> None:
    circuit = QuantumCircuit(2, 1)
    circuit.rx(Parameter("a"), 0)
    circuit.barrier()
    circuit.measure(1, 0)
    assert [g.operation.name for g in standard_form(circuit).data] == ["rx", "barrier", "measure"]
    assert same_state(
        circuit.remove_final_measurements(inplace=False),
        standard_form(circuit.remove_final_measurements(inplace=False)),
    )


def test_a_namesake_of_a_standard_gate_is_expanded() -> None:
    class Rx(Gate):
        def __init__(self, angle: Any) -> None:
            super().__init__("rx", 1, [angle])

        def _define(self) -> None:
            self.definition = QuantumCircuit(1)
            self.definition.rz(self.params[0], 0)

    circuit = QuantumCircuit(1)
    circuit.append(Rx(Parameter("a")), [0])
    assert dict(standard_form(circuit).count_ops()) == {"rz": 1}


def refused(circuit: QuantumCircuit, **options: int) -> str:
    with pytest.raises(CircuitError) as caught:
        standard_form(circuit, **options)
    return str(caught.value)


def with_angle(angle: Any) -> QuantumCircuit:
    circuit = QuantumCircuit(1)
    circuit.rx(angle, 0)
    return circuit


def test_what_has_no_standard_form_is_refused() -> None:
    a, b = Parameter("a"), Parameter("b")
    assert refused(with_angle(a * b)) == "the angle a*b is not linear in the parameter 'a'"
    assert refused(with_angle(a.sin())) == "the angle sin(a) is not linear in the parameter 'a'"
    assert "not a finite real number" in refused(with_angle(1j * a))
    assert (
        refused(with_angle(0 * a)) == "the parameter 'a' has no effect on the circuit's state; leave it out"
    )
    phase = QuantumCircuit(1, global_phase=a)
    assert refused(phase) == "the parameter 'a' has no effect on the circuit's state; leave it out"

    opaque = QuantumCircuit(1)
    opaque.append(Gate("mystery", 1, []), [0])
    assert refused(opaque) == "the gate 'mystery' has no definition in standard gates"

    loop = QuantumCircuit(1)
    with loop.for_loop(range(3)):
        loop.x(0)
    assert refused(loop) == "the circuit has control flow (for_loop); only gates are taken"


class Doubling(Gate):
    """Two gates of the next lower depth; nothing at depth 0."""

    def __init__(self, depth: int) -> None:
        super().__init__(f"doubling_{depth}", 1, [])
        self.depth = depth

    def _define(self) -> None:
        self.definition = QuantumCircuit(1)
        for _ in range(2 if self.depth else 0):
            self.definition.append(Doubling(self.depth - 1), [0])


def test_definitions_that_multiply_end_at_the_limit() -> None:
    circuit = QuantumCircuit(1)
    circuit.append(Doubling(60), [0])
    assert (
        refused(circuit, gate_limit=1000) == "the circuit has more than 1000 operations, its gates expanded"
    )


@pytest.mark.parametrize(
    ("duration", "unit", "ns"), [(50, "us", 50_000), (2.5, "us", 2_500), (1e-6, "s", 1000), (7, "dt", 7)]
)
def test_the_length_of_a_delay_survives_the_way_to_a_server(duration, unit, ns):
    circuit = QuantumCircuit(1)
    circuit.delay(duration, 0, unit)
    [read] = qpy.load(io.BytesIO(canonical_program(circuit)))
    assert (read.data[0].operation.duration, read.data[0].operation.unit) == (ns, "dt")


def test_a_delay_of_unknown_length_is_refused():
    circuit = QuantumCircuit(1)
    circuit.delay(Parameter("wait"), 0, "us")
    circuit.rx(0.1, 0)
    with pytest.raises(CircuitError, match="a delay of wait us cannot be run"):
        canonical_program(circuit)
