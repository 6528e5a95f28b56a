"""The process: a standby until it holds the Lease, then the operator, until it loses it or is told to end.

Everything runs on one event loop, and nothing on it blocks: calls are awaited, and the longest computation, a
plan of admission, rests in proportion to what it took. A leader that lost its Lease ends the process at once;
it is started anew as a standby, with nothing left over of what it believed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from efaas.api.quantities import seconds
from efaas.kubernetes.connection import Connection
from efaas_operator.configuration import Configuration
from efaas_operator.handlers import watching
from efaas_operator.kubernetes import ApiError, Document, KubernetesApi
from efaas_operator.metrics import Metrics
from efaas_operator.probes import Probes
from efaas_operator.services.accounts import AccountsService
from efaas_operator.services.admission import AdmissionService
from efaas_operator.services.devices import attend
from efaas_operator.services.election import Election, LostLease
from efaas_operator.services.nodes import SilentNodes
from efaas_operator.services.ports import DeviceService, ProgressSource
from efaas_operator.services.progress import GatewayProgress, NoProgress
from efaas_operator.services.reports import GatewayReports
from efaas_operator.services.runners import Runners
from efaas_operator.services.scripts import Scripts
from efaas_operator.services.sessions import SessionService
from efaas_operator.services.statuses import Statuses
from efaas_operator.services.story import Story
from efaas_operator.services.survey import Survey
from efaas_operator.services.unattended import Unattended
from efaas_operator.work import WorkQueue
from efaas_operator.world import Kind, World, key_of, session_of

_LOG = logging.getLogger(__name__)
_STUCK_S = 60.0
_OUT_OF_TOUCH_S = 150.0

MakeDevices = Callable[["Operator"], DeviceService]


class Operator:
    """Everything of a leader, put together.

    Args:
        configuration: what it is told.
        api: the API server.
        connection: how kopf reaches it.
        metrics: what is counted.
        make_devices: makes what keeps devices.
    """

    def __init__(
        self,
        configuration: Configuration,
        api: KubernetesApi,
        connection: Connection,
        metrics: Metrics,
        make_devices: MakeDevices | None = None,
    ) -> None:
        self.configuration = configuration
        self.settings = configuration.settings()
        self.api = api
        self.metrics = metrics
        self.world = world = World()
        self.story = Story(api)
        pace = configuration.pace
        gateway = configuration.gateway
        self._registry = watching.make_registry(connection, world, metrics)
        self._kopf_settings = watching.make_settings(configuration.system_namespace)
        ca_file = Path(configuration.qpu_tls.ca_file) if configuration.qpu_tls is not None else None
        self.devices: DeviceService
        if make_devices is not None:
            self.devices = make_devices(self)
        elif configuration.attend_devices:
            self.devices = attend(self)
        else:
            self.devices = Unattended(world)
        self.admission = AdmissionService(
            world, self.settings, seconds(configuration.half_life), configuration.weights, metrics
        )
        self.accounts = AccountsService(configuration)
        self.admission.accounts = self.accounts
        token_file = Path(configuration.gateway_token_file)
        self.progress: ProgressSource = NoProgress()
        location = ""
        if gateway is not None and gateway.url is not None:
            location = f"{gateway.url.rstrip('/')}/api/v1/sessions"
            self.progress = GatewayProgress(
                gateway.url,
                token_file,
                Path(gateway.ca_file) if gateway.ca_file is not None else None,
                seconds(pace.progress_interval),
                lambda key: self.session_queue.add(key),
            )
        self._runners = Runners(api, world, self.settings, ca_file)
        self.sessions = SessionService(
            api,
            world,
            self._runners,
            self.admission,
            self.devices,
            Statuses(api, world, pace, location),
            self.story,
            Scripts(api, 0.5 * seconds(pace.repair_interval)),
            self.progress,
            metrics,
            repair_s=seconds(pace.repair_interval),
        )
        self.session_queue = WorkQueue("VQASession", self.sessions.reconcile, metrics, workers=pace.workers)
        self.device_queue = WorkQueue("QPUDevice", self.devices.reconcile, metrics, workers=2)
        self.admission.queue = self.session_queue
        self.devices.attach(self.device_queue, self.session_queue)
        self._reports = (
            GatewayReports(gateway, token_file, self.sessions.reports) if gateway is not None else None
        )
        self._silent = SilentNodes(world)
        self.sessions.silent_nodes = self._silent.names
        self._survey = Survey(
            api, world, configuration.system_namespace, metrics, seconds(pace.full_pass), self._look_at_all
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop."""
        while True:
            try:
                await self._survey.once()
                break
            except ApiError as error:
                _LOG.warning("the cluster could not be listed yet", extra={"error": str(error)})
                await asyncio.sleep(1.0)
        _LOG.info("knows the cluster", extra={kind.value: len(self.world[kind]) for kind in Kind})
        self._silent.look()
        self.sessions.adopt()
        self.world.listen(self._changed)
        self._look_at_all()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self.session_queue.run(), name="sessions"),
                group.create_task(self.device_queue.run(), name="devices"),
                group.create_task(self.devices.run(), name="device service"),
                group.create_task(self.admission.run(), name="admission"),
                group.create_task(self._survey.run(), name="survey"),
                group.create_task(self.progress.run(), name="progress"),
                group.create_task(self.accounts.listen(), name="accounts"),
            ]
            if self._reports is not None:
                tasks.append(group.create_task(self._reports.run(), name="reports"))
            await watching.watch(self._registry, self._kopf_settings, stop)
            for task in tasks:
                task.cancel()

    def trouble(self) -> str:
        """Why the leader's work does not go on; empty if it does."""
        now_s = time.monotonic()
        if not self.world.complete:
            return "the cluster has not been listed yet"
        age_s = now_s - self._survey.done_s
        limit_s = max(_OUT_OF_TOUCH_S, 3 * seconds(self.configuration.pace.full_pass))
        if age_s > limit_s:
            return f"the API server could not be listed for {age_s:.0f} s"
        return ""

    def stuck(self) -> str:
        """Why the process should be started anew; empty if it need not."""
        for queue in (self.session_queue, self.device_queue):
            if queue.alive_s and time.monotonic() - queue.alive_s > _STUCK_S:
                return f"the queue of {queue.kind}s stands still"
        return ""

    def show(self) -> None:
        """Bring gauges up to date."""
        for state, number in self.sessions.states().items():
            self.metrics.sessions.labels(state).set(number)
        for kind in Kind:
            self.metrics.objects.labels(kind.value).set(len(self.world[kind]))
        for device in self.world.devices:
            name, status = device["metadata"]["name"], device.get("status") or {}
            self.metrics.duty_cycle.labels(name).set(status.get("dutyCyclePermille", 0) / 1000)
            age_s = (status.get("calibration") or {}).get("ageSeconds", 0)
            self.metrics.freshness.labels(name).set(age_s)
        self.admission.show()

    # --- what changes tell ------------------------------------------------------------------------

    def _changed(self, kind: Kind, key: str, before: Document | None, after: Document | None) -> None:
        match kind:
            case Kind.SESSION:
                self.session_queue.add(key)
                if before is None or after is None:
                    self.admission.look_again()
            case Kind.POD:
                self._pod_changed(before, after)
            case Kind.DEVICE:
                self.device_queue.add(key)
                self.admission.look_again()
                self._device_changed(key, before, after)
            case Kind.NODE:
                self._node_changed(key)
            case Kind.NAMESPACE | Kind.CONFIG_MAP:
                self.admission.look_again()
                if kind is Kind.CONFIG_MAP:
                    self._all_devices()

    def _pod_changed(self, before: Document | None, after: Document | None) -> None:
        pod = after if after is not None else before
        if pod is None:
            return
        session = session_of(pod)
        if session is not None:
            if after is None:
                self._runners.forget(pod)
            self.session_queue.add(session)
            return
        for owner in pod["metadata"].get("ownerReferences") or ():
            if owner["kind"] == "QPUDevice":
                self.device_queue.add(owner["name"])

    def _device_changed(self, name: str, before: Document | None, after: Document | None) -> None:
        """A device's state or endpoint matters to those who are on it or about to be told of it."""

        def telling(device: Document | None) -> tuple[object, ...]:
            status = (device or {}).get("status") or {}
            return status.get("state"), status.get("endpoint"), status.get("node")

        if telling(before) != telling(after):
            for key in self.sessions.on_device(name):
                self.session_queue.add(key)

    def _node_changed(self, name: str) -> None:
        for key in self._silent.look():
            self.session_queue.add(key)
        del name
        self._all_devices()

    def _all_devices(self) -> None:
        for device in self.world.devices:
            self.device_queue.add(key_of(device))

    def _look_at_all(self) -> None:
        self._silent.look()
        for key in self.world.sessions.names():
            self.session_queue.add(key)
        self._all_devices()
        self.admission.look_again()


