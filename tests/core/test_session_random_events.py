"""Any life of a session, with a host that is killed at will, keeps the laws of runners and epochs."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from efaas.core.session import Policy, SessionMachine
from efaas.core.session.messages import (
    FINAL,
    CreateRunner,
    Decision,
    Deleted,
    DeleteSession,
    Event,
    FenceRunner,
    Granted,
    MoveAsked,
    Outcome,
    Refused,
    ReleaseRunner,
    Reported,
    RunnerEnded,
    RunnerFenced,
    RunnerLost,
    RunnerPlaced,
    RunnerStarted,
    RunnerTroubled,
    StopRunner,
    Tick,
    Wanted,
)

POLICIES = st.builds(
    Policy,
    max_duration_s=st.none() | st.floats(10, 2000),
    max_idle_s=st.none() | st.floats(10, 500),
    max_shots=st.none() | st.integers(1, 500),
    ttl_s=st.none() | st.floats(0, 100),
    max_failures=st.integers(1, 4),
)


@dataclass
class Pod:
    """A runner in the world: it can write while it is alive and not fenced."""

    released: bool = False
    alive: bool = True
    fenced: bool = False
    stopping: bool = False


class Lives(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.machine = SessionMachine()
        self.pods: dict[int, Pod] = {}
        self.now = 0.0
        self.final: object = None
        self.undone: list[Decision] = []

    def tell(self, event: Event) -> None:
        before = self.machine.record.epoch
        decisions = self.machine.handle(event)
        assert self.machine.record.epoch in (before, before + 1), "epochs grow one by one"
        self.carry_out(decisions)

    def carry_out(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            match decision:
                case CreateRunner(epoch):
                    assert not [
                        e for e, pod in self.pods.items() if e != epoch and pod.alive and not pod.fenced
                    ]
                    assert epoch >= max(self.pods, default=1)
                    self.pods.setdefault(epoch, Pod())
                case ReleaseRunner(epoch):
                    self.pods[epoch].released = True
                case StopRunner(epoch):
                    # The host may have been killed before it made the pod; then there is none to stop.
                    self.pods.setdefault(epoch, Pod(alive=False)).stopping = True
                case FenceRunner(epoch):
                    self.undone.append(decision)
                case DeleteSession():
                    assert self.machine.state in FINAL

    # --- the world --------------------------------------------------------------------------------

    @rule(seconds=st.floats(0.1, 400))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.tell(Tick(self.now))

    @rule()
    def it_is_woken_when_it_asked(self) -> None:
        wake = self.machine.next_wake_s
        if wake is not None:
            self.now = max(self.now, wake)
            self.tell(Tick(self.now))
            again = self.machine.next_wake_s
            assert again is None or again > self.now or self.machine.record.expunged, "no busy waiting"

    @rule(suspend=st.booleans(), policy=POLICIES)
    def the_specification_changes(self, suspend: bool, policy: Policy) -> None:
        self.tell(Wanted(self.now, suspend, policy))

    @precondition(lambda self: self.machine.wants_slot)
    @rule(grant=st.booleans())
    def admission_answers(self, grant: bool) -> None:
        self.tell(Granted(self.now) if grant else Refused(self.now, "WaitingForFairShare", "3 before it"))

    @precondition(lambda self: self.pods)
    @rule(data=st.data(), kind=st.sampled_from(["placed", "started", "troubled"]))
    def a_pod_gets_on(self, data: st.DataObject, kind: str) -> None:
        epoch = data.draw(st.sampled_from(sorted(self.pods)))
        if not self.pods[epoch].released or not self.pods[epoch].alive:
            return
        if kind == "troubled":
            self.tell(RunnerTroubled(self.now, epoch, "ImagePullBackOff", "no such image"))
        else:
            news = RunnerPlaced if kind == "placed" else RunnerStarted
            self.tell(news(self.now, epoch, "manila"))

    @precondition(lambda self: self.pods)
    @rule(data=st.data(), outcome=st.sampled_from(list(Outcome)))
    def a_pod_ends(self, data: st.DataObject, outcome: Outcome) -> None:
        """Also one that ended or was fenced before: everything may be told twice."""
        epoch = data.draw(st.sampled_from(sorted(self.pods)))
        pod = self.pods[epoch]
        if not pod.released:
            outcome = Outcome.STOPPED
        pod.alive = False
        self.tell(RunnerEnded(self.now, epoch, outcome))

    @precondition(lambda self: self.pods)
    @rule(data=st.data())
    def a_node_falls_silent(self, data: st.DataObject) -> None:
        self.tell(RunnerLost(self.now, data.draw(st.sampled_from(sorted(self.pods))), "node a is silent"))

    @precondition(lambda self: self.undone)
    @rule()
    def fencing_succeeds(self) -> None:
        fence = self.undone.pop(0)
        assert isinstance(fence, FenceRunner)
        self.pods.setdefault(fence.epoch, Pod(alive=False)).fenced = True
        self.tell(RunnerFenced(self.now, fence.epoch))

    @rule(iterations=st.integers(0, 50), shots=st.integers(0, 400))
    def accounts_arrive(self, iterations: int, shots: int) -> None:
        self.tell(Reported(self.now, iterations, shots, shots / 100, self.now))

    @rule()
    def a_device_is_drained(self) -> None:
        self.tell(MoveAsked(self.now, "manila", "manila is drained"))

    @rule()
    def it_is_deleted(self) -> None:
        self.tell(Deleted(self.now))

    @rule()
    def the_host_is_killed(self) -> None:
        self.machine = self.machine.copy()
        self.undone.clear()
        self.carry_out(self.machine.recall())

    # --- the laws ---------------------------------------------------------------------------------

    @invariant()
    def everything_holds(self) -> None:
        self.machine.validate_state()

    @invariant()
    def at_most_one_runner_can_write(self) -> None:
        assert sum(pod.alive and not pod.fenced for pod in self.pods.values()) <= 1

    @invariant()
    def what_is_over_stays_so(self) -> None:
        if self.final is None and self.machine.state in FINAL:
            self.final = self.machine.state
        assert self.final is None or self.machine.state is self.final

    @invariant()
    def it_waits_for_something_that_can_come(self) -> None:
        if self.machine.state not in FINAL:
            assert self.machine.next_wake_s is not None or self.machine.awaited

    def teardown(self) -> None:
        """A world that does what is asked always brings a deleted session to its end."""
        self.tell(Deleted(self.now))
        for _ in range(20):
            if self.machine.state in FINAL:
                break
            if self.undone:
                self.fencing_succeeds()
            else:
                self.it_is_woken_when_it_asked()
        assert self.machine.state in FINAL


Lives.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestLives = Lives.TestCase
