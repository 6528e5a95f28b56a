"""SR, static reservation: the device is locked for a session's whole life, its classical time included.

Sessions and single batch jobs stand in one line by the arrival of their first job. Whoever comes first has
the device until the session closes, or until the batch job is done.
"""

# ruff: noqa: ARG002, D102  (the interface's methods are documented in `base` and take what it says)

from __future__ import annotations

from collections.abc import Iterator

from efaas.core.qpu.calibration import CalibrationClock
from efaas.core.qpu.config import QpuConfig
from efaas.core.qpu.lifecycle import JobRecord, SessionRecord
from efaas.core.qpu.messages import JobClass, JobKind
from efaas.core.qpu.policies.base import Choice, Hold, Policy, Run
from efaas.core.qpu.policies.fifo import Line


def holder_of(job: JobRecord) -> str:
    """Who holds the device for this job: its session, or a batch job for itself."""
    return f"session {job.session.name}" if job.kind is not JobKind.BATCH else f"job {job.id}"


class StaticReservation(Policy):
    """SR."""

    name = "sr"

    def __init__(self, config: QpuConfig, calibration: CalibrationClock) -> None:
        super().__init__(config, calibration)
        # Waiting jobs by holder; a holder stays in its place while it has none.
        self.lines: dict[str, Line] = {}
        # Who has the device.
        self.holder: str | None = None
        self._waiting = 0
        self._remaining_s = 0.0

    def add(self, job: JobRecord, now_s: float) -> None:
        self.lines.setdefault(holder_of(job), Line()).add(job)
        self._waiting += 1
        self._remaining_s += job.remaining_s

    def remove(self, job: JobRecord) -> None:
        holder = holder_of(job)
        line = self.lines[holder]
        self._waiting -= 1
        self._remaining_s = max(0.0, self._remaining_s - job.remaining_s)
        line.remove(job)
        if not line and holder != self.holder:
            del self.lines[holder]

    def started(self, job: JobRecord, now_s: float) -> None:
        self.take(holder_of(job), now_s)

    def left(self, job: JobRecord, now_s: float) -> None:
        if job.kind is JobKind.BATCH:
            self.release(holder_of(job))

    def session_closed(self, session: SessionRecord, now_s: float) -> None:
        self.release(f"session {session.name}")

    def take(self, holder: str, now_s: float) -> None:
        """The device is this holder's from now on."""
        self.holder = holder
        self.lines.setdefault(holder, Line())

    def release(self, holder: str) -> None:
        """The device is this holder's no more; its place in the line is lost."""
        if self.holder == holder:
            self.holder = None
        line = self.lines.get(holder)
        if line is not None and not line:
            del self.lines[holder]

    def choose(self, now_s: float, last_job: str | None) -> Choice:
        if self.holder is not None:
            first = self.lines[self.holder].first()
            if first is None:
                return Hold(self.holder, self.wake_s(now_s), f"the device is reserved for {self.holder}")
        else:
            first = next((line.first() for line in self.lines.values() if line), None)
        return None if first is None else Run(first, first.job.blocks - first.next_block)

    def order(self) -> Iterator[JobRecord]:
        if self.holder is not None:
            yield from self.lines[self.holder]
        for holder, line in self.lines.items():
            if holder != self.holder:
                yield from line

    def ahead(self, job_class: JobClass) -> tuple[int, float]:
        return self._waiting, self._remaining_s