async def serve(
    configuration: Configuration,
    connection: Connection,
    address_file: Path | None = None,
    make_devices: MakeDevices | None = None,
) -> int:
    """Serve until SIGTERM (returns 0) or until the Lease is lost (returns 1)."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    metrics = Metrics()
    leader: list[Operator] = []
    async with contextlib.AsyncExitStack() as stack:
        # A renewal that takes long is no renewal: it gives up long before the Lease runs out.
        lease_api = await stack.enter_async_context(KubernetesApi(connection, metrics, patience_s=1.5))
        api = await stack.enter_async_context(KubernetesApi(connection, metrics))
        chosen = configuration.election
        identity = f"{socket.gethostname()}_{os.getpid()}_{uuid.uuid4().hex[:8]}"
        election = Election(
            lease_api,
            configuration.system_namespace,
            chosen.lease,
            identity,
            seconds(chosen.duration),
            seconds(chosen.renew),
        )

        def unready() -> str:
            if leader:
                return leader[0].trouble()
            age_s = time.monotonic() - election.looked_s
            if age_s > 3 * seconds(chosen.duration):
                return "the lease could not be looked at: no answer of the API server"
            return ""

        def show() -> None:
            metrics.leader.set(1 if leader else 0)
            if leader:
                leader[0].show()

        probes = Probes(
            configuration.host,
            configuration.port,
            metrics,
            lambda: leader[0].stuck() if leader else "",
            unready,
            show,
        )
        host, port = await probes.start()
        stack.push_async_callback(probes.close)
        _LOG.info("listening", extra={"address": f"{host}:{port}", "identity": identity})
        if address_file is not None:
            address_file.write_text(json.dumps({"host": host, "port": port}))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        stopping = asyncio.create_task(stop.wait(), name="stop")
        winning = asyncio.create_task(election.win(), name="election")
        await asyncio.wait({stopping, winning}, return_when=asyncio.FIRST_COMPLETED)
        if not winning.done():
            winning.cancel()
            return 0
        await winning
        operator = Operator(configuration, api, connection, metrics, make_devices)
        leader.append(operator)
        working = asyncio.create_task(operator.run(stop), name="operator")
        keeping = asyncio.create_task(election.keep(), name="lease")
        done, _ = await asyncio.wait({working, keeping}, return_when=asyncio.FIRST_COMPLETED)
        if keeping in done:
            try:
                keeping.result()
            except LostLease as lost:
                # Not one more write: what is under way is dropped with the process.
                _LOG.error("no longer the leader", extra={"reason": str(lost)})
                for handler in logging.getLogger().handlers:
                    handler.flush()
                os._exit(1)
        keeping.cancel()
        working.result()
        await election.give_back()
    return 0
