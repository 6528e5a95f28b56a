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

The directions are drawn from the seed and the iteration alone, so they are known before any result is
(`next_direction`): only one scalar, the difference of two energies, separates a caller from the next point.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from efaas.optimizers.asktell import AskTell, Kind, frozen, signs
from efaas.optimizers.base import Ask, Estimate, Tell, Vector

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

    def _metric_directions(self) -> tuple[Vector, Vector]:
        size = self._point.size
        return (
            signs(self._seed, _METRIC_1, self._iteration, size),
            signs(self._seed, _METRIC_2, self._iteration, size),
        )

    def _compose(self) -> Ask:
        here, width = self._point, self._perturbation
        shift = width * self.direction(self._iteration)
        first, second = self._metric_directions()
        others = (
            here + width * (first + second),
            here + width * first,
            here + width * (second - first),
            here - width * first,
        )
        return Ask(
            self._iteration,
            np.array([here + shift, here - shift]),
            np.array([(here, other) for other in others]),
        )

    def _take(self, asked: Ask, answers: Tell) -> None:  # noqa: ARG002
        self._estimate = _mean_estimate(self._point, answers)
        width = self._perturbation
        slope = (answers.values[0] - answers.values[1]) / (2 * width)
        gradient = slope * self.direction(self._iteration)

        # Gacon et al. 2021, eqs. (12)-(15): g = -1/2 Hessian of the fidelity, so a mixed difference of
        # fidelities along two directions is -2 first.g.second (2 eps^2 in the denominator: the difference
        # is two-sided in one direction only).
        first, second = self._metric_directions()
        plus, first_only, minus, first_back = answers.overlaps
        mixed = -0.5 * ((plus - first_only) - (minus - first_back)) / (2 * width**2)
        outer = np.outer(first, second)
        sample = mixed * (outer + outer.T) / 2

        k = self._iteration + 1
        metric = k / (k + 1) * self._metric + sample / (k + 1)
        # The root of the square takes the absolute value of each eigenvalue: a metric is not negative.
        eigenvalues, vectors = np.linalg.eigh(metric)
        step = vectors @ ((vectors.T @ gradient) / (np.abs(eigenvalues) + self._regularization))
        step = self._learning_rate * step
        length = math.sqrt(float(step @ step) / step.size)
        if length > LONGEST_STEP:
            step = step * (LONGEST_STEP / length)
        self._metric = frozen(metric)
        self._point = frozen(self._point - step)
        self._iteration += 1


def _mean_estimate(centre: Vector, answers: Tell) -> Estimate:
    """Values on both sides of a point stand for the value at it, up to second order in the perturbation."""
    count = answers.values.size
    return Estimate(
        centre,
        float(answers.values.mean()),
        math.sqrt(float(answers.std_errors @ answers.std_errors)) / count,
    )
