"""A scan hands out its asks ahead, takes answers in any order, and covers its box evenly."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efaas.optimizers import Tell, restore_optimizer
from efaas.optimizers.scan import Scan

CENTRE = np.array([0.5, -1.0])


def value(points):
    return np.round(np.sum(np.cos(points), axis=1), 1)  # rounded, so that there are ties


def answers(asked):
    return Tell(value(asked.points), np.zeros(len(asked.points)))


@given(order=st.permutations(range(8)), cut=st.integers(0, 8), seed=st.integers(0, 2**63 - 1))
def test_the_order_of_answers_does_not_matter(order, cut, seed):
    straight = Scan(CENTRE, seed, points=23, points_per_job=3)
    while straight.finished is None:
        straight.tell(answers(straight.ask()))

    scan = Scan(CENTRE, seed, points=23, points_per_job=3)
    asks = scan.asks()
    for told, number in enumerate(order):
        if told == cut:
            scan = restore_optimizer(json.loads(json.dumps(scan.state())))
            assert [ask.iteration for ask in scan.asks()] == sorted(set(range(8)) - set(order[:told]))
        assert scan.finished is None
        scan.tell_ask(number, answers(asks[number]))
        assert scan.iteration == told + 1
    assert scan.finished == "all 23 points are evaluated"
    assert scan.state() == straight.state()
    assert scan.asks() == []


def test_asks_are_the_same_together_and_one_by_one():
    scan = Scan(CENTRE, 3, points=10, points_per_job=4)
    together = scan.asks()
    assert [len(ask.points) for ask in together] == [4, 4, 2]
    assert len(scan.asks(2)) == 2
    for expected in together:
        asked = scan.ask()
        assert asked.iteration == expected.iteration
        assert np.array_equal(asked.points, expected.points)
        scan.tell(answers(asked))


def test_points_are_uniform_in_the_box():
    (ask,) = Scan(CENTRE, 8, points=20_000, points_per_job=20_000, radius=0.5).asks()
    scaled = (ask.points - CENTRE) / 0.5
    assert np.abs(scaled).max() <= 1
    # Mean 0, variance 1/3, no correlation; 20 000 draws know these to about 0.006.
    assert np.allclose(scaled.mean(axis=0), 0, atol=0.02)
    assert np.allclose(np.cov(scaled.T), np.eye(2) / 3, atol=0.02)


def test_a_scan_of_a_million_points_is_not_held_in_memory():
    scan = Scan(np.zeros(50), 1, points=1_000_000)
    assert scan.total_asks == 1_000_000
    assert [ask.iteration for ask in scan.asks(3)] == [0, 1, 2]
    assert len(json.dumps(scan.state())) < 4000


@pytest.mark.parametrize("number", [-1, 0, 2, 4, 99])
def test_telling_what_is_told_or_was_never_asked_is_refused(number):
    scan = Scan(CENTRE, 3, points=4)
    asks = scan.asks()
    scan.tell_ask(0, answers(asks[0]))
    scan.tell_ask(2, answers(asks[2]))
    before = scan.state()
    with pytest.raises(ValueError, match="told already or beyond"):
        scan.tell_ask(number, answers(asks[0]))
    assert scan.state() == before


def test_the_point_is_the_best_of_all():
    scan = Scan(CENTRE, 5, points=60, points_per_job=7)
    points = np.concatenate([ask.points for ask in scan.asks()])
    while scan.finished is None:
        asked = scan.ask()
        scan.tell(Tell(np.sum(asked.points, axis=1), np.zeros(len(asked.points))))
    assert np.array_equal(scan.point, points[np.argmin(points.sum(axis=1))])
    assert scan.estimate.value == points.sum(axis=1).min()
