"""Methods that know the shape of a rotation: exact gradients and exact jumps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efaas.optimizers import Tell
from efaas.optimizers.adam import Adam
from efaas.optimizers.rotosolve import Rotosolve


def told(optimizer, function, std_error=0.0):
    asked = optimizer.ask()
    values = np.array([function(point) for point in asked.points])
    optimizer.tell(Tell(values, np.full(values.size, std_error)))
    return asked


def test_adam_asks_its_point_and_a_quarter_turn_each_way():
    here = np.array([0.1, -0.7])
    first, second = np.array([math.pi / 2, 0]), np.array([0, math.pi / 2])
    expected = [here, here + first, here + second, here - first, here - second]
    assert np.allclose(Adam(here).ask().points, expected)


def test_adams_first_steps_are_those_of_the_paper():
    weights = np.array([1.0, 0.3, -2.0])

    def function(x):
        return float(weights @ np.sin(x))

    rate, beta1, beta2 = 0.1, 0.9, 0.99
    optimizer = Adam(np.array([0.2, 1.0, -0.4]), learning_rate=rate, beta1=beta1, beta2=beta2)
    x = np.array([0.2, 1.0, -0.4])
    gradients = []
    for t in range(1, 7):
        gradients.append(weights * np.cos(x))
        # Algorithm 1 with its moving averages written out as sums.
        powers = np.arange(t)[::-1]
        mean = (1 - beta1) * (beta1**powers) @ np.array(gradients) / (1 - beta1**t)
        square = (1 - beta2) * (beta2**powers) @ np.array(gradients) ** 2 / (1 - beta2**t)
        told(optimizer, function)
        assert optimizer.estimate.value == pytest.approx(function(x), abs=1e-12)
        x = x - rate * mean / (np.sqrt(square) + 1e-8)
        assert np.allclose(optimizer.point, x, atol=1e-12)
    first = Adam(np.array([0.2, 1.0, -0.4]), learning_rate=rate)
    told(first, function)
    assert np.allclose(first.point - [0.2, 1.0, -0.4], -rate * np.sign(gradients[0]), atol=1e-6)


@given(
    amplitude=st.floats(0.01, 10),
    phase=st.floats(-math.pi, math.pi),
    offset=st.floats(-5, 5),
    start=st.floats(-9, 9),
)
def test_rotosolve_jumps_to_the_minimum_of_any_sinusoid(amplitude, phase, offset, start):
    def function(x):
        return offset + amplitude * math.sin(x[0] + phase)

    optimizer = Rotosolve(np.array([start]))
    told(optimizer, function)
    assert function(optimizer.point) == pytest.approx(offset - amplitude, abs=1e-9)
    assert optimizer.estimate.value == pytest.approx(offset - amplitude, abs=1e-9)
    assert abs(optimizer.point[0] - start) <= math.pi + 1e-9


def test_rotosolve_takes_parameters_in_turn_and_stays_exact_between_resets(vqe):
    optimizer = Rotosolve(np.array([0.4, -0.3, 0.2, 0.1]), reset_interval=5)
    sizes = []
    for k in range(12):
        before = optimizer.point
        sizes.append(len(told(optimizer, vqe.energy).points))
        assert set(np.flatnonzero(optimizer.point != before)) <= {k % 4}
        # What it believes without measuring is what is there.
        assert optimizer.estimate.value == pytest.approx(vqe.energy(optimizer.point), abs=1e-12)
        assert np.array_equal(optimizer.estimate.point, optimizer.point)
    assert sizes == [3, 2, 2, 2, 2, 3, 2, 2, 2, 2, 3, 2]


def test_rotosolve_leaves_a_parameter_without_influence_where_it_is():
    optimizer = Rotosolve(np.array([0.3, 0.5]))
    told(optimizer, lambda x: 2.0)
    assert optimizer.point.tolist() == [0.3, 0.5]


def test_the_error_of_rotosolves_estimate_is_that_of_many_repetitions():
    random = np.random.default_rng(0)
    sigma = 0.01
    found, claimed = [], []
    for _ in range(2000):
        optimizer = Rotosolve(np.array([0.3]))
        told(optimizer, lambda x: math.sin(x[0] + 0.4) + sigma * random.standard_normal(), sigma)
        found.append(optimizer.estimate.value)
        claimed.append(optimizer.estimate.std_error)
    assert np.mean(claimed) == pytest.approx(np.std(found), rel=0.06)
