"""What a simulation is asked for afterwards: time to next shot, duty cycle, waits, shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Iteration:
    """One iteration of a loop, all times in device seconds."""

    session: str
    evaluation: int
    ready_s: float
    """The classical side has the parameters."""
    start_s: float | None = None
    """The device starts on its shots; the cost of turning to it is over."""
    end_s: float | None = None
    """The result is there."""

    @property
    def ttns_s(self) -> float:
        """Time to next shot: network, queue and calibration."""
        return math.inf if self.start_s is None else self.start_s - self.ready_s


@dataclass(slots=True)
class BatchWait:
    """One batch job."""

    session: str
    arrived_s: float
    device_s: float
    start_s: float | None = None
    end_s: float | None = None


@dataclass(slots=True)
class DeviceTime:
    """Where one device's time went."""

    shots_s: float = 0.0
    turning_s: float = 0.0
    calibrating_s: float = 0.0
    reserved_s: float = 0.0
    """Free although work waited, for a loop that was expected back."""


@dataclass(slots=True)
class Measures:
    """Everything measured in one run."""

    horizon_s: float
    iterations: list[Iteration] = field(default_factory=list)
    batch: list[BatchWait] = field(default_factory=list)
    devices: dict[str, DeviceTime] = field(default_factory=dict)
    used_s: dict[str, float] = field(default_factory=dict)
    """Device seconds of shots by tenant."""
    oldest_calibration_s: float = 0.0
    """Largest age of the calibration on which any slice of a loop started."""

    def ttns_s(self, *, after_s: float = 0.0) -> list[float]:
        """Times to next shot of iterations that were ready after a moment.

        One that has not started at the end counts with the wait that it has had, so that starving looks bad.
        """
        return [
            iteration.ttns_s if iteration.start_s is not None else self.horizon_s - iteration.ready_s
            for iteration in self.iterations
            if iteration.ready_s >= after_s
        ]

    @property
    def duty_cycle(self) -> float:
        """Device time of shots over all device time; calibration and turning are no use."""
        return sum(device.shots_s for device in self.devices.values()) / (len(self.devices) * self.horizon_s)

    @property
    def reserved_share(self) -> float:
        """Part of all device time that was kept free while work waited."""
        return sum(device.reserved_s for device in self.devices.values()) / (
            len(self.devices) * self.horizon_s
        )

    def iterations_done(self) -> int:
        """Iterations with a result."""
        return sum(iteration.end_s is not None for iteration in self.iterations)

    def batch_wait_s(self) -> float:
        """Mean wait of batch jobs for their first slice; who has not started counts with the wait so far."""
        waits = [(self.horizon_s if b.start_s is None else b.start_s) - b.arrived_s for b in self.batch]
        return sum(waits) / len(waits) if waits else 0.0


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least this part of all values does not exceed; nan of nothing."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]
