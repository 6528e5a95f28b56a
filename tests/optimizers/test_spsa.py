"""SPSA's gains, calibration, directions and averages against Spall's formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efaas.optimizers import Tell
from efaas.optimizers.spsa import FIRST_STEP, QnSpsa, Spsa


def tell(optimizer, *values):
    optimizer.tell(Tell(np.array(values), np.zeros(len(values))))


@given(a=st.floats(0.01, 10), c=st.floats(0.01, 1), k=st.integers(0, 10_000))
def test_gains_are_spalls(a, c, k):
    step, width = Spsa(np.zeros(2), 0, learning_rate=a, perturbation=c).gains(k)
    assert step == pytest.approx(a / (10 + k + 1) ** 0.602)
    assert width == pytest.approx(c / (k + 1) ** 0.101)


def test_an_update_is_spalls():
    optimizer = Spsa(np.array([1.0, -2.0, 0.5]), 9, learning_rate=0.3, perturbation=0.2)
    point = np.array([1.0, -2.0, 0.5])
    for k in range(5):
        asked = optimizer.ask()
        assert asked.points.shape == (2, 3)
        width = 0.2 / (k + 1) ** 0.101
        delta = (asked.points[0] - point) / width
        assert np.allclose(np.abs(delta), 1)
        assert np.allclose(asked.points[1], point - width * delta)
        up, down = 1.0 + k, -0.5 * k
        tell(optimizer, up, down)
        point = point - 0.3 / (10 + k + 1) ** 0.602 * (up - down) / (2 * width) / delta
        assert np.allclose(optimizer.point, point, atol=1e-12)
        assert optimizer.estimate.value == (up + down) / 2


def test_calibration_is_one_batch_and_sets_the_first_step():
    optimizer = Spsa(np.zeros(4), 3, perturbation=0.1, calibration_steps=6)
    slope = np.array([1.0, -3.0, 0.5, 2.0])
    asked = optimizer.ask()
    assert asked.points.shape == (12, 4)
    assert asked.iteration == 0
    assert np.allclose(np.abs(asked.points), 0.1)
    assert np.allclose(asked.points[0::2], -asked.points[1::2])
    tell(optimizer, *(asked.points @ slope))
    assert optimizer.iteration == 0
    assert np.array_equal(optimizer.point, np.zeros(4))
    mean_slope = np.mean(np.abs(asked.points[0::2] @ slope)) / 0.1

    asked = optimizer.ask()
    assert asked.points.shape == (2, 4)
    tell(optimizer, *(asked.points @ slope))
    seen = abs((asked.points[0] @ slope) / 0.1)
    assert np.allclose(np.abs(optimizer.point), FIRST_STEP * seen / mean_slope)


def test_the_next_direction_is_known_before_the_result():
    for optimizer in (
        Spsa(np.zeros(5), 1, learning_rate=0.2),
        Spsa(np.zeros(5), 1, calibration_steps=2),
        QnSpsa(np.zeros(5), 1),
    ):
        for value in (0.3, -0.2, 0.9):
            announced = optimizer.next_direction()
            asked = optimizer.ask()
            count = len(asked.points)
            values = value * np.arange(count)
            optimizer.tell(Tell(values, np.zeros(count), np.ones(len(asked.overlaps))))
            following = optimizer.ask().points
            assert np.allclose((following[0] - following[1]) / np.ptp(following[:, 0]), announced)


@given(
    here=st.lists(st.floats(-3, 3), min_size=1, max_size=5),
    values=st.tuples(st.floats(-5, 5), st.floats(-5, 5)),
    fidelities=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    seed=st.integers(0, 99),
)
def test_the_next_points_lie_on_the_line_that_is_known(here, values, fidelities, seed):
    for optimizer, width in (
        (Spsa(np.array(here), seed, learning_rate=0.3, perturbation=0.2), 0.2),
        (QnSpsa(np.array(here), seed, perturbation=0.2), 0.2),
    ):
        overlaps = np.array(fidelities[: len(optimizer.ask().overlaps)])
        before = optimizer.state()
        outlook = optimizer.outlook(overlaps if overlaps.size else None)
        assert optimizer.state() == before
        slope = np.clip((values[0] - values[1]) / (2 * width), -outlook.bound, outlook.bound)
        optimizer.tell(Tell(np.array(values), np.zeros(2), overlaps))
        following, foreseen = optimizer.ask(), outlook.at(slope)
        assert following.iteration == foreseen.iteration == 1
        assert np.allclose(following.points, foreseen.points, rtol=0, atol=1e-9)
        assert np.allclose(following.overlaps, foreseen.overlaps, rtol=0, atol=1e-9)


@given(
    values=st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
    fidelities=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    seed=st.integers(0, 99),
)
def test_a_step_that_is_cut_is_one_of_two_to_the_bit(values, fidelities, seed):
    optimizer, overlaps = QnSpsa(np.array([0.3, -0.4, 0.1]), seed, learning_rate=0.3), np.array(fidelities)
    outlook, guesses = optimizer.outlook(overlaps), optimizer.branches(overlaps)
    candidates = [optimizer.preview(guess).points.tolist() for guess in guesses]
    assert optimizer.branches() == []
    optimizer.tell(Tell(np.array(values), np.zeros(2), overlaps))
    if abs(values[0] - values[1]) / 0.2 >= outlook.bound:
        assert optimizer.ask().points.tolist() in candidates


def test_what_follows_the_calibration_does_not_depend_on_it():
    optimizer = Spsa(np.array([0.2, 0.4]), 5, calibration_steps=3)
    (guess,) = optimizer.branches()
    candidate = optimizer.preview(guess)
    tell(optimizer, *np.linspace(-1, 4, 6))
    assert optimizer.ask().points.tolist() == candidate.points.tolist()
    assert optimizer.branches() == []


def test_directions_are_fair_and_independent():
    optimizer = Spsa(np.zeros(70), 12, learning_rate=1.0)
    directions = np.array([optimizer.direction(k) for k in range(2000)])
    assert set(np.unique(directions)) == {-1.0, 1.0}
    # Means of 2000 fair signs have a standard deviation of 0.022; the largest of 2485 stays below 5 of them.
    correlation = directions.T @ directions / 2000
    assert np.abs(directions.mean(axis=0)).max() < 0.11
    assert np.abs(correlation - np.eye(70)).max() < 0.11
    assert not np.array_equal(
        directions, [Spsa(np.zeros(70), 13, learning_rate=1.0).direction(k) for k in range(2000)]
    )


def test_the_final_point_averages_the_last_iterates():
    plain = Spsa(np.zeros(3), 2, learning_rate=0.5)
    averaged = Spsa(np.zeros(3), 2, learning_rate=0.5, last_average=3)
    iterates = [np.zeros(3)]
    for k in range(6):
        assert np.array_equal(plain.ask().points, averaged.ask().points), "averaging is for the end only"
        tell(plain, math.sin(k), math.cos(k))
        tell(averaged, math.sin(k), math.cos(k))
        iterates.append(plain.point)
        assert np.allclose(averaged.point, np.mean(iterates[-3:], axis=0))


def test_the_estimate_carries_the_error_of_a_mean():
    optimizer = Spsa(np.zeros(2), 0, learning_rate=0.1)
    optimizer.ask()
    optimizer.tell(Tell(np.array([1.0, 3.0]), np.array([0.3, 0.4])))
    assert optimizer.estimate.value == 2.0
    assert optimizer.estimate.std_error == pytest.approx(0.25)


def test_gains_before_calibration_are_refused():
    with pytest.raises(RuntimeError, match="calibration"):
        Spsa(np.zeros(2), 0).gains(0)


def test_qn_spsa_asks_four_fidelities_around_the_point():
    here = np.array([0.2, -0.1, 0.4])
    asked = QnSpsa(here, 4, perturbation=0.1).ask()
    assert asked.points.shape == (2, 3)
    assert asked.overlaps.shape == (4, 2, 3)
    assert np.all(asked.overlaps[:, 0] == here)
    both, first, second_back, back = asked.overlaps[:, 1] - here
    assert np.allclose(first, -back)
    assert np.allclose(both - first, second_back + first)
    assert np.allclose(np.abs(both - first), 0.1)


def test_qn_spsa_divides_by_the_metric():
    """One parameter: fidelity cos^2(t / 2) gives g = 1/4 up to the square of the perturbation."""
    optimizer = QnSpsa(np.array([0.3]), 4, learning_rate=0.001, perturbation=0.01, regularization=0.01)
    asked = optimizer.ask()
    steps = asked.overlaps[:, 1, 0] - asked.overlaps[:, 0, 0]
    optimizer.tell(Tell(2.0 * asked.points[:, 0], np.zeros(2), np.cos(steps / 2) ** 2))
    metric = 0.5 * 1 + 0.5 * 0.25
    assert optimizer.metric[0, 0] == pytest.approx(metric, abs=1e-3)
    assert optimizer.point[0] == pytest.approx(0.3 - 0.001 * 2.0 / (metric + 0.01), abs=1e-5)
