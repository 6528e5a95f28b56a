"""A job's life as a table, and what the machine keeps of jobs and sessions.

::

    held ──► waiting ◄──► running ──► completed
      │         │            │  └───► unclaimed ──► claimed
      └─────────┴──► dropped ◄── stopping

- *held*: it arrived, but its policy lets it wait for something that is not the device (a container, a pilot).
- *waiting*: in exactly one queue of the policy. A job of which slices ran waits here too, and goes on at
  its block.
- *running*: it holds the device. *stopping*: it holds the device and the host was told to end that.
- *unclaimed*: a speculative job is complete, and nobody has said yet that its guess was right.

The machine has one method for each move in `TRANSITIONS`; a move that is not there is a bug and raises.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from efaas.core.qpu.messages import Job, JobClass, JobKind

NS = 1_000_000_000
"""Nanoseconds in a second."""


def to_ns(seconds: float) -> int:
    """Whole nanoseconds."""
    return round(seconds * NS)


class JobState(StrEnum):
    """Where a job stands; see the module's text."""

    HELD = "held"
    WAITING = "waiting"
    RUNNING = "running"
    STOPPING = "stopping"
    UNCLAIMED = "unclaimed"
    COMPLETED = "completed"
    CLAIMED = "claimed"
    DROPPED = "dropped"


TRANSITIONS: frozenset[tuple[JobState, JobState]] = frozenset(
    {
        (JobState.HELD, JobState.WAITING),
        (JobState.HELD, JobState.DROPPED),
        (JobState.WAITING, JobState.RUNNING),
        (JobState.WAITING, JobState.DROPPED),
        (JobState.RUNNING, JobState.WAITING),
        (JobState.RUNNING, JobState.STOPPING),
        (JobState.RUNNING, JobState.COMPLETED),
        (JobState.RUNNING, JobState.UNCLAIMED),
        (JobState.RUNNING, JobState.DROPPED),
        (JobState.STOPPING, JobState.WAITING),
        (JobState.STOPPING, JobState.DROPPED),
        (JobState.UNCLAIMED, JobState.CLAIMED),
        (JobState.UNCLAIMED, JobState.DROPPED),
    }
)
"""Every move a job can make."""

FINAL = frozenset({JobState.COMPLETED, JobState.CLAIMED, JobState.DROPPED})
"""States in which the machine forgets the job."""


@dataclass(slots=True, eq=False)
class SessionRecord:
    """What the machine keeps of one session."""

    name: str
    tenant: str
    weight: float
    max_calibration_age_s: float | None
    max_shots: int | None
    max_qpu_ns: int | None
    opened_s: float
    closed: bool = False
    # Jobs that are not final, by id, in order of arrival.
    jobs: dict[str, JobRecord] = field(default_factory=dict)
    jobs_done: int = 0
    charged_shots: int = 0
    charged_ns: int = 0
    # Shots and device time of jobs that are not final; what limits look at on arrival.
    promised_shots: int = 0
    promised_ns: int = 0
    # Speculative shots that came to nothing.
    wasted_shots: int = 0
    # When the last of its loop jobs completed and none was left: the classical step began.
    classical_since_s: float | None = None
    # Why it is where it is, in words, for people.
    note: str = ""


@dataclass(slots=True, eq=False)
class JobRecord:
    """What the machine keeps of one job."""

    job: Job
    session: SessionRecord
    job_class: JobClass
    arrived_s: float
    # Running number of arrivals at this machine: the last word where all else is equal, before the id.
    serial: int
    state: JobState = JobState.HELD
    kind: JobKind = JobKind.BATCH
    # From when it may run; later than its arrival under policies that start containers.
    ready_s: float = 0.0
    # Cells that are done; the next slice starts here.
    next_block: int = 0
    # Raised by each start from block 0; tells the host which blocks are void.
    attempt: int = 1
    failures: int = 0
    # How often its calibration grew too old or was replaced after it had started.
    outdated: int = 0
    # Device time of this attempt: its shots, and the cost of turning to it.
    shots_ns: int = 0
    turn_ns: int = 0
    # Device time that all calibrations had taken when it arrived.
    calibrating_before_ns: int = 0
    # Device time from its arrival to its first start: in calibrations, and otherwise.
    calibrating_ns: int = 0
    queue_ns: int = 0
    first_start_s: float | None = None
    slices: int = 0
    # Identifies its present entry in a queue's heap; 0 when it is in none. Entries with another ticket are
    # void.
    ticket: int = 0
    # Position that the submitter was told last, -1 before.
    told: int = -1
    # Why it has its class, in words.
    reason: str = ""
    # The job's id; asked for so often that it is kept.
    id: str = field(init=False)

    def __post_init__(self) -> None:
        self.id = self.job.id

    @property
    def remaining_s(self) -> float:
        """Device seconds of the cells not done."""
        return (self.job.blocks - self.next_block) * self.job.block_s

    @property
    def started(self) -> bool:
        """Whether cells of the present attempt are done."""
        return self.next_block > 0
