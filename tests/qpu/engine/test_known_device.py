"""Mitigation goes by what is known of a device now, layouts by what was known when they were made."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from efaas_qpu.engine.messages import Execute
from efaas_qpu.engine.process import EngineProcess
from qiskit import QuantumCircuit

from efaas.devices import DeviceSnapshot, ideal, load_snapshot
from efaas.errors import CircuitError

NONE = np.zeros((1, 0))


def read_with(snapshot: DeviceSnapshot, ones: float, zeros: float) -> DeviceSnapshot:
    qubits = (replace(q, prob_meas1_prep0=ones, prob_meas0_prep1=zeros) for q in snapshot.qubits)
    return replace(snapshot, qubits=tuple(qubits))


def best_at(snapshot: DeviceSnapshot, place: int) -> DeviceSnapshot:
    """All qubits read badly but one."""
    bad = read_with(snapshot, 0.2, 0.2).qubits
    good = read_with(snapshot, 0.001, 0.001).qubits
    return replace(snapshot, qubits=tuple(good[q] if q == place else bad[q] for q in range(len(bad))))


def excited() -> QuantumCircuit:
    circuit = QuantumCircuit(1)
    circuit.x(0)
    return circuit


def test_mitigation_undoes_the_known_confusion_of_truly_confused_shots(make_engine: Any, as_qpy: Any) -> None:
    """⟨Z⟩ = -1 is read as raw = (v - u) - (1 - u - v) with the true u, v and undone with the known ones."""
    clean = ideal(load_snapshot("manila-5"))
    engine = make_engine(read_with(clean, 0.02, 0.05))
    engine.prepare("c", as_qpy(excited()))
    engine.prepare_observable("z", (("Z", 1.0),))

    def mitigated() -> float:
        return float(engine.expectation("c", ("z",), NONE, readout_mitigation=True)[0, 0])

    assert mitigated() == pytest.approx(-1, abs=1e-12)
    u, v = 0.04, 0.09
    engine.set_true_device(read_with(clean, u, v), {})
    raw = (v - u) - (1 - u - v)
    assert mitigated() == pytest.approx((raw - 0.03) / 0.93, abs=1e-12)
    engine.set_known_device(read_with(clean, u, v))
    assert mitigated() == pytest.approx(-1, abs=1e-12)
    assert engine.expectation("c", ("z",), NONE)[0, 0] == pytest.approx(raw, abs=1e-12)


def test_a_new_layout_is_for_circuits_prepared_from_then_on(make_engine: Any, as_qpy: Any) -> None:
    device = load_snapshot("manila-5")
    engine = make_engine(best_at(device, 1))
    assert engine.prepare("c", as_qpy(excited())).layout == (1,)
    engine.set_known_device(best_at(device, 3))
    assert engine.prepare("local", as_qpy(excited())).layout == (1,)
    engine.set_known_device(best_at(device, 3), True)
    assert engine.prepare("c", as_qpy(excited())).layout == (1,)
    assert engine.prepare("full", as_qpy(excited())).layout == (3,)
    assert engine.prepare("old", as_qpy(excited()), best_at(device, 1)).layout == (1,)


def test_all_physical_qubits_are_named_those_on_the_way_too(make_engine: Any, as_qpy: Any) -> None:
    circuit = QuantumCircuit(3)
    for a, b in ((0, 1), (1, 2), (2, 0), (0, 1)):
        circuit.cx(a, b)
    prepared = make_engine(load_snapshot("manila-5")).prepare("c", as_qpy(circuit))
    assert set(prepared.physical) >= set(prepared.layout)
    assert prepared.physical == tuple(sorted(prepared.physical))


def test_the_first_run_on_a_moved_device_says_what_it_cost(make_engine: Any, as_qpy: Any) -> None:
    device = load_snapshot("manila-5")
    engine = make_engine(device)
    engine.prepare("c", as_qpy(excited()))
    engine.prepare_observable("z", (("Z", 1.0),))
    job = Execute("0-" + "0" * 32, 1, "c", ("z",), NONE, 100)
    assert engine.execute(job).prepare_s == 0
    engine.set_true_device(device, {("x", (0,)): 0.1})
    moved = engine.execute(job)
    assert moved.prepare_s > 0
    assert not moved.cold
    assert engine.execute(job).prepare_s == 0


def test_another_number_of_qubits_is_refused(make_engine: Any) -> None:
    engine = make_engine(load_snapshot("manila-5"))
    with pytest.raises(CircuitError, match="the known device has 7 qubits, it had 5"):
        engine.set_known_device(load_snapshot("perth-7"))


def test_a_new_worker_is_told_of_everything_again_and_keeps_old_layouts(as_qpy: Any) -> None:
    device = load_snapshot("manila-5")
    true, known = read_with(ideal(device), 0.04, 0.09), read_with(ideal(device), 0.02, 0.05)

    async def scenario() -> None:
        async with EngineProcess(best_at(device, 1), noisy=True, true=true) as process:
            old = await process.prepare("c", as_qpy(excited()))
            await process.prepare_observable("z", (("Z", 1.0),))
            await process.set_known_device(best_at(device, 3), for_layout=True)
            new = await process.prepare_as("c@2", "c")
            await process.set_known_device(known)
            assert (old.layout, new.layout) == ((1,), (3,))
            job = Execute("0-" + "0" * 32, 1, "c", ("z",), NONE, 1000, readout_mitigation=True)
            before = await process.execute(job)
            again = await process.execute(job)
            assert not before.cold
            assert not again.cold
            process._kill()
            after = await process.execute(job)
            assert after.cold
            assert after.prepare_s > 0
            assert after.evaluations[0].values[0] == before.evaluations[0].values[0]
            other = await process.execute(replace(job, circuit="c@2"))
            assert other.cold
            assert not (await process.execute(job)).cold
            with pytest.raises(CircuitError, match="not known"):
                await process.prepare_as("d@2", "d")

    asyncio.run(scenario())
