"""What journal records say, as rows that can be asked: trajectories, usage, results, calibrations, events.

It is derived in the transaction that takes the records, so that a trajectory never knows more or less than
its journal. A record that holds nothing of interest derives nothing; a record whose values are not what they
should be derives what can be read (a user's program may write what it likes), and is kept in any case.

Where charges come from: QPU seconds are charged by the device's own journal, CPU seconds by the runner's. A
gateway that sees no device journals (`efaas run --ui`) takes both from the runner's (`charge_devices`).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, case, cast, delete, func, update
from sqlalchemy.dialects import postgresql, sqlite

from efaas_gateway.store.journals import Taken
from efaas_gateway.store.tables import calibrations, evaluations, events, results, sessions, usage

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


def derive(
    connection: Connection, taken: Iterable[Taken], now: float, *, charge_devices: bool = False
) -> Derived:
    """Write what new records say.

    Args:
        connection: the transaction that took them.
        taken: in the order of each journal.
        now: seconds since 1970.
        charge_devices: charge QPU seconds from runners' records, for want of device journals.

    Returns:
        What changed, for accounts and live views once the transaction is committed.
    """
    derived = Derived()
    rows = _Rows(charge_devices=charge_devices, now=now, derived=derived)
    for item in taken:
        try:
            record = json.loads(item.append.body)
        except ValueError:
            continue
        if isinstance(record, dict):
            rows.take(item, record)
    rows.write(connection)
    return derived


class _Rows:
    """Gathers rows over a batch and writes each table once."""

    def __init__(self, *, charge_devices: bool, now: float, derived: Derived) -> None:
        self.charge_devices = charge_devices
        self.now = now
        self.derived = derived
        self.evaluations: list[dict[str, Any]] = []
        self.usage: list[dict[str, Any]] = []
        self.results: list[dict[str, Any]] = []
        self.freed: list[dict[str, Any]] = []
        self.calibrations: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.sums: dict[int, _Sums] = {}
        self._best: dict[int, float] = {}
        self._device: dict[int, str] = {}

    def take(self, item: Taken, record: dict[str, Any]) -> None:
        if item.head["kind"] == "device":
            self._take_device(item, record)
        elif record.get("kind") in ("iteration", "final", "submit"):
            self._take_evaluation(item, record)
        elif record.get("kind") == "finish":
            self._sums(item).last["result"] = _result(record)

    # --- sessions -----------------------------------------------------------------------------------

    def _sums(self, item: Taken) -> _Sums:
        return self.sums.setdefault(item.head["session"], _Sums())

    def _take_evaluation(self, item: Taken, record: dict[str, Any]) -> None:
        head = item.head
        jobs = [job for job in _list(record.get("jobs")) if isinstance(job, dict)]
        job: dict[str, Any] = jobs[0] if jobs else {}
        timing = job.get("timing")
        timing = timing if isinstance(timing, dict) else {}
        evaluation = _integer(record.get("evaluation", record.get("number")))
        session = head["session"]
        if evaluation is None or session is None:
            return
        energy = _number(record.get("energy"))
        best = self._best.get(session, head["session_best"])
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
        self.evaluations.append(row)
        self._note_move(item, device)
        sums = self._sums(item)
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
        self._charge(item, f"{head['name']}#{evaluation}", device, cpu_s, qpu_s, shots)
        self.derived.updates.append(
            {
                "kind": "evaluation",
                "namespace": head["namespace"],
                "name": head["session_name"],
                **{name: value for name, value in row.items() if name != "session"},
            }
        )

    def _note_move(self, item: Taken, device: str) -> None:
        session = item.head["session"]
        before = self._device.get(session, item.head["session_device"] or "")
        if device and before and device != before:
            self.events.append(
                self._event(item, device, "Moved", f"iterations move from {before} to {device}")
            )
        if device:
            self._device[session] = device

    def _event(self, item: Taken, device: str, reason: str, message: str) -> dict[str, Any]:
        namespace, _, name = item.head["name"].partition("/")
        event = {
            "at": self.now,
            "namespace": namespace,
            "session": name,
            "device": device,
            "reason": reason,
            "message": message,
        }
        self.derived.updates.append({"kind": "event", **event})
        return event

    def _charge(self, item: Taken, key: str, device: str, cpu_s: float, qpu_s: float, shots: int) -> None:
        if not self.charge_devices:
            qpu_s, shots = 0.0, 0
        if cpu_s or qpu_s or shots:
            self._use(
                "runner",
                key,
                item.head["tenant"],
                item.head["name"],
                device,
                "iteration",
                cpu_s,
                qpu_s,
                shots,
            )

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
        self.usage.append(
            {
                "source": source,
                "key": key,
                "at": self.now,
                "tenant": tenant,
                "session": session,
                "device": device,
                "what": what,
                "cpu_s": cpu_s,
                "qpu_s": qpu_s,
                "shots": shots,
            }
        )
        if tenant:
            self.derived.charges.append(Charge(tenant, session, device, cpu_s, qpu_s))

    # --- devices ------------------------------------------------------------------------------------

    def _take_device(self, item: Taken, record: dict[str, Any]) -> None:
        device = item.head["name"]
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
            self.results.append(
                {"device": device, "job": str(job), "session": str(session), "at": self.now, "body": content}
            )
        self.freed += [
            {"b_device": device, "b_job": str(job)}
            for job in _list(record.get("freed"))
            if isinstance(job, str)
        ]
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
        self.calibrations.append({**row, "at": self.now, "detail": json.dumps(detail)})
        self.derived.updates.append({"kind": "calibration", **row, **detail})

    # --- writing ------------------------------------------------------------------------------------

    def write(self, connection: Connection) -> None:
        for table, rows in (
            (evaluations, self.evaluations),
            (usage, self.usage),
            (results, self.results),
            (calibrations, self.calibrations),
        ):
            if rows:
                connection.execute(_INSERT_NEW[connection.dialect.name, table.name], rows)
        if self.freed:
            connection.execute(
                delete(results).where(
                    results.c.device == bindparam("b_device"), results.c.job == bindparam("b_job")
                ),
                self.freed,
            )
        if self.events:
            connection.execute(events.insert(), self.events)
        if self.sums:
            self._write_sums(connection)

    def _write_sums(self, connection: Connection) -> None:
        connection.execute(
            _ADD_SUMS,
            [
                {
                    "b_id": key,
                    "b_now": self.now,
                    "b_iterations": sums.iterations,
                    "b_evaluations": sums.evaluations,
                    "b_shots": sums.shots,
                    "b_qpu_s": sums.qpu_s,
                    "b_cpu_s": sums.cpu_s,
                    "b_device": self._device.get(key, ""),
                    **{f"b_{name}": sums.last.get(name) for name in _LASTING},
                }
                for key, sums in self.sums.items()
            ],
        )


_LASTING = ("energy", "std_error", "best", "ttns_s", "elapsed_s", "calibration_age_s", "result")


def _add_sums() -> Any:
    def kept(name: str) -> Any:
        column = sessions.c[name]
        return func.coalesce(cast(bindparam(f"b_{name}"), column.type), column)

    return (
        update(sessions)
        .where(sessions.c.id == bindparam("b_id"))
        .values(
            updated_at=bindparam("b_now"),
            iterations=case(
                (sessions.c.iterations < bindparam("b_iterations"), bindparam("b_iterations")),
                else_=sessions.c.iterations,
            ),
            evaluations=sessions.c.evaluations + bindparam("b_evaluations"),
            shots=sessions.c.shots + bindparam("b_shots"),
            qpu_s=sessions.c.qpu_s + bindparam("b_qpu_s"),
            cpu_s=sessions.c.cpu_s + bindparam("b_cpu_s"),
            device=case((bindparam("b_device") == "", sessions.c.device), else_=bindparam("b_device")),
            **{name: kept(name) for name in _LASTING},
        )
    )


# Built once: making a statement costs more than running it.
_ADD_SUMS = _add_sums()
_INSERT_NEW = {
    (dialect, table.name): made(table).on_conflict_do_nothing()
    for dialect, made in (("sqlite", sqlite.insert), ("postgresql", postgresql.insert))
    for table in (evaluations, usage, results, calibrations)
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
