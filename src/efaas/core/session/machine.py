"""The machine that leads one session through its life.

::

              ┌───────────────────── requeue (crash, move, loss) ────────────────────┐
              ▼                                                                      │
    Pending ──admit──► Admitted ──place──► Placed ──start──► Running                 │
      ▲  │                 │                  │                 │ ───────────────────┘
      │  └────suspend──────┴──────────────────┴─────────────────┘
      └──resume── Suspended            any of these ──finish──► Completed | Failed | Cancelled | Expired

**Runners.** Of a session's runners at most one may write; it is told apart by its *lease epoch*, a number
that each new runner gets one higher. A runner is made only when the one before is *gone* (its kubelet said
so) or *fenced* (journal and devices refuse its epoch, so it does not matter what it still does). So there is
a time, after a stop was asked for or a node fell silent, in which the session has a runner that it no longer
wants; what comes after is kept in the record until that runner is out of the way. A runner that does not
stop in time is fenced.

**What survives.** `SessionRecord` is all there is, plain values that the host keeps with the session's
object. A machine made from a record goes on where the other one was, and `recall` says again what may not
have been carried out. The record is written before a `CreateRunner` is carried out; everything else the host
can observe anew, and level-triggered: news that a runner *started* also says that it was placed and admitted.

**Failures.** A crash is tried again after a wait that doubles, up to a limit of crashes in a row. Iterations
that no runner had reached before break the row: a session that gets on is not given up. A lost node, a move
and an eviction are nobody's fault and are not counted.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from efaas.core.session.messages import (
    FINAL,
    AllowDeletion,
    CloseOnDevices,
    CreateRunner,
    Decision,
    Deleted,
    DeleteSession,
    Event,
    FenceRunner,
    Granted,
    MoveAsked,
    Outcome,
    Policy,
    ProtocolError,
    Refused,
    ReleaseRunner,
    Reported,
    RunnerEnded,
    RunnerFenced,
    RunnerLost,
    RunnerPlaced,
    RunnerStarted,
    RunnerTroubled,
    SessionState,
    StopRunner,
    Tick,
    Wanted,
)
from efaas.core.session.record import (
    ACTIVE,
    TRANSITIONS,
    InvariantError,
    Runner,
    SessionRecord,
    validate,
)

S = SessionState


@dataclass(slots=True)
class SessionMachine:
    """One session's life; see the module's text.

    Args:
        policy: limits and waits, as the specification has them.
        record: what was kept of an earlier life; a new session if not given.
    """

    policy: Policy = field(default_factory=Policy)
    record: SessionRecord = field(default_factory=SessionRecord)
    _decisions: list[Decision] = field(default_factory=list, repr=False)

    # --- what the host asks ---------------------------------------------------------------------

    @property
    def state(self) -> SessionState:
        """Where the session is."""
        return self.record.state

    @property
    def wants_slot(self) -> bool:
        """Whether admission should consider the session: it is Pending and has a runner to release."""
        return self.state is S.PENDING and self._usable is not None

    @property
    def holds_slot(self) -> bool:
        """Whether the session takes a device's slot, also with a runner that is only on its way out."""
        runner = self.record.runner
        return runner is not None and runner.released

    @property
    def next_wake_s(self) -> float | None:
        """When a `Tick` is due at the latest; None if only events can change anything."""
        record, policy, moments = self.record, self.policy, []
        if record.state in FINAL:
            if policy.ttl_s is not None and not record.deleted and not record.expunged:
                moments.append((record.finished_s or 0.0) + policy.ttl_s)
            return min(moments, default=None)
        runner = record.runner
        if runner is not None and runner.fence_asked_s is not None:
            moments.append(runner.fence_asked_s + policy.fence_again_s)
        elif runner is not None and runner.stop_asked_s is not None:
            moments.append(runner.stop_asked_s + policy.stop_within_s)
        if runner is None and record.state is S.PENDING:
            moments.append(record.not_before_s)
        if record.ending is None:
            moments += [moment for moment, _, _ in self._deadlines()]
        return min(moments, default=None)

    @property
    def awaited(self) -> frozenset[type[Event]]:
        """Events that would bring the session on; empty where only time does, or nothing."""
        record = self.record
        if record.state in FINAL:
            return frozenset()
        if record.runner is not None and self._usable is None:
            return frozenset({RunnerEnded, RunnerFenced})
        match record.state:
            case S.PENDING:
                return frozenset({Granted}) if record.runner else frozenset()
            case S.ADMITTED:
                return frozenset({RunnerPlaced, RunnerEnded})
            case S.PLACED:
                return frozenset({RunnerStarted, RunnerEnded})
            case S.RUNNING:
                return frozenset({RunnerEnded})
        return frozenset({Wanted, Deleted})

    # --- events -----------------------------------------------------------------------------------

    def handle(self, event: Event) -> list[Decision]:
        """Take an event in; returns what the host is to do, in order.

        Raises:
            ProtocolError: the event cannot be; nothing has changed.
        """
        epoch = getattr(event, "epoch", None)
        if epoch is not None:
            if epoch > self.record.epoch:
                raise ProtocolError(f"runner {epoch} was never asked for; the last was {self.record.epoch}")
            if self.record.runner is None or epoch < self.record.runner.epoch:
                return []  # old news
        if self.state in FINAL and not isinstance(event, Tick | Deleted | Wanted | Reported):
            return []
        self._decisions = []
        _HANDLERS[type(event)](self, event)
        self._expire(event.now_s)
        self._make_runner(event.now_s)
        return self._decisions

    def recall(self) -> list[Decision]:
        """Decisions that a host which was killed may not have carried out; all are harmless twice.

        A pod that is missing is made while the session is Pending: its runner was never released. Later a
        missing pod is a runner that is gone, which the host tells as `RunnerEnded`.
        """
        record, runner = self.record, self.record.runner
        if record.state in FINAL:
            closing: list[Decision] = [CloseOnDevices()]
            return [*closing, AllowDeletion()] if record.deleted else closing
        if runner is None:
            return []
        if runner.fence_asked_s is not None:
            return [FenceRunner(runner.epoch)]
        if runner.stop_asked_s is not None:
            return [StopRunner(runner.epoch, record.message)]
        if record.state is S.PENDING:
            return [CreateRunner(runner.epoch)]
        return [ReleaseRunner(runner.epoch)]

    def _on_tick(self, event: Tick) -> None:
        record, policy, runner = self.record, self.policy, self.record.runner
        if record.state in FINAL:
            wake_s = self.next_wake_s
            if wake_s is not None and event.now_s >= wake_s:
                record.expunged = True
                self._decide(DeleteSession())
        elif runner is not None and runner.fence_asked_s is not None:
            if event.now_s >= runner.fence_asked_s + policy.fence_again_s:
                self._fence(event.now_s)
        elif (
            runner is not None
            and runner.stop_asked_s is not None
            and event.now_s >= runner.stop_asked_s + policy.stop_within_s
        ):
            self._fence(event.now_s)

    def _on_wanted(self, event: Wanted) -> None:
        self.policy = event.policy
        if self.state in FINAL or self.record.ending is not None:
            return
        if event.suspend and self.state is not S.SUSPENDED:
            self._suspend(event.now_s)
        elif not event.suspend and self.state is S.SUSPENDED:
            self._resume(event.now_s)

    def _on_deleted(self, event: Deleted) -> None:
        if self.record.deleted:
            if self.state in FINAL:
                self._decide(AllowDeletion())
            return
        self.record.deleted = True
        if self.state in FINAL:
            self._decide(AllowDeletion())
        else:
            self._end(S.CANCELLED, "Deleted", "the session was deleted", event.now_s)

    def _on_refused(self, event: Refused) -> None:
        if self.wants_slot:
            self.record.reason, self.record.message = event.reason, event.message

    def _on_granted(self, event: Granted) -> None:
        if self.state in ACTIVE:
            return
        if not self.wants_slot:
            raise ProtocolError(f"the session is {self.state} and asked for no slot")
        self._admit(event.now_s)

    def _on_placed(self, event: RunnerPlaced) -> None:
        if self._usable is None:
            return
        if self.state is S.PENDING:
            self._admit(event.now_s)
        if self.state is S.ADMITTED:
            self._place(event.device)

    def _on_started(self, event: RunnerStarted) -> None:
        self._on_placed(RunnerPlaced(event.now_s, event.epoch, event.device))
        if self.state is S.PLACED and self._usable is not None:
            self._start(event.now_s)

    def _on_troubled(self, event: RunnerTroubled) -> None:
        if self._usable is not None and self.state in ACTIVE:
            self.record.reason, self.record.message = event.reason, event.message

    def _on_ended(self, event: RunnerEnded) -> None:
        record = self.record
        wanted = self._usable is not None
        self._drop_runner()
        if event.outcome is Outcome.COMPLETED:
            # Done is done, even where a stop was on its way.
            self._finish(S.COMPLETED, event.reason or "Converged", event.message, event.now_s)
        elif record.ending is not None:
            self._finish(*record.ending, event.now_s)
        elif event.outcome is Outcome.FAILED:
            self._finish(S.FAILED, event.reason or "RunnerFailed", event.message, event.now_s)
        elif event.outcome is Outcome.EXPIRED:
            self._finish(S.EXPIRED, event.reason or "LimitReached", event.message, event.now_s)
        elif not wanted:
            self._runner_out_of_the_way()
        elif event.outcome is Outcome.CRASHED:
            self._crashed(event)
        else:
            self._requeue(event.reason or "RunnerStopped", event.message or "its runner was stopped")

    def _on_lost(self, event: RunnerLost) -> None:
        runner = self.record.runner
        if runner is not None and runner.fence_asked_s is None:
            self.record.reason, self.record.message = "RunnerLost", event.message
            self._fence(event.now_s)

    def _on_fenced(self, event: RunnerFenced) -> None:
        lost = self.state in ACTIVE
        self._drop_runner()
        if self.record.ending is not None:
            self._finish(*self.record.ending, event.now_s)
        elif lost:
            self._requeue(self.record.reason, self.record.message)
        else:
            self._runner_out_of_the_way()

    def _on_move(self, event: MoveAsked) -> None:
        if self.state in ACTIVE and self._usable is not None and event.device == self.record.device:
            self.record.reason, self.record.message = "Moving", event.message
            self._stop(event.now_s, event.message)
            self._requeue("Moving", event.message)

    def _on_reported(self, event: Reported) -> None:
        record = self.record
        if event.iterations > record.iterations:
            record.failures = 0
        record.iterations = max(record.iterations, event.iterations)
        record.shots = max(record.shots, event.shots)
        record.qpu_s = max(record.qpu_s, event.qpu_s)
        record.active_s = max(record.active_s, min(event.last_job_s, event.now_s))

    # --- transitions ------------------------------------------------------------------------------

    def _admit(self, now_s: float) -> None:
        runner = self.record.runner
        assert runner is not None
        self._to(S.ADMITTED, "Admitted", "has a slot; waits for the scheduler")
        runner.released = True
        if self.record.admitted_s is None:
            self.record.admitted_s = now_s
        self._decide(ReleaseRunner(runner.epoch))

    def _place(self, device: str) -> None:
        self._to(S.PLACED, "Placed", f"on {device}; its runner starts")
        self.record.device = device

    def _start(self, now_s: float) -> None:
        self._to(S.RUNNING, "Running", f"runs on {self.record.device}")
        self.record.active_s = max(self.record.active_s, now_s)

    def _suspend(self, now_s: float) -> None:
        self._to(S.SUSPENDED, "Suspended", "held by spec.suspend; its journal is kept")
        self._stop(now_s, "the session is suspended")

    def _resume(self, now_s: float) -> None:
        self._to(S.PENDING, "Resumed", "goes on from its journal when it is its turn")
        self.record.not_before_s = now_s

    def _requeue(self, reason: str, message: str) -> None:
        if self.state is S.PENDING:  # its gated pod was deleted: nothing moves
            self.record.reason, self.record.message = reason, message
        else:
            self._to(S.PENDING, reason, message)

    def _finish(self, state: SessionState, reason: str, message: str, now_s: float) -> None:
        self._to(state, reason, message)
        self.record.finished_s = now_s
        self.record.ending = None
        self.record.device = ""
        self._decide(CloseOnDevices())
        if self.record.deleted:
            self._decide(AllowDeletion())

    def _to(self, state: SessionState, reason: str, message: str) -> None:
        if (self.record.state, state) not in TRANSITIONS:
            raise InvariantError(f"no session goes from {self.record.state} to {state}")
        self.record.state, self.record.reason, self.record.message = state, reason, message

    # --- parts of transitions ---------------------------------------------------------------------

    @property
    def _usable(self) -> Runner | None:
        """The runner, unless it is on its way out."""
        runner = self.record.runner
        return runner if runner is not None and runner.usable else None

    def _end(self, state: SessionState, reason: str, message: str, now_s: float) -> None:
        """Finish, as soon as there is no runner."""
        record = self.record
        if record.runner is None:
            self._finish(state, reason, message, now_s)
            return
        record.ending = (state, reason, message)
        record.reason, record.message = reason, message
        self._stop(now_s, message)

    def _stop(self, now_s: float, message: str) -> None:
        runner = self._usable
        if runner is not None:
            runner.stop_asked_s = now_s
            self._decide(StopRunner(runner.epoch, message))

    def _fence(self, now_s: float) -> None:
        runner = self.record.runner
        assert runner is not None
        runner.fence_asked_s = now_s
        self._decide(FenceRunner(runner.epoch))

    def _drop_runner(self) -> None:
        self.record.runner = None
        self.record.device = ""

    def _runner_out_of_the_way(self) -> None:
        """A runner that was told to stop has: Suspended stays so, Pending makes the next."""
        if self.state in ACTIVE:
            self._requeue(self.record.reason, self.record.message)

    def _crashed(self, event: RunnerEnded) -> None:
        record, policy = self.record, self.policy
        record.failures += 1
        if record.failures >= policy.max_failures:
            message = (
                f"{record.failures} runners in a row ended without a new iteration; last: {event.message}"
            )
            self._finish(S.FAILED, event.reason or "BackoffLimitExceeded", message, event.now_s)
            return
        wait_s = min(policy.longest_wait_s, policy.first_wait_s * 2.0 ** (record.failures - 1))
        record.not_before_s = event.now_s + wait_s
        self._requeue(
            event.reason or "RunnerCrashed",
            f"{event.message or 'its runner died'}; try {record.failures + 1} of {policy.max_failures} "
            f"in {wait_s:.0f} s",
        )

    def _make_runner(self, now_s: float) -> None:
        record = self.record
        if record.state is S.PENDING and record.runner is None and now_s >= record.not_before_s:
            record.epoch += 1
            record.restarts = record.epoch - 1
            record.runner = Runner(record.epoch)
            self._decide(CreateRunner(record.epoch))

    def _deadlines(self) -> list[tuple[float, str, str]]:
        """Moments at which time alone ends the session, with reason and message."""
        record, policy, found = self.record, self.policy, []
        if policy.max_duration_s is not None and record.admitted_s is not None:
            found.append(
                (
                    record.admitted_s + policy.max_duration_s,
                    "DurationLimit",
                    f"limits.duration: {policy.max_duration_s:g} s since its admission are over",
                )
            )
        if policy.max_idle_s is not None and record.state is S.RUNNING and self._usable is not None:
            found.append(
                (
                    record.active_s + policy.max_idle_s,
                    "IdleLimit",
                    f"limits.idle: no job for {policy.max_idle_s:g} s",
                )
            )
        return found

    def _expire(self, now_s: float) -> None:
        record, policy = self.record, self.policy
        if record.state in FINAL or record.ending is not None:
            return
        for moment, reason, message in self._deadlines():
            if now_s >= moment:
                self._end(S.EXPIRED, reason, message, now_s)
                return
        if policy.max_shots is not None and record.shots >= policy.max_shots:
            self._end(S.EXPIRED, "ShotsLimit", f"limits.shots: {record.shots} shots are charged", now_s)
        elif policy.max_qpu_s is not None and record.qpu_s >= policy.max_qpu_s:
            message = f"limits.qpuTime: {record.qpu_s:g} s of device time are charged"
            self._end(S.EXPIRED, "QpuTimeLimit", message, now_s)

    def _decide(self, decision: Decision) -> None:
        self._decisions.append(decision)

    # --- what always holds ------------------------------------------------------------------------

    def validate_state(self) -> None:
        """Check what holds between two events.

        Raises:
            InvariantError: something does not.
        """
        validate(self.record)
        if self.state not in FINAL and self.next_wake_s is None and not self.awaited:
            raise InvariantError(f"it waits for nothing: {self.record}")

    def copy(self) -> SessionMachine:
        """Another machine in the same state."""
        return SessionMachine(self.policy, copy.deepcopy(self.record))


_HANDLERS: Mapping[type[Event], Callable[..., None]] = {
    Tick: SessionMachine._on_tick,
    Wanted: SessionMachine._on_wanted,
    Deleted: SessionMachine._on_deleted,
    Refused: SessionMachine._on_refused,
    Granted: SessionMachine._on_granted,
    RunnerPlaced: SessionMachine._on_placed,
    RunnerStarted: SessionMachine._on_started,
    RunnerTroubled: SessionMachine._on_troubled,
    RunnerEnded: SessionMachine._on_ended,
    RunnerLost: SessionMachine._on_lost,
    RunnerFenced: SessionMachine._on_fenced,
    MoveAsked: SessionMachine._on_move,
    Reported: SessionMachine._on_reported,
}
