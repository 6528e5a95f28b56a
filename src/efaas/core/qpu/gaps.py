"""When an active loop will be back: an online estimate of its classical time.

The gap of a session is the time from its last result to its next submit, as the device sees it (classical
step and network both ways). The median of the last gaps is the estimate and their median absolute deviation
the spread: a single hiccup (a garbage collection, a lost packet) moves neither.
"""

from __future__ import annotations

from collections import deque

_KEPT = 15
_LEAST = 3
_TO_SIGMA = 1.4826
"""Median absolute deviation of a normal distribution times this is its standard deviation."""


def _median(ordered: list[float]) -> float:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else 0.5 * (ordered[middle - 1] + ordered[middle])


class GapEstimate:
    """Median and spread of a session's last gaps."""

    def __init__(self) -> None:
        self._gaps: deque[float] = deque(maxlen=_KEPT)
        self.median_s = 0.0
        """Median gap, seconds; 0 before the first."""
        self.spread_s = 0.0
        """Robust standard deviation of the gaps, seconds."""

    def __len__(self) -> int:
        return len(self._gaps)

    @property
    def known(self) -> bool:
        """Whether enough gaps were seen to predict the next one."""
        return len(self._gaps) >= _LEAST

    def add(self, gap_s: float) -> None:
        """Take a gap that was just seen."""
        self._gaps.append(gap_s)
        ordered = sorted(self._gaps)
        self.median_s = _median(ordered)
        self.spread_s = _TO_SIGMA * _median(sorted(abs(gap - self.median_s) for gap in ordered))
