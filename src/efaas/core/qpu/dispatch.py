"""Giving the free device to somebody.

Once an event is booked:

1. Jobs whose container or pilot has started join their queue; a speculative slice ends when real work waits.
2. If the device is free: jobs that the policy gives up are dropped.
3. A calibration that is due takes place, when it is its moment (`efaas.core.qpu.calibration`). What has
   started may finish first, for as long as a calibration takes, because a calibration makes it start again.
4. The policy says who is next, or for whom the device is kept free.
5. If the calibration is older than the job accepts, it is renewed first, and the job's session pays.
"""

from __future__ import annotations

import math
from heapq import heappop

from efaas.core.qpu.calibration import CalibrationNeed
from efaas.core.qpu.config import QpuConfig
from efaas.core.qpu.jobs import MADE_WAY, Jobs
from efaas.core.qpu.lifecycle import JobRecord, JobState, to_ns
from efaas.core.qpu.messages import (
    CalibrationScope,
    CutSlice,
    FailureCode,
    Idle,
    JobClass,
    ReportQueued,
    StartCalibration,
    WakeAt,
)
from efaas.core.qpu.policies.base import Choice, Hold, Run

_REPORTED = 16
"""Waiting jobs up to which all are told when positions change; in longer queues a job is told on arrival
only."""

_OUTDATED = 5
"""How often calibrations may overtake a started job before it is given up."""


_NOTHING_WAITS = Idle(None, None, "nothing waits")


