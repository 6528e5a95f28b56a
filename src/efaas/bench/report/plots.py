"""The plots of the report: each function draws one figure from the data, or gives None without data.

Lines are means over seeds, bands and bars their 95 % confidence intervals, unless the caption says otherwise.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from efaas.bench.report import figures as fig
from efaas.bench.report import plots_energy, plots_sweeps
from efaas.bench.report.style import DARK, LIGHT, Theme, colour, line, marker, plain_log, recoloured, themed

COMPARED = ("efaas", "efaas-tolerant", "sbq", "pf", "pq", "sr", "session-fifo", "bound-zero-wait")


@dataclass(frozen=True, slots=True)
class Plot:
    """One figure of the report."""

    name: str
    """File name without its end."""
    title: str
    caption: str
    draw: Callable[[Path, Theme], Any]
    """Returns a matplotlib figure, or None where there is no data."""


def present(experiment: fig.Experiment, cell: str, wanted: Sequence[str] = COMPARED) -> list[str]:
    """The wanted policies that ran in a cell."""
    return [policy for policy in wanted if policy in experiment.policies(cell)]


def ttns(out: Path, theme: Theme) -> Any:
    """Distribution of the time to next shot, on a logarithmic axis, with its upper tail beside it."""
    import matplotlib.pyplot as plt

    experiment = fig.Experiment(out, fig.MAIN)
    cell = experiment.main_cell()
    waits = fig.waits(experiment, cell) if cell is not None else {}
    if cell is None or not waits:
        return None
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10.4, 4.3), layout="constrained", width_ratios=(1.5, 1)
    )
    for policy in present(experiment, cell):
        if policy not in waits or policy == "bound-zero-wait":
            continue
        values, shares = fig.ecdf([max(wait, 1e-3) for wait in waits[policy]])
        left.step(values, shares, where="post", label=fig.name_of(policy), **line(policy, theme))
        right.step(values, 1 - shares + 1 / len(waits[policy]), where="post", **line(policy, theme))
    for axes in (left, right):
        axes.set(xscale="log", xlabel="time to next shot, device seconds")
    left.set(ylim=(0, 1.02), ylabel="share of iterations at or below", title="All iterations")
    right.set(yscale="log", ylim=(8e-4, 1.2), ylabel="share above", title="The tail")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=7)
    return figure


def duty_over_time(out: Path, theme: Theme) -> Any:
    """Duty cycle in each interval, a panel for each cell of the experiment."""
    import matplotlib.pyplot as plt

    experiment = fig.Experiment(out, "duty")
    if not experiment or experiment.table("timeline") is None:
        experiment = fig.Experiment(out, fig.MAIN)
        if not experiment:
            return None
        main = experiment.main_cell()
        cells = [main] if main is not None else []
    else:
        cells = experiment.cells[:3]
    curves = {cell: fig.over_time(experiment, cell) for cell in cells}
    if not any(curves.values()):
        return None
    figure, panels = plt.subplots(
        1,
        len(cells),
        figsize=(10.4, 4.2) if len(cells) > 1 else (8, 4.2),
        layout="constrained",
        sharey=True,
        squeeze=False,
    )
    lowest = 1.0
    for axes, cell in zip(panels[0], cells, strict=True):
        for policy in present(experiment, cell, ("efaas", "sbq", "pf", "pq", "sr", "session-fifo")):
            if policy not in curves[cell]:
                continue
            at_s, means, halves = curves[cell][policy]
            axes.plot(at_s / 60, means, label=fig.name_of(policy), **line(policy, theme))
            axes.fill_between(
                at_s / 60, means - halves, means + halves, color=colour(policy, theme), alpha=0.13
            )
            lowest = min(lowest, float(np.nanmin(means)))
        axes.set(xlabel="device time, minutes", title=cell_title(cell))
    panels[0][0].set(ylabel="duty cycle (shots ÷ device time)", ylim=(max(0.0, lowest - 0.08), 1.02))
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6)
    return figure


def cell_title(cell: str) -> str:
    """A cell in words."""
    values = fig.cell_values(cell)
    if values.pop("calibrated", "True") == "False":
        return "without calibration"
    words = {
        "tau_s": "τ {} s",
        "t_calib_s": "calibration {} s",
        "t_net_s": "network {} s",
        "iterations": "{} iterations",
        "sessions": "{} sessions",
        "load": "load {}",
    }
    parts = [words.get(name, f"{name} {{}}").format(value) for name, value in values.items()]
    return ", ".join(parts) or cell.replace("-", " ") or "all"


def dots(
    axes: Any, experiment: fig.Experiment, cell: str, column: str, policies: Sequence[str], theme: Theme
) -> None:
    """A point and its interval for each policy, names on the left."""
    names = []
    for place, policy in enumerate(policies):
        mean = experiment.mean(cell, policy, column)
        names.append(fig.name_of(policy))
        if mean is None:
            continue
        axes.errorbar(
            mean.value,
            place,
            xerr=mean.half or 0.0,
            fmt=marker(policy),
            color=colour(policy, theme),
            markersize=9 if policy == "efaas" else 7,
            capsize=3,
        )
        axes.annotate(
            fig.significant(mean.value),
            (mean.value, place),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            color=theme.ink,
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.75)
    axes.grid(axis="y", visible=False)
    axes.margins(x=0.12)


_FAIR = ("efaas", "efaas-tolerant", "sbq", "pf", "pq", "sr", "session-fifo")


def fairness(out: Path, theme: Theme) -> Any:
    """Jain's index of weighted dominant shares, and how evenly sessions of one run are served."""
    import matplotlib.pyplot as plt

    experiment = fig.Experiment(out, fig.MAIN)
    cell = experiment.main_cell()
    if cell is None:
        return None
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.4, 3.9), layout="constrained", sharey=True)
    policies = present(experiment, cell, _FAIR)
    dots(left, experiment, cell, "jain", policies, theme)
    left.set(title="Fairness between tenants", xlabel="Jain index of weighted dominant shares; 1 is even")
    shares = experiment.by_policy("sessions", ("ttns_mean_s",), cell)
    for place, policy in enumerate(policies):
        values = [value for value in shares.get(policy, {}).get("ttns_mean_s", []) if value]
        if values:
            parts = right.boxplot(
                [values],
                positions=[place],
                orientation="horizontal",
                widths=0.5,
                showfliers=False,
                patch_artist=True,
                manage_ticks=False,
            )
            for part in (*parts["boxes"], *parts["whiskers"], *parts["caps"], *parts["medians"]):
                part.set(color=colour(policy, theme))
            parts["boxes"][0].set(facecolor="none", linewidth=1.6)
    right.set(xscale="log", title="Mean TTNS of each session", xlabel="device seconds; box: quartiles")
    return figure


