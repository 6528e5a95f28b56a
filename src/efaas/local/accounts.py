"""Where the time of a device went, from the log that its server keeps.

Every charge is in the log once, in whole nanoseconds, and so is the time for which the device was held.
Whatever was killed or resumed in between, billed + unbilled + pending is exactly that time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from efaas.journal.directory import read_records

NS = 1_000_000_000


@dataclass(slots=True)
class DeviceUses:
    """Where the time of one device went, since it was new."""

    held_ns: int = 0
    """Time for which the device was held: shots, turning between jobs, calibration."""
    by: dict[tuple[str | None, str], tuple[int, int]] = field(default_factory=dict)
    """(nanoseconds, shots) by session and what for; session None: nobody's."""

    @property
    def billed_ns(self) -> int:
        """Charged to sessions."""
        return sum(ns for (session, _), (ns, _) in self.by.items() if session is not None)

    @property
    def unbilled_ns(self) -> int:
        """Charged to nobody."""
        return sum(ns for (session, _), (ns, _) in self.by.items() if session is None)

    @property
    def pending_ns(self) -> int:
        """Of jobs that have no result: none, once all sessions have ended."""
        return self.held_ns - self.billed_ns - self.unbilled_ns

    def of(self, session: str | None) -> dict[str, tuple[int, int]]:
        """(nanoseconds, shots) by what for, of one session or of nobody."""
        return {what: use for (who, what), use in self.by.items() if who == session}


def read_device_uses(log: Path) -> DeviceUses:
    """Add up what a QPU server has logged; a folder without a log gives nothing.

    Args:
        log: the folder of the log; its server may be running.

    Raises:
        EfaasError: the log is damaged.
    """
    uses = DeviceUses()
    for record in read_records(log):
        if "state" in record:
            told = record["state"].get("uses", {"held_ns": 0, "by": []})
            uses.held_ns = told["held_ns"]
            uses.by = {(session, what): (ns, shots) for session, what, ns, shots in told["by"]}
        uses.held_ns += record.get("held_ns", 0)
        for _, session, qpu_s, shots, what in record.get("bookings", ()):
            ns_before, shots_before = uses.by.get((session, what), (0, 0))
            uses.by[session, what] = (ns_before + round(qpu_s * NS), shots_before + shots)
    return uses
