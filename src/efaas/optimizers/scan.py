"""A scan: uniform points in a box around the first point, with no feedback from one to the next.

Because no answer changes what is asked, a scan can hand out many asks before any is told (`asks`), which is
what makes it batch work: the queue of a QPU may take them in any order and answers may come back in any order
(`tell_ask`). The best point does not depend on that order. Each ask is drawn from the seed and its own
number, so a scan of a million points needs no memory for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from efaas.optimizers.asktell import AskTell, Kind, checked_answers, frozen, generator
from efaas.optimizers.base import Ask, Estimate, Tell, Vector


class Scan(AskTell):
    """Uniform points in a box, `points_per_job` an ask; one ask is one iteration.

    Args:
        initial: centre of the box, shape (n,), radians.
        seed: of the points.
        points: how many are evaluated.
        radius: half-width of the box, radians.
        points_per_job: points in one ask; the last ask may have fewer.
    """

    name = "scan"
    _kept: ClassVar[Mapping[str, Kind]] = {
        "seed": "scalar",
        "points": "scalar",
        "radius": "scalar",
        "points_per_job": "scalar",
        "centre": "vector",
        "first_open": "scalar",
        "told_beyond": "list",
        "best_number": "scalar",
    }

    def __init__(
        self, initial: Vector, seed: int, *, points: int, radius: float = np.pi, points_per_job: int = 1
    ) -> None:
        super().__init__(initial)
        self._seed = seed
        self._points = points
        self._radius = radius
        self._points_per_job = points_per_job
        self._centre = self._point
        # Every ask below `first_open` is told, it is not; `told_beyond`, ascending, holds the numbers of
        # those told above it.
        self._first_open = 0
        self._told_beyond: list[int] = []
        self._best_number = -1

    @property
    def total_asks(self) -> int:
        """How many asks the whole scan has."""
        return -(-self._points // self._points_per_job)

    @property
    def finished(self) -> str | None:
        """That the scan is done, once every ask is told."""
        return f"all {self._points} points are evaluated" if self._first_open >= self.total_asks else None

    def asks(self, limit: int | None = None) -> list[Ask]:
        """The next asks that are not told yet, in their order; they stay the same until told.

        `Ask.iteration` is the number by which to `tell_ask`.

        Args:
            limit: how many at most; all that are left if not given (mind the memory of a large scan).
        """
        beyond = set(self._told_beyond)
        asks: list[Ask] = []
        number = self._first_open
        while number < self.total_asks and (limit is None or len(asks) < limit):
            if number not in beyond:
                asks.append(self._ask(number))
            number += 1
        return asks

    def tell_ask(self, number: int, answers: Tell) -> None:
        """Take the answers to the ask of this number, in any order.

        Raises:
            ValueError: there is no such ask, it is told already, or the answers do not fit; nothing is
                changed.
        """
        if not self._first_open <= number < self.total_asks or number in self._told_beyond:
            raise ValueError(f"ask {number} is told already or beyond the {self.total_asks} of this scan")
        asked = self._ask(number)
        self._record(asked, checked_answers(asked, answers))
        self._pending = None

    def _ask(self, number: int) -> Ask:
        count = min(self._points_per_job, self._points - number * self._points_per_job)
        uniform = generator(self._seed, 0, number).random((count, self._centre.size))
        points = self._centre + self._radius * (2 * uniform - 1)
        return Ask(number, frozen(points))

    def _compose(self) -> Ask:
        return self._ask(self._first_open)

    def _take(self, asked: Ask, answers: Tell) -> None:
        self._record(asked, answers)

    def _record(self, asked: Ask, answers: Tell) -> None:
        row = int(np.argmin(answers.values))
        value = float(answers.values[row])
        number = asked.iteration
        best = self._estimate
        # Of equal values the one asked first wins, so that the order of answers does not matter.
        if best is None or (value, number) < (best.value, self._best_number):
            self._point = frozen(asked.points[row].copy())
            self._estimate = Estimate(self._point, value, float(answers.std_errors[row]))
            self._best_number = number
        beyond = sorted({*self._told_beyond, number})
        while beyond and beyond[0] == self._first_open:
            self._first_open += 1
            beyond.pop(0)
        self._told_beyond = beyond
        self._iteration += 1
