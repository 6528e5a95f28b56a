"""The fake QPU that users test their programs with."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

from efaas.client import QpuConnection
from efaas.client.testing import FakeQpu
from efaas.errors import CircuitError, InputError, JobFailed, ParameterError, SessionEnded

RY = 'OPENQASM 3.0; include "stdgates.inc"; input float theta; qubit[1] q; ry(theta) q[0];'


def test_it_has_the_methods_of_a_connection():
    public = {name for name in vars(QpuConnection) if not name.startswith("_")}
    for name in public - {"device", "endpoint", "reconnects"}:
        real = inspect.signature(getattr(QpuConnection, name))
        assert inspect.signature(getattr(FakeQpu, name)) == real, name
    assert public <= set(dir(FakeQpu()))


def test_values_are_those_of_the_statevector_within_the_shot_noise_they_claim():
    qpu = FakeQpu()
    circuit = qpu.register_circuit(RY)
    assert (circuit.parameters, circuit.qubits) == (("theta",), 1)
    z = qpu.register_observable([("Z", 2.0)])
    angles = np.linspace(0, math.pi, 40).reshape(-1, 1)
    result = qpu.submit(circuit.handle, angles, 400, evaluation=0, observables=[z]).result()
    exact, spread = 2 * np.cos(angles), 2 * np.sqrt((1 - np.cos(angles) ** 2) / 400)
    np.testing.assert_allclose(result.std_errors, spread, atol=1e-12)
    assert (np.abs(result.values - exact) <= 4 * spread + 1e-9).all()
    assert result.shots == 16_000


def test_the_same_job_gives_the_same_shots_and_another_seed_others():
    def counts(seed: int, evaluation: int) -> dict[str, int]:
        from efaas.client import SessionIdentity

        qpu = FakeQpu(SessionIdentity("default/test", seed=seed))
        circuit = qpu.register_circuit(RY)
        job = qpu.submit(circuit.handle, [math.pi / 2], 500, evaluation=evaluation)
        return job.result().evaluations[0].counts_by_bitstring()

    assert counts(1, 0) == counts(1, 0)
    assert counts(1, 0) != counts(2, 0)
    assert counts(1, 0) != counts(1, 1)
    assert sum(counts(1, 0).values()) == 500
    assert abs(counts(1, 0)["0"] - 250) < 4 * math.sqrt(125)


def test_a_function_of_your_own_stands_in_for_physics():
    qpu = FakeQpu(evaluate=lambda program, observables, parameters: [parameters.sum()] * len(observables))
    circuit = qpu.register_circuit("anything")
    observable = qpu.register_observable([("ZZ", 1.0)])
    job = qpu.submit(circuit.handle, [[1.0, 2.0], [3.0, 4.0]], 10, evaluation=0, observables=[observable])
    assert job.result().values.tolist() == [[3.0], [7.0]]
    again = qpu.submit(circuit.handle, [[1.0, 2.0], [3.0, 4.0]], 10, evaluation=0, observables=[observable])
    assert again.result().kept
    qpu.acknowledge(job.id)
    assert qpu.acknowledged == [job.id]


def test_it_errs_like_a_server():
    qpu = FakeQpu()
    with pytest.raises(CircuitError):
        qpu.register_circuit("nonsense")
    with pytest.raises(InputError):
        qpu.register_observable([("ZQ", 1.0)])
    circuit = qpu.register_circuit(RY)
    with pytest.raises(ParameterError, match="1 parameters"):
        qpu.submit(circuit.handle, [1.0, 2.0], 10, evaluation=0).result()
    with pytest.raises(InputError, match="register it first"):
        qpu.submit("0" * 32, [1.0], 10, evaluation=0).result()
    qpu.failures.append(JobFailed("the worker died", retry=True))
    with pytest.raises(JobFailed):
        qpu.submit(circuit.handle, [1.0], 10, evaluation=0).result()
    assert qpu.submit(circuit.handle, [1.0], 10, evaluation=0).result().shots == 10
    qpu.close()
    with pytest.raises(SessionEnded):
        qpu.submit(circuit.handle, [1.0], 10, evaluation=1)
