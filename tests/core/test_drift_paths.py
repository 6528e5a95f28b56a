"""Random paths: their laws against closed forms, and that reading them is pure."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efaas.core.gauss_markov import BLOCK_S, LONGEST_S, GaussMarkovPaths, standard_normals

PATHS = 40_000
RATE = 1.5e-5
"""About one correlation time a day, as fitted devices have."""

PINNED = (-11.487201814930094, -204.33284690705722)

# Readings inside a second, inside a block, across the end of a block, and blocks apart.
SPANS = [
    (0, 60),
    (0, 86_400),
    (3600, 7200),
    (5, 10),
    (BLOCK_S - 50, BLOCK_S + 50),
    (BLOCK_S / 2, 3.25 * BLOCK_S),
    (86_400 * 100, 86_400 * 101),
]


def within(estimate, expected, deviation, sigmas=4.5):
    assert abs(estimate - expected) <= sigmas * deviation, (estimate, expected, deviation)


@pytest.fixture(scope="module")
def brownian():
    return GaussMarkovPaths.brownian("test", PATHS)


@pytest.fixture(scope="module")
def returning():
    return GaussMarkovPaths.ornstein_uhlenbeck("test", np.full(PATHS, RATE))


@pytest.mark.parametrize(("first", "second"), SPANS)
def test_brownian_steps_have_variance_of_their_length_and_do_not_know_the_past(brownian, first, second):
    before, after = brownian.at(first), brownian.at(second)
    step = (after - before) / math.sqrt(second - first)
    within(step.mean(), 0, 1 / math.sqrt(PATHS))
    within(step.var(), 1, math.sqrt(2 / PATHS))
    within((step**4).mean(), 3, math.sqrt(96 / PATHS))
    if first:
        within(np.mean(step * before) / math.sqrt(first), 0, 1 / math.sqrt(PATHS))


@pytest.mark.parametrize(("first", "second"), SPANS)
def test_returning_paths_have_the_closed_forms_of_variance_and_autocorrelation(returning, first, second):
    # Cov(X(s), X(t)) = exp(-k(t-s)) - exp(-k(t+s)) for X(0) = 0 and stationary deviation 1.
    before, after = returning.at(first), returning.at(second)
    variance = [-math.expm1(-2 * RATE * time) for time in (first, second)]
    covariance = math.exp(-RATE * (second - first)) - math.exp(-RATE * (second + first))
    within(after.var(), variance[1], variance[1] * math.sqrt(2 / PATHS))
    spread = math.sqrt((variance[0] * variance[1] + covariance**2) / PATHS)
    within(np.mean(before * after), covariance, spread + 1e-12)


def test_three_readings_are_markov(returning):
    # Given the middle, the outer two are independent: partial correlation 0.
    early, middle, late = (returning.at(time) for time in (300_000, 330_000, 380_000))
    kept = math.exp(-RATE * 50_000)
    rest = late - kept * middle
    within(np.mean(rest * early), 0, math.sqrt((1 - kept**2) / PATHS))


def test_steps_sum_whatever_the_mesh(brownian):
    times = np.linspace(1000, 90_000, 12)
    steps = [brownian.at(b) - brownian.at(a) for a, b in pairwise(times)]
    np.testing.assert_allclose(sum(steps), brownian.at(times[-1]) - brownian.at(times[0]), atol=1e-9)


def test_all_paths_start_at_nothing(brownian, returning):
    assert not brownian.at(0).any()
    assert not returning.at(0).any()


def test_between_two_seconds_the_path_is_straight(brownian):
    a, b = brownian.at(777_777), brownian.at(777_778)
    np.testing.assert_allclose(brownian.at(777_777.25), 0.75 * a + 0.25 * b, atol=1e-9)


times = st.floats(0, 3e7) | st.integers(0, 30_000_000).map(float)


@settings(deadline=None, max_examples=25)
@given(st.lists(times, min_size=1, max_size=8), st.randoms())
def test_a_reading_does_not_depend_on_other_readings(moments, random):
    for make in (
        lambda: GaussMarkovPaths.brownian("x", 5),
        lambda: GaussMarkovPaths.ornstein_uhlenbeck("x", np.array([1e-6, 1e-5, 1e-4, 1e-3, 1.0])),
    ):
        alone = [make().at(moment) for moment in moments]
        shared = make()
        order = list(range(len(moments))) * 2
        random.shuffle(order)
        for index in order:
            np.testing.assert_array_equal(shared.at(moments[index]), alone[index])


def test_what_is_returned_may_be_changed_without_harm():
    paths = GaussMarkovPaths.brownian("x", 3)
    for moment in (0.0, 4096.0, float(BLOCK_S), 12_345.0, 12_345.5):
        value = paths.at(moment)
        kept = value.copy()
        value += 1
        np.testing.assert_array_equal(paths.at(moment), kept)


def test_keys_name_independent_bundles(brownian):
    other = GaussMarkovPaths.brownian("another", PATHS).at(86_400) / math.sqrt(86_400)
    within(np.mean(other * brownian.at(86_400) / math.sqrt(86_400)), 0, 1 / math.sqrt(PATHS))


def test_values_are_the_same_in_every_process():
    # Pinned: a restarted server must find the device as it left it.
    value = GaussMarkovPaths.brownian("pinned", 2).at(100_000)
    np.testing.assert_allclose(value, PINNED, rtol=1e-12)


@pytest.mark.parametrize("moment", [-1.0, math.nan, math.inf, LONGEST_S * 1.01])
def test_moments_outside_the_range_are_refused(moment):
    with pytest.raises(ValueError, match="hundred years"):
        GaussMarkovPaths.brownian("x", 1).at(moment)


def test_normal_numbers_are_normal_and_a_function_of_key_and_counter():
    numbers = standard_normals(5, 7 << 64, 100_001)
    assert len(numbers) == 100_001
    within(numbers.mean(), 0, 1 / math.sqrt(100_001))
    within(numbers.var(), 1, math.sqrt(2 / 100_001))
    # Tails: two in a thousand beyond 3.0902.
    within((abs(numbers) > 3.0902).mean(), 0.002, math.sqrt(0.002 / 100_001))
    np.testing.assert_array_equal(numbers[:3], standard_normals(5, 7 << 64, 100_001)[:3])
    assert not np.array_equal(numbers[:3], standard_normals(5, 8 << 64, 100_001)[:3])
    assert not np.array_equal(numbers[:3], standard_normals(6, 7 << 64, 100_001)[:3])
