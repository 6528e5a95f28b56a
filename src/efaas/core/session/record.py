"""What is kept of a session's life, the moves that exist, and what always holds."""

from __future__ import annotations

from dataclasses import dataclass

from efaas.core.session.messages import FINAL, SessionState

S = SessionState

ACTIVE = (S.ADMITTED, S.PLACED, S.RUNNING)
"""States in which the session has a slot and a runner that was released."""

TRANSITIONS: frozenset[tuple[SessionState, SessionState]] = frozenset(
    {
        (S.PENDING, S.ADMITTED),
        (S.ADMITTED, S.PLACED),
        (S.PLACED, S.RUNNING),
        *((state, S.PENDING) for state in ACTIVE),
        *((state, S.SUSPENDED) for state in (S.PENDING, *ACTIVE)),
        (S.SUSPENDED, S.PENDING),
        *((state, final) for state in (S.PENDING, *ACTIVE, S.SUSPENDED) for final in FINAL),
    }
)
"""Every move a session can make."""


class InvariantError(AssertionError):
    """The machine is in a state that cannot be; a bug."""


@dataclass(slots=True)
class Runner:
    """The runner whose epoch is the session's highest, until it is gone or fenced."""

    epoch: int
    released: bool = False
    """Whether its gate was taken off: from then on it takes a slot."""
    stop_asked_s: float | None = None
    fence_asked_s: float | None = None

    @property
    def usable(self) -> bool:
        """Whether it is not on its way out."""
        return self.stop_asked_s is None and self.fence_asked_s is None


@dataclass(slots=True)
class SessionRecord:
    """Everything that a session's life depends on; plain values, to be kept in its status."""

    state: SessionState = S.PENDING
    reason: str = "WaitingForAdmission"
    """One CamelCase word for programs."""
    message: str = "waits for its turn"
    epoch: int = 0
    """Of the last runner made; 0 before the first."""
    runner: Runner | None = None
    device: str = ""
    ending: tuple[SessionState, str, str] | None = None
    """State, reason and message that follow once the runner is out of the way."""
    deleted: bool = False
    failures: int = 0
    """Crashes in a row without a new iteration."""
    restarts: int = 0
    not_before_s: float = 0.0
    """No runner is made before this."""
    admitted_s: float | None = None
    """First admission."""
    finished_s: float | None = None
    iterations: int = 0
    shots: int = 0
    qpu_s: float = 0.0
    active_s: float = 0.0
    """Last sign of work: a job, or the start of a runner."""
    expunged: bool = False
    """Whether deletion was asked for when the time to live was over."""


def validate(record: SessionRecord) -> None:
    """Check what holds between two events.

    Raises:
        InvariantError: something does not.
    """
    runner = record.runner

    def hold(truth: bool, law: str) -> None:
        if not truth:
            raise InvariantError(f"{law}: {record}")

    hold(runner is None or runner.epoch == record.epoch, "the runner is the last one made")
    hold(record.state not in FINAL or runner is None, "what is over has no runner")
    hold((record.state in FINAL) == (record.finished_s is not None), "what is over ended at a time")
    hold(record.ending is None or runner is not None, "an end waits for a runner only")
    hold(
        record.ending is None or (runner is None or not runner.usable),
        "an end waits for a runner that was told",
    )
    hold(record.state not in ACTIVE or runner is not None, "an admitted session has a runner")
    hold(
        record.state is not S.SUSPENDED or (runner is None or not runner.usable),
        "a suspended session's runner is told",
    )
    hold(record.state not in (S.PLACED, S.RUNNING) or bool(record.device), "placed means on a device")
    hold(
        record.state not in ACTIVE or (runner is not None and runner.released), "an active runner is released"
    )
