"""The targets that simulations decide, computed from the tables alone.

Where a target is not reached the reason is computed too: either no policy could reach it (the zero-wait bound
stands in the way), or what EFaaS pays that the rival does not is named with its size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from efaas.bench.estimates import Estimate, jackknife, mean_of, percent_below
from efaas.bench.grid import DUTY_CELLS, SCALE_CELL
from efaas.bench.records import Rows, Target, read
from efaas.bench.scenario import cell_name

Row = Mapping[str, Any]

BELOW = (("sbq", 98.0), ("pf", 98.0), ("pq", 90.0), ("sr", 11.4), ("session-fifo", 11.4))
"""Rivals, and by how many percent EFaaS's mean TTNS has to be below theirs."""

PAPER_TTNS = "11.4 to 94.3 % below, over all baselines"
PAPER_QDC = "2.02 to 15.78 points above, over all baselines"
MOST_SCALE_S = 120.0
LEAST_POINTS = 15.78
LEAST_QDC = 0.97


class Runs:
    """Rows of `runs` of one experiment, by cell, policy and seed."""

    def __init__(self, rows: Rows) -> None:
        self._rows = {(row["cell"], row["policy"], row["seed"]): row for row in rows}

    @classmethod
    def of(cls, out: Path, experiment: str) -> Runs:
        """Those of a result folder; none where the experiment was not run."""
        table = read(out, experiment, "runs")
        return cls([] if table is None else table.to_pylist())

    def seeds(self, cell: str, *policies: str) -> list[int]:
        """Seeds for which all of these policies were run."""
        found = [{seed for c, p, seed in self._rows if (c, p) == (cell, policy)} for policy in policies]
        return sorted(set.intersection(*found)) if found else []

    def pairs(self, cell: str, column: str, *policies: str) -> list[tuple[float, ...]]:
        """A column of several policies, one tuple a seed."""
        return [
            tuple(_number(self._rows[cell, policy, seed][column]) for policy in policies)
            for seed in self.seeds(cell, *policies)
        ]

    def mean(self, cell: str, policy: str, column: str) -> Estimate:
        """Mean of a column over seeds."""
        return mean_of([value for (value,) in self.pairs(cell, column, policy)])


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def targets(out: Path) -> list[Target]:
    """All targets that tables of simulations decide."""
    return [*headline(Runs.of(out, "headline")), *duty(Runs.of(out, "duty")), *drift(out), *scale(out)]


def headline(runs: Runs) -> list[Target]:
    """TTNS and the background's wait; the setting of the issue first, the others after it."""
    settings = [(100, 0.05), (100, 0.5), (10, 0.05), (10, 0.5), (1000, 0.05), (1000, 0.5)]
    return [
        target
        for iterations, t_net_s in settings
        for target in _headline(runs, cell_name({"iterations": iterations, "t_net_s": t_net_s}))
    ]


def _headline(runs: Runs, cell: str) -> list[Target]:
    found = []
    for rival, least in BELOW:
        estimate = jackknife(runs.pairs(cell, "ttns_mean_s", "efaas", rival), percent_below)
        target = _target(f"mean TTNS below {rival} ({cell})", estimate, least, at_least=True, unit="%")
        if target.reached is False:
            target = replace(target, reason=_why_ttns(runs, cell, rival, least))
        found.append(replace(target, paper=PAPER_TTNS))
    shares = jackknife(
        runs.pairs(cell, "background_wait_s", "efaas", "sr"), lambda ours, theirs: 100 * ours / theirs
    )
    target = _target(f"background wait, of SR's ({cell})", shares, 50.0, at_least=False, unit="%")
    if target.reached is False:
        target = replace(target, reason=_why_background(runs, cell))
    return [*found, target]


def _why_ttns(runs: Runs, cell: str, rival: str, least: float) -> str:
    floor = jackknife(runs.pairs(cell, "ttns_mean_s", "bound-zero-wait", rival), percent_below).value
    if floor < least:
        return f"no policy can: without any wait it would be {floor:.4g} %, the rest is network"
    first_s = runs.mean(cell, rival, "ttns_first_s").value
    theirs_s = runs.mean(cell, rival, "ttns_later_s").value
    ours_s = runs.mean(cell, "efaas", "ttns_later_s").value
    if rival not in ("sr", "session-fifo"):
        return f"without any wait it would be {floor:.3g} %: nearly all of EFaaS's {ours_s:.3g} s is network"
    return (
        f"{rival} waits {first_s:.3g} s once and {theirs_s:.3g} s in later iterations, EFaaS {ours_s:.3g} s "
        "in each: the one wait is spread over many iterations, while sharing the device costs a slice in each"
    )


def _why_background(runs: Runs, cell: str) -> str:
    ours, theirs, bound = (
        runs.mean(cell, policy, "background_wait_s").value
        for policy in ("efaas", "sr", "bound-work-conserving")
    )
    return (
        f"they wait {ours:.3g} s against {theirs:.3g} s; a pooled station that never idles makes them wait "
        f"{bound:.3g} s while loops ask as fast as they can"
    )


