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
    told_s: float | None = None
    """The classical side has the result."""
    device: str = ""
    calibration_s: float | None = None
    """The part of its wait that was calibration; known once it is complete."""
    calibration_age_s: float | None = None
    """Age of the calibration on which its first shots started."""
    cpu_s: float = 0.0
    """From the result before to these parameters."""
    ahead: bool = False
    """The classical step was done before it was needed."""

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
    job: str = ""
    device: str = ""
    served_s: float = 0.0
    """Device time that it had, lost attempts included."""


@dataclass(slots=True)
class Calibrated:
    """One calibration."""

    device: str
    start_s: float
    scope: str
    qubits: int
    caused_by: str | None
    end_s: float | None = None


@dataclass(slots=True)
class DeviceTime:
    """Where one device's time went, in the part of the run that is measured."""

    shots_s: float = 0.0
    turning_s: float = 0.0
    calibrating_s: float = 0.0
    reserved_s: float = 0.0
    """Free although work waited, for a loop that was expected back."""
    idle_s: float = 0.0
    """Free in all, from the start, as the host saw it."""
    present_s: float = 0.0
    """Jobs on the device, waiting or running, integrated over time from the start, as the machine counts."""


@dataclass(slots=True)
class Tally:
    """Batch jobs that are counted only, where there are too many to keep."""

    jobs: int = 0
    done: int = 0
    wait_s: float = 0.0
    slowdown: float = 0.0


@dataclass(slots=True)
class Measures:
    """Everything measured in one run."""

    horizon_s: float
    warm_up_s: float = 0.0
    """Devices are measured from here on."""
    iterations: list[Iteration] = field(default_factory=list)
    batch: list[BatchWait] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    """Complete batch jobs that were not kept."""
    calibrations: list[Calibrated] = field(default_factory=list)
    devices: dict[str, DeviceTime] = field(default_factory=dict)
    used_s: dict[str, float] = field(default_factory=dict)
    """Device seconds of shots by tenant."""
    cpu_used_s: dict[str, float] = field(default_factory=dict)
    """Classical seconds by tenant."""
    oldest_calibration_s: float = 0.0
    """Largest age of the calibration on which any slice of a loop started."""
    closed_s: dict[str, float] = field(default_factory=dict)
    """When each loop had its last result."""
    in_system_s: float = 0.0
    """Time that jobs spent on devices, waiting or running, summed over jobs."""
    arrivals: int = 0
    wasted_shots: int = 0
    """Of reruns, and of speculation that came to nothing."""
    moves: int = 0
    """Times an iteration went to another device than the one before."""
    hits: int = 0
    """Classical steps that were there before they were needed."""
    steps: int = 0
    """All classical steps between two iterations."""
    events: int = 0
    """Events that the machines handled."""
    bin_s: float = 0.0
    """Length of an interval of the next three; 0: not kept."""
    shots_s: list[float] = field(default_factory=list)
    """Device seconds of shots in each interval, all devices."""
    calibrating_s: list[float] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    """Jobs waiting at the end of each interval."""

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
    def measured_s(self) -> float:
        """Device seconds of all devices in the measured part."""
        return len(self.devices) * (self.horizon_s - self.warm_up_s)

    @property
    def duty_cycle(self) -> float:
        """Device time of shots over all device time; calibration and turning are no use."""
        return sum(device.shots_s for device in self.devices.values()) / self.measured_s

    @property
    def reserved_share(self) -> float:
        """Part of all device time that was kept free while work waited."""
        return sum(device.reserved_s for device in self.devices.values()) / self.measured_s

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
