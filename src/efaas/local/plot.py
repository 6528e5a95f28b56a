"""`convergence.png`: how each session came down to its energy.

One column a session, wrapped into rows when there are many. Above, the energy of each iteration with a band
of one standard error of its shots, the lowest energy so far, the exact energy and, where it is known, the
best energy under the device's noise. Below, the distance to the exact energy on a logarithmic axis, down into
the grey region where shots cannot tell it from nothing. Colours are Okabe and Ito's, which colour-blind
people can tell apart, and each line has a dash pattern of its own; the legend stands below all panels.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from efaas.local import words
from efaas.local.progress import RunRecord, SessionRecord, number
from efaas.local.report import CHEMICAL_ACCURACY

MOST_SESSIONS = 24
"""Panels beyond this would be too small to read; the first ones are drawn."""

_BLUE, _VERMILION, _GREEN, _PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
_INK, _SOFT, _HAIR = "#262626", "#767676", "#E3E3E3"

_FINAL = {
    "marker": "D",
    "markersize": 5.5,
    "color": _INK,
    "markerfacecolor": "white",
    "markeredgewidth": 1.3,
    "linestyle": "none",
    "clip_on": False,
    "zorder": 5,
}
"""The final evaluation: a diamond at the last iteration."""

_STYLE = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": "#9A9A9A",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": _HAIR,
    "grid.linewidth": 0.7,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "figure.facecolor": "white",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "path.simplify": True,
}


@dataclass(frozen=True, slots=True)
class Series:
    """What is drawn of a session: a point an iteration, or an evaluation when there is one iteration only."""

    label: str
    """What the horizontal axis counts, from 1."""
    steps: tuple[int, ...]
    energy: tuple[float, ...]
    std_error: tuple[float, ...]
    best: tuple[float, ...]
    """Lowest energy so far."""
    final: tuple[float, float] | None = None
    """Energy and standard error of the one last evaluation at the best point, if there was one."""


def series(record: SessionRecord) -> Series:
    """The points to draw; the last evaluation stands for its iteration."""
    told = [evaluation for evaluation in record.evaluations() if evaluation.energy is not None]
    final = None
    if record.result.get("final_evaluation") is True and len(told) > 1 and record.energy is not None:
        # It belongs to no iteration and may have many more shots.
        told.pop()
        final = (record.energy, record.std_error or 0.0)
    by_iteration = {evaluation.iteration: evaluation for evaluation in told}
    if len(by_iteration) > 1:
        label = "Iteration"
        points = [(iteration + 1, by_iteration[iteration]) for iteration in sorted(by_iteration)]
    else:
        label = "Evaluation"
        points = [(evaluation.evaluation + 1, evaluation) for evaluation in told]
    lowest = math.inf
    best = []
    for _, evaluation in points:
        assert evaluation.energy is not None
        seen = evaluation.energy if evaluation.best is None else evaluation.best
        lowest = min(lowest, seen)
        best.append(lowest)
    return Series(
        label,
        tuple(step for step, _ in points),
        tuple(evaluation.energy for _, evaluation in points if evaluation.energy is not None),
        tuple(evaluation.std_error or 0.0 for _, evaluation in points),
        tuple(best),
        final,
    )


def plot_convergence(record: RunRecord, path: Path, hartree: Collection[str] = ()) -> None:
    """Draw the sessions of a run that have a history.

    Args:
        record: the run.
        path: PNG file to write.
        hartree: keys of the sessions whose energies are in Hartree.
    """
    drawn = [session for session in record.sessions.values() if series(session).steps][:MOST_SESSIONS]
    columns = min(len(drawn), 3 if len(drawn) != 4 else 2)
    rows = math.ceil(len(drawn) / columns)
    width = {1: 8.4, 2: 11.0}.get(columns, 13.5)
    height = 1.43 + rows * (5.2 if rows == 1 else 4.1)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), dpi=160)
        FigureCanvasAgg(figure)
        bottom, top = 1.08 / height, 1 - 0.62 / height
        grid = figure.add_gridspec(
            rows, columns, left=0.85 / width, right=1 - 0.25 / width, bottom=bottom, top=top
        )
        grid.update(wspace=0.24, hspace=0.32)
        for index, session in enumerate(drawn):
            _column(figure, grid[index // columns, index % columns], session, session.key in hartree)
        _legend(figure, 0.30 / height)
        figure.savefig(path, metadata={"Title": f"Convergence of {record.name}", "Software": "EFaaS"})


def _column(figure: Figure, cell: Any, session: SessionRecord, hartree: bool) -> None:
    """The two panels of a session."""
    points = series(session)
    unit = " (Ha)" if hartree else ""
    if session.exact is None:
        above, below = figure.add_subplot(cell), None
    else:
        inner = cell.subgridspec(2, 1, height_ratios=(1.55, 1), hspace=0.09)
        above = figure.add_subplot(inner[0])
        below = figure.add_subplot(inner[1], sharex=above)
        above.tick_params(labelbottom=False)
    _energy_panel(above, session, points)
    above.set_ylabel(f"Energy{unit}")
    above.set_title(session.shown, loc="left", fontsize=12, fontweight="bold", pad=20)
    above.annotate(
        _subtitle(session),
        xy=(0, 1),
        xytext=(0, 7),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=9,
        color=_SOFT,
    )
    if below is not None and session.exact is not None:
        _error_panel(below, session, points, session.exact, hartree)
        below.set_ylabel(f"Error{unit}")
    lowest = below if below is not None else above
    lowest.set_xlabel(points.label)
    lowest.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    above.set_xlim(points.steps[0], max(points.steps[-1], points.steps[0] + 1))


def _energy_panel(axes: Any, session: SessionRecord, points: Series) -> None:
    low = [energy - error for energy, error in zip(points.energy, points.std_error, strict=True)]
    high = [energy + error for energy, error in zip(points.energy, points.std_error, strict=True)]
    if any(points.std_error):
        axes.fill_between(
            points.steps, low, high, color=_BLUE, alpha=0.20, linewidth=0, label="± 1 standard error"
        )
    axes.plot(
        points.steps,
        points.best,
        color=_VERMILION,
        linewidth=1.5,
        dashes=(5, 1.6),
        drawstyle="steps-post",
        label="best so far",
    )
    marker = {"marker": "o", "markersize": 3} if len(points.steps) <= 40 else {}
    axes.plot(points.steps, points.energy, color=_BLUE, linewidth=1.3, label="energy", **marker)
    lines = []
    if points.final is not None:
        energy, error = points.final
        axes.errorbar(points.steps[-1], energy, yerr=error, label="final evaluation", **_FINAL)
        lines.append(energy)
    if session.exact is not None:
        axes.axhline(session.exact, color=_INK, linewidth=1.1, label="exact")
        lines.append(session.exact)
    noisy = number((session.noisy_best or {}).get("energy"))
    if noisy is not None:
        axes.axhline(noisy, color=_GREEN, linewidth=1.5, dashes=(7, 2, 1.5, 2), label="best under noise")
        lines.append(noisy)
    bottom, top = min(low + lines), max(high + lines)
    margin = 0.05 * ((top - bottom) or 1.0)
    axes.set_ylim(bottom - margin, top + margin)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))


def _error_panel(axes: Any, session: SessionRecord, points: Series, exact: float, hartree: bool) -> None:
    errors = [abs(energy - exact) for energy in points.energy]
    if points.final is not None:
        errors.append(abs(points.final[0] - exact))
    noise = [error for error in points.std_error if error > 0]
    positive = [error for error in errors if error > 0] or [1e-6]
    ceiling = 1.6 * max([*positive, *noise])
    floor = 10 ** math.floor(
        math.log10(max(min([*positive, *(error / 3 for error in noise)]), 1e-8 * ceiling))
    )
    if noise:
        axes.fill_between(
            points.steps,
            floor,
            [max(error, floor) for error in points.std_error],
            color="#8C8C8C",
            alpha=0.16,
            linewidth=0,
            label="within shot noise",
        )
    shown = [max(error, floor) for error in errors[: len(points.steps)]]
    axes.plot(points.steps, shown, color=_BLUE, linewidth=1.1, label="energy")
    if hartree:
        axes.axhline(
            CHEMICAL_ACCURACY, color=_PURPLE, linewidth=1.4, dashes=(1.2, 1.6), label="chemical accuracy"
        )
    noisy = number((session.noisy_best or {}).get("energy"))
    if noisy is not None and noisy != exact:
        axes.axhline(
            abs(noisy - exact), color=_GREEN, linewidth=1.5, dashes=(7, 2, 1.5, 2), label="best under noise"
        )
        floor = min(floor, 10 ** math.floor(math.log10(abs(noisy - exact))))
    if points.final is not None and points.final[0] != exact:
        axes.plot(points.steps[-1], errors[-1], **_FINAL)
    axes.set_yscale("log")
    axes.set_ylim(floor, max(ceiling, 10 * floor))
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_minor_locator(NullLocator())


def _subtitle(session: SessionRecord) -> str:
    parts = [session.device] if session.device else []
    if session.energy is not None:
        parts.append(words.energy_with_error(session.energy, session.std_error))
    if session.exact is not None:
        parts.append(f"exact {words.energy(session.exact)}")
    if not session.state.ended or session.state.value != "Completed":
        parts.append(session.state.value.lower())
    return "  ·  ".join(parts)


def _legend(figure: Figure, height: float) -> None:
    """One legend for all panels, below them: each label once, in the order of drawing."""
    handles: dict[str, Any] = {}
    order: Sequence[str] = (
        "energy", "± 1 standard error", "best so far", "final evaluation", "exact", "best under noise",
        "chemical accuracy", "within shot noise",
    )  # fmt: skip
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    labels = [label for label in order if label in handles]
    to_a_row = int(figure.get_figwidth() // 1.6)
    figure.legend(
        [handles[label] for label in labels],
        labels,
        loc="center",
        bbox_to_anchor=(0.5, height),
        ncols=len(labels) if len(labels) <= to_a_row else math.ceil(len(labels) / 2),
        handlelength=2.4,
        columnspacing=1.8,
    )
