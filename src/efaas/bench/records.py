"""What a benchmark writes and a report reads: tables as parquet, one folder for each experiment.

Layout of a result folder (`efaas bench --out DIR`)::

    DIR/
      data/<experiment>/<table>.parquet   the raw data; same seeds and settings, same bytes
      data/targets.parquet                what was to be reached, with intervals and verdicts
      data/checks.parquet                 the benchmark's checks of itself
      bench.json                          settings of the whole run: version, seeds, grid, paths by option
      timings.json                        wall seconds; the one file that differs from run to run
      parts/…                             finished tasks, from which an interrupted run goes on
      report.html, report.md, plots/      made from the above alone

Every table has the column `run`; a run is one simulation of one arm (policy) with one seed in one cell of an
experiment's grid. Runs of the same experiment, cell and seed met the same arrivals, classical times and
service times (common random numbers), so arms are compared run by run, in pairs.

All times are device seconds unless a name says otherwise; a moment is counted from the start of the
simulation. What had not happened at the horizon is null. Nothing here is measured by a wall clock.

Contract between the modules of this package, besides these tables:

- `efaas.bench.energies.targets(out: Path) -> list[Target]`: targets that need energies, computed from `out`.
- `efaas.bench.report.write(out: Path) -> None`: makes report.html, report.md and plots/ from `out`.
- `efaas.bench.live.run(out: Path, seeds: int) -> list[Target]`: live against simulated; writes LIVE tables.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

# --- names ----------------------------------------------------------------------------------------------

RIVALS = ("sbq", "pf", "pq", "sr", "session-fifo")
"""Arms that are other people's policies."""

PARTS = (
    "efaas-no-slicing",
    "efaas-no-gap-fitting",
    "efaas-no-warm-caches",
    "efaas-no-freshness-routing",
    "efaas-alpha-0",
    "efaas-beta-0",
    "efaas-gamma-0",
    "efaas-alpha-beta-0",
    "efaas-tau-half",
    "efaas-tau-double",
)
"""EFaaS without one of its parts, or with τ halved and doubled (the paper's ablations)."""

SPECULATION = ("efaas-exact", "efaas-tolerant")
"""EFaaS with speculation; plain `efaas` has it off."""

BOUNDS = ("bound-work-conserving", "bound-zero-wait")
"""Not policies but limits. Work-conserving: one pooled M/G/k station that never idles while work waits, the
most QDC that these arrivals allow. Zero wait: each iteration starts when it arrives on a device of its own,
the least TTNS and the fastest convergence."""

ARMS = ("efaas", *SPECULATION, *RIVALS, *PARTS, *BOUNDS)
"""Every value of the column `policy`."""

EXPERIMENTS: Mapping[str, str] = {
    "headline": "3 QPUs, 3 sessions, load 0.9: iterations 10, 100, 1000; network 0.05 and 0.5 s",
    "duty": "6 sessions on 3 QPUs for the whole time: without calibration, τ 300 s / 30 s, τ 1 h / 150 s",
    "drift": "headline with calibration on (τ 300 s, 30 s): drift penalties, convergence under drift",
    "load": "background load 0.3, 0.6, 0.8, 0.9, 1.2",
    "sessions": "1, 3, 6, 12 sessions on 3 QPUs",
    "ratio": "t_cpu / t_qpu 0.01, 0.1, 0.3, 0.75, 1, 3",
    "alpha": "the paper's sweep of α 0, 10, 50, 100, 200",
    "beta": "the paper's sweep of β 0, 1, 5, 10, 20",
    "gamma": "the paper's sweep of γ 0.1, 0.5, 1, 2, 5",
    "tau": "the paper's sweep of τ 60, 150, 300, 600, 900 s",
    "ablations": "EFaaS without each of its parts, with calibration on",
    "workload": "the paper's 28 circuits as 28 sessions on 3 QPUs",
    "arrivals": "background as Poisson, in bursts, and replayed from a queue record",
    "scale": "100 QPUs, 24 h, load 0.6: 1,000 sessions, and fewer to show the growth",
}
"""Names of experiments (folders below data/), and what varies in each."""

