"""A strict host for the machine: it carries out decisions and checks what every host relies on."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from efaas.core.qpu import CalibrationConfig, QpuConfig, QpuMachine
from efaas.core.qpu.messages import (
    CalibrationFinished,
    Charge,
    CompleteJob,
    Decision,
    Event,
    FailJob,
    Job,
    JobCancelled,
    JobKind,
    JobSubmitted,
    SessionClosed,
    SessionOpened,
    SliceFailed,
    SliceFinished,
    StartCalibration,
    StartSlice,
    StopSlice,
    TimerFired,
    WakeAt,
)

BLOCK_S = 1 / 16  # a power of two: sums of cells are exact


@dataclass
class Host:
    """Feeds a machine and answers for its device; `run_until` lets time pass."""

    machine: QpuMachine
    log: list[tuple[float, Decision]] = field(default_factory=list)
    now_s: float = 0.0
    slice: StartSlice | None = None
    calibration: StartCalibration | None = None
    since_s: float = 0.0
    wake_s: float | None = None
    epoch: int = 0
    stopping: bool = False
    limits_s: dict[str, float] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    # Cells done of each job's present attempt, and of which attempt.
    done: dict[str, tuple[int, int]] = field(default_factory=dict)
    completed: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    charges: dict[str, Charge] = field(default_factory=dict)
    busy_ns: int = 0
    on_complete: Callable[[Host, str], None] | None = None
    events: int = 0
    # What the test does later: (moment, running number, action).
    agenda: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    serial: int = 0

    # --- events ---

    def feed(self, event: Event) -> list[Decision]:
        self.now_s = event.now_s
        self.wake_s = None
        self.events += 1
        decisions = self.machine.handle(event)
        for decision in decisions:
            self.log.append((self.now_s, decision))
            self._carry_out(decision)
        return decisions

    def open(self, session: str, tenant: str | None = None, **fields: float | int | None) -> list[Decision]:
        limit_s = fields.get("max_calibration_age_s")
        self.limits_s[session] = float("inf") if limit_s is None else float(limit_s)
        return self.feed(SessionOpened(self.now_s, session, tenant or session, **fields))  # type: ignore[arg-type]

    def close(self, session: str) -> list[Decision]:
        return self.feed(SessionClosed(self.now_s, session))

    def submit(
        self,
        name: str,
        session: str,
        kind: JobKind = JobKind.BATCH,
        seconds: float = 1.0,
        *,
        qubits: tuple[int, ...] = (),
        shots: int = 100,
        block_s: float = BLOCK_S,
        cpu_s: float = 0.0,
    ) -> list[Decision]:
        job = Job(name, session, kind, max(1, round(seconds / block_s)), block_s, shots, "circuit", qubits)
        self.jobs.setdefault(name, job)
        return self.feed(JobSubmitted(self.now_s, job, cpu_s))

    def cancel(self, name: str) -> list[Decision]:
        return self.feed(JobCancelled(self.now_s, name))

    def finish(self) -> list[Decision]:
        """What holds the device ends as planned."""
        return self._end(at_s=max(self.now_s, self._end_s()))

    def fail(self, reason: str = "the worker died", *, retry: bool = True) -> list[Decision]:
        """The running slice ends without a result."""
        running = self.slice
        assert running is not None
        at_s = max(self.now_s, self._end_s())
        busy_s = at_s - self.since_s
        self.slice, self.stopping = None, False
        self.busy_ns += round(busy_s * 1e9)
        self.done.pop(running.job_id, None)
        return self.feed(SliceFailed(at_s, running.job_id, busy_s, reason, retry))

    def at(self, at_s: float, action: Callable[[], None]) -> None:
        """Do something when `run_until` gets there."""
        self.serial += 1
        heapq.heappush(self.agenda, (at_s, self.serial, action))

    def run_until(self, end_s: float) -> None:
        """Let time pass; slices, calibrations, timers and what is on the agenda come when they are due."""
        while True:
            device_s, wake_s = self._end_s(), math.inf if self.wake_s is None else self.wake_s
            agenda_s = self.agenda[0][0] if self.agenda else math.inf
            first_s = min(device_s, wake_s, agenda_s)
            if first_s > end_s:
                break
            if device_s == first_s:
                self._end(at_s=max(self.now_s, device_s))
            elif agenda_s == first_s:
                self.now_s = max(self.now_s, agenda_s)
                heapq.heappop(self.agenda)[2]()
            else:
                self.feed(TimerFired(wake_s))
        self.now_s = max(self.now_s, end_s)

    # --- the device ---

    def _end_s(self) -> float:
        if self.stopping:
            return self.now_s
        held = self.slice or self.calibration
        return float("inf") if held is None else self.since_s + held.expected_s

    def _end(self, at_s: float) -> list[Decision]:
        busy_s = at_s - self.since_s
        self.busy_ns += round(busy_s * 1e9)
        if self.calibration is not None:
            self.calibration = None
            self.epoch += 1
            return self.feed(CalibrationFinished(at_s, busy_s, self.epoch))
        running = self.slice
        assert running is not None
        stopped, self.slice, self.stopping = self.stopping, None, False
        if not stopped:
            attempt, cells = self.done.get(running.job_id, (running.attempt, 0))
            assert (attempt, cells) == (running.attempt, running.first_block)
            self.done[running.job_id] = (attempt, cells + running.blocks)
        return self.feed(SliceFinished(at_s, running.job_id, busy_s))

    def _carry_out(self, decision: Decision) -> None:
        match decision:
            case StartSlice():
                assert self.slice is None
                assert self.calibration is None
                job = self.jobs[decision.job_id]
                assert 0 < decision.blocks <= job.blocks - decision.first_block
                assert decision.calibration_age_s <= self.limits_s[job.session]
                attempt, cells = self.done.get(job.id, (decision.attempt, 0))
                if decision.attempt != attempt:  # starts again: what was done before is void
                    assert decision.attempt > attempt
                    attempt, cells = decision.attempt, 0
                assert decision.first_block == cells
                self.done[job.id] = (attempt, cells)
                self.slice, self.since_s = decision, self.now_s
            case StopSlice(job_id):
                assert self.slice is not None
                assert self.slice.job_id == job_id
                self.stopping = True
            case StartCalibration():
                assert self.slice is None
                assert self.calibration is None
                self.calibration, self.since_s = decision, self.now_s
            case WakeAt(at_s):
                assert at_s > self.now_s
                self.wake_s = at_s
            case Charge(key):
                assert key not in self.charges
                self.charges[key] = decision
            case CompleteJob(job_id):
                assert self.done[job_id][1] == self.jobs[job_id].blocks
                self.completed[job_id] = self.completed.get(job_id, 0) + 1
                if self.on_complete is not None:
                    self.on_complete(self, job_id)
            case FailJob(job_id):
                self.failed[job_id] = self.failed.get(job_id, 0) + 1
                self.done.pop(job_id, None)
            case _:
                pass

    # --- what tests ask ---

    def of(self, *kinds: type[Decision]) -> list[tuple[float, Decision]]:
        """Decisions of some kinds with their times."""
        return [(at_s, decision) for at_s, decision in self.log if isinstance(decision, kinds)]

    def starts(self) -> list[tuple[float, str]]:
        """(time, job) of each slice."""
        return [(at_s, d.job_id) for at_s, d in self.log if isinstance(d, StartSlice)]

    def charged_ns(self, session: str | None = "*") -> int:
        """Nanoseconds charged to a session, to nobody (None), or in all."""
        return sum(c.qpu_ns for c in self.charges.values() if session in ("*", c.session))


@pytest.fixture
def make_host() -> Callable[..., Host]:
    """Makes a host; keyword arguments go to QpuConfig or to CalibrationConfig. Invariants are checked."""

    def make(**fields: object) -> Host:
        names = CalibrationConfig.__dataclass_fields__
        calibration = {name: fields.pop(name) for name in list(fields) if name in names}
        config = {"validate": True, "calibration": CalibrationConfig(**calibration), **fields}  # type: ignore[arg-type]
        return Host(QpuMachine(QpuConfig(**config)))  # type: ignore[arg-type]

    return make
