"""A class's claim to its guaranteed share of device time.

While a class has work its claim grows by `share` of the time that passes; service takes from it. Service
beyond the claim (gaps that it filled) counts for one slice only: a class that was lucky before is not made
to starve later. A claim lapses after the window, so that it never grows to a long block of the device's
time: its bound is share · window, 3 s of a minute by default.
"""

from __future__ import annotations


class Claim:
    """One class's claim.

    Args:
        share: part of device time, between 0 and 1.
        window_s: time after which an unused claim lapses.
        slice_s: most that service counts beyond the claim.
    """

    def __init__(self, share: float, window_s: float, slice_s: float) -> None:
        self._share = share
        self._most_s = share * window_s
        self._least_s = -slice_s
        self._value_s = 0.0
        self._at_s = 0.0
        self._jobs = 0

    def value_s(self, now_s: float) -> float:
        """Device seconds that the class can claim now."""
        if self._jobs:
            grown_s = self._value_s + self._share * (now_s - self._at_s)
            self._value_s = grown_s if grown_s < self._most_s else self._most_s
        self._at_s = now_s
        return self._value_s

    def come(self, now_s: float) -> None:
        """A job of the class arrived."""
        self.value_s(now_s)
        self._jobs += 1

    def leave(self, now_s: float) -> None:
        """A job of the class is done; with the last one the claim ends."""
        self.value_s(now_s)
        self._jobs -= 1
        if not self._jobs:
            self._value_s = min(0.0, self._value_s)

    def served(self, busy_s: float, now_s: float) -> None:
        """The class had the device for so long."""
        self._value_s = max(self._least_s, self.value_s(now_s) - busy_s)