def background(out: Path, theme: Theme) -> Any:
    """What priority costs the others: wait and slowdown of background jobs."""
    import matplotlib.pyplot as plt

    experiment = fig.Experiment(out, fig.MAIN)
    cell = experiment.main_cell()
    if cell is None:
        return None
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.4, 3.9), layout="constrained", sharey=True)
    policies = present(experiment, cell, _FAIR)
    dots(left, experiment, cell, "background_wait_s", policies, theme)
    left.set(title="Mean wait of background jobs", xlabel="device seconds")
    dots(right, experiment, cell, "background_slowdown", policies, theme)
    right.set(title="Mean slowdown of background jobs", xlabel="time in the system ÷ device time")
    for axes in (left, right):
        axes.set_xlim(left=0)
    return figure


ALL: tuple[Plot, ...] = (
    Plot(
        "ttns",
        "Time to next shot",
        "Distribution over all iterations of all seeds (first iterations included) at 3 QPUs, 3 sessions "
        "of 100 iterations, background load 0.9, 0.05 s of network. What had not started at the end counts"
        " with the wait it has had. The dotted bound of zero waiting is the network alone and is left out.",
        ttns,
    ),
    Plot(
        "duty",
        "Quantum duty cycle over time",
        "Device time of shots over all device time, in equal intervals; calibration does not count as use.",
        duty_over_time,
    ),
    Plot(
        "convergence",
        "Convergence",
        "Distance of the energy to exact diagonalisation, without shot noise, as a share of the spectrum's"
        " width: median over sessions and seeds, quartiles shaded for EFaaS and SR. The real optimizer "
        "went through the simulated iterations with energies that Aer measured on the device at the "
        "calibration age that each iteration had. The dashed line is the tolerance.",
        plots_energy.convergence,
    ),
    Plot(
        "drift",
        "Drift penalties",
        "Left: share of iterations that had to wait for a calibration, and that ran on one older than τ. "
        "Right: final energy error by policy, with drift on.",
        plots_energy.penalties,
    ),
    Plot(
        "ages",
        "Energy against calibration age",
        "A circuit at fixed parameters on the drifting device, readout mitigated with what the last "
        "calibration found; mean and interval over seeds of the drift. Shaded: one shot standard error of "
        "an iteration.",
        plots_energy.ages,
    ),
    Plot(
        "background",
        "What priority costs the others",
        "Background jobs at 3 QPUs, 3 sessions, load 0.9.",
        background,
    ),
    Plot("fairness", "Fairness", "3 QPUs, 3 sessions of 100 iterations, load 0.9.", fairness),
    Plot(
        "load",
        "Background load",
        "Mean time to next shot, duty cycle and background wait from load 0.3 to 1.2.",
        plots_sweeps.load,
    ),
    Plot(
        "sessions",
        "Sessions and the ratio of classical to quantum time",
        "Left: more sessions on 3 QPUs. Right: t_cpu ÷ t_qpu.",
        plots_sweeps.sessions_and_ratio,
    ),
    Plot(
        "lengths",
        "Length of a session",
        "Mean time to next shot, first iteration included, against the number of iterations, at both "
        "networks.",
        plots_sweeps.lengths,
    ),
    Plot(
        "sensitivity",
        "Sensitivity to α, β, γ and τ",
        "The paper's sweeps: mean time to next shot of EFaaS and wait of background jobs, each relative to"
        " the default's (ringed). A flat line says that the parameter has no effect here.",
        plots_sweeps.sensitivity,
    ),
    Plot(
        "ablations",
        "EFaaS without each of its parts",
        "Calibration on. Mean time to next shot and duty cycle.",
        plots_sweeps.ablations,
    ),
    Plot(
        "scale",
        "Growth",
        "A 24 h day on 100 QPUs at load 0.6: events handled, and what the loops' waiting does as sessions "
        "grow.",
        plots_sweeps.scale,
    ),
    Plot(
        "live",
        "Model against reality",
        "Mean time to next shot of the same recorded traces through real QPU servers and through the "
        "simulator; small points are traces. Shaded: within 15 %.",
        plots_energy.live,
    ),
)


def render(plot: Plot, out: Path) -> dict[str, bytes] | None:
    """A plot as SVG in both themes and as PNG on white; None where there is no data for it."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FixedLocator

    with themed(LIGHT):
        figure = plot.draw(out, LIGHT)
        if figure is None:
            return None
        for axes in figure.axes:
            for axis, scale in ((axes.xaxis, axes.get_xscale()), (axes.yaxis, axes.get_yscale())):
                if scale == "log" and not isinstance(axis.get_major_locator(), FixedLocator):
                    plain_log(axis)
        vector, raster = io.BytesIO(), io.BytesIO()
        figure.savefig(vector, format="svg", metadata={"Date": None, "Creator": None})
        figure.savefig(raster, format="png", dpi=130, facecolor="white", metadata={"Software": None})
        plt.close(figure)
    light = vector.getvalue().decode()
    return {
        "light.svg": light.encode(),
        "dark.svg": recoloured(light, LIGHT, DARK).encode(),
        "png": raster.getvalue(),
    }
