"""Energies against exact statevectors, layouts, durations, and circuits of unusual shape."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from efaas_qpu.engine.engine import Engine
from efaas_qpu.engine.messages import Execute, Limits
from qiskit import QuantumCircuit, qasm3
from qiskit.circuit import Parameter, ParameterVector
from qiskit.quantum_info import SparsePauliOp, Statevector

from efaas.devices import load_snapshot
from efaas.errors import CircuitError


def exact(circuit: QuantumCircuit, terms: tuple[tuple[str, float], ...]) -> float:
    return float(Statevector(circuit).expectation_value(SparsePauliOp.from_list(terms)).real)


@pytest.mark.parametrize("qubits", [2, 5])
@pytest.mark.parametrize("entanglement", ["linear", "full"])
def test_noiseless_energies_are_exact(
    noiseless: Engine, ansatz: Any, as_qpy: Any, qubits: int, entanglement: str
) -> None:
    circuit = ansatz(qubits, reps=2, entanglement=entanglement)
    prepared = noiseless.prepare(f"{qubits}{entanglement}", as_qpy(circuit))
    assert prepared.method == "statevector"
    terms = (("Z" * qubits, 0.5), ("X" * qubits, 0.25), ("I" * (qubits - 1) + "Y", -1.0), ("I" * qubits, 3.0))
    noiseless.prepare_observable("h", terms)
    values = np.random.default_rng(5).uniform(-np.pi, np.pi, (3, circuit.num_parameters))
    found = noiseless.expectation(prepared.handle, ("h",), values)[:, 0]
    wanted = [exact(circuit.assign_parameters(row), terms) for row in values]
    np.testing.assert_allclose(found, wanted, atol=1e-11)
    job = noiseless.execute(Execute("0-e", 1, prepared.handle, ("h",), values, 4000))
    for evaluation, value in zip(job.evaluations, wanted, strict=True):
        assert abs(evaluation.values[0] - value) < 5 * evaluation.std_errors[0]


def test_parameters_come_in_the_order_of_their_names(noiseless: Engine, as_qpy: Any) -> None:
    angles = ParameterVector("t", 11)
    circuit = QuantumCircuit(1)
    for angle in reversed(angles):
        circuit.ry(angle, 0)
        circuit.rz(angle, 0)
    prepared = noiseless.prepare("order", as_qpy(circuit))
    assert prepared.parameters == tuple(f"t[{place}]" for place in range(11))
    values = np.linspace(0, 1, 11)[np.newaxis]
    noiseless.prepare_observable("x", (("X", 1.0),))
    found = noiseless.expectation("order", ("x",), values)[0, 0]
    assert found == pytest.approx(exact(circuit.assign_parameters(values[0]), (("X", 1.0),)), abs=1e-12)


def test_angles_need_not_be_affine(noiseless: Engine, as_qpy: Any) -> None:
    first, second = Parameter("a"), Parameter("b")
    circuit = QuantumCircuit(2)
    circuit.ry(first.sin() * 2, 0)
    circuit.ry(first * second, 1)
    circuit.cx(0, 1)
    circuit.rx(second / 3 - first + 1, 0)
    noiseless.prepare("curved", as_qpy(circuit))
    terms = (("ZZ", 1.0), ("YX", 0.5))
    noiseless.prepare_observable("zz", terms)
    values = np.array([[0.3, 1.2], [-2.0, 0.7]])
    found = noiseless.expectation("curved", ("zz",), values)[:, 0]
    wanted = [exact(circuit.assign_parameters({first: row[0], second: row[1]}), terms) for row in values]
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    assert noiseless.frequencies("curved") is None


def test_symbolic_global_phases_are_dropped(noiseless: Engine, as_qpy: Any) -> None:
    angle = Parameter("a")
    circuit = QuantumCircuit(1, global_phase=angle * 3)
    circuit.rx(angle, 0)
    noiseless.prepare("phase", as_qpy(circuit))
    noiseless.prepare_observable("z", (("Z", 1.0),))
    assert noiseless.expectation("phase", ("z",), np.array([[0.5]]))[0, 0] == pytest.approx(math.cos(0.5))


def test_circuits_without_parameters_or_gates_run(manila: Engine, as_qpy: Any) -> None:
    prepared = manila.prepare("nothing", as_qpy(QuantumCircuit(2)))
    assert prepared.parameters == ()
    job = manila.execute(Execute("0-n", 1, "nothing", (), np.zeros((3, 0)), 100))
    assert [
        int(evaluation.counts.sum()) for evaluation in job.evaluations if evaluation.counts is not None
    ] == [
        100,
        100,
        100,
    ]
    assert prepared.bits == 2


def test_own_measurements_choose_qubits_and_bits(noiseless: Engine, as_qpy: Any) -> None:
    circuit = QuantumCircuit(3, 10)
    circuit.x(0)
    circuit.x(2)
    circuit.measure(2, 1)
    circuit.measure(1, 0)
    circuit.measure(0, 9)
    prepared = noiseless.prepare("own", as_qpy(circuit))
    assert prepared.bits == 10
    evaluation = noiseless.execute(Execute("0-o", 1, "own", (), np.zeros((1, 0)), 50)).evaluations[0]
    assert evaluation.outcomes == (2**9 + 2).to_bytes(2, "little")
    assert evaluation.counts is not None
    assert evaluation.counts.tolist() == [50]


def test_observables_look_at_the_state_before_final_measurements(noiseless: Engine, as_qpy: Any) -> None:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    noiseless.prepare("bell", as_qpy(circuit))
    noiseless.prepare_observable("xx", (("XX", 1.0), ("YY", 1.0), ("ZZ", 1.0)))
    assert noiseless.expectation("bell", ("xx",), np.zeros((1, 0)))[0, 0] == pytest.approx(1.0)


def test_the_same_circuit_in_openqasm_gives_the_same_energy(
    noiseless: Engine, ansatz: Any, as_qpy: Any
) -> None:
    circuit = ansatz(3).decompose()
    parameters = sorted(circuit.parameters, key=lambda parameter: parameter.index)
    named = circuit.assign_parameters(
        {parameter: Parameter(f"t{place:02}") for place, parameter in enumerate(parameters)}
    )
    noiseless.prepare("as-qpy", as_qpy(circuit))
    noiseless.prepare("as-qasm", qasm3.dumps(named))
    noiseless.prepare_observable("h3", (("ZXY", 1.0), ("ZZZ", 0.5)))
    values = np.random.default_rng(2).uniform(-3, 3, (2, len(parameters)))
    np.testing.assert_allclose(
        noiseless.expectation("as-qpy", ("h3",), values),
        noiseless.expectation("as-qasm", ("h3",), values),
        atol=1e-12,
    )


def test_duration_is_the_critical_path_with_readout(manila: Engine, as_qpy: Any) -> None:
    circuit = QuantumCircuit(2)
    circuit.sx(0)
    circuit.cx(0, 1)
    prepared = manila.prepare("timed", as_qpy(circuit))
    snapshot = load_snapshot("manila-5")
    first, second = prepared.layout
    readout = max(snapshot.qubits[first].readout_length_ns, snapshot.qubits[second].readout_length_ns)
    one = snapshot.gates["sx", (first,)].length_ns
    rotation = snapshot.gates["sx", (second,)].length_ns
    two = min(
        snapshot.gates["cx", (first, second)].length_ns,
        snapshot.gates["cx", (second, first)].length_ns,
    )
    least = (one + two + rotation + readout) * 1e-3
    assert least <= prepared.duration_us < least + 0.5
    assert prepared.shot_s == pytest.approx((snapshot.rep_delay_us + prepared.duration_us) * 1e-6)


def test_layouts_are_the_same_in_every_engine(make_engine: Any, ansatz: Any, as_qpy: Any) -> None:
    program = as_qpy(ansatz(5, entanglement="full"))
    layouts = {make_engine("kolkata-27").prepare("c", program).layout for _ in range(2)}
    assert len(layouts) == 1


def test_what_does_not_fit_into_memory_is_refused(make_engine: Any, ansatz: Any, as_qpy: Any) -> None:
    engine = make_engine("kolkata-27", noisy=False, limits=Limits(simulation_bytes=1 << 20))
    with pytest.raises(CircuitError, match="takes at most 16 within 1 MiB"):
        engine.prepare("c", as_qpy(ansatz(20)))


def test_a_circuit_larger_than_the_device_is_refused(manila: Engine, ansatz: Any, as_qpy: Any) -> None:
    with pytest.raises(CircuitError, match="the circuit has 6 qubits, the device has 5"):
        manila.prepare("c", as_qpy(ansatz(6)))


def test_the_least_recently_used_circuit_is_dropped_first(make_engine: Any, ansatz: Any, as_qpy: Any) -> None:
    engine = make_engine(limits=Limits(cache_bytes=1))
    engine.prepare("old", as_qpy(ansatz(2)))
    engine.prepare("new", as_qpy(ansatz(3)))
    values = np.zeros((1, ansatz(3).num_parameters))
    engine.execute(Execute("0-x", 1, "new", (), values, 10))
    with pytest.raises(CircuitError, match="register it again"):
        engine.execute(Execute("0-x", 1, "old", (), values, 10))
