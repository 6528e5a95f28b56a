"""The grid: which scenarios are simulated under which arms, for the target table and in full."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from efaas.bench.arrivals import RECORDED, bursts, profile_of, read_record, synthesise
from efaas.bench.records import BOUNDS, PARTS, RIVALS, SPECULATION, TABLES
from efaas.bench.scenario import Circuit, Scenario, cell_name, varied
from efaas.core.identity import digest

COMPARED = ("efaas", *SPECULATION, *RIVALS)
ALL = tuple(TABLES)
MEASURES = ("runs",)

TARGET_TABLE = ("headline", "duty", "drift", "scale")
"""Experiments of the target table; the others are run in full only."""

_SESSION_S = {0.05: 3.8, 0.5: 4.8}
"""About how long an iteration takes at most without contention, by network time."""


@dataclass(frozen=True, slots=True)
class Task:
    """Runs of all arms of one cell with one seed: what a process does at a time, and what is resumed."""

    experiment: str
    cell: str
    scenario: Scenario
    arms: tuple[str, ...]
    seed: int
    tables: tuple[str, ...] = MEASURES

    @property
    def key(self) -> str:
        """Digest of everything that the result depends on but the program."""
        parts = (self.experiment, self.cell, repr(self.scenario), *self.arms, "|", *self.tables)
        return digest("bench", self.seed, *parts)

    @property
    def weight(self) -> float:
        """About how long it takes, to begin with the longest."""
        return self.scenario.horizon_s * self.scenario.qpus * len(self.arms)


def tasks(*, full: bool, seeds: int, data: Path | None = None, only: Sequence[str] = ()) -> list[Task]:
    """Everything to be simulated, longest first.

    Args:
        full: the whole grid instead of the target table.
        seeds: of each cell.
        data: a queue record to replay, for the experiment `arrivals`.
        only: experiments; all if empty.

    Raises:
        InputError: the record cannot be read.
    """
    record = None if data is None else read_record(data)
    wanted = only or (_EXPERIMENTS if full else TARGET_TABLE)
    found = []
    for experiment in wanted:
        for number in range(seeds if experiment != "scale" else 1):
            cells = (
                _arrivals(number, record) if experiment == "arrivals" else _EXPERIMENTS[experiment](number)
            )
            found += list(cells)
    return sorted(found, key=lambda task: (-task.weight, task.experiment, task.cell, task.seed))


Varied = Mapping[str, object]


def _cells(
    experiment: str,
    seed: int,
    base: Scenario,
    cells: Sequence[Varied],
    arms: tuple[str, ...],
    tables: tuple[str, ...] = MEASURES,
) -> Iterator[Task]:
    for values in cells:
        yield Task(experiment, cell_name(values), varied(base, values), arms, seed, tables)


def _headline(seed: int) -> Iterator[Task]:
    for iterations, t_net_s in product((10, 100, 1000), (0.05, 0.5)):
        horizon_s = max(3000.0, 600.0 + 1.2 * iterations * _SESSION_S[t_net_s])
        values = {"iterations": iterations, "t_net_s": t_net_s}
        scenario = varied(Scenario(), {**values, "horizon_s": horizon_s})
        kept = ALL if values == {"iterations": 100, "t_net_s": 0.05} else ("runs", "sessions")
        yield Task("headline", cell_name(values), scenario, (*COMPARED, *BOUNDS), seed, kept)


DUTY_CELLS: tuple[Varied, ...] = (
    {"calibrated": False},
    {"calibrated": True, "tau_s": 300.0, "t_calib_s": 30.0},
    {"calibrated": True, "tau_s": 3600.0, "t_calib_s": 150.0},
)


def _duty(seed: int) -> Iterator[Task]:
    base = Scenario(sessions=6, iterations=None, horizon_s=3900.0)
    arms = ("efaas", "sr", "session-fifo", "sbq", "pq", "bound-work-conserving")
    kept = ("runs", "timeline", "calibrations")
    for values in DUTY_CELLS:
        # An hour between calibrations asks for two hours.
        longer = {"horizon_s": 7500.0} if values.get("tau_s") == 3600.0 else {}
        yield Task("duty", cell_name(values), varied(base, {**values, **longer}), arms, seed, kept)


def _drift(seed: int) -> Iterator[Task]:
    base = Scenario(calibrated=True)
    arms = (*COMPARED, "efaas-no-freshness-routing", "efaas-no-warm-caches", "bound-zero-wait")
    return _cells("drift", seed, base, [{"tau_s": 300.0, "t_calib_s": 30.0}], arms, ALL)


def _load(seed: int) -> Iterator[Task]:
    return _cells(
        "load", seed, Scenario(), [{"load": load} for load in (0.3, 0.6, 0.8, 0.9, 1.2)], (*COMPARED, *BOUNDS)
    )


def _sessions(seed: int) -> Iterator[Task]:
    cells = [{"sessions": sessions} for sessions in (1, 3, 6, 12)]
    return _cells("sessions", seed, Scenario(), cells, (*COMPARED, *BOUNDS))


def _ratio(seed: int) -> Iterator[Task]:
    cells = [{"t_cpu_s": 2.0 * ratio} for ratio in (0.01, 0.1, 0.3, 0.75, 1.0, 3.0)]
    return _cells("ratio", seed, Scenario(), cells, (*COMPARED, *BOUNDS))


def _sweep(
    name: str, values: Sequence[float], arms: tuple[str, ...]
) -> dict[str, Callable[[int], Iterator[Task]]]:
    base = Scenario(calibrated=True, sessions=6)

    def cells(seed: int) -> Iterator[Task]:
        return _cells(name.removesuffix("_s"), seed, base, [{name: value} for value in values], arms)

    return {name.removesuffix("_s"): cells}


def _ablations(seed: int) -> Iterator[Task]:
    base = Scenario(calibrated=True, sessions=6)
    return _cells("ablations", seed, base, [{"sessions": 6}], ("efaas", *SPECULATION, *PARTS))


def workload() -> tuple[Circuit, ...]:
    """The paper's 28 circuits: three ansatz families at sizes of 2 to 16 qubits.

    Device times follow the number of bases that are measured: LiH at 4 qubits has several times those of a
    transverse-field Ising chain. They are ours; the paper has one time for all.
    """
    families = ("EfficientSU2", "RealAmplitudes", "TwoLocal")
    sizes = (2, 3, 4, 5, 6, 8, 10, 12, 16)
    circuits = [Circuit(f"{family}-{size}", size, 1.5 + size / 16) for family in families for size in sizes]
    return (*circuits, Circuit("EfficientSU2-4-LiH", 4, 3.0))


def _workload(seed: int) -> Iterator[Task]:
    base = Scenario(
        sessions=28, iterations=50, load=0.3, opening_s=1800.0, horizon_s=6000.0, circuits=workload()
    )
    # Energies of 28 circuits are much work: the trajectories of one seed are kept for them.
    kept = ("runs", "sessions", "iterations") if seed == 0 else ("runs", "sessions")
    return _cells("workload", seed, base, [{"load": 0.3}], COMPARED, kept)


def _arrivals(seed: int, record: Mapping[str, Sequence[int]] | None = None) -> Iterator[Task]:
    base = Scenario()
    minutes = int(base.horizon_s // 60)
    profiles: dict[str, tuple[float, ...]] = {
        "poisson": (),
        "bursts": bursts(seed, minutes),
        "synthetic": profile_of(synthesise(RECORDED, seed, 10 * minutes), seed, minutes),
    }
    if record is not None:
        names = sorted(record)
        profiles["record"] = profile_of(record[names[seed % len(names)]], seed, minutes)
    for arrivals, profile in profiles.items():
        scenario = varied(base, {"arrivals": arrivals, "profile": profile})
        yield Task("arrivals", f"arrivals={arrivals}", scenario, (*COMPARED, *BOUNDS), seed)


SCALE_LOAD = 0.6
SCALE_CELL = "hours=24,sessions=1000"


def _scale(seed: int) -> Iterator[Task]:
    """The day, and quarters of a day with other numbers of sessions, for the growth."""
    for hours, sessions in ((24, 1000), (6, 125), (6, 250), (6, 500), (6, 1000)):
        horizon_s = hours * 3600.0
        loops = sessions * 100 * 2.0 / (100 * horizon_s)
        scenario = Scenario(
            qpus=100,
            sessions=sessions,
            iterations=100,
            load=SCALE_LOAD - loops,
            calibrated=True,
            tau_s=3600.0,
            t_calib_s=150.0,
            nodes=100,
            opening_s=0.95 * horizon_s - 300.0,
            horizon_s=horizon_s,
            keep_batch=False,
            tenants=50,
        )
        yield Task("scale", f"hours={hours},sessions={sessions}", scenario, ("efaas",), seed)


_KNOWING = ("efaas", "sbq", "pq", "sr", "session-fifo")

_EXPERIMENTS: dict[str, Callable[[int], Iterator[Task]]] = {
    "headline": _headline,
    "duty": _duty,
    "drift": _drift,
    "load": _load,
    "sessions": _sessions,
    "ratio": _ratio,
    **_sweep("alpha", (0.0, 10.0, 50.0, 100.0, 200.0), ("efaas",)),
    **_sweep("beta", (0.0, 1.0, 5.0, 10.0, 20.0), ("efaas",)),
    **_sweep("gamma", (0.1, 0.5, 1.0, 2.0, 5.0), ("efaas",)),
    **_sweep("tau_s", (60.0, 150.0, 300.0, 600.0, 900.0), _KNOWING),
    "ablations": _ablations,
    "workload": _workload,
    "arrivals": _arrivals,
    "scale": _scale,
}
