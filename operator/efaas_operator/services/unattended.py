"""Devices whose pods and servers somebody else keeps: only their statuses are read.

For installations that run QPU servers by other means, and for tests of everything else. Nothing is fenced on
them beyond what they see themselves: the runner that a session's status names.
"""

from __future__ import annotations

from collections.abc import Mapping

from efaas_operator.services.ports import Charged
from efaas_operator.work import WorkQueue
from efaas_operator.world import World


class Unattended:
    """A `DeviceService` that changes nothing.

    Args:
        world: what is known of the cluster.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    async def reconcile(self, name: str) -> float | None:
        """Nothing is to be done."""
        del name
        return None

    async def run(self) -> None:
        """Nothing goes on."""

    async def fence(self, session: str, lease_epoch: int, device: str) -> bool:
        """Its servers look at the session's status themselves."""
        del session, lease_epoch, device
        return True

    async def close_session(self, session: str) -> bool:
        """Its servers drop idle sessions themselves."""
        del session
        return True

    def charged(self, session: str) -> Charged | None:
        """Nothing is heard of charges."""
        del session
        return None

    def targets(self, device: str) -> list[dict[str, str]]:
        """Endpoints as the devices' statuses tell them, `device` first; none while it has none."""
        found = []
        for document in self._world.devices:
            name, endpoint = document["metadata"]["name"], (document.get("status") or {}).get("endpoint")
            if endpoint:
                found.append({"device": name, "endpoint": endpoint})
        found.sort(key=lambda each: (each["device"] != device, each["device"]))
        return found if found and found[0]["device"] == device else []

    def leaving(self) -> Mapping[str, str]:
        """Sessions leave devices whose status says Draining."""
        return {
            document["metadata"]["name"]: f"the device {document['metadata']['name']} is drained"
            for document in self._world.devices
            if (document.get("status") or {}).get("state") == "Draining"
        }

    def attach(self, queue: WorkQueue, sessions: WorkQueue) -> None:
        """Nothing is added to either."""
        del queue, sessions
