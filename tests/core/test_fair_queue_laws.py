"""What the Dual-Resource Fair Queue promises, one law a test."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from efaas.core.qpu import QpuConfig
from efaas.core.qpu.messages import (
    CompleteJob,
    Idle,
    JobClass,
    JobKind,
    StartSlice,
    UsageReported,
)
from efaas.core.qpu.policies.efaas import priority

MakeHost = Callable[..., Any]
LOOP, BATCH, GUESS = JobKind.LOOP, JobKind.BATCH, JobKind.SPECULATIVE


def backlog(host: Any, session: str, seconds: float, each_s: float, kind: JobKind = BATCH) -> None:
    """Jobs that keep a session busy for so long."""
    for number in range(round(seconds / each_s)):
        host.submit(f"{session}-{number}", session, kind, each_s)


def service(host: Any, after_s: float = 0.0, until_s: float = float("inf")) -> dict[str, float]:
    """Device seconds of whole slices by session."""
    used: dict[str, float] = {}
    for at_s, decision in host.log:
        if isinstance(decision, StartSlice) and after_s <= at_s < until_s:
            job = host.jobs[decision.job_id]
            used[job.session] = used.get(job.session, 0.0) + decision.blocks * job.block_s
    return used


class Loops:
    """Loops on a host: each submits its next iteration a while after its result."""

    def __init__(
        self, host: Any, *, t_cpu_s: float = 1.5, t_qpu_s: float = 2.0, spread_s: float = 0.0
    ) -> None:
        self.host, self.t_cpu_s, self.t_qpu_s, self.spread_s = host, t_cpu_s, t_qpu_s, spread_s
        self.count: dict[str, int] = {}
        self.ready_s: dict[str, float] = {}
        self.random = random.Random(7)
        self.going_on = True
        host.on_complete = self.completed

    def start(self, session: str) -> None:
        self.host.open(session)
        self.count[session] = 0
        self.submit(session)

    def submit(self, session: str) -> None:
        name = f"{session}-i{self.count[session]}"
        self.count[session] += 1
        self.ready_s[name] = self.host.now_s
        self.host.submit(name, session, LOOP, self.t_qpu_s)

    def completed(self, host: Any, job: str) -> None:
        session = host.jobs[job].session
        if session in self.count and self.going_on:
            gap_s = max(0.001, self.t_cpu_s + self.spread_s * self.random.uniform(-1, 1))
            host.at(host.now_s + gap_s, lambda: self.submit(session))

    def waits_s(self, after: int = 0) -> list[float]:
        """Waits of iterations that started, but for the first few of each session."""
        firsts: dict[str, float] = {}
        for at_s, job in self.host.starts():
            firsts.setdefault(job, at_s)
        return [
            firsts[job] - ready_s
            for job, ready_s in self.ready_s.items()
            if job in firsts and int(job.rpartition("i")[2]) > after
        ]


class TestShares:
    def test_long_run_shares_of_backlogged_tenants_are_their_weights(self, make_host: MakeHost) -> None:
        host = make_host(validate=False)
        weights = {"a": 1.0, "b": 2.0, "c": 5.0}
        for name, weight in weights.items():
            host.open(name, tenant_weight=weight)
            backlog(host, name, 1800, each_s=5.0)
        host.run_until(1800)
        used = service(host, after_s=300)
        for name, weight in weights.items():
            assert used[name] / sum(used.values()) == pytest.approx(weight / 8, rel=0.05)

    def test_job_lengths_do_not_buy_a_larger_share(self, make_host: MakeHost) -> None:
        host = make_host(validate=False)
        for name, each_s in (("short", 0.5), ("long", 60.0)):
            host.open(name)
            backlog(host, name, 900, each_s)
        host.run_until(1200)
        used = service(host)
        assert used["short"] / used["long"] == pytest.approx(1.0, rel=0.05)

    def test_many_sessions_do_not_buy_a_tenant_a_larger_share(self, make_host: MakeHost) -> None:
        host = make_host(validate=False)
        host.open("alone", "one")
        backlog(host, "alone", 900, 5.0)
        for number in range(9):
            host.open(f"s{number}", "many", weight=9.0)
            backlog(host, f"s{number}", 120, 5.0)
        host.run_until(1200)
        used = service(host)
        alone = used.pop("alone")
        assert alone / sum(used.values()) == pytest.approx(1.0, rel=0.05)

    def test_sessions_of_one_tenant_share_by_their_weights(self, make_host: MakeHost) -> None:
        host = make_host(validate=False)
        for name, weight in (("light", 1.0), ("heavy", 3.0)):
            host.open(name, "tenant", weight=weight)
            backlog(host, name, 1000, 5.0)
        host.run_until(1200)
        used = service(host)
        assert used["heavy"] / used["light"] == pytest.approx(3.0, rel=0.05)

    def test_cpu_time_counts_where_it_is_the_larger_share(self, make_host: MakeHost) -> None:
        host = make_host(cpu_capacity=1.0)
        for name in ("thinker", "worker"):
            host.open(name)
        host.submit("blocker", "worker", BATCH, 0.25)
        host.submit("w", "worker", BATCH, 0.25)
        host.submit("t", "thinker", BATCH, 0.25, cpu_s=100.0)
        host.run_until(5)
        assert [job for _, job in host.starts()] == ["blocker", "w", "t"]

    def test_use_on_other_devices_counts(self, make_host: MakeHost) -> None:
        host = make_host()
        for name in ("busy elsewhere", "idle elsewhere", "x"):
            host.open(name)
        host.feed(UsageReported(0.0, "busy elsewhere", 0.0, 50.0))
        host.submit("blocker", "x", BATCH, 0.25)
        host.submit("first", "busy elsewhere", BATCH, 0.25)
        host.submit("second", "idle elsewhere", BATCH, 0.25)
        host.run_until(5)
        assert [job for _, job in host.starts()] == ["blocker", "second", "first"]

    def test_weights_told_with_the_accounts_hold_also_for_sessions_that_open_later(
        self, make_host: MakeHost
    ) -> None:
        host = make_host(validate=False)
        host.feed(UsageReported(0.0, "gold", 0.0, 0.0, weight=3.0))
        for name in ("gold", "plain"):
            host.open(name)
            backlog(host, name, 1800, each_s=5.0)
        # An account that names no weight leaves it as it was.
        host.feed(UsageReported(0.0, "gold", 0.0, 0.0))
        host.run_until(1800)
        used = service(host, after_s=300)
        assert used["gold"] / used["plain"] == pytest.approx(3.0, rel=0.05)

    def test_sharing_incentive_nobody_does_worse_than_with_a_device_of_1_nth(
        self, make_host: MakeHost
    ) -> None:
        host = make_host(validate=False)
        names = [f"t{n}" for n in range(4)]
        for number, name in enumerate(names):
            host.open(name)
            backlog(host, name, 800, each_s=2.0 + number)
        host.run_until(800)
        used = service(host)
        assert all(used[name] >= 0.95 * 800 / 4 for name in names)

    @pytest.mark.parametrize("seed", range(3))
    def test_envy_freeness_backlogged_tenants_never_drift_apart_by_more_than_three_turns(
        self, make_host: MakeHost, seed: int
    ) -> None:
        """Who waits has had what others that wait have had, but for their turns and what has decayed."""
        host = make_host(validate=False)
        draw = random.Random(seed)
        names = ["a", "b", "c"]
        for name in names:
            host.open(name)
            for number in range(60):
                host.submit(f"{name}{number}", name, BATCH, draw.uniform(0.5, 20.0))
        used = dict.fromkeys(names, 0.0)
        assert {at_s for at_s, _ in host.log} == {0.0}
        host.run_until(300)
        for _, decision in host.of(StartSlice):
            job = host.jobs[decision.job_id]
            used[job.session] += decision.blocks * job.block_s
            assert max(used.values()) - min(used.values()) <= 3 * 5.0

    def test_a_rested_tenant_catches_up_with_its_decayed_due_only(self, make_host: MakeHost) -> None:
        """After a long rest the newcomer has at most what the others' use counts now, then they are even."""
        host = make_host(validate=False, half_life_s=60.0)
        for name in ("steady", "rested"):
            host.open(name)
        backlog(host, "steady", 1500, 5.0)
        host.run_until(600)
        backlog(host, "rested", 1000, 5.0)
        counted_s = 60.0 / 0.6931  # steady use levels off there
        host.run_until(600 + counted_s)
        assert service(host, 600).get("steady", 0.0) > 0.1 * counted_s
        host.run_until(1100)
        used = service(host, 900)
        assert used["steady"] / used["rested"] == pytest.approx(1.0, rel=0.1)


