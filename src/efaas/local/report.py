"""What a person reads when a run is over, made from the summary that programs read.

Each session gets a small card (a table from `MANY_SESSIONS` on), then the devices, then where everything is
and what can be typed next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import HORIZONTALS
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from efaas.local import words
from efaas.local.live import STATE_STYLES
from efaas.local.progress import State

MANY_SESSIONS = 7
"""From this many sessions on, each is a row instead of a card."""

CHEMICAL_ACCURACY = 0.0016
"""Hartree; 1 kcal/mol."""


def report(summary: Mapping[str, Any], hartree: frozenset[str] = frozenset()) -> RenderableType:
    """The report of a run.

    Args:
        summary: what `efaas.local.summary.summarize` made.
        hartree: keys of the sessions whose energies are in Hartree.
    """
    sessions = summary["sessions"]
    parts: list[RenderableType] = []
    if len(sessions) >= MANY_SESSIONS:
        parts.append(_sessions_table(sessions))
    else:
        for session in sessions:
            parts += [_card(session, session["session"] in hartree), Text("")]
    if len(summary["tenants"]) > 1:
        parts.append(_tenants_table(summary["tenants"]))
    if summary["devices"]:
        parts.append(_devices_table(summary))
    return Group(*parts)


def _card(session: Mapping[str, Any], hartree: bool) -> RenderableType:
    state = State(session["state"])
    mark, style = STATE_STYLES[state]
    title = Text.assemble((f"{mark} {_shown(session['session'])}", f"bold {style}"), f"  {state.value}")
    if session["device"] and session["evaluations"]:
        title.append(f" on {session['device']}")
        title.append(f", {words.count(session['iterations'], 'iteration')}", style="dim")
        title.append(f", {words.count(session['evaluations'], 'evaluation')}", style="dim")
        title.append(f", {words.duration(session['usage']['wall_s'])}", style="dim")
    if session["reason"]:
        title.append(f" · {session['reason']}")
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="dim", min_width=18)
    lines.add_column()
    for name, value in card_lines(session, hartree):
        lines.add_row(f"  {name}", value)
    return Group(title, lines)


def card_lines(session: Mapping[str, Any], hartree: bool = False) -> list[tuple[str, str]]:
    """The lines of a session's card as (name, text), without those of which nothing is known."""
    unit = " Ha" if hartree else ""
    lines = []
    if session["energy"] is not None:
        lines.append(("energy", words.energy_with_error(session["energy"], session["std_error"]) + unit))
    if session["exact"] is not None:
        text = words.energy(session["exact"]) + unit
        if session["error"] is not None:
            text += f"   error {_error(session['error'], hartree)}"
        lines.append(("exact", text))
    noisy = session["noisy_best"]
    if noisy is not None and noisy["energy"] is not None:
        text = words.energy(noisy["energy"]) + unit
        if noisy["difference"] is not None:
            text += f"   {_difference(noisy['difference'], hartree)}"
        if noisy["difference_std_errors"] is not None:
            text += f", {words.signed(noisy['difference_std_errors'], 1)} standard errors"
        lines.append(("best under noise", text))
    elif noisy is not None:
        lines.append(("best under noise", f"not known: {noisy['reason']}"))
    cut = session["cut"]
    if isinstance(cut, dict) and cut.get("bitstring"):
        text = f"{cut['bitstring']}, weight {cut.get('weight')}"
        if cut.get("best_weight") is not None:
            text += f" of at most {cut['best_weight']}"
        lines.append(("cut", text))
    if session["ttns_s"]["n"]:
        text = _spread(session["ttns_s"]) + " wall"
        if session["ttns_device_s"]["n"]:
            text += f" · {_spread(session['ttns_device_s'])} device"
        lines.append(("TTNS p50 / p95", text))
    usage = session["usage"]
    if usage["shots"]:
        text = f"{words.count(usage['shots'], 'shot')} · {words.duration(usage['qpu_s'])} QPU time"
        if usage["cpu_s"] is not None:
            text += f" · {words.duration(usage['cpu_s'])} CPU time"
        lines.append(("usage", text))
    if session["runner_restarts"]:
        lines.append(("restarts", f"{session['runner_restarts']}, from the journal"))
    return lines


