"""Estimator and Sampler on real servers, against Qiskit's exact statevector."""

import numpy as np
import pytest
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.circuit import Parameter
from qiskit.circuit.library import efficient_su2
from qiskit.primitives import BasePrimitiveJob, PrimitiveResult, StatevectorEstimator
from qiskit.quantum_info import SparsePauliOp
from qiskit.transpiler import generate_preset_pass_manager

from efaas.errors import CircuitError, InputError
from efaas.primitives import Backend, EstimatorV2, SamplerV2

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

ANSATZ = efficient_su2(3, reps=1)
POINT = np.linspace(-1, 1, ANSATZ.num_parameters)
HAMILTONIAN = SparsePauliOp(["ZZI", "IXX", "YIY", "III"], [1.0, -0.5, 0.25, 0.75])


def exact(*pub):
    return StatevectorEstimator().run([pub]).result()[0].data.evs


def ghz(qubits):
    circuit = QuantumCircuit(qubits)
    circuit.h(0)
    for qubit in range(qubits - 1):
        circuit.cx(qubit, qubit + 1)
    return circuit


class TestEstimator:
    @pytest.mark.parametrize(
        ("observables", "shape"),
        [
            pytest.param(HAMILTONIAN, (ANSATZ.num_parameters,), id="one of each"),
            pytest.param([HAMILTONIAN], (1, ANSATZ.num_parameters), id="lists of one"),
            pytest.param(["ZZI", "XXX", "IYX"], (ANSATZ.num_parameters,), id="several observables"),
            pytest.param(HAMILTONIAN, (4, ANSATZ.num_parameters), id="several points"),
            pytest.param(["ZZI", "XXX"], (2, ANSATZ.num_parameters), id="pairs"),
            pytest.param([["ZZI"], ["XXX"]], (3, ANSATZ.num_parameters), id="outer product"),
        ],
    )
    def test_values_and_shapes_are_those_of_the_exact_estimator(self, ideal, observables, shape):
        points = np.random.default_rng(5).uniform(-np.pi, np.pi, shape)
        expected = exact(ANSATZ, observables, points)
        data = EstimatorV2(mode=ideal).run([(ANSATZ, observables, points)], precision=0.02).result()[0].data
        assert data.evs.shape == data.stds.shape == expected.shape
        assert np.all(np.abs(data.evs - expected) <= 5 * data.stds + 1e-12)
        assert data.stds.max() <= 0.02 * 2.5

    def test_standard_errors_are_the_spread_of_repetitions(self, ideal):
        estimator = EstimatorV2(mode=ideal, options={"default_shots": 256})
        data = estimator.run([(ANSATZ, HAMILTONIAN, np.tile(POINT, (400, 1)))]).result()[0].data
        assert data.evs.std() == pytest.approx(data.stds.mean(), rel=0.15)

    def test_each_pub_has_its_precision(self, ideal):
        result = (
            EstimatorV2(mode=ideal).run([(ghz(2), "XY", None, 0.1), (ghz(2), "XY")], precision=0.05).result()
        )
        assert isinstance(result, PrimitiveResult)
        assert [pub.metadata["shots"] for pub in result] == [100, 400]
        assert [pub.metadata["target_precision"] for pub in result] == [0.1, 0.05]
        assert [float(pub.data.stds) for pub in result] == pytest.approx([0.1, 0.05], rel=0.1)

    def test_projectors_are_probabilities(self, ideal):
        data = EstimatorV2(mode=ideal).run([(ghz(2), ["00", "0+", "rl"])], precision=0.005).result()[0].data
        # |⟨0+|ψ⟩|² = 1/4, and r on one qubit goes with l on the other: 1/2.
        assert data.evs == pytest.approx([0.5, 0.25, 0.5], abs=0.02)

    def test_measurements_at_the_end_do_not_matter(self, ideal):
        circuit = ghz(3)
        circuit.measure_all()
        assert EstimatorV2(mode=ideal).run([(circuit, "ZZI")]).result()[0].data.evs == 1.0

    def test_a_measurement_in_the_middle_is_part_of_the_circuit(self, ideal):
        circuit = QuantumCircuit(1, 1)
        circuit.h(0)
        circuit.measure(0, 0)
        circuit.h(0)  # without the measurement this would give 0 for sure
        data = EstimatorV2(mode=ideal).run([(circuit, ["Z", "X"])], precision=0.05).result()[0].data
        assert data.evs == pytest.approx([0, 0], abs=0.25)
        assert data.stds == pytest.approx([0.05, 0.05], rel=0.2)

    def test_parameter_expressions(self, ideal):
        a, b = Parameter("a"), Parameter("b")
        circuit = QuantumCircuit(2)
        circuit.rx(2 * a - b, 0)
        circuit.ry(b / 2 + 0.3, 1)
        values = {"a": 0.4, "b": 1.1}
        data = EstimatorV2(mode=ideal).run([(circuit, ["ZI", "IZ"], values)], precision=0.01).result()[0].data
        assert np.all(np.abs(data.evs - exact(circuit, ["ZI", "IZ"], values)) <= 5 * data.stds)

    def test_the_same_seed_gives_the_same_values(self, ideal):
        estimator = EstimatorV2(mode=ideal, options={"seed_estimator": 4})
        values = [float(estimator.run([(ANSATZ, HAMILTONIAN, POINT)]).result()[0].data.evs) for _ in range(2)]
        other = EstimatorV2(mode=ideal).run([(ANSATZ, HAMILTONIAN, POINT)]).result()[0].data
        assert values[0] == values[1] != float(other.evs)

    def test_a_circuit_for_the_device_is_taken_with_its_layout(self, ideal):
        isa = generate_preset_pass_manager(backend=ideal.backend(), optimization_level=3).run(ANSATZ)
        assert isa.num_qubits == 5
        data = (
            EstimatorV2(mode=ideal).run([(isa, HAMILTONIAN.apply_layout(isa.layout), POINT)]).result()[0].data
        )
        assert abs(data.evs - exact(ANSATZ, HAMILTONIAN, POINT)) <= 5 * data.stds

    def test_a_circuit_changed_in_place_gives_its_new_value(self, ideal):
        estimator, circuit = EstimatorV2(mode=ideal), QuantumCircuit(1)
        circuit.x(0)
        assert estimator.run([(circuit, "Z")]).result()[0].data.evs == -1
        circuit.x(0)
        assert estimator.run([(circuit, "Z")]).result()[0].data.evs == 1