# --- tables ---------------------------------------------------------------------------------------------


def _schema(table: str, columns: Sequence[tuple[str, pa.DataType, str]]) -> pa.Schema:
    fields = [pa.field(name, kind, metadata={"doc": doc}) for name, kind, doc in columns]
    return pa.schema(fields, metadata={"table": table})


_TEXT, _REAL, _WHOLE, _FLAG = pa.string(), pa.float64(), pa.int64(), pa.bool_()
_RUN = ("run", _TEXT, "<experiment>/<cell>/<policy>/<seed>")

RUNS = _schema(
    "runs",
    [
        _RUN,
        ("experiment", _TEXT, "a key of EXPERIMENTS"),
        ("cell", _TEXT, "what varies, as `name=value` joined by commas, e.g. `iterations=100,t_net_s=0.05`"),
        ("policy", _TEXT, "one of ARMS"),
        ("seed", _WHOLE, "of all arrivals and service times"),
        # settings
        ("qpus", _WHOLE, "number of devices"),
        ("sessions", _WHOLE, "loops"),
        ("iterations", _WHOLE, "asked of each loop; null: as many as the horizon allows"),
        ("load", _REAL, "background work offered ÷ (devices · time)"),
        ("arrivals", _TEXT, "of background jobs: poisson, bursts, record, synthetic"),
        ("t_cpu_s", _REAL, "mean classical time of an iteration"),
        ("t_qpu_s", _REAL, "mean device time of an iteration"),
        ("t_net_s", _REAL, "network, one way"),
        ("calibrated", _FLAG, "whether devices drift and are calibrated"),
        ("tau_s", _REAL, "oldest calibration that counts as fresh"),
        ("t_calib_s", _REAL, "of a full calibration"),
        ("alpha", _REAL, "α of the arm"),
        ("beta", _REAL, "β of the arm"),
        ("gamma", _REAL, "γ of the arm"),
        (
            "warm_up_s",
            _REAL,
            "before it there is background only; measures of devices begin here",
        ),
        ("horizon_s", _REAL, "end of the simulation"),
        # measures; iterations that have not started count with the wait that they have had
        ("ttns_mean_s", _REAL, "time to next shot: network + queue + calibration, first iteration included"),
        ("ttns_p50_s", _REAL, ""),
        ("ttns_p95_s", _REAL, ""),
        ("ttns_p99_s", _REAL, ""),
        ("ttns_first_s", _REAL, "mean over the sessions' first iterations"),
        ("ttns_later_s", _REAL, "mean over all but the first iterations"),
        ("iteration_mean_s", _REAL, "whole iteration: from parameters ready to the next parameters ready"),
        ("makespan_mean_s", _REAL, "mean over sessions: from the first parameters ready to the last result"),
        ("iterations_done", _WHOLE, "iterations with a result"),
        ("sessions_done", _WHOLE, "sessions with all results"),
        ("qdc", _REAL, "device time of shots ÷ (devices · (horizon - warm-up))"),
        ("turning_share", _REAL, "share of device time lost by turning to another job"),
        ("calibrating_share", _REAL, "share of device time in calibration"),
        ("reserved_share", _REAL, "share of device time free although work waited"),
        ("ran_stale", _WHOLE, "iterations that started on a calibration older than τ"),
        ("waited_for_calibration", _WHOLE, "iterations whose wait has a calibration in it"),
        ("calibration_wait_s", _REAL, "sum over iterations of the wait that was calibration"),
        ("oldest_calibration_s", _REAL, "largest calibration age on which an iteration's shots started"),
        ("background_jobs", _WHOLE, "arrived after the warm-up"),
        ("background_done", _WHOLE, "of these, complete at the horizon"),
        (
            "background_wait_s",
            _REAL,
            "mean of time in the system less time served; unfinished ones too",
        ),
        ("background_wait_p95_s", _REAL, ""),
        ("background_slowdown", _REAL, "mean of time in the system ÷ device time of the job (at least 1 s)"),
        ("jain", _REAL, "Jain index of tenants' dominant shares ÷ weight after the warm-up"),
        ("wasted_shots", _WHOLE, "of reruns and of speculation that came to nothing"),
        ("speculation_hits", _REAL, "share of classical steps that were there before they were needed"),
        ("moves", _WHOLE, "times an iteration went to another device than the one before"),
        # checks that hold in every run
        ("little_gap", _REAL, "|L - λW| ÷ L of all jobs, L by integration over time, λW by sums over jobs"),
        ("conservation_gap_s", _REAL, "|horizon - (shots + turning + calibrating + idle)|, worst device"),
        ("events", _WHOLE, "events handled by the machines"),
    ],
)

