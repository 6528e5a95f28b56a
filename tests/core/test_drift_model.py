"""The true device: drift against closed forms, physics against matrices, what calibration resets."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efaas.core.device_values import DeviceParts, DeviceValues, relaxation_error
from efaas.core.drift import (
    DAY_S,
    PERTH_2023,
    DriftRates,
    FixedDrift,
    ModelDrift,
    expected_growth,
    over_rotation_infidelity,
    shifted_readout,
)

MANY = 3000


def make_parts(qubits):
    """A row of qubits with sx, x, rz on each and cx both ways between neighbours."""
    gates = {
        (name, (q,)): length
        for name, length in (("rz", 0.0), ("sx", 0.036), ("x", 0.036))
        for q in range(qubits)
    }
    for q in range(qubits - 1):
        gates["cx", (q, q + 1)] = 0.4
        gates["cx", (q + 1, q)] = 0.44
    names = tuple(sorted(gates))
    return DeviceParts(qubits, names, np.array([gates[name] for name in names]))


def make_values(parts, t1_us=160.0, t2_us=110.0):
    qubits = parts.num_qubits
    errors = {"rz": 0.0, "sx": 3e-4, "x": 3e-4, "cx": 1e-2}
    return DeviceValues(
        np.full(qubits, t1_us),
        np.full(qubits, t2_us),
        np.full(qubits, 0.015),
        np.full(qubits, 0.022),
        np.array([errors[name] for name, _ in parts.gates]),
    )


WIDE = make_parts(MANY)
WIDE_VALUES = make_values(WIDE)
SMALL = make_parts(4)
SMALL_VALUES = make_values(SMALL)


def never_calibrated(parts):
    return np.zeros(parts.num_items)


def within(estimate, expected, deviation, sigmas=4.5):
    assert abs(estimate - expected) <= sigmas * deviation, (estimate, expected, deviation)


# --- control ---


@pytest.mark.parametrize("age_s", [60.0, 3600.0, DAY_S, 10 * DAY_S])
@pytest.mark.parametrize("calibrated_s", [0.0, 5 * DAY_S + 17.5])
def test_over_rotations_have_a_variance_in_proportion_to_age(age_s, calibrated_s):
    drift = ModelDrift(WIDE, WIDE_VALUES, seed=1)
    device = drift.true_device(calibrated_s + age_s, np.full(WIDE.num_items, calibrated_s))
    for angles, rate in (
        (device.drive_rad, PERTH_2023.drive_rad_per_sqrt_day),
        (device.coupling_rad, PERTH_2023.coupling_rad_per_sqrt_day),
    ):
        expected = rate**2 * age_s / DAY_S
        within(angles.var(), expected, expected * math.sqrt(2 / MANY))
        within(angles.mean(), 0, math.sqrt(expected / MANY))


def test_threshold_shift_has_a_variance_in_proportion_to_age():
    drift = ModelDrift(WIDE, WIDE_VALUES, seed=2)
    for age_days in (0.5, 4.0):
        values = drift.true_device(age_days * DAY_S, never_calibrated(WIDE)).values
        z = np.array([NormalDist().inv_cdf(p) for p in values.prob_meas1_prep0])
        shift = z - NormalDist().inv_cdf(0.015)
        expected = PERTH_2023.threshold_per_sqrt_day**2 * age_days
        within(shift.var(), expected, expected * math.sqrt(2 / MANY))


def test_calibrating_an_item_resets_its_control_and_no_other():
    drift = ModelDrift(SMALL, SMALL_VALUES, seed=3)
    times = never_calibrated(SMALL)
    before = drift.true_device(DAY_S, times)
    # Items: qubits 0-3, then couplings 0-1, 1-2, 2-3.
    times[[1, 2, 5]] = DAY_S
    after = drift.true_device(DAY_S, times)
    assert after.drive_rad[1] == after.drive_rad[2] == after.coupling_rad[1] == 0
    assert after.values.prob_meas1_prep0[1] == 0.015
    assert after.values.prob_meas0_prep1[1] == 0.022
    for untouched in (0, 3):
        assert after.drive_rad[untouched] == before.drive_rad[untouched] != 0
        assert after.values.prob_meas1_prep0[untouched] == before.values.prob_meas1_prep0[untouched] != 0.015
    assert after.coupling_rad[0] == before.coupling_rad[0] != 0
    assert after.coupling_rad[2] == before.coupling_rad[2] != 0


def test_calibration_leaves_coherence_and_gate_errors_alone():
    drift = ModelDrift(SMALL, SMALL_VALUES, seed=3)
    before = drift.true_device(2 * DAY_S, never_calibrated(SMALL)).values
    after = drift.true_device(2 * DAY_S, np.full(SMALL.num_items, 2 * DAY_S)).values
    for name in ("t1_us", "t2_us", "gate_error"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    assert not np.array_equal(before.t1_us, SMALL_VALUES.t1_us)


def test_drift_goes_on_after_a_calibration_independently_of_what_was_before():
    drift = ModelDrift(WIDE, WIDE_VALUES, seed=4)
    before = drift.true_device(DAY_S, never_calibrated(WIDE)).coupling_rad
    after = drift.true_device(2 * DAY_S, np.full(WIDE.num_items, DAY_S)).coupling_rad
    within(np.corrcoef(before, after)[0, 1], 0, 1 / math.sqrt(MANY))


def test_a_moment_before_the_last_calibration_is_refused():
    drift = ModelDrift(SMALL, SMALL_VALUES, seed=3)
    with pytest.raises(ValueError, match="after the moment asked for"):
        drift.true_device(10.0, np.full(SMALL.num_items, 11.0))


def test_a_half_turn_is_off_twice_as_far_and_both_directions_of_a_pair_alike():
    device = ModelDrift(SMALL, SMALL_VALUES, seed=5).true_device(DAY_S, never_calibrated(SMALL))
    angles = device.over_rotations(SMALL)
    assert angles["x", (2,)] == 2 * angles["sx", (2,)] == 2 * device.drive_rad[2]
    assert angles["cx", (1, 2)] == angles["cx", (2, 1)] == device.coupling_rad[1]
    assert not any(name == "rz" for name, _ in angles), "a turn of the frame is exact"


# --- coherence ---


def test_log_coherence_has_the_stationary_deviation_and_correlation_of_its_rates():
    drift = ModelDrift(WIDE, WIDE_VALUES, seed=6)
    days = [
        np.log(drift.true_device(day * DAY_S, never_calibrated(WIDE)).values.t1_us / 160.0)
        for day in (20, 21, 23)
    ]
    deviation, correlation = PERTH_2023.t1_log_deviation, PERTH_2023.t1_day_correlation
    within(days[0].std(), deviation, deviation / math.sqrt(2 * MANY))
    within(np.corrcoef(days[0], days[1])[0, 1], correlation, 1 / math.sqrt(MANY))
    within(np.corrcoef(days[0], days[2])[0, 1], correlation**3, 1 / math.sqrt(MANY))


def test_fitted_rates_give_the_steps_of_the_record():
    # Medians of the record: T1 21.1 %, T2 16.3 % from day to day.
    drift = ModelDrift(WIDE, WIDE_VALUES, seed=7)
    first, second = (drift.true_device(day * DAY_S, never_calibrated(WIDE)).values for day in (30, 31))
    assert np.median(np.abs(second.t1_us / first.t1_us - 1)) == pytest.approx(0.211, rel=0.08)
    assert np.median(np.abs(second.t2_us / first.t2_us - 1)) == pytest.approx(0.163, rel=0.08)


def test_fitted_rates_give_the_record_s_median_growth_of_gate_errors():
    # Record: sx 3.08e-4 · 15.1 %, cx 0.0106 · 13.2 % a day.
    device = ModelDrift(WIDE, WIDE_VALUES, seed=8).true_device(DAY_S, never_calibrated(WIDE))
    assert np.median(over_rotation_infidelity(device.drive_rad, 1)) == pytest.approx(3.08e-4 * 0.151, rel=0.1)
    assert np.median(over_rotation_infidelity(device.coupling_rad, 2)) == pytest.approx(
        0.0106 * 0.132, rel=0.1
    )


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 1e8), st.integers(0, 2**63 - 1), st.floats(10, 300), st.floats(0.1, 1))
def test_the_device_stays_physical(now_s, seed, t1_us, part):
    values = make_values(SMALL, t1_us=t1_us, t2_us=2 * t1_us * part)
    rates = PERTH_2023.scaled(5)
    true = ModelDrift(SMALL, values, seed, rates).true_device(now_s, never_calibrated(SMALL)).values
    assert (true.t1_us > 0).all()
    assert (true.t2_us > 0).all()
    assert (true.t2_us <= 2 * true.t1_us).all()
    for probability in (true.prob_meas1_prep0, true.prob_meas0_prep1):
        assert ((probability >= 0) & (probability <= 1)).all()
    assert ((true.gate_error >= 0) & (true.gate_error <= 0.8)).all()
    assert (true.gate_error[[name == "rz" for name, _ in SMALL.gates]] == 0).all()


def test_gate_errors_follow_relaxation():
    drift = ModelDrift(WIDE, WIDE_VALUES, seed=9)
    true = drift.true_device(3 * DAY_S, never_calibrated(WIDE)).values
    worse = true.gate_error - WIDE_VALUES.gate_error
    expected = relaxation_error(WIDE, true.t1_us, true.t2_us) - relaxation_error(
        WIDE, WIDE_VALUES.t1_us, WIDE_VALUES.t2_us
    )
    free = true.gate_error > 0
    np.testing.assert_allclose(worse[free], expected[free], atol=1e-12)
    assert np.std(worse) > 1e-4


# --- the same device ---


def test_at_time_zero_the_device_is_its_snapshot_to_the_last_bit():
    device = ModelDrift(SMALL, SMALL_VALUES, seed=10).true_device(0.0, never_calibrated(SMALL))
    assert device.values.equals(SMALL_VALUES)
    assert not device.over_rotations(SMALL)


def test_a_frozen_device_is_its_snapshot_for_ever():
    drift = FixedDrift(SMALL, SMALL_VALUES)
    device = drift.true_device(1e9, never_calibrated(SMALL))
    assert device.values is SMALL_VALUES
    assert not device.over_rotations(SMALL)
    assert drift.growth(SMALL_VALUES).two_qubit_per_s == 0


calibrations = st.lists(st.tuples(st.integers(0, 6), st.floats(0, 1e6)), max_size=6)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 1000),
    st.lists(st.tuples(st.floats(1e6, 5e6), calibrations), min_size=1, max_size=5),
    st.randoms(),
)
def test_answers_do_not_depend_on_how_often_or_in_which_order_one_asks(seed, questions, random):
    asked = []
    for now_s, calibrated in questions:
        times = never_calibrated(SMALL)
        for item, time_s in calibrated:
            times[item] = time_s
        asked.append((now_s, times))
    alone = [ModelDrift(SMALL, SMALL_VALUES, seed).true_device(*question) for question in asked]
    drift = ModelDrift(SMALL, SMALL_VALUES, seed)
    order = list(range(len(asked))) * 2
    random.shuffle(order)
    for index in order:
        again = drift.true_device(*asked[index])
        assert again.values.equals(alone[index].values)
        assert again.over_rotations(SMALL) == alone[index].over_rotations(SMALL)


def test_seeds_make_different_devices():
    one, two = (
        ModelDrift(WIDE, WIDE_VALUES, seed).true_device(DAY_S, never_calibrated(WIDE)) for seed in (1, 2)
    )
    within(np.corrcoef(one.coupling_rad, two.coupling_rad)[0, 1], 0, 1 / math.sqrt(MANY))
    within(np.corrcoef(one.values.t1_us, two.values.t1_us)[0, 1], 0, 1 / math.sqrt(MANY))


# --- physics against independent forms ---


def average_fidelity(kraus):
    """(Σ |Tr K|² + d) / (d² + d), Nielsen's formula."""
    dimension = len(kraus[0])
    return (sum(abs(np.trace(k)) ** 2 for k in kraus) + dimension) / (dimension**2 + dimension)


