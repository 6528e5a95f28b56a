"""What the server must not forget: results, charges, lease epochs, calibrations, the device clock.

`Ledger` is the state in memory, an `Entry` (`efaas_qpu.entries`) what one event changes about it.
`DurableLedger` writes each entry as one record of a log (`efaas.journal`) before anyone is told of it, so a
charge and the result that it is for are in the log together or not at all. A server that is killed and
started again reads the log and goes on: completed jobs are answered from it, nothing is charged twice.

An entry is written when `commit` returns, which survives a kill of the process; it is on disk within a second
(`flush`), which survives a loss of power. A result that is lost in that second is with its runner, who puts
it on disk before asking for more.

Calibrations are logged with all that they measured. The ledger keeps those from which the device, true and
known, can be made again: the last full one, and localised ones after it as long as they are the newest word
on some qubit or pair. Of the last `HISTORY_LENGTH` calibrations it keeps what people read.

Everything is bounded: kept results by number and bytes, charge keys and sessions by number; what is oldest
makes way. When the log has grown by more than `log_bytes`, it is written anew from the state (`compact`).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from efaas.core.calibration import HISTORY_LENGTH, CalibrationEpoch
from efaas.core.qpu.messages import CalibrationScope
from efaas.core.uses import LOST, NS, Uses, whole_ns
from efaas.journal import Journal
from efaas_qpu.entries import (
    Booking,
    Entry,
    Kept,
    Known,
    Lease,
    PastCalibration,
    entry_from_record,
    entry_to_record,
    is_another,
    kept_from_record,
    kept_to_record,
    past_from_record,
    past_to_record,
)
from efaas_qpu.limits import ServerLimits


class Ledger:
    """The state, and how an entry changes it."""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self.clock_s = 0.0
        """Device clock at the last entry."""
        self.busy_s = 0.0
        """Device seconds of shots, ever."""
        self.calibrating_s = 0.0
        """Device seconds of calibration, ever."""
        self.first_job_s: float | None = None
        """Device time of the first shots, for the duty cycle."""
        self.unbilled_s = 0.0
        """Device seconds booked on nobody."""
        self.uses = Uses()
        """Where all of the time went."""
        self.epochs: list[CalibrationEpoch] = []
        """Calibrations from which the device can be made again, oldest first; see the module's text."""
        self.history: deque[PastCalibration] = deque(maxlen=HISTORY_LENGTH)
        """The last calibrations, oldest first."""
        self.sessions: OrderedDict[str, Known] = OrderedDict()
        """By name, heard of longest ago first."""
        self.kept: OrderedDict[str, Kept] = OrderedDict()
        """Results by job id, oldest first."""
        self.kept_bytes = 0
        self._kept_of: dict[str, int] = {}
        self._charged: OrderedDict[str, str] = OrderedDict()
        """Session by key of a charge; empty: nobody's, or not known any more."""

    def is_charged(self, key: str) -> bool:
        """Whether a charge with this key was booked."""
        return key in self._charged

    def apply(self, entry: Entry) -> None:
        """Take an entry into the state."""
        self.clock_s = max(self.clock_s, entry.clock_s)
        if entry.busy_s and self.first_job_s is None:
            self.first_job_s = max(0.0, entry.clock_s - entry.busy_s)
        self.busy_s += entry.busy_s
        self.calibrating_s += entry.calibrating_s
        self.uses.held_ns += entry.held_ns
        if entry.calibration is not None:
            self.history.append(PastCalibration.of(entry.calibration))
            self._measure(entry.calibration.measured)
        for name, lease in entry.sessions.items():
            self._lease(name, lease)
        for booking in entry.bookings:
            self._book(booking)
        for kept in entry.kept:
            self._keep(kept)
            known = self.sessions.get(kept.session, Known())
            self._remember(
                kept.session,
                replace(
                    known,
                    jobs_done=known.jobs_done + 1,
                    last_job_at_s=max(known.last_job_at_s, entry.wall_s),
                ),
            )
        for job_id in entry.freed:
            self._free(job_id)

    def _measure(self, epoch: CalibrationEpoch) -> None:
        kept: list[CalibrationEpoch] = []
        newer: set[object] = set()
        # From the newest back: one stays while it has the last word on something.
        for other in (epoch, *reversed(self.epochs)):
            items = {*other.qubits, *other.couplings}
            if other.scope is CalibrationScope.FULL or not items <= newer:
                kept.append(other)
                newer |= items
            if other.scope is CalibrationScope.FULL:
                break
        self.epochs = kept[::-1]

    def _lease(self, name: str, lease: Lease) -> None:
        known = self.sessions.get(name, Known())
        if is_another(known, lease.uid):
            # Its jobs may have the ids of those of the one before: neither results nor charges are shared.
            for kept in [kept for kept in self.kept.values() if kept.session == name]:
                self._free(kept.job_id)
            for key in [key for key, session in self._charged.items() if session == name]:
                del self._charged[key]
            known = Known()
        self._remember(
            name,
            replace(
                known,
                seed=known.seed if lease.seed is None else lease.seed,
                lease_epoch=lease.epoch,
                uid=lease.uid or known.uid,
            ),
        )

    def _remember(self, name: str, known: Known) -> None:
        self.sessions[name] = known
        self.sessions.move_to_end(name)
        while len(self.sessions) > self._limits.known_sessions:
            forgotten, _ = self.sessions.popitem(last=False)
            self.uses.forget(forgotten)

    def _book(self, booking: Booking) -> None:
        if booking.key in self._charged:
            return
        self._charged[booking.key] = booking.session or ""
        while len(self._charged) > self._limits.charge_keys:
            self._charged.popitem(last=False)
        self.uses.add(booking.session, booking.what, whole_ns(booking.qpu_s), booking.shots)
        if booking.session is None:
            self.unbilled_s += booking.qpu_s
            return
        known = self.sessions.get(booking.session, Known())
        self._remember(
            booking.session,
            replace(known, shots=known.shots + booking.shots, qpu_s=known.qpu_s + booking.qpu_s),
        )

    def _keep(self, kept: Kept) -> None:
        self._free(kept.job_id)
        self.kept[kept.job_id] = kept
        self.kept_bytes += len(kept.result)
        self._kept_of[kept.session] = self._kept_of.get(kept.session, 0) + 1
        if self._kept_of[kept.session] > self._limits.kept_results_of_session:
            self._free(next(other.job_id for other in self.kept.values() if other.session == kept.session))
        # The newest result always stays: its runner has not had it yet.
        while len(self.kept) > 1 and (
            len(self.kept) > self._limits.kept_results or self.kept_bytes > self._limits.kept_bytes
        ):
            self._free(next(iter(self.kept)))

    def _free(self, job_id: str) -> None:
        kept = self.kept.pop(job_id, None)
        if kept is None:
            return
        self.kept_bytes -= len(kept.result)
        self._kept_of[kept.session] -= 1
        if not self._kept_of[kept.session]:
            del self._kept_of[kept.session]

    # --- as records -------------------------------------------------------------------------------

    def snapshot(self) -> Iterator[dict[str, Any]]:
        """The whole state as records; `restore` takes them back."""
        yield {
            "state": {
                "clock_s": self.clock_s,
                "busy_s": self.busy_s,
                "calibrating_s": self.calibrating_s,
                "first_job_s": self.first_job_s,
                "unbilled_s": self.unbilled_s,
                "uses": self.uses.to_json(),
                "sessions": [
                    [
                        name,
                        known.seed,
                        known.lease_epoch,
                        known.jobs_done,
                        known.shots,
                        known.qpu_s,
                        known.uid,
                        known.last_job_at_s,
                    ]
                    for name, known in self.sessions.items()
                ],
            }
        }
        for epoch in self.epochs:
            yield {"epoch": epoch.to_json()}
        if self.history:
            yield {"calibrations": [past_to_record(past) for past in self.history]}
        keys = [[key, session] for key, session in self._charged.items()]
        for first in range(0, len(keys), 1000):
            yield {"charged": keys[first : first + 1000]}
        for kept in self.kept.values():
            yield {"kept": kept_to_record(kept)}

    def restore(self, record: Mapping[str, Any]) -> None:
        """Take one record of the log: an entry, or a part of a snapshot."""
        if "state" in record:
            state = record["state"]
            self.clock_s, self.busy_s = state["clock_s"], state["busy_s"]
            self.calibrating_s, self.unbilled_s = state["calibrating_s"], state["unbilled_s"]
            self.first_job_s = state["first_job_s"]
            if "uses" in state:
                self.uses.read(**state["uses"])
            for name, *known in state["sessions"]:
                self.sessions[name] = Known(*known)
        elif "epoch" in record:
            self._measure(CalibrationEpoch.from_json(record["epoch"]))
        elif "calibrations" in record:
            self.history.extend(past_from_record(past) for past in record["calibrations"])
        elif "charged" in record:
            # Logs of earlier versions hold keys without their sessions.
            for item in record["charged"]:
                key, session = (item, "") if isinstance(item, str) else item
                self._charged[key] = session
        elif "kept" in record:
            self._keep(kept_from_record(record["kept"]))
        else:
            self.apply(entry_from_record(record))


