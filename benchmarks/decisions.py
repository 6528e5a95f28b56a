"""What a decision costs: the QPU's machine with 10 to 10,000 waiting jobs of 200 tenants.

    python benchmarks/decisions.py [--seconds 4]

A decision is one call of `handle`: a slice ends and the next one starts, or a job arrives. The queue is
kept at its length: whenever a job completes, another one arrives. The plain heap beside it pops and pushes
one entry at the same length; it knows no tenants, no classes, no decay, no charges and no log, and shows
what the rest costs.

Times are those of the processor (thread time), so that other programs on the machine are not measured; the
wall time at p99 stands beside them. The sizes are measured in turns, so that a slow spell hits all of them
alike. The verdict takes the quietest of ten rounds, because neighbours on a processor can only add.
"""

from __future__ import annotations

import argparse
import gc
import heapq
import math
import random
import time
from dataclasses import dataclass, field

from efaas.core.qpu import QpuConfig, QpuMachine
from efaas.core.qpu.messages import (
    CompleteJob,
    Decision,
    Event,
    Job,
    JobKind,
    JobSubmitted,
    SessionOpened,
    SliceFinished,
    StartSlice,
)
from efaas.simulator import percentile

SIZES = (10, 100, 1000, 10_000)
TENANTS = 200
ROUNDS = 10
TARGET_US = 100.0


@dataclass
class Bench:
    """One machine whose queue is kept at its length, and one plain heap of the same length."""

    size: int
    machine: QpuMachine = field(default_factory=lambda: QpuMachine(QpuConfig()))
    now_s: float = 0.0
    number: int = 0
    running: StartSlice | None = None
    slices_us: list[float] = field(default_factory=list)
    arrivals_us: list[float] = field(default_factory=list)
    heap_us: list[float] = field(default_factory=list)
    wall_us: list[float] = field(default_factory=list)
    rounds_p99_us: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.size)
        self.heap = [(self.random.random(), n) for n in range(self.size)]
        heapq.heapify(self.heap)
        for tenant in range(TENANTS):
            weight = float(1 + tenant % 5)
            self.handle(SessionOpened(0.0, f"session {tenant}", f"tenant {tenant}", tenant_weight=weight))
        while self.machine.waiting < self.size:
            self.arrive()
        self.arrivals_us.clear()

    def handle(self, event: Event) -> list[Decision]:
        """Feed an event; remember the slice that starts."""
        decisions = self.machine.handle(event)
        for decision in decisions:
            if isinstance(decision, StartSlice):
                self.running = decision
        return decisions

    def arrive(self) -> None:
        """A job of a random tenant arrives."""
        tenant = self.random.randrange(TENANTS)
        kind = JobKind.LOOP if self.random.random() < 0.1 else JobKind.BATCH
        blocks = 1 + self.random.randrange(16)
        job = Job(f"job {self.number}", f"session {tenant}", kind, blocks, 1 / 16, 256 * blocks, "c", (0, 1))
        self.number += 1
        event = JobSubmitted(self.now_s, job)
        start = time.thread_time_ns()
        decisions = self.machine.handle(event)
        self.arrivals_us.append((time.thread_time_ns() - start) / 1000)
        for decision in decisions:
            if isinstance(decision, StartSlice):
                self.running = decision

    def finish(self) -> None:
        """The running slice ends; a job that completes is replaced."""
        running = self.running
        assert running is not None
        self.now_s += running.expected_s
        event = SliceFinished(self.now_s, running.job_id, running.expected_s)
        wall, start = time.perf_counter_ns(), time.thread_time_ns()
        decisions = self.machine.handle(event)
        self.slices_us.append((time.thread_time_ns() - start) / 1000)
        self.wall_us.append((time.perf_counter_ns() - wall) / 1000)
        for decision in decisions:
            if isinstance(decision, StartSlice):
                self.running = decision
        if any(isinstance(decision, CompleteJob) for decision in decisions):
            self.arrive()

    def push_and_pop(self) -> None:
        """What a plain heap costs at this length."""
        key = self.random.random()
        start = time.thread_time_ns()
        heapq.heappop(self.heap)
        heapq.heappush(self.heap, (key, self.number))
        self.heap_us.append((time.thread_time_ns() - start) / 1000)

    def run(self, seconds: float) -> None:
        """Go on for so many seconds: one round."""
        slices, arrivals = len(self.slices_us), len(self.arrivals_us)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for _ in range(50):
                self.finish()
                self.push_and_pop()
        both = self.slices_us[slices:] + self.arrivals_us[arrivals:]
        self.rounds_p99_us.append(percentile(both, 0.99))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="measuring time of each size")
    options = parser.parse_args()
    benches = [Bench(size) for size in SIZES]
    gc.collect()
    for _ in range(ROUNDS):
        for bench in benches:
            bench.run(options.seconds / ROUNDS)
    print(f"decisions of the Dual-Resource Fair Queue, {TENANTS} tenants, microseconds of processor time")
    print(
        f"{'waiting':>8} {'decisions':>10} {'mean':>8} {'p50':>8} {'p99':>8} {'quietest p99':>13} "
        f"{'wall p99':>9} {'heap mean':>10} {'heap p99':>9}"
    )
    means: dict[int, float] = {}
    for bench in benches:
        both = bench.slices_us + bench.arrivals_us
        means[bench.size] = sum(both) / len(both)
        print(
            f"{bench.size:8} {len(both):10} {means[bench.size]:8.1f} {percentile(both, 0.5):8.1f} "
            f"{percentile(both, 0.99):8.1f} {min(bench.rounds_p99_us):13.1f} "
            f"{percentile(bench.wall_us, 0.99):9.1f} "
            f"{sum(bench.heap_us) / len(bench.heap_us):10.2f} {percentile(bench.heap_us, 0.99):9.2f}"
        )
    growth = means[10_000] / means[100]
    allowed = math.log(10_000) / math.log(100)
    p99 = min(benches[SIZES.index(1000)].rounds_p99_us)
    good = "reached" if p99 <= TARGET_US else "not reached"
    print(f"p99 of a decision with 1000 waiting jobs: {p99:.1f} us (target <= {TARGET_US:.0f} us, {good})")
    good = "reached" if growth <= allowed else "not reached"
    print(f"growth of the mean from 100 to 10000 jobs: {growth:.2f} (target <= log n: {allowed:.2f}, {good})")


if __name__ == "__main__":
    main()
