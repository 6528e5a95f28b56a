"""What is dropped, when: by age, by size for each tenant, and what compaction keeps.

- **Deleting** a session takes its journal, trajectory and events along. Only sessions that have ended are
  deleted, oldest end first. Usage stays: it is what people are charged for.
- **Compacting** drops a journal's records and keeps the session's result, trajectory and usage. Only
  journals of sessions that ended for good are compacted: one that may go on needs its records.
- **Thinning** of devices' states: one a minute of what is older than a day.
- Events and device states older than the age are dropped; calibrations stay.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select, update

from efaas_gateway.store.database import Store
from efaas_gateway.store.pending import derive_pending
from efaas_gateway.store.tables import device_states, events, journals, records, sessions

FINAL = ("Completed", "Failed", "Expired", "Cancelled")
"""States that no session leaves."""

_DAY_S = 86_400.0
_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Retention:
    """The rules; what is None does not apply."""

    days: float | None = None
    """Sessions that ended longer ago are deleted."""
    tenant_bytes: int | None = None
    """Journal bytes of one tenant; beyond it, its oldest ended sessions are compacted."""
    compact_after_days: float | None = None
    """Journals of sessions that ended longer ago are compacted."""

    @property
    def is_empty(self) -> bool:
        """Whether no rule applies."""
        return self == Retention()


@dataclass(slots=True)
class Pruned:
    """What was dropped."""

    sessions: int = 0
    journals: int = 0
    bytes: int = 0
    rows: int = 0

    def as_sentence(self) -> str:
        """For people."""
        return (
            f"deleted {self.sessions} sessions, compacted {self.journals} journals ({self.bytes} bytes), "
            f"dropped {self.rows} rows of events and device states"
        )


def prune_store(store: Store, rules: Retention, now: float | None = None) -> Pruned:
    """Apply the rules; in many short transactions, so that writers never wait long.

    Args:
        store: the database.
        rules: what applies.
        now: seconds since 1970; the clock's if not given.
    """
    now = time.time() if now is None else now
    pruned = Pruned()
    if rules.days is not None:
        before = now - rules.days * _DAY_S
        while _delete_ended(store, before, pruned):
            pass
        with store.write() as connection:
            pruned.rows += connection.execute(delete(events).where(events.c.at < before)).rowcount
            pruned.rows += connection.execute(
                delete(device_states).where(device_states.c.at < before)
            ).rowcount
    if rules.compact_after_days is not None:
        before = now - rules.compact_after_days * _DAY_S
        with store.read() as connection:
            old = _compactable(connection, before)
        for journal, _, _ in old:
            _compact(store, journal, now, pruned)
    if rules.tenant_bytes is not None:
        _keep_within(store, rules.tenant_bytes, now, pruned)
    if not rules.is_empty:
        _thin(store, now, pruned)
    return pruned


def _delete_ended(store: Store, before: float, pruned: Pruned) -> bool:
    with store.write() as connection:
        keys = (
            connection.execute(
                select(sessions.c.id)
                .where(sessions.c.ended_at < before, sessions.c.state.in_(FINAL))
                .order_by(sessions.c.ended_at)
                .limit(_AT_ONCE)
            )
            .scalars()
            .all()
        )
        theirs = connection.execute(select(journals.c.id).where(journals.c.session.in_(keys))).scalars().all()
        # What they used is never deleted, so it must have been derived.
        derive_pending(connection, theirs, now=before, live=False)
        names = connection.execute(
            select(sessions.c.namespace, sessions.c.name).where(sessions.c.id.in_(keys))
        ).all()
        for namespace, name in names:
            connection.execute(
                delete(events).where(events.c.namespace == namespace, events.c.session == name)
            )
        # Journals, records and evaluations go with their sessions (ON DELETE CASCADE).
        connection.execute(delete(sessions).where(sessions.c.id.in_(keys)))
    pruned.sessions += len(keys)
    return len(keys) == _AT_ONCE


def _compactable(connection: Connection, before: float) -> list[tuple[int, str, int]]:
    """(journal, tenant, bytes) of journals that may lose their records, oldest end first."""
    rows = connection.execute(
        select(journals.c.id, journals.c.tenant, journals.c.bytes)
        .join(sessions, journals.c.session == sessions.c.id)
        .where(sessions.c.ended_at < before, sessions.c.state.in_(FINAL), journals.c.bytes > 0)
        .order_by(sessions.c.ended_at)
    )
    return [(row[0], row[1], row[2]) for row in rows]


def _compact(store: Store, journal: int, now: float, pruned: Pruned) -> int:
    with store.write() as connection:
        held = connection.execute(
            select(journals.c.bytes).where(journals.c.id == journal).with_for_update()
        ).scalar()
        if not held:
            return 0
        derive_pending(connection, [journal], now=now, live=False)
        connection.execute(delete(records).where(records.c.journal == journal))
        connection.execute(
            update(journals)
            .where(journals.c.id == journal)
            .values(first=journals.c.length, bytes=0, compacted_at=now)
        )
    pruned.journals += 1
    pruned.bytes += int(held)
    return int(held)


def _keep_within(store: Store, limit: int, now: float, pruned: Pruned) -> None:
    with store.read() as connection:
        totals = {
            row[0]: int(row[1])
            for row in connection.execute(
                select(journals.c.tenant, func.sum(journals.c.bytes))
                .where(journals.c.kind == "session")
                .group_by(journals.c.tenant)
            )
        }
        old = _compactable(connection, now)
    for journal, tenant, _ in old:
        if totals[tenant] > limit:
            totals[tenant] -= _compact(store, journal, now, pruned)


def _thin(store: Store, now: float, pruned: Pruned) -> None:
    """Keep one state a minute of what is older than a day."""
    with store.write() as connection:
        minute = func.floor(device_states.c.at / 60.0)
        kept = (
            select(device_states.c.device, func.min(device_states.c.at).label("at"))
            .where(device_states.c.at < now - _DAY_S)
            .group_by(device_states.c.device, minute)
            .subquery()
        )
        pruned.rows += connection.execute(
            delete(device_states).where(
                device_states.c.at < now - _DAY_S,
                ~select(kept.c.at)
                .where(kept.c.device == device_states.c.device, kept.c.at == device_states.c.at)
                .exists(),
            )
        ).rowcount
