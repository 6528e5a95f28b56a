"""Zero-noise extrapolation against NumPy's own fits, closed forms and simulated repetitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efaas.primitives.extrapolation import exponential, extrapolate, linear

FACTORS = (1, 3, 5)
floats = st.floats(-2, 2, allow_nan=False)
sigmas = st.floats(1e-3, 0.5)


class TestLinear:
    @given(st.lists(floats, min_size=3, max_size=3), st.lists(sigmas, min_size=3, max_size=3))
    def test_it_is_numpys_weighted_fit_with_its_covariance(self, values, errors):
        oracle, covariance = np.polyfit(FACTORS, values, 1, w=1 / np.array(errors), cov="unscaled")
        value, error = linear(FACTORS, np.array(values), np.array(errors))
        assert value == pytest.approx(oracle[1], abs=1e-9)
        assert error == pytest.approx(np.sqrt(covariance[1, 1]), rel=1e-9)

    def test_each_element_is_fitted_by_itself(self):
        random = np.random.default_rng(1)
        values, errors = random.normal(size=(3, 2, 4)), random.uniform(0.1, 1, size=(3, 2, 4))
        value, error = linear(FACTORS, values, errors)
        assert value.shape == error.shape == (2, 4)
        for where in np.ndindex(2, 4):
            one, its_error = linear(FACTORS, values[:, *where], errors[:, *where])
            assert (value[where], error[where]) == (pytest.approx(one), pytest.approx(its_error))

    def test_what_needs_no_shot_stays_as_it_is(self):
        value, error = linear(FACTORS, np.full((3, 1), -0.7), np.zeros((3, 1)))
        assert value == pytest.approx([-0.7])
        assert error == [0.0]


class TestExponential:
    @given(st.floats(0.2, 2), st.floats(0.01, 0.4), st.floats(-1, 1), st.sampled_from([1.0, -1.0]))
    def test_a_decay_to_a_known_constant_is_found_exactly(self, amplitude, rate, asymptote, sign):
        values = asymptote + sign * amplitude * np.exp(-rate * np.array(FACTORS))
        value, _, fitted = exponential(FACTORS, values, np.full(3, 1e-6), asymptote)
        assert fitted
        assert value == pytest.approx(asymptote + sign * amplitude, abs=1e-6)

    def test_its_error_is_the_spread_over_repetitions(self):
        random = np.random.default_rng(3)
        sigma = np.full((3, 20_000), 0.01)
        truth = 0.9 * np.exp(-0.1 * np.array(FACTORS))[:, None]
        value, error, fitted = exponential(FACTORS, truth + sigma * random.normal(size=sigma.shape), sigma)
        assert fitted.all()
        assert value.std() == pytest.approx(error.mean(), rel=0.03)
        assert value.mean() == pytest.approx(0.9, abs=3e-3)

    @pytest.mark.parametrize(
        "values",
        [
            pytest.param([0.5, 0.1, -0.1], id="signs differ"),
            pytest.param([0.5, 0.2, 0.01], id="one is lost in its error"),
            pytest.param([0.0, 0.0, 0.0], id="nothing is left"),
        ],
    )
    def test_where_it_says_nothing_the_line_is_taken(self, values):
        errors = np.full(3, 0.02)
        value, error, fitted = exponential(FACTORS, np.array(values), errors)
        assert not fitted
        assert (value, error) == linear(FACTORS, np.array(values), errors)


def test_they_are_known_by_name():
    values, errors = np.exp(-0.1 * np.array(FACTORS)), np.full(3, 1e-4)
    assert extrapolate("linear", FACTORS, values, errors) == linear(FACTORS, values, errors)
    assert extrapolate("exponential", FACTORS, values, errors)[0] == pytest.approx(1.0)
