"""The rivals, each by what defines it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from efaas.core.qpu import POLICIES
from efaas.core.qpu.messages import FailureCode, Idle, JobKind, StartCalibration, StartSlice

MakeHost = Callable[..., Any]
LOOP, BATCH = JobKind.LOOP, JobKind.BATCH
RIVALS = [policy for policy in POLICIES if policy != "efaas"]


def order(host: Any) -> list[str]:
    return [job for _, job in host.starts()]


@pytest.mark.parametrize("policy", RIVALS)
class TestEveryRival:
    def test_runs_whole_jobs(self, make_host: MakeHost, policy: str) -> None:
        host = make_host(policy=policy)
        host.open("a")
        host.submit("j", "a", BATCH, 60.0)
        host.submit("k", "a", LOOP, 2.0)
        host.run_until(100)
        assert order(host) == ["j", "k"]

    def test_serves_everything_and_charges_to_the_nanosecond(self, make_host: MakeHost, policy: str) -> None:
        host = make_host(policy=policy)
        for name in "abc":
            host.open(name)
        for number in range(30):
            host.at(number * 1.0, lambda n=number: host.submit(f"j{n}", "abc"[n % 3], BATCH, 0.5 + n % 4))
        host.run_until(300)
        assert len(host.completed) == 30
        assert host.charged_ns() == host.busy_ns

    def test_drops_waiting_jobs_and_goes_on(self, make_host: MakeHost, policy: str) -> None:
        host = make_host(policy=policy)
        host.open("a")
        host.open("b")
        for name, session in (("j", "a"), ("k", "a"), ("l", "b")):
            host.submit(name, session, LOOP, 2.0)
        host.cancel("k")
        host.close("a")
        host.run_until(100)
        assert host.completed == {"l": 1}

    def test_repeats_a_failed_job_before_others(self, make_host: MakeHost, policy: str) -> None:
        host = make_host(policy=policy)
        host.open("a")
        host.submit("j", "a", BATCH, 2.0)
        host.submit("k", "a", BATCH, 2.0)
        host.fail()
        host.run_until(100)
        assert order(host) == ["j", "j", "k"]


class TestStatelessBatchQueue:
    def test_is_first_come_first_served_whatever_the_job(self, make_host: MakeHost) -> None:
        host = make_host(policy="sbq")
        host.open("a")
        host.open("b", weight=100.0)
        for number in range(4):
            host.submit(f"b{number}", "a", BATCH, 5.0)
        host.submit("loop", "b", LOOP, 1.0)
        host.run_until(100)
        assert order(host) == ["b0", "b1", "b2", "b3", "loop"]

    def test_renews_a_calibration_older_than_tau_in_full(self, make_host: MakeHost) -> None:
        host = make_host(policy="sbq", tau_s=300.0, frozen=False, duration_s=30.0, interval_s=3600.0)
        host.open("a")
        host.now_s = 299.0
        host.submit("j", "a", LOOP, 1.0, qubits=(0,))
        host.run_until(301)
        assert [d for _, d in host.of(StartCalibration)] == []
        host.submit("k", "a", LOOP, 1.0, qubits=(0,))
        [(_, calibration)] = host.of(StartCalibration)
        assert (calibration.scope, calibration.expected_s) == ("full", 30.0)


class TestPureFunctions:
    def test_each_iteration_waits_for_a_container_of_2_to_8_s(self, make_host: MakeHost) -> None:
        host = make_host(policy="pf")
        host.open("a")
        starts_s = []
        for number in range(40):
            host.now_s = number * 20.0
            host.submit(f"i{number}", "a", LOOP, 1.0)
            host.run_until(number * 20.0 + 19.0)
        starts_s = [at_s % 20.0 for at_s, _ in host.starts()]
        assert 2.0 <= min(starts_s) < 3.0
        assert 7.0 < max(starts_s) <= 8.0
        assert sum(starts_s) / 40 == pytest.approx(5.0, abs=0.8)

    def test_others_run_meanwhile_and_batch_jobs_need_no_container(self, make_host: MakeHost) -> None:
        host = make_host(policy="pf")
        host.open("a")
        host.submit("loop", "a", LOOP, 1.0)
        host.submit("batch", "a", BATCH, 1.0)
        host.run_until(20)
        assert order(host) == ["batch", "loop"]

    def test_idleness_says_what_is_waited_for(self, make_host: MakeHost) -> None:
        host = make_host(policy="pf")
        host.open("a")
        host.submit("loop", "a", LOOP, 1.0)
        [(_, _), (_, idle)] = host.of(Idle)
        assert idle.reason == "what waits is not ready for the device"
        assert host.machine.snapshot(0.0).sessions[0].reason == "its container or pilot starts"


class TestStaticReservation:
    def test_the_device_is_locked_for_a_sessions_whole_life(self, make_host: MakeHost) -> None:
        host = make_host(policy="sr")
        host.open("a")
        host.open("b")
        host.submit("i0", "a", LOOP, 1.0)
        host.submit("batch", "b", BATCH, 1.0)
        host.run_until(100)
        host.submit("i1", "a", LOOP, 1.0)
        host.run_until(200)
        assert order(host) == ["i0", "i1"]
        [*_, (_, idle)] = host.of(Idle)
        assert (idle.reserved_for, idle.reason) == ("session a", "the device is reserved for session a")
        host.close("a")
        host.run_until(300)
        assert order(host) == ["i0", "i1", "batch"]

    def test_a_batch_job_locks_it_for_itself(self, make_host: MakeHost) -> None:
        host = make_host(policy="sr")
        host.open("a")
        host.open("b")
        host.submit("batch 1", "a", BATCH, 1.0)
        host.submit("i0", "b", LOOP, 1.0)
        host.submit("batch 2", "a", BATCH, 1.0)
        host.run_until(10)
        assert order(host) == ["batch 1", "i0"]


class TestPilotQueue:
    def test_the_first_task_queues_and_later_ones_pass_the_line(self, make_host: MakeHost) -> None:
        host = make_host(policy="pq")
        host.open("a")
        host.open("b")
        for number in range(3):
            host.submit(f"b{number}", "b", BATCH, 5.0)
        host.submit("t0", "a", LOOP, 1.0)
        host.run_until(16.5)
        for number in range(3, 6):
            host.submit(f"b{number}", "b", BATCH, 5.0)
        host.submit("t1", "a", LOOP, 1.0)
        host.run_until(60)
        assert order(host) == ["b0", "b1", "b2", "t0", "b3", "t1", "b4", "b5"]

    def test_launches_take_their_time(self, make_host: MakeHost) -> None:
        host = make_host(policy="pq", slice_cost_s=0.0)
        host.open("a")
        host.submit("t0", "a", LOOP, 1.0)
        host.run_until(10)
        host.submit("t1", "a", LOOP, 1.0)
        host.run_until(20)
        assert host.starts() == [(2.0, "t0"), (10.5, "t1")]


class TestSessionFifo:
    def test_an_active_session_has_the_device_to_itself(self, make_host: MakeHost) -> None:
        host = make_host(policy="session-fifo")
        host.open("a")
        host.open("b")
        host.submit("i0", "a", LOOP, 1.0)
        host.submit("other", "b", LOOP, 1.0)
        for number in range(1, 5):
            host.at(30.0 * number, lambda n=number: host.submit(f"i{n}", "a", LOOP, 1.0))
        host.run_until(150)
        assert order(host) == ["i0", "i1", "i2", "i3", "i4"]

    def test_a_session_idle_for_its_interactive_time_queues_again(self, make_host: MakeHost) -> None:
        host = make_host(policy="session-fifo", slice_cost_s=0.0)
        host.open("a")
        host.open("b")
        host.submit("i0", "a", LOOP, 1.0)
        host.submit("other", "b", LOOP, 1.0)
        host.run_until(70)
        assert host.starts() == [(0.0, "i0"), (61.0, "other")]
        host.submit("i1", "a", LOOP, 1.0)
        host.run_until(200)
        assert host.starts()[-1] == (122.0, "i1")
        assert host.machine.policy.billed_s == {"a": 122.0, "b": 61.0}  # idle time is billed

    def test_the_maximum_time_to_live_runs_on(self, make_host: MakeHost) -> None:
        host = make_host(policy="session-fifo", max_ttl_s=100.0)
        host.open("a")
        host.submit("i0", "a", LOOP, 1.0)
        for number in range(1, 5):
            host.at(40.0 * number, lambda n=number: host.submit(f"i{n}", "a", LOOP, 1.0))
        host.run_until(300)
        assert order(host) == ["i0", "i1", "i2"]
        failed = [d for _, d in host.log if type(d).__name__ == "FailJob"]
        assert [(d.job_id, d.code) for d in failed] == [
            ("i3", FailureCode.LIMIT_REACHED),
            ("i4", FailureCode.LIMIT_REACHED),
        ]
        assert failed[0].reason == "the session is older than its maximum time to live of 100 s"


def test_policies_differ_in_order_only(make_host: MakeHost) -> None:
    """The same work costs the same shots under every policy."""
    totals = set()
    for policy in POLICIES:
        host = make_host(policy=policy, slice_cost_s=0.0)
        host.open("a")
        host.open("b")
        for number in range(10):
            host.submit(f"j{number}", "ab"[number % 2], BATCH, 1.0 + number / 4)
        host.run_until(200)
        cells = sum(d.blocks for _, d in host.of(StartSlice))
        totals.add((cells, host.charged_ns("a"), host.charged_ns("b")))
    assert len(totals) == 1
