"""A session's life, event by event: what is decided, and what a person reads meanwhile."""

from __future__ import annotations

import pytest

from efaas.core.session import Policy, ProtocolError, SessionMachine, SessionState
from efaas.core.session.messages import (
    AllowDeletion,
    CloseOnDevices,
    CreateRunner,
    Deleted,
    DeleteSession,
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

S = SessionState


def running(policy: Policy | None = None) -> SessionMachine:
    machine = SessionMachine(policy or Policy())
    machine.handle(Tick(0))
    machine.handle(Granted(1))
    machine.handle(RunnerStarted(2, 1, "manila"))
    assert machine.state is S.RUNNING
    return machine


def test_from_request_to_result():
    machine = SessionMachine(Policy(ttl_s=60))
    assert machine.handle(Tick(0)) == [CreateRunner(1)]
    assert (machine.state, machine.wants_slot, machine.holds_slot) == (S.PENDING, True, False)
    assert machine.handle(Granted(5)) == [ReleaseRunner(1)]
    assert (machine.state, machine.wants_slot, machine.holds_slot) == (S.ADMITTED, False, True)
    assert machine.handle(RunnerPlaced(6, 1, "manila")) == []
    assert (machine.state, machine.record.message) == (S.PLACED, "on manila; its runner starts")
    assert machine.handle(RunnerStarted(7, 1, "manila")) == []
    assert machine.state is S.RUNNING
    ended = RunnerEnded(100, 1, Outcome.COMPLETED, "Converged", "200 iterations")
    assert machine.handle(ended) == [CloseOnDevices()]
    assert (machine.state, machine.record.reason, machine.next_wake_s) == (S.COMPLETED, "Converged", 160)
    assert machine.handle(Tick(159)) == []
    assert machine.handle(Tick(160)) == [DeleteSession()]
    assert machine.handle(Deleted(161)) == [AllowDeletion()]


def test_why_it_waits_is_what_admission_said():
    machine = SessionMachine()
    machine.handle(Tick(0))
    machine.handle(Refused(1, "NoDeviceFits", "manila: 5 qubits, 8 needed"))
    assert (machine.record.reason, machine.record.message) == ("NoDeviceFits", "manila: 5 qubits, 8 needed")


def test_a_trouble_that_can_be_mended_is_told_and_ends_nothing():
    machine = SessionMachine()
    machine.handle(Tick(0))
    machine.handle(Granted(1))
    machine.handle(RunnerPlaced(2, 1, "manila"))
    machine.handle(RunnerTroubled(3, 1, "ImagePullBackOff", "no such image"))
    assert (machine.state, machine.record.reason) == (S.PLACED, "ImagePullBackOff")
    machine.handle(RunnerStarted(90, 1, "manila"))
    assert (machine.state, machine.record.reason) == (S.RUNNING, "Running")


def test_a_start_also_says_that_the_runner_was_admitted_and_placed():
    machine = SessionMachine()
    machine.handle(Tick(0))
    assert machine.handle(RunnerStarted(3, 1, "manila")) == [ReleaseRunner(1)]
    assert (machine.state, machine.record.device) == (S.RUNNING, "manila")


def test_crashes_are_tried_again_after_waits_that_double_up_to_a_limit():
    machine, now, waits = running(Policy(max_failures=4)), 100.0, []
    for epoch in (1, 2, 3):
        assert machine.handle(RunnerEnded(now, epoch, Outcome.CRASHED, "OOMKilled", "killed")) == []
        assert machine.state is S.PENDING
        wake = machine.next_wake_s
        waits.append(wake - now)
        assert machine.handle(Tick(wake - 0.001)) == []
        assert machine.handle(Tick(wake)) == [CreateRunner(epoch + 1)]
        machine.handle(Granted(wake))
        machine.handle(RunnerStarted(wake, epoch + 1, "manila"))
        now = wake + 1
    assert waits == [10, 20, 40]
    assert machine.handle(RunnerEnded(now, 4, Outcome.CRASHED, "OOMKilled", "killed")) == [CloseOnDevices()]
    assert (machine.state, machine.record.reason) == (S.FAILED, "OOMKilled")
    assert machine.record.message.startswith("4 runners in a row ended without a new iteration")


def test_a_session_that_gets_on_is_not_given_up():
    machine = running(Policy(max_failures=2))
    for epoch in range(1, 20):
        machine.handle(Reported(epoch * 100, epoch, 0, 0.0, epoch * 100))
        machine.handle(RunnerEnded(epoch * 100 + 1, epoch, Outcome.CRASHED))
        assert machine.handle(Tick(machine.next_wake_s)) == [CreateRunner(epoch + 1)]
        machine.handle(RunnerStarted(epoch * 100 + 50, epoch + 1, "manila"))
        assert machine.state is S.RUNNING


def test_bad_input_is_not_tried_again():
    machine = running()
    ended = RunnerEnded(9, 1, Outcome.FAILED, "BadInput", "spec.problem: no such molecule")
    assert machine.handle(ended) == [CloseOnDevices()]
    assert (machine.state, machine.record.message) == (S.FAILED, "spec.problem: no such molecule")


def test_an_eviction_costs_no_try():
    machine = running()
    assert machine.handle(RunnerEnded(9, 1, Outcome.STOPPED, "OutOfSession", "slot taken")) == [
        CreateRunner(2)
    ]
    assert (machine.state, machine.record.failures, machine.record.restarts) == (S.PENDING, 0, 1)


def test_suspend_stops_the_runner_and_resume_waits_until_it_is_gone():
    machine, policy = running(), Policy()
    assert machine.handle(Wanted(10, True, policy)) == [StopRunner(1, "the session is suspended")]
    assert machine.state is S.SUSPENDED
    assert machine.handle(Wanted(11, False, policy)) == []
    assert machine.state is S.PENDING
    assert not machine.wants_slot
    assert machine.handle(RunnerEnded(12, 1, Outcome.STOPPED)) == [CreateRunner(2)]
    assert machine.wants_slot


def test_a_move_goes_on_elsewhere():
    machine = running()
    assert machine.handle(MoveAsked(10, "perth", "drained")) == []
    assert machine.handle(MoveAsked(10, "manila", "manila is drained")) == [
        StopRunner(1, "manila is drained")
    ]
    assert (machine.state, machine.record.reason, machine.holds_slot) == (S.PENDING, "Moving", True)
    assert machine.handle(RunnerEnded(12, 1, Outcome.STOPPED)) == [CreateRunner(2)]
    assert not machine.holds_slot


def test_a_lost_runner_is_fenced_before_the_next_is_made():
    machine = running()
    assert machine.handle(RunnerLost(10, 1, "node a is silent")) == [FenceRunner(1)]
    assert machine.handle(Tick(19)) == []
    assert machine.handle(Tick(20)) == [FenceRunner(1)]
    assert machine.handle(RunnerFenced(21, 1)) == [CreateRunner(2)]
    # The lost one comes back and says what it thinks: nobody listens.
    assert machine.handle(RunnerEnded(22, 1, Outcome.COMPLETED)) == []
    assert machine.state is S.PENDING


def test_deletion_ends_when_the_runner_has():
    machine = running()
    assert machine.handle(Deleted(10)) == [StopRunner(1, "the session was deleted")]
    assert machine.next_wake_s == 55
    assert machine.handle(Tick(55)) == [FenceRunner(1)]
    assert machine.handle(RunnerFenced(56, 1)) == [CloseOnDevices(), AllowDeletion()]
    assert machine.state is S.CANCELLED


def test_a_session_without_a_runner_is_deleted_at_once():
    machine = SessionMachine()
    assert machine.handle(Deleted(0)) == [CloseOnDevices(), AllowDeletion()]
    assert machine.state is S.CANCELLED


@pytest.mark.parametrize(
    ("policy", "event", "reason"),
    [
        pytest.param(Policy(max_duration_s=60), Tick(61), "DurationLimit", id="duration"),
        pytest.param(Policy(max_idle_s=30), Tick(32), "IdleLimit", id="idle"),
        pytest.param(Policy(max_shots=100), Reported(5, 1, 100, 0.0, 5), "ShotsLimit", id="shots"),
        pytest.param(Policy(max_qpu_s=1.0), Reported(5, 1, 1, 1.5, 5), "QpuTimeLimit", id="QPU time"),
    ],
)
def test_a_limit_ends_the_session_as_expired(policy, event, reason):
    machine = running(policy)
    (stop,) = machine.handle(event)
    assert stop == StopRunner(1, machine.record.message)
    assert machine.state is S.RUNNING
    assert machine.handle(RunnerEnded(event.now_s + 1, 1, Outcome.STOPPED)) == [CloseOnDevices()]
    assert (machine.state, machine.record.reason) == (S.EXPIRED, reason)


def test_work_that_is_done_stays_done_though_a_stop_was_on_its_way():
    machine = running(Policy(max_duration_s=60))
    machine.handle(Tick(61))
    machine.handle(RunnerEnded(62, 1, Outcome.COMPLETED))
    assert machine.state is S.COMPLETED


def test_jobs_put_the_idle_limit_off():
    machine = running(Policy(max_idle_s=30))
    machine.handle(Reported(30, 1, 10, 0.1, 28))
    assert machine.next_wake_s == 58
    assert machine.handle(Tick(57)) == []


def test_news_of_a_runner_that_was_never_asked_for_is_an_error_and_changes_nothing():
    machine = running()
    before = machine.copy()
    with pytest.raises(ProtocolError, match="runner 2 was never asked for; the last was 1"):
        machine.handle(RunnerStarted(9, 2, "manila"))
    assert machine.record == before.record


def test_a_restored_machine_says_again_what_may_not_have_been_done():
    machine = SessionMachine()
    machine.handle(Tick(0))
    assert machine.copy().recall() == [CreateRunner(1)]
    machine.handle(Granted(1))
    assert machine.copy().recall() == [ReleaseRunner(1)]
    machine.handle(RunnerLost(2, 1, "silent"))
    assert machine.copy().recall() == [FenceRunner(1)]
    machine.handle(Deleted(3))
    assert machine.handle(RunnerFenced(4, 1)) == [CloseOnDevices(), AllowDeletion()]
    assert machine.copy().recall() == [CloseOnDevices(), AllowDeletion()]
