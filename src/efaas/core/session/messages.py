"""Events into, and decisions out of, the machine that leads one session through its life.

The host (the operator) observes the world and tells it as events, each with the wall clock `now_s` in seconds
since 1970; it carries out the decisions in order. Everything may be told twice: a host that was killed
observes anew what it had told before. News of a runner that has been replaced is therefore ignored, while
news of a runner that was never asked for raises `ProtocolError` and changes nothing.

Decisions are idempotent too: each names the lease epoch it is about, and to create, release, stop or fence a
runner twice is the same as once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from efaas.errors import EfaasError


class ProtocolError(EfaasError):
    """The host told something that cannot be."""

    code = "ProtocolError"


class SessionState(StrEnum):
    """Where a session is in its life; the drawing is in `efaas.core.session.machine`."""

    PENDING = "Pending"
    ADMITTED = "Admitted"
    PLACED = "Placed"
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    EXPIRED = "Expired"


FINAL = frozenset({SessionState.COMPLETED, SessionState.FAILED, SessionState.CANCELLED, SessionState.EXPIRED})
"""States that a session never leaves."""


class Outcome(StrEnum):
    """How a runner ended, as its pod's status tells."""

    COMPLETED = "Completed"
    FAILED = "Failed"
    """It said that trying again is useless (bad input)."""
    CRASHED = "Crashed"
    """It died; another try may go well."""
    EXPIRED = "Expired"
    """A limit of the session was reached, as the runner or a device found."""
    STOPPED = "Stopped"
    """It was deleted, evicted or refused by its node (``OutOf…``): nobody's fault."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits and waits of one session; times are wall seconds."""

    max_duration_s: float | None = None
    """Since the first admission."""
    max_idle_s: float | None = None
    """Without a job, while it runs."""
    max_shots: int | None = None
    max_qpu_s: float | None = None
    """Device seconds charged."""
    ttl_s: float | None = None
    """From its end to the deletion of its object; None: it is kept."""
    max_failures: int = 6
    """Crashes in a row, without a new iteration between them, that end the session."""
    first_wait_s: float = 10.0
    """Before a second try; doubled with each further crash in a row."""
    longest_wait_s: float = 300.0
    stop_within_s: float = 45.0
    """A runner that was asked to stop is fenced off after this: the grace of its pod, and some more."""
    fence_again_s: float = 10.0
    """Between attempts to fence."""


# --- events ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was observed at `now_s`."""

    now_s: float


@dataclass(frozen=True, slots=True)
class Tick(Event):
    """Time passed; to be told at `SessionMachine.next_wake_s` or later."""


@dataclass(frozen=True, slots=True)
class Wanted(Event):
    """What the specification says now of what may change."""

    suspend: bool
    policy: Policy


@dataclass(frozen=True, slots=True)
class Deleted(Event):
    """Somebody deleted the session's object; it stays until `AllowDeletion`."""


@dataclass(frozen=True, slots=True)
class Refused(Event):
    """Admission keeps the session waiting, for this reason."""

    reason: str
    """CamelCase word, such as ``NoDeviceFits``."""
    message: str


@dataclass(frozen=True, slots=True)
class Granted(Event):
    """Admission gives the session a slot."""


@dataclass(frozen=True, slots=True)
class RunnerPlaced(Event):
    """The runner's pod was bound to a device's node."""

    epoch: int
    device: str


@dataclass(frozen=True, slots=True)
class RunnerStarted(Event):
    """The runner's program runs."""

    epoch: int
    device: str


@dataclass(frozen=True, slots=True)
class RunnerTroubled(Event):
    """The runner is kept from starting by something that a person can mend (image, ConfigMap)."""

    epoch: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class RunnerEnded(Event):
    """The runner is gone for certain: its pod ended, as its kubelet says, or never started."""

    epoch: int
    outcome: Outcome
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class RunnerLost(Event):
    """Nobody can say whether the runner still works: its node is silent."""

    epoch: int
    message: str


@dataclass(frozen=True, slots=True)
class RunnerFenced(Event):
    """Whatever the runner still does, nobody listens: journal and devices refuse its epoch."""

    epoch: int


@dataclass(frozen=True, slots=True)
class MoveAsked(Event):
    """The session is to leave its device (drain, a better one)."""

    device: str
    """The device to leave; ignored if the session is not there (any more)."""
    message: str


@dataclass(frozen=True, slots=True)
class Reported(Event):
    """Accounts of the session's work so far; never less than before."""

    iterations: int
    shots: int
    qpu_s: float
    last_job_s: float
    """Wall clock of its last job."""


# --- decisions ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Decision:
    """Something that the host does."""


@dataclass(frozen=True, slots=True)
class CreateRunner(Decision):
    """Keep the new epoch where it survives the host, then make a gated runner with it."""

    epoch: int


@dataclass(frozen=True, slots=True)
class ReleaseRunner(Decision):
    """Take the gate off."""

    epoch: int


@dataclass(frozen=True, slots=True)
class StopRunner(Decision):
    """Ask the runner to end; `RunnerEnded` follows when it has."""

    epoch: int
    message: str


@dataclass(frozen=True, slots=True)
class FenceRunner(Decision):
    """Have the journal and all devices refuse this epoch, then force its pod away; answer `RunnerFenced`."""

    epoch: int


@dataclass(frozen=True, slots=True)
class CloseOnDevices(Decision):
    """The session is over: its jobs leave the queues; what it used stays charged."""


@dataclass(frozen=True, slots=True)
class AllowDeletion(Decision):
    """Take the finalizer off."""


@dataclass(frozen=True, slots=True)
class DeleteSession(Decision):
    """Delete the session's object: it ended long enough ago."""
