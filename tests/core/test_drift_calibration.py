"""What is known: epochs in order, ages by the oldest item, costs in proportion, replay from a log."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efaas.core.calibration import (
    HISTORY_LENGTH,
    CalibrationEpoch,
    KnownDevice,
    MeasurementError,
    local_calibration_costs,
    local_calibration_s,
)
from efaas.core.device_values import DeviceParts, DeviceValues
from efaas.core.drift import FixedDrift, ModelDrift
from efaas.core.qpu.messages import CalibrationScope

FULL, LOCAL = CalibrationScope.FULL, CalibrationScope.LOCAL
QUBITS = 6

_GATES = {(name, (q,)): 0.036 for name in ("sx", "x") for q in range(QUBITS)} | {
    ("cx", pair): 0.4 for q in range(QUBITS - 1) for pair in ((q, q + 1), (q + 1, q))
}
PARTS = DeviceParts(QUBITS, tuple(sorted(_GATES)), np.array([_GATES[gate] for gate in sorted(_GATES)]))
VALUES = DeviceValues(
    t1_us=np.linspace(100, 200, QUBITS),
    t2_us=np.linspace(80, 120, QUBITS),
    prob_meas1_prep0=np.full(QUBITS, 0.01),
    prob_meas0_prep1=np.full(QUBITS, 0.02),
    gate_error=np.array([3e-4 if len(q) == 1 else 1e-2 for _, q in PARTS.gates]),
)


def drifting(seed=1):
    return ModelDrift(PARTS, VALUES, seed)


def test_a_device_starts_with_its_snapshot_as_epoch_1():
    known = KnownDevice(PARTS, VALUES)
    assert known.epoch == 1
    assert known.values is VALUES
    (first,) = known.history
    assert (first.id, first.finished_s, first.scope) == (1, 0.0, FULL)
    assert first.t1_us == tuple(VALUES.t1_us)


def test_a_full_calibration_measures_the_true_values():
    known, drift = KnownDevice(PARTS, VALUES), drifting()
    epoch = known.calibrate(drift, 50_000.0)
    true = drift.true_device(50_000.0, np.full(PARTS.num_items, 50_000.0)).values
    assert known.values.equals(true)
    assert epoch.id == known.epoch == 2
    assert epoch.couplings == PARTS.couplings
    assert epoch.gates == PARTS.gates


def test_a_local_calibration_measures_its_items_and_leaves_the_rest():
    known, drift = KnownDevice(PARTS, VALUES), drifting()
    epoch = known.calibrate(drift, 50_000.0, LOCAL, {2, 1, 4})
    true = drift.true_device(50_000.0, known.calibrated_s).values
    assert epoch.qubits == (1, 2, 4)
    assert epoch.couplings == ((1, 2),)
    for qubit in range(QUBITS):
        expected = true if qubit in (1, 2, 4) else VALUES
        assert known.values.t1_us[qubit] == expected.t1_us[qubit]
        assert known.values.prob_meas0_prep1[qubit] == expected.prob_meas0_prep1[qubit]
    for index, (_, qubits) in enumerate(PARTS.gates):
        measured = qubits[0] in (1, 2, 4) if len(qubits) == 1 else set(qubits) == {1, 2}
        assert (known.values.gate_error[index] != VALUES.gate_error[index]) == measured


def test_calibrating_brings_control_drift_back_to_nothing_but_not_coherence():
    known, drift = KnownDevice(PARTS, VALUES), drifting()
    assert drift.true_device(50_000.0, known.calibrated_s).drive_rad.all()
    known.calibrate(drift, 50_000.0)
    true = drift.true_device(50_000.0, known.calibrated_s)
    assert not true.over_rotations(PARTS)
    assert not np.array_equal(true.values.t1_us, VALUES.t1_us)


def test_a_frozen_device_measures_exactly_its_snapshot_even_with_measurement_errors():
    known = KnownDevice(PARTS, VALUES, measurement=MeasurementError(0.1, 5000))
    epoch = known.calibrate(FixedDrift(PARTS, VALUES), 1e6)
    assert known.values.equals(VALUES)
    assert epoch.id == 2


def test_measurement_errors_have_the_deviation_asked_for_and_replay():
    qubits = 4000
    names = tuple(("sx", (q,)) for q in range(qubits))
    parts = DeviceParts(qubits, names, np.full(qubits, 0.036))
    values = DeviceValues(
        np.full(qubits, 100.0),
        np.full(qubits, 80.0),
        np.full(qubits, 0.01),
        np.full(qubits, 0.02),
        np.full(qubits, 3e-4),
    )

    class Still(FixedDrift):
        fixed = False

    known = [KnownDevice(parts, values, measurement=MeasurementError(0.05, 5000), seed=9) for _ in range(2)]
    for device in known:
        device.calibrate(Still(parts, values), 10.0)
    assert known[0].values.equals(known[1].values)
    assert np.log(known[0].values.t1_us / 100).std() == pytest.approx(0.05, rel=0.06)
    assert known[0].values.prob_meas0_prep1.std() == pytest.approx((0.02 * 0.98 / 5000) ** 0.5, rel=0.06)
    assert known[0].values.prob_meas0_prep1.mean() == pytest.approx(0.02, rel=0.01)
    first = known[0].values
    known[0].calibrate(Still(parts, values), 20.0)
    assert abs(np.corrcoef(first.t1_us, known[0].values.t1_us)[0, 1]) < 0.08


def test_age_is_that_of_the_oldest_item_in_use():
    known, drift = KnownDevice(PARTS, VALUES), drifting()
    known.calibrate(drift, 100.0, LOCAL, (0, 1))
    known.calibrate(drift, 300.0, LOCAL, (1, 2))
    assert known.age_s(400.0, (1, 2)) == 100.0
    assert known.age_s(400.0, (0, 1)) == 300.0, "qubit 0 and the pair 0-1 are from 100 s"
    assert known.age_s(400.0, (0, 1, 2)) == 300.0
    assert known.age_s(400.0, (2, 3)) == 400.0, "qubit 3 was never calibrated since the start"
    assert known.age_s(400.0) == 400.0
    # Both qubits are fresh but their pair was never measured with them.
    known.calibrate(drift, 500.0, LOCAL, (3,))
    assert known.age_s(500.0, (2, 3)) == 500.0
    assert known.age_s(500.0, (2, 3), couplings=()) == 200.0


def test_what_is_prepared_for_a_circuit_outlives_calibrations_elsewhere():
    known, drift = KnownDevice(PARTS, VALUES), drifting()
    known.calibrate(drift, 100.0, LOCAL, (4, 5))
    assert known.epoch == 2
    assert known.epoch_of((0, 1)) == 1
    assert known.epoch_of((3, 4)) == 2
    known.calibrate(drift, 200.0)
    assert known.epoch_of((0, 1)) == known.epoch_of() == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((99.0,), "cannot follow"),
        ((float("nan"),), "cannot follow"),
        ((200.0, LOCAL, ()), "at least one qubit"),
        ((200.0, LOCAL, (6,)), "qubit 6 does not exist; the device has 6"),
        ((200.0, LOCAL, (0, 1), ((0, 2),)), "qubits 0 and 2 are not coupled"),
    ],
)
def test_an_impossible_calibration_is_refused_and_changes_nothing(arguments, words):
    known, drift = KnownDevice(PARTS, VALUES), drifting()
    known.calibrate(drift, 100.0)
    before = (known.epoch, known.values, known.calibrated_s.tolist(), known.history)
    with pytest.raises(ValueError, match=words):
        known.calibrate(drift, *arguments)
    assert (known.epoch, known.values, known.calibrated_s.tolist(), known.history) == before


steps = st.lists(
    st.tuples(st.floats(0, 1e5), st.none() | st.sets(st.integers(0, QUBITS - 1), min_size=1)), max_size=8
)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 100), steps)
def test_epochs_grow_and_a_log_of_them_brings_everything_back(seed, calibrations):
    drift = drifting(seed)
    known = KnownDevice(PARTS, VALUES)
    now_s = 0.0
    for wait_s, qubits in calibrations:
        now_s += wait_s
        known.calibrate(drift, now_s, FULL if qubits is None else LOCAL, qubits or ())
    history = known.history
    assert [epoch.id for epoch in history] == list(range(1, len(calibrations) + 2))
    assert all(a.finished_s <= b.finished_s for a, b in itertools.pairwise(history))
    lines = [json.dumps(epoch.to_json()) for epoch in history]
    again = [CalibrationEpoch.from_json(json.loads(line)) for line in lines]
    assert tuple(again) == history
    restored = KnownDevice(PARTS, VALUES)
    for epoch in again[1:]:
        restored.apply(epoch)
    assert restored.values.equals(known.values)
    assert restored.history == history
    np.testing.assert_array_equal(restored.calibrated_s, known.calibrated_s)
    later = now_s + 1000.0
    one, two = (drifting(seed).true_device(later, device.calibrated_s) for device in (known, restored))
    assert one.values.equals(two.values)
    assert one.over_rotations(PARTS) == two.over_rotations(PARTS)


def test_an_epoch_is_not_applied_twice():
    known = KnownDevice(PARTS, VALUES)
    epoch = known.calibrate(drifting(), 10.0)
    with pytest.raises(ValueError, match="epoch 2 does not follow epoch 2"):
        known.apply(epoch)


def test_history_is_bounded():
    known, drift = KnownDevice(PARTS, VALUES), FixedDrift(PARTS, VALUES)
    for index in range(HISTORY_LENGTH + 5):
        known.calibrate(drift, float(index), LOCAL, (0,))
    assert len(known.history) == HISTORY_LENGTH
    assert known.history[-1].id == known.epoch == HISTORY_LENGTH + 6


def test_values_handed_out_are_never_changed_by_a_later_calibration():
    known, drift = KnownDevice(PARTS, VALUES), drifting()
    known.calibrate(drift, 10.0)
    held = known.values
    copy = held.t1_us.copy()
    known.calibrate(drift, 50_000.0)
    np.testing.assert_array_equal(held.t1_us, copy)
    assert not np.array_equal(known.values.t1_us, copy)


def test_four_of_27_qubits_cost_a_fifth_of_everything_at_most():
    assert local_calibration_s(27, 150.0, 4) <= 150.0 / 5


@given(st.integers(1, 200), st.floats(1, 1e4))
def test_cost_is_a_fixed_part_and_one_in_proportion_and_all_cost_as_much_as_a_full_one(qubits, full_s):
    fixed_s, per_qubit_s = local_calibration_costs(qubits, full_s)
    assert local_calibration_s(qubits, full_s, qubits) == pytest.approx(full_s)
    for covered in {1, (qubits + 1) // 2, qubits}:
        assert local_calibration_s(qubits, full_s, covered) == pytest.approx(fixed_s + covered * per_qubit_s)
    assert 0 < fixed_s < 0.05 * full_s


@pytest.mark.parametrize("covered", [0, 28])
def test_cost_of_qubits_that_cannot_be_is_refused(covered):
    with pytest.raises(ValueError, match="on a device of 27"):
        local_calibration_s(27, 150.0, covered)
