"""SPSA and QN-SPSA: a gradient estimate from two evaluations, however many parameters there are.

SPSA (J. C. Spall, IEEE Trans. Aerosp. Electron. Syst. 34, 817, 1998) moves all parameters at once along a
random direction of signs, and back, and takes the difference of the two values as the slope along it. The
gains

    a_k = a / (A + k + 1)^alpha,    c_k = c / (k + 1)^gamma

shrink with Spall's exponents, alpha = 0.602 and gamma = 0.101. Without a learning rate, a is set so that
the first step moves each parameter by `FIRST_STEP` radians on average, judged by gradient samples at the
first point, which are asked as one batch.

QN-SPSA (J. Gacon, C. Zoufal, G. Carleo, S. Woerner, Quantum 5, 567, 2021) divides that gradient by a
stochastic estimate of the quantum geometric tensor (the Fubini-Study metric), from four fidelities an
iteration.

**What is known before the result.** The directions are drawn from the seed and the iteration alone
(`next_direction`), so only one scalar, the slope that two pending energies give, separates a caller from the
next points: `outlook` is the line on which they lie. Twice there is not even that scalar. After the
calibration of the learning rate the next points do not depend on its result. And where QN-SPSA's step is cut
to `LONGEST_STEP`, its next points depend on the slope's sign
alone: once the fidelities are known, `branches` has two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from efaas.optimizers.asktell import LARGEST_VALUE, AskTell, Kind, frozen, signs
from efaas.optimizers.base import Ask, Estimate, Outlook, Tell, Vector

ALPHA = 0.602
"""Decay exponent of the step (Spall 1998, section III.B)."""
GAMMA = 0.101
"""Decay exponent of the perturbation (same)."""
STABILITY = 10.0
"""A, in iterations: keeps first steps from dwarfing later ones; Spall advises a tenth of the iterations."""
FIRST_STEP = 0.2
"""Mean change of each parameter in the first step, in radians, that calibration aims at."""
LONGEST_STEP = 0.1
"""Longest step of QN-SPSA, in radians a parameter (root mean square). Where the metric estimate is nearly
singular its inverse asks for steps far beyond the reach of any local model; without this bound the method
does not converge at its default learning rate."""

_STEPS, _CALIBRATION, _METRIC_1, _METRIC_2 = range(4)


class Spsa(AskTell):
    """Simultaneous perturbation stochastic approximation: two evaluations an iteration.

    Args:
        initial: first point, shape (n,), radians.
        seed: of the directions.
        learning_rate: a; None to calibrate it.
        perturbation: c, radians.
        calibration_steps: gradient samples for calibration, at least 1 without a learning rate.
        last_average: how many last iterates `point` averages.
    """

    name = "spsa"
    takes_stale_points = True
    _kept: ClassVar[Mapping[str, Kind]] = {
        "seed": "scalar",
        "learning_rate": "scalar",
        "perturbation": "scalar",
        "calibration_steps": "scalar",
        "last_average": "scalar",
        "iterates": "matrix",
    }

    def __init__(
        self,
        initial: Vector,
        seed: int,
        *,
        learning_rate: float | None = None,
        perturbation: float = 0.1,
        calibration_steps: int = 25,
        last_average: int = 1,
    ) -> None:
        super().__init__(initial)
        if learning_rate is None and calibration_steps < 1:
            raise ValueError("without a learning rate, at least one calibration step is needed")
        self._seed = seed
        self._learning_rate = learning_rate
        self._perturbation = perturbation
        self._calibration_steps = calibration_steps
        self._last_average = last_average
        self._iterates = self._point[np.newaxis]

    @property
    def centre(self) -> Vector:
        """The current iterate, shape (n,); `point` is the average of the last ones."""
        centre: Vector = self._iterates[-1]
        return centre

    def direction(self, iteration: int) -> Vector:
        """Direction of an iteration, shape (n,), each component +1 or -1; known from the start."""
        return signs(self._seed, _STEPS, iteration, self._point.size)

    def next_direction(self) -> Vector:
        """Direction of the iteration after the pending one: known although the pending result is not."""
        return self.direction(self._iteration if self._calibrating else self._iteration + 1)

    def gains(self, iteration: int) -> tuple[float, float]:
        """Spall's (a_k, c_k) of an iteration.

        Raises:
            RuntimeError: the learning rate is not calibrated yet.
        """
        if self._learning_rate is None:
            raise RuntimeError("the learning rate is not known before the calibration is told")
        step = self._learning_rate / (STABILITY + iteration + 1) ** ALPHA
        return step, self._perturbation / (iteration + 1) ** GAMMA

    @property
    def _calibrating(self) -> bool:
        return self._learning_rate is None

    def _compose(self) -> Ask:
        centre = self.centre
        if self._calibrating:
            samples = [
                self._perturbation * signs(self._seed, _CALIBRATION, sample, centre.size)
                for sample in range(self._calibration_steps)
            ]
            return Ask(0, np.array([point for s in samples for point in (centre + s, centre - s)]))
        _, width = self.gains(self._iteration)
        shift = width * self.direction(self._iteration)
        return Ask(self._iteration, np.array([centre + shift, centre - shift]))

    def branches(self, overlaps: Vector | None = None) -> list[Tell]:  # noqa: ARG002
        """See `AskTell.branches`: while it calibrates, any answers lead to the same points."""
        if not self._calibrating:
            return []
        count = 2 * self._calibration_steps
        return [Tell(np.zeros(count), np.zeros(count))]

    def outlook(self, overlaps: Vector | None = None) -> Outlook | None:  # noqa: ARG002
        """See `AskTell.outlook`: t is the slope along the pending direction, energy a radian."""
        following = self._iteration if self._calibrating else self._iteration + 1
        shift = self._perturbation / (following + 1) ** GAMMA * self.direction(following)
        points = np.array([self.centre + shift, self.centre - shift])
        if self._calibrating:
            return Outlook(following, points, np.zeros_like(self.centre), bound=0.0)
        step, _ = self.gains(self._iteration)
        return Outlook(following, points, -step * self.direction(self._iteration))

    def _take(self, asked: Ask, answers: Tell) -> None:  # noqa: ARG002
        self._estimate = _mean_estimate(self.centre, answers)
        if self._calibrating:
            self._learning_rate = self._calibrated(answers.values)
            return
        step, width = self.gains(self._iteration)
        slope = (answers.values[0] - answers.values[1]) / (2 * width)
        centre = self.centre - step * slope * self.direction(self._iteration)
        self._iterates = frozen(np.vstack([self._iterates, centre])[-self._last_average :])
        self._point = frozen(self._iterates.mean(axis=0))
        self._iteration += 1

    def _calibrated(self, values: Vector) -> float:
        """The learning rate whose first step is `FIRST_STEP` on average, given (2 s,) values of s samples."""
        slope = float(np.mean(np.abs(values[0::2] - values[1::2]))) / (2 * self._perturbation)
        # On a plateau any rate will do; one for slopes of order 1 is a neutral choice.
        scale: float = (STABILITY + 1) ** ALPHA
        return FIRST_STEP / (slope if slope > 1e-10 else 1.0) * scale


class QnSpsa(AskTell):
    """Quantum natural SPSA: two evaluations and four fidelities an iteration.

    Args:
        initial: first point, shape (n,), radians.
        seed: of the directions.
        learning_rate: step size, constant, radians.
        perturbation: of the gradient and of the metric, constant, radians.
        regularization: beta, added to the metric's diagonal.
    """

    name = "qn_spsa"
    takes_stale_points = True
    _kept: ClassVar[Mapping[str, Kind]] = {
        "seed": "scalar",
        "learning_rate": "scalar",
        "perturbation": "scalar",
        "regularization": "scalar",
        "metric": "matrix",
    }

    def __init__(
        self,
        initial: Vector,
        seed: int,
        *,
        learning_rate: float = 0.05,
        perturbation: float = 0.1,
        regularization: float = 0.01,
    ) -> None:
        super().__init__(initial)
        self._seed = seed
        self._learning_rate = learning_rate
        self._perturbation = perturbation
        self._regularization = regularization
        self._metric = frozen(np.eye(self._point.size))
        self._restored()

    def _restored(self) -> None:
        # Fidelities, and what was made of them before the energies came.
        self._foreseen: tuple[bytes, _Step] | None = None

    @property
    def metric(self) -> Vector:
        """Smoothed metric estimate, shape (n, n), symmetric; the unit matrix before the first iteration."""
        return self._metric

    def direction(self, iteration: int) -> Vector:
        """Gradient direction of an iteration, shape (n,), each component +1 or -1; known from the start."""
        return signs(self._seed, _STEPS, iteration, self._point.size)

    def next_direction(self) -> Vector:
        """Gradient direction of the iteration after the pending one."""
        return self.direction(self._iteration + 1)

    def _metric_directions(self, iteration: int) -> tuple[Vector, Vector]:
        size = self._point.size
        return (
            signs(self._seed, _METRIC_1, iteration, size),
            signs(self._seed, _METRIC_2, iteration, size),
        )

    def _compose(self) -> Ask:
        return self._around(self._point, self._iteration)

    def _around(self, here: Vector, iteration: int) -> Ask:
        """What an iteration asks if the current point is this one."""
        width = self._perturbation
        shift = width * self.direction(iteration)
        first, second = self._metric_directions(iteration)
        others = (
            here + width * (first + second),
            here + width * first,
            here + width * (second - first),
            here - width * first,
        )
        return Ask(
            iteration,
            np.array([here + shift, here - shift]),
            np.array([(here, other) for other in others]),
        )

    def branches(self, overlaps: Vector | None = None) -> list[Tell]:
        """See `AskTell.branches`: with known fidelities, a step cut to its longest, up or down the slope."""
        if overlaps is None:
            return []
        bound = self._step(overlaps).bound
        if not math.isfinite(bound):
            return []
        # Twice as far apart as the bound needs, so that no rounding brings the slope below it.
        reach = 4 * self._perturbation * max(bound, 1.0)
        if reach > LARGEST_VALUE:
            return []
        errors = np.zeros(2)
        return [Tell(np.array([value, 0.0]), errors, overlaps) for value in (reach, -reach)]

    def outlook(self, overlaps: Vector | None = None) -> Outlook | None:
        """See `AskTell.outlook`: None before the fidelities are known, then t is the slope, cut to bounds."""
        if overlaps is None:
            return None
        step = self._step(overlaps)
        asked = self._around(self._point, self._iteration + 1)
        return Outlook(asked.iteration, asked.points, step.slope, asked.overlaps, step.bound)

    def _step(self, overlaps: Vector) -> _Step:
        """The metric that four fidelities lead to, and the line along which the next point lies."""
        key = overlaps.tobytes()
        if self._foreseen is not None and self._foreseen[0] == key:
            return self._foreseen[1]
        # Gacon et al. 2021, eqs. (12)-(15): g = -1/2 Hessian of the fidelity, so a mixed difference of
        # fidelities along two directions is -2 first.g.second (2 eps^2 in the denominator: the difference
        # is two-sided in one direction only).
        first, second = self._metric_directions(self._iteration)
        plus, first_only, minus, first_back = overlaps
        mixed = -0.5 * ((plus - first_only) - (minus - first_back)) / (2 * self._perturbation**2)
        outer = np.outer(first, second)
        sample = mixed * (outer + outer.T) / 2

        k = self._iteration + 1
        metric = k / (k + 1) * self._metric + sample / (k + 1)
        # The root of the square takes the absolute value of each eigenvalue: a metric is not negative.
        eigenvalues, vectors = np.linalg.eigh(metric)
        along = self.direction(self._iteration)
        natural = vectors @ ((vectors.T @ along) / (np.abs(eigenvalues) + self._regularization))
        slope = -self._learning_rate * natural
        length = math.sqrt(float(slope @ slope) / slope.size)
        step = _Step(frozen(metric), frozen(slope), LONGEST_STEP / length if length > 0 else math.inf)
        self._foreseen = (key, step)
        return step

    def _take(self, asked: Ask, answers: Tell) -> None:  # noqa: ARG002
        self._estimate = _mean_estimate(self._point, answers)
        slope = float(answers.values[0] - answers.values[1]) / (2 * self._perturbation)
        step = self._step(answers.overlaps)
        # Cut as a number before it is a step, so that a step which is cut is the same to the bit whatever
        # the slope was.
        scalar = min(max(slope, -step.bound), step.bound)
        self._metric = step.metric
        self._point = frozen(self._point + scalar * step.slope)
        self._foreseen = None
        self._iteration += 1


@dataclass(frozen=True, slots=True)
class _Step:
    """What fidelities make known of QN-SPSA's next point: `point + t * slope`, t cut to the bound."""

    metric: Vector
    slope: Vector
    bound: float


def _mean_estimate(centre: Vector, answers: Tell) -> Estimate:
    """Values on both sides of a point stand for the value at it, up to second order in the perturbation."""
    count = answers.values.size
    return Estimate(
        centre,
        float(answers.values.mean()),
        math.sqrt(float(answers.std_errors @ answers.std_errors)) / count,
    )
