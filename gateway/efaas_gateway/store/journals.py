"""Journals: opened by one writer at a time, appended to in order, each record once.

**Fencing.** A journal belongs to the pair (lease epoch, writer): the epoch is handed out by whoever starts
runners, the writer is drawn at random by each process that opens. Opening with a lower epoch is refused;
opening with the same or a higher one takes the journal over, and from that commit on every append of the
former owner is refused. Ownership is looked at inside the transaction that appends, with the row locked, so
two writers can never both succeed, also not through two gateways on one PostgreSQL.

**Order.** A record gets the next sequence number or none. The same number again with the same bytes is
accepted and changes nothing; with other bytes, or out of order, it is refused.

Many journals are appended to in one transaction (`append_all`), because a commit costs a sync of the disk
whether it holds one record or a thousand. A refused record harms nobody else's. An append is what writers
wait for, so it does nothing else: what records say is derived afterwards (`efaas_gateway.store.pending`).
Whole batches go to the database as one statement each. That is less work, and the interpreter's lock is given
up and fought for once a statement instead of once a row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Table, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from efaas.errors import EfaasError, InputError, SessionEnded
from efaas_gateway.store.tables import derivation, journals, records, sessions

Kind = Literal["session", "device"]

MAX_RECORD_BYTES = 16 * 1024 * 1024
"""Longest record."""

_PAGE = 256

_ROWS_AT_ONCE = (256, 64, 16, 4, 1)
"""Rows of one insert into SQLite: a few lengths, so that few statements are prepared."""

_HEADS = {
    # One row with everything in it: each row that is fetched costs a turn of the interpreter's lock.
    "sqlite": (
        "SELECT json_group_array(json_array(id, kind, name, lease_epoch, writer, generation, length, first)) "
        "FROM journals WHERE id IN (SELECT value FROM json_each(?))"
    ),
    "postgresql": (
        "SELECT id, kind, name, lease_epoch, writer, generation, length, first "
        "FROM journals WHERE id = ANY(%s) ORDER BY id FOR UPDATE"
    ),
}
_INSERT = {
    "sqlite": "INSERT INTO journal_records (journal, sequence, body, at) VALUES ",
    "postgresql": (
        "INSERT INTO journal_records (journal, sequence, body, at) "
        "SELECT *, %s::float8 FROM unnest(%s::bigint[], %s::bigint[], %s::bytea[])"
    ),
}
_GROW = {
    "sqlite": (
        "UPDATE journals SET length = json_extract(told.value, '$[1]'), "
        "bytes = bytes + json_extract(told.value, '$[2]'), updated_at = ? "
        "FROM json_each(?) AS told WHERE journals.id = json_extract(told.value, '$[0]')"
    ),
    "postgresql": (
        "UPDATE journals SET length = told.length, bytes = journals.bytes + told.more, updated_at = %s "
        "FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS told(id, length, more) "
        "WHERE journals.id = told.id"
    ),
}


class Fenced(SessionEnded):
    """The journal belongs to a newer writer."""

    code = "Fenced"


class OutOfOrder(InputError):
    """A record's number is not the next one, or was given to another record."""

    code = "OutOfOrder"


@dataclass(frozen=True, slots=True)
class JournalHead:
    """A journal as its new owner finds it."""

    id: int
    kind: Kind
    name: str
    tenant: str
    lease_epoch: int
    writer: str
    generation: int
    """Times that all records were replaced."""
    first: int
    """Sequence of the oldest record that is still here."""
    length: int
    """Sequence of the next record."""


@dataclass(frozen=True, slots=True)
class Append:
    """A record on its way in."""

    journal: int
    lease_epoch: int
    writer: str
    sequence: int
    body: bytes


@dataclass(slots=True)
class Head:
    """A journal's row, locked, as appends change it."""

    id: int
    kind: str
    name: str
    lease_epoch: int
    writer: str
    generation: int
    length: int
    first: int
    more: int = 0
    """Bytes that came with this transaction."""

    @property
    def place(self) -> str:
        """For errors."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of a batch; nothing is in before the transaction is committed."""

    outcomes: list[EfaasError | None]
    """For each append the reason why it was refused, or None."""
    grown: list[int]
    """Journals that have new records."""
    records: int
    """How many are new."""


