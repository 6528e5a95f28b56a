"""Numbers of the report, from the parquet files alone: means over seeds, intervals, curves.

Everything here is a pure function of the tables. A mean goes over seeds, each seed having one value, and
its 95 % interval is Student's over seeds; comparisons of policies are paired by seed, because a seed has
the same arrivals and service times under every policy.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efaas.bench import records
from efaas.bench.energies_targets import mean_and_half

Rows = list[dict[str, Any]]
Floats = NDArray[np.float64]

MAIN = "headline"
MAIN_ITERATIONS, MAIN_NETWORK_S = 100.0, 0.05

NAMES = {
    "efaas": "EFaaS",
    "efaas-exact": "EFaaS, Exact speculation",
    "efaas-tolerant": "EFaaS, Tolerant speculation",
    "sbq": "SBQ",
    "pf": "PF",
    "pq": "PQ",
    "sr": "SR",
    "session-fifo": "Session-FIFO",
    "efaas-no-slicing": "without slicing",
    "efaas-no-gap-fitting": "without gap-fitting",
    "efaas-no-warm-caches": "without warm caches",
    "efaas-no-freshness-routing": "without freshness routing",
    "efaas-alpha-0": "α = 0",
    "efaas-beta-0": "β = 0",
    "efaas-gamma-0": "γ = 0",
    "efaas-alpha-beta-0": "α = β = 0",
    "efaas-tau-half": "τ / 2",
    "efaas-tau-double": "2 τ",
    "bound-work-conserving": "bound: work-conserving",
    "bound-zero-wait": "bound: zero wait",
}
"""How people call the arms."""

ORDER = tuple(NAMES)


@dataclass(frozen=True, slots=True)
class Mean:
    """Mean over seeds with half of its 95 % confidence interval."""

    value: float
    half: float | None
    seeds: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Mean | None:
        """None of nothing."""
        known = [float(value) for value in values if value is not None and not math.isnan(value)]
        mean, half = mean_and_half(known)
        return None if mean is None else cls(mean, half, len(known))

    def text(self, scale: float = 1.0, digits: int = 3) -> str:
        """``1.23 ± 0.04``, with so many significant digits."""
        value = significant(self.value * scale, digits)
        return value if not self.half else f"{value} ± {significant(self.half * scale, 2)}"


def significant(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, without an exponent where that can be read."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude >= 6 or magnitude < -4:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(0, digits - 1 - magnitude)}f}"


def name_of(policy: str) -> str:
    """The policy as people call it."""
    return NAMES.get(policy, policy)


def in_order(policies: Iterable[str]) -> list[str]:
    """The project's own first, then rivals, parts and bounds."""
    known = {policy: index for index, policy in enumerate(ORDER)}
    return sorted(set(policies), key=lambda policy: (known.get(policy, len(known)), policy))


def cell_values(cell: str) -> dict[str, str]:
    """``iterations=100,t_net_s=0.05`` as a mapping."""
    return dict(part.split("=", 1) for part in cell.split(",") if "=" in part)


class Experiment:
    """The runs of one experiment.

    Args:
        out: result folder.
        name: a key of `records.EXPERIMENTS`.
    """

    def __init__(self, out: Path, name: str) -> None:
        self.out, self.name = out, name
        found = records.read(out, name, "runs")
        self.runs: Rows = [] if found is None else found.to_pylist()

    def __bool__(self) -> bool:
        return bool(self.runs)

    @property
    def cells(self) -> list[str]:
        """Cells in the order of the data."""
        return list(dict.fromkeys(row["cell"] for row in self.runs))

    def policies(self, cell: str | None = None) -> list[str]:
        """Arms that ran (in a cell)."""
        return in_order(row["policy"] for row in self.runs if cell in (None, row["cell"]))

    def values(self, cell: str, policy: str, column: str) -> dict[int, float | None]:
        """A measure by seed."""
        return {
            row["seed"]: row[column] for row in self.runs if row["cell"] == cell and row["policy"] == policy
        }

    def mean(self, cell: str, policy: str, column: str) -> Mean | None:
        """Mean over seeds of a measure."""
        return Mean.of(self.values(cell, policy, column).values())

    def change(self, cell: str, ours: str, theirs: str, column: str) -> Mean | None:
        """By how many percent ours is below theirs: the ratio of means, its interval from pairs of seeds."""
        mine, others = self.values(cell, ours, column), self.values(cell, theirs, column)
        both = [
            (float(mine[seed] or 0.0), float(other))
            for seed, other in others.items()
            if other and mine.get(seed) is not None
        ]
        if not both:
            return None
        ratio = sum(own for own, _ in both) / sum(other for _, other in both)
        scale = sum(other for _, other in both) / len(both)
        spread = Mean.of([(own - ratio * other) / scale for own, other in both])
        assert spread is not None
        return Mean(100 * (1 - ratio), None if spread.half is None else 100 * spread.half, len(both))

    def main_cell(self) -> str | None:
        """The cell of 100 iterations at 0.05 s of network, or the first."""
        for cell in self.cells:
            rows = [row for row in self.runs if row["cell"] == cell]
            if all(
                row["iterations"] == MAIN_ITERATIONS and abs(row["t_net_s"] - MAIN_NETWORK_S) < 1e-9
                for row in rows
            ):
                return cell
        return self.cells[0] if self.runs else None

    def table(self, name: str) -> Any:
        """Another table of the experiment, or None."""
        return records.read(self.out, self.name, name)

    def by_policy(
        self, table: str, columns: Sequence[str], cell: str | None
    ) -> dict[str, dict[str, list[Any]]]:
        """Columns of another table, split by policy; empty where the table is not kept."""
        found = self.table(table)
        if found is None:
            return {}
        policy_of = {row["run"]: row["policy"] for row in self.runs if cell in (None, row["cell"])}
        split: dict[str, dict[str, list[Any]]] = {}
        data = found.select(["run", *columns]).to_pydict()
        for index, run in enumerate(data["run"]):
            policy = policy_of.get(run)
            if policy is not None:
                kept = split.setdefault(policy, {column: [] for column in ("run", *columns)})
                kept["run"].append(run)
                for column in columns:
                    kept[column].append(data[column][index])
        return split