class Dispatcher(Jobs):
    """Decides what the free device does next."""

    def __init__(self, config: QpuConfig) -> None:
        super().__init__(config)
        # Until when started jobs may finish before the calibration that is wanted; None while none is.
        self._finish_until_s: float | None = None
        # The session that pays for the running calibration is that of this job.
        self._caused_by: JobRecord | None = None
        # The job that arrived with this event.
        self.arrival: JobRecord | None = None

    def advance(self) -> None:
        """Decide, if there is anything to decide."""
        while self.not_ready and self.not_ready[0][0] <= self.now_s:
            job = heappop(self.not_ready)[2]
            if job.state is JobState.HELD:
                self.transition_held_waiting(job)
        if self.held is not None:
            if self.merged:
                self._cut(self.held)
            self._make_way(self.held)
        elif self.calibrating is None:
            self._dispatch()
        self._report()

    def _make_way(self, job: JobRecord) -> None:
        if (
            job.job_class is JobClass.SPECULATIVE
            and job.state is JobState.RUNNING
            and self.policy.drops_speculation
            and self.policy.real_work_waits()
        ):
            self.transition_running_stopping(job, MADE_WAY)

    def _dispatch(self) -> None:
        while True:
            for job, why in self.policy.expired(self.now_s):
                self.drop(job, FailureCode.LIMIT_REACHED, why, retry=False)
            finish = False
            scheduled = self._scheduled()
            if scheduled is not None:
                if not self._may_finish():
                    self._start_calibration(scheduled, None)
                    return
                finish = True
            choice = self.policy.choose(self.now_s, self.last_job)
            if finish:
                choice = self._of_started(choice)
            if not isinstance(choice, Run):
                self._rest(choice)
                return
            job = choice.job
            limit_s = self.calibration.limit_s(
                job.session.max_calibration_age_s, self.policy.calibration_limit_s(job)
            )
            need = self.calibration.need(job.job, limit_s, self.now_s, localised=self.policy.localised)
            if need is None:
                self.idle = None
                if self.config.merge_slices and not finish:
                    blocks = self._merged(choice, limit_s)
                    if blocks > choice.blocks:
                        self.transition_waiting_running(job, blocks, choice.blocks)
                        return
                self.transition_waiting_running(job, choice.blocks)
                return
            if job.outdated <= _OUTDATED:
                self._start_calibration(need, job)
                return
            reason = f"calibrations overtook it {job.outdated} times: it runs longer than one is good for"
            self.drop(job, FailureCode.CALIBRATION, reason, retry=False)

    # --- several slices in one --------------------------------------------------------------------

    def _merged(self, run: Run, limit_s: float) -> int:
        """Cells for which the policy would choose the same again and again, calibrations permitting."""
        slices = self.policy.repeats(run, self.now_s, self.last_job)
        if slices <= 1:
            return run.blocks
        job, clock = run.job, self.calibration
        stale_s = clock.calibrated_at_s(job.job.qubits) + limit_s
        moment_s = math.inf
        for at_s in (clock.due_s, clock.deadline_s, stale_s):
            if self.now_s <= at_s < moment_s:
                moment_s = at_s
        if moment_s < math.inf:
            # The first boundary at or after the moment is the last that may be passed unasked.
            first_s = self.now_s + (0.0 if job.id == self.last_job else self.config.slice_cost_s)
            slice_s = run.blocks * job.job.block_s
            slices = min(slices, max(1, math.ceil((moment_s - first_s) / slice_s)))
        return min(slices * run.blocks, job.job.blocks - job.next_block)

    def _cut(self, job: JobRecord) -> None:
        """Something happened: whoever is next is asked at the coming boundary between two slices."""
        block_s = job.job.block_s
        cells = self._next_boundary(block_s, self.now_s)
        if cells < self.blocks:
            self.blocks = cells
            expected_s = self.turn_s + cells * block_s
            self.held_until_s = self.held_since_s + expected_s
            self.out.append(CutSlice(job.id, cells, expected_s))
        self.merged = 0

    def _next_boundary(self, block_s: float, now_s: float) -> int:
        """Cells of the running slice up to the coming boundary between two of the slices it is made of."""
        passed_s = now_s - self.held_since_s - self.turn_s
        return self.merged * max(1, math.floor(passed_s / (self.merged * block_s) + 1e-9) + 1)

    def held_for_s(self, now_s: float) -> float:
        """Device seconds until whatever holds the device could make way; 0 when nothing does."""
        if self.held is None and self.calibrating is None:
            return 0.0
        until_s = self.held_until_s
        if self.held is not None and self.merged:
            block_s = self.held.job.block_s
            cells = min(self.blocks, self._next_boundary(block_s, now_s))
            until_s = self.held_since_s + self.turn_s + cells * block_s
        return max(0.0, until_s - now_s)

    # --- calibrations -----------------------------------------------------------------------------

    def _scheduled(self) -> CalibrationNeed | None:
        """A full calibration that nobody's job causes, if this is its moment."""
        clock = self.calibration
        if clock.requested:
            return clock.full("requested")
        if self.now_s < clock.early_s or not self.policy.may_calibrate(self.now_s):
            return None
        if self.now_s >= clock.deadline_s:
            return clock.full("scheduled, at its deadline")
        if not self.policy.quiet():
            return None
        if self.now_s >= clock.due_s:
            return clock.full("scheduled")
        return None if self.waiting else clock.full("scheduled, early because the device idles")

    def _may_finish(self) -> bool:
        """Whether started jobs go first."""
        if self._finish_until_s is None:
            self._finish_until_s = self.now_s + self.config.calibration.duration_s
        return bool(self.started) and self.now_s < self._finish_until_s

    def _of_started(self, choice: Choice) -> Choice:
        """The policy's choice if it starts nothing that an active loop does not need; else a started job."""
        if not isinstance(choice, Run) or choice.job.started or choice.job.job_class is JobClass.ACTIVE:
            return choice
        job = min(self.started.values(), key=lambda other: (other.job_class, other.serial, other.id))
        return Run(job, self.policy.stretch(job))

    def _start_calibration(self, need: CalibrationNeed, caused_by: JobRecord | None) -> None:
        session = None if caused_by is None else caused_by.session.name
        self.calibrating = StartCalibration(need.scope, need.qubits, need.expected_s, session, need.reason)
        self._caused_by = caused_by
        self.held_since_s, self.held_until_s = self.now_s, self.now_s + need.expected_s
        self.idle = None
        self.last_job = None
        self._finish_until_s = None
        self.out.append(self.calibrating)
        self.story.tell(self.now_s, session or "device", f"{need.scope} calibration: {need.reason}")

    def end_calibration(self, running: StartCalibration, busy_s: float, epoch: int) -> None:
        """A calibration ended: book it, and start again what it overtook."""
        self.calibrating = None
        caused_by, self._caused_by = self._caused_by, None
        self.calibration.finished(running.scope, running.qubits, epoch, self.now_s)
        busy_ns = to_ns(busy_s)
        self.accounts.calibrating_ns += busy_ns
        key = f"calibration/{epoch}@{to_ns(self.held_since_s)}"
        if caused_by is None:
            self.out.append(self.accounts.write_off(key, busy_ns, "calibration"))
        else:
            self.out.append(self.accounts.bill(caused_by.session, key, busy_ns, 0, "calibration"))
            self.policy.calibrated(caused_by.session, busy_s, self.now_s)
        if self.config.calibration.frozen:
            return  # known and true values are what they were
        measured = set(running.qubits)
        for job in list(self.started.values()):
            if running.scope is CalibrationScope.FULL or not measured.isdisjoint(job.job.qubits or measured):
                job.outdated += 1
                self.policy.remove(job)
                self.void_attempt(job)
                self.policy.add(job, self.now_s)

    # --- rest and reports -------------------------------------------------------------------------

    def _rest(self, choice: Hold | None) -> None:
        """The device stays free: say why, and until when."""
        if choice is not None:
            idle = Idle(choice.reserved_for, choice.until_s, choice.reason)
        elif self.not_ready:
            idle = Idle(None, self.not_ready[0][0], "what waits is not ready for the device")
        else:
            idle = _NOTHING_WAITS
        if idle != self.idle:
            self.idle = idle
            self.out.append(idle)
        clock, now_s = self.calibration, self.now_s
        ready_s = self.not_ready[0][0] if self.not_ready else None
        wake_s = math.inf
        for at_s in (
            clock.early_s,
            clock.due_s,
            clock.deadline_s,
            idle.until_s,
            self.policy.wake_s(now_s),
            ready_s,
        ):
            if at_s is not None and now_s < at_s < wake_s:
                wake_s = at_s
        if wake_s < math.inf:
            self.out.append(WakeAt(wake_s))

    def free_in_s(self) -> float:
        """Device seconds until the device is expected to be free."""
        return self.held_for_s(self.now_s)

    def _report(self) -> None:
        arrival, self.arrival = self.arrival, None
        if not self.config.tell_positions:
            return
        if self.waiting <= _REPORTED:
            if self.waiting and self.reordered:
                self._report_all()
            self.reordered = False
        elif arrival is not None and arrival.state in (JobState.WAITING, JobState.HELD):
            count, seconds = self.policy.ahead(arrival.job_class)
            self._tell(arrival, count, self.free_in_s() + max(0.0, seconds - arrival.remaining_s))

    def _report_all(self) -> None:
        start_s = self.free_in_s()
        position = 1
        for job in self.policy.order():
            if job.told != position:
                self._tell(job, position, start_s)
            start_s += job.remaining_s
            position += 1

    def _tell(self, job: JobRecord, position: int, start_s: float) -> None:
        job.told = position
        if self.calibrating is not None:
            reason = f"{job.reason}; the device calibrates: {self.calibrating.reason}"
        elif self.held is not None:
            reason = f"{job.reason}; the device runs {self.held.session.name}"
        elif self.idle is not None:
            reason = f"{job.reason}; {self.idle.reason}"
        else:
            reason = job.reason
        self.out.append(ReportQueued(job.id, position, start_s, reason))
