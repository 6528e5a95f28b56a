"""The fast path against Aer's public interface under a noise model that this project did not build."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from efaas_qpu.engine.engine import Engine
from efaas_qpu.engine.messages import Execute
from qiskit import QuantumCircuit
from scipy.stats import chisquare

from efaas.devices import snapshot_names


@pytest.mark.parametrize("device", snapshot_names())
def test_probabilities_agree_to_twelve_digits_and_samples_fit_on_every_device(
    device: str, make_engine: Callable[..., Engine], ansatz: Any, as_qpy: Any, public_probabilities: Any
) -> None:
    engine = make_engine(device)
    assert engine.ready.fast_path, engine.ready.warning
    circuit = ansatz(4)
    prepared = engine.prepare("c", as_qpy(circuit))
    assert prepared.method == "density_matrix"
    generator = np.random.default_rng(7)
    values = generator.uniform(-np.pi, np.pi, (2, circuit.num_parameters))
    bases = ("ZZZZ", "XYZX", "YYXX")
    table = engine.probabilities("c", values, bases)
    for which, row in enumerate(values):
        for number, basis in enumerate(bases):
            wanted, _ = public_probabilities(engine, "c", row, basis, model=False)
            np.testing.assert_allclose(table[which, number], wanted, rtol=0, atol=1e-12)
        wanted, off = public_probabilities(engine, "c", row, bases[1], model=True)
        np.testing.assert_allclose(table[which, 1], wanted, rtol=0, atol=1e-12 + off)

    shots = 20_000
    result = engine.execute(Execute("0-x", 5, "c", (), values[:1], shots))
    evaluation = result.evaluations[0]
    assert evaluation.outcomes is not None
    assert evaluation.counts is not None
    seen = np.zeros(16)
    seen[np.frombuffer(evaluation.outcomes, dtype=np.uint8)] = evaluation.counts
    expected = table[0, 0] * shots
    rare = expected < 5
    observed = np.append(seen[~rare], seen[rare].sum())
    wanted_counts = np.append(expected[~rare], expected[rare].sum())
    keep = wanted_counts > 0
    assert chisquare(observed[keep], wanted_counts[keep] * shots / wanted_counts[keep].sum()).pvalue > 1e-3


def test_larger_states_are_contracted_qubit_by_qubit_to_the_same(
    make_engine: Callable[..., Engine], ansatz: Any, as_qpy: Any, public_probabilities: Any
) -> None:
    engine = make_engine("guadalupe-16")
    # Full entanglement needs routing: circuit qubits end elsewhere than they began.
    circuit = ansatz(6, entanglement="full")
    engine.prepare("c", as_qpy(circuit))
    values = np.random.default_rng(1).uniform(-np.pi, np.pi, (1, circuit.num_parameters))
    bases = ("ZXYZXY", "ZZZZZZ")
    table = engine.probabilities("c", values, bases)
    for number, basis in enumerate(bases):
        wanted, _ = public_probabilities(engine, "c", values[0], basis, model=False)
        np.testing.assert_allclose(table[0, number], wanted, rtol=0, atol=1e-12)


def test_the_fallback_gives_the_same_states_and_shots(
    make_engine: Callable[..., Engine], ansatz: Any, as_qpy: Any
) -> None:
    fast, public = make_engine("perth-7"), make_engine("perth-7", force_public=True)
    assert not public.ready.fast_path
    assert public.ready.warning
    circuit = ansatz(3)
    measuring = QuantumCircuit(2, 2)
    measuring.sx(0)
    measuring.measure(0, 0)
    with measuring.if_test((measuring.clbits[0], 1)):
        measuring.x(1)
    measuring.measure(1, 1)
    values = np.random.default_rng(3).uniform(-np.pi, np.pi, (3, circuit.num_parameters))
    results = []
    for engine in (fast, public):
        engine.prepare("c", as_qpy(circuit))
        engine.prepare("m", as_qpy(measuring))
        engine.prepare_observable("h", (("ZZI", 1.0), ("IXX", 0.5), ("III", 2.0)))
        table = engine.probabilities("c", values, ("ZZZ", "XXX"))
        job = engine.execute(Execute("0-x", 5, "c", ("h",), values, 1000, readout_mitigation=True))
        shots = engine.execute(Execute("0-x", 5, "m", (), np.zeros((1, 0)), 600, per_shot=True))
        results.append((table, job.evaluations, shots.evaluations[0].outcomes))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=0, atol=1e-12)
    for one, other in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(one.values, other.values, rtol=0, atol=1e-12)
    # Trajectories are drawn by Aer itself: at equal seeds both interfaces give the same shots.
    assert results[0][2] == results[1][2]


def test_a_changed_private_interface_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from efaas_qpu.engine import simulator
    from qiskit_aer import AerSimulator

    class Renamed(AerSimulator):
        @property
        def _controller(self) -> Any:
            raise AttributeError("no such thing any more")

        @_controller.setter
        def _controller(self, value: Any) -> None:
            pass

    monkeypatch.setattr("qiskit_aer.AerSimulator", Renamed)
    chosen, fast, warning = simulator.choose_simulator()
    assert isinstance(chosen, simulator.PublicSimulator)
    assert not fast
    assert "no such thing any more" in warning


def test_a_wrong_fast_path_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from efaas_qpu.engine import simulator

    right = simulator.ControllerSimulator.states

    def wrong(self: Any, program: Any, parameters: Any) -> Any:
        return right(self, program, parameters + 1e-6)

    monkeypatch.setattr(simulator.ControllerSimulator, "states", wrong)
    _, fast, warning = simulator.choose_simulator()
    assert not fast
    assert "differs" in warning
