"""One machine and what its device does: carries the machine's decisions out in simulated time.

The device keeps its own books of where its time went and of who was there when. They are compared with those
of the machine afterwards (conservation of device time, Little's law), so nothing here is taken from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from efaas.core.qpu import QpuConfig, QpuMachine
from efaas.core.qpu.messages import (
    CalibrationFinished,
    CalibrationScope,
    Charge,
    CompleteJob,
    CutSlice,
    Decision,
    Event,
    FailJob,
    Idle,
    Job,
    SliceFailed,
    SliceFinished,
    StartCalibration,
    StartSlice,
    StopSlice,
    TimerFired,
    WakeAt,
)
from efaas.simulator.measures import Calibrated, DeviceTime

DEVICE, ARRIVAL, TIMER = range(3)
"""Priorities of events at one moment."""

Action = Callable[[float], None]


class Surroundings(Protocol):
    """What a device needs of its simulator."""

    log: list[str] | None

    def at(self, at_s: float, priority: int, action: Action) -> None:
        """Call something at a moment."""

    def fails(self) -> bool:
        """Whether the slice that ends now fails."""

    def job(self, job_id: str) -> Job:
        """A job that is on a device."""

    def slice_starts(self, device: Device, started: StartSlice, now_s: float) -> None:
        """A slice starts."""

    def slice_ended(self, device: Device, job_id: str, from_s: float, shots_s: float, now_s: float) -> None:
        """A slice ended, with its shots from a moment on for so long."""

    def calibrated(self, calibration: Calibrated, now_s: float) -> None:
        """A calibration ended."""

    def wasted(self, charge: Charge) -> None:
        """Device time was used for nothing."""

    def job_ended(self, decision: CompleteJob | FailJob, now_s: float) -> None:
        """A job is complete or was given up."""

    def settled(self, device: Device, now_s: float) -> None:
        """All decisions of an event are carried out."""


class Device:
    """One device.

    Args:
        index: its place among the devices.
        name: of the device.
        config: settings of its machine.
        host: the simulator.
        warm_up_s: its time is measured from here on.
    """

    def __init__(
        self, index: int, name: str, config: QpuConfig, host: Surroundings, warm_up_s: float
    ) -> None:
        self.index = index
        self.name = name
        self.config = config
        self.machine = QpuMachine(config)
        self.time = DeviceTime()
        self.away = 0
        """Loops that are at home here and compute now."""
        self.events = 0
        self._host = host
        self._warm_up_s = warm_up_s
        self._epoch = config.calibration.epoch
        # What holds the device; the token tells the answer to it from answers that came to nothing.
        self._slice: StartSlice | None = None
        self._expected_s = 0.0
        self._calibration: Calibrated | None = None
        self._calibrating_s = 0.0
        self._since_s = 0.0
        self._token = 0
        # When the machine wants to be woken, and for when that is arranged; a wish is void after an event.
        self._wish_s = math.inf
        self._alarm_s = math.inf
        self._reserved_since_s: float | None = None
        # Until when the books of idleness and of jobs present are written.
        self._booked_s = 0.0
        self._present = 0

    @property
    def busy(self) -> bool:
        """Whether it is held by a slice or a calibration."""
        return self._slice is not None or self._calibration is not None

    def feed(self, event: Event) -> None:
        """Give the machine an event and do what it says."""
        now_s = event.now_s
        self._wish_s = math.inf
        self.events += 1
        if self._reserved_since_s is not None:
            self.time.reserved_s += self.measured(self._reserved_since_s, now_s)
            self._reserved_since_s = None
        self._book_until(now_s)
        machine = self.machine
        host = self._host
        for decision in machine.handle(event):
            if host.log is not None:
                host.log.append(f"{now_s:.9f} {self.name} {decision!r}")
            self._carry_out(decision, now_s)
        self._present = len(machine.jobs)
        idle = machine.idle
        if idle is not None and machine.waiting and idle.reserved_for is not None:
            self._reserved_since_s = now_s
        host.settled(self, now_s)

    def measured(self, from_s: float, to_s: float) -> float:
        """The part of a time that is measured."""
        return to_s - from_s if from_s >= self._warm_up_s else max(0.0, to_s - self._warm_up_s)

    def _book_until(self, now_s: float) -> None:
        passed_s = now_s - self._booked_s
        if passed_s > 0:
            self._booked_s = now_s
            self.time.present_s += self._present * passed_s
            if self._slice is None and self._calibration is None:
                self.time.idle_s += passed_s

    def _carry_out(self, decision: Decision, now_s: float) -> None:
        if isinstance(decision, Charge):
            if decision.session is None and decision.what in ("rerun", "speculation"):
                self._host.wasted(decision)
        elif isinstance(decision, StartSlice):
            self._start_slice(decision, now_s)
        elif isinstance(decision, WakeAt):
            self._wake_at(decision.at_s)
        elif isinstance(decision, Idle):
            pass
        elif isinstance(decision, (CompleteJob, FailJob)):
            self._host.job_ended(decision, now_s)
        elif isinstance(decision, CutSlice):
            self._token += 1
            self._hold_for(decision.expected_s)
        elif isinstance(decision, StopSlice):
            self._end_slice(now_s)
        elif isinstance(decision, StartCalibration):
            self._start_calibration(decision, now_s)

    def _wake_at(self, at_s: float) -> None:
        self._wish_s = at_s
        if at_s < self._alarm_s:
            self._alarm_s = at_s
            self._host.at(at_s, TIMER, self._wake)

    def _wake(self, now_s: float) -> None:
        """An alarm; most ring for a wish that was followed by a later one."""
        if now_s == self._alarm_s:
            self._alarm_s = math.inf
        if now_s == self._wish_s:
            self.feed(TimerFired(now_s))
        elif self._wish_s < self._alarm_s:
            self._wake_at(self._wish_s)

    def _start_slice(self, started: StartSlice, now_s: float) -> None:
        self._slice, self._since_s = started, now_s
        self._token += 1
        self._host.slice_starts(self, started, now_s)
        self._hold_for(started.expected_s)

    def _hold_for(self, expected_s: float) -> None:
        token = self._token
        self._expected_s = expected_s

        def end(now_s: float) -> None:
            if self._token == token:
                self._end_slice(now_s, whole=True)

        self._host.at(self._since_s + expected_s, DEVICE, end)

    def _end_slice(self, now_s: float, *, whole: bool = False) -> None:
        running = self._slice
        assert running is not None
        self._book_until(now_s)
        self._slice = None
        self._token += 1
        busy_s = self._expected_s if whole else now_s - self._since_s
        self._book(running, busy_s, now_s)
        if whole and self._host.fails():
            self.feed(SliceFailed(now_s, running.job_id, busy_s, "a simulated fault"))
        elif whole:
            self.feed(SliceFinished(now_s, running.job_id, busy_s))
        else:
            # The machine is in the middle of an event: it hears of the end right after it.
            self._host.at(now_s, DEVICE, lambda at_s: self.feed(SliceFinished(at_s, running.job_id, busy_s)))

    def _book(self, running: StartSlice, busy_s: float, now_s: float) -> None:
        turning_s = min(busy_s, running.turn_s)
        shots_from_s = self._since_s + turning_s
        shots_s = busy_s - turning_s
        if self._since_s >= self._warm_up_s:
            self.time.turning_s += turning_s
            self.time.shots_s += shots_s
        else:
            self.time.turning_s += self.measured(self._since_s, shots_from_s)
            self.time.shots_s += self.measured(shots_from_s, shots_from_s + shots_s)
        self._host.slice_ended(self, running.job_id, shots_from_s, shots_s, now_s)

    def _start_calibration(self, started: StartCalibration, now_s: float) -> None:
        self._calibration = Calibrated(
            self.name, now_s, str(started.scope), len(started.qubits), started.caused_by
        )
        if started.scope is CalibrationScope.FULL:
            self._calibration.qubits = 0
        self._calibrating_s = started.expected_s

        def end(at_s: float) -> None:
            self._book_until(at_s)
            self._end_calibration(at_s)
            self._epoch += 1
            self.feed(CalibrationFinished(at_s, started.expected_s, self._epoch))

        self._host.at(now_s + started.expected_s, DEVICE, end)

    def _end_calibration(self, now_s: float, *, whole: bool = True) -> None:
        calibration, self._calibration = self._calibration, None
        assert calibration is not None
        if whole:
            calibration.end_s = now_s
        self.time.calibrating_s += self.measured(calibration.start_s, now_s)
        self._host.calibrated(calibration, now_s)

    def cut(self, horizon_s: float) -> None:
        """The simulation ends: what runs counts up to here."""
        self._book_until(horizon_s)
        if self._slice is not None:
            self._book(self._slice, min(self._expected_s, horizon_s - self._since_s), horizon_s)
        if self._calibration is not None:
            self._end_calibration(horizon_s, whole=False)
        if self._reserved_since_s is not None:
            self.time.reserved_s += self.measured(self._reserved_since_s, horizon_s)

    def held_s(self, horizon_s: float) -> float:
        """Device seconds for which the machine's own accounts say that it was held, up to the end."""
        running_s = 0.0
        if self.machine.held is not None or self.machine.calibrating is not None:
            running_s = horizon_s - self.machine.held_since_s
        return self.machine.accounts.busy_ns / 1e9 + running_s
