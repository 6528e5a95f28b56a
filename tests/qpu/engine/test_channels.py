"""Noise channels against Aer's own errors and against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from efaas_qpu.engine import channels
from hypothesis import given
from hypothesis import strategies as st
from qiskit.circuit.library import get_standard_gate_name_mapping
from qiskit.quantum_info import Operator, SuperOp, average_gate_fidelity

from efaas.devices import DeviceSnapshot, GateCalibration, QubitCalibration, load_snapshot, snapshot_names

NOISY_GATES = ("sx", "x", "cx", "cz", "ecr")


def device(t1_us: float, t2_us: float, error: float, length_ns: float) -> DeviceSnapshot:
    qubit = QubitCalibration(t1_us, t2_us, 5.0, 0.02, 0.05, 800.0)
    gates = {
        ("sx", (0,)): GateCalibration(error, length_ns),
        ("cx", (0, 1)): GateCalibration(error, length_ns),
    }
    return DeviceSnapshot("two", "", "", 250.0, ("sx", "cx"), (qubit, qubit), gates)


@pytest.mark.parametrize("name", snapshot_names())
def test_channels_equal_aers_errors_on_every_device(name: str) -> None:
    snapshot = load_snapshot(name)
    compared = 0
    for gate, qubits in sorted(snapshot.gates):
        if gate not in NOISY_GATES or compared >= 12:
            continue
        error = channels.aer_error(snapshot, gate, qubits)
        channel = channels.noise(snapshot, gate, qubits)
        if error is None:
            assert channel is None
            continue
        assert channel is not None
        np.testing.assert_allclose(channel, SuperOp(error).data, atol=1e-13)
        compared += 1
    assert compared > 0


@pytest.mark.parametrize("name", snapshot_names())
def test_average_gate_infidelity_is_the_calibrated_error(name: str) -> None:
    snapshot = load_snapshot(name)
    for (gate, qubits), calibration in sorted(snapshot.gates.items())[:30]:
        channel = channels.noise(snapshot, gate, qubits)
        if channel is None:
            continue
        relaxed = 1 - channels.relaxation_fidelity(snapshot, qubits, calibration.length_ns * 1e-3)
        dimension = 2 ** len(qubits)
        most = dimension / (dimension + 1)
        infidelity = 1 - average_gate_fidelity(SuperOp(channel))
        # Where relaxation alone is worse than the calibrated error there is nothing to add.
        assert infidelity == pytest.approx(max(min(calibration.error, most), relaxed), abs=1e-10)


@given(
    t1=st.floats(1.0, 500.0),
    ratio=st.floats(0.05, 3.0),
    error=st.floats(0.0, 1.0),
    length=st.floats(0.0, 5000.0),
    angle=st.floats(-0.5, 0.5),
    name=st.sampled_from([("sx", (0,)), ("cx", (0, 1))]),
)
def test_channels_are_physical_for_any_calibration(
    t1: float, ratio: float, error: float, length: float, angle: float, name: tuple[str, tuple[int, ...]]
) -> None:
    channel = channels.noise(device(t1, t1 * ratio, error, length), *name, angle)
    if channel is not None:
        assert SuperOp(channel).is_cptp(atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", ["x", "sx", "cx", "cz", "ecr"])
def test_over_rotation_turns_about_the_gates_own_generator(name: str) -> None:
    """Turning too far by the gate's whole angle is doing the gate twice: R(θ) commutes with it."""
    rotation = channels.over_rotation(name, 0.3)
    assert rotation is not None
    gate = Operator(get_standard_gate_name_mapping()[name]).data
    if name != "ecr":
        np.testing.assert_allclose(rotation @ gate, gate @ rotation, atol=1e-14)
    infidelity = 1 - average_gate_fidelity(Operator(rotation))
    dimension = len(rotation)
    wanted = dimension / (dimension + 1) * math.sin(0.15) ** 2
    assert infidelity == pytest.approx(wanted, abs=1e-12)


def test_an_ideal_gate_has_no_channel() -> None:
    snapshot = load_snapshot("manila-5")
    assert channels.noise(snapshot, "rz", (0,)) is None
    assert channels.noise(device(math.inf, math.inf, 0.0, 35.0), "sx", (0,)) is None


def test_confusion_and_its_inverse() -> None:
    snapshot = device(100.0, 100.0, 0.0, 0.0)
    matrix = channels.confusion(snapshot, 0)
    np.testing.assert_allclose(matrix, [[0.98, 0.05], [0.02, 0.95]])
    inverse = channels.unconfusion(snapshot, 0)
    assert inverse is not None
    np.testing.assert_allclose(inverse @ matrix, np.eye(2), atol=1e-14)
