"""Where all of a device's time went since it was new, in whole nanoseconds.

Each nanosecond for which the device was held is billed to a session, written off on nobody, or pending with a
job that has no result yet: held = billed + unbilled + pending, exactly, at every record of the log. Uses are
kept by session and by what the time was for (`iteration`, `slice-cost`, `calibration`, `rerun`,
`speculation`); those of sessions that are forgotten are summed up under `FORGOTTEN`.

A server that is killed loses what its unfinished jobs had used: they run again. The next one writes that off
as `LOST` when it reads the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

NS = 1_000_000_000

FORGOTTEN = "(forgotten)"
"""Stands for sessions of which nothing else is remembered."""

LOST = "lost"
"""Time of jobs that were under way when a server was killed."""


def whole_ns(seconds: float) -> int:
    """Whole nanoseconds; exact for what the machine charges."""
    return round(seconds * NS)


@dataclass(slots=True)
class Uses:
    """Sums of one device."""

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
        """Of jobs without a result: none, once all sessions have ended."""
        return self.held_ns - self.billed_ns - self.unbilled_ns

    def of(self, session: str | None) -> dict[str, tuple[int, int]]:
        """(nanoseconds, shots) by what for, of one session or of nobody."""
        return {what: use for (who, what), use in self.by.items() if who == session}

    def add(self, session: str | None, what: str, ns: int, shots: int) -> None:
        """Count a charge."""
        before_ns, before_shots = self.by.get((session, what), (0, 0))
        self.by[session, what] = (before_ns + ns, before_shots + shots)

    def forget(self, session: str) -> None:
        """Sum a session's uses up with those of others that are forgotten."""
        for key in [key for key in self.by if key[0] == session]:
            ns, shots = self.by.pop(key)
            self.add(FORGOTTEN, key[1], ns, shots)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; `read` takes it back."""
        return {
            "held_ns": self.held_ns,
            "by": [[session, what, ns, shots] for (session, what), (ns, shots) in self.by.items()],
        }

    def read(self, held_ns: int, by: Iterable[Sequence[Any]]) -> None:
        """Take back what `to_json` gave."""
        self.held_ns = held_ns
        self.by = {(session, what): (ns, shots) for session, what, ns, shots in by}
