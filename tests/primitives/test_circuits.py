"""Circuits before they are sent: compacted, folded, cached, or refused with a reason."""

import io

import numpy as np
import pytest
from qiskit import QuantumCircuit, qpy, transpile
from qiskit.circuit import Parameter, ParameterVector
from qiskit.circuit.library import efficient_su2
from qiskit.quantum_info import Operator, Statevector

from efaas.errors import CircuitError
from efaas.primitives import Backend
from efaas.primitives.circuits import PreparedCircuits, compact, fold, prepare


def read(program):
    [circuit] = qpy.load(io.BytesIO(program.text))
    return circuit


def bell(measured=False):
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    if measured:
        circuit.measure_all()
    return circuit


class TestCompacting:
    def test_a_circuit_for_a_large_device_is_sent_with_the_qubits_it_uses(self):
        backend = Backend("sherbrooke-127")
        isa = transpile(bell(), backend, initial_layout=[60, 61], seed_transpiler=1)
        prepared = prepare(isa, measured=False, place="here")
        qubits = prepared.qubits()
        assert isa.num_qubits == 127
        assert set(qubits) == {60, 61}
        small = read(prepared.program(qubits))
        assert np.allclose(Statevector(small).probabilities(), [0.5, 0, 0, 0.5])

    def test_qubits_that_observables_look_at_are_kept(self):
        circuit = QuantumCircuit(5)
        circuit.h(3)
        prepared = prepare(circuit, measured=False, place="here")
        assert prepared.qubits() == (3,)
        assert prepared.qubits({1}) == (1, 3)

    def test_an_empty_circuit_keeps_a_qubit(self):
        assert prepare(QuantumCircuit(3), measured=False, place="here").qubits() == (0,)

    def test_gates_bits_and_barriers_move_with_their_qubits(self):
        circuit = QuantumCircuit(4, 2)
        circuit.cx(3, 1)
        circuit.barrier()
        circuit.measure(3, 1)
        small = compact(circuit, (1, 3))
        expected = QuantumCircuit(2, 2)
        expected.cx(1, 0)
        expected.barrier()
        expected.measure(1, 1)
        assert small == expected


class TestFolding:
    @pytest.mark.parametrize("factor", [1, 3, 5, 7])
    def test_it_multiplies_gates_and_changes_nothing(self, factor):
        circuit = efficient_su2(3, reps=1).decompose()
        circuit = circuit.assign_parameters(np.linspace(0, 2, circuit.num_parameters))
        folded = fold(circuit, factor)
        assert Operator(folded).equiv(Operator(circuit))
        assert folded.count_ops()["cx"] == factor * circuit.count_ops()["cx"]

    def test_a_transpiler_does_not_undo_it(self):
        folded = transpile(fold(bell(), 5), basis_gates=["cx", "rz", "sx", "x"], optimization_level=3)
        assert folded.count_ops()["cx"] == 5

    def test_parameters_fold_too(self):
        circuit = efficient_su2(2, reps=1)
        values = np.linspace(0, 1, circuit.num_parameters)
        prepared = prepare(circuit, measured=False, place="here")
        folded = read(prepared.program((0, 1), 3)).assign_parameters(values)
        assert Operator(folded).equiv(Operator(circuit.assign_parameters(values)))

    @pytest.mark.parametrize("name", ["reset", "delay"])
    def test_what_cannot_run_backwards_is_named(self, name):
        circuit = bell()
        circuit.reset(0) if name == "reset" else circuit.delay(100, 0, "ns")
        prepared = prepare(circuit, measured=False, place="pubs[2].circuit")
        with pytest.raises(CircuitError, match=rf"pubs\[2\].circuit: .*'{name}'.*zne_mitigation"):
            prepared.program(prepared.qubits(), 3)


class TestParameters:
    def test_expressions_that_are_affine_are_taken(self):
        a, b = Parameter("a"), Parameter("b")
        circuit = QuantumCircuit(1)
        circuit.rx(2 * a - b / 3 + 0.5, 0)
        circuit.ry(b, 0)
        prepared = prepare(circuit, measured=False, place="here")
        assert prepared.program((0,)).text

    def test_others_are_refused_by_name(self):
        circuit = QuantumCircuit(1)
        circuit.rx(Parameter("a").sin(), 0)
        with pytest.raises(CircuitError, match=r"pubs\[0\].circuit: .*sin\(a\).*linear"):
            prepare(circuit, measured=False, place="pubs[0].circuit").program((0,))

    def test_a_parameter_of_the_global_phase_alone_is_left_out(self):
        theta = ParameterVector("t", 3)
        circuit = QuantumCircuit(1, global_phase=theta[1])
        circuit.rx(theta[0], 0)
        circuit.rz(theta[2], 0)
        prepared = prepare(circuit, measured=False, place="here")
        values = np.arange(6.0).reshape(2, 3)
        assert prepared.parameters(values).tolist() == [[0.0, 2.0], [3.0, 5.0]]
        assert read(prepared.program((0,))).num_parameters == 2


class TestRefusals:
    def test_control_flow(self):
        circuit = QuantumCircuit(1, 1)
        circuit.measure(0, 0)
        with circuit.if_test((circuit.clbits[0], 1)):
            circuit.x(0)
        circuit.measure(0, 0)
        with pytest.raises(CircuitError, match="control flow \\(if_else\\)"):
            prepare(circuit, measured=True, place="here").program((0,))

    def test_nothing_to_sample(self):
        with pytest.raises(CircuitError, match="measures nothing"):
            prepare(bell(), measured=True, place="here")


class TestCache:
    def test_the_same_circuit_is_prepared_once(self):
        circuits, circuit = PreparedCircuits(measured=False), bell()
        assert circuits.get(circuit, "here") is circuits.get(circuit, "here")

    def test_a_circuit_changed_in_place_is_another(self):
        circuits, circuit = PreparedCircuits(measured=False), bell()
        before = circuits.get(circuit, "here")
        circuit.data[0] = circuit.data[0].replace(operation=circuit.data[0].operation.base_class())
        assert circuits.get(circuit, "here") is before
        circuit.x(0)
        assert circuits.get(circuit, "here") is not before

    def test_a_new_circuit_at_an_old_address_is_another(self):
        circuits = PreparedCircuits(measured=False)
        for number in range(200):
            circuit = QuantumCircuit(1)
            circuit.rx(number / 10, 0)
            program = circuits.get(circuit, "here").program((0,))
            assert read(program).data[0].operation.params == [number / 10]

    def test_final_measurements_do_not_matter_for_values(self):
        plain, measured = bell(), bell(measured=True)
        circuits = PreparedCircuits(measured=False)
        assert (
            circuits.get(plain, "").program((0, 1)).digest
            == circuits.get(measured, "").program((0, 1)).digest
        )
