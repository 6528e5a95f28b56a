"""How a session in a cluster came down to its energy, in the terminal or as the picture of `efaas run`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efaas.local.progress import Evaluation, RunRecord, SessionRecord, State, number

MOST_POINTS = 20_000
"""Evaluations that the gateway is asked for; it thins out longer histories evenly."""

_STATES = {state.value: state for state in State}


def record_of(session: Mapping[str, Any], trajectory: Mapping[str, Any]) -> SessionRecord:
    """A session's record, from what the gateway tells of it.

    Args:
        session: answer of ``/sessions/NAMESPACE/NAME``.
        trajectory: answer of ``…/trajectory``: columns of equal length.
    """
    key = f"{session['namespace']}/{session['name']}"
    device = str(session.get("device") or "")
    record = SessionRecord(key, qubits=0, devices=(device,) if device else ())
    columns: Mapping[str, list[Any]] = trajectory["columns"]
    names = list(columns)
    lines = (dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True))
    found = (Evaluation.from_line(line, key) for line in lines)
    record.take_history(evaluation for evaluation in found if evaluation is not None)
    record.apply({"event": "finished", "result": session.get("result") or {}})
    record.exact = number(session.get("exact")) if record.exact is None else record.exact
    noisy = number(session.get("noisy_best"))
    record.noisy_best = None if noisy is None else {"energy": noisy}
    record.state = _STATES.get(str(session.get("state")), State.RUNNING)
    record.device = device or record.device
    return record


def draw_picture(record: SessionRecord, path: Path) -> None:
    """Write `convergence.png` of one session."""
    from efaas.local.plot import plot_convergence

    plot_convergence(RunRecord(record.key, "", "", {record.key: record}, {}), path)


def draw_text(record: SessionRecord, width: int, height: int, *, color: bool) -> str:
    """The convergence as characters.

    Args:
        record: with at least one evaluation.
        width: columns.
        height: lines.
        color: whether the terminal shows colours.
    """
    import plotext

    from efaas.local.plot import series

    points = series(record)
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(width, height)
    # Markers differ too: pipes and some eyes know no colours.
    plotext.scatter(points.steps, points.energy, label="energy", marker="dot", color="blue")
    plotext.plot(points.steps, points.best, label="best so far", marker="braille", color="red")
    if record.exact is not None:
        ends = [points.steps[0], points.steps[-1]]
        plotext.plot(ends, [record.exact] * 2, label=f"exact {record.exact:.5f}", marker="─", color="green")
    first, last = points.steps[0], points.steps[-1]
    plotext.xticks(sorted({first + (last - first) * part // 5 for part in range(6)}))
    plotext.xlabel(points.label)
    plotext.title(record.shown)
    text: str = plotext.build()
    plain = text if color else plotext.uncolorize(text)
    return str(plain)