@pytest.mark.parametrize("angle", [0.0, 0.01, -0.2, 1.0])
def test_infidelity_of_an_over_rotation_is_that_of_its_matrix(angle):
    x = np.array([[0, 1], [1, 0]])
    z = np.diag([1, -1])
    for generator, qubits in ((x, 1), (np.kron(x, z), 2)):
        unitary = math.cos(angle / 2) * np.eye(2**qubits) - 1j * math.sin(angle / 2) * generator
        expected = 1 - average_fidelity([unitary])
        assert over_rotation_infidelity(np.array([angle]), qubits)[0] == pytest.approx(expected, abs=1e-12)


def relaxation_kraus(t1_us, t2_us, time_us):
    decay = 1 - math.exp(-time_us / t1_us)
    flip = (1 - math.exp(-time_us / t2_us + time_us / (2 * t1_us))) / 2
    damping = [np.diag([1, math.sqrt(1 - decay)]), np.array([[0, math.sqrt(decay)], [0, 0]])]
    phase = [math.sqrt(1 - flip) * np.eye(2), math.sqrt(flip) * np.diag([1, -1])]
    return [p @ d for p in phase for d in damping]


def test_relaxation_error_is_that_of_the_kraus_operators():
    parts = make_parts(2)
    t1_us, t2_us = np.array([90.0, 40.0]), np.array([120.0, 11.0])
    errors = dict(zip(parts.gates, relaxation_error(parts, t1_us, t2_us), strict=True))
    one = relaxation_kraus(40.0, 11.0, 0.036)
    assert errors["sx", (1,)] == pytest.approx(1 - average_fidelity(one), rel=1e-9)
    pair = [
        np.kron(a, b) for a in relaxation_kraus(90.0, 120.0, 0.44) for b in relaxation_kraus(40.0, 11.0, 0.44)
    ]
    assert errors["cx", (1, 0)] == pytest.approx(1 - average_fidelity(pair), rel=1e-9)
    assert errors["rz", (0,)] == 0


