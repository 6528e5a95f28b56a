"""The run as a person watches it on a terminal: sessions above, devices below, four times a second.

Each session takes two lines: numbers in columns, and under them where it is and why. That fits 80 columns
with all that matters; wider terminals add columns.
"""

from __future__ import annotations

from rich.box import HORIZONTALS
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from efaas.local import words
from efaas.local.progress import DeviceRecord, Evaluation, RunRecord, SessionRecord, State, percentile

REFRESHES_PER_SECOND = 4
_WIDE = 96
"""Columns from which the exact energy has a column of its own."""

STATE_STYLES = {
    State.PENDING: ("○", "dim"),
    State.SUSPENDED: ("‖", "dim"),
    State.PREPARING: ("◌", "cyan"),
    State.QUEUED: ("◔", "yellow"),
    State.RUNNING: ("●", "cyan"),
    State.COMPLETED: ("✔", "green"),
    State.FAILED: ("✘", "bold red"),
    State.EXPIRED: ("✘", "yellow"),
    State.CANCELLED: ("✘", "yellow"),
    State.INTERRUPTED: ("‖", "yellow"),
}
"""Mark and style of each state; the word is always written too, so nothing hangs on colour."""


class LiveView:
    """A `Listener` that keeps a table on the terminal up to date.

    Args:
        record: the run.
        console: the terminal.
    """

    def __init__(self, record: RunRecord, console: Console) -> None:
        self._live = Live(
            RunTable(record), console=console, refresh_per_second=REFRESHES_PER_SECOND, transient=True
        )

    def __enter__(self) -> LiveView:
        """Show the table."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the table away; the report follows in its place."""
        self._live.stop()

    def session_changed(self, record: SessionRecord) -> None:
        """Part of `Listener`; the next refresh shows it."""

    def device_changed(self, record: DeviceRecord) -> None:
        """Part of `Listener`; the next refresh shows it."""

    def evaluated(self, record: SessionRecord, evaluation: Evaluation) -> None:
        """Part of `Listener`; the next refresh shows it."""

    def note(self, text: str) -> None:
        """Print a sentence above the table."""
        self._live.console.print(Text(text, style="yellow"))

    def tick(self) -> None:
        """Part of the views; the table refreshes itself."""


class RunTable:
    """The table of a run as it is at the moment of drawing."""

    def __init__(self, record: RunRecord) -> None:
        self._record = record

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw; sessions beyond the height of the terminal are counted instead of shown."""
        devices = _devices(self._record)
        room = (
            max(1, (console.height - len(self._record.devices) - 10) // 2) if console.is_terminal else 10**6
        )
        yield Group(_sessions(self._record, options.max_width >= _WIDE, room), devices)


def _sessions(record: RunRecord, wide: bool, room: int) -> RenderableType:
    table = Table(box=HORIZONTALS, expand=True, header_style="bold", padding=(0, 1))
    table.add_column("Session", ratio=1, no_wrap=True, overflow="ellipsis", min_width=12)
    table.add_column("Iter", justify="right", no_wrap=True)
    table.add_column("Energy", justify="right", no_wrap=True)
    table.add_column("Best", justify="right", no_wrap=True)
    if wide:
        table.add_column("Exact", justify="right", no_wrap=True)
    table.add_column("TTNS p50", justify="right", no_wrap=True)
    table.add_column("QPU", justify="right", no_wrap=True)
    sessions = (
        sorted(record.sessions.values(), key=lambda session: session.state.ended)
        if room < len(record.sessions)
        else list(record.sessions.values())
    )
    for session in sessions[:room]:
        table.add_row(
            _named(session),
            str(session.iterations) if session.history else "–",
            words.energy_with_error(session.energy, session.std_error),
            words.energy(session.best),
            *([words.energy(session.exact)] if wide else []),
            words.duration(percentile(session.recent_ttns_s, 50)),
            words.duration(session.qpu_s) if session.qpu_s else "–",
        )
    # The line under each session spans the table, which columns cannot.
    return _Spanned(table, [_where(session) for session in sessions[:room]], len(sessions) - room)


class _Spanned:
    """A table with a line of its own under each row."""

    def __init__(self, table: Table, lines: list[Text], left_out: int) -> None:
        self._table, self._lines, self._left_out = table, lines, left_out

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = console.render_lines(self._table, options)
        head, body, foot = rows[:3], rows[3 : 3 + len(self._lines)], rows[3 + len(self._lines) :]
        for row in head:
            yield from (*row, Segment.line())
        for row, line in zip(body, self._lines, strict=True):
            yield from (*row, Segment.line())
            line.truncate(options.max_width, overflow="ellipsis")
            yield line
        if self._left_out > 0:
            yield Text(f"  … and {words.count(self._left_out, 'more session')}", style="dim")
        for row in foot:
            yield from (*row, Segment.line())


def _named(session: SessionRecord) -> Text:
    mark, style = STATE_STYLES[session.state]
    return Text.assemble((f"{mark} ", style), (session.shown, "bold"))


def _where(session: SessionRecord) -> Text:
    _, style = STATE_STYLES[session.state]
    line = Text("   ")
    line.append(session.state.value, style=style)
    if session.state in {State.RUNNING, State.QUEUED, State.PREPARING} and session.device:
        line.append(f" on {session.device}", style="dim")
    parts = []
    if session.state in {State.RUNNING, State.QUEUED}:
        if session.calibration_age_s is not None:
            parts.append(f"calibrated {words.age(session.calibration_age_s)} ago")
        parts.append(f"queue position {session.queue_position}" if session.queue_position else "not queued")
    if session.activity or session.reason:
        parts.append(session.activity or session.reason)
    if session.restarts:
        parts.append(f"{words.count(session.restarts, 'restart')}")
    if parts:
        line.append(" · " + " · ".join(parts), style="dim")
    return line


def _devices(record: RunRecord) -> Table:
    table = Table(box=None, expand=True, header_style="bold", padding=(0, 1))
    table.add_column("Device", ratio=1, no_wrap=True, overflow="ellipsis", min_width=12)
    for title in ("Qubits", "Epoch", "Calibrated", "Queue", "QDC"):
        table.add_column(title, justify="right", no_wrap=True)
    for device in record.devices.values():
        style = "red" if device.failed else "" if device.condition in {"Ready", "Stopped"} else "yellow"
        known = device.clock_s > 0
        name = Text.assemble("  ", (device.name, "bold"), "  ", (device.condition, style or "dim"))
        if device.reason:
            name.append(f" · {device.reason}", style="dim")
        table.add_row(
            name,
            str(device.qubits),
            str(device.calibration_epoch) if known else "–",
            f"{words.age(device.calibration_age_s)} ago" if known else "–",
            str(device.queue_depth),
            words.percent(device.duty_cycle) if known else "–",
        )
    return table
