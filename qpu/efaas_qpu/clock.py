"""The device clock.

With time scale s > 0 the clock is wall time ÷ s, and whoever holds the device holds it for that long. With
s = 0 the device runs as fast as it simulates: while it is idle the clock goes with the wall, while it is
held it stands still and then advances by the device time that the hold stood for. In both cases it starts
where the log left it.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class DeviceClock:
    """Device time, in seconds; see the module's text.

    Args:
        time_scale: wall seconds for each device second; 0 runs as fast as it simulates.
        start_s: what the clock shows now.
        wall: reads a monotonic wall clock, seconds.
    """

    def __init__(
        self, time_scale: float, start_s: float = 0.0, wall: Callable[[], float] = time.monotonic
    ) -> None:
        if time_scale < 0:
            raise ValueError(f"time_scale {time_scale} is negative")
        self.time_scale = time_scale
        self._wall = wall
        self._base_s = start_s
        self._since = wall()
        self._held = False

    def now_s(self) -> float:
        """Device seconds."""
        if self.time_scale:
            return self._base_s + (self._wall() - self._since) / self.time_scale
        if self._held:
            return self._base_s
        return self._base_s + (self._wall() - self._since)

    def hold(self) -> float:
        """The device is held from now on; returns the device time."""
        if self._held:
            raise ValueError("the device is held already")
        if not self.time_scale:
            self._base_s = self.now_s()
        self._held = True
        return self.now_s()

    def release(self, busy_s: float) -> float:
        """The device was held for `busy_s` device seconds; returns the device time."""
        if not self._held:
            raise ValueError("the device is not held")
        self._held = False
        if not self.time_scale:
            self._base_s += busy_s
            self._since = self._wall()
        return self.now_s()

    def wall_until(self, at_s: float) -> float | None:
        """Wall seconds until the clock shows `at_s`; None if that depends on how long the device is held."""
        remaining = max(0.0, at_s - self.now_s())
        if self.time_scale:
            return remaining * self.time_scale
        return None if self._held else remaining