SESSIONS = _schema(
    "sessions",
    [
        _RUN,
        ("session", _TEXT, "name; the same in every arm"),
        ("tenant", _TEXT, ""),
        ("circuit", _TEXT, "what it runs"),
        ("qubits", _WHOLE, ""),
        ("opens_s", _REAL, "the first parameters are ready"),
        ("closed_s", _REAL, "its last result was there; null: not by the horizon"),
        ("iterations_done", _WHOLE, ""),
        ("ttns_mean_s", _REAL, ""),
        ("ttns_p50_s", _REAL, ""),
        ("ttns_p95_s", _REAL, ""),
        ("ttns_p99_s", _REAL, ""),
        ("ttns_first_s", _REAL, "of the first iteration"),
        ("qpu_s", _REAL, "device seconds of its shots"),
    ],
)

ITERATIONS = _schema(
    "iterations",
    [
        _RUN,
        ("session", _TEXT, ""),
        ("evaluation", _WHOLE, "from 0"),
        ("device", _TEXT, ""),
        ("ready_s", _REAL, "moment at which the classical side has the parameters"),
        ("start_s", _REAL, "moment at which the device starts on its shots"),
        ("end_s", _REAL, "moment at which the device is done"),
        ("told_s", _REAL, "moment at which the classical side has the result: times convergence"),
        ("calibration_s", _REAL, "the part of the wait that was calibration"),
        (
            "calibration_age_s",
            _REAL,
            "age of its calibration when its shots started",
        ),
        ("stale", _FLAG, "that age was above τ"),
        (
            "cpu_s",
            _REAL,
            "time between the result before and these parameters, as the loop felt it",
        ),
        ("ahead", _FLAG, "the classical step was there before it was needed (speculation)"),
    ],
)

BATCH = _schema(
    "batch",
    [
        _RUN,
        ("job", _TEXT, "the same in every arm"),
        ("tenant", _TEXT, ""),
        ("device", _TEXT, ""),
        ("arrived_s", _REAL, ""),
        ("device_s", _REAL, "device time it needs"),
        ("served_s", _REAL, "device time it had by the horizon"),
        ("start_s", _REAL, "first shots"),
        ("end_s", _REAL, ""),
    ],
)

CALIBRATIONS = _schema(
    "calibrations",
    [
        _RUN,
        ("device", _TEXT, ""),
        ("start_s", _REAL, ""),
        ("end_s", _REAL, "null: not by the horizon"),
        ("scope", _TEXT, "full or local"),
        ("qubits", _WHOLE, "measured; 0 for a full one"),
        ("caused_by", _TEXT, "session that caused and paid it; null: scheduled"),
    ],
)

TIMELINE = _schema(
    "timeline",
    [
        _RUN,
        ("at_s", _REAL, "end of an interval; intervals are equally long"),
        ("qdc", _REAL, "duty cycle of all devices in the interval"),
        ("calibrating_share", _REAL, "in the interval"),
        ("waiting", _WHOLE, "jobs waiting on all devices at its end"),
    ],
)

TABLES: Mapping[str, pa.Schema] = {
    "runs": RUNS,
    "sessions": SESSIONS,
    "iterations": ITERATIONS,
    "batch": BATCH,
    "calibrations": CALIBRATIONS,
    "timeline": TIMELINE,
}
"""Tables of an experiment. `runs` is always there; large experiments leave out the others."""

