"""Plots about energies, drift, and the model against live runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from efaas.bench import live as live_run
from efaas.bench.energies import EXPERIMENTS, TOLERANCE
from efaas.bench.energies_problems import SPSA
from efaas.bench.energies_targets import table
from efaas.bench.report import figures as fig
from efaas.bench.report.style import Theme, colour, line, marker

_POLICIES = ("efaas", "efaas-tolerant", "sbq", "pf", "pq", "sr", "session-fifo", "bound-zero-wait")


def convergence(out: Path, theme: Theme) -> Any:
    """Energy error against time, and the time to stay within the tolerance."""
    import matplotlib.pyplot as plt

    trajectories = [row for row in table(out, "trajectories") if row["optimizer"] == SPSA]
    moments = [row for row in table(out, "convergence") if row["optimizer"] == SPSA]
    name = next((name for name in EXPERIMENTS if any(row["experiment"] == name for row in moments)), None)
    if not trajectories or name is None:
        return None
    policy_of = {row["run"]: row["policy"] for row in moments if row["experiment"] == name}
    last = max(row["known_s"] for row in trajectories)
    grid = np.concatenate([[0.0], np.geomspace(2.0, max(last, 10.0), 240)])
    curves = fig.error_over_time(trajectories, policy_of.get, grid)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10.4, 4.3), layout="constrained", width_ratios=(1.6, 1)
    )
    for policy in [policy for policy in _POLICIES if policy in curves]:
        middle, low, high = (100 * values for values in curves[policy])
        left.plot(grid[1:], middle[1:], label=fig.name_of(policy), **line(policy, theme))
        if policy in ("efaas", "sr"):
            left.fill_between(grid[1:], low[1:], high[1:], color=colour(policy, theme), alpha=0.12)
    left.axhline(100 * TOLERANCE, color=theme.quiet, linestyle="--", linewidth=1)
    left.set(
        xscale="log",
        xlabel="device seconds since the first parameters",
        ylabel="distance to exact, % of spectrum",
        title="Energy",
        ylim=(0, None),
    )
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    names = []
    for place, policy in enumerate([policy for policy in _POLICIES if policy in curves]):
        rows = [
            row
            for row in moments
            if row["experiment"] == name and row["policy"] == policy and row["tolerance"] == TOLERANCE
        ]
        times = [row["converged_s"] for row in rows if row["converged_s"] is not None]
        never = 100 * (1 - len(times) / max(1, len(rows)))
        names.append(f"{fig.name_of(policy)}\n{never:.0f} % never")
        if times:
            low, middle, high = np.quantile(times, [0.25, 0.5, 0.75])
            right.errorbar(
                middle,
                place,
                xerr=[[middle - low], [high - middle]],
                fmt=marker(policy),
                color=colour(policy, theme),
                capsize=3,
                markersize=8,
            )
    right.set_yticks(range(len(names)), names, fontsize=8.5)
    right.set_ylim(len(names) - 0.5, -0.5)
    right.set(
        xscale="log",
        xlabel="device seconds; median, quartiles",
        title=f"Time to stay within {100 * TOLERANCE:g} %",
    )
    right.grid(axis="y", visible=False)
    return figure


def penalties(out: Path, theme: Theme) -> Any:
    """Iterations that waited for a calibration or ran on a stale one, and the final energy error."""
    import matplotlib.pyplot as plt

    experiment = fig.Experiment(out, "drift")
    cell = experiment.main_cell()
    if cell is None:
        return None
    policies = [policy for policy in _POLICIES[:-1] if policy in experiment.policies(cell)]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.4, 4.1), layout="constrained", sharey=True)
    names = [fig.name_of(policy) for policy in policies]
    done = {policy: experiment.mean(cell, policy, "iterations_done") for policy in policies}
    for offset, column, hatch in ((-0.19, "waited_for_calibration", ""), (0.19, "ran_stale", "////")):
        for place, policy in enumerate(policies):
            mean, whole = experiment.mean(cell, policy, column), done[policy]
            if mean is None or whole is None or not whole.value:
                continue
            share = 100 * mean.value / whole.value
            left.barh(
                place + offset,
                share,
                0.36,
                xerr=100 * (mean.half or 0.0) / whole.value,
                color=colour(policy, theme),
                alpha=0.45 if hatch else 0.95,
                hatch=hatch,
                edgecolor=colour(policy, theme),
                error_kw={"ecolor": theme.quiet, "capsize": 2},
            )
            left.annotate(
                f"{share:.1f}",
                (share + 100 * (mean.half or 0.0) / whole.value, place + offset),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
    left.set(
        title="Iterations that stale calibration cost",
        xlabel="% of iterations; solid: waited, hatched: ran stale",
    )
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    left.grid(axis="y", visible=False)
    left.margins(x=0.15)
    rows = [row for row in table(out, "convergence") if row["experiment"] == "drift"]
    for place, policy in enumerate(policies):
        by_seed: dict[int, list[float]] = {}
        for row in rows:
            if row["policy"] == policy and row["tolerance"] == TOLERANCE and row["complete"]:
                by_seed.setdefault(row["seed"], []).append(100 * row["final_relative_error"])
        mean = fig.Mean.of([float(np.mean(values)) for values in by_seed.values()])
        if mean is None:
            right.annotate(
                "no session ended in time",
                (0.5, place),
                xycoords=("axes fraction", "data"),
                va="center",
                ha="center",
                fontsize=8.5,
                color=theme.quiet,
            )
        else:
            right.errorbar(
                mean.value,
                place,
                xerr=mean.half or 0.0,
                fmt=marker(policy),
                color=colour(policy, theme),
                capsize=3,
                markersize=8,
            )
    right.set(title="Final energy error", xlabel="% of the spectrum's width")
    right.grid(axis="y", visible=False)
    return figure


def ages(out: Path, theme: Theme) -> Any:
    """Energy error at fixed parameters against the age of the calibration."""
    import matplotlib.pyplot as plt

    rows = table(out, "ages")
    if not rows:
        return None
    by_age: dict[float, list[float]] = {}
    for row in rows:
        by_age.setdefault(row["age_s"], []).append(row["error"])
    moments = sorted(by_age)
    means = [fig.Mean.of(by_age[age]) for age in moments]
    figure, axes = plt.subplots(figsize=(7.4, 3.9), layout="constrained")
    middle = np.array([mean.value if mean else np.nan for mean in means])
    half = np.array([(mean.half or 0.0) if mean else np.nan for mean in means])
    circuit = rows[0]["circuit"]
    errors = [
        row["std_error"]
        for row in table(out, "trajectories")
        if row["std_error"] is not None and row["session"][-1:].isdigit() and int(row["session"][-1:]) % 3
    ]
    if errors:
        typical = float(np.median(errors))
        axes.fill_between(
            np.array(moments) / 3600, middle[0] - typical, middle[0] + typical, color=theme.quiet, alpha=0.15
        )
    axes.errorbar(
        np.array(moments) / 3600, middle, yerr=half, color=theme.ours, marker="o", capsize=3, linewidth=2
    )
    axes.set_xscale("symlog", linthresh=0.1)
    axes.set_xticks([0, 0.1, 0.5, 1, 2, 4, 8, 16, 32], ["0", "0.1", "0.5", "1", "2", "4", "8", "16", "32"])
    axes.set(xlabel="age of the calibration, hours", ylabel="energy above exact", title=f"Circuit {circuit}")
    return figure


def live(out: Path, theme: Theme) -> Any:
    """Live against simulated mean TTNS, with the band of agreement."""
    import matplotlib.pyplot as plt

    rows = live_run.comparison(out)
    if not rows:
        return None
    values = [value for row in rows for value in (row["live_s"], row["simulated_s"])]
    ends = np.array([min(values) / 1.6, max(values) * 1.6])
    figure, axes = plt.subplots(figsize=(5.8, 5.2), layout="constrained")
    axes.fill_between(
        ends,
        ends / (1 + live_run.AGREEMENT / 100),
        ends * (1 + live_run.AGREEMENT / 100),
        color=theme.quiet,
        alpha=0.18,
    )
    axes.plot(ends, ends, color=theme.quiet, linewidth=1)
    for policy in fig.in_order(row["policy"] for row in rows):
        mine = [row for row in rows if row["policy"] == policy]
        style: dict[str, Any] = {"color": colour(policy, theme), "marker": marker(policy), "linestyle": ""}
        axes.plot(
            [row["simulated_s"] for row in mine],
            [row["live_s"] for row in mine],
            markersize=4.5,
            alpha=0.5,
            **style,
        )
        axes.plot(
            float(np.mean([row["simulated_s"] for row in mine])),
            float(np.mean([row["live_s"] for row in mine])),
            markersize=10,
            label=f"{fig.name_of(policy)} (time scale {mine[0]['time_scale']:g})",
            **style,
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlim=tuple(ends),
        ylim=tuple(ends),
        xlabel="simulated mean TTNS, device seconds",
        ylabel="live mean TTNS, device seconds",
    )
    axes.set_aspect("equal")
    axes.legend(loc="upper left", fontsize=8.5)
    return figure
