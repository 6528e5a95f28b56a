"""kopf watches; every event goes into the world, which tells the queues.

Of kopf's handlers only raw events are used: they are level-based (here is how the object is now) and write
nothing to it, while kopf's create, update and resume handlers keep their progress in annotations and run for
every object at each restart. kopf lists, watches, follows bookmarks, lists anew after 410 and breaks off
watches that say nothing. What it does not do: tell of objects that were deleted while no watch was open. The
periodic pass (`efaas_operator.services.survey`) finds those.

kopf has an event loop of its own in a thread of its own: when it ends, by a fault as well, it cancels every
task of its loop that it does not know, and it takes over the process's signals. What it is told goes to the
operator's loop, where alone the world is read and written.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import kopf

from efaas.api.meta import GROUP, VERSION
from efaas.kubernetes.connection import Connection
from efaas_operator.metrics import Metrics
from efaas_operator.settings import POD_SELECTOR
from efaas_operator.world import Kind, World

_TOKEN_READ_AGAIN = timedelta(minutes=5)
_SERVER_ENDS_WATCH_S = 30
_SILENCE_S = 40.0

RESOURCES: dict[Kind, tuple[str, ...]] = {
    Kind.SESSION: (GROUP, VERSION, "vqasessions"),
    Kind.DEVICE: (GROUP, VERSION, "qpudevices"),
    Kind.POD: ("", "v1", "pods"),
    Kind.NODE: ("", "v1", "nodes"),
    Kind.NAMESPACE: ("", "v1", "namespaces"),
    Kind.CONFIG_MAP: ("", "v1", "configmaps"),
}
"""Group, version and plural of what is watched."""


def field_selector(system_namespace: str) -> str:
    """Field selector of the ConfigMaps that are looked at: the system's; users' are asked for by name."""
    return f"metadata.namespace={system_namespace}"


def make_registry(connection: Connection, world: World, metrics: Metrics) -> kopf.OperatorRegistry:
    """Handlers of all kinds, and how kopf logs in; to be called on the loop that the world belongs to."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        certificate, key = connection.certificate or (None, None)
        expires = datetime.now(UTC) + _TOKEN_READ_AGAIN if connection.token_file is not None else None
        return kopf.ConnectionInfo(
            server=connection.server,
            ca_data=connection.ca,
            token=await asyncio.to_thread(connection.bearer),
            certificate_path=certificate,
            private_key_path=key,
            expiration=expires,
        )

    for kind, resource in RESOURCES.items():
        _watch(registry, kind, resource, world, metrics)
    return registry


def make_settings(system_namespace: str) -> kopf.OperatorSettings:
    """How kopf watches: by server-side selectors, with silence noticed, and without events of its own."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.watching.server_timeout = _SERVER_ENDS_WATCH_S
    settings.watching.inactivity_timeout = _SILENCE_S
    settings.watching.connect_timeout = 5
    settings.watching.chunk_size = 500
    settings.watching.label_selectors["pods"] = POD_SELECTOR
    settings.watching.field_selectors["configmaps"] = field_selector(system_namespace)
    settings.networking.request_timeout = 10
    settings.networking.connect_timeout = 5
    # A worker waits for more of its object before it goes; a limit would make others wait for that.
    settings.queueing.worker_limit = None
    settings.queueing.idle_timeout = 0.1
    settings.process.ultimate_exiting_timeout = None
    settings.persistence.diffbase_storage = _NoDifferences()
    return settings


class _NoDifferences(kopf.DiffBaseStorage):
    """kopf's memory of what an object was, which nobody here asks for.

    Each event would have the object copied twice for it, a fifth of what watching costs at thousands of
    sessions; whether anything changed is seen in `World`, by resource versions.
    """

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        del body, extra_fields
        return {}

    def fetch(self, *, body: Any) -> Any:
        del body

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        del body, patch, essence


def _watch(
    registry: kopf.OperatorRegistry, kind: Kind, resource: tuple[str, ...], world: World, metrics: Metrics
) -> None:
    store, told = world[kind], metrics.watch_events.labels(kind.value)
    loop = asyncio.get_running_loop()

    @kopf.on.event(*resource, registry=registry, id=f"watch-{kind.value}")
    async def hear(event: Any, **_: Any) -> None:
        told.inc()
        take = store.gone if event["type"] == "DELETED" else store.put
        loop.call_soon_threadsafe(take, event["object"])


async def watch(
    registry: kopf.OperatorRegistry, settings: kopf.OperatorSettings, stop: asyncio.Event
) -> None:
    """Watch until told to stop; kopf gives up on errors in a watch, so it is started anew."""
    log = logging.getLogger(__name__)
    pause_s = 0.5
    stopping = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            flag, ended = _start(registry, settings)
            broken: asyncio.Future[Any] = asyncio.wrap_future(ended)
            waiting: set[asyncio.Future[Any]] = {broken, stopping}
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                flag.set()
            if not stop.is_set():
                error = broken.exception()
                log.warning("watching broke off and begins anew", extra={"error": repr(error)})
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, 5.0)
    finally:
        stopping.cancel()


def _start(
    registry: kopf.OperatorRegistry, settings: kopf.OperatorSettings
) -> tuple[threading.Event, concurrent.futures.Future[None]]:
    """Start kopf in a thread; returns what stops it, and what tells that it ended."""
    flag = threading.Event()
    ended: concurrent.futures.Future[None] = concurrent.futures.Future()

    def run() -> None:
        try:
            asyncio.run(
                kopf.operator(
                    registry=registry, settings=settings, clusterwide=True, standalone=True, stop_flag=flag
                )
            )
            ended.set_result(None)
        except BaseException as error:
            ended.set_exception(error)

    threading.Thread(target=run, name="kopf", daemon=True).start()
    return flag, ended
