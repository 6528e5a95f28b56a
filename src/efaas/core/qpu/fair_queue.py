"""Waiting jobs of one class: the least served tenant's least served session's most urgent job comes first.

Three levels of heaps whose entries are never searched for: whoever changes gets a new ticket and a new
entry, and entries with an old ticket are thrown away when they come up. So adding, removing and a change of
use cost O(log n), and the first job is at hand. All keys end in a name or an id: the order is total.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import TypeVar

from efaas.core.fairness import UsageLedger
from efaas.core.qpu.lifecycle import JobRecord

JobKey = tuple[float, float, int]
"""(-ρ, moment from which it waits, running number)."""

_COMPACT_AT = 64
_Item = TypeVar("_Item")


class _SessionQueue:
    """A session's waiting jobs."""

    __slots__ = ("heap", "name", "size", "ticket")

    def __init__(self, name: str) -> None:
        self.name = name
        self.heap: list[tuple[JobKey, str, int, JobRecord]] = []
        self.size = 0
        self.ticket = 0

    def first(self) -> tuple[JobKey, str, int, JobRecord] | None:
        heap = self.heap
        while heap:
            entry = heap[0]
            if entry[3].ticket == entry[2]:
                return entry
            heappop(heap)
        return None


class _TenantQueue:
    """A tenant's sessions with waiting jobs."""

    __slots__ = ("heap", "name", "sessions", "ticket")

    def __init__(self, name: str) -> None:
        self.name = name
        self.sessions: dict[str, _SessionQueue] = {}
        # (session's share key, key of its first job, session, ticket)
        self.heap: list[tuple[float, JobKey, str, int]] = []
        self.ticket = 0

    def first(self) -> _SessionQueue | None:
        heap = self.heap
        while heap:
            _, _, name, ticket = heap[0]
            session = self.sessions.get(name)
            if session is not None and session.ticket == ticket:
                return session
            heappop(heap)
        return None


class FairQueue:
    """The waiting jobs of one class.

    What changes is only noted; `first` gives each tenant and session that changed its new place, once,
    however often it changed since it was asked last.

    Args:
        tenants: use of tenants.
        sessions: use of sessions, which orders those of one tenant.
        tickets: numbers that no other queue of the machine gives out, because jobs change queues.
    """

    def __init__(self, tenants: UsageLedger, sessions: UsageLedger, tickets: Iterator[int]) -> None:
        self._tenant_use = tenants
        self._session_use = sessions
        self._tenants: dict[str, _TenantQueue] = {}
        # (tenant's share key, key of its first job, tenant, ticket)
        self._heap: list[tuple[float, JobKey, str, int]] = []
        # Tenants, and sessions of them, whose place is not theirs any more; dictionaries, to keep an order.
        self._changed: dict[str, dict[str, None]] = {}
        self._tickets = tickets
        self.size = 0
        """Waiting jobs."""
        self._remaining_s = 0.0

    def __len__(self) -> int:
        return self.size

    @property
    def remaining_s(self) -> float:
        """Device seconds of all waiting work, about."""
        return max(0.0, self._remaining_s)

    def add(self, job: JobRecord, key: JobKey) -> None:
        """Put a job in."""
        job.ticket = next(self._tickets)
        name, tenant_name = job.session.name, job.session.tenant
        tenant = self._tenants.get(tenant_name)
        if tenant is None:
            tenant = self._tenants[tenant_name] = _TenantQueue(tenant_name)
        session = tenant.sessions.get(name)
        if session is None:
            session = tenant.sessions[name] = _SessionQueue(name)
        heappush(session.heap, (key, job.id, job.ticket, job))
        session.size += 1
        self.size += 1
        self._remaining_s += job.remaining_s
        self._note(tenant_name, name)

    def remove(self, job: JobRecord) -> None:
        """Take a job out that is in."""
        job.ticket = 0
        session = self._tenants[job.session.tenant].sessions[job.session.name]
        session.size -= 1
        self.size -= 1
        self._remaining_s = self._remaining_s - job.remaining_s if self.size else 0.0
        if len(session.heap) > _COMPACT_AT and len(session.heap) > 4 * session.size:
            session.heap = [entry for entry in session.heap if entry[3].ticket == entry[2]]
            heapify(session.heap)
        self._note(job.session.tenant, job.session.name)

    def refresh(self, tenant: str, session: str) -> None:
        """A tenant's or session's use or weight changed."""
        if tenant in self._tenants:
            self._note(tenant, session)

    def first(self) -> JobRecord | None:
        """The job whose turn it is; it stays in."""
        if self._changed:
            for name, sessions in self._changed.items():
                tenant = self._tenants[name]
                for session in sessions:
                    self._place_session(tenant, session)
                self._place_tenant(tenant)
            self._changed.clear()
        heap = self._heap
        while heap:
            _, _, name, ticket = heap[0]
            tenant_queue = self._tenants.get(name)
            if tenant_queue is not None and tenant_queue.ticket == ticket:
                session_queue = tenant_queue.first()
                entry = session_queue.first() if session_queue is not None else None
                if entry is not None:
                    return entry[3]
            heappop(heap)
        return None

    def __iter__(self) -> Iterator[JobRecord]:
        """Waiting jobs in the order in which they would start if nothing else came: tenants take turns."""
        columns = []
        for tenant in self._tenant_use.order(self._tenants):
            queue = self._tenants[tenant]
            rows = [
                [entry[3] for entry in sorted(queue.sessions[name].heap) if entry[3].ticket == entry[2]]
                for name in self._session_use.order(queue.sessions)
            ]
            columns.append(_by_turns(rows))
        yield from _by_turns(columns)

    def _note(self, tenant: str, session: str) -> None:
        changed = self._changed.get(tenant)
        if changed is None:
            changed = self._changed[tenant] = {}
        changed[session] = None

    def _place_session(self, tenant: _TenantQueue, name: str) -> None:
        session = tenant.sessions.get(name)
        if session is None:
            return
        first = session.first()
        if first is None:
            del tenant.sessions[name]
            return
        session.ticket = next(self._tickets)
        heappush(tenant.heap, (self._session_use.key(name), first[0], name, session.ticket))
        if len(tenant.heap) > _COMPACT_AT and len(tenant.heap) > 4 * len(tenant.sessions):
            tenant.heap = [e for e in tenant.heap if _valid(tenant.sessions.get(e[2]), e[3])]
            heapify(tenant.heap)

    def _place_tenant(self, tenant: _TenantQueue) -> None:
        session = tenant.first()
        first = session.first() if session is not None else None
        if first is None:
            del self._tenants[tenant.name]
            return
        tenant.ticket = next(self._tickets)
        heappush(self._heap, (self._tenant_use.key(tenant.name), first[0], tenant.name, tenant.ticket))
        if len(self._heap) > _COMPACT_AT and len(self._heap) > 4 * len(self._tenants):
            self._heap = [e for e in self._heap if _valid(self._tenants.get(e[2]), e[3])]
            heapify(self._heap)


def _valid(queue: _TenantQueue | _SessionQueue | None, ticket: int) -> bool:
    return queue is not None and queue.ticket == ticket


def _by_turns(rows: list[list[_Item]]) -> list[_Item]:
    """One of each row, then the second of each row, and so on."""
    longest = max((len(row) for row in rows), default=0)
    return [row[place] for place in range(longest) for row in rows if place < len(row)]
