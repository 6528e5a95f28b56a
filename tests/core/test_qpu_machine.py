"""The machine event by event: whole decision lists, impossible events, lives of jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from efaas.core.qpu import CalibrationConfig, ProtocolError, QpuConfig, QpuMachine
from efaas.core.qpu.lifecycle import FINAL, TRANSITIONS, JobState
from efaas.core.qpu.messages import (
    CalibrationFinished,
    Charge,
    CompleteJob,
    DrainCancelled,
    DrainRequested,
    FailJob,
    FailureCode,
    Idle,
    Job,
    JobCancelled,
    JobClass,
    JobKind,
    JobSubmitted,
    ReportQueued,
    SessionClosed,
    SessionOpened,
    SliceFailed,
    SliceFinished,
    StartSlice,
    StopSlice,
    TimerFired,
    UsageReported,
)
from efaas.errors import InputError

MakeHost = Callable[..., Any]
LOOP, BATCH, GUESS = JobKind.LOOP, JobKind.BATCH, JobKind.SPECULATIVE


class TestOneJob:
    def test_runs_in_slices_and_is_charged_once(self, make_host: MakeHost) -> None:
        host = make_host()
        assert host.open("ns/a", "ns") == [Idle(None, None, "nothing waits")]
        assert host.submit("j", "ns/a", BATCH, 0.5) == [
            StartSlice("j", 0, 4, 0.26, 1, turn_s=0.01, job_class=JobClass.BATCH, calibration_age_s=0.0)
        ]
        # Going on with the same job costs nothing.
        assert host.finish() == [
            StartSlice("j", 4, 4, 0.25, 1, turn_s=0.0, job_class=JobClass.BATCH, calibration_age_s=0.26)
        ]
        assert host.finish() == [
            Charge("j/iteration", "ns/a", 0.5, 100, "iteration"),
            Charge("j/slice-cost", "ns/a", 0.01, 0, "slice-cost"),
            CompleteJob("j", queue_s=0.0, calibration_s=0.0, execution_s=0.5, slices=2, attempts=1),
            Idle(None, None, "nothing waits"),
        ]

    def test_a_slice_is_one_cell_at_least(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("a")
        [start] = host.submit("j", "a", BATCH, 2.0, block_s=1.0)
        assert (start.blocks, start.expected_s) == (1, 1.01)

    def test_turning_to_another_job_costs_each_time(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("a")
        host.submit("j", "a", BATCH, 0.25)
        assert host.submit("k", "a", BATCH, 0.25) == [
            ReportQueued("k", 1, 0.26, "batch work; the device runs a"),
        ]
        decisions = host.finish()
        assert decisions[-1].turn_s == 0.01
        assert decisions[-1].job_id == "k"

    def test_the_same_id_again_changes_nothing(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("a")
        host.submit("j", "a", BATCH, 0.25)
        assert host.submit("j", "a", BATCH, 0.25) == []
        host.submit("k", "a", BATCH, 0.25)
        assert host.submit("k", "a", BATCH, 0.25) == []
        host.run_until(5)
        assert host.completed == {"j": 1, "k": 1}

    def test_a_late_simulation_is_charged_what_it_took(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("a")
        host.submit("j", "a", BATCH, 0.25)
        decisions = host.machine.handle(SliceFinished(3.0, "j", 3.0))
        assert decisions[0] == Charge("j/iteration", "a", 2.99, 100, "iteration")
        assert decisions[1] == Charge("j/slice-cost", "a", 0.01, 0, "slice-cost")


class TestCancelling:
    def test_a_waiting_job_is_dropped_free_of_charge(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("a")
        host.submit("j", "a")
        host.submit("k", "a")
        assert host.cancel("k") == [FailJob("k", "it was cancelled", False, FailureCode.CANCELLED)]

    def test_a_running_job_is_stopped_and_its_cells_are_paid(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("a")
        host.submit("j", "a", BATCH, 1.0)
        host.finish()  # 4 of 16 cells
        host.now_s = 0.36
        assert host.cancel("j") == [StopSlice("j")]
        assert host.finish() == [
            Charge("j/iteration@0", "a", 0.35, 25, "iteration"),
            Charge("j/slice-cost@0", "a", 0.01, 0, "slice-cost"),
            FailJob("j", "it was cancelled", False, FailureCode.CANCELLED),
            Idle(None, None, "nothing waits"),
        ]

    @pytest.mark.parametrize("name", ["never seen", "done"])
    def test_unknown_and_finished_ids_are_ignored(self, make_host: MakeHost, name: str) -> None:
        host = make_host()
        host.open("a")
        host.submit("done", "a", BATCH, 0.25)
        host.run_until(1)
        assert host.cancel(name) == []

    def test_a_job_wanted_again_while_it_is_stopped_goes_on(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("a")
        host.submit("j", "a", BATCH, 1.0)
        host.cancel("j")
        host.submit("j", "a", BATCH, 1.0)
        host.run_until(5)
        assert host.completed == {"j": 1}
        assert host.failed == {}
        assert host.charged_ns() == host.busy_ns

    def test_closing_a_session_drops_what_waits_and_lets_the_slice_end(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("a")
        host.submit("j", "a", BATCH, 1.0)
        host.submit("k", "a", BATCH, 1.0)
        reason = "its session was closed"
        assert host.close("a") == [FailJob("k", reason, False, FailureCode.CANCELLED)]
        assert host.finish() == [
            Charge("j/iteration@0", "a", 0.25, 25, "iteration"),
            Charge("j/slice-cost@0", "a", 0.01, 0, "slice-cost"),
            FailJob("j", reason, False, FailureCode.CANCELLED),
            Idle(None, None, "nothing waits"),
        ]

    def test_a_session_that_comes_back_takes_up_its_running_job(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("a")
        host.submit("j", "a", BATCH, 1.0)
        host.close("a")
        host.open("a")
        host.submit("j", "a", BATCH, 1.0)
        host.run_until(5)
        assert host.completed == {"j": 1}
        assert host.machine.sessions["a"].jobs_done == 1


class TestFaults:
    def test_a_failed_slice_starts_the_job_again_at_nobodys_cost(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("a")
        host.submit("j", "a", BATCH, 0.5)
        host.finish()
        assert host.fail() == [
            Charge("j/rerun@0/1", None, 0.51, 0, "rerun"),
            StartSlice("j", 0, 4, 0.26, 2, 0.01, JobClass.BATCH, calibration_age_s=0.51),
        ]
        host.run_until(5)
        assert host.charges["j/iteration"] == Charge("j/iteration", "a", 0.5, 100, "iteration")

    def test_three_failures_are_enough(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("a")
        host.submit("j", "a", BATCH, 0.25)
        host.fail()
        host.fail()
        assert host.fail("killed")[1] == FailJob(
            "j", "attempt 3 of 3 failed: killed", False, FailureCode.WORKER_FAILED
        )
        assert host.charged_ns("a") == 0
        assert host.charged_ns(None) == host.busy_ns == 3 * 260_000_000

    def test_a_failure_that_no_retry_can_help_is_final(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("a")
        host.submit("j", "a", BATCH, 0.25)
        host.fail("the circuit has no qubits", retry=False)
        assert host.failed == {"j": 1}


class TestSpeculation:
    def test_runs_when_nothing_else_waits_and_ends_at_once_when_real_work_comes(
        self, make_host: MakeHost
    ) -> None:
        host = make_host()
        host.open("a")
        host.submit("guess", "a", GUESS, 1.0)
        host.now_s = 0.1
        assert host.submit("real", "a", BATCH, 0.25)[0] == StopSlice("guess")
        decisions = host.finish()
        assert decisions[0] == Charge("guess/speculation@0/1", None, 0.1, 0, "speculation")
        assert decisions[1].job_id == "real"

    def test_a_complete_guess_is_free_until_it_is_claimed(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("a")
        host.submit("j", "a", GUESS, 0.25)
        assert host.finish() == [
            CompleteJob("j", 0.0, 0.0, 0.25, 1, 1),
            Idle(None, None, "nothing waits"),
        ]
        assert host.submit("j", "a", LOOP, 0.25) == [
            Charge("j/iteration", "a", 0.25, 100, "iteration"),
            Charge("j/slice-cost", "a", 0.01, 0, "slice-cost"),
            CompleteJob("j", 0.0, 0.0, 0.25, 1, 1),
        ]
        assert host.machine.jobs == {}

    def test_a_wrong_guess_costs_nothing_and_is_counted(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("a")
        host.submit("j", "a", GUESS, 0.25)
        host.finish()
        assert host.cancel("j") == [Charge("j/speculation@0", None, 0.26, 100, "speculation")]
        view = host.machine.snapshot(host.now_s).sessions[0]
        assert (view.qpu_s, view.shots, view.wasted_shots) == (0.0, 0, 100)

    def test_a_running_guess_that_is_claimed_is_not_interrupted(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("a")
        host.submit("j", "a", GUESS, 0.5)
        assert host.submit("j", "a", LOOP, 0.5) == []
        host.submit("batch", "a", BATCH, 0.25)
        host.run_until(3)
        assert [job for _, job in host.starts()] == ["j", "j", "batch"]
        assert host.charges["j/iteration"].session == "a"

    def test_a_waiting_guess_that_is_claimed_gets_the_class_of_real_work(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("a")
        host.submit("batch", "a", BATCH, 2.0)
        host.submit("j", "a", GUESS, 0.25)
        host.submit("j", "a", LOOP, 0.25)
        host.finish()
        assert host.slice.job_id == "j"
        assert host.slice.job_class is JobClass.FIRST

    def test_unclaimed_guesses_are_bounded(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("a")
        for number in range(70):
            host.submit(f"g{number}", "a", GUESS, 0.0625)
            host.finish()
        assert len(host.machine.jobs) == 64
        assert host.machine.sessions["a"].wasted_shots == 600


class TestLimits:
    def test_shots_beyond_the_limit_are_refused_with_the_numbers(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("a", max_shots=250)
        host.submit("j", "a", shots=100)
        host.submit("k", "a", shots=100)
        assert host.submit("l", "a", shots=100) == [
            FailJob("l", "with 300 shots the session passes its limit 250", False, FailureCode.LIMIT_REACHED)
        ]

    def test_device_time_beyond_the_limit_is_refused(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("a", max_qpu_s=2.5)
        host.submit("j", "a", seconds=1.5)
        [refusal] = host.submit("k", "a", seconds=1.5)
        assert refusal.reason == "with 3 s the session passes its limit 2.5 s"

    def test_what_was_used_before_counts(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("a", max_shots=250, charged_shots=200)
        [refusal] = host.submit("j", "a", shots=100)
        assert refusal.code is FailureCode.LIMIT_REACHED

    def test_a_cancelled_job_gives_its_promise_back(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("a", max_shots=250)
        host.submit("j", "a", shots=100)
        host.submit("k", "a", shots=100)
        host.cancel("k")
        host.submit("l", "a", shots=100)
        host.run_until(10)
        assert sorted(host.completed) == ["j", "l"]

    def test_the_queue_is_bounded(self, make_host: MakeHost) -> None:
        host = make_host(max_waiting=3)
        host.open("a")
        for number in range(4):
            host.submit(f"j{number}", "a")
        [refusal] = host.submit("one more", "a")
        assert (refusal.code, refusal.retry) == (FailureCode.QUEUE_FULL, True)


class TestDraining:
    def test_draining_drops_what_waits_and_refuses_what_comes(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("a")
        host.submit("j", "a", BATCH, 0.5)
        host.submit("k", "a")
        [dropped] = host.feed(DrainRequested(0.0, drain=True))
        assert (dropped.job_id, dropped.code, dropped.retry) == ("k", FailureCode.DRAINING, True)
        assert host.submit("l", "a")[0].code is FailureCode.DRAINING
        host.feed(DrainCancelled(0.0))
        host.submit("m", "a", BATCH, 0.5)
        host.run_until(5)
        assert sorted(host.completed) == ["j", "m"]

    def test_a_cordon_keeps_only_new_sessions_away(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("old")
        host.feed(DrainRequested(1.0, drain=False))
        host.now_s = 2.0
        host.open("new")
        assert host.submit("j", "new")[0].code is FailureCode.DRAINING
        assert isinstance(host.submit("k", "old")[0], StartSlice)


def _state(machine: QpuMachine) -> object:
    view = machine.snapshot(machine.now_s)
    jobs = {name: (job.state, job.next_block, job.attempt) for name, job in machine.jobs.items()}
    return view, jobs, machine.now_s, machine.accounts.busy_ns


class TestImpossibleEvents:
    @pytest.mark.parametrize(
        ("event", "words"),
        [
            (TimerFired(0.5), "time went from 1.0 s to 0.5 s"),
            (TimerFired(float("nan")), "time went"),
            (TimerFired(float("inf")), "time went"),
            (SliceFinished(2.0, "waiting", 1.0), "the device holds running"),
            (SliceFinished(2.0, "running", -1.0), "-1.0 s is no time"),
            (SliceFinished(2.0, "running", float("nan")), "nan s is no time"),
            (SliceFailed(2.0, "unknown", 1.0, "why"), "no slice of 'unknown' runs"),
            (CalibrationFinished(2.0, 1.0, 1), "no calibration runs"),
            (SessionClosed(2.0, "b"), "session 'b' is not open"),
            (SessionOpened(2.0, "c", "c", weight=-1.0), "-1.0 must be a finite number above 0"),
            (SessionOpened(2.0, "c", "c", tenant_weight=0.0), "tenant_weight: 0.0 must be"),
            (SessionOpened(2.0, "c", "c", max_calibration_age_s=0.0), "0.0 s must be above 0"),
            (SessionOpened(2.0, "a", "another tenant"), "its tenant is a"),
            (JobSubmitted(2.0, Job("j", "b", BATCH, 1, 1.0, 1, "c")), "session 'b' is not open"),
            (JobSubmitted(2.0, Job("j", "a", BATCH, 0, 1.0, 1, "c")), "0 blocks"),
            (JobSubmitted(2.0, Job("j", "a", BATCH, 1, float("nan"), 1, "c")), "nan s"),
            (UsageReported(2.0, "a", -1.0, 0.0), "-1.0 s is no use"),
            (UsageReported(2.0, "a", 0.0, 0.0, weight=0.0), "0.0 must be a finite number above 0"),
        ],
        ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
    )
    def test_raise_and_change_nothing(self, make_host: MakeHost, event: Any, words: str) -> None:
        host = make_host()
        host.open("a")
        host.submit("running", "a")
        host.submit("waiting", "a")
        host.feed(TimerFired(1.0))
        before = _state(host.machine)
        with pytest.raises(ProtocolError, match=words):
            host.machine.handle(event)
        assert _state(host.machine) == before

    def test_the_error_brings_the_story_of_the_job(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("a")
        host.submit("j", "a", BATCH, 0.25)
        host.submit("other", "a", BATCH, 9.0)
        host.finish()
        with pytest.raises(ProtocolError) as caught:
            host.machine.handle(SliceFinished(1.0, "j", 0.25))
        assert [text for _, text in caught.value.story] == [
            "arrived, batch work",
            "cells 0 to 4 start",
            "complete",
        ]
        assert "0.260000 s: complete" in str(caught.value)

    def test_stories_are_bounded(self, make_host: MakeHost) -> None:
        host = make_host(validate=False)
        host.open("a")
        host.submit("j", "a", BATCH, 1000.0)
        host.run_until(900)
        assert len(host.machine.story.of("j")) == 20


class TestTheTable:
    def test_final_states_lead_nowhere_and_all_others_somewhere(self) -> None:
        sources = {before for before, _ in TRANSITIONS}
        assert sources == set(JobState) - FINAL
        assert {after for _, after in TRANSITIONS} == set(JobState) - {JobState.HELD}


class TestSettings:
    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"alpha": 5}, "queue.alpha: 5 does not outweigh beta 5 \\+ gamma 1: active loops must outrank"),
            ({"alpha": -1, "beta": 0, "gamma": 0}, "queue.alpha: -1 must be"),
            ({"policy": "lottery"}, "'lottery' is no policy; there are efaas, sbq, pf, sr, pq, session-fifo"),
            ({"slice_s": 0}, "queue.slice_s: 0 must be a finite number above 0"),
            ({"slice_cost_s": -0.1}, "queue.slice_cost_s"),
            ({"half_life_s": 0}, "queue.half_life_s"),
            ({"guaranteed_share": 0.5}, "queue.guaranteed_share: 0.5 must lie between 0 and 0.25"),
            ({"cold_start_s": (8, 2)}, "queue.cold_start_s"),
            ({"max_failures": 0}, "queue.max_failures: 0 must be at least 1"),
        ],
    )
    def test_that_cannot_work_are_refused_by_name(self, fields: dict[str, Any], words: str) -> None:
        with pytest.raises(InputError, match=words):
            QpuConfig(**fields)

    def test_weights_of_rho_do_not_concern_policies_without_it(self) -> None:
        assert QpuConfig(policy="sbq", alpha=0).alpha == 0

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"max_age_s": 100}, "100 s is below the 150.0 s that a calibration takes"),
            ({"interval_s": 100}, "calibration.interval_s: 100 s is below"),
            ({"duration_s": 0}, "calibration.duration_s"),
            ({"local_fixed_s": -1}, "calibration.local_fixed_s"),
        ],
    )
    def test_calibrations_without_end_are_refused(self, fields: dict[str, Any], words: str) -> None:
        with pytest.raises(InputError, match=words):
            CalibrationConfig(frozen=False, **fields)

    def test_a_localised_calibration_of_4_of_27_qubits_costs_at_most_a_fifth(self) -> None:
        config = CalibrationConfig()
        assert config.local_calibration_s(4) <= config.duration_s / 5
        assert config.local_calibration_s(27) == config.duration_s


class TestReports:
    def test_position_estimate_and_reason_change_with_the_queue(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("a")
        host.open("b")
        host.submit("running", "a", BATCH, 1.0)
        host.submit("first", "a", BATCH, 1.0)
        assert host.submit("second", "b", LOOP, 1.0)[0] == ReportQueued(
            "second", 1, 0.26, "first iteration; the device runs a"
        )
        assert host.log[-1][1] == ReportQueued("first", 2, 1.26, "batch work; the device runs a")
        assert host.machine.queue_position("second") == 1
        assert host.machine.queue_position("first") == 2
        assert host.machine.queue_position("running") == 0

    def test_a_long_queue_is_told_on_arrival(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("a")
        for number in range(30):
            host.submit(f"j{number}", "a", BATCH, 1.0)
        report = host.log[-1][1]
        assert report == ReportQueued("j29", 29, pytest.approx(28.26), "batch work; the device runs a")

    def test_the_view_tells_states_in_words(self, make_host: MakeHost) -> None:
        host = make_host()
        for name in "abc":
            host.open(name)
        host.submit("j", "a", BATCH, 1.0)
        host.submit("k", "b", BATCH, 1.0)
        view = host.machine.snapshot(0.1)
        assert [(s.session, s.state, s.position) for s in view.sessions] == [
            ("a", "Running", 0),
            ("b", "Queued", 1),
            ("c", "Classical", 0),
        ]
        assert view.sessions[1].estimated_start_s == pytest.approx(0.16)
        assert (view.condition, [entry.job_id for entry in view.queue]) == ("Ready", ["k"])


def test_an_unknown_session_may_not_cancel_by_accident(make_host: MakeHost) -> None:
    host = make_host()
    assert host.feed(JobCancelled(0.0, "j")) == [Idle(None, None, "nothing waits")]