class TestClasses:
    def test_are_strict_from_active_to_speculative(self, make_host: MakeHost) -> None:
        host = make_host(guaranteed_share=0.0)
        loops = Loops(host, t_cpu_s=0.5, t_qpu_s=0.25)
        loops.start("loop")
        host.run_until(3)
        loops.going_on = False
        host.agenda.clear()
        host.open("other")
        host.run_until(10)
        host.submit("blocker", "other", BATCH, 0.25)
        host.submit("guess", "other", GUESS, 0.25)
        host.submit("batch", "other", BATCH, 0.25)
        host.submit("first", "other", LOOP, 0.25)
        host.submit("iteration", "loop", LOOP, 0.25)
        start = len(host.starts())
        host.run_until(20)
        order = dict.fromkeys(job for _, job in host.starts()[start:])
        assert list(order) == ["iteration", "first", "batch", "guess"]
        classes = dict.fromkeys(d.job_class for _, d in host.of(StartSlice)[start:])
        assert list(classes) == list(JobClass)

    def test_the_second_iteration_is_an_active_one(self, make_host: MakeHost) -> None:
        host = make_host()
        loops = Loops(host)
        loops.start("loop")
        host.run_until(20)
        classes = {d.job_id: d.job_class for _, d in host.of(StartSlice)}
        assert classes["loop-i0"] is JobClass.FIRST
        assert {classes[f"loop-i{n}"] for n in range(1, 5)} == {JobClass.ACTIVE}


