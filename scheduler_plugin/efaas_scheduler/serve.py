"""The process: watches in, decisions out, a server between, and an orderly end.

Everything runs on one event loop: a decision takes less time than a hand-over to another thread would. On
SIGTERM the process stops listening, answers what it is answering, and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import signal
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from efaas.accounts.client import AccountsClient, Endpoint
from efaas.api.meta import API_VERSION
from efaas.api.quantities import seconds
from efaas_scheduler.configuration import Configuration, Gateway, Tls
from efaas_scheduler.connection import Connection
from efaas_scheduler.decide import Decider
from efaas_scheduler.metrics import Metrics
from efaas_scheduler.server import Server
from efaas_scheduler.standing import Standings
from efaas_scheduler.state import Change, Kind, Known
from efaas_scheduler.wake import Waker
from efaas_scheduler.watch import LONGEST_WATCH_S, Watch

_LOG = logging.getLogger(__name__)
_LARGEST_REQUEST_FROM_ELSEWHERE_BYTES = 4096
_CHANGES = {"ADDED": Change.PUT, "MODIFIED": Change.PUT, "DELETED": Change.GONE}


class Extender:
    """State, watches and server of one process.

    Args:
        configuration: what it is told.
        connection: the API server.
    """

    def __init__(self, configuration: Configuration, connection: Connection) -> None:
        self.configuration = configuration
        self._connection = connection
        self.known = Known(
            Standings(seconds(configuration.half_life), dict(configuration.weights)),
            prediction_time_s=seconds(configuration.prediction_time),
            calibration_patience_s=seconds(configuration.calibration_patience),
        )
        self.decider = Decider(
            self.known,
            hold_limit_s=seconds(configuration.hold_limit),
            nodes_to_rank=configuration.nodes_to_rank,
        )
        self.metrics = Metrics()
        self.waker = Waker(self.decider, seconds(configuration.recheck_interval))
        self.server = Server(
            self.decider,
            self.metrics,
            self.trouble,
            request_time_s=seconds(configuration.limits.request_time),
            before_metrics=self._measure,
        )
        gateway = configuration.gateway
        self.accounts = self._listen(gateway) if gateway is not None else None
        ours = f"spec.schedulerName={configuration.scheduler_name}"
        self.watches = {
            Kind.DEVICE: self._watch(Kind.DEVICE, f"/apis/{API_VERSION}/qpudevices"),
            Kind.SESSION: self._watch(Kind.SESSION, f"/apis/{API_VERSION}/vqasessions"),
            Kind.NODE: self._watch(Kind.NODE, "/api/v1/nodes"),
            Kind.POD: self._watch(Kind.POD, "/api/v1/pods", {"fieldSelector": ours}),
        }

    def _listen(self, gateway: Gateway) -> AccountsClient:
        endpoint = Endpoint(
            gateway.url,
            Path(gateway.token_file),
            Path(gateway.ca_file) if gateway.ca_file is not None else None,
            gateway.server_name,
        )
        return AccountsClient(endpoint, lambda told: self.known.standings.hear(told, time.time()))

    def trouble(self) -> str:
        """Why nothing can be decided now; empty if all is well."""
        now_s = time.monotonic()
        limit_s = seconds(self.configuration.staleness_limit)
        for kind, watch in self.watches.items():
            if not watch.synced or watch.contact_s is None:
                return f"not ready: {kind.value}s have not been listed yet"
            age_s = now_s - watch.contact_s
            if age_s > limit_s:
                return (
                    f"state is too old to decide on: no contact with the API server about {kind.value}s for "
                    f"{age_s:.0f} s, limit {limit_s:.0f} s"
                )
        return ""

    async def run(self, address_file: Path | None = None) -> None:
        """Serve until SIGTERM or SIGINT."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        configuration = self.configuration
        runner = self._runner(self.server.handle, configuration.limits.request_bytes)
        await runner.setup()
        sites: list[web.TCPSite] = []
        host, port = configuration.address
        sites.append(web.TCPSite(runner, host or None, port, ssl_context=_server_tls(configuration.tls)))
        elsewhere = self._runner(self.server.handle_from_elsewhere, _LARGEST_REQUEST_FROM_ELSEWHERE_BYTES)
        await elsewhere.setup()
        if configuration.metrics_address is not None:
            host, port = configuration.metrics_address
            sites.append(web.TCPSite(elsewhere, host or None, port))
        connector = aiohttp.TCPConnector(
            ssl=self._connection.ssl if self._connection.ssl is not None else True
        )
        async with aiohttp.ClientSession(connector=connector, read_bufsize=1 << 20) as http:
            tasks = [
                asyncio.create_task(watch.run(http, self._connection), name=f"watch {kind}")
                for kind, watch in self.watches.items()
            ]
            tasks.append(asyncio.create_task(self.waker.run(http, self._connection), name="wake"))
            if self.accounts is not None:
                tasks.append(asyncio.create_task(self.accounts.run(), name="accounts"))
            tasks.append(asyncio.create_task(self._settle(), name="settle"))
            try:
                for site in sites:
                    await site.start()
                address = runner.addresses[0]
                _LOG.info("listening", extra={"address": f"{address[0]}:{address[1]}"})
                if address_file is not None:
                    address_file.write_text(json.dumps({"host": address[0], "port": address[1]}))
                waiter = asyncio.create_task(stop.wait())
                done, _ = await asyncio.wait({waiter, *tasks[:-1]}, return_when=asyncio.FIRST_COMPLETED)
                if waiter not in done:
                    waiter.cancel()
                    # A watch never ends by itself: this is a fault of the program, and a restart mends it.
                    for task in done:
                        task.result()
            finally:
                _LOG.info("stopping")
                for each in (elsewhere, runner):
                    await each.cleanup()
                for task in tasks:
                    task.cancel()
                for task in tasks:
                    with contextlib.suppress(asyncio.CancelledError, Exception):
                        await task

    def _runner(self, handle: Callable[..., Any], limit_bytes: int) -> web.ServerRunner:
        handler = web.Server(
            handle,
            request_factory=_request_factory(limit_bytes),
            keepalive_timeout=seconds(self.configuration.limits.idle_time),
            access_log=None,
        )
        return web.ServerRunner(handler, shutdown_timeout=5)

    async def _settle(self) -> None:
        """Once everything is listed, keep the garbage collector off what will stay for good."""
        while self.trouble():
            await asyncio.sleep(0.1)
        _LOG.info(
            "ready",
            extra={
                "devices": len(self.known.devices),
                "nodes": len(self.known.nodes),
                "sessions": len(self.known.sessions),
                "pods": len(self.known.pods),
            },
        )
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)

    def _watch(self, kind: Kind, path: str, query: Mapping[str, str] | None = None) -> Watch:
        def listed(documents: list[Mapping[str, Any]]) -> None:
            self.known.replace(kind, documents, time.time())

        def changed(event: str, document: Mapping[str, Any]) -> None:
            change = _CHANGES.get(event)
            if change is not None:
                self.known.handle(kind, change, document, time.time())

        relist_s = seconds(self.configuration.relist_interval)
        # A watch that has nothing to say is heard of at its end: often enough to be known as alive.
        watch_s = min(LONGEST_WATCH_S, seconds(self.configuration.staleness_limit) / 2)
        return Watch(path, listed, changed, query or {}, relist_s, watch_s)

    def _measure(self) -> None:
        metrics, known = self.metrics, self.known
        now_s = time.monotonic()
        for kind, watch in self.watches.items():
            age_s = float("inf") if watch.contact_s is None else now_s - watch.contact_s
            metrics.staleness.labels(kind.value).set(age_s)
            metrics.lists.labels(kind.value).set(watch.lists)
            metrics.broken.labels(kind.value).set(watch.restarts)
        for kind, objects in (
            (Kind.DEVICE, known.devices),
            (Kind.SESSION, known.sessions),
            (Kind.NODE, known.nodes),
            (Kind.POD, known.pods),
        ):
            metrics.objects.labels(kind.value).set(len(objects))
        metrics.waiting.set(len(known.refused))
        metrics.expected.set(len(known.predictions))
        metrics.wakes.set(self.waker.wakes)


def _request_factory(limit_bytes: int) -> Any:
    def make(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        return web.BaseRequest(
            message, payload, protocol, writer, task, asyncio.get_running_loop(), client_max_size=limit_bytes
        )

    return make


def _server_tls(tls: Tls | None) -> ssl.SSLContext | None:
    if tls is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls.cert_file, tls.key_file)
    if tls.client_ca_file is not None:
        context.load_verify_locations(tls.client_ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