def open_journal(
    connection: Connection,
    kind: Kind,
    name: str,
    *,
    tenant: str,
    lease_epoch: int | None,
    writer: str,
    now: float,
    may_take: Callable[[int, str], bool] = lambda _epoch, _writer: True,
) -> JournalHead:
    """Own a journal from now on; it is made if there is none.

    Args:
        connection: inside a writing transaction.
        kind: whose journal it is.
        name: ``namespace/name`` of a session, or a device's name.
        tenant: namespace that its usage counts for; empty for a device.
        lease_epoch: of the writer; None: one above the newest.
        writer: the writer's random id.
        now: seconds since 1970.
        may_take: whether the writer with this epoch and id may be displaced by another of the same epoch.

    Raises:
        Fenced: a newer epoch is known, or a living writer has this one.
    """
    session = session_row(connection, name, now) if kind == "session" else None
    connection.execute(
        upsert(connection, journals)
        .values(
            kind=kind,
            name=name,
            tenant=tenant,
            session=session,
            lease_epoch=0,
            writer="",
            generation=0,
            length=0,
            first=0,
            bytes=0,
            created_at=now,
            updated_at=now,
        )
        .on_conflict_do_nothing()
    )
    row = (
        connection.execute(
            select(journals).where(journals.c.kind == kind, journals.c.name == name).with_for_update()
        )
        .mappings()
        .one()
    )
    connection.execute(
        upsert(connection, derivation)
        .values(journal=row["id"], generation=row["generation"], next=row["length"])
        .on_conflict_do_nothing()
    )
    epoch = row["lease_epoch"] + 1 if lease_epoch is None else lease_epoch
    if epoch < row["lease_epoch"]:
        raise Fenced(
            f"a writer with lease epoch {row['lease_epoch']} has taken over, this one has {epoch}",
            place=f"{kind} {name}",
        )
    if epoch == row["lease_epoch"] and writer != row["writer"] and not may_take(epoch, row["writer"]):
        raise Fenced(
            f"another writer with lease epoch {epoch} has it open; end that one first", place=f"{kind} {name}"
        )
    connection.execute(
        update(journals)
        .where(journals.c.id == row["id"])
        .values(lease_epoch=epoch, writer=writer, updated_at=now)
    )
    return JournalHead(
        row["id"], kind, name, row["tenant"], epoch, writer, row["generation"], row["first"], row["length"]
    )


def session_row(connection: Connection, key: str, now: float) -> int:
    """Id of a session's row, made if there is none."""
    namespace, _, name = key.partition("/")
    connection.execute(
        upsert(connection, sessions)
        .values(namespace=namespace, name=name, created_at=now, updated_at=now)
        .on_conflict_do_nothing()
    )
    return int(
        connection.execute(
            select(sessions.c.id).where(sessions.c.namespace == namespace, sessions.c.name == name)
        ).scalar_one()
    )


def upsert(connection: Connection, table: Table) -> Any:
    """An insert that knows ``on_conflict_…`` in the database's own words."""
    return (sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert)(table)


def append_all(connection: Connection, appends: Sequence[Append], now: float) -> Appended:
    """Append records of any number of journals.

    Args:
        connection: inside a writing transaction.
        appends: in the order of each journal.
        now: seconds since 1970.
    """
    outcomes: list[EfaasError | None] = [None] * len(appends)
    heads = _heads(connection, sorted({append.journal for append in appends}))
    taken: list[Append] = []
    # Appended in this very transaction, for a record that is said twice in one batch.
    fresh: dict[tuple[int, int], bytes] = {}
    for index, append in enumerate(appends):
        head = heads.get(append.journal)
        if head is None or head.writer != append.writer or head.lease_epoch != append.lease_epoch:
            outcomes[index] = _owner_fault(head, append.lease_epoch, append.writer)
        elif append.sequence == head.length:
            if len(append.body) > MAX_RECORD_BYTES:
                outcomes[index] = InputError(
                    f"the record takes {len(append.body)} bytes, more than the {MAX_RECORD_BYTES} allowed",
                    place=f"{head.name} record {append.sequence}",
                )
                continue
            head.length += 1
            head.more += len(append.body)
            fresh[append.journal, append.sequence] = append.body
            taken.append(append)
        else:
            outcomes[index] = _repeat_fault(connection, append, head, fresh)
    grown = [heads[key] for key in sorted({append.journal for append in taken})]
    if taken:
        _insert(connection, taken, now)
        _grow(connection, grown, now)
    return Appended(outcomes, [head.id for head in grown], len(taken))


def _heads(connection: Connection, keys: Sequence[int]) -> dict[int, Head]:
    """Locked rows of journals; in the order of ids, against deadlock."""
    statement = _HEADS[connection.dialect.name]
    if connection.dialect.name == "sqlite":
        told = json.loads(connection.exec_driver_sql(statement, (json.dumps(keys),)).scalar_one())
    else:
        told = connection.exec_driver_sql(statement, (list(keys),)).all()
    return {row[0]: Head(*row) for row in told}


