"""Random paths in continuous time that can be read at any moment, in any order.

A drifting device is asked for its state at moments that nobody knows beforehand, by programs that restart and
replay. So a path must be a function of (seed, time) alone: how often it was read before, and in which order,
must not matter, and reading it after a month must not cost a month of steps.

Both processes that drift needs, Brownian motion and Ornstein-Uhlenbeck, are Gaussian and Markov: given two
points of a path, what lies between them is independent of the rest and has a known law (a *bridge*). A path
is therefore built top down. It is exact at multiples of a block of 2^20 s (12 days), each block's end
following from its beginning. Inside a block, the middle follows from both ends, the quarters from the middle
and the ends, and so on for 20 levels down to whole seconds. The normal number of a point comes from the
counter-based generator Philox, its counter being the point's level and index, so no draw depends on another.
Between two whole seconds the path is a straight line.

Laws, for an Ornstein-Uhlenbeck path X with rate k, X(0) = 0 and stationary deviation 1 (Gillespie, Phys. Rev.
E 54, 2084, 1996, gives the forward step; the bridge follows by conditioning):

- forward by t: X·exp(-k·t) + N·sqrt(1 - exp(-2·k·t))
- middle of two points that are 2·h apart: (X₁ + X₂) / (2·cosh(k·h)) + N·sqrt(tanh(k·h))

and for Brownian motion with variance 1 a second: X + N·sqrt(t) and (X₁ + X₂) / 2 + N·sqrt(h / 2).

Only the generator's raw integers are used, with Box-Muller on top, because numpy promises those to stay the
same in coming versions and its own normal numbers not.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from efaas.core.identity import digest

Floats = NDArray[np.float64]

LEVELS = 20
"""Halvings from a block down to one second."""

BLOCK_S = 2**LEVELS
"""Seconds in a block."""

LONGEST_S = 100 * 365.25 * 86_400.0
"""Latest moment that can be read: a hundred years."""


class GaussMarkovPaths:
    """A bundle of independent paths from one seed, all 0 at time 0; use `brownian` or `ornstein_uhlenbeck`.

    Reading is pure: what is remembered from earlier readings only saves time.

    Args:
        key: names the bundle; other keys give independent paths.
        decay: factor of a value over one block, shape (paths,).
        block_deviation: deviation of a forward step over one block, shape (paths,).
        bridge_weight: weight of both ends in the middle, shape (levels, paths).
        bridge_deviation: deviation of the middle, shape (levels, paths).
    """

    def __init__(
        self,
        key: str,
        decay: Floats,
        block_deviation: Floats,
        bridge_weight: Floats,
        bridge_deviation: Floats,
    ) -> None:
        self._key = int(digest("paths", key), 16)
        self._decay = decay
        self._block_deviation = block_deviation
        self._bridge_weight = bridge_weight
        self._bridge_deviation = bridge_deviation
        # Values at the ends of blocks, as far as they were needed: a year has 30.
        self._blocks: list[Floats] = [np.zeros(len(decay))]
        # The middle read last at each level: time moves on slowly, so the upper levels hardly change.
        self._middles: dict[int, tuple[int, Floats]] = {}

    @classmethod
    def brownian(cls, key: str, paths: int) -> GaussMarkovPaths:
        """Brownian motions with variance 1 for each second."""
        halves = BLOCK_S / 2.0 ** np.arange(1, LEVELS + 1)
        ones = np.ones((LEVELS, paths))
        return cls(
            key,
            np.ones(paths),
            np.full(paths, math.sqrt(BLOCK_S)),
            0.5 * ones,
            np.sqrt(halves / 2)[:, None] * ones,
        )

    @classmethod
    def ornstein_uhlenbeck(cls, key: str, rates_per_s: Floats) -> GaussMarkovPaths:
        """Ornstein-Uhlenbeck paths with stationary deviation 1.

        Args:
            key: names the bundle.
            rates_per_s: rate of return to the mean of each path, above 0; shape (paths,).
        """
        halves = (BLOCK_S / 2.0 ** np.arange(1, LEVELS + 1))[:, None] * rates_per_s
        small = np.exp(-halves)
        return cls(
            key,
            np.exp(-rates_per_s * BLOCK_S),
            np.sqrt(-np.expm1(-2 * rates_per_s * BLOCK_S)),
            small / (1 + small**2),
            np.sqrt(np.tanh(halves)),
        )

    def __len__(self) -> int:
        return len(self._decay)

    def at(self, time_s: float) -> Floats:
        """Values of all paths at a moment, shape (paths,).

        Raises:
            ValueError: the moment is before 0, past a hundred years or not a number.
        """
        if not 0 <= time_s <= LONGEST_S:
            raise ValueError(f"time {time_s} s is not between 0 and a hundred years")
        block, inside = divmod(time_s, BLOCK_S)
        first = int(block)
        left = self._block(first)
        if inside == 0:
            return left.copy()
        right = self._block(first + 1)
        start = 0
        for level in range(1, LEVELS + 1):
            half = BLOCK_S >> level
            middle = self._middle(level, (first << (level - 1)) + start // (2 * half), left, right)
            if inside >= start + half:
                start, left = start + half, middle
                if inside == start:
                    return left.copy()
            else:
                right = middle
        value: Floats = left + (right - left) * (inside - start)
        return value

    def _block(self, index: int) -> Floats:
        while len(self._blocks) <= index:
            step = self._block_deviation * self._normals(0, len(self._blocks))
            self._blocks.append(self._decay * self._blocks[-1] + step)
        return self._blocks[index]

    def _middle(self, level: int, index: int, left: Floats, right: Floats) -> Floats:
        known = self._middles.get(level)
        if known is not None and known[0] == index:
            return known[1]
        value: Floats = self._bridge_weight[level - 1] * (left + right)
        value += self._bridge_deviation[level - 1] * self._normals(level, index)
        self._middles[level] = (index, value)
        return value

    def _normals(self, level: int, index: int) -> Floats:
        """The normal numbers of one point, one for each path."""
        return standard_normals(self._key, ((level << 64) | index) << 128, len(self))


def standard_normals(key: int, counter: int, count: int) -> Floats:
    """Normal numbers that depend on the key and the counter (each below 2^128 and 2^256) alone.

    The lowest 64 bits of the counter must be 0: they count within the draw.
    """
    half = (count + 1) // 2
    raw = np.random.Philox(key=key, counter=counter).random_raw(2 * half)
    # The half keeps uniform numbers off 0, where the logarithm ends.
    uniform = ((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    radius = np.sqrt(-2 * np.log(uniform[:half]))
    angle = 2 * np.pi * uniform[half:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
