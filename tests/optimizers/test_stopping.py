"""The stopping rule against a definition written without its bookkeeping."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efaas.api.session import Stop
from efaas.errors import InputError, ManifestError
from efaas.optimizers import Ask, BestSeen, Estimate, StoppingRule, StopReason, Tell

VALUES = st.lists(st.integers(-20, 20).map(lambda n: n / 4), min_size=1, max_size=60)


def observed(rule, iterations, value, duration_s=0.0, qpu_time_s=0.0):
    return rule.observe(iterations=iterations, value=value, duration_s=duration_s, qpu_time_s=qpu_time_s)


def expected_stop(values, most, tolerance, window):
    """First (iteration, reason), by looking at all values anew each time; iteration k has values[:k]."""
    for k in range(1, len(values) + 1):
        if k >= most:
            return k, StopReason.MAX_ITERATIONS
        if tolerance is not None and k > window and min(values[: k - window]) - min(values[:k]) < tolerance:
            return k, StopReason.TOLERANCE
    return None


@given(
    values=VALUES,
    most=st.integers(1, 80),
    tolerance=st.none() | st.sampled_from([0.2, 0.5, 2.0]),
    window=st.integers(1, 20),
    cut=st.integers(0, 60),
)
def test_it_stops_where_the_definition_says_also_after_a_restart(values, most, tolerance, window, cut):
    def fresh():
        return StoppingRule(max_iterations=most, tolerance=tolerance, window=window)

    rule, stop = fresh(), None
    for k, value in enumerate(values, start=1):
        if k == cut:
            state = json.loads(json.dumps(rule.state()))
            rule = fresh()
            rule.restore(state)
            assert json.loads(json.dumps(rule.state())) == state
        reason = observed(rule, k, value)
        if reason is not None:
            stop = (k, reason)
            break
    assert stop == expected_stop(values, most, tolerance, window)


@given(values=VALUES, repeats=st.lists(st.integers(1, 3), min_size=60, max_size=60), window=st.integers(1, 9))
def test_several_observations_of_one_iteration_count_as_their_best(values, repeats, window):
    once = StoppingRule(max_iterations=100, tolerance=0.3, window=window)
    often = StoppingRule(max_iterations=100, tolerance=0.3, window=window)
    for k, value in enumerate(values, start=1):
        for extra in range(1, repeats[k - 1]):
            # Worse values, and none at all, change nothing; the state is that of the best so far.
            often.observe(iterations=k, value=max(value, 5.0) + extra, duration_s=0, qpu_time_s=0)
            often.observe(iterations=k, value=None, duration_s=0, qpu_time_s=0)
            if often.reason is not None:
                break
        if often.reason is not None:
            break
        assert observed(once, k, value) == observed(often, k, value)
        if once.reason is not None:
            break
        assert once.state() == often.state()


@pytest.mark.parametrize(
    ("duration_s", "qpu_time_s", "reason"),
    [
        (59.9, 9.9, None),
        (60.0, 0.0, StopReason.MAX_DURATION),
        (0.0, 10.0, StopReason.MAX_QPU_TIME),
        (99.0, 99.0, StopReason.MAX_DURATION),
    ],
)
def test_times_are_limits(duration_s, qpu_time_s, reason):
    rule = StoppingRule(max_iterations=5, max_duration_s=60.0, max_qpu_time_s=10.0)
    assert observed(rule, 1, -1.0, duration_s, qpu_time_s) == reason
    assert bool(rule.explain()) == (reason is not None)


def test_a_reason_stays():
    rule = StoppingRule(max_iterations=3)
    assert observed(rule, 3, -1.0) == StopReason.MAX_ITERATIONS
    assert observed(rule, 1, None) == StopReason.MAX_ITERATIONS
    assert rule.explain() == "3 iterations are done"


@pytest.mark.parametrize(("iterations", "value"), [(4, 0.0), (5, float("nan"))])
def test_what_cannot_be_is_refused_and_changes_nothing(iterations, value):
    rule = StoppingRule(max_iterations=30, tolerance=0.1)
    observed(rule, 5, -1.0)
    before = rule.state()
    with pytest.raises(ValueError, match=r"iterations|value"):
        observed(rule, iterations, value)
    assert rule.state() == before


def test_the_bookkeeping_stays_within_the_window():
    rule = StoppingRule(max_iterations=10**6, tolerance=1e-9, window=10)
    for k in range(500):
        assert observed(rule, k, -float(k)) is None
    assert len(rule.state()["bests"]) == 11


def test_the_specification_is_taken_over():
    rule = StoppingRule.from_spec(
        Stop.model_validate(
            {
                "maxIterations": 7,
                "tolerance": "1e-3",
                "window": 4,
                "maxDuration": "1h30m",
                "maxQpuTime": "250ms",
            }
        )
    )
    assert (rule.max_iterations, rule.tolerance, rule.window) == (7, 1e-3, 4)
    assert rule.max_duration_s == timedelta(hours=1.5).total_seconds()
    assert rule.max_qpu_time_s == 0.25
    assert StoppingRule.from_spec(Stop()).max_duration_s is None


def test_a_duration_of_zero_is_a_limit():
    rule = StoppingRule.from_spec(Stop.model_validate({"maxDuration": "0s"}))
    assert observed(rule, 0, None) == StopReason.MAX_DURATION


@pytest.mark.parametrize("tolerance", ["0", "-1", "1e200"])
def test_a_tolerance_that_is_none_is_refused(tolerance):
    with pytest.raises(ManifestError, match=r"spec\.stop\.tolerance: is .* must be above 0"):
        StoppingRule.from_spec(Stop.model_validate({"tolerance": tolerance}))


@pytest.mark.parametrize("state", [{}, {"bests": [[1]], "reason": None}, {"bests": [], "reason": "Bored"}])
def test_a_damaged_state_is_refused(state):
    with pytest.raises(InputError, match="stopping state"):
        StoppingRule(max_iterations=1).restore(state)


@given(values=st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=20), cut=st.integers(0, 20))
def test_the_best_seen_is_the_first_of_the_lowest(values, cut):
    best = BestSeen()
    for k, value in enumerate(values):
        if k == cut:
            best = BestSeen.from_state(json.loads(json.dumps(best.state())))
        improved = best.see(Estimate(np.array([value, k]), value, 0.1), k)
        assert improved == (k == 0 or value < min(values[:k]))
    assert best.iteration == int(np.argmin(values))
    assert best.estimate is not None
    assert best.estimate.point.tolist() == [min(values), best.iteration]


def test_the_best_seen_looks_into_a_batch():
    best = BestSeen()
    asked = Ask(4, np.array([[0.1], [0.2], [0.3]]))
    assert best.see_told(asked, Tell(np.array([1.0, -2.0, 0.0]), np.array([0.1, 0.2, 0.3])))
    assert best.estimate is not None
    assert (best.iteration, best.estimate.value, best.estimate.std_error) == (4, -2.0, 0.2)
    assert best.estimate.point.tolist() == [0.2]
    assert not best.see_told(Ask(5, np.empty((0, 1))), Tell(np.empty(0), np.empty(0)))
    assert not best.see(None, 6)
