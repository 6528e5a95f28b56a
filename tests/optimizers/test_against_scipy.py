"""SciPy as the oracle: Nelder-Mead walks through the same vertices, COBYLA and Powell are SciPy's own."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref

import numpy as np
import pytest
from scipy.optimize import minimize

from efaas.optimizers import Tell, nelder_mead, restore_optimizer
from efaas.optimizers.nelder_mead import NelderMead
from efaas.optimizers.scipy_methods import Cobyla, Powell


def bumpy(x):
    """No symmetry, so no two values are equal; every branch of Nelder-Mead is taken on the way down."""
    weights = np.linspace(0.7, 1.9, x.size)
    return float(np.sum(weights * np.sin(x + 0.3)) + 0.2 * np.prod(np.cos(0.7 * x)) + 0.05 * np.sum(x**2))


def told(optimizer, function):
    """Run to the end; the points in their order."""
    points = []
    while optimizer.finished is None:
        asked = optimizer.ask()
        points += list(asked.points)
        values = np.array([function(point) for point in asked.points])
        optimizer.tell(Tell(values, np.zeros(values.size)))
    return np.array(points)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("size", [2, 3, 5, 8])
@pytest.mark.parametrize("seed", [0, 1])
def test_nelder_mead_visits_the_vertices_that_scipy_visits(monkeypatch, size, adaptive, seed):
    # Stops while no two values are equal: SciPy's sort does not say which of two equals is first.
    monkeypatch.setattr(nelder_mead, "SMALLEST_SIMPLEX", 1e-4)
    initial = np.random.default_rng(seed).uniform(-2, 2, size)
    visited = []
    simplex = np.vstack([initial, initial + 0.5 * np.eye(size)])
    result = minimize(
        lambda x: visited.append(x.copy()) or bumpy(x),
        initial,
        method="Nelder-Mead",
        options={
            "initial_simplex": simplex,
            "adaptive": adaptive,
            "xatol": 1e-4,
            "fatol": np.inf,
            "maxiter": 10**6,
            "maxfev": 10**6,
        },
    )
    optimizer = NelderMead(initial, step_size=0.5, adaptive=adaptive)
    points = told(optimizer, bumpy)
    # The centroid is summed exactly here and in the vertices' order there: their last bits differ.
    assert points.shape == np.shape(visited)
    assert np.allclose(points, visited, rtol=0, atol=1e-9)
    assert np.allclose(optimizer.point, result.x, rtol=0, atol=1e-9)
    assert optimizer.estimate.value == pytest.approx(result.fun, abs=1e-9)
    # SciPy counts the first simplex as its iteration 1 as well.
    assert optimizer.iteration == result.nit


def test_nelder_mead_asks_the_first_simplex_and_a_shrink_as_one_batch():
    optimizer = NelderMead(np.zeros(3), adaptive=False)
    assert optimizer.ask().points.shape == (4, 3)
    sizes = []
    # Values that only rise: nothing is accepted, so every iteration ends in a shrink.
    rising = itertools.count(1.0)
    for _ in range(7):
        asked = optimizer.ask()
        sizes.append(len(asked.points))
        values = np.array([next(rising) for _ in asked.points])
        optimizer.tell(Tell(values, np.zeros(values.size)))
    assert sizes == [4, 1, 1, 3, 1, 1, 3]
    assert optimizer.iteration == 3
    assert np.array_equal(optimizer.point, np.zeros(3))


@pytest.mark.parametrize("size", [1, 2, 4, 7])
@pytest.mark.parametrize("seed", [0, 1])
def test_cobyla_is_scipys(size, seed):
    initial = np.random.default_rng(seed).uniform(-1, 1, size)
    visited = []
    result = minimize(
        lambda x: visited.append(np.array(x)) or bumpy(x),
        initial,
        method="COBYLA",
        options={"rhobeg": 0.5, "tol": 1e-4, "maxiter": 10_000},
    )
    optimizer = Cobyla(initial)
    assert np.array_equal(told(optimizer, bumpy), visited)
    assert np.array_equal(optimizer.point, result.x)
    assert optimizer.iteration == result.nfev


@pytest.mark.parametrize("size", [1, 2, 4, 7])
@pytest.mark.parametrize("seed", [0, 1])
def test_powell_is_scipys(size, seed):
    initial = np.random.default_rng(seed).uniform(-1, 1, size)
    visited = []
    result = minimize(
        lambda x: visited.append(np.array(x)) or bumpy(x),
        initial,
        method="Powell",
        options={"xtol": 1e-4},
    )
    optimizer = Powell(initial)
    assert np.array_equal(told(optimizer, bumpy), visited)
    assert np.array_equal(optimizer.point, np.atleast_1d(result.x))
    assert optimizer.iteration == result.nfev


@pytest.mark.parametrize("kind", [Cobyla, Powell])
def test_a_finished_method_stays_finished_without_another_run(kind):
    optimizer = kind(np.array([0.3, -0.2]))
    told(optimizer, bumpy)
    before = threading.active_count()
    restored = restore_optimizer(optimizer.state())
    assert restored.finished == optimizer.finished
    assert np.array_equal(restored.point, optimizer.point)
    assert threading.active_count() == before
    with pytest.raises(RuntimeError, match="nothing is left to ask"):
        restored.ask()


def minimisers():
    return [thread for thread in threading.enumerate() if thread.name == "efaas-minimiser"]


@pytest.mark.parametrize("kind", [Cobyla, Powell])
def test_no_thread_outlives_its_optimizer(kind):
    gc.collect()
    others = minimisers()
    optimizer = kind(np.zeros(3))
    assert minimisers() == others, "nothing runs before the first question"
    optimizer.ask()
    (thread,) = set(minimisers()) - set(others)
    gone = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert gone() is None
    assert not thread.is_alive()


@pytest.mark.parametrize("kind", [Cobyla, Powell])
def test_previews_start_no_thread_that_stays(kind):
    gc.collect()
    others = len(minimisers())
    optimizer = kind(np.zeros(3))
    for value in (0.1, 0.2, 0.3):
        optimizer.preview(Tell(np.array([value]), np.zeros(1)))
    assert len(minimisers()) == others + 1
    optimizer.close()
    assert len(minimisers()) == others


@pytest.mark.parametrize("kind", [Cobyla, Powell])
def test_a_closed_method_goes_on_when_it_is_asked_again(kind):
    initial = np.array([0.4, 0.1, -0.3])
    straight, interrupted = kind(initial), kind(initial)
    expected = told(straight, bumpy)
    points = []
    while interrupted.finished is None:
        points += list(interrupted.ask().points)
        interrupted.close()
        interrupted.close()
        interrupted.tell(Tell(np.array([bumpy(points[-1])]), np.zeros(1)))
        if len(points) > 25:
            break
    assert np.array_equal(points, expected[: len(points)])


def test_a_minimiser_that_fails_ends_with_the_best_point_and_a_reason(monkeypatch):
    def failing(self):
        def minimise(objective):
            objective(np.array([1.0, 2.0]))
            raise ZeroDivisionError("by design")

        return minimise

    monkeypatch.setattr(Powell, "_minimiser", failing)
    optimizer = Powell(np.array([0.0, 0.0]))
    optimizer.tell(Tell(np.array([-3.0]), np.array([0.1])))
    assert optimizer.finished == "powell: failed: ZeroDivisionError: by design"
    assert optimizer.point.tolist() == [1.0, 2.0]


def test_a_minimiser_that_runs_off_to_infinity_is_stopped(monkeypatch):
    def running_off(self):
        def minimise(objective):
            objective(np.array([np.inf]))
            return np.zeros(1), "never"

        return minimise

    monkeypatch.setattr(Cobyla, "_minimiser", running_off)
    assert "not finite" in Cobyla(np.zeros(1)).finished
