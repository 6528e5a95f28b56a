"""Who is released next: asks the core over everybody who waits, whenever something changed that counts.

A plan looks at all sessions, so it is made once for many changes, and the more it takes the less often. What
it grants is handed to the sessions, one by one; until a session has taken its grant it counts as a holder.
What the others are told is kept here, for their statuses and for the gateway.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from efaas.api.names import WEIGHT_LABEL
from efaas.api.reading import cpus, read_device, read_session, timestamp
from efaas.core.admission import Admission, Candidate, Holder, Waiting
from efaas.core.fairness import UsageLedger
from efaas.core.placement import DeviceView, Health, Request
from efaas.errors import ManifestError
from efaas_operator.metrics import Metrics
from efaas_operator.services.accounts import AccountsService
from efaas_operator.settings import Settings
from efaas_operator.work import WorkQueue
from efaas_operator.world import World

_LOG = logging.getLogger(__name__)
_REST_FACTOR = 4.0
_SHORTEST_REST_S = 0.05
_LONGEST_REST_S = 5.0
_HEAVIEST = 1000
_ANY_NUMBER = 10**6


class AdmissionService:
    """Grants and answers.

    Args:
        world: what is known of the cluster.
        settings: of the installation.
        half_life_s: of past use.
        weights: name of the ConfigMap with weights, in the system's namespace.
        metrics: where shares are shown.
        clock: wall seconds.
    """

    def __init__(
        self,
        world: World,
        settings: Settings,
        half_life_s: float,
        weights: str,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._world = world
        self._settings = settings
        self._weights = f"{settings.system_namespace}/{weights}"
        self._half_life_s = half_life_s
        self._metrics = metrics
        self._clock = clock
        self._requests: dict[str, tuple[int, Request, float]] = {}
        self._weighed: dict[str, float] = {}
        self._changed = asyncio.Event()
        self.admission = Admission(UsageLedger(half_life_s))
        self.granted: set[str] = set()
        """Sessions that were named for release and have not taken it yet."""
        self.answers: Mapping[str, Waiting] = {}
        """What those who wait are told."""
        self.waiting: Callable[[], Iterable[str]] = tuple
        """Keys of sessions that ask for a slot."""
        self.holding: Callable[[], Iterable[tuple[str, str]]] = tuple
        """Keys of sessions that hold one, with the device (empty before they are placed)."""
        self.queue: WorkQueue | None = None
        """Of sessions."""
        self.accounts: AccountsService | None = None
        """What the gateway knows of QPU use; statuses are gone by if it has told nothing."""

    def look_again(self) -> None:
        """Something changed that may let somebody in."""
        self._changed.set()

    def request(self, key: str) -> tuple[Request, float] | None:
        """What a session asks for, and its weight; None if its specification cannot be understood."""
        document = self._world.sessions.get(key)
        if document is None:
            self._requests.pop(key, None)
            return None
        generation = int(document["metadata"].get("generation", 0))
        known = self._requests.get(key)
        if known is None or known[0] != generation:
            try:
                request = read_session(document).request
            except ManifestError as error:
                _LOG.warning("session cannot be read", extra={"session": key, "error": str(error)})
                return None
            weight = float(document["spec"].get("weight", 1))
            known = self._requests[key] = (generation, request, weight)
        return known[1], known[2]

    async def run(self) -> None:
        """Plan until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_LONGEST_REST_S):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            started = time.perf_counter()
            try:
                self.plan()
            except Exception:
                _LOG.exception("no plan could be made")
            took_s = time.perf_counter() - started
            await asyncio.sleep(min(_LONGEST_REST_S, max(_SHORTEST_REST_S, _REST_FACTOR * took_s)))

    def plan(self) -> None:
        """Name those who are released now, and answer the others."""
        now_s = self._clock()
        self._weigh()
        self._take_accounts(now_s)
        holders = []
        for key, device in self.holding():
            found = self.request(key)
            if found is not None:
                holders.append(Holder(found[0], device))
        candidates = []
        for key in self.waiting():
            found = self.request(key)
            if found is None:
                continue
            if key in self.granted:
                holders.append(Holder(found[0]))
                continue
            document = self._world.sessions.get(key)
            assert document is not None
            candidates.append(Candidate(found[0], created_s(document), found[1], self._cores()))
        plan = self.admission.plan(candidates, holders, self._views(now_s), now_s)
        before, self.answers = self.answers, plan.waiting
        if self.queue is None:
            return
        for key in plan.released:
            self.granted.add(key)
            self.queue.add(key)
        for key, answer in plan.waiting.items():
            told = before.get(key)
            if told is None or told.reason != answer.reason:
                self.queue.add(key)

    def charge(self, key: str, cpu_s: float, qpu_s: float) -> None:
        """Count what a session has used in all its life.

        Args:
            key: of the session.
            cpu_s: requested cores times the time for which its pods held them.
            qpu_s: device seconds that QPU servers charged; the gateway's sums go first where there are any.
        """
        told = self.accounts is not None and self.accounts.latest is not None
        self.admission.charge(key, key.partition("/")[0], cpu_s, 0.0 if told else qpu_s, self._clock())

    def recount(self, tenant: str, cpu_s: float, qpu_s: float, ended_s: float) -> None:
        """Count what a session used that was over before this process began; the oldest first."""
        self.admission.ledger.add(tenant, cpu_s, qpu_s, ended_s)

    def take_grant(self, key: str) -> bool:
        """Whether the session was named for release; it is not any more."""
        if key in self.granted:
            self.granted.discard(key)
            return True
        return False

    def forget(self, key: str) -> None:
        """The session is gone."""
        self.granted.discard(key)
        self._requests.pop(key, None)
        self._changed.set()

    def show(self) -> None:
        """Bring the metrics of namespaces up to date."""
        now_s = self._clock()
        ledger = self.admission.ledger
        tenants = {key.partition("/")[0] for key in self._world.sessions.names()}
        for tenant in tenants:
            usage = ledger.usage(tenant, now_s)
            self._metrics.usage.labels(tenant, "cpu").set(usage.cpu_s)
            self._metrics.usage.labels(tenant, "qpu").set(usage.qpu_s)
            self._metrics.share.labels(tenant).set(ledger.dominant_share(tenant, now_s))

    def _views(self, now_s: float) -> list[DeviceView]:
        views = []
        for document in self._world.devices:
            try:
                view = read_device(document, now_s).report.view
                if view.health is Health.PENDING and not view.qubits:
                    # How large it is is not known yet: "not ready" is true, "too small" may not be.
                    view = replace(view, qubits=_ANY_NUMBER)
                views.append(view)
            except ManifestError as error:
                _LOG.warning("device cannot be read", extra={"error": str(error)})
        return views

    def _weigh(self) -> None:
        """Weights as the ConfigMap says, then the namespace's label, then 1."""
        config_map = self._world.config_maps.get(self._weights)
        listed = (config_map or {}).get("data") or {}
        weights = {}
        for namespace in self._world.namespaces:
            name = namespace["metadata"]["name"]
            text = listed.get(name) or (namespace["metadata"].get("labels") or {}).get(WEIGHT_LABEL) or "1"
            weights[name] = weight_in(text)
            if weights[name] != self._weighed.get(name, 1.0):
                self.admission.ledger.set_weight(name, weights[name])
        self._weighed = weights
        if self.accounts is not None:
            self.accounts.tell_weights(weights)

    def _take_accounts(self, now_s: float) -> None:
        """QPU use as the gateway sums it, over all devices and all that ever ran: statuses lag and vanish."""
        latest = self.accounts.latest if self.accounts is not None else None
        if latest is None:
            return
        for name, account in latest.tenants.items():
            self.admission.ledger.report(name, 0.0, account.qpu_s, now_s)

    def _cores(self) -> float:
        return max(cpus(self._settings.runner.cpu), 0.001)


def weight_in(text: str) -> float:
    """A weight as people write it; 1 for what is none: a slip must not stop everybody's admission."""
    try:
        weight = float(text)
    except ValueError:
        return 1.0
    return weight if 0 < weight <= _HEAVIEST else 1.0


def created_s(document: Mapping[str, Any]) -> float:
    """Wall seconds at which an object was made."""
    text = document["metadata"].get("creationTimestamp")
    return timestamp(text) if text else 0.0
