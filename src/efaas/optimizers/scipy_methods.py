"""COBYLA and Powell, as SciPy has them, behind ask and tell.

Their state is the history of told values (`efaas.optimizers.inversion` says why): small, exact, and
replayed at `from_state` only when the first question is asked. A thousand evaluations of COBYLA replay in
one to two seconds, of Powell in tens of milliseconds; `preview` costs the same, because it replays on a copy.

One evaluation counts as one iteration, for both, so that limits mean the same for either.
"""

from __future__ import annotations

import weakref
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from efaas.optimizers.asktell import AskTell, Kind, checked_answers, frozen
from efaas.optimizers.base import Ask, Estimate, Tell, Vector
from efaas.optimizers.inversion import Ended, Event, Inversion, Minimiser, Objective, Wanted, outcome

UNLIMITED = 10**9
"""Evaluations that SciPy may use: the session's stopping rule is the limit, not SciPy's."""


class ScipyMethod(AskTell):
    """A minimiser of SciPy: one evaluation an iteration.

    Args:
        initial: first point, shape (n,), radians.
    """

    _kept: ClassVar[Mapping[str, Kind]] = {"initial": "vector", "told": "list", "ended": "scalar"}

    def __init__(self, initial: Vector) -> None:
        super().__init__(initial)
        self._initial = self._point
        self._told: list[float] = []
        self._ended: str | None = None
        self._restored()

    def _restored(self) -> None:
        self._inversion: Inversion | None = None
        self._event: Event | None = None
        if len(self._told) != self._iteration:
            raise ValueError("told")

    @abstractmethod
    def _minimiser(self) -> Minimiser:
        """The minimiser from the first point on; must not refer to self."""

    @property
    def finished(self) -> str | None:
        """Why SciPy ended; None while it goes on."""
        if self._ended is None:
            self._current()
        return self._ended

    def preview(self, answers: Tell) -> Ask | None:
        """What would be asked next if these were the answers; replays the history on a fresh minimiser."""
        checked = checked_answers(self.ask(), answers)
        event = _within_reason(outcome(self._minimiser(), [*self._told, float(checked.values[0])]))
        return self._ask_for(event, self._iteration + 1) if isinstance(event, Wanted) else None

    def close(self) -> None:
        """End the minimiser's thread; a later ask starts it anew. Garbage collection does it too."""
        if self._inversion is not None:
            self._finalizer()
            self._inversion = None
            self._event = None
            self._pending = None

    def _current(self) -> Event:
        """What the minimiser wants now; starts it if need be."""
        if self._event is None:
            if self._inversion is None:
                self._inversion = Inversion(self._minimiser(), self._told)
                self._finalizer = weakref.finalize(self, self._inversion.close)
            self._event = _within_reason(self._inversion.wait())
            if isinstance(self._event, Ended):
                self._ended = f"{self.name}: {self._event.reason}"
                # SciPy's result; the best point told if it failed.
                if self._event.point is not None:
                    self._point = frozen(self._event.point.copy())
        return self._event

    def _compose(self) -> Ask:
        event = self._current()
        assert isinstance(event, Wanted)
        return self._ask_for(event, self._iteration)

    @staticmethod
    def _ask_for(event: Wanted, iteration: int) -> Ask:
        return Ask(iteration, frozen(event.point[np.newaxis].copy()))

    def _take(self, asked: Ask, answers: Tell) -> None:
        value = float(answers.values[0])
        self._told.append(value)
        self._iteration += 1
        if self._estimate is None or value < self._estimate.value:
            self._point = frozen(asked.points[0].copy())
            self._estimate = Estimate(self._point, value, float(answers.std_errors[0]))
        assert self._inversion is not None
        # An interrupt may come while the minimiser thinks; its answer is then fetched by the next call.
        self._event = None
        self._inversion.answer(value)
        self._current()

    def __copy__(self) -> Self:
        """A copy has a minimiser of its own."""
        return type(self).from_state(self.state())


class Cobyla(ScipyMethod):
    """Constrained optimisation by linear approximation (M. J. D. Powell 1994), without constraints.

    Args:
        initial: first point, shape (n,), radians.
        seed: not used; every optimizer takes one.
        step_size: first trust-region radius, radians.
        final_step_size: radius at which it ends, radians.
    """

    name = "cobyla"
    _kept: ClassVar[Mapping[str, Kind]] = {
        **ScipyMethod._kept,
        "step_size": "scalar",
        "final_step_size": "scalar",
    }

    def __init__(
        self,
        initial: Vector,
        seed: int = 0,  # noqa: ARG002
        *,
        step_size: float = 0.5,
        final_step_size: float = 1e-4,
    ) -> None:
        self._step_size = step_size
        self._final_step_size = final_step_size
        super().__init__(initial)

    def _minimiser(self) -> Minimiser:
        options = {"rhobeg": self._step_size, "tol": self._final_step_size, "maxiter": UNLIMITED}
        return _minimiser("COBYLA", self._initial, options)


class Powell(ScipyMethod):
    """Powell's conjugate directions (M. J. D. Powell, Comput. J. 7, 155, 1964).

    Args:
        initial: first point, shape (n,), radians.
        seed: not used; every optimizer takes one.
        parameter_tolerance: relative change of parameters at which a line search ends; it ends as a whole
            when a cycle changes the value by less than SciPy's relative 1e-4.
    """

    name = "powell"
    _kept: ClassVar[Mapping[str, Kind]] = {**ScipyMethod._kept, "parameter_tolerance": "scalar"}

    def __init__(self, initial: Vector, seed: int = 0, *, parameter_tolerance: float = 1e-4) -> None:  # noqa: ARG002
        self._parameter_tolerance = parameter_tolerance
        super().__init__(initial)

    def _minimiser(self) -> Minimiser:
        options = {"xtol": self._parameter_tolerance, "maxiter": UNLIMITED, "maxfev": UNLIMITED}
        return _minimiser("Powell", self._initial, options)


def _minimiser(method: str, initial: Vector, options: Mapping[str, Any]) -> Minimiser:
    # Slow to import, hence here; and on the caller's side, so that a missing SciPy is no failure to minimise.
    from scipy.optimize import minimize

    def minimise(objective: Objective) -> tuple[Vector, str]:
        result = minimize(objective, initial.copy(), method=method, options=dict(options))
        return np.atleast_1d(result.x), str(result.message)

    return minimise


def _within_reason(event: Event) -> Event:
    """Ends a minimiser that has run off to infinity, where no circuit can follow it."""
    if isinstance(event, Wanted) and not np.all(np.isfinite(event.point)):
        return Ended(None, "failed: it asked for a point that is not finite")
    return event