class DurableLedger:
    """The ledger with its log.

    Args:
        journal: the log; read at once.
        limits: bounds of the ledger and of the log's growth.
    """

    def __init__(self, journal: Journal, limits: ServerLimits) -> None:
        self._journal = journal
        self._limits = limits
        self._grown_bytes = 0
        self._unsynced = False
        self.state = Ledger(limits)
        self.compactions = 0
        self.fault: Exception | None = None
        """Why the log could not be written; nothing is taken any more after that."""
        for record in journal.records():
            self.state.restore(record)
        lost_ns = self.state.uses.pending_ns
        if lost_ns > 0:  # no job of an earlier server is under way any more
            self.state.unbilled_s += lost_ns / NS
            self.state.uses.add(None, LOST, lost_ns, 0)
        if len(journal):
            self.compact()

    def commit(self, entry: Entry) -> None:
        """Write an entry and take it into the state; written means safe from a kill of this process.

        Raises:
            OSError, EfaasError: it could not be written, or an earlier one could not: see `fault`.
        """
        if self.fault is not None:
            raise self.fault
        try:
            self._journal.append(entry_to_record(entry), durable=False)
        except Exception as error:
            self.fault = error
            raise
        self._unsynced = True
        self.state.apply(entry)
        self._grown_bytes += 256 + sum(len(kept.result) * 4 // 3 for kept in entry.kept)
        if self._grown_bytes > self._limits.log_bytes:
            self.compact()

    def compact(self) -> None:
        """Write the log anew from the state; atomic."""
        self._journal.replace(self.state.snapshot())
        self._grown_bytes = 0
        self._unsynced = False
        self.compactions += 1

    def flush(self) -> None:
        """Return when everything committed is on disk; may run in another thread."""
        if self._unsynced:
            self._unsynced = False
            self._journal.flush()

    def close(self) -> None:
        """Flush and give the log up."""
        self._journal.close()
