"""Adam on exact gradients from the parameter-shift rule.

A parameter that turns one Pauli rotation exp(-i theta P / 2) moves the energy along a sinusoid, whose slope
is half the difference of the values a quarter turn ahead and behind (M. Schuld et al., Phys. Rev. A 99,
032331, 2019). All these points are asked at once. The current point rides along: it costs one evaluation
more, and without it nobody could see progress, because the shifted points stay far from the minimum to the
end.

The update is Adam's (D. P. Kingma, J. Ba, ICLR 2015, algorithm 1), with both bias corrections.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from efaas.optimizers.asktell import AskTell, Kind, frozen
from efaas.optimizers.base import Ask, Estimate, Tell, Vector

EPSILON = 1e-8
"""Added to the root of the mean square, so that a vanishing gradient divides by something."""


class Adam(AskTell):
    """Adam with parameter-shift gradients: 2 n + 1 evaluations an iteration, in one ask.

    Args:
        initial: first point, shape (n,), radians.
        seed: not used; every optimizer takes one.
        learning_rate: step size, radians.
        beta1: decay of the mean of gradients, 0 ≤ beta1 < 1.
        beta2: decay of the mean of squared gradients, 0 ≤ beta2 < 1.
    """

    name = "adam"
    _kept: ClassVar[Mapping[str, Kind]] = {
        "learning_rate": "scalar",
        "beta1": "scalar",
        "beta2": "scalar",
        "mean": "vector",
        "mean_square": "vector",
    }

    def __init__(
        self,
        initial: Vector,
        seed: int = 0,  # noqa: ARG002
        *,
        learning_rate: float = 0.1,
        beta1: float = 0.9,
        beta2: float = 0.99,
    ) -> None:
        super().__init__(initial)
        self._learning_rate = learning_rate
        self._beta1 = beta1
        self._beta2 = beta2
        self._mean = np.zeros_like(self._point)
        self._mean_square = np.zeros_like(self._point)

    def _compose(self) -> Ask:
        shifts = np.eye(self._point.size) * (math.pi / 2)
        here = self._point[np.newaxis]
        return Ask(self._iteration, np.concatenate([here, here + shifts, here - shifts]))

    def _take(self, asked: Ask, answers: Tell) -> None:  # noqa: ARG002
        count = self._point.size
        self._estimate = Estimate(self._point, float(answers.values[0]), float(answers.std_errors[0]))
        gradient = (answers.values[1 : count + 1] - answers.values[count + 1 :]) / 2
        self._mean = self._beta1 * self._mean + (1 - self._beta1) * gradient
        self._mean_square = self._beta2 * self._mean_square + (1 - self._beta2) * gradient**2
        self._iteration += 1
        mean = self._mean / (1 - self._beta1**self._iteration)
        mean_square = self._mean_square / (1 - self._beta2**self._iteration)
        self._point = frozen(self._point - self._learning_rate * mean / (np.sqrt(mean_square) + EPSILON))
