"""CMA-ES of the `cma` package, behind ask and tell, with a state that fits in a journal.

N. Hansen, The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772. The strategy object holds a covariance
matrix, evolution paths and much else; only a pickle would save it, and a pickle from a journal is a program
from outside. Its state here is the history of told values instead, which together with the seed determines
everything: `from_state` replays it, at half a millisecond (n = 8) to one (n = 48) a generation.

Randomness comes from a generator of its own, never from numpy's global one, so that several optimizers in a
process do not disturb each other.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from efaas.optimizers.asktell import AskTell, Kind, frozen, generator
from efaas.optimizers.base import Ask, Estimate, Tell, Vector


class NormalNumbers:
    """Standard normal numbers from a seed, in the shape of numpy's ``randn``; copied along with its owner."""

    def __init__(self, seed: int) -> None:
        self._generator = generator(seed, 0)

    def randn(self, *shape: int) -> Vector:
        """The next numbers."""
        return self._generator.standard_normal(shape)


def options(seed: int, population: int | None) -> dict[str, Any]:
    """Options of `cma.CMAEvolutionStrategy`: silent, no files, own randomness, no limits of its own."""
    chosen: dict[str, Any] = {
        "randn": NormalNumbers(seed).randn,
        "seed": math.nan,  # nan: numpy's global generator is left alone
        "maxiter": math.inf,
        "maxfevals": math.inf,
        "timeout": math.inf,
        "verbose": -10,
        "verb_log": 0,
        "verb_disp": 0,
        "signals_filename": "",
    }
    if population is not None:
        chosen["popsize"] = population
    return chosen


class CmaEs(AskTell):
    """Covariance matrix adaptation: one generation an iteration, asked as one batch.

    Args:
        initial: mean of the first generation, shape (n,), radians.
        seed: of the samples.
        step_size: first standard deviation, radians.
        population: points a generation; 4 + floor(3 ln n) if not given.
    """

    name = "cma_es"
    _kept: ClassVar[Mapping[str, Kind]] = {
        "initial": "vector",
        "seed": "scalar",
        "step_size": "scalar",
        "population": "scalar",
        "told": "list",
        "ended": "scalar",
    }

    def __init__(
        self, initial: Vector, seed: int, *, step_size: float = 0.5, population: int | None = None
    ) -> None:
        super().__init__(initial)
        self._initial = self._point
        self._seed = seed
        self._step_size = step_size
        self._population = population
        self._told: list[list[float]] = []
        self._ended: str | None = None
        self._restored()

    def _restored(self) -> None:
        # Made when needed, because `cma` is slow to import and a history takes time to replay.
        self._strategy: Any = None
        self._generation: list[Vector] = []
        if len(self._told) != self._iteration:
            raise ValueError("told")

    @property
    def finished(self) -> str | None:
        """Which of the method's own criteria holds; None while it goes on."""
        return self._ended

    def _compose(self) -> Ask:
        if self._strategy is None:
            self._strategy = self._replayed()
        self._generation = self._strategy.ask()
        return Ask(self._iteration, np.array(self._generation))

    def _take(self, asked: Ask, answers: Tell) -> None:
        best = int(np.argmin(answers.values))
        self._estimate = Estimate(
            frozen(asked.points[best].copy()), float(answers.values[best]), float(answers.std_errors[best])
        )
        self._ended = _tell(self._strategy, self._generation, answers.values.tolist())
        self._told = [*self._told, answers.values.tolist()]
        self._point = frozen(np.array(self._strategy.result.xfavorite))
        self._iteration += 1

    def _replayed(self) -> Any:
        import cma  # slow to import

        strategy = cma.CMAEvolutionStrategy(
            self._initial, self._step_size, options(self._seed, self._population)
        )
        for values in self._told:
            _tell(strategy, strategy.ask(), values)
        return strategy

    def __copy__(self) -> Self:
        """A copy has a strategy of its own, also its generator of random numbers."""
        twin = super().__copy__()
        twin._strategy, twin._generation = copy.deepcopy((self._strategy, self._generation))
        return twin


def _tell(strategy: Any, generation: list[Vector], values: list[float]) -> str | None:
    """Tell one generation and look at the stopping criteria, which count how often they are looked at."""
    strategy.tell(generation, values)
    reasons = strategy.stop()
    return f"CMA-ES: {', '.join(sorted(reasons))}" if reasons else None
