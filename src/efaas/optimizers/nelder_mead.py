"""Nelder-Mead, the downhill simplex method, as a state machine.

J. A. Nelder and R. Mead, Comput. J. 7, 308 (1965), with the coefficients that F. Gao and L. Han (Comput.
Optim. Appl. 51, 259, 2012) scale to the number of parameters. The order of decisions is that of SciPy's
implementation, so on a noiseless function both walk through the same vertices; two things differ. The first
simplex has edges of one length along the axes, and what can be asked together is asked together: the first
simplex as one batch, the points of a shrink as another.

What is asked next depends on a few comparisons of the pending value with known ones, so `branches`
enumerates it exactly, in microseconds. That the next point depends on nothing else, not even in its last
bit, is seen to: the centroid is summed exactly, so that the order of the vertices cannot change how it is
rounded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from efaas.optimizers.asktell import AskTell, Kind, frozen
from efaas.optimizers.base import Ask, Estimate, Tell, Vector

SMALLEST_SIMPLEX = 1e-6
"""Extent of the simplex, in radians, at which the method ends: no gate's angle is known as well."""

Phase = Literal["start", "reflect", "expand", "contract_outside", "contract_inside", "shrink"]

_PHASES = ("start", "reflect", "expand", "contract_outside", "contract_inside", "shrink")