def _sessions_table(sessions: list[Mapping[str, Any]]) -> Table:
    table = Table(box=HORIZONTALS, header_style="bold", padding=(0, 1), expand=True)
    table.add_column("Session", ratio=1, no_wrap=True, overflow="ellipsis")
    for title in ("Iter", "Energy", "Error", "TTNS p50", "p95", "QPU"):
        table.add_column(title, justify="right", no_wrap=True)
    for session in sessions:
        mark, style = STATE_STYLES[State(session["state"])]
        name = Text.assemble((f"{mark} ", style), (_shown(session["session"]), "bold"))
        if session["reason"]:
            name.append(f" {session['reason']}", style="dim")
        table.add_row(
            name,
            str(session["iterations"]),
            words.energy_with_error(session["energy"], session["std_error"]),
            words.signed(session["error"]),
            words.duration(session["ttns_s"]["p50"]),
            words.duration(session["ttns_s"]["p95"]),
            words.duration(session["usage"]["qpu_s"] or None),
        )
    return table


def _tenants_table(tenants: list[Mapping[str, Any]]) -> Table:
    """Who got what; waits in device seconds."""
    table = Table(box=HORIZONTALS, header_style="bold", padding=(0, 1))
    table.add_column("Tenant", no_wrap=True)
    for title in ("Weight", "QPU", "CPU", "Share", "Deserved", "TTNS p50", "p95", "Batch", "p95"):
        table.add_column(title, justify="right", no_wrap=True)
    for tenant in tenants:
        loops, batch = tenant["ttns_device_s"], tenant["batch_wait_device_s"]
        table.add_row(
            tenant["tenant"],
            str(tenant["weight"]),
            _short(tenant["qpu_s"] or None),
            _short(tenant["cpu_s"] or None),
            words.percent(tenant["dominant_share"]),
            words.percent(tenant["deserved_share"]),
            *(_short(waits[percent]) for waits in (loops, batch) for percent in ("p50", "p95")),
        )
    return table


def _devices_table(summary: Mapping[str, Any]) -> Table:
    table = Table(
        box=HORIZONTALS, header_style="bold", padding=(0, 1), show_footer=len(summary["devices"]) > 1
    )
    together = words.percent(summary["qdc"])
    table.add_column("Device", "all", no_wrap=True)
    table.add_column("QDC", together, justify="right", no_wrap=True)
    for title in ("Shots", "Calibrating", "Clock", "Epoch", "Cold", "Warm"):
        table.add_column(title, justify="right", no_wrap=True)
    for device in summary["devices"]:
        name = Text(device["device"])
        if device["reason"]:
            name.append(f" {device['condition']}: {device['reason']}", style="red")
        table.add_row(
            name,
            words.percent(device["qdc"]),
            words.duration(device["busy_s"]),
            words.duration(device["calibrating_s"]),
            words.duration(device["clock_s"]),
            str(device["calibration_epoch"]),
            _starts(device["cold_starts"], device["cold_start_s"]),
            _starts(device["warm_starts"], device["warm_start_s"]),
        )
    return table


def _starts(count: int, seconds: float) -> str:
    """How often circuits were started, and what it took: ``2 in 0.31 s``."""
    return f"{count} in {words.duration(seconds)}" if seconds else str(count)


def _error(value: float, hartree: bool) -> str:
    within = " (chemical accuracy)" if hartree and abs(value) <= CHEMICAL_ACCURACY else ""
    return _difference(value, hartree) + within


def _difference(value: float, hartree: bool) -> str:
    return f"{words.signed(value * 1000, 2)} mHa" if hartree else words.signed(value)


def _short(value_s: float | None) -> str:
    """A duration in few letters: seconds instead of minutes and hours."""
    return f"{value_s:.0f} s" if value_s is not None and value_s >= 60 else words.duration(value_s)


def _spread(spread: Mapping[str, float | None]) -> str:
    return f"{words.duration(spread['p50'])} / {words.duration(spread['p95'])}"


def _shown(key: str) -> str:
    return key.removeprefix("default/")
