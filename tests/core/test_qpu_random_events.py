"""Random events against the machine: invariants after each one, conservation laws at the end.

`EFAAS_SOAK_EVENTS` (default 30000) sets the length of the seeded run; millions take minutes.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from efaas.core.qpu import POLICIES, CalibrationConfig, ProtocolError, QpuConfig, QpuMachine
from efaas.core.qpu.messages import (
    CalibrationRequested,
    DrainCancelled,
    DrainRequested,
    JobKind,
    SliceFinished,
    TimerFired,
    UsageReported,
)

MakeHost = Callable[..., Any]
KINDS = tuple(JobKind)
SESSIONS = tuple("abcdef")


class RandomEvents:
    """Does one of many things to a host; all choices come from outside."""

    def __init__(self, host: Any) -> None:
        self.host = host
        self.opened: set[str] = set()
        self.number = 0
        self.submitted: set[str] = set()

    def open(self, session: str, limit_s: float | None, weight: float) -> None:
        self.host.open(session, f"tenant {session in 'abc'}", weight=weight, max_calibration_age_s=limit_s)
        self.opened.add(session)

    def close(self, session: str) -> None:
        if session in self.opened:
            self.host.close(session)
            self.opened.discard(session)

    def submit(self, session: str, kind: JobKind, seconds: float, qubit: int) -> None:
        if session in self.opened:
            name = f"j{self.number}"
            self.number += 1
            self.host.submit(name, session, kind, seconds, qubits=(qubit, qubit + 1), cpu_s=seconds / 3)
            self.submitted.add(name)

    def again(self, which: int, kind: JobKind) -> None:
        """The same id once more, perhaps as a real job after it was speculative."""
        names = sorted(self.host.machine.jobs)
        if names:
            job = self.host.jobs[names[which % len(names)]]
            if job.session in self.opened:
                self.host.submit(job.id, job.session, kind, job.device_s, qubits=job.qubits)

    def cancel(self, which: int) -> None:
        if self.number:
            self.host.cancel(f"j{which % self.number}")

    def fail(self, retry: bool) -> None:
        if self.host.slice is not None and not self.host.stopping:
            self.host.fail(retry=retry)

    def wait(self, seconds: float) -> None:
        self.host.run_until(self.host.now_s + seconds)

    def settle(self) -> None:
        """Everything ends; then nothing may be left over."""
        host = self.host
        for session in sorted(self.opened):
            self.close(session)
        host.run_until(host.now_s + 10_000)
        assert host.machine.jobs == {}
        assert host.machine.sessions == {}
        assert host.charged_ns() == host.busy_ns
        for name in self.submitted:
            ends = host.completed.get(name, 0) + host.failed.get(name, 0)
            assert ends >= 1


class MachineUnderRandomEvents(RuleBasedStateMachine):
    @initialize(
        policy=st.sampled_from(POLICIES),
        frozen=st.booleans(),
        gap_fitting=st.booleans(),
        slice_loops=st.booleans(),
    )
    def begin(self, policy: str, frozen: bool, gap_fitting: bool, slice_loops: bool) -> None:
        import tests.core.conftest as support  # the strict host

        calibration = CalibrationConfig(frozen=frozen, interval_s=50.0, duration_s=5.0, max_age_s=80.0)
        config = QpuConfig(
            policy=policy,
            calibration=calibration,
            gap_fitting=gap_fitting,
            slice_loops=slice_loops,
            tau_s=60.0,
            interactive_ttl_s=20.0,
            validate=True,
        )
        self.host = support.Host(QpuMachine(config))
        self.events = RandomEvents(self.host)

    @rule(
        session=st.sampled_from(SESSIONS),
        limit_s=st.sampled_from([None, 20.0, 200.0]),
        weight=st.sampled_from([1.0, 3.0]),
    )
    def open(self, session: str, limit_s: float | None, weight: float) -> None:
        self.events.open(session, limit_s, weight)

    @rule(session=st.sampled_from(SESSIONS))
    def close(self, session: str) -> None:
        self.events.close(session)

    @rule(
        session=st.sampled_from(SESSIONS),
        kind=st.sampled_from(KINDS),
        seconds=st.sampled_from([0.05, 0.25, 1.0, 4.0]),
        qubit=st.integers(0, 3),
    )
    def submit(self, session: str, kind: JobKind, seconds: float, qubit: int) -> None:
        self.events.submit(session, kind, seconds, qubit)

    @rule(which=st.integers(0, 20), kind=st.sampled_from(KINDS))
    def again(self, which: int, kind: JobKind) -> None:
        self.events.again(which, kind)

    @rule(which=st.integers(0, 50))
    def cancel(self, which: int) -> None:
        self.events.cancel(which)

    @rule(retry=st.booleans())
    def fail(self, retry: bool) -> None:
        self.events.fail(retry)

    @rule(seconds=st.sampled_from([0.01, 0.3, 2.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.events.wait(seconds)

    @precondition(lambda self: self.host.calibration is None)
    @rule()
    def request_calibration(self) -> None:
        self.host.feed(CalibrationRequested(self.host.now_s))

    @rule(drain=st.booleans())
    def drain_and_take_it_back(self, drain: bool) -> None:
        self.host.feed(DrainRequested(self.host.now_s, drain))
        self.host.feed(DrainCancelled(self.host.now_s))

    @rule(cpu_s=st.floats(0, 100), qpu_s=st.floats(0, 100))
    def report(self, cpu_s: float, qpu_s: float) -> None:
        self.host.feed(UsageReported(self.host.now_s, "tenant True", cpu_s, qpu_s))

    @rule()
    def impossible(self) -> None:
        machine = self.host.machine
        before = machine.snapshot(machine.now_s) if machine.sessions else None
        with pytest.raises(ProtocolError):
            machine.handle(SliceFinished(self.host.now_s, "never submitted", 1.0))
        assert before is None or machine.snapshot(machine.now_s) == before

    @invariant()
    def billed_and_unbilled_are_busy_but_for_what_is_pending(self) -> None:
        if not hasattr(self, "host"):
            return
        accounts = self.host.machine.accounts
        assert accounts.busy_ns == self.host.busy_ns
        assert accounts.billed_ns + accounts.unbilled_ns == self.host.charged_ns()

    def teardown(self) -> None:
        if hasattr(self, "events"):
            self.events.settle()


MachineUnderRandomEvents.TestCase.settings = settings(max_examples=40, stateful_step_count=40)
TestMachineUnderRandomEvents = MachineUnderRandomEvents.TestCase


@pytest.mark.parametrize("policy", POLICIES)
def test_a_long_seeded_run_keeps_all_laws(make_host: MakeHost, policy: str) -> None:
    goal = int(os.environ.get("EFAAS_SOAK_EVENTS", "30000")) // len(POLICIES)
    draw = random.Random(f"soak {policy}")
    host = make_host(
        policy=policy,
        frozen=False,
        interval_s=300.0,
        duration_s=5.0,
        max_age_s=600.0,
        interactive_ttl_s=10.0,
        validate=False,
    )
    events = RandomEvents(host)
    step = 0
    while host.events < goal:
        step += 1
        chance = draw.random()
        session = draw.choice(SESSIONS)
        if chance < 0.05:
            events.open(session, draw.choice([None, 60.0, 300.0]), draw.choice([1.0, 2.0, 5.0]))
        elif chance < 0.07:
            events.close(session)
        elif chance < 0.50:
            seconds = draw.choice([0.1, 0.25, 1.0, 3.0])
            events.submit(session, draw.choice(KINDS), seconds, draw.randrange(8))
        elif chance < 0.55:
            events.again(draw.randrange(100), draw.choice(KINDS))
        elif chance < 0.60:
            events.cancel(draw.randrange(10_000))
        elif chance < 0.62:
            events.fail(retry=draw.random() < 0.8)
        elif chance < 0.63 and host.calibration is None:
            host.feed(CalibrationRequested(host.now_s))
        elif chance < 0.64:
            host.feed(TimerFired(host.now_s))
        else:
            events.wait(draw.choice([0.01, 0.2, 1.0, 3.0]))
        if step % 200 == 0:
            host.machine.validate_state()
            host.log.clear()
    events.settle()