class NelderMead(AskTell):
    """The downhill simplex method: one or two evaluations an iteration, n + 2 where it shrinks.

    Args:
        initial: first vertex, shape (n,), radians.
        seed: not used; every optimizer takes one.
        step_size: edge of the first simplex, radians.
        adaptive: whether coefficients are scaled to the number of parameters (from two parameters on).
    """

    name = "nelder_mead"
    _kept: ClassVar[Mapping[str, Kind]] = {
        "adaptive": "scalar",
        "phase": "scalar",
        "simplex": "matrix",
        "reflected": "vector",
    }

    def __init__(
        self,
        initial: Vector,
        seed: int = 0,  # noqa: ARG002
        *,
        step_size: float = 0.5,
        adaptive: bool = True,
    ) -> None:
        super().__init__(initial)
        size = self._point.size
        self._adaptive = adaptive
        self._phase: Phase = "start"
        # One row a vertex: its point, its value, the value's standard error; best vertex first once told.
        # One table sorts in one step, and `preview` is judged by its microseconds.
        simplex = np.zeros((size + 1, size + 2))
        simplex[:, :size] = self._point
        simplex[1:, :size] += step_size * np.eye(size)
        self._simplex = frozen(simplex)
        # Row of the reflected point while the point beyond or before it is asked.
        self._reflected: Vector | None = None

    @property
    def simplex(self) -> Vector:
        """Vertices, shape (n + 1, n), best first once the first simplex is told."""
        vertices: Vector = self._simplex[:, :-2]
        return vertices

    @property
    def values(self) -> Vector:
        """Values of the vertices, shape (n + 1,); zeros before they are told."""
        values: Vector = self._simplex[:, -2]
        return values

    @property
    def finished(self) -> str | None:
        """That the simplex has become too small, judged between iterations."""
        if self._phase == "reflect":
            vertices = self.simplex
            if np.abs(vertices[1:] - vertices[0]).max() <= SMALLEST_SIMPLEX:
                return f"the simplex is smaller than {SMALLEST_SIMPLEX:g} rad"
        return None

    def _compose(self) -> Ask:
        vertices = self.simplex
        if self._phase == "start":
            return Ask(self._iteration, vertices.copy())
        if self._phase == "shrink":
            _, _, _, shrink = self._coefficients()
            return Ask(self._iteration, vertices[0] + shrink * (vertices[1:] - vertices[0]))
        expand, contract = self._coefficients()[1:3]
        # Exactly rounded: the same whatever the order of the vertices, so that it does not depend on how
        # good the newest one is.
        sums = [math.fsum(column) for column in vertices[:-1].T.tolist()]
        centroid = np.array(sums) / self._point.size
        worst = vertices[-1]
        # Written as SciPy writes it, so that both round alike.
        if self._phase == "reflect":
            trial = 2 * centroid - worst
        elif self._phase == "expand":
            trial = (1 + expand) * centroid - expand * worst
        elif self._phase == "contract_outside":
            trial = (1 + contract) * centroid - contract * worst
        else:
            trial = (1 - contract) * centroid + contract * worst
        return Ask(self._iteration, trial[np.newaxis])

    def branches(self, overlaps: Vector | None = None) -> list[Tell]:  # noqa: ARG002
        """See `AskTell.branches`: answers that realise each thing that may be asked next.

        Any answer leads where one of these does, by `preview`, except where a whole simplex is asked: then
        the list is empty.
        """
        best, second_worst, worst = self._simplex[0, -2], self._simplex[-2, -2], self._simplex[-1, -2]
        below = np.nextafter(best, -np.inf)
        if self._phase == "reflect":
            guesses = [best, below, worst, second_worst]  # accept, expand, contract inside, outside
        elif self._phase == "expand":
            assert self._reflected is not None
            guesses = [np.nextafter(self._reflected[-2], -np.inf), self._reflected[-2]]  # trial, reflected
        elif self._phase == "contract_outside":
            assert self._reflected is not None
            # The trial becomes a middle vertex, or the worst; or the simplex shrinks.
            guesses = [best, self._reflected[-2], np.nextafter(self._reflected[-2], np.inf)]
        elif self._phase == "contract_inside":
            guesses = [best, second_worst, worst]
        else:
            return []
        return [Tell(np.array([guess]), np.zeros(1)) for guess in guesses]

    def _coefficients(self) -> tuple[float, float, float, float]:
        """Of reflection, expansion, contraction and shrink (Gao and Han 2012, eq. 4.1)."""
        size = float(self._point.size)
        if not self._adaptive or size < 2:
            return 1.0, 2.0, 0.5, 0.5
        return 1.0, 1 + 2 / size, 0.75 - 1 / (2 * size), 1 - 1 / size

    def _take(self, asked: Ask, answers: Tell) -> None:
        rows = np.empty((asked.points.shape[0], self._point.size + 2))
        rows[:, :-2], rows[:, -2], rows[:, -1] = asked.points, answers.values, answers.std_errors
        if self._phase == "start":
            self._close(rows)
            return
        if self._phase == "shrink":
            self._close(np.concatenate([self._simplex[:1], rows]))
            return

        trial, value = rows[0], rows[0, -2]
        best, second_worst, worst = self._simplex[0, -2], self._simplex[-2, -2], self._simplex[-1, -2]
        if self._phase == "reflect":
            if best <= value < second_worst:
                self._replace_worst(trial)
            else:
                self._reflected = frozen(trial)
                if value < best:
                    self._phase = "expand"
                else:
                    self._phase = "contract_outside" if value < worst else "contract_inside"
            return
        assert self._reflected is not None
        if self._phase == "expand":
            self._replace_worst(trial if value < self._reflected[-2] else self._reflected)
        elif (self._phase == "contract_outside" and value <= self._reflected[-2]) or (
            self._phase == "contract_inside" and value < worst
        ):
            self._replace_worst(trial)
        else:
            self._phase = "shrink"

    def _replace_worst(self, row: Vector) -> None:
        rows = self._simplex.copy()
        rows[-1] = row
        self._close(rows)

    def _close(self, rows: Vector) -> None:
        """End an iteration with these vertices. Ties keep their order, on every machine."""
        self._simplex = frozen(rows.take(rows[:, -2].argsort(kind="stable"), 0))
        best = self._simplex[0]
        self._point = best[:-2]
        self._estimate = Estimate(self._point, float(best[-2]), float(best[-1]))
        self._phase = "reflect"
        self._reflected = None
        self._iteration += 1

    def _restored(self) -> None:
        if self._phase not in _PHASES or self._simplex.shape != (self._point.size + 1, self._point.size + 2):
            raise ValueError("phase or simplex")
