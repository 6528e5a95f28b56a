"""The machine that runs one QPU: events in, decisions out.

It owns everything that is decided about one device and nothing else: no clock, no network, no thread. Each
event brings the device time; `handle` returns what the host must do, in order. An event that cannot be
raises `ProtocolError` and leaves the machine as it was: handlers look at everything before they change
anything.

The machine is built in three layers, a module each: `efaas.core.qpu.jobs` keeps jobs and moves them along
their lifecycle, `efaas.core.qpu.dispatch` gives the free device to somebody, and this one takes events.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappush
from typing import Any

from efaas.core.qpu.config import QpuConfig
from efaas.core.qpu.dispatch import Dispatcher
from efaas.core.qpu.jobs import CANCELLED, MADE_WAY, at
from efaas.core.qpu.lifecycle import NS, JobRecord, JobState, SessionRecord, to_ns
from efaas.core.qpu.messages import (
    CalibrationFinished,
    CalibrationRequested,
    Decision,
    DrainCancelled,
    DrainRequested,
    Event,
    FailJob,
    FailureCode,
    JobCancelled,
    JobClass,
    JobKind,
    JobSubmitted,
    SessionClosed,
    SessionOpened,
    SliceFailed,
    SliceFinished,
    TimerFired,
    UsageReported,
)
from efaas.core.qpu.story import ProtocolError
from efaas.core.qpu.view import Outlook, QpuView, outlook, queue_position, view

_MAY_RETRY = frozenset({FailureCode.DRAINING, FailureCode.QUEUE_FULL})
"""Refusals after which the same submit can succeed later."""


class QpuMachine(Dispatcher):
    """One device's queue, calibrations and charges.

    Args:
        config: settings of the device.
    """

    def __init__(self, config: QpuConfig) -> None:
        super().__init__(config)
        self._handlers: dict[type[Event], Callable[[Any], None]] = {
            SessionOpened: self._handle_session_opened,
            SessionClosed: self._handle_session_closed,
            JobSubmitted: self._handle_job_submitted,
            JobCancelled: self._handle_job_cancelled,
            SliceFinished: self._handle_slice_finished,
            SliceFailed: self._handle_slice_failed,
            CalibrationFinished: self._handle_calibration_finished,
            CalibrationRequested: self._handle_calibration_requested,
            DrainRequested: self._handle_drain_requested,
            DrainCancelled: self._handle_drain_cancelled,
            UsageReported: self._handle_usage_reported,
            TimerFired: self._handle_timer_fired,
        }

    def handle(self, event: Event) -> list[Decision]:
        """Take an event; return what the host must do, in order.

        Raises:
            ProtocolError: the event cannot be; nothing changed.
        """
        before_s = self.now_s
        if not event.now_s >= before_s or event.now_s == math.inf:
            raise ProtocolError(f"time went from {before_s} s to {event.now_s} s", place=type(event).__name__)
        self.out = []
        self.now_s = event.now_s
        try:
            self._handlers[type(event)](event)
        except ProtocolError:
            self.now_s = before_s
            raise
        self.advance()
        if self.config.validate:
            self.validate_state()
        return self.out

    def queue_position(self, job_id: str) -> int:
        """Jobs that start before this one, if nothing else comes; 0 when it runs or is unknown."""
        return queue_position(self, job_id)

    def snapshot(self, now_s: float) -> QpuView:
        """The device as it is, for people and metrics; costs time in proportion to the queue."""
        return view(self, now_s)

    def outlook(self, now_s: float) -> Outlook:
        """What whoever places sessions wants to know."""
        return outlook(self, now_s)

    def validate_state(self) -> None:
        """Check every invariant.

        Raises:
            InvariantError: the machine contradicts itself.
        """
        from efaas.core.qpu.invariants import validate

        validate(self)

    # --- sessions ---------------------------------------------------------------------------------

    def _handle_session_opened(self, event: SessionOpened) -> None:
        for place, value in (("weight", event.weight), ("tenant_weight", event.tenant_weight)):
            if not (math.isfinite(value) and value > 0):
                raise self.impossible(event.session, f"{value} must be a finite number above 0", place)
        limit_s = event.max_calibration_age_s
        if limit_s is not None and not limit_s > 0:
            raise self.impossible(event.session, f"{limit_s} s must be above 0", "max_calibration_age_s")
        session = self.sessions.get(event.session)
        if session is None:
            session = self.sessions[event.session] = SessionRecord(
                event.session, event.tenant, event.weight, None, None, None, self.now_s
            )
            session.charged_shots = event.charged_shots
            session.charged_ns = to_ns(event.charged_qpu_s)
        elif session.tenant != event.tenant:
            raise self.impossible(event.session, f"its tenant is {session.tenant}", "tenant")
        session.weight = event.weight
        session.max_calibration_age_s = limit_s
        session.max_shots = event.max_shots
        session.max_qpu_ns = None if event.max_qpu_s is None else to_ns(event.max_qpu_s)
        self.story.tell(self.now_s, session.name, "opened")
        # What the accounts say of a tenant is newer than what its runners were started with.
        weight = self.tenant_weights.get(session.tenant, event.tenant_weight)
        self.policy.session_opened(session, weight, self.now_s)

    def _handle_session_closed(self, event: SessionClosed) -> None:
        session = self._session(event.session)
        session.closed = True
        for job in list(session.jobs.values()):
            if job.state in (JobState.HELD, JobState.WAITING, JobState.UNCLAIMED):
                self.drop(job, FailureCode.CANCELLED, "its session was closed", retry=False)
        del self.sessions[session.name]
        self.story.tell(self.now_s, session.name, "closed")
        self.policy.session_closed(session, self.now_s)

    def _session(self, name: str) -> SessionRecord:
        session = self.sessions.get(name)
        if session is None:
            raise self.impossible(name, f"session {name!r} is not open", "session")
        return session

    # --- jobs -------------------------------------------------------------------------------------

    def _handle_job_submitted(self, event: JobSubmitted) -> None:
        job = event.job
        session = self._session(job.session)
        if job.blocks < 1 or not (math.isfinite(job.block_s) and job.block_s > 0) or job.shots < 0:
            raise self.impossible(job.id, f"{job.blocks} blocks of {job.block_s} s, {job.shots} shots", "job")
        known = self.jobs.get(job.id)
        if known is not None:
            self._submitted_again(known, session, event)
            return
        self.serial += 1
        record = JobRecord(job, session, JobClass.BATCH, self.now_s, self.serial, kind=job.kind)
        refusal = self._refusal(record)
        if refusal is not None:
            self.out.append(FailJob(job.id, refusal[1], refusal[0] in _MAY_RETRY, refusal[0]))
            self.story.tell(self.now_s, job.id, refusal[1])
            return
        record.job_class, record.reason = self._classify(record)
        record.calibrating_before_ns = self.calibrating_ns()
        record.ready_s = self.policy.ready_s(record, self.now_s)
        self.jobs[job.id] = session.jobs[job.id] = record
        session.promised_shots += job.shots
        session.promised_ns += to_ns(job.device_s)
        self.waiting += 1
        self.story.tell(self.now_s, job.id, "arrived, {}", record.reason)
        self.policy.arrived(record, event.cpu_s, self.now_s, self.held)
        heappush(self.not_ready, (record.ready_s, record.serial, record))
        self.arrival = record

    def _submitted_again(self, known: JobRecord, session: SessionRecord, event: JobSubmitted) -> None:
        """The same id once more: only a claim, or a life after the end of its session, changes anything."""
        if known.session is not session:
            known.session = session
            session.jobs[known.id] = known
            session.promised_shots += known.job.shots
            session.promised_ns += to_ns(known.job.device_s)
        if known.state is JobState.STOPPING and self.stop_reason == CANCELLED:
            self.stop_reason = MADE_WAY
        if known.kind is not JobKind.SPECULATIVE or event.job.kind is JobKind.SPECULATIVE:
            return
        waits = known.state is JobState.WAITING
        if waits:
            self.policy.remove(known)
        known.kind = event.job.kind
        job_class, known.reason = self._classify(known)
        if known.state is JobState.UNCLAIMED:
            self.transition_unclaimed_claimed(known)
            return
        self.policy.reclassify(known, job_class, self.now_s)
        if waits:
            self.policy.add(known, self.now_s)
        self.story.tell(self.now_s, known.id, "claimed, {}", known.reason)

    def _classify(self, job: JobRecord) -> tuple[JobClass, str]:
        session = job.session
        gap_s = None
        if job.kind is JobKind.LOOP:
            if session.classical_since_s is not None:
                gap_s = self.now_s - session.classical_since_s
            session.classical_since_s = None
        return self.policy.classify(job, self.now_s, gap_s)

    def _refusal(self, job: JobRecord) -> tuple[FailureCode, str] | None:
        session = job.session
        if self.draining or session.opened_s > self.cordoned_at_s:
            return FailureCode.DRAINING, "the device takes no work: it is being drained"
        if self.waiting >= self.config.max_waiting:
            return FailureCode.QUEUE_FULL, f"{self.waiting} jobs wait for the device, it takes no more"
        if len(session.jobs) >= self.config.max_waiting_per_session:
            return (
                FailureCode.QUEUE_FULL,
                f"{len(session.jobs)} jobs of the session wait, it may have no more",
            )
        limit_s = session.max_calibration_age_s
        if limit_s is not None:
            calibration_s = self.calibration.cost_s(job.job, localised=self.policy.localised)
            if limit_s < calibration_s:
                return FailureCode.CALIBRATION, (
                    f"the session takes calibrations of at most {limit_s:g} s, one for this job takes "
                    f"{calibration_s:g} s: raise its limit"
                )
        shots = session.charged_shots + session.promised_shots + job.job.shots
        if session.max_shots is not None and shots > session.max_shots:
            return (
                FailureCode.LIMIT_REACHED,
                f"with {shots} shots the session passes its limit {session.max_shots}",
            )
        ns = session.charged_ns + session.promised_ns + to_ns(job.job.device_s)
        if session.max_qpu_ns is not None and ns > session.max_qpu_ns:
            limit_s = session.max_qpu_ns / NS
            return (
                FailureCode.LIMIT_REACHED,
                f"with {ns / NS:.6g} s the session passes its limit {limit_s:.6g} s",
            )
        return None

    def _handle_job_cancelled(self, event: JobCancelled) -> None:
        job = self.jobs.get(event.job_id)
        if job is None:
            return
        if job.state is JobState.RUNNING:
            self.transition_running_stopping(job, CANCELLED)
        elif job.state is JobState.STOPPING:
            self.stop_reason = CANCELLED
        else:
            self.drop(job, FailureCode.CANCELLED, CANCELLED, retry=False)

    # --- slices -----------------------------------------------------------------------------------

    def _holder(self, job_id: str) -> JobRecord:
        job = self.held
        if job is None or job.id != job_id:
            holder = "nothing" if job is None else job.id
            raise self.impossible(job_id, f"no slice of {job_id!r} runs, the device holds {holder}", "job_id")
        return job

    def _busy(self, job: str, busy_s: float) -> None:
        if not (math.isfinite(busy_s) and busy_s >= 0):
            raise self.impossible(job, f"{busy_s} s is no time", "busy_s")

    def _handle_slice_finished(self, event: SliceFinished) -> None:
        job = self._holder(event.job_id)
        self._busy(job.id, event.busy_s)
        self.held = None
        stopped = job.state is JobState.STOPPING
        if stopped:
            # What a stopped slice did is void: it may have ended anywhere. It is no session's fault if it
            # made way.
            billed_ns = (job.shots_ns, job.turn_ns)
            self.accounts.slice_ended(job, event.busy_s, self.turn_s)
            if self.stop_reason == MADE_WAY or job.kind is JobKind.SPECULATIVE:
                lost = job.shots_ns + job.turn_ns - sum(billed_ns)
                job.shots_ns, job.turn_ns = billed_ns
                key = f"{job.id}/speculation{at(job)}/{job.slices}"
                if lost:
                    self.out.append(self.accounts.write_off(key, lost, "speculation"))
        else:
            self.accounts.slice_ended(job, event.busy_s, self.turn_s)
            job.next_block += self.blocks
        self.policy.used(job, event.busy_s, self.now_s)
        if job.session.closed:
            self.drop(job, FailureCode.CANCELLED, "its session was closed", retry=False)
        elif stopped and self.stop_reason == CANCELLED:
            self.drop(job, FailureCode.CANCELLED, CANCELLED, retry=False)
        elif stopped or job.next_block < job.job.blocks:
            self.transition_back_to_waiting(job)
        elif job.kind is JobKind.SPECULATIVE:
            self.transition_running_unclaimed(job)
        else:
            self.transition_running_completed(job)

    def _handle_slice_failed(self, event: SliceFailed) -> None:
        job = self._holder(event.job_id)
        self._busy(job.id, event.busy_s)
        self.held = None
        self.last_job = None
        self.accounts.slice_ended(job, event.busy_s, self.turn_s)
        self.policy.used(job, event.busy_s, self.now_s)
        job.failures += 1
        self.story.tell(self.now_s, job.id, "attempt {} failed: {}", job.attempt, event.reason)
        self.void_attempt(job)
        if job.session.closed or (job.state is JobState.STOPPING and self.stop_reason == CANCELLED):
            self.drop(job, FailureCode.CANCELLED, CANCELLED, retry=False)
        elif not event.retry or job.failures >= self.config.max_failures:
            reason = f"attempt {job.failures} of {self.config.max_failures} failed: {event.reason}"
            self.drop(job, FailureCode.WORKER_FAILED, reason, retry=False)
        else:
            self.transition_back_to_waiting(job)

    # --- calibrations and the device --------------------------------------------------------------

    def _handle_calibration_finished(self, event: CalibrationFinished) -> None:
        running = self.calibrating
        if running is None:
            raise self.impossible("device", "no calibration runs", "CalibrationFinished")
        self._busy("device", event.busy_s)
        self.end_calibration(running, event.busy_s, event.epoch)

    def _handle_calibration_requested(self, _event: CalibrationRequested) -> None:
        self.calibration.requested = True

    def _handle_drain_requested(self, event: DrainRequested) -> None:
        if not event.drain:
            self.cordoned_at_s = min(self.cordoned_at_s, self.now_s)
            return
        self.draining = True
        for job in list(self.jobs.values()):
            if job.state in (JobState.HELD, JobState.WAITING):
                self.drop(job, FailureCode.DRAINING, "the device is being drained", retry=True)

    def _handle_drain_cancelled(self, _event: DrainCancelled) -> None:
        self.draining = False
        self.cordoned_at_s = math.inf

    def _handle_usage_reported(self, event: UsageReported) -> None:
        for place, value in (("cpu_s", event.cpu_s), ("qpu_s", event.qpu_s)):
            if not (math.isfinite(value) and value >= 0):
                raise self.impossible(event.tenant, f"{value} s is no use", place)
        if event.weight is not None:
            if not (math.isfinite(event.weight) and event.weight > 0):
                raise self.impossible(
                    event.tenant, f"{event.weight} must be a finite number above 0", "weight"
                )
            self.tenant_weights[event.tenant] = event.weight
        self.policy.use_reported(
            event.tenant, event.cpu_s, event.qpu_s, self.now_s, self.tenant_weights.get(event.tenant)
        )

    def _handle_timer_fired(self, _event: TimerFired) -> None:
        """Time passed; `advance` looks what changed by that."""
