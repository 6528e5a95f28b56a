"""Events into, and decisions out of, the machine that runs one QPU (`efaas.core.qpu`).

The machine owns every decision about one device: who runs next, for how many blocks, when to calibrate,
what to charge to whom. A host (QPU server, simulator, test) feeds it events, each with the device clock
`now_s`, and carries out its decisions in order; what comes of them returns as events. The machine never
waits, reads no clock and draws no unseeded random number.

All times are device seconds; the machine counts them in whole nanoseconds, so that sums are exact. An event
that cannot be (an unknown job, a slice that was never started) raises `ProtocolError` and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class JobKind(StrEnum):
    """What the submitter says a job is; the machine decides the class, so that labels cannot be gamed."""

    LOOP = "loop"
    BATCH = "batch"
    SPECULATIVE = "speculative"


class JobClass(IntEnum):
    """Strict classes, best first."""

    ACTIVE = 0
    """An iteration of a session that has shown itself to be a loop."""
    FIRST = 1
    """First iterations: a loop that has not started yet."""
    BATCH = 2
    SPECULATIVE = 3


@dataclass(frozen=True, slots=True)
class Job:
    """One job, as the queue sees it."""

    id: str
    session: str
    kind: JobKind
    blocks: int
    """Number of (block, pair) cells; a slice is a run of whole cells."""
    block_s: float
    """Device seconds that one cell holds the device."""
    shots: int
    """All shots of the job: charged when it completes."""
    circuit: str
    """Handle of the circuit: what caches are warm for."""
    qubits: tuple[int, ...] = ()
    """Physical qubits the circuit uses: what a localised calibration measures."""
    evaluation: int = 0

    @property
    def device_s(self) -> float:
        """Device seconds of the whole job."""
        return self.blocks * self.block_s


# --- events ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at `now_s` on the device clock."""

    now_s: float


@dataclass(frozen=True, slots=True)
class SessionOpened(Event):
    """A session's stream came up (again)."""

    session: str
    tenant: str
    weight: float = 1.0
    """Share of the session among those of its tenant."""
    max_calibration_age_s: float | None = None
    """No slice of the session starts on a calibration older than this."""
    tenant_weight: float = 1.0
    """Share of the tenant among tenants; the latest one said holds."""
    max_shots: int | None = None
    """Limit of shots charged to the session."""
    max_qpu_s: float | None = None
    """Limit of device seconds charged to the session."""
    charged_shots: int = 0
    """Shots charged before, in an earlier life of the device or elsewhere; looked at when first opened."""
    charged_qpu_s: float = 0.0
    """As `charged_shots`, in device seconds."""


@dataclass(frozen=True, slots=True)
class SessionClosed(Event):
    """The session ended: its waiting jobs are dropped, a running slice ends and is not continued."""

    session: str


@dataclass(frozen=True, slots=True)
class JobSubmitted(Event):
    """A job arrived.

    The same id again is ignored while the job is known, but for one thing: a real submit of a job that was
    speculative so far *claims* it. It then has the class and the price of a real job; if it is complete
    already, `CompleteJob` is said again, with its charge.
    """

    job: Job
    cpu_s: float = 0.0
    """CPU seconds of the classical step that led to it."""


@dataclass(frozen=True, slots=True)
class JobCancelled(Event):
    """The submitter wants the job no more; unknown or finished ids are ignored.

    A completed speculative job that nobody claimed is forgotten, unbilled.
    """

    job_id: str


@dataclass(frozen=True, slots=True)
class SliceFinished(Event):
    """The slice that was started last ended as planned."""

    job_id: str
    busy_s: float
    """Device seconds it held the device."""


@dataclass(frozen=True, slots=True)
class SliceFailed(Event):
    """The slice ended without a result (dead worker); the job starts again from block 0 or is given up."""

    job_id: str
    busy_s: float
    reason: str
    retry: bool = True
    """False: no other attempt can help (the circuit is at fault), the job is given up at once."""


@dataclass(frozen=True, slots=True)
class CalibrationFinished(Event):
    """The calibration that was started last ended."""

    busy_s: float
    epoch: int


@dataclass(frozen=True, slots=True)
class CalibrationRequested(Event):
    """A person asks for a full calibration."""


@dataclass(frozen=True, slots=True)
class DrainRequested(Event):
    """The device takes no new sessions (cordon) or none at all (drain)."""

    drain: bool


