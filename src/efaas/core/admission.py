"""Who gets the next slot, and what the others are told.

Sessions wait behind a gate. `Admission.plan` looks at all that wait, all that hold a slot and all devices,
and names the ones to release now; for each of the others it says why it waits, how many are before it and
when its turn is expected. It is computed anew from what is there each time, so nothing is lost when its
host is killed.

**Order.** Tenants (namespaces) by dominant share ÷ weight of the two-resource ledger
(`efaas.core.fairness.UsageLedger`), least served first; each release counts its entry penalty at once, so
that a tenant with many waiting sessions takes turns with the others. Inside a tenant the session of larger
weight comes first, then the older one.

**Never more than there are slots.** A released session that the scheduler has not placed yet will take a
slot somewhere, but not known where. So releases are kept *matchable*: all sessions without a device,
released before or now, can be given free slots at the same time, each on a device that fits it (a bipartite
matching, grown by augmenting paths). A session that cannot be matched now is passed over, and those behind
it are looked at: a slot that only they can use does not stay empty for it.

**Told at once.** A session that no device can take hears so with the reason of every device. It stays in
the queue: when a device appears that fits, it is released by the same rule as everybody else.

Times are wall seconds.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from efaas.core.fairness import UsageLedger
from efaas.core.placement import DeviceView, Refusal, Request, refuse

_NAMES_TOLD = 3
"""Devices named for each reason; of the others only the number is told."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A session that waits for a slot."""

    request: Request
    """Names the session and its tenant."""
    created_s: float
    weight: float = 1.0
    """Precedence among the sessions of its tenant."""
    cpus: float = 1.0
    """Cores that its runner asks for."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A session that was released and has not given its slot back."""

    request: Request
    device: str = ""
    """Where it is; empty until the scheduler has placed it."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a session that was not released is told."""

    reason: str
    """``NoDeviceFits``, ``NoDeviceReady``, ``WaitingForSlot`` or ``WaitingForFairShare``."""
    message: str
    position: int | None = None
    """Sessions before it; None where no order would help."""
    start_s: float | None = None
    """When its turn is expected; None where nothing is known of that."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What follows from the present state."""

    released: tuple[str, ...]
    """Sessions whose gate is to be taken off, in order."""
    waiting: Mapping[str, Waiting]
    """All other sessions that wait."""


@dataclass(slots=True)
class _Matching:
    """Sessions without a device, each given a free slot that fits it."""

    free: dict[str, int]
    fits: dict[str, tuple[str, ...]] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)
    on: dict[str, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, session: str, devices: tuple[str, ...]) -> bool:
        """Give a slot to one more, moving others if need be; False, and nothing changed, if none is left."""
        self.fits[session] = devices
        came_from: dict[str, tuple[str, str | None]] = {}  # device: (session that would take it, its device)
        ahead: list[tuple[str, str | None]] = [(session, None)]
        while ahead:
            mover, left = ahead.pop(0)
            for device in self.fits[mover]:
                if device in came_from:
                    continue
                came_from[device] = (mover, left)
                if len(self.on[device]) < self.free.get(device, 0):
                    self._shift(device, came_from)
                    return True
                ahead.extend((other, device) for other in self.on[device])
        del self.fits[session]
        return False

    def _shift(self, device: str, came_from: Mapping[str, tuple[str, str | None]]) -> None:
        place: str | None = device
        while place is not None:
            mover, left = came_from[place]
            if left is not None:
                del self.on[left][mover]
            self.on[place][mover] = None
            self.given[mover] = place
            place = left


