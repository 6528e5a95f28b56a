"""Sessions, devices and usage as tables: from objects of the API server to rows of text, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Document = Mapping[str, Any]

_ACTIVE = ("Running", "Placed", "Admitted", "Pending", "Suspended")
_NONE = "–"


@dataclass(frozen=True, slots=True)
class Table:
    """Heads, and rows of as many cells."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left_aligned: frozenset[str] = frozenset()
    """Heads of columns of words; the others are of numbers."""


def sessions_table(sessions: Iterable[Document], *, with_namespace: bool, now: datetime) -> Table:
    """One row a session: those that work first, then those that wait, then those that ended, newest first."""

    def order(session: Document) -> tuple[int, str, str]:
        state = _status(session).get("state") or "Pending"
        created = session["metadata"].get("creationTimestamp", "")
        return (
            _ACTIVE.index(state) if state in _ACTIVE else len(_ACTIVE),
            "".join(chr(0x10FFFF - ord(letter)) for letter in created) if state not in _ACTIVE else created,
            session["metadata"]["name"],
        )

    rows = []
    for session in sorted(sessions, key=order):
        metadata, status = session["metadata"], _status(session)
        progress, usage = status.get("progress") or {}, status.get("usage") or {}
        state = status.get("state") or "Pending"
        ttns = progress.get("ttnsP50Milliseconds")
        rows.append(
            (
                *((metadata["namespace"],) if with_namespace else ()),
                metadata["name"],
                state,
                _waits(status) if state in ("Pending", "Admitted") else status.get("reason", ""),
                status.get("device") or _NONE,
                _number(progress.get("iterations")),
                _energy(progress.get("bestValue")),
                _NONE if ttns is None else f"{ttns / 1000:.3f} s",
                _NONE if not usage else f"{usage.get('qpuMilliseconds', 0) / 1000:.1f} s",
                age(metadata.get("creationTimestamp"), now),
            )
        )
    heads = ("SESSION", "STATE", "WHY", "DEVICE", "ITERATION", "BEST", "TTNS", "QPU", "AGE")
    return Table(
        "Sessions",
        (*(("NAMESPACE",) if with_namespace else ()), *heads),
        tuple(rows),
        frozenset({"NAMESPACE", "SESSION", "STATE", "WHY", "DEVICE"}),
    )


def devices_table(devices: Iterable[Document], *, now: datetime) -> Table:
    """One row a device."""
    rows = []
    for device in sorted(devices, key=lambda each: str(each["metadata"]["name"])):
        status, spec = _status(device), device["spec"]
        calibration = status.get("calibration") or {}
        error = calibration.get("twoQubitErrorPpm")
        rows.append(
            (
                device["metadata"]["name"],
                status.get("state") or "Pending",
                _first_reason(status),
                _number(status.get("qubits") or None),
                _number(calibration.get("epoch")),
                age(calibration.get("time"), now),
                _NONE if not error else f"{error / 1e4:.2f} %",
                f"{status.get('activeSessions', 0)}/{spec.get('slots', 4)}",
                _number(status.get("queueDepth")),
                f"{status.get('dutyCyclePermille', 0) / 10:.0f} %",
                status.get("node") or _NONE,
            )
        )
    heads = (
        "DEVICE", "STATE", "WHY", "QUBITS", "EPOCH", "CALIBRATED", "2Q ERROR", "SESSIONS", "QUEUE", "DUTY",
        "NODE",
    )  # fmt: skip
    return Table("Devices", heads, tuple(rows), frozenset({"DEVICE", "STATE", "WHY", "NODE"}))


def usage_table(sessions: Iterable[Document], *, by: str) -> Table:
    """Sums of what sessions used, by ``namespace``, ``device`` or ``session``; most QPU time first."""
    sums: dict[str, list[int]] = {}
    for session in sessions:
        status, metadata = _status(session), session["metadata"]
        usage = status.get("usage") or {}
        key = {
            "namespace": metadata["namespace"],
            "device": status.get("device") or _NONE,
            "session": f"{metadata['namespace']}/{metadata['name']}",
        }[by]
        row = sums.setdefault(key, [0, 0, 0, 0, 0])
        for index, name in enumerate(("qpuMilliseconds", "cpuMilliseconds", "shots", "wastedShots")):
            row[index] += usage.get(name, 0)
        row[4] += 1
    total = sum(row[0] for row in sums.values())
    rows = tuple(
        (
            key,
            str(count),
            f"{qpu_ms / 1000:.3f}",
            f"{qpu_ms / total:.1%}" if total else _NONE,
            f"{cpu_ms / 1000:.1f}",
            f"{shots:,}",
            f"{wasted:,}",
        )
        for key, (qpu_ms, cpu_ms, shots, wasted, count) in sorted(
            sums.items(), key=lambda item: (-item[1][0], item[0])
        )
    )
    heads = (by.upper(), "SESSIONS", "QPU S", "OF ALL", "CPU S", "SHOTS", "SPECULATED IN VAIN")
    return Table("Usage of the sessions that are there", heads, rows, frozenset({by.upper()}))


def text_of(table: Table) -> str:
    """The table as plain text, as kubectl prints tables."""
    rows = (table.heads, *table.rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.heads))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if head in table.left_aligned else cell.rjust(width)
            for cell, width, head in zip(row, widths, table.heads, strict=True)
        ]
        lines.append("   ".join(cells).rstrip())
    return "\n".join(lines)


def age(since: str | None, now: datetime) -> str:
    """How long ago a time of the API server was, as kubectl writes ages."""
    if not since:
        return _NONE
    seconds = max(0, int((now - datetime.fromisoformat(since)).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def now_utc() -> datetime:
    """The present moment."""
    return datetime.now(UTC)


def _status(document: Document) -> Document:
    status: Document = document.get("status") or {}
    return status


def _waits(status: Document) -> str:
    position = (status.get("queue") or {}).get("position")
    reason = str(status.get("reason", ""))
    return reason if position is None else f"{reason}, {position} before it".lstrip(", ")


def _first_reason(status: Document) -> str:
    for condition in status.get("conditions") or ():
        if condition["status"] != "True":
            return str(condition["reason"])
    return ""


def _energy(value: Any) -> str:
    return _NONE if value is None else f"{float(value):.5f}"


def _number(value: Any) -> str:
    return _NONE if value is None else str(value)
