"""The state of a machine, and the moves of its jobs: one method for each move of the lifecycle.

Nothing here decides who is next. Each method moves one job, books what that costs and says it to the host.
"""

from __future__ import annotations

import math

from efaas.core.qpu.accounts import DeviceAccounts
from efaas.core.qpu.calibration import CalibrationClock
from efaas.core.qpu.config import QpuConfig
from efaas.core.qpu.lifecycle import FINAL, NS, TRANSITIONS, JobRecord, JobState, SessionRecord, to_ns
from efaas.core.qpu.messages import (
    CompleteJob,
    Decision,
    FailJob,
    FailureCode,
    Idle,
    JobKind,
    StartCalibration,
    StartSlice,
    StopSlice,
)
from efaas.core.qpu.policies import Policy, make_policy
from efaas.core.qpu.story import ProtocolError, Story

CANCELLED = "it was cancelled"
MADE_WAY = "it made way for real work"

_UNCLAIMED = 64
"""Complete speculative jobs that wait for their claim, for each session; the oldest are written off."""

_BILLED = frozenset({FailureCode.CANCELLED, FailureCode.LIMIT_REACHED})
"""Ends of a job after which its session pays for the cells that are done."""


class InvariantError(AssertionError):
    """The machine contradicts itself: a bug in it, never a fault of the host."""


def at(job: JobRecord) -> str:
    """Tells this life of a job from others with the same id, in keys of charges."""
    return f"@{to_ns(job.arrived_s)}"


