"""Plots of sweeps: load, sessions, ratio, length, the paper's parameters, ablations, growth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from efaas.bench import records
from efaas.bench.report import figures as fig
from efaas.bench.report.style import Theme, colour, line, marker

_POLICIES = ("efaas", "sbq", "pf", "pq", "sr", "session-fifo", "bound-work-conserving")
_DEFAULTS = {"alpha": 100.0, "beta": 5.0, "gamma": 1.0, "tau": 300.0}
_SYMBOLS = {"alpha": "α", "beta": "β", "gamma": "γ", "tau": "τ, s"}


def _series(
    experiment: fig.Experiment, policy: str, over: str, column: str, **fixed: float
) -> tuple[list[float], list[fig.Mean]]:
    """Means of a measure over seeds against a setting."""
    values: dict[float, list[float | None]] = {}
    for row in experiment.runs:
        if row["policy"] != policy or row[over] is None:
            continue
        if all(row[name] is not None and abs(row[name] - value) < 1e-9 for name, value in fixed.items()):
            values.setdefault(float(row[over]), []).append(row[column])
    found = [(place, mean) for place in sorted(values) if (mean := fig.Mean.of(values[place])) is not None]
    return [place for place, _ in found], [mean for _, mean in found]


def _draw(axes: Any, places: list[float], means: list[fig.Mean], policy: str, theme: Theme) -> None:
    if not places:
        return
    middle = np.array([mean.value for mean in means])
    half = np.array([mean.half or 0.0 for mean in means])
    style = line(policy, theme)
    if not policy.startswith("bound"):
        style |= {"marker": marker(policy), "markersize": 5}
    axes.plot(places, middle, label=fig.name_of(policy), **style)
    axes.fill_between(places, middle - half, middle + half, color=colour(policy, theme), alpha=0.12)


def _legend(figure: Any, axes: Any, columns: int = 7) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, max(1, len(labels))))


def load(out: Path, theme: Theme) -> Any:
    """TTNS, duty cycle and background wait against load."""
    import matplotlib.pyplot as plt

    experiment = fig.Experiment(out, "load")
    if not experiment:
        return None
    figure, panels = plt.subplots(1, 3, figsize=(10.8, 4.2), layout="constrained")
    for axes, column, title in zip(
        panels,
        ("ttns_mean_s", "qdc", "background_wait_s"),
        ("Mean TTNS, s", "Duty cycle", "Wait of background jobs, s"),
        strict=True,
    ):
        for policy in [policy for policy in _POLICIES if policy in experiment.policies()]:
            places, means = _series(experiment, policy, "load", column)
            _draw(axes, places, means, policy, theme)
        axes.set(xlabel="background load", title=title, yscale="linear" if column == "qdc" else "log")
    _legend(figure, panels[1])
    return figure


def sessions_and_ratio(out: Path, theme: Theme) -> Any:
    """TTNS against the number of sessions and against t_cpu ÷ t_qpu."""
    import matplotlib.pyplot as plt

    sessions, ratio = fig.Experiment(out, "sessions"), fig.Experiment(out, "ratio")
    if not sessions and not ratio:
        return None
    for row in ratio.runs:
        row["ratio"] = row["t_cpu_s"] / row["t_qpu_s"]
    figure, panels = plt.subplots(1, 4, figsize=(11.6, 4.0), layout="constrained")
    for axes, experiment, over, column, title, label in (
        (panels[0], sessions, "sessions", "ttns_mean_s", "Mean TTNS, s", "sessions on 3 QPUs"),
        (panels[1], sessions, "sessions", "qdc", "Duty cycle", "sessions on 3 QPUs"),
        (panels[2], ratio, "ratio", "ttns_mean_s", "Mean TTNS, s", "t_cpu ÷ t_qpu"),
        (panels[3], ratio, "ratio", "qdc", "Duty cycle", "t_cpu ÷ t_qpu"),
    ):
        for policy in [policy for policy in _POLICIES if experiment and policy in experiment.policies()]:
            places, means = _series(experiment, policy, over, column)
            _draw(axes, places, means, policy, theme)
        axes.set(xlabel=label, title=title, xscale="log", yscale="linear" if column == "qdc" else "log")
        if over == "sessions":
            places = sorted({row["sessions"] for row in sessions.runs})
            axes.set_xticks(places, [str(place) for place in places])
            axes.minorticks_off()
    _legend(figure, panels[0] if sessions else panels[2])
    return figure


def lengths(out: Path, theme: Theme) -> Any:
    """TTNS against the number of iterations, for each network."""
    import matplotlib.pyplot as plt

    experiment = fig.Experiment(out, fig.MAIN)
    lengths_ = {row["iterations"] for row in experiment.runs if row["iterations"]}
    if len(lengths_) < 2:
        return None
    networks = sorted({row["t_net_s"] for row in experiment.runs})
    figure, panels = plt.subplots(
        1, len(networks), figsize=(10.0, 4.0), layout="constrained", sharey=True, squeeze=False
    )
    for axes, network in zip(panels[0], networks, strict=True):
        for policy in [policy for policy in _POLICIES[:-1] if policy in experiment.policies()]:
            places, means = _series(experiment, policy, "iterations", "ttns_mean_s", t_net_s=network)
            _draw(axes, places, means, policy, theme)
        axes.axhline(network, color=theme.quiet, linestyle=":", linewidth=1.2)
        axes.set(xscale="log", yscale="log", xlabel="iterations of a session")
        axes.set(title=f"Network {network:g} s (dotted)")
    panels[0][0].set_ylabel("mean TTNS, device seconds")
    _legend(figure, panels[0][0])
    return figure


def sensitivity(out: Path, theme: Theme) -> Any:
    """TTNS and background wait of EFaaS against each of the paper's parameters."""
    import matplotlib.pyplot as plt

    sweeps = {name: fig.Experiment(out, name) for name in _DEFAULTS}
    if not any(sweeps.values()):
        return None
    figure, panels = plt.subplots(1, 4, figsize=(11.2, 3.8), layout="constrained", sharey=True)
    shown = (
        ("ttns_mean_s", "mean TTNS", theme.ours, "o", "-"),
        ("background_wait_s", "background wait", theme.rivals[0], "s", "--"),
    )
    for axes, (name, experiment) in zip(panels, sweeps.items(), strict=True):
        over = "tau_s" if name == "tau" else name
        ticks: list[float] = []
        for column, label, ink, shape, dashes in shown:
            places, means = _series(experiment, "efaas", over, column)
            if not places:
                continue
            ticks = places
            default = next(
                (mean for place, mean in zip(places, means, strict=True) if place == _DEFAULTS[name]),
                means[len(means) // 2],
            )
            middle = np.array([mean.value for mean in means]) / default.value
            half = np.array([mean.half or 0.0 for mean in means]) / default.value
            at = np.arange(len(places))
            axes.errorbar(
                at, middle, yerr=half, label=label, color=ink, marker=shape, linestyle=dashes, capsize=2
            )
            if _DEFAULTS[name] in places:
                ring = places.index(_DEFAULTS[name])
                axes.plot(
                    ring, middle[ring], marker="o", markersize=13, markerfacecolor="none", color=theme.quiet
                )
        axes.set_xticks(range(len(ticks)), [f"{tick:g}" for tick in ticks])
        axes.set(title=_SYMBOLS[name])
    panels[0].set_ylabel("relative to the default")
    panels[0].set_ylim(bottom=0)
    _legend(figure, next(axes for axes in panels if axes.get_legend_handles_labels()[1]))
    return figure


def ablations(out: Path, theme: Theme) -> Any:
    """TTNS and duty cycle of EFaaS without each of its parts."""
    import matplotlib.pyplot as plt

    from efaas.bench.report.plots import dots

    experiment = fig.Experiment(out, "ablations")
    cell = experiment.main_cell()
    if cell is None:
        return None
    wanted = ("efaas", *records.SPECULATION, *records.PARTS)
    policies = [policy for policy in wanted if policy in experiment.policies(cell)]
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10.4, 1.6 + 0.42 * len(policies)), layout="constrained", sharey=True
    )
    dots(left, experiment, cell, "ttns_mean_s", policies, theme)
    left.set(title="Mean TTNS, device seconds", xscale="log")
    dots(right, experiment, cell, "qdc", policies, theme)
    right.set(title="Duty cycle")
    return figure