class TestDelays:
    def test_a_qubit_relaxes_while_it_waits(self, noisy):
        circuit = QuantumCircuit(1)
        circuit.x(0)
        circuit.delay(100, 0, "us")
        value = float(EstimatorV2(mode=noisy).run([(circuit, "Z")]).result()[0].data.evs)
        expected = [1 - 2 * np.exp(-100 / qubit.t1_us) for qubit in noisy.backend().snapshot.qubits]
        assert min(expected) - 0.1 < value < max(expected) + 0.1


class TestMitigation:
    def test_more_of_it_leaves_less_error(self, noisy):
        observable = SparsePauliOp(["ZZZ", "XXX", "IZZ"], [1.0, 1.0, 1.0])
        circuit = QuantumCircuit(3)
        circuit.ry(0.4, 0)
        for _ in range(4):
            circuit.cx(0, 1)
            circuit.cx(1, 2)
        expected = exact(circuit, observable)
        errors = []
        for level in (0, 1, 2):
            estimator = EstimatorV2(mode=noisy, options={"resilience_level": level, "default_shots": 200_000})
            data = estimator.run([(circuit, observable)]).result()[0].data
            errors.append(abs(float(data.evs) - float(expected)))
        assert errors[0] > errors[1] > errors[2]

    def test_values_at_each_noise_factor_are_given(self, noisy):
        options = {"resilience": {"zne_mitigation": True, "zne": {"noise_factors": (1, 3)}}}
        result = EstimatorV2(mode=noisy, options=options).run([(ghz(2), ["ZZ", "XX"])]).result()[0]
        assert result.data.evs_noise_factors.shape == (2, 2)
        assert np.all(result.data.evs_noise_factors[:, 0] > result.data.evs_noise_factors[:, 1])
        assert np.all(result.data.stds > result.data.stds_noise_factors[:, 0])
        assert result.metadata["resilience"]["zne"]["noise_factors"] == [1, 3]


