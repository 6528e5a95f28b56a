"""The benchmark's checks of itself: where queueing theory has a closed form, the simulator must agree.

Each closed form is set up on the core's own machines: what it needs (one line before several servers, two
classes without interruption, constant service) is a setting or a policy that there is anyway.

- *M/M/1*, *M/D/1*: one device, first come first served (SBQ without cost of turning). Pollaczek-Khinchine:
  W = λ E[S²] / (2 (1 - ρ)).
- *M/M/c*: c devices behind one line; W = C(c, a) / (c μ - λ) with Erlang's C.
- *M/G/1 with priorities*: PQ serves tasks of pilots before others and interrupts nobody. Cobham (1954):
  W₁ = R / (1 - ρ₁), W₂ = R / ((1 - ρ₁)(1 - ρ₁ - ρ₂)) with R = Σ λᵢ E[Sᵢ²] / 2.

Service times are whole cells of the device; cells are so fine here that this does not show. An interval is
that of a mean over seeds at 99 %, because there are several checks at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scipy import stats

from efaas.bench.records import Check, read
from efaas.core.qpu import QpuConfig
from efaas.core.qpu.messages import JobKind
from efaas.simulator import BatchStream, LoopSession, Measures, Simulator

_CELL_S = 1 / 1024
_MEAN_S = 5.0
_WARM_UP_S = 2000.0

LAWS = 1e-6
"""Tolerance of exact laws, relative or in seconds: rounding of a million events."""


@dataclass(frozen=True, slots=True)
class _Station:
    """Servers behind one line, first come first served."""

    load: float
    servers: int = 1
    constant: bool = False

    def wait_s(self, seed: int, horizon_s: float) -> float:
        """Mean wait in one run."""
        config = QpuConfig(policy="sbq", slice_cost_s=0.0)
        rate = self.load * self.servers / _MEAN_S
        jobs = BatchStream("jobs", "all", rate, _MEAN_S, constant=self.constant, block_s=_CELL_S)
        simulator = Simulator(
            {f"server {number}": config for number in range(self.servers)},
            batch=[jobs],
            seed=seed,
            central=self.servers > 1,
        )
        return _mean_wait_s(simulator.run(horizon_s), "jobs")


def _mean_wait_s(measures: Measures, stream: str) -> float:
    """Of jobs that arrived long before the end, so that none is missing because it waited long."""
    last_s = 0.95 * measures.horizon_s
    waits = [
        (measures.horizon_s if each.start_s is None else each.start_s) - each.arrived_s
        for each in measures.batch
        if each.session == stream and _WARM_UP_S <= each.arrived_s <= last_s
    ]
    return math.fsum(waits) / len(waits)


def erlang_c(servers: int, offered: float) -> float:
    """Probability that an arrival waits in M/M/c with so much offered work (Erlangs)."""
    terms = [offered**number / math.factorial(number) for number in range(servers)]
    last = offered**servers / math.factorial(servers) * servers / (servers - offered)
    return last / (math.fsum(terms) + last)


def m_m_1(load: float) -> float:
    """Mean wait of M/M/1."""
    return load / (1 - load) * _MEAN_S


def m_m_c(servers: int, load: float) -> float:
    """Mean wait of M/M/c."""
    return erlang_c(servers, servers * load) * _MEAN_S / (servers * (1 - load))


def m_d_1(load: float) -> float:
    """Mean wait of M/D/1: half that of M/M/1."""
    return m_m_1(load) / 2


def cobham(rates: Sequence[float], means_s: Sequence[float]) -> list[float]:
    """Mean waits by class, best first, with exponential service and without interruption."""
    residual_s = sum(rate * mean_s**2 for rate, mean_s in zip(rates, means_s, strict=True))
    waits, above = [], 0.0
    for rate, mean_s in zip(rates, means_s, strict=True):
        before = 1 - above
        above += rate * mean_s
        waits.append(residual_s / (before * (1 - above)))
    return waits


def _priorities(seed: int, rates: Sequence[float], means_s: Sequence[float], horizon_s: float) -> list[float]:
    config = QpuConfig(policy="pq", slice_cost_s=0.0, pilot_start_s=0.0, pilot_task_s=0.0)
    kinds = (JobKind.LOOP, JobKind.BATCH)
    streams = [
        BatchStream(f"class {number}", f"class {number}", rate, mean_s, kind, block_s=_CELL_S)
        for number, (rate, mean_s, kind) in enumerate(zip(rates, means_s, kinds, strict=True))
    ]
    measures = Simulator({"server": config}, batch=streams, seed=seed).run(horizon_s)
    return [_mean_wait_s(measures, spec.name) for spec in streams]


def _check(name: str, theory: float, values: Sequence[float]) -> Check:
    count = len(values)
    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return Check(name, theory, mean, float(stats.t.ppf(0.995, count - 1)) * math.sqrt(variance / count))


def closed_forms(seeds: int = 8, horizon_s: float = 40_000.0) -> list[Check]:
    """Waiting times against theory, means over seeds."""
    wanted = [
        ("M/M/1, load 0.5", m_m_1(0.5), _Station(0.5)),
        ("M/M/1, load 0.8", m_m_1(0.8), _Station(0.8)),
        ("M/M/3, load 0.6", m_m_c(3, 0.6), _Station(0.6, servers=3)),
        ("M/M/3, load 0.8", m_m_c(3, 0.8), _Station(0.8, servers=3)),
        ("M/D/1, load 0.8", m_d_1(0.8), _Station(0.8, constant=True)),
    ]
    checks = [
        _check(f"mean wait of {name}, s", theory, [station.wait_s(seed, horizon_s) for seed in range(seeds)])
        for name, theory, station in wanted
    ]
    rates, means_s = (0.1, 0.08), (3.0, 5.0)
    waits = [_priorities(seed, rates, means_s, horizon_s) for seed in range(seeds)]
    return checks + [
        _check(
            f"mean wait of M/G/1 with priorities, class {number + 1}, s", theory, [w[number] for w in waits]
        )
        for number, theory in enumerate(cobham(rates, means_s))
    ]


def untold(policy: str, seed: int, horizon_s: float = 1500.0) -> float:
    """Largest difference between start times of a policy that is told of no session and of SBQ, seconds."""
    starts = []
    for name in (policy, "sbq"):
        config = QpuConfig(policy=name, slice_s=None, gap_fitting=False)
        simulator = Simulator(
            {f"server {number}": config for number in range(3)},
            loops=[LoopSession(f"loop {n}", f"team {n}", opens_s=100.0) for n in range(3)],
            batch=[BatchStream("jobs", "all", 0.9 * 3 / 5.0)],
            seed=seed,
            anonymous=True,
        )
        measures = simulator.run(horizon_s)
        waits: list[float | None] = [each.start_s for each in measures.iterations]
        waits += [each.start_s for each in measures.batch]
        starts.append(waits)
    ours, theirs = starts
    if len(ours) != len(theirs):
        return math.inf
    return max(
        0.0 if a == b else math.inf if a is None or b is None else abs(a - b)
        for a, b in zip(ours, theirs, strict=True)
    )


def of_runs(out: Path, experiments: Sequence[str]) -> list[Check]:
    """Laws that hold in every run: the worst of all of them."""
    checks = []
    for experiment in experiments:
        table = read(out, experiment, "runs")
        if table is None:
            continue
        rows = table.to_pylist()
        for column, law in (
            ("little_gap", "Little's law, |L - λW| ÷ L"),
            ("conservation_gap_s", "conservation of device time, s"),
        ):
            values = [row[column] for row in rows if row[column] is not None]
            worst = max(values, default=0.0)
            # A day of a hundred devices adds up a million times.
            checks.append(Check(f"{law}, worst of {len(values)} runs ({experiment})", 0.0, worst, LAWS))
    return [replace(check, half_width=1e-3) if "(scale)" in check.name else check for check in checks]


def all_checks(out: Path, experiments: Sequence[str], *, seeds: int = 8) -> list[Check]:
    """Closed forms, policies that are told nothing, and the laws of the runs in `out`."""
    told_nothing = [
        Check(
            f"{policy} told nothing of sessions starts every job when SBQ does, s",
            0.0,
            max(untold(policy, seed) for seed in range(3)),
            1e-9,
        )
        for policy in ("efaas", "pq", "sr", "session-fifo")
    ]
    return [*closed_forms(seeds), *told_nothing, *of_runs(out, experiments)]
