"""What journal records say, as rows that can be asked: trajectories, usage, results, calibrations, events.

A record that holds nothing of interest derives nothing; a record whose values are not what they should be
derives what can be read (a user's program may write what it likes), and is kept in any case. When this is
done, and how often, is the business of `efaas_gateway.store.pending`.

Where charges come from: QPU seconds are charged by the device's own journal, CPU seconds by the runner's. A
gateway that sees no device journals (`efaas run --ui`) takes both from the runner's (`charge_devices`).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from efaas_gateway.store.tables import evaluations

_LARGEST = 1e15


@dataclass(frozen=True, slots=True)
class Charge:
    """A row of usage, as accounts and live updates hear of it."""

    tenant: str
    session: str
    device: str
    cpu_s: float
    qpu_s: float


@dataclass(slots=True)
class Derived:
    """What a batch of records changed."""

    charges: list[Charge] = field(default_factory=list)
    updates: list[dict[str, Any]] = field(default_factory=list)
    """For live views: JSON-ready, each with ``kind`` and, where it belongs to one, ``namespace``."""


@dataclass(slots=True)
class _Sums:
    """What a session's row grows by."""

    iterations: int = 0
    evaluations: int = 0
    shots: int = 0
    qpu_s: float = 0.0
    cpu_s: float = 0.0
    last: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source:
    """A journal whose records are derived, and what is known of its session before them."""

    journal: int
    kind: str
    name: str
    tenant: str
    session: int | None
    device: str
    """Of the session's last evaluation; empty: there was none."""
    best: float | None


@dataclass(frozen=True, slots=True)
class Record:
    """A record on its way out."""

    source: Source
    at: float
    """When it came."""
    body: bytes


