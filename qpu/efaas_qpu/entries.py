"""What one event changes about the ledger, and how the log has it.

An `Entry` is one record of the log, so a charge and the result that it is for are there together or not at
all. Records are plain JSON; a field that an older server did not write has the value that it stood for.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from efaas.core.calibration import CalibrationEpoch, TypicalErrors
from efaas.core.qpu.messages import CalibrationScope


@dataclass(frozen=True, slots=True)
class Kept:
    """A completed job's result."""

    job_id: str
    session: str
    per_shot: bool
    result: bytes
    """A serialised wire.Result."""


@dataclass(frozen=True, slots=True)
class Booking:
    """A charge; the same key is booked once."""

    key: str
    session: str | None
    """None: nobody's, unbilled."""
    qpu_s: float
    shots: int
    what: str


@dataclass(frozen=True, slots=True)
class CalibrationRecord:
    """A calibration that ended."""

    measured: CalibrationEpoch
    busy_s: float
    """Device seconds that it took."""
    session: str | None
    """Who paid; None: nobody's job caused it."""
    reason: str


@dataclass(frozen=True, slots=True)
class PastCalibration:
    """What people read of a calibration."""

    id: int
    finished_s: float
    """Device time."""
    scope: CalibrationScope
    qubits: tuple[int, ...]
    """That a localised one covered; none for a full one."""
    busy_s: float
    session: str | None
    reason: str
    errors: TypicalErrors

    @classmethod
    def of(cls, record: CalibrationRecord) -> PastCalibration:
        """What stays of a calibration for people."""
        measured = record.measured
        local = measured.scope is CalibrationScope.LOCAL
        return cls(
            measured.id,
            measured.finished_s,
            measured.scope,
            measured.qubits if local else (),
            record.busy_s,
            record.session,
            record.reason,
            measured.typical_errors(),
        )


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of a session, whether it is here or not."""

    seed: int | None = None
    """Of its shots; None if it has not said hello since it was forgotten."""
    lease_epoch: int = 0
    jobs_done: int = 0
    shots: int = 0
    qpu_s: float = 0.0
    uid: str = ""
    """Of its VQASession; empty outside of a cluster. Another one is another session of the same name."""
    last_job_at_s: float = 0.0
    """When its last job ended, wall seconds since 1970; 0: unknown."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Who may speak for a session from now on."""

    seed: int | None
    """Of its shots; None: as it was."""
    epoch: int
    """The least lease epoch that is not refused."""
    uid: str = ""
    """Of the VQASession; empty: as it was. Another one than before begins the session's books anew."""


def is_another(known: Known, uid: str) -> bool:
    """Whether a VQASession is not the one that is known by its name."""
    return bool(uid and known.uid and uid != known.uid)


@dataclass(slots=True)
class Entry:
    """What one event changes."""

    clock_s: float
    bookings: list[Booking] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    freed: list[str] = field(default_factory=list)
    """Ids of results that need not be kept any more."""
    sessions: dict[str, Lease] = field(default_factory=dict)
    """Leases of sessions that said hello or were fenced."""
    calibration: CalibrationRecord | None = None
    busy_s: float = 0.0
    """Device seconds of shots."""
    calibrating_s: float = 0.0
    """Device seconds of calibration."""
    held_ns: int = 0
    """Whole nanoseconds for which the device was held, for whatever."""
    wall_s: float = 0.0
    """When the jobs whose results are kept ended, wall seconds since 1970; 0: not told."""

    def must_be_written(self) -> bool:
        """Whether anyone may hear of it only when it is in the log."""
        return bool(self.bookings or self.kept or self.sessions or self.calibration)

    def may_be_written(self) -> bool:
        """Whether it changes anything; what is not a *must* may wait for the next record."""
        return bool(self.must_be_written() or self.freed or self.busy_s or self.calibrating_s or self.held_ns)


def kept_to_record(kept: Kept) -> list[Any]:
    """A result as JSON-ready values."""
    return [kept.job_id, kept.session, kept.per_shot, base64.b64encode(kept.result).decode()]


def kept_from_record(record: list[Any]) -> Kept:
    """The result that `kept_to_record` wrote."""
    job_id, session, per_shot, result = record
    return Kept(job_id, session, per_shot, base64.b64decode(result))


def past_to_record(past: PastCalibration) -> list[Any]:
    """A past calibration as JSON-ready values."""
    errors = past.errors
    return [
        past.id,
        past.finished_s,
        past.scope.value,
        list(past.qubits),
        past.busy_s,
        past.session,
        past.reason,
        [errors.one_qubit, errors.two_qubit, errors.readout],
    ]


def past_from_record(record: list[Any]) -> PastCalibration:
    """The past calibration that `past_to_record` wrote."""
    identifier, finished_s, scope, qubits, busy_s, session, reason, errors = record
    return PastCalibration(
        identifier,
        finished_s,
        CalibrationScope(scope),
        tuple(qubits),
        busy_s,
        session,
        reason,
        TypicalErrors(*errors),
    )


def entry_to_record(entry: Entry) -> dict[str, Any]:
    """The entry as JSON-ready values, without what it does not change."""
    record: dict[str, Any] = {"clock_s": entry.clock_s}
    if entry.bookings:
        record["bookings"] = [[b.key, b.session, b.qpu_s, b.shots, b.what] for b in entry.bookings]
    if entry.kept:
        record["results"] = [kept_to_record(kept) for kept in entry.kept]
    if entry.freed:
        record["freed"] = entry.freed
    if entry.sessions:
        record["sessions"] = {
            name: [lease.seed, lease.epoch, lease.uid] for name, lease in entry.sessions.items()
        }
    if entry.calibration:
        done = entry.calibration
        record["calibration"] = [done.measured.to_json(), done.busy_s, done.session, done.reason]
    if entry.busy_s:
        record["busy_s"] = entry.busy_s
    if entry.calibrating_s:
        record["calibrating_s"] = entry.calibrating_s
    if entry.held_ns:
        record["held_ns"] = entry.held_ns
    if entry.wall_s:
        record["wall_s"] = entry.wall_s
    return record


def entry_from_record(record: Mapping[str, Any]) -> Entry:
    """The entry that `entry_to_record` wrote."""
    return Entry(
        clock_s=record["clock_s"],
        bookings=[Booking(*values) for values in record.get("bookings", ())],
        kept=[kept_from_record(values) for values in record.get("results", ())],
        freed=list(record.get("freed", ())),
        sessions={name: Lease(*values) for name, values in record.get("sessions", {}).items()},
        calibration=_calibration_from_record(record["calibration"]) if "calibration" in record else None,
        busy_s=record.get("busy_s", 0.0),
        calibrating_s=record.get("calibrating_s", 0.0),
        held_ns=record.get("held_ns", 0),
        wall_s=record.get("wall_s", 0.0),
    )


def _calibration_from_record(record: list[Any]) -> CalibrationRecord:
    measured, busy_s, session, reason = record
    return CalibrationRecord(CalibrationEpoch.from_json(measured), busy_s, session, reason)
