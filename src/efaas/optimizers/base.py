"""The ask/tell contract of every optimizer.

An optimizer is a machine without I/O: `ask` says which points it wants evaluated, `tell` takes their
values. All randomness comes from its seed, so the same told values give the same asked points, to the bit.
Its state is a small JSON object; `restore` continues from it as if nothing had happened.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ask:
    """What an optimizer wants to know.

    Attributes:
        iteration: running number of the optimizer's iteration that these points belong to, from 0. One
            iteration may ask several times (Nelder-Mead) or once (SPSA); it is one `ask` that makes one job.
        points: shape (k, n), radians: points whose energy is wanted. May be empty.
        overlaps: shape (m, 2, n): pairs of points whose fidelity |<psi(a)|psi(b)>|^2 is wanted (QN-SPSA).
            May be empty.
    """

    iteration: int
    points: Vector
    overlaps: Vector = field(default_factory=lambda: np.empty((0, 2, 0)))


@dataclass(frozen=True, slots=True)
class Tell:
    """The answers to one `Ask`.

    Attributes:
        values: shape (k,), energies.
        std_errors: shape (k,), their standard errors (0 when exact).
        overlaps: shape (m,), fidelities.
    """

    values: Vector
    std_errors: Vector
    overlaps: Vector = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known of the next ask although one scalar of the pending answers is not.

    The next ask is, up to rounding, `at(t)` for some t that the pending answers will determine: all its
    points lie on parallel lines. SPSA and QN-SPSA know their next directions, gains and metric; only the
    slope along the pending direction separates them from the next points.

    Attributes:
        iteration: of the next ask.
        points: shape (k, n), radians: where its points are at t = 0.
        slope: shape (n,), radians for t = 1: how all of them move with t.
        overlaps: shape (m, 2, n), as in `Ask`, at t = 0.
        bound: |t| is not above this; infinite where nothing limits the step.
    """

    iteration: int
    points: Vector
    slope: Vector
    overlaps: Vector = field(default_factory=lambda: np.empty((0, 2, 0)))
    bound: float = math.inf

    def at(self, scalar: float) -> Ask:
        """The next ask if the unknown scalar is this, up to rounding."""
        shift = scalar * self.slope
        overlaps = self.overlaps + shift if len(self.overlaps) else self.overlaps
        return Ask(self.iteration, self.points + shift, overlaps)

    def key(self) -> bytes:
        """What identifies it: its bytes."""
        arrays = (self.points, self.slope, self.overlaps)
        return b"|".join([b"outlook", *(array.tobytes() for array in arrays)])


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an optimizer believes about the energy at one point; what progress is measured by.

    Not every method measures where it stands: SPSA averages the two values around its centre, Rotosolve
    infers the value at the minimum of a sinusoid. `Optimizer.estimate` hides that difference from the loop.

    Attributes:
        point: shape (n,), radians.
        value: energy there.
        std_error: its standard error, 0 when exact.
    """

    point: Vector
    value: float
    std_error: float


class Optimizer(Protocol):
    """An optimizer; see the module's text."""

    name: str

    @property
    def iteration(self) -> int:
        """How many iterations are complete; equals `Ask.iteration` of what is asked next."""
        ...

    @property
    def estimate(self) -> Estimate | None:
        """The energy that stands for the answers told last; None before the first."""
        ...

    @property
    def finished(self) -> str | None:
        """Why the method itself has ended (trust region at its end, scan done); None while it goes on."""
        ...

    @property
    def point(self) -> Vector:
        """The parameters it would return if it were stopped now, shape (n,)."""
        ...

    def ask(self) -> Ask:
        """The next points; the same ones again until they are told. Must not be called when finished."""
        ...

    def tell(self, answers: Tell) -> None:
        """Take the answers to the last ask.

        Raises:
            ValueError: wrong shapes or values that are not finite; the state is unchanged.
        """
        ...

    def preview(self, answers: Tell) -> Ask | None:
        """What would be asked next if these were the answers; None if it would be finished. Changes nothing.

        Raises:
            ValueError: as `tell`.
        """
        ...

    def state(self) -> dict[str, Any]:
        """The whole state as JSON-ready values; floats survive the round trip exactly."""
        ...
