"""The simulated device may differ from the known one: its noise is swapped, layout and mitigation stay."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from efaas_qpu.engine.messages import Execute, Limits
from qiskit import QuantumCircuit

from efaas.devices import DeviceSnapshot, ideal, load_snapshot
from efaas.errors import CircuitError

NONE = np.zeros((1, 0))


def worse(snapshot: DeviceSnapshot, factor: float) -> DeviceSnapshot:
    return replace(
        snapshot,
        gates={item: replace(gate, error=gate.error * factor) for item, gate in snapshot.gates.items()},
    )


def ghz() -> QuantumCircuit:
    circuit = QuantumCircuit(3)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.cx(1, 2)
    return circuit


def test_noise_is_swapped_without_another_layout(make_engine: Any, as_qpy: Any) -> None:
    known = load_snapshot("perth-7")
    engine = make_engine(known)
    before = engine.prepare("c", as_qpy(ghz()))
    engine.prepare_observable("xxx", (("XXX", 1.0),))
    fresh = engine.expectation("c", ("xxx",), NONE)[0, 0]
    routed = engine._plans["c"][0].routed
    engine.set_true_device(worse(known, 4), {})
    stale = engine.expectation("c", ("xxx",), NONE)[0, 0]
    assert engine._plans["c"][0].routed is routed
    assert engine.prepare("c", as_qpy(ghz())) == before
    engine.set_true_device(known, {})
    again = engine.expectation("c", ("xxx",), NONE)[0, 0]
    assert stale < fresh < 1
    assert again == fresh


@pytest.mark.parametrize("method", ["Auto", "Trajectories"])
def test_an_over_rotation_turns_too_far(make_engine: Any, as_qpy: Any, method: str) -> None:
    """Two half turns that turn ε too far each: ⟨Z⟩ = cos(π + 2ε)."""
    clean = ideal(load_snapshot("manila-5"))
    engine = make_engine(clean, method=method)
    circuit = QuantumCircuit(1)
    circuit.sx(0)
    circuit.barrier()
    circuit.sx(0)
    # The transpiler may not join the two.
    layout = engine.prepare("c", as_qpy(circuit)).layout
    epsilon = 0.2
    engine.set_true_device(clean, {("sx", layout): epsilon, ("x", layout): 2 * epsilon})
    engine.prepare_observable("z", (("Z", 1.0),))
    estimate = engine.execute(Execute("0-e", 1, "c", ("z",), NONE, 2048)).evaluations[0]
    assert estimate.values[0] == pytest.approx(
        math.cos(math.pi + 2 * epsilon), abs=5 * estimate.std_errors[0]
    )


def test_a_clean_device_that_drifts_needs_another_method(make_engine: Any, as_qpy: Any) -> None:
    """What was a statevector becomes a density matrix once there is noise to simulate."""
    clean = ideal(load_snapshot("manila-5"))
    engine = make_engine(clean)
    assert engine.prepare("c", as_qpy(ghz())).method == "statevector"
    engine.prepare_observable("xxx", (("XXX", 1.0),))
    assert engine.expectation("c", ("xxx",), NONE)[0, 0] == pytest.approx(1)
    engine.set_true_device(load_snapshot("manila-5"), {})
    assert engine.expectation("c", ("xxx",), NONE)[0, 0] < 0.99


def test_mitigation_goes_by_the_known_values(make_engine: Any, as_qpy: Any) -> None:
    clean = ideal(load_snapshot("manila-5"))
    known = replace(clean, qubits=tuple(replace(q, prob_meas0_prep1=0.1) for q in clean.qubits))
    drifted = replace(clean, qubits=tuple(replace(q, prob_meas0_prep1=0.2) for q in clean.qubits))
    engine = make_engine(known)
    circuit = QuantumCircuit(1)
    circuit.x(0)
    engine.prepare("c", as_qpy(circuit))
    engine.prepare_observable("z", (("Z", 1.0),))
    assert engine.expectation("c", ("z",), NONE, readout_mitigation=True)[0, 0] == pytest.approx(-1)
    engine.set_true_device(drifted, {})
    # True: P(1) = 0.8; corrected by what is known, (0.8·(-1) + 0.2·(+1) - 0.1) / 0.9.
    wanted = (-0.6 - 0.1) / 0.9
    assert engine.expectation("c", ("z",), NONE, readout_mitigation=True)[0, 0] == pytest.approx(wanted)


def test_another_number_of_qubits_is_refused(make_engine: Any) -> None:
    with pytest.raises(CircuitError, match="7 qubits, the known one 5"):
        make_engine("manila-5").set_true_device(load_snapshot("perth-7"), {})


def test_drift_on_a_large_statevector_goes_on_as_trajectories(
    make_engine: Any, ansatz: Any, as_qpy: Any
) -> None:
    snapshot = load_snapshot("perth-7")
    engine = make_engine(ideal(snapshot), limits=Limits(density_matrix_qubits=2))
    assert engine.prepare("c", as_qpy(ghz())).method == "statevector"
    engine.set_true_device(snapshot, {})
    assert sum(engine.execute(Execute("0-e", 1, "c", (), NONE, 300)).evaluations[0].counts) == 300
