"""CMA-ES equals the loop that the `cma` package itself runs, and keeps its hands off global state."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

from efaas.optimizers import Tell, restore_optimizer
from efaas.optimizers.asktell import generator
from efaas.optimizers.cma_es import CmaEs


def bowl(x):
    return float(np.sum(np.arange(1, x.size + 1) * (1 - np.cos(x - 0.2))))


class OwnNumbers:
    """Normal numbers of the same seed, made by the test."""

    def __init__(self, seed):
        self.source = generator(seed, 0)

    def __call__(self, *shape):
        return self.source.standard_normal(shape)


@pytest.mark.parametrize("size", [2, 5])
@pytest.mark.parametrize("population", [None, 9])
def test_it_is_the_loop_of_the_package(size, population):
    import cma

    seed, initial = 7, np.linspace(-1, 1, size)
    visited = []
    options = {"randn": OwnNumbers(seed), "seed": np.nan, "verbose": -9, "verb_log": 0}
    if population:
        options["popsize"] = population
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, strategy = cma.fmin2(lambda x: visited.append(np.array(x)) or bowl(x), initial, 0.5, options)

    optimizer = CmaEs(initial, seed, step_size=0.5, population=population)
    points = []
    while optimizer.finished is None:
        asked = optimizer.ask()
        points += list(asked.points)
        values = np.array([bowl(point) for point in asked.points])
        optimizer.tell(Tell(values, np.zeros(values.size)))
    # fmin2 ends with an evaluation of its own at the mean.
    assert np.array_equal(points, visited[: len(points)])
    assert len(visited) - len(points) <= 1
    assert np.array_equal(optimizer.point, strategy.result.xfavorite)
    assert optimizer.iteration == strategy.countiter
    assert set(strategy.stop()) == set(optimizer.finished.removeprefix("CMA-ES: ").split(", "))


def test_numpys_global_generator_is_left_alone():
    np.random.seed(5)
    expected = np.random.rand(3)
    np.random.seed(5)
    optimizer = CmaEs(np.zeros(3), 1)
    for _ in range(3):
        asked = optimizer.ask()
        values = np.array([bowl(point) for point in asked.points])
        optimizer.preview(Tell(values, np.zeros(values.size)))
        optimizer.tell(Tell(values, np.zeros(values.size)))
    assert np.array_equal(np.random.rand(3), expected)


def test_no_file_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cma_signals.in").write_text("{'timeout': 0}")
    optimizer = CmaEs(np.zeros(2), 1)
    for _ in range(5):
        asked = optimizer.ask()
        optimizer.tell(Tell(np.array([bowl(point) for point in asked.points]), np.zeros(len(asked.points))))
    assert optimizer.finished is None
    assert [path.name for path in tmp_path.iterdir()] == ["cma_signals.in"]


def test_the_state_is_told_values_alone():
    optimizer = CmaEs(np.zeros(2), 3)
    asked = optimizer.ask()
    optimizer.tell(Tell(np.arange(len(asked.points)) / 8, np.zeros(len(asked.points))))
    state = optimizer.state()
    assert state["told"] == [[0.0, 0.125, 0.25, 0.375, 0.5, 0.625]]
    restored = restore_optimizer(json.loads(json.dumps(state)))
    assert np.array_equal(restored.ask().points, optimizer.ask().points)