class TestSampler:
    def test_several_registers_and_a_measurement_in_the_middle(self, ideal):
        qubits, first, second = (
            QuantumRegister(2, "q"),
            ClassicalRegister(2, "first"),
            ClassicalRegister(1, "second"),
        )
        circuit = QuantumCircuit(qubits, first, second)
        circuit.h(0)
        circuit.cx(0, 1)
        circuit.measure(0, second[0])
        circuit.x(0)
        circuit.measure(qubits, first)
        data = SamplerV2(mode=ideal).run([circuit], shots=300).result()[0].data
        assert data.second.num_bits == 1
        # Qubit 0 was turned after it was read, qubit 1 was not: shot by shot.
        for middle, end in zip(data.second.get_bitstrings(), data.first.get_bitstrings(), strict=True):
            assert end == middle + ("1" if middle == "0" else "0")

    def test_outcomes_have_the_probabilities_of_the_state(self, ideal):
        circuit = QuantumCircuit(2)
        circuit.ry(Parameter("a"), 0)
        circuit.cx(0, 1)
        circuit.measure_all()
        points = np.array([[0.5], [1.0], [2.0]])
        data = (
            SamplerV2(mode=ideal, options={"default_shots": 20_000}).run([(circuit, points)]).result()[0].data
        )
        assert data.meas.shape == (3,)
        for row, angle in enumerate(points[:, 0]):
            counts = data.meas[row].get_counts()
            assert set(counts) == {"00", "11"}
            assert counts["11"] / 20_000 == pytest.approx(np.sin(angle / 2) ** 2, abs=0.02)

    def test_each_pub_has_its_shots(self, ideal):
        circuit = ghz(2)
        circuit.measure_all()
        result = SamplerV2(mode=ideal).run([(circuit, None, 17), circuit], shots=33).result()
        assert [pub.data.meas.num_shots for pub in result] == [17, 33]

    def test_a_circuit_for_a_large_device_is_sampled_on_its_active_qubits(self, ideal):
        circuit = ghz(3)
        circuit.measure_all()
        isa = generate_preset_pass_manager(backend=Backend("sherbrooke-127"), seed_transpiler=1).run(circuit)
        assert isa.num_qubits == 127
        assert set(SamplerV2(mode=ideal).run([isa]).result()[0].data.meas.get_counts()) == {"000", "111"}

    def test_the_same_seed_gives_the_same_shots(self, ideal):
        circuit = ghz(2)
        circuit.measure_all()
        sampler = SamplerV2(mode=ideal, options={"seed_simulator": 8})
        jobs = [sampler.run([circuit]) for _ in range(3)]  # on their way at the same time
        arrays = [job.result()[0].data.meas.array for job in jobs]
        assert np.array_equal(arrays[0], arrays[1])
        assert np.array_equal(arrays[0], arrays[2])
        sampler.options.seed_simulator = None
        assert not np.array_equal(arrays[0], sampler.run([circuit]).result()[0].data.meas.array)


class TestJob:
    def test_it_is_qiskits_and_tells_what_it_took(self, ideal):
        job = EstimatorV2(mode=ideal).run([(ghz(2), "ZZ")])
        assert isinstance(job, BasePrimitiveJob)
        job.wait_for_final_state(30)
        assert (job.status(), job.done(), job.in_final_state(), job.running()) == ("DONE", True, True, False)
        assert job.usage() > 0
        metrics = job.metrics()
        assert metrics["usage"]["quantum_seconds"] == job.usage()
        assert metrics["shots"] == 4096
        stamps = metrics["timestamps"]
        assert stamps["created"] <= stamps["running"] <= stamps["finished"]
        assert job.result() is job.result()
        assert job.job_id().startswith(ideal.session_id)
        assert not job.cancel()

    def test_an_empty_run_is_done(self, ideal):
        job = SamplerV2(mode=ideal).run([])
        assert job.status() == "DONE"
        assert len(job.result()) == 0


class TestRefusals:
    def test_what_the_device_cannot_hold_is_an_error_of_the_job(self, ideal):
        job = EstimatorV2(mode=ideal).run([(ghz(6), "Z" * 6)])
        with pytest.raises(CircuitError, match="6 qubits, the device has 5"):
            job.result()
        assert job.status() == "ERROR"
        assert "6 qubits" in (job.error_message() or "")

    def test_values_must_be_finite(self, ideal):
        with pytest.raises(InputError, match="not finite"):
            EstimatorV2(mode=ideal).run([(ANSATZ, HAMILTONIAN, np.full(ANSATZ.num_parameters, np.nan))])

    def test_a_precision_that_takes_too_many_shots(self, ideal):
        with pytest.raises(InputError, match=r"pubs\[1\].precision"):
            EstimatorV2(mode=ideal).run([(ghz(2), "ZZ"), (ghz(2), "ZZ", None, 1e-7)])
