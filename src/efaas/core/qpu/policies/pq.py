"""PQ, the pilot: a session's first task pays the line and the pilot's start, each later one a launch only.

Once its first task is done, a session's pilot keeps its place: its tasks wait in a short line ahead of
everybody who has no pilot, but never interrupt a running job. Tasks go to the least loaded device, without
affinity. Starts and launches do not hold the device, which is kind to this rival. A calibration older than
τ is renewed in full.
"""

# ruff: noqa: ARG002, D102  (the interface's methods are documented in `base` and take what it says)

from __future__ import annotations

from collections.abc import Iterator

from efaas.core.qpu.calibration import CalibrationClock
from efaas.core.qpu.config import QpuConfig
from efaas.core.qpu.lifecycle import JobRecord, SessionRecord
from efaas.core.qpu.messages import JobClass, JobKind
from efaas.core.qpu.policies.base import Choice, Run
from efaas.core.qpu.policies.fifo import Line
from efaas.core.qpu.policies.sbq import StatelessBatchQueue


class PilotQueue(StatelessBatchQueue):
    """PQ."""

    name = "pq"

    def __init__(self, config: QpuConfig, calibration: CalibrationClock) -> None:
        super().__init__(config, calibration)
        self.tasks = Line()
        self._piloted: set[str] = set()

    def ready_s(self, job: JobRecord, now_s: float) -> float:
        if job.kind is not JobKind.LOOP:
            return now_s
        if job.session.name in self._piloted:
            return now_s + self.config.pilot_task_s
        return now_s + self.config.pilot_start_s

    def session_closed(self, session: SessionRecord, now_s: float) -> None:
        self._piloted.discard(session.name)

    def add(self, job: JobRecord, now_s: float) -> None:
        if job.kind is JobKind.LOOP and job.session.name in self._piloted:
            self.tasks.add(job)
            job.ticket = 1
        else:
            self.line.add(job)
            job.ticket = 0

    def remove(self, job: JobRecord) -> None:
        (self.tasks if job.ticket else self.line).remove(job)

    def left(self, job: JobRecord, now_s: float) -> None:
        if job.kind is JobKind.LOOP and not job.session.closed and job.slices:
            self._piloted.add(job.session.name)

    def choose(self, now_s: float, last_job: str | None) -> Choice:
        first = self.tasks.first()
        return Run(first, first.job.blocks - first.next_block) if first else super().choose(now_s, last_job)

    def order(self) -> Iterator[JobRecord]:
        yield from self.tasks
        yield from self.line

    def ahead(self, job_class: JobClass) -> tuple[int, float]:
        return len(self.tasks) + len(self.line), self.tasks.remaining_s + self.line.remaining_s