class TestActiveWait:
    @pytest.mark.parametrize("each_s", [0.25, 3.0, 100.0])
    @pytest.mark.parametrize("spread_s", [0.0, 0.4])
    def test_is_one_slice_and_its_cost_at_most_with_any_batch_load(
        self, make_host: MakeHost, each_s: float, spread_s: float
    ) -> None:
        host = make_host(validate=False)
        for name in ("b1", "b2", "b3"):
            host.open(name)
            backlog(host, name, 300, each_s)
        loops = Loops(host, spread_s=spread_s)
        loops.start("loop")
        host.run_until(300)
        active = loops.waits_s()
        assert len(active) > 60
        assert max(active) <= 0.25 + 0.01 + 1e-9

    def test_holds_when_first_iterations_pile_up(self, make_host: MakeHost) -> None:
        host = make_host(validate=False)
        loops = Loops(host)
        loops.start("loop")
        host.run_until(30)
        for number in range(40):
            host.open(f"new{number}")
            host.submit(f"first{number}", f"new{number}", LOOP, 4.0)
        host.run_until(200)
        active = loops.waits_s()
        assert max(active) <= 0.25 + 0.01 + 1e-9

    def test_gap_fitting_makes_it_shorter_still_at_no_cost_in_use(self, make_host: MakeHost) -> None:
        waits_s = {}
        work_s = {}
        for fitted in (False, True):
            host = make_host(validate=False, gap_fitting=fitted)
            host.open("batch")
            backlog(host, "batch", 600, 5.0)
            loops = Loops(host, t_cpu_s=1.37, spread_s=0.1)
            loops.start("loop")
            host.run_until(600)
            active = loops.waits_s()
            waits_s[fitted] = sum(active) / len(active)
            work_s[fitted] = sum(service(host).values())
        assert waits_s[True] < 0.5 * waits_s[False]
        assert work_s[True] > 0.98 * work_s[False]


