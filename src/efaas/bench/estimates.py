"""Means over seeds and their 95 % confidence intervals; all comparisons are paired by seed.

A ratio of two means is estimated by the ratio of the sums over seeds, its interval by the jackknife: leave
out one seed at a time. Runs of one seed met the same arrivals, so what they have in common cancels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scipy import stats


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds."""

    value: float
    half_width: float | None
    """Of the 95 % confidence interval; None from a single seed."""
    seeds: int


def student(count: int) -> float:
    """Two-sided 95 % point of Student's distribution for a mean of so many values."""
    return float(stats.t.ppf(0.975, count - 1))


def mean_of(values: Sequence[float]) -> Estimate:
    """The mean of one value a seed."""
    count = len(values)
    if not count:
        return Estimate(math.nan, None, 0)
    mean = math.fsum(values) / count
    if count < 2:
        return Estimate(mean, None, count)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return Estimate(mean, student(count) * math.sqrt(variance / count), count)


def jackknife(pairs: Sequence[tuple[float, ...]], of: Callable[..., float]) -> Estimate:
    """A function of means, from one tuple of values a seed.

    Args:
        pairs: shape (seeds, quantities).
        of: gets the mean of each quantity.
    """
    count = len(pairs)
    if not count:
        return Estimate(math.nan, None, 0)
    sums = [math.fsum(values) for values in zip(*pairs, strict=True)]
    value = of(*(total / count for total in sums))
    if count < 2:
        return Estimate(value, None, count)
    left_out = [
        of(*((total - own) / (count - 1) for total, own in zip(sums, each, strict=True))) for each in pairs
    ]
    middle = math.fsum(left_out) / count
    variance = (count - 1) / count * math.fsum((each - middle) ** 2 for each in left_out)
    return Estimate(value, student(count) * math.sqrt(variance), count)


def percent_below(ours: float, theirs: float) -> float:
    """By how many percent the first is below the second."""
    return 100.0 * (1.0 - ours / theirs)
