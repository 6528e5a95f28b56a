"""What a device's node says: slots for sessions, a taint against everybody else, news that wake waiting pods.

All of it is reconciled, never patched once: a kubelet that was started anew sets the slots to zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from efaas.api.names import CALIBRATION_EPOCH_ANNOTATION, SESSION_RESOURCE
from efaas_operator import paths
from efaas_operator.kubernetes import Document, KubernetesApi, NotFound
from efaas_operator.siting import capacity_change, news_of, node_change, site_devices
from efaas_operator.world import World


class DeviceNodes:
    """Keeps them.

    Args:
        api: the API server.
        world: what is known; answers of own calls go there at once.
    """

    def __init__(self, api: KubernetesApi, world: World) -> None:
        self._api, self._world = api, world

    async def keep(self, name: str, device: Mapping[str, Any]) -> None:
        """Slots, taint and annotation of a device's node, as often as something took them away."""
        node = self._world.nodes.get(name)
        if node is None:
            return
        current = self._world.devices.get(device["metadata"]["name"]) or device
        await self._change(
            node, int(device["spec"].get("slots", 8)), news_of(device, current.get("status") or {})
        )

    async def clear(self, name: str) -> None:
        """Take slots, taint and annotation off a node."""
        node = self._world.nodes.get(name)
        if node is not None:
            await self._change(node, None, None)

    async def _change(self, node: Document, slots: int | None, news: str | None) -> None:
        path = paths.node(node["metadata"]["name"])
        changes = ((path + "/status", capacity_change(node, slots)), (path, node_change(node, news)))
        for target, change in changes:
            if change is None:
                continue
            if "resourceVersion" in change.get("metadata", {}):
                latest = self._world.nodes.get(node["metadata"]["name"]) or node
                change["metadata"]["resourceVersion"] = latest["metadata"]["resourceVersion"]
            try:
                self._world.nodes.put(await self._api.patch(target, change))
            except NotFound:
                self._world.nodes.gone(node)
                return

    async def clear_left(self) -> None:
        """Free nodes that have no device any more: it was moved, or went while no operator looked."""
        if not self._world.complete:
            return
        sites = site_devices(self._world.devices, self._world.nodes)
        used = {site.node for site in sites.values()}
        for node in self._world.nodes:
            metadata = node["metadata"]
            marked = CALIBRATION_EPOCH_ANNOTATION in (metadata.get("annotations") or {})
            has_slots = SESSION_RESOURCE in ((node.get("status") or {}).get("capacity") or {})
            if metadata["name"] not in used and (marked or has_slots):
                await self.clear(metadata["name"])
