"""The machine as people and metrics see it: a value that shares nothing with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from efaas.core.qpu.lifecycle import NS, JobState, SessionRecord
from efaas.core.qpu.messages import JobClass

if TYPE_CHECKING:
    from efaas.core.qpu.dispatch import Dispatcher


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A job in the queue."""

    job_id: str
    session: str
    job_class: JobClass
    position: int
    """From 1: jobs that start before it, and itself."""
    estimated_start_s: float
    """Device seconds from now, if nothing else comes."""
    reason: str


@dataclass(frozen=True, slots=True)
class SessionView:
    """An open session."""

    session: str
    tenant: str
    state: str
    """Running, Queued, Classical."""
    jobs_done: int
    shots: int
    """Charged."""
    qpu_s: float
    """Device seconds charged."""
    wasted_shots: int
    """Of speculation that came to nothing."""
    position: int
    """Of its first waiting job; 0: none waits."""
    estimated_start_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class QpuView:
    """The device."""

    now_s: float
    condition: str
    """Ready, Calibrating, Draining."""
    epoch: int
    calibration_age_s: float
    queue: tuple[WaitingJob, ...]
    sessions: tuple[SessionView, ...]
    busy_s: float
    """Device seconds of shots since the start."""
    turning_s: float
    """Device seconds lost by turning from job to job."""
    calibrating_s: float
    """Device seconds of calibration since the start."""
    billed_s: float
    unbilled_s: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """What whoever places sessions wants to know of a device; device seconds from now."""

    wait_s: float
    """Until a new active loop would start, if nothing else comes."""
    calibration_left_s: float
    """Until the running calibration ends; 0 when none runs."""
    calibration_due_s: float | None
    """Until the next scheduled calibration is due; None: none is scheduled."""


def outlook(machine: Dispatcher, now_s: float) -> Outlook:
    """What is to be expected of the machine at `now_s`, not before its last event."""
    left_s = machine.held_for_s(now_s)
    due_s = machine.calibration.due_s
    return Outlook(
        wait_s=left_s + machine.policy.ahead(JobClass.ACTIVE)[1],
        calibration_left_s=left_s if machine.calibrating is not None else 0.0,
        calibration_due_s=max(0.0, due_s - now_s) if math.isfinite(due_s) else None,
    )


def queue_position(machine: Dispatcher, job_id: str) -> int:
    """Place of a waiting job in the expected order, from 1; 0 when it does not wait."""
    for position, job in enumerate(machine.policy.order(), start=1):
        if job.id == job_id:
            return position
    return 0


def view(machine: Dispatcher, now_s: float) -> QpuView:
    """The machine at `now_s`, not before its last event."""
    ahead_s = machine.held_for_s(now_s)
    queue: list[WaitingJob] = []
    first: dict[str, WaitingJob] = {}
    for position, job in enumerate(machine.policy.order(), start=1):
        entry = WaitingJob(job.id, job.session.name, job.job_class, position, ahead_s, job.reason)
        queue.append(entry)
        first.setdefault(job.session.name, entry)
        ahead_s += job.remaining_s
    condition = "Ready"
    if machine.calibrating is not None:
        condition = "Calibrating"
    elif machine.draining:
        condition = "Draining"
    accounts = machine.accounts
    return QpuView(
        now_s=now_s,
        condition=condition,
        epoch=machine.calibration.epoch,
        calibration_age_s=machine.calibration.age_s((), now_s),
        queue=tuple(queue),
        sessions=tuple(_session(machine, session, first) for session in machine.sessions.values()),
        busy_s=accounts.shots_ns / NS,
        turning_s=accounts.turn_ns / NS,
        calibrating_s=accounts.calibrating_ns / NS,
        billed_s=accounts.billed_ns / NS,
        unbilled_s=accounts.unbilled_ns / NS,
    )


def _session(machine: Dispatcher, session: SessionRecord, first: dict[str, WaitingJob]) -> SessionView:
    entry = first.get(session.name)
    position, start_s, reason = 0, 0.0, ""
    if machine.held is not None and machine.held.session is session:
        state = "Running"
        reason = machine.held.reason
    elif any(job.state is not JobState.UNCLAIMED for job in session.jobs.values()):
        state = "Queued"
        if entry is None:
            reason = "its container or pilot starts"
        else:
            position, start_s, reason = entry.position, entry.estimated_start_s, entry.reason
        if machine.calibrating is not None:
            reason = f"{reason}; the device calibrates: {machine.calibrating.reason}"
    else:
        state = "Classical"
        if machine.idle is not None and machine.idle.reserved_for == session.name:
            reason = machine.idle.reason
    return SessionView(
        session=session.name,
        tenant=session.tenant,
        state=state,
        jobs_done=session.jobs_done,
        shots=session.charged_shots,
        qpu_s=session.charged_ns / NS,
        wasted_shots=session.wasted_shots,
        position=position,
        estimated_start_s=start_s,
        reason=reason,
    )
