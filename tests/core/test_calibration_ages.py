"""How old the machine takes a circuit's calibration to be, held against the items that were measured."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from efaas.core.calibration import KnownDevice
from efaas.core.device_values import DeviceParts, DeviceValues
from efaas.core.drift import FixedDrift
from efaas.core.qpu.calibration import MOST_LOCAL, CalibrationClock
from efaas.core.qpu.config import CalibrationConfig
from efaas.core.qpu.messages import CalibrationScope

LOCAL, FULL = CalibrationScope.LOCAL, CalibrationScope.FULL


def test_two_pairs_measured_apart_say_nothing_of_the_pair_between_them() -> None:
    clock = CalibrationClock(CalibrationConfig(frozen=False))
    clock.finished(LOCAL, (0, 1), 2, 100.0)
    clock.finished(LOCAL, (2, 3), 3, 200.0)
    assert clock.age_s((0, 1), 250.0) == 150.0
    assert clock.age_s((3, 2), 250.0) == 50.0
    assert clock.age_s((1, 2), 250.0) == 250.0
    assert clock.age_s((0, 1, 2, 3), 250.0) == 250.0
    clock.finished(LOCAL, (0, 1, 2, 3), 4, 300.0)
    assert clock.age_s((1, 2), 350.0) == 50.0


def test_a_full_calibration_makes_everything_fresh() -> None:
    clock = CalibrationClock(CalibrationConfig(frozen=False))
    clock.finished(LOCAL, (0, 1), 2, 100.0)
    clock.finished(FULL, (), 3, 200.0)
    assert clock.calibrated_at_s((0, 1)) == clock.calibrated_at_s(()) == 200.0


def test_what_is_remembered_of_local_calibrations_is_bounded() -> None:
    clock = CalibrationClock(CalibrationConfig(frozen=False))
    for number in range(MOST_LOCAL + 10):
        clock.finished(LOCAL, (number, number + 1), number + 2, 1.0 + number)
    assert clock.calibrated_at_s((0, 1)) == 0.0  # forgotten: taken for as old as the full one
    assert clock.calibrated_at_s((MOST_LOCAL + 9, MOST_LOCAL + 10)) == MOST_LOCAL + 10.0
    for number in range(1000):
        clock.finished(LOCAL, (7, 8), 1000 + number, 1000.0 + number)
    assert clock.calibrated_at_s((20, 21)) == 21.0  # the same pair again takes the place of its last one


def test_a_machine_that_comes_up_again_knows_the_local_calibrations() -> None:
    config = CalibrationConfig(
        frozen=False, calibrated_at_s=50.0, epoch=3, local_calibrations=((80.0, (0, 1)), (90.0, (1, 2)))
    )
    clock = CalibrationClock(config)
    assert clock.age_s((0, 1), 100.0) == 20.0
    assert clock.age_s((2, 1), 100.0) == 10.0
    assert clock.age_s((0, 2), 100.0) == 50.0


RING = 6
PARTS = DeviceParts(RING, tuple(("cx", (q, (q + 1) % RING)) for q in range(RING)), np.ones(RING))
VALUES = DeviceValues(*(np.full(RING, value) for value in (100.0, 80.0, 0.01, 0.02, 0.01)))


@given(
    st.lists(
        st.tuples(st.booleans(), st.sets(st.integers(0, RING - 1), min_size=1), st.integers(1, 100)),
        max_size=12,
    ),
    st.sets(st.integers(0, RING - 1), min_size=1),
)
def test_no_circuit_ever_looks_fresher_than_its_qubits_and_pairs_are(
    calibrations: list[tuple[bool, set[int], int]], circuit: set[int]
) -> None:
    clock = CalibrationClock(CalibrationConfig(frozen=False))
    device = KnownDevice(PARTS, VALUES)
    drift = FixedDrift(PARTS, VALUES)
    now_s = 0.0
    for full, qubits, later in calibrations:
        now_s += later
        scope = FULL if full else LOCAL
        epoch = device.calibrate(drift, now_s, scope, qubits)
        clock.finished(scope, tuple(qubits), epoch.id, now_s)
        assert clock.age_s(tuple(circuit), now_s + 1) >= device.age_s(now_s + 1, circuit)
        if circuit <= qubits or full:
            assert clock.age_s(tuple(circuit), now_s + 1) == 1.0