def crossings(out: Path) -> list[str]:
    """From how many iterations on SR's mean TTNS is lower, in words, by network time.

    Over n iterations a policy's mean is (first + (n - 1) · later) / n; SR's first is long, its later short.
    """
    runs = Runs.of(out, "headline")
    lines = []
    for t_net_s in (0.05, 0.5):
        cell = cell_name({"iterations": 1000, "t_net_s": t_net_s})
        if not runs.seeds(cell, "efaas", "sr"):
            continue
        first = [runs.mean(cell, policy, "ttns_first_s").value for policy in ("efaas", "sr")]
        later = [runs.mean(cell, policy, "ttns_later_s").value for policy in ("efaas", "sr")]
        gain_s, cost_s = first[1] - first[0], later[0] - later[1]
        where = f"network {t_net_s:g} s"
        if cost_s <= 0:
            lines.append(f"{where}: SR's mean TTNS is higher at every length")
            continue
        length = max(1, math.ceil(1 + gain_s / cost_s))
        lines.append(
            f"{where}: SR's mean TTNS is lower from {length} iterations on (first wait {first[1]:.3g} s "
            f"against {first[0]:.3g} s, later ones {later[1]:.3g} s against {later[0]:.3g} s)"
        )
    return lines


def duty(runs: Runs) -> list[Target]:
    """Duty cycles with six sessions on three devices."""
    found = []
    for values in DUTY_CELLS:
        cell = cell_name(values)
        name = "without calibration" if not values["calibrated"] else f"{cell.partition(',')[2]}"
        ours = runs.mean(cell, "efaas", "qdc")
        share = runs.mean(cell, "efaas", "calibrating_share").value if values["calibrated"] else 0.0
        least = LEAST_QDC * (1 - share) if not math.isnan(share) else LEAST_QDC
        target = _target(f"QDC, 6 sessions ({name})", ours, round(least, 4), at_least=True)
        if target.reached is False:
            turning = runs.mean(cell, "efaas", "turning_share").value
            kept = runs.mean(cell, "efaas", "reserved_share").value
            target = replace(target, reason=f"turning takes {turning:.3g}, kept free {kept:.3g} of the time")
        found.append(target)
        for rival in ("sr", "session-fifo"):
            points = jackknife(runs.pairs(cell, "qdc", "efaas", rival), lambda a, b: 100 * (a - b))
            found.append(
                replace(
                    _target(
                        f"QDC above {rival} ({name})", points, LEAST_POINTS, at_least=True, unit="points"
                    ),
                    paper=PAPER_QDC,
                )
            )
    return found


def drift(out: Path) -> list[Target]:
    """No iteration of EFaaS on a stale calibration, in any run with drift."""
    counts: list[tuple[int, int]] = []
    for experiment in ("drift", "duty"):
        table = read(out, experiment, "runs")
        counts += [
            (row["seed"], row["ran_stale"])
            for row in ([] if table is None else table.to_pylist())
            if row["calibrated"] and row["policy"] in ("efaas", "efaas-exact", "efaas-tolerant")
        ]
    worst = max((count for _, count in counts), default=math.nan)
    seeds = len({seed for seed, _ in counts})
    estimate = Estimate(float(worst), None, seeds)
    return [_target("iterations on stale calibration, worst run with drift", estimate, 0.0, at_least=False)]


def scale(out: Path) -> list[Target]:
    """The day of a hundred devices: processor seconds, which are wall seconds where nobody else works."""
    path = out / "timings.json"
    timings: dict[str, list[float]] = json.loads(path.read_text()) if path.exists() else {}
    seconds = [cpu_s for run, (_, cpu_s) in timings.items() if run.startswith(f"scale/{SCALE_CELL}/")]
    estimate = mean_of(seconds)
    target = _target(
        "24 h of 100 QPUs and 1,000 sessions, processor time of one core",
        estimate,
        MOST_SCALE_S,
        at_least=False,
        unit="s",
    )
    if target.reached is False:
        target = replace(target, reason="on a machine that others use processor seconds grow as well")
    return [target]


def growth(out: Path) -> list[str]:
    """Processor seconds and events of a quarter of a day by number of sessions."""
    path = out / "timings.json"
    table = read(out, "scale", "runs")
    if table is None or not path.exists():
        return []
    timings: dict[str, list[float]] = json.loads(path.read_text())
    rows = sorted(table.to_pylist(), key=lambda row: (row["horizon_s"], row["sessions"]))
    return [
        f"{row['horizon_s'] / 3600:g} h, {row['qpus']} QPUs, {row['sessions']} sessions: "
        f"{timings[row['run']][1]:.1f} s for {row['events']} events and {row['iterations_done']} iterations"
        for row in rows
        if row["run"] in timings
    ]


def _target(name: str, estimate: Estimate, target: float, *, at_least: bool, unit: str = "") -> Target:
    value = None if math.isnan(estimate.value) else estimate.value
    reason = "" if estimate.seeds else "its experiment was not run"
    return Target(name, value, estimate.half_width, estimate.seeds, target, at_least, unit, reason)