class TestGaps:
    def test_a_slice_ends_where_the_loop_is_expected_back(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("batch")
        backlog(host, "batch", 300, 100.0)
        loops = Loops(host, t_cpu_s=1.0)
        loops.start("loop")
        host.run_until(60)
        # Exact gaps: no iteration waits longer than for its own turn, once they are known.
        assert max(loops.waits_s(after=5)) <= 0.0625

    def test_kept_gaps_are_logged_with_their_reason_and_stay_below_the_share(
        self, make_host: MakeHost
    ) -> None:
        host = make_host(validate=False, reserve_share=0.02)
        host.open("batch")
        for number in range(400):
            host.submit(f"b{number}", "batch", BATCH, 1.6, block_s=0.2)
        loops = Loops(host, t_cpu_s=1.1)
        loops.start("loop")
        host.run_until(500)
        kept_s, since_s = 0.0, None
        for at_s, decision in host.log:
            if isinstance(decision, Idle) and decision.reserved_for == "loop":
                assert decision.reason.startswith("kept free for loop, expected back at ")
                since_s = at_s
            elif isinstance(decision, StartSlice) and since_s is not None:
                kept_s += at_s - since_s
                since_s = None
        assert 0 < kept_s <= 0.02 * 500 + 0.5

    def test_a_loop_that_does_not_come_back_holds_nobody_up(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("batch")
        loops = Loops(host)
        loops.start("loop")
        host.run_until(30)
        loops.going_on = False
        host.agenda.clear()
        backlog(host, "batch", 60, 5.0)
        host.run_until(100)
        assert sum(job.startswith("batch") for job in host.completed) == 12

    def test_nothing_is_kept_for_a_loop_whose_gaps_cannot_be_told(self, make_host: MakeHost) -> None:
        host = make_host(validate=False)
        host.open("batch")
        backlog(host, "batch", 400, 5.0)
        loops = Loops(host, t_cpu_s=2.0, spread_s=1.9)
        loops.start("loop")
        host.run_until(300)
        assert [d for _, d in host.of(Idle) if d.reserved_for] == []


class TestWorkConservation:
    @pytest.mark.parametrize("seed", range(8))
    def test_the_device_never_idles_while_work_waits_but_in_a_kept_gap(
        self, make_host: MakeHost, seed: int
    ) -> None:
        """The machine's own invariants say so after every event; here over random arrivals."""
        host = make_host(gap_fitting=bool(seed % 2))
        draw = random.Random(seed)
        for name in "abc":
            host.open(name)
        for number in range(60):
            host.run_until(host.now_s + draw.expovariate(1.0))
            kind = draw.choice([LOOP, BATCH])
            host.submit(f"j{number}", draw.choice("abc"), kind, draw.uniform(0.1, 2.0))
        host.run_until(host.now_s + 200)
        assert len(host.completed) == 60

    def test_gap_fitting_off_keeps_no_gap(self, make_host: MakeHost) -> None:
        host = make_host(gap_fitting=False)
        host.open("batch")
        backlog(host, "batch", 100, 5.0)
        loops = Loops(host)
        loops.start("loop")
        host.run_until(100)
        assert [d for _, d in host.of(Idle) if d.reserved_for] == []


class TestGuaranteedShare:
    def saturate(self, host: Any, t_qpu_s: float) -> None:
        """Three active loops whose device time alone is more than there is."""
        loops = Loops(host, t_cpu_s=0.3, t_qpu_s=t_qpu_s, spread_s=0.1)
        for name in ("l1", "l2", "l3"):
            loops.start(name)
        while min(loops.count.values()) < 3:
            host.run_until(host.now_s + 10)

    @pytest.mark.parametrize("t_qpu_s", [0.5, 2.0, 8.0])
    def test_batch_work_gets_its_share_of_every_minute_while_loops_saturate(
        self, make_host: MakeHost, t_qpu_s: float
    ) -> None:
        host = make_host(validate=False)
        self.saturate(host, t_qpu_s)
        host.open("batch")
        backlog(host, "batch", 400, 5.0)
        begin_s = host.now_s + 10
        host.run_until(begin_s + 500)
        for offset_s in range(0, 440, 30):
            got_s = service(host, begin_s + offset_s, begin_s + offset_s + 60)["batch"]
            assert got_s >= 0.05 * 60 - 0.5 - 0.05 * t_qpu_s
            assert got_s <= 0.05 * 60 + 1.0

    def test_nothing_is_guaranteed_to_speculation(self, make_host: MakeHost) -> None:
        host = make_host(validate=False)
        self.saturate(host, 2.0)
        host.open("guesses")
        backlog(host, "guesses", 100, 5.0, GUESS)
        host.run_until(host.now_s + 200)
        assert service(host).get("guesses", 0.0) == 0.0

    def test_batch_work_gets_its_share_behind_first_iterations(self, make_host: MakeHost) -> None:
        host = make_host(validate=False)
        host.open("batch")
        backlog(host, "batch", 400, 5.0)
        for number in range(60):
            host.open(f"new{number}")
            host.submit(f"first{number}", f"new{number}", LOOP, 10.0)
        host.run_until(500)
        for start_s in range(60, 420, 60):
            assert service(host, start_s, start_s + 60)["batch"] >= 0.05 * 60 - 0.5

    def test_delays_each_active_iteration_by_one_slice_at_most_when_loops_do_not_saturate(
        self, make_host: MakeHost
    ) -> None:
        host = make_host(validate=False)
        host.open("batch")
        backlog(host, "batch", 400, 100.0)
        loops = Loops(host, t_cpu_s=0.2, t_qpu_s=8.0)
        loops.start("loop")
        host.run_until(400)
        active = loops.waits_s()
        assert max(active) <= 0.25 + 0.01 + 1e-9


class TestNobodyGainsByMislabelling:
    """The same batch work, honest and labelled as a loop, beside an honest rival: the rival loses nothing."""

    def honest_s(
        self, make_host: MakeHost, submit: Callable[[Any, int], None], seconds: float = 1000
    ) -> float:
        """Device time of the honest tenant while the other one does what `submit` does."""
        host = make_host(validate=False)
        host.open("honest")
        backlog(host, "honest", seconds, 5.0)
        submit(host, round(seconds / 5.0))
        host.run_until(seconds)
        return service(host)["honest"]

    def test_with_all_jobs_at_once(self, make_host: MakeHost) -> None:
        def cheat(host: Any, count: int) -> None:
            host.open("cheat")
            for number in range(count):
                host.submit(f"c{number}", "cheat", LOOP, 5.0)

        assert self.honest_s(make_host, cheat) >= 0.95 * 500

    def test_with_one_after_the_other_without_a_pause(self, make_host: MakeHost) -> None:
        """A chain of jobs keeps the class of loops until it is seen that nothing is computed."""

        def cheat(host: Any, count: int) -> None:
            host.open("cheat")

            def again(host: Any, job: str) -> None:
                if host.jobs[job].session == "cheat":
                    pending.append(job)

            pending: list[str] = []
            host.on_complete = again
            host.submit("c0", "cheat", LOOP, 5.0)
            number = 0
            while host.now_s < 1000:
                host.run_until(host.now_s + 0.001 if pending else host._end_s())
                while pending:
                    pending.pop()
                    number += 1
                    host.submit(f"c{number}", "cheat", LOOP, 5.0)

        assert self.honest_s(make_host, cheat) >= 0.92 * 500

    def test_with_always_two_outstanding(self, make_host: MakeHost) -> None:
        def cheat(host: Any, count: int) -> None:
            host.open("cheat")
            done: list[str] = []
            host.on_complete = lambda host, job: done.append(job)
            for number in range(2):
                host.submit(f"c{number}", "cheat", LOOP, 5.0)
            number = 2
            while host.now_s < 1000:
                host.run_until(host._end_s())
                for job in done:
                    if host.jobs[job].session == "cheat":
                        host.submit(f"c{number}", "cheat", LOOP, 5.0)
                        number += 1
                done.clear()

        assert self.honest_s(make_host, cheat) >= 0.95 * 500

    def test_with_a_session_for_each_job(self, make_host: MakeHost) -> None:
        def cheat(host: Any, count: int) -> None:
            for number in range(count):
                host.open(f"cheat{number}", "cheat")
                host.submit(f"c{number}", f"cheat{number}", LOOP, 5.0)

        assert self.honest_s(make_host, cheat) >= 0.92 * 500

    def test_with_iterations_longer_than_the_drift_limit(self, make_host: MakeHost) -> None:
        def cheat(host: Any, count: int) -> None:
            host.open("cheat")
            for number in range(3):
                host.submit(f"c{number}", "cheat", LOOP, 400.0)

        assert self.honest_s(make_host, cheat) >= 0.95 * 500

    def test_a_demoted_session_is_told_why_and_wins_the_class_back(self, make_host: MakeHost) -> None:
        host = make_host()
        loops = Loops(host, t_qpu_s=0.25)
        loops.start("loop")
        host.run_until(20)
        for number in range(6):
            host.submit(f"burst{number}", "loop", LOOP, 0.25)
        assert host.machine.jobs["burst5"].job_class is JobClass.BATCH
        assert host.machine.jobs["burst3"].job_class is JobClass.BATCH  # waiting ones are demoted with it
        reason = host.machine.snapshot(host.now_s).queue[0].reason
        assert reason == "served as batch work: submitted 5 jobs without waiting for their results"
        loops.going_on = False
        host.agenda.clear()
        host.run_until(25)
        loops.going_on = True
        loops.submit("loop")
        host.run_until(60)
        assert [d.job_class for _, d in host.of(StartSlice)][-1] is JobClass.ACTIVE

    def test_four_jobs_an_iteration_are_still_a_loop(self, make_host: MakeHost) -> None:
        host = make_host()
        host.open("gradient")
        for iteration in range(10):
            for part in range(4):
                host.submit(f"{iteration}.{part}", "gradient", LOOP, 0.25)
            host.run_until(host.now_s + 2)
        assert [d.job_class for _, d in host.of(StartSlice)][-1] is JobClass.ACTIVE


class TestNoFlapping:
    def test_equal_tenants_change_places_after_a_turn_only(self, make_host: MakeHost) -> None:
        host = make_host(validate=False)
        for name in ("a", "b"):
            host.open(name)
            backlog(host, name, 400, 40.0)
        host.run_until(600)
        turns = [at_s for at_s, d in host.of(StartSlice) if d.turn_s]
        assert all(later - earlier >= 5.0 - 1e-6 for earlier, later in pairwise(turns))

    def test_the_device_turns_no_more_often_than_iterations_and_turns_ask_for(
        self, make_host: MakeHost
    ) -> None:
        host = make_host(validate=False)
        for name in ("a", "b"):
            host.open(name)
            backlog(host, name, 600, 5.0)
        loops = Loops(host)
        loops.start("loop")
        host.run_until(600)
        turns = sum(1 for _, d in host.of(StartSlice) if d.turn_s)
        jobs = len(host.completed) + len(host.machine.jobs)
        assert turns <= 2 * len(loops.count) * max(loops.count.values()) + jobs


class TestBoundedWait:
    @pytest.mark.parametrize("seed", range(3))
    def test_of_everybody_when_the_load_is_below_one(self, make_host: MakeHost, seed: int) -> None:
        """Batch jobs at load 0.45 beside two loops at about 0.3: each is served, none waits for ever."""
        host = make_host(validate=False)
        draw = random.Random(seed)
        loops = Loops(host, t_cpu_s=6.0, t_qpu_s=1.0, spread_s=1.0)
        for name in ("l1", "l2"):
            loops.start(name)
        for number in range(3):
            host.open(f"b{number}")
        arrived: dict[str, float] = {}
        for number in range(150):
            host.run_until(host.now_s + draw.expovariate(0.15))
            name = f"j{number}"
            arrived[name] = host.now_s
            host.submit(name, f"b{number % 3}", BATCH, draw.uniform(0.5, 5.5))
        host.run_until(host.now_s + 120)
        ends = {d.job_id: at_s for at_s, d in host.of(CompleteJob)}
        waits_s = [ends[name] - at_s for name, at_s in arrived.items()]
        assert max(waits_s) < 120
        assert host.machine.waiting <= 1


class TestPriority:
    def test_is_the_formula_of_the_paper(self) -> None:
        config = QpuConfig(alpha=100, beta=5, gamma=1, tau_s=300)
        assert priority(config, active=True, may_wait_s=60, weight_part=0.5) == 100 + 5 * (240 / 300) + 0.5
        assert priority(config, active=False, may_wait_s=300, weight_part=1.0) == 1.0

    def test_the_job_whose_calibration_ends_first_comes_first(self, make_host: MakeHost) -> None:
        host = make_host(frozen=False, duration_s=50.0)
        host.open("late", "tenant", max_calibration_age_s=250.0)
        host.open("soon", "tenant", max_calibration_age_s=100.0)
        host.open("x")
        host.submit("blocker", "x", BATCH, 0.25)
        host.submit("l", "late", BATCH, 0.25)
        host.submit("s", "soon", BATCH, 0.25)
        host.run_until(5)
        assert [job for _, job in host.starts()] == ["blocker", "s", "l"]
