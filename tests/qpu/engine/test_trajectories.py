"""Circuits that run shot by shot: measurement on the way, conditions, large states."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from efaas_qpu.engine.engine import Engine
from efaas_qpu.engine.messages import Evaluation, Execute, Limits
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from scipy.stats import chisquare

from efaas.errors import CircuitError

NONE = np.zeros((1, 0))


def tally(evaluation: Evaluation, outcomes: int) -> Any:
    assert evaluation.outcomes is not None
    assert evaluation.counts is not None
    seen = np.zeros(outcomes)
    seen[np.frombuffer(evaluation.outcomes, dtype=np.uint8)] = evaluation.counts
    return seen


def test_trajectories_follow_the_distribution_of_the_density_matrix(
    make_engine: Any, ansatz: Any, as_qpy: Any
) -> None:
    exact, drawn = make_engine("perth-7"), make_engine("perth-7", method="Trajectories")
    circuit = ansatz(3)
    values = np.random.default_rng(4).uniform(-3, 3, (1, circuit.num_parameters))
    terms = (("XYZ", 1.0), ("ZZI", 0.5), ("IXX", -0.25))
    for engine in (exact, drawn):
        engine.prepare("c", as_qpy(circuit))
        engine.prepare_observable("h", terms)
    probabilities = exact.probabilities("c", values, None)[0, 0]
    shots = 4000
    evaluation = drawn.execute(Execute("0-t", 3, "c", (), values, shots)).evaluations[0]
    assert chisquare(tally(evaluation, 8), probabilities * shots).pvalue > 1e-3
    wanted = exact.expectation("c", ("h",), values)[0, 0]
    estimate = drawn.execute(Execute("0-t", 3, "c", ("h",), values, shots)).evaluations[0]
    assert abs(estimate.values[0] - wanted) < 5 * estimate.std_errors[0]


def test_shots_belong_to_the_job_and_not_to_the_call(make_engine: Any, ansatz: Any, as_qpy: Any) -> None:
    circuit = ansatz(2)
    values = np.random.default_rng(4).uniform(-3, 3, (2, circuit.num_parameters))
    outcomes = []
    for _ in range(2):
        engine = make_engine("perth-7", method="Trajectories")
        engine.prepare("c", as_qpy(circuit))
        job = engine.execute(Execute("0-t", 3, "c", (), values, 600, per_shot=True, shot_ranges=(256, 512)))
        outcomes.append([evaluation.outcomes for evaluation in job.evaluations])
        first = job.partial[0].evaluations[1].outcomes
        # The first block of a long job is that of a short one.
        short = engine.execute(Execute("0-t", 3, "c", (), values, 256, per_shot=True))
        assert first == short.evaluations[1].outcomes
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] != outcomes[0][1]


def test_a_condition_on_a_measured_bit_takes_effect(noiseless: Engine, as_qpy: Any) -> None:
    angle = Parameter("a")
    circuit = QuantumCircuit(2, 2)
    circuit.h(0)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.rx(angle, 1)
    circuit.measure(1, 1)
    prepared = noiseless.prepare("conditional", as_qpy(circuit))
    assert prepared.method == "trajectories"
    assert prepared.bits == 2
    job = noiseless.execute(Execute("0-c", 3, "conditional", (), np.array([[np.pi], [0.0]]), 800))
    flipped, kept = (tally(evaluation, 4) for evaluation in job.evaluations)
    assert flipped[1] == flipped[2] == 0
    assert 300 < flipped[3] < 500
    assert kept[2] == kept[3] == 0


def test_observables_of_a_circuit_that_measures_on_the_way(noiseless: Engine, as_qpy: Any) -> None:
    circuit = QuantumCircuit(2, 1)
    circuit.h(0)
    circuit.measure(0, 0)
    circuit.cx(0, 1)
    noiseless.prepare("collapsed", as_qpy(circuit))
    noiseless.prepare_observable("zz", (("ZZ", 1.0),))
    noiseless.prepare_observable("xx", (("XX", 1.0),))
    job = noiseless.execute(Execute("0-c", 3, "collapsed", ("zz", "xx"), NONE, 1024)).evaluations[0]
    assert job.values[0] == pytest.approx(1.0)
    assert abs(job.values[1]) < 5 * job.std_errors[1]


def test_a_condition_on_a_register(noiseless: Engine, as_qpy: Any) -> None:
    from qiskit.circuit import ClassicalRegister, QuantumRegister

    register, other = ClassicalRegister(2, "c"), ClassicalRegister(1, "d")
    circuit = QuantumCircuit(QuantumRegister(2, "q"), register, other)
    circuit.x(1)
    circuit.measure([0, 1], register)
    with circuit.if_test((register, 2)):
        circuit.x(0)
    circuit.measure(0, other)
    noiseless.prepare("register", as_qpy(circuit))
    evaluation = noiseless.execute(Execute("0-r", 3, "register", (), NONE, 100)).evaluations[0]
    assert tally(evaluation, 8)[0b110] == 100


def test_a_reset_is_exact_in_a_density_matrix(manila: Engine, noiseless: Engine, as_qpy: Any) -> None:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.reset(0)
    assert manila.prepare("reset", as_qpy(circuit)).method == "density_matrix"
    noiseless.prepare("reset", as_qpy(circuit))
    table = noiseless.probabilities("reset", NONE, None)[0, 0]
    np.testing.assert_allclose(table, [0.5, 0, 0.5, 0], atol=1e-12)


@pytest.mark.parametrize("method", ["Auto", "Trajectories"])
def test_a_delay_relaxes_its_qubit(make_engine: Any, method: str) -> None:
    engine = make_engine(method=method)
    # QPY of Qiskit 2.6 loses the unit of a delay, OpenQASM does not.
    prepared = engine.prepare("delay", 'OPENQASM 3.0; include "stdgates.inc"; qubit q; x q; delay[1ms] q;')
    assert prepared.duration_us > 1000
    job = engine.execute(Execute("0-d", 3, "delay", (), NONE, 1024))
    assert tally(job.evaluations[0], 2)[1] < 100


def test_more_qubits_than_a_density_matrix_takes_run_as_trajectories(
    make_engine: Any, ansatz: Any, as_qpy: Any
) -> None:
    engine = make_engine("guadalupe-16", limits=Limits(density_matrix_qubits=3))
    circuit = ansatz(4)
    assert engine.prepare("c", as_qpy(circuit)).method == "trajectories"
    engine.prepare_observable("h", (("ZZZZ", 1.0), ("XXXX", 0.5)))
    values = np.zeros((1, circuit.num_parameters))
    estimate = engine.execute(Execute("0-t", 3, "c", ("h",), values, 300)).evaluations[0]
    assert estimate.values[0] > 0.5


def test_a_density_matrix_cannot_be_had_shot_by_shot(make_engine: Any, as_qpy: Any) -> None:
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    circuit.x(0)
    with pytest.raises(CircuitError, match=r"set the device's simulation\.method to Auto or Trajectories"):
        make_engine(method="DensityMatrix").prepare("m", as_qpy(circuit))


def test_trajectories_have_no_exact_probabilities(make_engine: Any, ansatz: Any, as_qpy: Any) -> None:
    engine = make_engine(method="Trajectories")
    engine.prepare("c", as_qpy(ansatz(2)))
    with pytest.raises(CircuitError, match="no exact probabilities"):
        engine.probabilities("c", np.zeros((1, 8)), None)
