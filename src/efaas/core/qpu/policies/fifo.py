"""First come, first served, whole jobs: the base of every rival."""

# ruff: noqa: ARG002, D102  (the interface's methods are documented in `base` and take what it says)

from __future__ import annotations

from collections.abc import Iterator

from efaas.core.qpu.calibration import CalibrationClock
from efaas.core.qpu.config import QpuConfig
from efaas.core.qpu.lifecycle import JobRecord
from efaas.core.qpu.messages import JobClass
from efaas.core.qpu.policies.base import Choice, Policy, Run


class Line:
    """Jobs in the order in which they came to the line."""

    def __init__(self) -> None:
        self._jobs: dict[str, JobRecord] = {}
        self._front: dict[str, JobRecord] = {}
        self.remaining_s = 0.0
        """Device seconds of all jobs in it, about."""

    def __len__(self) -> int:
        return len(self._jobs) + len(self._front)

    def __iter__(self) -> Iterator[JobRecord]:
        yield from self._front.values()
        yield from self._jobs.values()

    def add(self, job: JobRecord) -> None:
        """At the tail; a job that had started goes back to the front."""
        (self._front if job.slices else self._jobs)[job.id] = job
        self.remaining_s += job.remaining_s

    def remove(self, job: JobRecord) -> None:
        """Out of the line, wherever it stands."""
        if self._front.pop(job.id, None) is None:
            del self._jobs[job.id]
        self.remaining_s = self.remaining_s - job.remaining_s if len(self) else 0.0

    def first(self) -> JobRecord | None:
        """Whose turn it is."""
        return next(iter(self), None)


class Fifo(Policy):
    """One line of whole jobs."""

    def __init__(self, config: QpuConfig, calibration: CalibrationClock) -> None:
        super().__init__(config, calibration)
        self.line = Line()

    def add(self, job: JobRecord, now_s: float) -> None:
        self.line.add(job)

    def remove(self, job: JobRecord) -> None:
        self.line.remove(job)

    def choose(self, now_s: float, last_job: str | None) -> Choice:
        first = self.line.first()
        return None if first is None else Run(first, first.job.blocks - first.next_block)

    def order(self) -> Iterator[JobRecord]:
        return iter(self.line)

    def ahead(self, job_class: JobClass) -> tuple[int, float]:
        return len(self.line), self.line.remaining_s