def test_a_shifted_threshold_trades_one_error_for_the_other():
    rng = np.random.default_rng(0)
    p10, p01 = 0.03, 0.01
    z0, z1 = -NormalDist().inv_cdf(p01), -NormalDist().inv_cdf(p10)
    ones, zeros = shifted_readout(np.array([p01]), np.array([p10]), np.array([0.3]))
    # Signal of 0 at 0 and of 1 at z0 + z1, threshold at z0 - 0.3.
    signals = rng.standard_normal(400_000)
    assert ones[0] == pytest.approx(np.mean(signals > z0 - 0.3), abs=5e-4)
    assert zeros[0] == pytest.approx(np.mean(signals + z0 + z1 < z0 - 0.3), abs=5e-4)
    assert ones[0] > p01
    assert zeros[0] < p10


def test_a_perfect_readout_stays_perfect():
    ones, zeros = shifted_readout(np.zeros(1), np.array([0.02]), np.array([0.5]))
    assert ones[0] == 0
    assert zeros[0] < 0.02


def test_expected_growth_is_the_mean_growth_over_devices():
    rates = PERTH_2023.scaled(2)
    growth = expected_growth(rates, WIDE_VALUES)
    device = ModelDrift(WIDE, WIDE_VALUES, 11, rates).true_device(DAY_S, never_calibrated(WIDE))
    for expected_per_s, seen in (
        (growth.one_qubit_per_s, over_rotation_infidelity(device.drive_rad, 1)),
        (growth.two_qubit_per_s, over_rotation_infidelity(device.coupling_rad, 2)),
    ):
        within(seen.mean(), expected_per_s * DAY_S, 1.1 * seen.std() / math.sqrt(MANY))
    # The readout's first-order change averages out over signs but is what scatters: compare antithetic pairs.
    shift = np.abs(np.random.default_rng(1).standard_normal(MANY)) * rates.threshold_per_sqrt_day
    plus = sum(shifted_readout(WIDE_VALUES.prob_meas1_prep0, WIDE_VALUES.prob_meas0_prep1, shift))
    minus = sum(shifted_readout(WIDE_VALUES.prob_meas1_prep0, WIDE_VALUES.prob_meas0_prep1, -shift))
    change = (plus + minus) / 4 - (0.015 + 0.022) / 2
    within(change.mean(), growth.readout_per_s * DAY_S, 1.1 * change.std() / math.sqrt(MANY))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"drive_rad_per_sqrt_day": -1.0}, "drive_rad_per_sqrt_day is -1.0"),
        ({"threshold_per_sqrt_day": math.nan}, "threshold_per_sqrt_day is nan"),
        ({"t1_day_correlation": 1.0}, "t1_day_correlation is 1.0"),
        ({"t2_day_correlation": 0.0}, "t2_day_correlation is 0.0"),
    ],
)
def test_rates_that_cannot_be_are_refused(change, words):
    figures = {name: getattr(PERTH_2023, name) for name in DriftRates.__slots__} | change
    with pytest.raises(ValueError, match=words):
        DriftRates(**figures)
