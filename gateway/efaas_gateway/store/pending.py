"""Derives what has been journalled and not yet derived: in batches, after the append, each record once.

Writers wait for their records to be on disk, not for what the records say. So each journal has a *cursor*
(table ``derivation``): everything before it has been derived. A batch is read and worked out without a lock,
then written in one transaction that also moves the cursors, and only if they still stand where the batch
began. Whoever is killed in between has changed nothing; whoever comes next starts at the cursors. So what is
shown is what was journalled, some tenths of a second later, and never twice.

Records that are about to go (a journal is compacted or replaced) are derived first, in that transaction
(`derive_pending`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from efaas_gateway.store.derive import Derived, Record, Rows, Source

BATCH_RECORDS = 1000
"""Records of one batch; its transaction takes some hundredths of a second."""

_SOURCES = (
    "SELECT d.journal, j.kind, j.name, j.tenant, j.session, s.device, s.best, d.generation, d.next, j.length "
    "FROM derivation AS d JOIN journals AS j ON j.id = d.journal LEFT JOIN sessions AS s ON s.id = j.session "
    "WHERE d.next < j.length AND d.generation = j.generation"
)
_AMONG = {
    "sqlite": " AND d.journal IN (SELECT value FROM json_each(?))",
    "postgresql": " AND d.journal = ANY(%s)",
}
_RECORDS = {
    "sqlite": (
        "SELECT sequence, body, at FROM journal_records WHERE journal = ? AND sequence >= ? "
        "ORDER BY sequence LIMIT ?"
    ),
    "postgresql": (
        "SELECT sequence, body, at FROM journal_records WHERE journal = %s AND sequence >= %s "
        "ORDER BY sequence LIMIT %s"
    ),
}
_CURSORS = {
    "sqlite": (
        "SELECT journal, generation, next FROM derivation WHERE journal IN (SELECT value FROM json_each(?))"
    ),
    "postgresql": (
        "SELECT journal, generation, next FROM derivation WHERE journal = ANY(%s) ORDER BY journal FOR UPDATE"
    ),
}
_MOVE = {
    "sqlite": "UPDATE derivation SET next = ? WHERE journal = ?",
    "postgresql": "UPDATE derivation SET next = %s WHERE journal = %s",
}


@dataclass(slots=True)
class Batch:
    """Records that have not been derived, and where the cursors stood."""

    records: list[Record]
    cursors: dict[int, tuple[int, int]]
    """By journal: generation and sequence before the batch."""
    following: dict[int, int]
    """By journal: sequence after it."""
    left: set[int]
    """Journals that have more than what is in the batch."""


def read_pending(
    connection: Connection, journals: Iterable[int] | None, now: float, limit: int = BATCH_RECORDS
) -> Batch:
    """Read what comes next.

    Args:
        connection: reads one consistent state.
        journals: only of these; None: of all.
        now: for records that do not know when they came.
        limit: of records, in all.
    """
    dialect = connection.dialect.name
    if journals is None:
        rows = connection.exec_driver_sql(_SOURCES + " ORDER BY d.journal").all()
    else:
        rows = connection.exec_driver_sql(
            _SOURCES + _AMONG[dialect] + " ORDER BY d.journal", (_keys(dialect, journals),)
        ).all()
    batch = Batch([], {}, {}, set())
    for journal, kind, name, tenant, session, device, best, generation, following, length in rows:
        room = limit - len(batch.records)
        if room <= 0:
            batch.left.add(journal)
            continue
        source = Source(journal, kind, name, tenant, session, device or "", best)
        found = connection.exec_driver_sql(_RECORDS[dialect], (journal, following, room)).all()
        batch.records += [Record(source, now if at is None else at, bytes(body)) for _, body, at in found]
        batch.cursors[journal] = (generation, following)
        # Sequences have no holes; an empty answer means that they were compacted away with the rest.
        batch.following[journal] = following + len(found) if found else length
        if batch.following[journal] < length:
            batch.left.add(journal)
    return batch


def work_out(batch: Batch, *, charge_devices: bool, live: bool) -> Rows:
    """What the records say."""
    rows = Rows(charge_devices=charge_devices, live=live)
    for record in batch.records:
        rows.take_record(record)
    return rows


def write_pending(connection: Connection, batch: Batch, rows: Rows) -> bool:
    """Write it and move the cursors; inside a writing transaction.

    Returns:
        False, and nothing is written, if somebody else has moved one of the cursors.
    """
    dialect = connection.dialect.name
    found = connection.exec_driver_sql(_CURSORS[dialect], (_keys(dialect, batch.cursors),)).all()
    if {journal: (generation, following) for journal, generation, following in found} != batch.cursors:
        return False
    rows.write(connection)
    if batch.following:
        moved = [(following, journal) for journal, following in batch.following.items()]
        connection.exec_driver_sql(_MOVE[dialect], moved)
    return True


def derive_pending(
    connection: Connection,
    journals: Sequence[int] | None = None,
    *,
    now: float,
    charge_devices: bool = False,
    live: bool = True,
) -> Derived:
    """Derive everything that is pending, inside one writing transaction.

    Args:
        connection: the transaction.
        journals: only of these; None: of all.
        now: seconds since 1970.
        charge_devices: see `Rows`.
        live: see `Rows`.

    Returns:
        What changed, for accounts and live views once the transaction is committed.
    """
    derived = Derived()
    while (batch := read_pending(connection, journals, now)).cursors:
        rows = work_out(batch, charge_devices=charge_devices, live=live)
        if write_pending(connection, batch, rows):
            derived.charges += rows.derived.charges
            derived.updates += rows.derived.updates
    return derived


def _keys(dialect: str, journals: Iterable[int]) -> Any:
    return json.dumps(sorted(journals)) if dialect == "sqlite" else sorted(journals)