class Jobs:
    """State of one device's machine.

    Args:
        config: settings of the device.
    """

    def __init__(self, config: QpuConfig) -> None:
        self.config = config
        self.calibration = CalibrationClock(config.calibration)
        self.policy: Policy = make_policy(config, self.calibration)
        self.accounts = DeviceAccounts()
        self.story = Story()
        self.now_s = -math.inf
        """Device time of the last event."""
        self.sessions: dict[str, SessionRecord] = {}
        # Weights of tenants that were told with their accounts; they outlive sessions.
        self.tenant_weights: dict[str, float] = {}
        """Open sessions by name."""
        self.jobs: dict[str, JobRecord] = {}
        """Jobs that are not final, by id, in order of arrival."""
        self.waiting = 0
        """Jobs in the states held and waiting."""
        self.held: JobRecord | None = None
        """The job that holds the device."""
        self.calibrating: StartCalibration | None = None
        """The calibration that holds the device."""
        self.held_since_s = 0.0
        """When the slice or calibration that holds the device began."""
        self.held_until_s = 0.0
        """When the device is expected to be free."""
        self.draining = False
        """Whether all work is refused."""
        self.cordoned_at_s = math.inf
        """Sessions first opened after this are refused."""
        # Cost of turning and number of cells of the running slice; why it was told to stop.
        self.turn_s = 0.0
        self.blocks = 0
        # Cells of each of the slices that the running one is made of, if it is several in one; else 0.
        self.merged = 0
        self.stop_reason = ""
        # The job that the device turned to last; going on with it costs nothing.
        self.last_job: str | None = None
        # Running number of arrivals.
        self.serial = 0
        # Jobs in state held: (moment from which they are ready, running number, job).
        self.not_ready: list[tuple[float, int, JobRecord]] = []
        # Waiting jobs of which cells are done, by id, in the order in which they came to be.
        self.started: dict[str, JobRecord] = {}
        # The device's idleness as it was said last; None while it is held.
        self.idle: Idle | None = None
        # Whether positions in the queue may have changed since they were told.
        self.reordered = False
        # Decisions of the event that is being handled.
        self.out: list[Decision] = []

    def impossible(self, whom: str, what: str, place: str) -> ProtocolError:
        """An error about a job or session, with its story."""
        return ProtocolError(what, place=place, story=self.story.of(whom))

    def calibrating_ns(self) -> int:
        """Device time of all calibrations until now."""
        if self.calibrating is None:
            return self.accounts.calibrating_ns
        return self.accounts.calibrating_ns + to_ns(self.now_s - self.held_since_s)

    # --- moves ------------------------------------------------------------------------------------

    def _move(self, job: JobRecord, to: JobState) -> None:
        if (job.state, to) not in TRANSITIONS:
            raise InvariantError(f"job {job.id} cannot go from {job.state} to {to}\n{self.story.of(job.id)}")
        job.state = to
        if to in FINAL:
            del self.jobs[job.id]
            job.session.jobs.pop(job.id, None)
            job.session.promised_shots -= job.job.shots
            job.session.promised_ns -= to_ns(job.job.device_s)

    def transition_held_waiting(self, job: JobRecord) -> None:
        """Its container or pilot has started, or it needs none."""
        self._move(job, JobState.WAITING)
        self.reordered = True
        self.policy.add(job, self.now_s)

    def transition_waiting_running(self, job: JobRecord, blocks: int, merged: int = 0) -> None:
        """It gets the device for a slice; for several in one of `merged` cells each, if that is not 0."""
        self._move(job, JobState.RUNNING)
        self.waiting -= 1
        self.policy.remove(job)
        self.policy.started(job, self.now_s)
        self.started.pop(job.id, None)
        if job.first_start_s is None:
            job.first_start_s = self.now_s
            job.calibrating_ns = self.calibrating_ns() - job.calibrating_before_ns
            job.queue_ns = max(0, to_ns(self.now_s - job.arrived_s) - job.calibrating_ns)
        if job.id == self.last_job:
            self.turn_s = 0.0
        else:
            self.turn_s, self.reordered = self.config.slice_cost_s, True
        self.held, self.blocks, self.last_job = job, blocks, job.id
        self.merged = merged
        job.slices += 1
        expected_s = self.turn_s + blocks * job.job.block_s
        self.held_since_s, self.held_until_s = self.now_s, self.now_s + expected_s
        age_s = self.calibration.age_s(job.job.qubits, self.now_s)
        self.out.append(
            StartSlice(
                job.id, job.next_block, blocks, expected_s, job.attempt, self.turn_s, job.job_class, age_s
            )
        )
        self.story.tell(self.now_s, job.id, "cells {} to {} start", job.next_block, job.next_block + blocks)

    def transition_running_stopping(self, job: JobRecord, why: str) -> None:
        """The host is told to end its slice."""
        self._move(job, JobState.STOPPING)
        self.stop_reason = why
        self.out.append(StopSlice(job.id))
        self.story.tell(self.now_s, job.id, "told to stop: {}", why)

    def transition_back_to_waiting(self, job: JobRecord) -> None:
        """Running or stopping to waiting: cells are left; it goes on where its last whole slice ended."""
        self._move(job, JobState.WAITING)
        self.waiting += 1
        if job.started:
            self.started[job.id] = job
        self.policy.add(job, self.now_s)

    def transition_running_completed(self, job: JobRecord) -> None:
        """All cells are done: its session pays."""
        self._move(job, JobState.COMPLETED)
        job.session.jobs_done += 1
        complete = self._complete(job)
        self.out.extend(self.accounts.bill_job(job, job.job.shots))
        self.out.append(complete)
        self._leave(job)

    def transition_running_unclaimed(self, job: JobRecord) -> None:
        """A speculative job is complete; who pays is open until it is claimed or given up."""
        self._move(job, JobState.UNCLAIMED)
        self.out.append(self._complete(job))
        self._leave(job)
        unclaimed = [other for other in job.session.jobs.values() if other.state is JobState.UNCLAIMED]
        for other in unclaimed[:-_UNCLAIMED]:
            self.drop(other, FailureCode.CANCELLED, "nobody claimed it", retry=False)

    def transition_unclaimed_claimed(self, job: JobRecord) -> None:
        """The guess was right: the job counts as a real one."""
        self._move(job, JobState.CLAIMED)
        job.session.jobs_done += 1
        complete = self._complete(job)
        self.out.extend(self.accounts.bill_job(job, job.job.shots))
        self.out.append(complete)
        self._results_in(job)
        self.story.tell(self.now_s, job.id, "claimed")

    def drop(self, job: JobRecord, code: FailureCode, reason: str, *, retry: bool) -> None:
        """Any state but final to dropped: the job is given up."""
        before = job.state
        self._move(job, JobState.DROPPED)
        self.reordered = True
        shots = job.job.shots * job.next_block // job.job.blocks
        if before in (JobState.HELD, JobState.WAITING):
            self.waiting -= 1
        if before is JobState.WAITING:
            self.policy.remove(job)
            self.started.pop(job.id, None)
        if job.kind is JobKind.SPECULATIVE:
            job.session.wasted_shots += shots
            key = f"{job.id}/speculation{at(job)}"
            self.out.extend(self.accounts.write_off_job(job, key, "speculation", shots))
        elif code in _BILLED:
            self.out.extend(self.accounts.bill_job(job, shots, at(job)))
        else:
            self.out.extend(
                self.accounts.write_off_job(job, f"{job.id}/rerun{at(job)}/{job.attempt}", "rerun")
            )
        self.story.tell(self.now_s, job.id, "given up: {}", reason)
        if before is not JobState.UNCLAIMED:
            self.out.append(FailJob(job.id, reason, retry, code))
            self._leave(job)

    def void_attempt(self, job: JobRecord) -> None:
        """It starts again from block 0; what was used is nobody's fault."""
        key = f"{job.id}/rerun{at(job)}/{job.attempt}"
        self.out.extend(self.accounts.write_off_job(job, key, "rerun"))
        job.next_block = 0
        job.attempt += 1
        self.started.pop(job.id, None)

    def _complete(self, job: JobRecord) -> CompleteJob:
        self.story.tell(self.now_s, job.id, "complete")
        return CompleteJob(
            job.id,
            queue_s=job.queue_ns / NS,
            calibration_s=job.calibrating_ns / NS,
            execution_s=job.shots_ns / NS,
            slices=job.slices,
            attempts=job.attempt,
        )

    def _leave(self, job: JobRecord) -> None:
        self._results_in(job)
        self.policy.left(job, self.now_s)

    def _results_in(self, job: JobRecord) -> None:
        """When a loop has all its results, its classical step begins."""
        if job.kind is not JobKind.LOOP:
            return
        for other in job.session.jobs.values():
            if other.kind is JobKind.LOOP and other is not job:
                return
        job.session.classical_since_s = self.now_s
