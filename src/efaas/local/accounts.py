"""Where the time of a device went, from the log that its server keeps.

Every charge is in the log once, in whole nanoseconds, and so is the time for which the device was held.
Whatever was killed or resumed in between, billed + unbilled + pending is exactly that time.
"""

from __future__ import annotations

from pathlib import Path

from efaas.core.uses import Uses, whole_ns
from efaas.journal.directory import read_records


def read_device_uses(log: Path) -> Uses:
    """Add up what a QPU server has logged; a folder without a log gives nothing.

    Args:
        log: the folder of the log; its server may be running.

    Raises:
        EfaasError: the log is damaged.
    """
    uses = Uses()
    for record in read_records(log):
        if "state" in record:
            uses.read(**record["state"].get("uses", {"held_ns": 0, "by": []}))
        uses.held_ns += record.get("held_ns", 0)
        for _, session, qpu_s, shots, what in record.get("bookings", ()):
            uses.add(session, what, whole_ns(qpu_s), shots)
    return uses