@dataclass(frozen=True, slots=True)
class DrainCancelled(Event):
    """The device takes sessions again."""


@dataclass(frozen=True, slots=True)
class UsageReported(Event):
    """Decayed use of a tenant elsewhere (other devices), from the gateway."""

    tenant: str
    cpu_s: float
    qpu_s: float
    weight: float | None = None
    """Share of the tenant among tenants, from now on also for sessions that are opened later; None: as it
    was."""


@dataclass(frozen=True, slots=True)
class TimerFired(Event):
    """A moment asked for by `WakeAt` came."""


# --- decisions ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Decision:
    """Something the host must do."""


@dataclass(frozen=True, slots=True)
class StartSlice(Decision):
    """Hold the device for cells [first_block, first_block + blocks) of the job.

    Answer `SliceFinished` or `SliceFailed`.
    """

    job_id: str
    first_block: int
    blocks: int
    expected_s: float
    """Device seconds, the cost of turning to this job included."""
    attempt: int
    """From 1; a new number means that blocks of earlier attempts are void."""
    turn_s: float = 0.0
    """The part of `expected_s` that is the cost of turning to this job."""
    job_class: JobClass = JobClass.BATCH
    """The class in which it was chosen."""
    calibration_age_s: float = 0.0
    """Age of the calibration it runs on."""


class CalibrationScope(StrEnum):
    """How much of the device is calibrated."""

    FULL = "full"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class StartCalibration(Decision):
    """Hold the device for a calibration; answer CalibrationFinished."""

    scope: CalibrationScope
    qubits: tuple[int, ...]
    expected_s: float
    caused_by: str | None
    """Session that is charged; None: nobody's (scheduled)."""
    reason: str


@dataclass(frozen=True, slots=True)
class StopSlice(Decision):
    """End the running slice now: its job was cancelled or made way.

    Answer `SliceFinished` with the time it took; its cells do not count.
    """

    job_id: str


@dataclass(frozen=True, slots=True)
class CutSlice(Decision):
    """Let the running slice end after so many of its cells; answer `SliceFinished` at that moment.

    Only said where `QpuConfig.merge_slices` is on.
    """

    job_id: str
    blocks: int
    expected_s: float
    """Device seconds of the whole slice as it is now, from its start, the cost of turning included."""


@dataclass(frozen=True, slots=True)
class CompleteJob(Decision):
    """All cells are done: return the result, charge it."""

    job_id: str
    queue_s: float
    calibration_s: float
    execution_s: float
    slices: int
    attempts: int


class FailureCode(StrEnum):
    """Why a job is given up, for programs."""

    WORKER_FAILED = "WorkerFailed"
    CANCELLED = "Cancelled"
    LIMIT_REACHED = "LimitReached"
    QUEUE_FULL = "QueueFull"
    DRAINING = "Draining"
    CALIBRATION = "Calibration"
    """It runs longer than the oldest calibration it accepts, or accepts none that can be made."""


@dataclass(frozen=True, slots=True)
class FailJob(Decision):
    """The job is given up."""

    job_id: str
    reason: str
    """One sentence for people."""
    retry: bool
    code: FailureCode = FailureCode.WORKER_FAILED


@dataclass(frozen=True, slots=True)
class ReportQueued(Decision):
    """Tell the submitter where its job stands; said on arrival and when the position changes."""

    job_id: str
    position: int
    estimated_start_s: float
    """Device seconds from now."""
    reason: str


@dataclass(frozen=True, slots=True)
class Charge(Decision):
    """Book use on a session, idempotent by key; session None books it on nobody (unbilled)."""

    key: str
    session: str | None
    qpu_s: float
    shots: int
    what: str
    """iteration, calibration, slice-cost, rerun, speculation."""

    @property
    def qpu_ns(self) -> int:
        """Device time in whole nanoseconds: billed and unbilled add up to the device's busy time exactly."""
        return round(self.qpu_s * 1e9)


@dataclass(frozen=True, slots=True)
class WakeAt(Decision):
    """Send TimerFired at this time unless something else comes first; replaces an earlier one."""

    at_s: float


@dataclass(frozen=True, slots=True)
class Idle(Decision):
    """Nothing runs now; `reserved_for` says why work may wait all the same (a gap kept for a loop)."""

    reserved_for: str | None
    until_s: float | None
    reason: str