def scale(out: Path, theme: Theme) -> Any:
    """Events and wall time against sessions, and TTNS."""
    import matplotlib.pyplot as plt

    experiment = fig.Experiment(out, "scale")
    if not experiment:
        return None
    # The growth is over runs that differ in sessions alone; a whole day is a figure of its own.
    shortest = min(row["horizon_s"] for row in experiment.runs)
    experiment.runs = [row for row in experiment.runs if row["horizon_s"] == shortest]
    places, means = _series(experiment, "efaas", "sessions", "events")
    if len(places) < 2:
        return None
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained")
    left.plot(places, [mean.value for mean in means], color=theme.ours, marker="o", linewidth=2)
    left.set(
        xlabel=f"sessions in {shortest / 3600:g} h", ylabel="events", title="Events handled", ylim=(0, None)
    )
    took = scale_timings(out, experiment)
    seconds = {row["sessions"]: took[row["run"]] for row in experiment.runs if row["run"] in took}
    if seconds:
        twin = left.twinx()
        shown = dict(sorted(seconds.items()))
        twin.plot(list(shown), list(shown.values()), color=theme.rivals[0], marker="s", linestyle="--")
        twin.set_ylabel("processor seconds (dashed)", color=theme.rivals[0])
        twin.set_ylim(0, None)
        twin.grid(visible=False)
    for policy in experiment.policies():
        _draw(right, *_series(experiment, policy, "sessions", "ttns_mean_s"), policy, theme)
    right.set(
        xlabel=f"sessions in {shortest / 3600:g} h",
        ylabel="mean TTNS, device seconds",
        title="Waiting",
        ylim=(0, None),
    )
    right.legend()
    return figure


def scale_timings(out: Path, experiment: fig.Experiment) -> dict[str, float]:
    """Processor seconds of each run of the scale experiment, where ``timings.json`` has them."""
    path = out / "timings.json"
    if not path.exists():
        return {}
    timings = json.loads(path.read_text())
    return {row["run"]: float(timings[row["run"]][1]) for row in experiment.runs if row["run"] in timings}
