"""When the machine calibrates, what, for whom, and what a calibration overtakes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from efaas.core.qpu.messages import (
    CalibrationRequested,
    CalibrationScope,
    Charge,
    FailureCode,
    JobKind,
    StartCalibration,
    StartSlice,
)

MakeHost = Callable[..., Any]
LOOP, BATCH = JobKind.LOOP, JobKind.BATCH
DRIFTING = {"frozen": False, "interval_s": 1000.0, "duration_s": 100.0, "max_age_s": 5000.0}


def calibrations(host: Any) -> list[tuple[float, StartCalibration]]:
    return [(at_s, d) for at_s, d in host.log if isinstance(d, StartCalibration)]


class TestOnNeed:
    def test_a_localised_calibration_of_the_circuits_qubits_comes_first_and_its_session_pays(
        self, make_host: MakeHost
    ) -> None:
        host = make_host(**DRIFTING, local_fixed_s=2.0, local_per_qubit_s=3.0)
        host.open("a", max_calibration_age_s=60.0)
        host.now_s = 60.5
        assert host.submit("j", "a", LOOP, 1.0, qubits=(3, 4))[0] == StartCalibration(
            CalibrationScope.LOCAL,
            (3, 4),
            8.0,
            "a",
            "the calibration is 60.5 s old, job j takes one of at most 60 s",
        )
        decisions = host.finish()
        assert decisions[0] == Charge("calibration/1@60500000000", "a", 8.0, 0, "calibration")
        assert isinstance(decisions[1], StartSlice)
        assert decisions[1].calibration_age_s == 0.0
        host.run_until(80)
        [complete] = [d for _, d in host.log if type(d).__name__ == "CompleteJob"]
        assert (complete.queue_s, complete.calibration_s) == (0.0, 8.0)

    def test_the_qubits_age_one_by_one(self, make_host: MakeHost) -> None:
        host = make_host(**DRIFTING, local_fixed_s=2.0, local_per_qubit_s=3.0)
        host.open("a", max_calibration_age_s=60.0)
        host.now_s = 61.0
        host.submit("j", "a", BATCH, 1.0, qubits=(3, 4))
        host.run_until(80)
        host.submit("same qubits", "a", BATCH, 1.0, qubits=(4, 3))
        host.run_until(90)
        assert len(calibrations(host)) == 1
        host.submit("one other", "a", BATCH, 1.0, qubits=(4, 5))
        assert calibrations(host)[-1][1].qubits == (4, 5)

    def test_is_full_where_that_costs_no_more_or_no_qubits_are_named(self, make_host: MakeHost) -> None:
        host = make_host(**DRIFTING)
        host.open("a", max_calibration_age_s=150.0)
        host.now_s = 151.0
        host.submit("wide", "a", BATCH, 1.0, qubits=tuple(range(27)))
        assert calibrations(host)[-1][1].scope is CalibrationScope.FULL
        host.run_until(500)
        host.submit("unknown", "a", BATCH, 1.0)
        assert calibrations(host)[-1][1].scope is CalibrationScope.FULL

    def test_is_kept_by_a_frozen_device_for_a_sessions_own_limit_only(self, make_host: MakeHost) -> None:
        host = make_host(frozen=True, interval_s=10.0, duration_s=5.0, max_age_s=20.0)
        host.open("careless")
        host.open("careful", max_calibration_age_s=60.0)
        host.now_s = 10_000.0
        host.submit("j", "careless", BATCH, 1.0)
        host.run_until(10_002)
        assert calibrations(host) == []
        host.submit("k", "careful", BATCH, 1.0, qubits=(0,))
        assert len(calibrations(host)) == 1

    def test_no_slice_starts_on_an_older_calibration_and_a_job_overtaken_starts_again(
        self, make_host: MakeHost
    ) -> None:
        """The strict host checks the age of every slice."""
        host = make_host(**DRIFTING, local_fixed_s=1.0, local_per_qubit_s=1.0)
        host.open("a", max_calibration_age_s=30.0)
        host.open("b")
        for number in range(20):
            host.submit(f"j{number}", "a", BATCH, 8.0, qubits=(1, 2))
            host.submit(f"k{number}", "b", BATCH, 8.0, qubits=(2, 3))
        host.run_until(700)
        assert len(host.completed) == 40
        again = [d for _, d in host.log if isinstance(d, StartSlice) and d.attempt > 1]
        assert again
        assert host.charged_ns(None) > 0  # what was overtaken is nobody's fault
        assert host.charged_ns() == host.busy_ns

    def test_a_job_longer_than_any_calibration_lasts_is_given_up_in_the_end(
        self, make_host: MakeHost
    ) -> None:
        host = make_host(**DRIFTING, local_fixed_s=1.0, local_per_qubit_s=1.0)
        host.open("a", max_calibration_age_s=10.0)
        host.submit("endless", "a", BATCH, 60.0, qubits=(0,))
        host.run_until(200)
        failure = next(d for _, d in host.log if type(d).__name__ == "FailJob")
        assert failure.code is FailureCode.CALIBRATION
        assert failure.reason == "calibrations overtook it 6 times: it runs longer than one is good for"

    def test_a_limit_below_the_time_of_a_calibration_is_refused_with_both_numbers(
        self, make_host: MakeHost
    ) -> None:
        host = make_host(**DRIFTING, local_fixed_s=2.0, local_per_qubit_s=3.0)
        host.open("a", max_calibration_age_s=7.0)
        failure = host.submit("j", "a", BATCH, 1.0, qubits=(0, 1))[0]
        assert (failure.code, failure.retry) == (FailureCode.CALIBRATION, False)
        assert failure.reason == (
            "the session takes calibrations of at most 7 s, one for this job takes 8 s: raise its limit"
        )

    def test_a_waiting_loop_waits_as_calibration_not_as_queue(self, make_host: MakeHost) -> None:
        host = make_host(**DRIFTING)
        host.open("a", max_calibration_age_s=100.0)
        host.open("b")
        host.now_s = 101.0
        host.submit("causes", "a", BATCH, 0.25)
        host.run_until(151.0)
        host.submit("meets", "b", LOOP, 0.25)
        host.run_until(210.0)
        waits = {d.job_id: d for _, d in host.log if type(d).__name__ == "CompleteJob"}
        assert waits["meets"].calibration_s == pytest.approx(50.0)
        assert waits["meets"].queue_s < 1.0


class TestOnSchedule:
    def test_uses_an_idle_device_early(self, make_host: MakeHost) -> None:
        host = make_host(**DRIFTING)
        host.open("a")
        host.run_until(2500)
        assert [(at_s, d.caused_by) for at_s, d in calibrations(host)] == [(800.0, None), (1700.0, None)]
        assert calibrations(host)[0][1].reason == "scheduled, early because the device idles"
        assert host.charges["calibration/1@800000000000"].session is None

    def test_batch_work_makes_way_when_it_is_due_and_is_not_overtaken(self, make_host: MakeHost) -> None:
        host = make_host(**DRIFTING, validate=False)
        host.open("a")
        for number in range(300):
            host.submit(f"j{number}", "a", BATCH, 7.0)
        host.run_until(1500)
        [(at_s, decision)] = calibrations(host)
        assert 1000 <= at_s <= 1000 + 7.1  # what had started was done first
        assert decision.reason == "scheduled"
        assert all(d.attempt == 1 for _, d in host.of(StartSlice))

    def test_waits_for_loops_until_the_deadline_and_never_past_it(self, make_host: MakeHost) -> None:
        host = make_host(**DRIFTING)
        host.open("loop")
        count = 0

        def submit() -> None:
            nonlocal count
            host.submit(f"i{count}", "loop", LOOP, 2.0)
            count += 1

        host.on_complete = lambda host, job: host.at(host.now_s + 1.0, submit)
        submit()
        host.run_until(1400)
        [(at_s, decision)] = calibrations(host)
        assert 1250 <= at_s <= 1253
        assert decision.reason == "scheduled, at its deadline"

    def test_what_was_left_unfinished_too_long_starts_again(self, make_host: MakeHost) -> None:
        host = make_host(**DRIFTING)
        host.open("a")
        host.submit("long", "a", BATCH, 1200.0)
        host.run_until(3000)
        assert calibrations(host)[0][0] == pytest.approx(1100.0, abs=0.3)  # due + one calibration's time
        assert host.charges["long/rerun@0/1"].what == "rerun"

    def test_is_asked_for_by_a_person_also_on_a_frozen_device(self, make_host: MakeHost) -> None:
        host = make_host(duration_s=100.0)
        host.open("a")
        host.submit("j", "a", BATCH, 5.0)
        host.feed(CalibrationRequested(0.1))
        host.run_until(200)
        [(at_s, decision)] = calibrations(host)
        assert at_s == pytest.approx(5.01)
        assert (decision.scope, decision.reason) == (CalibrationScope.FULL, "requested")
        assert host.machine.calibration.epoch == 1

    def test_is_never_planned_on_a_frozen_device(self, make_host: MakeHost) -> None:
        host = make_host(frozen=True, interval_s=10.0, duration_s=1.0)
        host.open("a")
        host.submit("j", "a", BATCH, 50.0)
        host.run_until(1e6)
        assert calibrations(host) == []

    def test_session_fifo_does_not_calibrate_inside_a_session(self, make_host: MakeHost) -> None:
        host = make_host(**DRIFTING, policy="session-fifo")
        host.open("a")
        for number in range(40):
            host.at(number * 50.0, lambda number=number: host.submit(f"i{number}", "a", LOOP, 2.0))
        host.at(2000.0, lambda: host.close("a"))
        host.run_until(3000)
        assert calibrations(host)[0][0] == 2000.0


def test_the_view_tells_age_and_condition(make_host: MakeHost) -> None:
    host = make_host(**DRIFTING, calibrated_at_s=-50.0, epoch=7)
    host.open("a")
    host.feed(CalibrationRequested(10.0))
    view = host.machine.snapshot(20.0)
    assert (view.condition, view.epoch, view.calibration_age_s) == ("Calibrating", 7, 70.0)
    host.submit("j", "a", BATCH, 1.0)
    view = host.machine.snapshot(30.0)
    assert view.sessions[0].reason == "batch work; the device calibrates: requested"
    assert view.sessions[0].estimated_start_s == pytest.approx(80.0)