class Admission:
    """Decides who is released; keeps the accounts that the order comes from.

    Args:
        ledger: accounts of tenants; capacities are those of the cluster.
        entry_s: device and core seconds that a session is expected to use soon after its release: what its
            entry penalty is a part of.
    """

    def __init__(self, ledger: UsageLedger, *, entry_s: float = 60.0) -> None:
        self.ledger = ledger
        self.entry_s = entry_s
        self._charged: dict[str, tuple[float, float]] = {}
        self._mean_hold_s: float | None = None

    def charge(self, session: str, tenant: str, cpu_s: float, qpu_s: float, now_s: float) -> None:
        """Count what a session has used in all its life; what was counted before is not counted again.

        Args:
            session: its name.
            tenant: who pays.
            cpu_s: requested cores times the time for which its pods held them.
            qpu_s: device seconds charged by the QPU servers.
            now_s: wall seconds.
        """
        cpu_before, qpu_before = self._charged.get(session, (0.0, 0.0))
        more_cpu_s, more_qpu_s = max(0.0, cpu_s - cpu_before), max(0.0, qpu_s - qpu_before)
        self._charged[session] = (cpu_before + more_cpu_s, qpu_before + more_qpu_s)
        if more_cpu_s or more_qpu_s:
            self.ledger.leave(tenant, session)
            self.ledger.add(tenant, more_cpu_s, more_qpu_s, now_s)

    def ended(self, session: str, tenant: str, held_s: float | None = None) -> None:
        """A session is over; what it used stays counted.

        Args:
            session: its name.
            tenant: who paid.
            held_s: how long it held its slot: what expected starts are reckoned with. None: it never did.
        """
        self.ledger.leave(tenant, session)
        self._charged.pop(session, None)
        if held_s is not None:
            before = self._mean_hold_s
            self._mean_hold_s = held_s if before is None else before + 0.2 * (held_s - before)

    def plan(
        self,
        waiting: Iterable[Candidate],
        holders: Iterable[Holder],
        devices: Iterable[DeviceView],
        now_s: float,
    ) -> Plan:
        """Who is released now, and what the others are told.

        A released session's entry penalty is in the ledger when this returns; to plan it again replaces it.
        `DeviceView.slots_used` is not looked at: who holds a slot is said by `holders`.

        Args:
            waiting: sessions that ask for a slot.
            holders: released sessions; those without a device still need one.
            devices: all devices.
            now_s: wall seconds.
        """
        views = {view.name: replace(view, slots_used=0) for view in sorted(devices, key=lambda v: v.name)}
        fitting = _Fitting(views)
        free = {name: view.slots for name, view in views.items()}
        unplaced = []
        for holder in holders:
            if holder.device:
                free[holder.device] = free.get(holder.device, 0) - 1
            else:
                unplaced.append(holder)
        matching = _Matching(free)
        for holder in sorted(unplaced, key=lambda each: each.request.session):
            # One that cannot be matched (a device went away) waits at the scheduler and takes no slot here.
            matching.add(holder.request.session, fitting.devices(holder.request))

        released: list[str] = []
        answers: dict[str, Waiting] = {}
        before = 0
        full: set[tuple[str, ...]] = set()
        for candidate in self._in_order(waiting, now_s, fitting, answers):
            request = candidate.request
            fits = fitting.devices(request)
            # Matchings only grow here: devices that could not take one more cannot later.
            if fits not in full and matching.add(request.session, fits):
                released.append(request.session)
                need_s = self.entry_s
                self.ledger.enter(request.tenant, request.session, candidate.cpus * need_s, need_s, now_s)
                continue
            full.add(fits)
            answers[request.session] = self._wait(fits, views, free, matching, before, now_s)
            before += 1
        return Plan(tuple(released), answers)

    def _in_order(
        self,
        waiting: Iterable[Candidate],
        now_s: float,
        fitting: _Fitting,
        answers: dict[str, Waiting],
    ) -> Iterable[Candidate]:
        """Candidates that some device fits, as tenants take turns; the others are answered."""
        queues: dict[str, list[Candidate]] = defaultdict(list)
        for candidate in waiting:
            if fitting.devices(candidate.request):
                queues[candidate.request.tenant].append(candidate)
            else:
                answers[candidate.request.session] = no_device(fitting.refusals(candidate.request))
        for queue in queues.values():
            queue.sort(key=lambda each: (-each.weight, each.created_s, each.request.session), reverse=True)
        penalty_s = self.ledger.penalty_factor * self.entry_s
        ahead = dict.fromkeys(queues, (0.0, 0.0))
        start = {tenant: self.ledger.usage(tenant, now_s) for tenant in queues}
        heap = [(self.ledger.dominant_share(tenant, now_s), tenant) for tenant in queues]
        heapq.heapify(heap)
        while heap:
            _, tenant = heapq.heappop(heap)
            candidate = queues[tenant].pop()
            yield candidate
            if not queues[tenant]:
                continue
            # As if it had been released: those who wait take turns too.
            cpu_s, qpu_s = ahead[tenant]
            ahead[tenant] = cpu_s + candidate.cpus * penalty_s, qpu_s + penalty_s
            now = self.ledger.usage(tenant, now_s)
            counted = now.cpu_s - start[tenant].cpu_s, now.qpu_s - start[tenant].qpu_s
            more = (ahead[tenant][0] - counted[0], ahead[tenant][1] - counted[1])
            heapq.heappush(heap, (self.ledger.share_with(tenant, *more, now_s), tenant))

    def _wait(
        self,
        fits: tuple[str, ...],
        views: Mapping[str, DeviceView],
        free: Mapping[str, int],
        matching: _Matching,
        before: int,
        now_s: float,
    ) -> Waiting:
        slots = sum(views[name].slots for name in fits)
        start_s = None
        if self._mean_hold_s is not None:
            start_s = now_s + (before + 1) * self._mean_hold_s / slots
        devices = _counted(len(fits), "device fits", "devices fit")
        promised = sum(len(matching.on[name]) for name in fits)
        if promised and any(free[name] > 0 for name in fits):
            message = (
                f"{devices}; the free slots go to {promised} that come first, {before} more are before it"
            )
            return Waiting("WaitingForFairShare", message, before, start_s)
        taken = _counted(slots, "slot is taken", "slots are taken")
        return Waiting("WaitingForSlot", f"{devices}, but all {taken}; {before} before it", before, start_s)