class Rows:
    """Gathers what records say over a batch, and writes each table once.

    Args:
        charge_devices: charge QPU seconds from runners' records, for want of device journals.
        live: whether anybody hears of changes; making them takes a good part of the time.
    """

    def __init__(self, *, charge_devices: bool = False, live: bool = True) -> None:
        self.charge_devices = charge_devices
        self.live = live
        self.now = 0.0
        self.derived = Derived()
        self.evaluations: list[tuple[Any, ...]] = []
        self.usage: list[tuple[Any, ...]] = []
        self.results: list[tuple[Any, ...]] = []
        self.freed: list[tuple[str, str]] = []
        self.calibrations: list[tuple[Any, ...]] = []
        self.events: list[tuple[Any, ...]] = []
        self.sums: dict[int, _Sums] = {}
        self._best: dict[int, float] = {}
        self._device: dict[int, str] = {}

    def take_record(self, item: Record) -> None:
        """Take a record; in the order of its journal."""
        try:
            record = json.loads(item.body)
        except (ValueError, RecursionError):
            return
        if isinstance(record, dict):
            self.now = item.at
            self.take(item.source, record)

    def take(self, source: Source, record: dict[str, Any]) -> None:
        """Take what a record holds."""
        if source.kind == "device":
            self._take_device(source, record)
        elif record.get("kind") in ("iteration", "final", "submit"):
            self._take_evaluation(source, record)
        elif record.get("kind") == "finish":
            self._sums(source).last["result"] = _result(record)

    # --- sessions -----------------------------------------------------------------------------------

    def _sums(self, source: Source) -> _Sums:
        sums = self.sums.get(source.session or 0)
        if sums is None:
            sums = self.sums[source.session or 0] = _Sums()
        return sums

    def _take_evaluation(self, source: Source, record: dict[str, Any]) -> None:
        jobs = [job for job in _list(record.get("jobs")) if isinstance(job, dict)]
        job: dict[str, Any] = jobs[0] if jobs else {}
        timing = job.get("timing")
        timing = timing if isinstance(timing, dict) else {}
        evaluation = _integer(record.get("evaluation", record.get("number")))
        session = source.session
        if evaluation is None or session is None:
            return
        energy = _number(record.get("energy"))
        best = self._best.get(session, source.best)
        if energy is not None and record["kind"] != "final":
            best = energy if best is None else min(best, energy)
        if best is not None:
            self._best[session] = best
        device = job["device"] if isinstance(job.get("device"), str) else ""
        round_trip_s = max((_timing(each, "round_trip_s") or 0.0 for each in jobs), default=0.0)
        server_s = _number(timing.get("server_s")) or 0.0
        cpu_s = max(0.0, _number(record.get("cpu_s")) or 0.0)
        qpu_s = sum(max(0.0, _number(each.get("qpu_s")) or 0.0) for each in jobs)
        shots = sum(_integer(each.get("shots")) or 0 for each in jobs)
        iteration_s = _number(record.get("iteration_s"))
        speculation = record.get("speculation")
        row = {
            "session": session,
            "evaluation": evaluation,
            "iteration": _integer(record.get("iteration")) or 0,
            "at": self.now,
            "energy": energy,
            "std_error": _number(record.get("std_error")),
            "best": best,
            "ttns_s": _number(job.get("ttns_s")),
            "network_s": max(0.0, round_trip_s - server_s),
            "queue_s": max(
                0.0, (_timing(job, "wall_queue_s") or 0.0) - (_timing(job, "wall_calibration_s") or 0.0)
            ),
            "calibration_s": _timing(job, "wall_calibration_s"),
            "execution_s": _timing(job, "wall_execution_s"),
            "round_trip_s": round_trip_s,
            "cpu_s": None if iteration_s is None else max(0.0, iteration_s - round_trip_s),
            "speculative_s": _number(speculation.get("masked_s")) if isinstance(speculation, dict) else None,
            "shots": shots,
            "qpu_s": qpu_s,
            "device": device,
            "calibration_epoch": _integer(job.get("calibration_epoch")),
            "calibration_age_s": _number(job.get("calibration_age_s")),
            "elapsed_s": _number(record.get("elapsed_s")),
        }
        self.evaluations.append(tuple(row.values()))
        self._note_move(source, device)
        sums = self._sums(source)
        sums.evaluations += max(1, len(jobs))
        sums.shots += shots
        sums.qpu_s += qpu_s
        sums.cpu_s += cpu_s
        sums.iterations = max(
            sums.iterations,
            _integer(record.get("iterations_done")) or row["iteration"] + (record["kind"] != "final"),
        )
        sums.last.update(
            {name: row[name] for name in ("energy", "std_error", "best") if row[name] is not None},
            ttns_s=row["ttns_s"],
            elapsed_s=row["elapsed_s"],
            calibration_age_s=row["calibration_age_s"],
        )
        if record["kind"] == "final":
            sums.last["result"] = _result(record)
        self._charge(source, f"{source.name}#{evaluation}", device, cpu_s, qpu_s, shots)
        if self.live:
            del row["session"]
            namespace, _, name = source.name.partition("/")
            self.derived.updates.append({"kind": "evaluation", "namespace": namespace, "name": name, **row})

    def _note_move(self, source: Source, device: str) -> None:
        session = source.session
        if not device or session is None:
            return
        before = self._device.get(session, source.device)
        if before and device != before:
            self._event(source, device, "Moved", f"iterations move from {before} to {device}")
        self._device[session] = device

    def _event(self, source: Source, device: str, reason: str, message: str) -> None:
        namespace, _, name = source.name.partition("/")
        event = {
            "at": self.now,
            "namespace": namespace,
            "session": name,
            "device": device,
            "reason": reason,
            "message": message,
        }
        self.events.append(tuple(event.values()))
        self.derived.updates.append({"kind": "event", **event})

    def _charge(self, source: Source, key: str, device: str, cpu_s: float, qpu_s: float, shots: int) -> None:
        if not self.charge_devices:
            qpu_s, shots = 0.0, 0
        if cpu_s or qpu_s or shots:
            self._use("runner", key, source.tenant, source.name, device, "iteration", cpu_s, qpu_s, shots)

    def _use(
        self,
        source: str,
        key: str,
        tenant: str,
        session: str,
        device: str,
        what: str,
        cpu_s: float,
        qpu_s: float,
        shots: int,
    ) -> None:
        self.usage.append((source, key, self.now, tenant, session, device, what, cpu_s, qpu_s, shots))
        if tenant:
            self.derived.charges.append(Charge(tenant, session, device, cpu_s, qpu_s))

    # --- devices ------------------------------------------------------------------------------------

    def _take_device(self, journal: Source, record: dict[str, Any]) -> None:
        device = journal.name
        for booking in _rows_of(record.get("bookings"), 5):
            key, session, qpu_s, shots, what = booking
            name = session if isinstance(session, str) else ""
            self._use(
                f"qpu/{device}",
                str(key),
                name.partition("/")[0],
                name,
                device,
                str(what),
                0.0,
                max(0.0, _number(qpu_s) or 0.0),
                _integer(shots) or 0,
            )
        for kept in _rows_of(record.get("results"), 4):
            job, session, _per_shot, body = kept
            try:
                content = base64.b64decode(body)
            except (TypeError, ValueError, binascii.Error):
                continue
            self.results.append((device, str(job), str(session), self.now, content, False))
        self.freed += [(device, str(job)) for job in _list(record.get("freed")) if isinstance(job, str)]
        self._take_calibration(device, _list(record.get("calibration")))

    def _take_calibration(self, device: str, told: list[Any]) -> None:
        """Either (epoch, device time), or what was measured, how long it took, for whom and why."""
        measured = told[0] if told and isinstance(told[0], dict) else {}
        epoch = _integer(measured.get("id", told[0] if told else None))
        clock_s = _number(measured.get("finishedS", told[1] if len(told) > 1 else None))
        if epoch is None or clock_s is None:
            return
        detail: dict[str, Any] = {}
        if measured:
            detail["scope"] = str(measured.get("scope", ""))[:40]
        if len(told) == 4:
            detail |= {"busy_s": _number(told[1]), "reason": str(told[3])[:500]}
        row = {"device": device, "epoch": epoch, "clock_s": clock_s}
        self.calibrations.append((device, epoch, clock_s, self.now, json.dumps(detail)))
        self.derived.updates.append({"kind": "calibration", **row, **detail})

    # --- writing ------------------------------------------------------------------------------------

    def write(self, connection: Connection) -> None:
        """Write everything; inside a writing transaction."""
        words = _STATEMENTS[connection.dialect.name]
        # What was kept is written before what was freed: one batch may hold both.
        for statement, rows in (
            (words.evaluations, self.evaluations),
            (words.usage, self.usage),
            (words.results, self.results),
            (words.calibrations, self.calibrations),
            (words.freed, self.freed),
            (words.events, self.events),
            (words.sums, [self._sums_row(key) for key in sorted(self.sums) if key]),
        ):
            if rows:
                connection.exec_driver_sql(statement, rows)

    def _sums_row(self, key: int) -> tuple[Any, ...]:
        sums = self.sums[key]
        return (
            self.now,
            *(sums.iterations, sums.iterations),
            *(sums.evaluations, sums.shots, sums.qpu_s, sums.cpu_s),
            *[self._device.get(key, "")] * 2,
            *(sums.last.get(name) for name in _LASTING),
            key,
        )


