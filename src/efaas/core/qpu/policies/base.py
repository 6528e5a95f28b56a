"""What a policy decides, and what the machine decides for every policy alike.

The machine keeps lives, charges, limits, calibrations and retries; a policy only answers *who is next and
for how many cells*. So a comparison of policies compares that and nothing else.
"""

# ruff: noqa: ARG002  (an interface: most policies need only some of it)

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from efaas.core.qpu.calibration import CalibrationClock
from efaas.core.qpu.config import QpuConfig
from efaas.core.qpu.lifecycle import JobRecord, SessionRecord
from efaas.core.qpu.messages import JobClass, JobKind


@dataclass(frozen=True, slots=True)
class Run:
    """Let this waiting job have the device for so many cells."""

    job: JobRecord
    blocks: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Let nothing run for now, although work may wait."""

    reserved_for: str | None
    until_s: float | None
    reason: str


Choice = Run | Hold | None
"""None: nothing waits."""


class Policy:
    """A policy that says nothing about order; the others fill it in.

    Args:
        config: settings of the device.
        calibration: ages of the device's calibrations, to look at.
    """

    name = ""
    localised = False
    """Whether calibrations on need are localised where that is cheaper."""
    drops_speculation = False
    """Whether a running speculative slice ends at once when a real job comes."""

    def __init__(self, config: QpuConfig, calibration: CalibrationClock) -> None:
        self.config = config
        self.calibration = calibration

    # --- what happens ---

    def session_opened(self, session: SessionRecord, tenant_weight: float, now_s: float) -> None:
        """A session came, or came again with other settings."""

    def session_closed(self, session: SessionRecord, now_s: float) -> None:
        """A session went; its waiting jobs were removed before."""

    def classify(self, job: JobRecord, now_s: float, gap_s: float | None) -> tuple[JobClass, str]:
        """Class of a job that arrives, and why.

        `gap_s` is the time since all results of its session were in, None when some are outstanding.
        """
        return (JobClass.SPECULATIVE if job.kind is JobKind.SPECULATIVE else JobClass.BATCH), "waits its turn"

    def ready_s(self, job: JobRecord, now_s: float) -> float:
        """Device time from which a job that arrives now may wait for the device."""
        return now_s

    def arrived(self, job: JobRecord, cpu_s: float, now_s: float, held_by: JobRecord | None) -> None:
        """A job arrived and has its class; `held_by` is the job that holds the device."""

    def add(self, job: JobRecord, now_s: float) -> None:
        """The job waits from now on."""
        raise NotImplementedError

    def remove(self, job: JobRecord) -> None:
        """The job waits no more: it starts or is dropped."""
        raise NotImplementedError

    def started(self, job: JobRecord, now_s: float) -> None:
        """A slice of the job starts."""

    def used(self, job: JobRecord, busy_s: float, now_s: float) -> None:
        """A slice of the job ended; it is added again if cells are left."""

    def left(self, job: JobRecord, now_s: float) -> None:
        """The job is complete or dropped."""

    def reclassify(self, job: JobRecord, job_class: JobClass, now_s: float) -> None:
        """A job that is present, and in no queue, changes its class: demoted with its session, or claimed."""
        job.job_class = job_class

    def calibrated(self, session: SessionRecord, busy_s: float, now_s: float) -> None:
        """A calibration that the session caused ended."""

    def use_reported(
        self, tenant: str, cpu_s: float, qpu_s: float, now_s: float, weight: float | None = None
    ) -> None:
        """Decayed use of a tenant elsewhere, and its weight if it is told."""

    # --- what is asked ---

    def choose(self, now_s: float, last_job: str | None) -> Choice:
        """Who is next; `last_job` is the job that the device turned to last."""
        raise NotImplementedError

    def order(self) -> Iterator[JobRecord]:
        """Waiting jobs in the order in which they would start if nothing else came."""
        raise NotImplementedError

    def ahead(self, job_class: JobClass) -> tuple[int, float]:
        """Waiting jobs of this class and better ones, and their device seconds, about; for estimates."""
        raise NotImplementedError

    def stretch(self, job: JobRecord) -> int:
        """Cells that a job would get if it were chosen now and nobody was expected."""
        return job.job.blocks - job.next_block

    def repeats(self, run: Run, now_s: float, last_job: str | None) -> int:
        """How often this choice would be made in a row if nothing happened, for `merge_slices`."""
        return 1

    def real_work_waits(self) -> bool:
        """Whether any job waits that is not speculative."""
        return False

    def calibration_limit_s(self, job: JobRecord) -> float:
        """Oldest calibration on which the policy starts a job, limits of device and session aside."""
        return math.inf

    def may_calibrate(self, now_s: float) -> bool:
        """Whether a scheduled calibration may take place now."""
        return True

    def quiet(self) -> bool:
        """Whether no loop would miss the device, were it calibrated now."""
        return True

    def wake_s(self, now_s: float) -> float | None:
        """Moment at which the answers change by themselves."""
        return None

    def expired(self, now_s: float) -> tuple[tuple[JobRecord, str], ...]:
        """Jobs that this policy gives up, and why."""
        return ()
