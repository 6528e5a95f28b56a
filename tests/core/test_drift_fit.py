"""The fit of the drift rates, on records made from known rates: it must find them again."""

import importlib.util
import math
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from efaas.core.drift import PERTH_2023
from efaas.devices import DriftingDevice, load_snapshot

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "fit_drift.py"
DAYS = 1000


@pytest.fixture(scope="module")
def fit_drift():
    spec = importlib.util.spec_from_file_location("fit_drift", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fit_drift"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["fit_drift"]


def series(fit_drift, values, carried_over=()):
    values = np.array(values)
    measured = 24.0 * np.arange(len(values))
    for day in carried_over:
        values[day], measured[day] = values[day - 1], measured[day - 1]
    new = np.diff(measured) > 1
    return fit_drift.Series(values, measured, new, np.ones(len(new), dtype=bool))


@pytest.fixture(scope="module")
def daily():
    """T1 and T2 of 16 qubits as read at the same hour of each day."""
    device = DriftingDevice.modelled(load_snapshot("guadalupe-16"), seed=11)
    times = [86_400.0 * day for day in range(20, 20 + DAYS)]
    states = [device.drift.true_device(now_s, device.record.calibrated_s).values for now_s in times]
    return np.array([state.t1_us for state in states]).T, np.array([state.t2_us for state in states]).T


def test_rates_of_t1_are_found_again(fit_drift, daily):
    deviation, correlation = fit_drift.coherence([series(fit_drift, values) for values in daily[0]])
    assert deviation == pytest.approx(PERTH_2023.t1_log_deviation, rel=0.04)
    assert correlation == pytest.approx(PERTH_2023.t1_day_correlation, abs=0.03)


def test_values_that_were_carried_over_do_not_spoil_them(fit_drift, daily):
    stale = range(3, DAYS, 4)
    items = [series(fit_drift, values, stale) for values in daily[0]]
    deviation, correlation = fit_drift.coherence(items)
    assert deviation == pytest.approx(PERTH_2023.t1_log_deviation, rel=0.05)
    assert correlation == pytest.approx(PERTH_2023.t1_day_correlation, abs=0.06)
    assert np.median(fit_drift.autocorrelations(items, fresh=False)) > correlation + 0.1, "which is why"


@pytest.mark.parametrize("deviation", [0.01, 0.2, 0.6])
def test_deviation_of_a_step_is_found_from_its_median(fit_drift, deviation):
    steps = deviation * np.random.default_rng(3).standard_normal(400_000)
    median = float(np.median(np.abs(np.expm1(steps))))
    assert fit_drift.deviation_of_step(median) == pytest.approx(deviation, rel=0.01)


def test_over_rotation_gives_the_median_step_back(fit_drift):
    # The error alternates between 1.0 and 1.2 percent: its median is 1.1 percent.
    item = series(fit_drift, np.tile([0.010, 0.012], 50))
    angles = fit_drift.over_rotation([item], 5) * np.random.default_rng(4).standard_normal(400_000)
    median_step = float(np.median(np.abs(item.values[1:] / item.values[:-1] - 1)))
    assert np.median(angles**2 / 5) == pytest.approx(median_step * 0.011, rel=0.02)


def test_chance_of_the_shots_is_taken_off_the_readout(fit_drift):
    rng, walk = np.random.default_rng(5), 0.05
    records, qubits, days = [], 7, 1500
    shift = rng.standard_normal((days, qubits)) * walk / math.sqrt(2)
    z = -NormalDist().inv_cdf(0.02)
    cross = np.vectorize(NormalDist().cdf)
    p10 = rng.binomial(5000, cross(-(z + shift))) / 5000
    p01 = rng.binomial(5000, cross(-(z - shift))) / 5000
    start = datetime(2023, 1, 1, tzinfo=UTC)
    for day in range(days):
        entries = [
            {
                "readout_error": (p10[day, q] + p01[day, q]) / 2,
                "prob_meas0_prep1": p10[day, q],
                "prob_meas1_prep0": p01[day, q],
                "age_h": {"readout": 0.0},
            }
            for q in range(qubits)
        ]
        records.append({"update_utc": (start + timedelta(days=day)).isoformat(), "qubits": entries})
    net, seen, by_chance = fit_drift.readout({"records": records, "n_qubits": qubits})
    assert net == pytest.approx(walk, rel=0.08)
    assert seen > 1.2 * net
    assert by_chance == pytest.approx(math.sqrt(seen**2 - net**2))
