"""Targets that need energies, from the tables of ``data/energies/`` alone."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy import stats

from efaas.bench.energies import FOLDER, TOLERANCE
from efaas.bench.energies_problems import NELDER_MEAD, SPSA
from efaas.bench.records import RIVALS, Target

Rows = list[dict[str, Any]]


def table(out: Path, name: str) -> Rows:
    """Rows of a table of ``data/energies/``; none where it is not there."""
    path = out / "data" / FOLDER / f"{name}.parquet"
    rows: Rows = pq.read_table(path).to_pylist() if path.exists() else []
    return rows


def mean_and_half(values: list[float]) -> tuple[float | None, float | None]:
    """Mean and half of the 95 % confidence interval (Student), None where there are too few."""
    if not values:
        return None, None
    if len(values) < 2:
        return values[0], None
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(half)


def targets_of(out: Path) -> list[Target]:
    """Convergence, final energy error and the surrogate, as far as they were measured."""
    convergence = [row for row in table(out, "convergence") if row["tolerance"] == TOLERANCE]
    headline = [row for row in convergence if row["experiment"] == "headline"]
    frozen = [row for row in headline if row["optimizer"] == SPSA]
    simplex = [row for row in headline if row["optimizer"] == NELDER_MEAD]
    drifting = [row for row in convergence if row["experiment"] == "drift"]
    return [
        faster(frozen, "efaas", "sbq", 80.0, "83.2 to 98.3 % over all baselines"),
        replace(exact := faster(simplex, "efaas-exact", "sr", 35.0, ""), name=f"{exact.name} (Nelder-Mead)"),
        faster(frozen, "efaas-tolerant", "sr", 35.0, ""),
        final_error(drifting),
        surrogate_error(table(out, "surrogate")),
    ]


def faster(rows: Rows, ours: str, theirs: str, target: float, paper: str) -> Target:
    """How much sooner a policy converges, in percent of the rival's time, paired by seed and session."""
    times: dict[str, dict[tuple[int, str], float | None]] = defaultdict(dict)
    for row in rows:
        times[row["policy"]][row["seed"], row["session"]] = row["converged_s"]
    pairs = [
        (key[0], mine, other)
        for key, mine in times[ours].items()
        if mine is not None and (other := times[theirs].get(key)) is not None
    ]
    by_seed: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for seed, mine, other in pairs:
        by_seed[seed].append((mine, other))
    gains = [
        100 * (1 - sum(mine for mine, _ in both) / sum(other for _, other in both))
        for both in by_seed.values()
    ]
    value, half = mean_and_half(gains)
    never = {
        policy: sum(moment is None for moment in times[policy].values()) / max(1, len(times[policy]))
        for policy in (ours, theirs)
    }
    reason = (
        f"never within the tolerance: {ours} {100 * never[ours]:.0f} %, {theirs} {100 * never[theirs]:.0f} %"
    )
    if value is not None and value < target:
        reason = f"{_bound(times, ours, theirs)}; {reason}"
    return Target(
        f"convergence, {ours} faster than {theirs}",
        value,
        half,
        len(gains),
        target,
        True,
        "%",
        reason,
        paper,
    )


def _bound(times: dict[str, dict[tuple[int, str], float | None]], ours: str, theirs: str) -> str:
    """What even a device that never makes a loop wait would gain."""
    keys = [key for key, mine in times[ours].items() if mine is not None]
    bound, other = times["bound-zero-wait"], times[theirs]
    both = [(bound[key], other[key]) for key in keys if bound.get(key) and other.get(key)]
    if not both:
        return "the same steps take the same time on the device and on the classical side under both"
    gain = 100 * (1 - sum(a or 0.0 for a, _ in both) / sum(b or 0.0 for _, b in both))
    return (
        f"without any waiting the gain would be {gain:.1f} %, more takes overlapping "
        "classical and quantum time"
    )


def final_error(rows: Rows) -> Target:
    """Final energy error less that of the best baseline, in percent of the spectrum's width."""
    by_policy: dict[str, dict[tuple[int, str], float]] = defaultdict(dict)
    for row in rows:
        if row["complete"]:
            by_policy[row["policy"]][row["seed"], row["session"]] = row["final_relative_error"]
    worst: tuple[float, float | None, str, int] | None = None
    for rival in RIVALS:
        gaps: dict[int, list[float]] = defaultdict(list)
        for key, mine in by_policy["efaas"].items():
            if key in by_policy[rival]:
                gaps[key[0]].append(mine - by_policy[rival][key])
        mean, half = mean_and_half([100 * float(np.mean(values)) for values in gaps.values()])
        if mean is not None and (worst is None or mean > worst[0]):
            worst = (mean, half, rival, len(gaps))
    reason = "shot noise ends trajectories at different points"
    name = "final energy error under drift, EFaaS less the best baseline"
    if worst is None:
        return Target(name, None, None, 0, 0.0, False, "% of the spectrum", "no sessions that both ended")
    mean, half, rival, seeds = worst
    if half is not None and abs(mean) <= half:
        reason = (
            f"a tie with {rival} within the confidence interval: {reason}, and the largest of "
            f"{len(RIVALS)} differences is above 0 by chance even where all are equal"
        )
    return Target(f"{name} ({rival})", mean, half, seeds, 0.0, False, "% of the spectrum", reason)


def surrogate_error(rows: Rows) -> Target:
    """Mean distance of the surrogate from Aer in standard errors of one measurement."""
    errors = [abs(row["surrogate"] - row["aer"]) / row["shot_error"] for row in rows]
    value, half = mean_and_half(errors)
    name = "surrogate above 8 qubits, mean distance from Aer"
    reason = "not sampled" if value is None else f"{len(errors)} points"
    return Target(name, value, half, len(errors), 1.0, False, "shot standard errors", reason)
