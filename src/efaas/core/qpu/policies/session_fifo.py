"""Session-FIFO, the rules of IBM's sessions: the first job queues, then the session has the device to itself.

- A session that submits nothing for the *interactive time to live* loses the device and queues again.
- The *maximum time to live* runs from its first job, idle or not; when it is over, waiting jobs are given up.
- Nothing is calibrated on schedule while a session has the device.
- Wall-clock is billed: `billed_s` tells for how long each session held the device, idle time included.
"""

# ruff: noqa: ARG002, D102  (the interface's methods are documented in `base` and take what it says)

from __future__ import annotations

from efaas.core.qpu.calibration import CalibrationClock
from efaas.core.qpu.config import QpuConfig
from efaas.core.qpu.lifecycle import JobRecord, JobState, SessionRecord
from efaas.core.qpu.messages import JobKind
from efaas.core.qpu.policies.base import Choice
from efaas.core.qpu.policies.sr import StaticReservation


class SessionFifo(StaticReservation):
    """Session-FIFO."""

    name = "session-fifo"

    def __init__(self, config: QpuConfig, calibration: CalibrationClock) -> None:
        super().__init__(config, calibration)
        self.billed_s: dict[str, float] = {}
        """Device seconds for which each session held the device."""
        self._held_since_s = 0.0
        # Since when the holder has no job on the device or waiting; None while it has one.
        self._idle_since_s: float | None = None
        # First start of each session, and the session itself.
        self._first_s: dict[str, float] = {}
        self._sessions: dict[str, SessionRecord] = {}

    def take(self, holder: str, now_s: float) -> None:
        if self.holder != holder:
            self._held_since_s = now_s
            self._idle_since_s = None
        super().take(holder, now_s)

    def started(self, job: JobRecord, now_s: float) -> None:
        super().started(job, now_s)
        if job.kind is not JobKind.BATCH:
            self._first_s.setdefault(job.session.name, now_s)
            self._sessions[job.session.name] = job.session

    def add(self, job: JobRecord, now_s: float) -> None:
        super().add(job, now_s)
        if holder_is(self.holder, job.session):
            self._idle_since_s = None

    def left(self, job: JobRecord, now_s: float) -> None:
        super().left(job, now_s)
        if holder_is(self.holder, job.session) and not job.session.jobs:
            self._idle_since_s = now_s

    def session_closed(self, session: SessionRecord, now_s: float) -> None:
        if holder_is(self.holder, session):
            self._bill(session.name, now_s)
        super().session_closed(session, now_s)
        self._first_s.pop(session.name, None)
        self._sessions.pop(session.name, None)

    def choose(self, now_s: float, last_job: str | None) -> Choice:
        until_s = self.wake_s(now_s)
        if until_s is not None and now_s >= until_s and self.holder is not None:
            self._bill(self.holder.removeprefix("session "), until_s)
            self.release(self.holder)
        return super().choose(now_s, last_job)

    def wake_s(self, now_s: float) -> float | None:
        if self.holder is None or self._idle_since_s is None:
            return None
        name = self.holder.removeprefix("session ")
        end_s = self._first_s.get(name, now_s) + self.config.max_ttl_s
        return min(self._idle_since_s + self.config.interactive_ttl_s, max(end_s, self._idle_since_s))

    def expired(self, now_s: float) -> tuple[tuple[JobRecord, str], ...]:
        late = [name for name, first_s in self._first_s.items() if now_s - first_s >= self.config.max_ttl_s]
        why = f"the session is older than its maximum time to live of {self.config.max_ttl_s:g} s"
        return tuple(
            (job, why)
            for name in late
            for job in self._sessions[name].jobs.values()
            if job.state in (JobState.WAITING, JobState.HELD)
        )

    def may_calibrate(self, now_s: float) -> bool:
        return self.holder is None or not self.holder.startswith("session ")

    def _bill(self, session: str, now_s: float) -> None:
        self.billed_s[session] = self.billed_s.get(session, 0.0) + now_s - self._held_since_s


def holder_is(holder: str | None, session: SessionRecord) -> bool:
    """Whether the session has the device."""
    return holder == f"session {session.name}"