TARGETS = _schema(
    "targets",
    [
        ("name", _TEXT, "what is measured, in words"),
        ("value", _REAL, "mean over seeds; null: not measured"),
        ("half_width", _REAL, "of the 95 % confidence interval; null with one seed"),
        ("seeds", _WHOLE, ""),
        ("target", _REAL, ""),
        ("at_least", _FLAG, "whether the target is a least value; else a greatest"),
        ("unit", _TEXT, "%, points, s, or nothing"),
        ("reached", _FLAG, "null: not measured"),
        ("reason", _TEXT, "why not, where it is not reached"),
        ("paper", _TEXT, "the paper's own range, as text; empty where it has none"),
    ],
)

CHECKS = _schema(
    "checks",
    [
        ("name", _TEXT, "law or closed form, and its setting"),
        ("theory", _REAL, ""),
        ("measured", _REAL, "mean over seeds"),
        ("half_width", _REAL, "of the confidence interval, or the tolerance of an exact law"),
        ("holds", _FLAG, "|measured - theory| ≤ half_width"),
    ],
)

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Target:
    """Something to be reached, and what came of it."""

    name: str
    value: float | None
    half_width: float | None
    seeds: int
    target: float
    at_least: bool
    unit: str = ""
    reason: str = ""
    paper: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the mean over seeds is on the right side; None when nothing was measured."""
        if self.value is None or math.isnan(self.value):
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target

    def line(self) -> str:
        """``name: value ± half (target, reached or not)``, as printed at the end of a run."""
        sign = "≥" if self.at_least else "≤"
        goal = f"target {sign} {self.target:g}{_spaced(self.unit)}"
        if self.reached is None:
            return f"{self.name}: not measured ({goal}{': ' + self.reason if self.reason else ''})"
        half = "" if self.half_width is None else f" ± {self.half_width:.3g}"
        verdict = "reached" if self.reached else "not reached"
        why = f": {self.reason}" if self.reason and not self.reached else ""
        return f"{self.name}: {self.value:.4g}{half}{_spaced(self.unit)} ({goal}, {verdict}{why})"

    def row(self) -> dict[str, Any]:
        """As a row of `TARGETS`."""
        return {**asdict(self), "reached": self.reached}


@dataclass(frozen=True, slots=True)
class Check:
    """A law that the benchmark must obey, and whether it did."""

    name: str
    theory: float
    measured: float
    half_width: float

    @property
    def holds(self) -> bool:
        """Whether the measured value lies within the half width of the law."""
        return abs(self.measured - self.theory) <= self.half_width

    def row(self) -> dict[str, Any]:
        """As a row of `CHECKS`."""
        return {**asdict(self), "holds": self.holds}


def _spaced(unit: str) -> str:
    return f" {unit}" if unit else ""


# --- files ----------------------------------------------------------------------------------------------


def write(path: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as one parquet file, whole or not at all; the same rows give the same bytes.

    Columns that a row leaves out are null.

    Raises:
        pyarrow.ArrowInvalid: a value is not of its column's type.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    for row in rows:
        for name, values in columns.items():
            values.append(row.get(name))
    beside = path.with_suffix(".part")
    pq.write_table(pa.table(columns, schema=schema), beside, compression="zstd")
    beside.replace(path)


def read(out: Path, experiment: str, table: str) -> pa.Table | None:
    """A table of an experiment, or None where it was not run or is not kept for it."""
    path = out / "data" / experiment / f"{table}.parquet"
    return pq.read_table(path) if path.exists() else None


def read_targets(out: Path) -> list[Target]:
    """What was to be reached; empty before the end of a run."""
    path = out / "data" / "targets.parquet"
    if not path.exists():
        return []
    rows: Rows = pq.read_table(path).drop_columns(["reached"]).to_pylist()
    return [Target(**row) for row in rows]


def read_checks(out: Path) -> list[Check]:
    """The benchmark's checks of itself; empty before the end of a run."""
    path = out / "data" / "checks.parquet"
    if not path.exists():
        return []
    rows: Rows = pq.read_table(path).drop_columns(["holds"]).to_pylist()
    return [Check(**row) for row in rows]
