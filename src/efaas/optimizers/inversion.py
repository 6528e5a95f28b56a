"""Turns a minimiser that calls a function into one that is asked and told.

SciPy's minimisers call the objective; a session must be the one who calls. `Inversion` runs such a
minimiser in a thread of its own, and exactly one of the two sides is awake at a time: the thread stops in
the objective until the value is told, the caller stops until the next point is there. So there is no
concurrency to reason about, and no lock; the thread is the price for a stack frame that can be left and
entered again.

The state of a minimiser on its stack cannot be saved. What can be saved is the history of told values,
which is all it needs, because it is deterministic: a fresh one that is fed the history stands where the
other stood. `outcome` does the same without a thread, to look ahead.

A thread lives from the first ask to the end of the minimiser or of its owner, whichever comes first: the
owner registers `close` with `weakref.finalize`, and the thread itself holds no reference to the owner.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from efaas.optimizers.base import Vector

Objective = Callable[[Vector], float]
Minimiser = Callable[[Objective], tuple[Vector, str]]
"""Minimises an objective; returns the final point and why it ended."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The minimiser wants the value at a point, shape (n,)."""

    point: Vector


@dataclass(frozen=True, slots=True)
class Ended:
    """The minimiser has ended at a point, or without one if it failed."""

    point: Vector | None
    reason: str


Event = Wanted | Ended


class _Closed(BaseException):
    """Unwinds the minimiser's stack; no `except Exception` on the way may stop it."""


class Inversion:
    """A minimiser in a thread, fed by the caller.

    Args:
        minimise: the minimiser; must be deterministic, and must not refer to the owner of this object.
        history: values to answer the first calls with.
    """

    def __init__(self, minimise: Minimiser, history: Sequence[float] = ()) -> None:
        self._values: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=_run,
            args=(minimise, tuple(history), self._values, self._events),
            name="efaas-minimiser",
            daemon=True,
        )
        self._thread.start()

    def wait(self) -> Event:
        """The minimiser's next event; call it once at the start and once after each `answer`."""
        return self._events.get()

    def answer(self, value: float) -> None:
        """The value at the point that was wanted last."""
        self._values.put(value)

    def close(self) -> None:
        """End the thread; may be called at any time, also by the garbage collector, also twice."""
        self._values.put(None)
        # The collector may run in the very thread that is to end; it then ends at its next call of the
        # objective.
        if threading.current_thread() is not self._thread:
            self._thread.join()


def _run(
    minimise: Minimiser,
    history: tuple[float, ...],
    values: queue.SimpleQueue[float | None],
    events: queue.SimpleQueue[Event],
) -> None:
    replayed = iter(history)

    def objective(point: Vector) -> float:
        known = next(replayed, None)
        if known is not None:
            return known
        events.put(Wanted(np.array(point, dtype=np.float64)))
        value = values.get()
        if value is None:
            raise _Closed
        return value

    with contextlib.suppress(_Closed):
        events.put(_ended(minimise, objective))


class _NotTold(BaseException):
    """Carries the first point out whose value is not in the history."""

    def __init__(self, point: Vector) -> None:
        super().__init__()
        self.point = point


def outcome(minimise: Minimiser, history: Sequence[float]) -> Event:
    """Where a minimiser stands after these values, from a fresh start and without a thread."""
    replayed = iter(history)

    def objective(point: Vector) -> float:
        known = next(replayed, None)
        if known is None:
            raise _NotTold(np.array(point, dtype=np.float64))
        return known

    try:
        return _ended(minimise, objective)
    except _NotTold as stop:
        return Wanted(stop.point)


def _ended(minimise: Minimiser, objective: Objective) -> Ended:
    try:
        with np.errstate(all="ignore"):
            point, reason = minimise(objective)
    except Exception as error:
        # A minimiser may not cope with some function; the loop then ends with the best point so far and
        # says why.
        return Ended(None, f"failed: {type(error).__name__}: {error}")
    return Ended(np.array(point, dtype=np.float64), reason)