class _Fitting:
    """Which devices fit which requests; asked once for requests that differ in nothing that counts."""

    def __init__(self, views: Mapping[str, DeviceView]) -> None:
        self._views = views
        self._found: dict[object, tuple[tuple[str, ...], tuple[Refusal, ...]]] = {}

    def devices(self, request: Request) -> tuple[str, ...]:
        """Names of those that fit."""
        return self._look(request)[0]

    def refusals(self, request: Request) -> tuple[Refusal, ...]:
        """Why the others do not."""
        return self._look(request)[1]

    def _look(self, request: Request) -> tuple[tuple[str, ...], tuple[Refusal, ...]]:
        key = (
            request.qubits,
            tuple(sorted(request.match_labels.items())),
            tuple(sorted(request.node_selector.items())),
            request.max_calibration_age_s,
            request.calibration_patience_s,
            request.min_fidelity,
            request.shape,
        )
        found = self._found.get(key)
        if found is None:
            answers = {name: refuse(request, view) for name, view in self._views.items()}
            fits = tuple(
                name for name, refusal in answers.items() if refusal is None and self._views[name].slots > 0
            )
            found = self._found[key] = (fits, tuple(each for each in answers.values() if each is not None))
        return found


def no_device(refusals: Sequence[Refusal]) -> Waiting:
    """What a session is told that no device takes: every reason, with the devices that gave it."""
    if not refusals:
        return Waiting("NoDeviceFits", "there are no devices")
    devices: dict[str, list[str]] = defaultdict(list)
    for refusal in refusals:
        devices[refusal.reason].append(refusal.device)
    reasons = []
    for reason, names in sorted(devices.items(), key=lambda item: (-len(item[1]), item[0])):
        told = ", ".join(sorted(names)[:_NAMES_TOLD])
        more = f" and {len(names) - _NAMES_TOLD} more" if len(names) > _NAMES_TOLD else ""
        reasons.append(f"{reason} ({told}{more})")
    passing = any(refusal.waiting_helps for refusal in refusals)
    message = f"{_counted(len(refusals), 'device', 'devices')}: {'; '.join(reasons)}"
    return Waiting("NoDeviceReady" if passing else "NoDeviceFits", message)


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