def _insert(connection: Connection, taken: Sequence[Append], now: float) -> None:
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(
            _INSERT["postgresql"],
            (
                now,
                [append.journal for append in taken],
                [append.sequence for append in taken],
                [append.body for append in taken],
            ),
        )
        return
    start = 0
    for size in _ROWS_AT_ONCE:
        statement = _INSERT["sqlite"] + ", ".join(["(?, ?, ?, ?)"] * size)
        while len(taken) - start >= size:
            values: list[Any] = []
            for append in taken[start : start + size]:
                values += (append.journal, append.sequence, append.body, now)
            connection.exec_driver_sql(statement, tuple(values))
            start += size


def _grow(connection: Connection, heads: Sequence[Head], now: float) -> None:
    if connection.dialect.name == "sqlite":
        told = json.dumps([(head.id, head.length, head.more) for head in heads])
        connection.exec_driver_sql(_GROW["sqlite"], (now, told))
    else:
        connection.exec_driver_sql(
            _GROW["postgresql"],
            (
                now,
                [head.id for head in heads],
                [head.length for head in heads],
                [head.more for head in heads],
            ),
        )


def _owner_fault(head: Head | None, lease_epoch: int, writer: str) -> EfaasError | None:
    if head is None:
        return SessionEnded("the journal was deleted; start the session anew", place="journal")
    if (head.lease_epoch, head.writer) != (lease_epoch, writer):
        return Fenced(
            f"another writer, with lease epoch {head.lease_epoch}, has taken the journal over; "
            f"this one, with {lease_epoch}, is fenced",
            place=head.place,
        )
    return None


def _repeat_fault(
    connection: Connection, append: Append, head: Head, fresh: dict[tuple[int, int], bytes]
) -> EfaasError | None:
    place, length = head.place, head.length
    if append.sequence > length:
        return OutOfOrder(f"record {append.sequence} is out of order; the next one is {length}", place=place)
    if append.sequence < head.first:
        return OutOfOrder(f"record {append.sequence} has been compacted away", place=place)
    here = fresh.get((append.journal, append.sequence))
    if here is None:
        here = connection.execute(
            select(records.c.body).where(
                records.c.journal == append.journal, records.c.sequence == append.sequence
            )
        ).scalar_one()
    if bytes(here) != append.body:
        return OutOfOrder(f"record {append.sequence} is there already with other content", place=place)
    return None


def replace_all(
    connection: Connection,
    journal: int,
    lease_epoch: int,
    writer: str,
    generation: int,
    bodies: Iterable[bytes],
    now: float,
) -> int:
    """Put these records in place of all others, numbered from 0; what the others say must have been derived.

    Args:
        connection: inside a writing transaction.
        journal: its id.
        lease_epoch: of the writer.
        writer: its id.
        generation: that the journal will have; one that it has already changes nothing.
        bodies: the new records.
        now: seconds since 1970.

    Returns:
        The journal's length.

    Raises:
        Fenced: another writer owns it.
        OutOfOrder: the generation is not the next one.
    """
    head = _heads(connection, [journal]).get(journal)
    fault = _owner_fault(head, lease_epoch, writer)
    if fault is not None or head is None:
        assert fault is not None
        raise fault
    if generation == head.generation:
        return head.length
    if generation != head.generation + 1:
        raise OutOfOrder(
            f"generation {generation} is out of order; the next one is {head.generation + 1}",
            place=head.place,
        )
    connection.execute(delete(records).where(records.c.journal == journal))
    contents = list(bodies)
    if contents:
        connection.execute(
            insert(records),
            [{"journal": journal, "sequence": n, "body": body, "at": now} for n, body in enumerate(contents)],
        )
    connection.execute(
        update(journals)
        .where(journals.c.id == journal)
        .values(
            generation=generation,
            first=0,
            length=len(contents),
            bytes=sum(len(body) for body in contents),
            updated_at=now,
        )
    )
    # A compacted journal says what the records before it said: there is nothing new in it.
    connection.execute(
        update(derivation)
        .where(derivation.c.journal == journal)
        .values(generation=generation, next=len(contents))
    )
    return len(contents)


def read_journal(connection: Connection, journal: int, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield (sequence, body) from a sequence on."""
    while True:
        page = connection.execute(
            select(records.c.sequence, records.c.body)
            .where(records.c.journal == journal, records.c.sequence >= start)
            .order_by(records.c.sequence)
            .limit(_PAGE)
        ).all()
        for sequence, body in page:
            yield int(sequence), bytes(body)
        if len(page) < _PAGE:
            return
        start = int(page[-1][0]) + 1