def ecdf(values: Sequence[float], points: int = 400) -> tuple[Floats, Floats]:
    """Empirical distribution at evenly spaced probabilities: values and shares at or below them."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    shares = np.unique(np.concatenate([np.linspace(0, 1, points), 1 - np.logspace(-4, -1, 30)]))
    places = np.clip(np.ceil(shares * len(ordered)).astype(int) - 1, 0, len(ordered) - 1)
    return ordered[places], (places + 1) / len(ordered)


def waits(experiment: Experiment, cell: str) -> dict[str, list[float]]:
    """Times to next shot of all iterations by policy; who had not started counts with the wait so far."""
    horizon = {row["run"]: row["horizon_s"] for row in experiment.runs}
    found: dict[str, list[float]] = {}
    for policy, table in experiment.by_policy("iterations", ("ready_s", "start_s"), cell).items():
        found[policy] = [
            (horizon[run] if start is None else start) - ready
            for run, ready, start in zip(table["run"], table["ready_s"], table["start_s"], strict=True)
        ]
    return found


def over_time(
    experiment: Experiment, cell: str, column: str = "qdc"
) -> dict[str, tuple[Floats, Floats, Floats]]:
    """Moments, means over seeds and half widths of a column of the timeline, by policy."""
    found = {}
    for policy, table in experiment.by_policy("timeline", ("at_s", column), cell).items():
        by_moment: dict[float, list[float]] = defaultdict(list)
        for at_s, value in zip(table["at_s"], table[column], strict=True):
            if value is not None:
                by_moment[at_s].append(value)
        moments = sorted(by_moment)
        means = [Mean.of(by_moment[at_s]) for at_s in moments]
        found[policy] = (
            np.array(moments),
            np.array([mean.value if mean else math.nan for mean in means]),
            np.array([(mean.half or 0.0) if mean else math.nan for mean in means]),
        )
    return found


def error_over_time(
    trajectories: Rows, runs: Callable[[str], str | None], grid: Floats
) -> dict[str, tuple[Floats, Floats, Floats]]:
    """Median and quartiles of the relative energy error against time, by policy.

    Args:
        trajectories: rows of the energies' table.
        runs: the policy of a run, None if it is not meant.
        grid: moments since the first parameters, seconds, ascending.
    """
    sessions: dict[tuple[str, str], tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for row in trajectories:
        times, errors = sessions[row["run"], row["session"]]
        times.append(row["known_s"])
        errors.append(row["relative_error"])
    curves: dict[str, list[Floats]] = defaultdict(list)
    for (run, _), (times, errors) in sessions.items():
        policy = runs(run)
        if policy is not None:
            # The energy that a session stands at is the one known last; at its end it stays.
            places = np.searchsorted(np.array(times), grid, side="right") - 1
            curves[policy].append(np.array(errors)[np.maximum(places, 0)])
    return {
        policy: (
            np.median(lines, axis=0),
            np.quantile(lines, 0.25, axis=0),
            np.quantile(lines, 0.75, axis=0),
        )
        for policy, lines in curves.items()
    }