_LASTING = {
    "energy": "float8",
    "std_error": "float8",
    "best": "float8",
    "ttns_s": "float8",
    "elapsed_s": "float8",
    "calibration_age_s": "float8",
    "result": "text",
}


@dataclass(frozen=True, slots=True)
class _Statements:
    """In the driver's own words: rows go down as they are, a thousand at a time."""

    evaluations: str
    usage: str
    results: str
    calibrations: str
    freed: str
    events: str
    sums: str


def _statements(mark: str, cast: Callable[[str], str]) -> _Statements:
    def new(table: str, columns: str, *, known: str = " ON CONFLICT DO NOTHING") -> str:
        marks = ", ".join([mark] * len(columns.split()))
        return f"INSERT INTO {table} ({', '.join(columns.split())}) VALUES ({marks}){known}"

    kept = ", ".join(f"{name} = COALESCE({cast(kind)}, {name})" for name, kind in _LASTING.items())
    return _Statements(
        evaluations=new("evaluations", " ".join(column.name for column in evaluations.columns)),
        usage=new("usage", "source key at tenant session device what cpu_s qpu_s shots"),
        results=new("results", "device job session at body acknowledged"),
        calibrations=new("calibrations", "device epoch clock_s at detail"),
        freed=f"DELETE FROM results WHERE device = {mark} AND job = {mark}",
        events=new("events", "at namespace session device reason message", known=""),
        sums=(
            f"UPDATE sessions SET updated_at = {mark}, "
            f"iterations = CASE WHEN iterations < {mark} THEN {mark} ELSE iterations END, "
            f"evaluations = evaluations + {mark}, shots = shots + {mark}, "
            f"qpu_s = qpu_s + {mark}, cpu_s = cpu_s + {mark}, "
            f"device = CASE WHEN {cast('text')} = '' THEN device ELSE {mark} END, {kept} WHERE id = {mark}"
        ),
    )


_STATEMENTS = {
    "sqlite": _statements("?", lambda _: "?"),
    "postgresql": _statements("%s", lambda kind: f"%s::{kind}"),
}


def _result(record: Mapping[str, Any]) -> str:
    wanted = ("energy", "std_error", "point", "parameters", "further", "cut")
    return json.dumps({name: record[name] for name in wanted if name in record})


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _rows_of(value: object, width: int) -> list[list[Any]]:
    return [row for row in _list(value) if isinstance(row, list) and len(row) == width]


def _timing(job: Mapping[str, Any], name: str) -> float | None:
    timing = job.get("timing")
    return _number(timing.get(name)) if isinstance(timing, dict) else None


def _number(value: object) -> float | None:
    if type(value) is float:  # nearly always
        return value if -_LARGEST <= value <= _LARGEST else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        converted = float(value)
    except OverflowError:
        return None
    # Sums of what is let in stay finite.
    return converted if abs(converted) <= _LARGEST else None


def _integer(value: object) -> int | None:
    return (
        value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST else None
    )
