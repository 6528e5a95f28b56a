"""What is said to all devices at once: fences, and ends of sessions.

Every device is asked, because a session may have turned to any. One whose server does not answer is done
without it only where no old stream can live on: there is no pod, or it does not run, or its node is silent
and the pod was forced away. Kubernetes takes no token of a pod that is gone, and a kubelet that comes back
ends the container; the next server asks for the session's runner before it lets anybody in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from efaas.api.wire import qpu_pb2 as wire
from efaas_operator.kubernetes import Document
from efaas_operator.services.device_objects import DeviceObjects
from efaas_operator.services.nodes import silent
from efaas_operator.services.servers import QpuServers, Silence
from efaas_operator.world import World

_LOG = logging.getLogger(__name__)
_AT_ONCE = 32


class DeviceReach:
    """Speaks to all devices.

    Args:
        world: what is known of the cluster.
        objects: pods of servers.
        servers: calls them.
        hear: takes a device's answer.
    """

    def __init__(
        self,
        world: World,
        objects: DeviceObjects,
        servers: QpuServers,
        hear: Callable[[str, wire.DeviceState], None],
    ) -> None:
        self._world, self._objects, self._servers, self._hear = world, objects, servers, hear

    async def fence(self, session: str, lease_epoch: int) -> bool:
        """Have all devices refuse a session's epochs up to this one; whether all do now."""
        uid = str(((self._world.sessions.get(session) or {}).get("metadata") or {}).get("uid", ""))

        async def one(name: str, address: str) -> None:
            await self._servers.fence(name, address, session, lease_epoch, uid)

        return await self._on_all(one, f"fence {session} up to {lease_epoch}")

    async def close_session(self, session: str) -> bool:
        """Take a session's jobs off all devices' queues; whether all have said so, or are gone."""

        async def one(name: str, address: str) -> None:
            await self._servers.close_session(name, address, session)
            # The last charges belong to the session's status, which is about to be its last one.
            self._hear(name, await self._servers.describe(name, address, [session]))

        return await self._on_all(one, f"close {session}")

    async def _on_all(self, one: Callable[[str, str], Awaitable[None]], what: str) -> bool:
        places = asyncio.Semaphore(_AT_ONCE)

        async def tell(device: Document) -> bool:
            name, address = device["metadata"]["name"], self._objects.address(device)
            async with places:
                if address:
                    try:
                        await one(name, address)
                    except Silence as silence:
                        _LOG.info("not told", extra={"device": name, "what": what, "error": str(silence)})
                    else:
                        return True
                return await self._cannot_serve(name)

        return all(await asyncio.gather(*(tell(device) for device in self._world.devices)))

    async def _cannot_serve(self, name: str) -> bool:
        """Whether no stream to a device that does not answer can live on; see the module's text."""
        pod = self._objects.pod(name)
        if pod is None:
            return True
        status = pod.get("status") or {}
        if status.get("phase") in ("Failed", "Succeeded"):
            return True
        if not any(
            (each.get("state") or {}).get("running") for each in status.get("containerStatuses") or ()
        ):
            return True
        if not silent(self._world.nodes.get(pod["spec"].get("nodeName") or "")):
            return False
        await self._objects.force_away(name)
        return True
