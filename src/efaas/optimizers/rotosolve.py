"""Rotosolve/NFT: jump to the exact minimum of one parameter's sinusoid at a time.

Along a parameter that turns one Pauli rotation the energy is c + p cos t + q sin t, t being the change of the
parameter. Three values fix it; one of them, at t = 0, is the minimum that the update before jumped to and
is known without a measurement (K. M. Nakanishi, K. Fujii, S. Todo, Phys. Rev. Research 2, 043158, 2020). So
an update costs two evaluations, a quarter turn ahead and behind. With shot noise the errors of stored
values add up, and every `reset_interval` updates the value at the current point is measured anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from efaas.optimizers.asktell import AskTell, Kind, frozen
from efaas.optimizers.base import Ask, Estimate, Tell, Vector


class Rotosolve(AskTell):
    """Sequential minimisation; one iteration is one parameter: two evaluations, three at a reset.

    Args:
        initial: first point, shape (n,), radians.
        seed: not used; every optimizer takes one.
        reset_interval: updates between measurements of the value at the current point.
    """

    name = "rotosolve"
    _kept: ClassVar[Mapping[str, Kind]] = {"reset_interval": "scalar"}

    def __init__(self, initial: Vector, seed: int = 0, *, reset_interval: int = 32) -> None:  # noqa: ARG002
        super().__init__(initial)
        self._reset_interval = reset_interval

    def _compose(self) -> Ask:
        shift = np.zeros_like(self._point)
        shift[self._iteration % self._point.size] = math.pi / 2
        points = [self._point + shift, self._point - shift]
        if self._iteration % self._reset_interval == 0:
            points.append(self._point)
        return Ask(self._iteration, np.array(points))

    def _take(self, asked: Ask, answers: Tell) -> None:  # noqa: ARG002
        ahead, behind = float(answers.values[0]), float(answers.values[1])
        ahead_error, behind_error = float(answers.std_errors[0]), float(answers.std_errors[1])
        if answers.values.size == 3:
            here, here_error = float(answers.values[2]), float(answers.std_errors[2])
        else:
            # The first iteration is a reset, so there is an estimate by now.
            assert self._estimate is not None
            here, here_error = self._estimate.value, self._estimate.std_error

        centre = (ahead + behind) / 2
        cosine, sine = here - centre, (ahead - behind) / 2
        amplitude = math.hypot(cosine, sine)
        # A parameter without influence stays where it is.
        turn = math.atan2(-sine, -cosine) if amplitude > 0 else 0.0

        shift = np.zeros_like(self._point)
        shift[self._iteration % self._point.size] = turn
        self._point = frozen(self._point + shift)
        # d(centre - amplitude) by the three values, to first order.
        u, v = (cosine / amplitude, sine / amplitude) if amplitude > 0 else (0.0, 0.0)
        error = math.hypot(u * here_error, (1 + u - v) / 2 * ahead_error, (1 + u + v) / 2 * behind_error)
        self._estimate = Estimate(self._point, centre - amplitude, error)
        self._iteration += 1
