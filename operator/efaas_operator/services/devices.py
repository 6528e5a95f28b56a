"""Devices, looked at: their servers' pods, their nodes, their statuses; and what sessions want of them all.

**One look** (`reconcile`) starts from what is there: it finds the device a node, brings its server's pod to
what the document says, tells the server what its keeper wants (cordon, a calibration), writes the status, and
gives the node its slots, its taint and the annotation that wakes waiting pods. Servers are asked how they are
every two seconds (`run`), and each answer leads to a look.

**Going.** A finalizer keeps a device while sessions are on it. With the annotation ``efaas.dev/force-delete``
they are moved elsewhere, as with ``efaas.dev/drain``; checkpoints stay with the journals.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from efaas.api.session import VQASessionSpec
from efaas.api.shapes import circuit_key
from efaas.api.wire import qpu_pb2 as wire
from efaas_operator import paths
from efaas_operator.build.device import UNHURRIED, Seen, Trouble, build_device_status
from efaas_operator.build.qpu import qpu_endpoint, qpu_host
from efaas_operator.kubernetes import Document, KubernetesApi, NotFound
from efaas_operator.leaving import why_closed, why_leave
from efaas_operator.reading import ended
from efaas_operator.services.device_nodes import DeviceNodes
from efaas_operator.services.device_objects import DeviceObjects
from efaas_operator.services.device_reach import DeviceReach
from efaas_operator.services.ports import Charged
from efaas_operator.services.servers import QpuServers, Silence
from efaas_operator.services.statuses import difference
from efaas_operator.services.story import Story
from efaas_operator.settings import FINALIZER, Settings
from efaas_operator.siting import Site, site_devices
from efaas_operator.targets import targets
from efaas_operator.work import WorkQueue
from efaas_operator.world import World, key_of, session_of

if TYPE_CHECKING:
    from efaas_operator.process import Operator

_LOG = logging.getLogger(__name__)

_POLL_S = 2.0
_AT_ONCE = 32
_SLOW_LOOK_S = 30.0
_PATIENCE_S = 6.0
"""A server that was heard of so lately is not missed yet."""
_UNHURRIED_S = 10.0
_HURRIED_S = 1.0
_SITES_LAST_S = 0.5
_TOLD_AGAIN_S = 5.0
_MOST_ASKED = 4096
_ON_A_DEVICE = frozenset({"Placed", "Running"})
_OVER = frozenset({"Completed", "Failed", "Cancelled", "Expired"})


@dataclass(slots=True)
class Heard:
    """What is in memory of one device."""

    uid: str = ""
    described: wire.DeviceState | None = None
    described_at_s: float = 0.0
    """Wall seconds since 1970."""
    silence: str = ""
    """Why its server did not answer last; empty: it did."""
    charges: dict[str, wire.SessionCharge] = field(default_factory=dict)
    written_s: float = 0.0
    """Monotonic seconds of the last write of its status."""
    passed_on: str = ""
    leaving: str = ""
    """Why sessions were told to leave it."""
    told: str = ""
    """Reason of the trouble that its story has told."""


def attend(operator: Operator) -> Devices:
    """The device service of an operator that keeps QPU servers itself."""
    configuration, settings = operator.configuration, operator.settings
    tls = configuration.qpu_tls
    servers = QpuServers(
        Path(configuration.qpu_token_file),
        Path(tls.ca_file) if tls is not None else None,
        lambda device: qpu_host(device, settings),
        settings.stream_port,
    )
    return Devices(operator.api, operator.world, settings, servers, operator.story)


class Devices:
    """The `DeviceService` that keeps QPU servers.

    Args:
        api: the API server.
        world: what is known of the cluster.
        settings: of the installation.
        servers: calls QPU servers.
        story: writes events.
        clock: wall seconds.
    """

    def __init__(
        self,
        api: KubernetesApi,
        world: World,
        settings: Settings,
        servers: QpuServers,
        story: Story,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api, self._world, self._settings = api, world, settings
        self._servers, self._story, self._clock = servers, story, clock
        self._objects = DeviceObjects(api, world, settings)
        self._nodes = DeviceNodes(api, world)
        self._reach = DeviceReach(world, self._objects, servers, self._hear)
        self._heard: dict[str, Heard] = {}
        self._sites: tuple[float, dict[str, Site]] = (0.0, {})
        self._circuits: dict[str, tuple[int, str | None]] = {}
        self._told_sessions: dict[str, tuple[tuple[object, ...], float]] = {}
        self._queue: WorkQueue | None = None
        self._session_queue: WorkQueue | None = None

    def attach(self, queue: WorkQueue, sessions: WorkQueue) -> None:
        """Take the queues of devices and of sessions."""
        self._queue, self._session_queue = queue, sessions

    # --- one look ---------------------------------------------------------------------------------

    async def reconcile(self, name: str) -> float | None:
        """Look at one device; returns after how many seconds to look again."""
        device = self._world.devices.get(name)
        if device is None:
            await self._gone(name)
            return None
        metadata = device["metadata"]
        heard = self._memory_of(device)
        deleting = bool(metadata.get("deletionTimestamp"))
        there = self._sessions_on(name)
        self._wish_away(device, heard, there)
        if deleting and not there:
            await self._let_go(device)
            return None
        if not deleting and FINALIZER not in (metadata.get("finalizers") or ()):
            device = await self._hold(device)
        site = self._site(name)
        trouble = (
            await self._objects.bring_up(device, site.node)
            if site.node
            else Trouble(site.reason, site.message, "Pending")
        )
        if trouble is None:
            trouble = await self._tell_server(device, heard)
        leaving = why_closed(device, there)
        seen = Seen(
            node=site.node,
            endpoint=qpu_endpoint(name, self._settings) if site.node else "",
            trouble=trouble,
            described=heard.described,
            described_at_s=heard.described_at_s,
            leaving=leaving,
            circuits=self._circuits_of(there),
            passed_on=heard.passed_on,
        )
        again_s = await self._write(device, heard, seen)
        if site.node:
            await self._nodes.keep(site.node, device)
        await self._narrate(device, heard, trouble)
        return min(again_s or _SLOW_LOOK_S, _POLL_S if deleting or trouble is not None else _SLOW_LOOK_S)

    def _wish_away(self, device: Mapping[str, Any], heard: Heard, there: list[str]) -> None:
        """Have sessions looked at as soon as they are to leave; `leaving` tells them why."""
        reason = why_leave(device)
        if reason and reason != heard.leaving and self._session_queue is not None:
            for key in there:
                self._session_queue.add(key)
        heard.leaving = reason

    def _site(self, name: str) -> Site:
        made_s, sites = self._sites
        now_s = time.monotonic()
        if name not in sites or now_s - made_s > _SITES_LAST_S:
            sites = site_devices(self._world.devices, self._world.nodes)
            self._sites = (now_s, sites)
        return sites[name]

    async def _hold(self, device: Document) -> Document:
        """Put the finalizer on: from now on the device goes only when it is let go."""
        metadata = device["metadata"]
        change = {
            "metadata": {
                "resourceVersion": metadata["resourceVersion"],
                "finalizers": [*(metadata.get("finalizers") or ()), FINALIZER],
            }
        }
        stored = await self._api.patch(paths.device(metadata["name"]), change)
        self._world.devices.put(stored)
        return self._world.devices.get(metadata["name"]) or stored

    async def _let_go(self, device: Document) -> None:
        """No session is on it: its node is freed, and the object may go; Kubernetes deletes what it owns."""
        metadata = device["metadata"]
        node = (device.get("status") or {}).get("node") or device["spec"].get("node")
        if node and self._site(metadata["name"]).node == node:
            await self._nodes.clear(node)
        finalizers = [each for each in metadata.get("finalizers") or () if each != FINALIZER]
        change = {"metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": finalizers}}
        try:
            self._world.devices.put(await self._api.patch(paths.device(metadata["name"]), change))
        except NotFound:
            self._world.devices.gone(device)

    async def _tell_server(self, device: Mapping[str, Any], heard: Heard) -> Trouble | None:
        """Tell a server what its keeper wants; what keeps it from serving, if anything does."""
        name, described = device["metadata"]["name"], heard.described
        address = self._objects.address(device)
        if heard.silence:
            if described is None or self._clock() - heard.described_at_s > _PATIENCE_S:
                state = "Pending" if described is None else "Down"
                return Trouble(
                    "NotAnswering", f"its pod runs, its server does not answer: {heard.silence}", state
                )
            return None
        if described is None:
            return Trouble("ServerStarting", "its pod runs, its server was not asked yet", "Pending")
        spec = device["spec"]
        closed = spec.get("cordon") or why_leave(device) or device["metadata"].get("deletionTimestamp")
        wanted = wire.CORDONED if closed else wire.OPEN
        requested = (spec.get("calibration") or {}).get("requestedAt") or ""
        try:
            if described.availability != wanted:
                await self._servers.cordon(name, address, wanted)
            if requested and requested != heard.passed_on:
                await self._servers.calibrate(name, address)
                heard.passed_on = requested
        except Silence as silence:
            _LOG.warning("a server did not take a call", extra={"device": name, "error": str(silence)})
        if described.condition == "WorkerStarting":
            return Trouble("ServerStarting", "its simulator is being started", "Pending")
        return None

    async def _write(self, device: Mapping[str, Any], heard: Heard, seen: Seen) -> float | None:
        """Write what changed, if it is time; returns for how long it is not."""
        previous = device.get("status") or {}
        wanted = build_device_status(device, seen, previous, self._clock())
        change = difference(previous, wanted)
        if not change:
            return None
        wait_s = heard.written_s + (_UNHURRIED_S if _can_wait(previous, wanted, change) else _HURRIED_S)
        left_s = wait_s - time.monotonic()
        if left_s > 0 and heard.written_s:
            return left_s
        metadata = device["metadata"]
        body = {"metadata": {"uid": metadata["uid"]}, "status": change}
        heard.written_s = time.monotonic()
        try:
            stored = await self._api.patch(paths.device(metadata["name"]) + "/status", body)
        except NotFound:
            self._world.devices.gone(device)
            return None
        self._world.devices.put(stored)
        return None

    async def _narrate(self, device: Mapping[str, Any], heard: Heard, trouble: Trouble | None) -> None:
        reason = trouble.reason if trouble is not None and trouble.state == "Down" else ""
        if reason and reason != heard.told and trouble is not None:
            moment_s = self._clock()
            await self._story.tell(device, str(int(moment_s) // 60), reason, trouble.message, moment_s)
        heard.told = reason

    # --- asking -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Ask all servers every two seconds, until cancelled."""
        try:
            while True:
                started_s = time.monotonic()
                try:
                    await self.ask_all()
                    await self._nodes.clear_left()
                except Exception as error:
                    _LOG.warning("not all devices could be asked", extra={"error": repr(error)})
                await asyncio.sleep(max(0.1, started_s + _POLL_S - time.monotonic()))
        finally:
            await self._servers.close()

    async def ask_all(self) -> None:
        """Ask every server how it is, all at the same time."""
        sessions = [key for key in self._world.sessions.names() if self._may_be_charged(key)][:_MOST_ASKED]
        places = asyncio.Semaphore(_AT_ONCE)

        async def ask(device: Document) -> None:
            async with places:
                await self._ask(device, sessions)

        await asyncio.gather(*(ask(device) for device in self._world.devices))

    def _may_be_charged(self, session: str) -> bool:
        document = self._world.sessions.get(session)
        status = (document or {}).get("status") or {}
        return bool(status.get("device")) and status.get("state") not in _OVER

    async def _ask(self, device: Document, sessions: list[str]) -> None:
        name = device["metadata"]["name"]
        heard = self._heard.get(name)
        address = self._objects.address(device)
        if heard is None or heard.uid != device["metadata"]["uid"]:
            return
        if not address:
            heard.silence = "it has no running pod"
            await self._servers.forget(name)
            return
        try:
            described = await self._servers.describe(name, address, sessions)
            if described.device != name:
                raise Silence(f"the device {described.device} answers at its address")
        except Silence as silence:
            heard.silence = str(silence)
        else:
            self._hear(name, described)
        if self._queue is not None:
            self._queue.add(name)

    def _memory_of(self, device: Mapping[str, Any]) -> Heard:
        """What is in memory of a device, begun where there is nothing yet, or only of an earlier one."""
        metadata = device["metadata"]
        heard = self._heard.get(metadata["name"])
        if heard is None or heard.uid != metadata["uid"]:
            heard = self._heard[metadata["name"]] = Heard(metadata["uid"])
            calibration = (device.get("status") or {}).get("calibration") or {}
            heard.passed_on = calibration.get("requestPassedOn", "")
        return heard

    def _hear(self, name: str, described: wire.DeviceState) -> None:
        """Take a server's answer.

        It may come before the device was looked at for the first time: a session that ended while no operator
        was there is closed at once, and what it is charged is told only then.
        """
        device = self._world.devices.get(name)
        if device is not None and described.device == name:
            heard = self._memory_of(device)
            heard.silence, heard.described, heard.described_at_s = "", described, self._clock()
            self._hear_charges(heard, described)

    def _hear_charges(self, heard: Heard, described: wire.DeviceState) -> None:
        """Take charges, and have sessions looked at whose charges have grown, every now and then."""
        now_s = time.monotonic()
        for charge in described.charges:
            heard.charges[charge.session] = charge
            told, moment_s = self._told_sessions.get(charge.session, ((), 0.0))
            known = (charge.uid, charge.shots, charge.qpu_s, charge.last_job_at_s)
            if (
                known != told
                and now_s - moment_s >= _TOLD_AGAIN_S
                and self._world.sessions.get(charge.session)
            ):
                self._told_sessions[charge.session] = (known, now_s)
                if self._session_queue is not None:
                    self._session_queue.add(charge.session)

    # --- what sessions ask ------------------------------------------------------------------------

    async def fence(self, session: str, lease_epoch: int, device: str) -> bool:
        """See `DeviceService`; every device is asked, wherever the session was placed."""
        del device
        return await self._reach.fence(session, lease_epoch)

    async def close_session(self, session: str) -> bool:
        """See `DeviceService`."""
        return await self._reach.close_session(session)

    def charged(self, session: str) -> Charged | None:
        """See `DeviceService`; charges of an earlier session of the same name do not count."""
        document = self._world.sessions.get(session)
        uid = document["metadata"]["uid"] if document is not None else ""
        found = [
            heard.charges[session]
            for heard in self._heard.values()
            if session in heard.charges and heard.charges[session].uid in ("", uid)
        ]
        if not found:
            return None
        return Charged(
            sum(charge.shots for charge in found),
            sum(charge.qpu_s for charge in found),
            max(charge.last_job_at_s for charge in found),
        )

    def targets(self, device: str) -> list[dict[str, str]]:
        """See `DeviceService`: the own device, then twins of it, then others that serve; a few of them."""
        return targets(self._world.devices, device)

    def leaving(self) -> Mapping[str, str]:
        """See `DeviceService`."""
        return {
            device["metadata"]["name"]: reason
            for device in self._world.devices
            if (reason := why_leave(device))
        }

    def _sessions_on(self, device: str) -> list[str]:
        """Keys of sessions that are on a device, as their statuses have it or as their pods are bound."""
        found = {
            key_of(session)
            for session in self._world.sessions
            if (session.get("status") or {}).get("device") == device
            and session["status"].get("state") in _ON_A_DEVICE
        }
        node = (self._world.devices.get(device) or {}).get("status", {}).get("node")
        for pod in self._world.pods:
            session_key = session_of(pod)
            if session_key and node and pod["spec"].get("nodeName") == node and not ended(pod):
                found.add(session_key)
        return sorted(found)

    def _circuits_of(self, sessions: list[str]) -> dict[str, str]:
        found = {}
        for key in sessions:
            document = self._world.sessions.get(key)
            if document is None:
                continue
            generation = int(document["metadata"].get("generation", 0))
            known = self._circuits.get(key)
            if known is None or known[0] != generation:
                try:
                    spec = VQASessionSpec.model_validate(document["spec"], extra="ignore")
                    known = (generation, circuit_key(spec))
                except ValidationError:
                    known = (generation, None)
                self._circuits[key] = known
            if known[1] is not None:
                found[key] = known[1]
        return found

    async def _gone(self, name: str) -> None:
        self._heard.pop(name, None)
        self._objects.forget(name)
        await self._servers.forget(name)


def _can_wait(previous: Mapping[str, Any], wanted: Mapping[str, Any], change: Mapping[str, Any]) -> bool:
    """Whether nothing changed but what moves with every look."""
    if set(change) - UNHURRIED:
        return False
    before, after = previous.get("calibration") or {}, wanted.get("calibration") or {}
    return all(before.get(name) == after.get(name) for name in ("epoch", "endsAt", "requestPassedOn"))
