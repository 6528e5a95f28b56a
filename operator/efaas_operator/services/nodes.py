"""Which nodes are silent, and whose sessions that is news for.

A node is silent when Kubernetes does not know how it is (its condition Ready is Unknown: its kubelet has not
been heard of for the grace period), or when it is gone although a pod is still bound to it. A kubelet that
says "not ready" is heard: what it says of pods is true.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from efaas_operator.world import World, session_of


def silent(node: Mapping[str, Any] | None) -> bool:
    """Whether nobody hears of a node."""
    if node is None:
        return True
    for condition in (node.get("status") or {}).get("conditions") or ():
        if condition["type"] == "Ready":
            return bool(condition["status"] == "Unknown")
    return False  # a node that has just joined


class SilentNodes:
    """Nodes with runner pods that nobody hears of.

    Args:
        world: what is known of the cluster.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.names: set[str] = set()

    def look(self) -> set[str]:
        """Look at all nodes; returns the sessions for which something changed."""
        before = set(self.names)
        places: dict[str, set[str]] = {}
        for pod in self._world.pods:
            node, session = pod["spec"].get("nodeName"), session_of(pod)
            if node and session:
                places.setdefault(node, set()).add(session)
        self.names.clear()
        self.names.update(name for name in places if silent(self._world.nodes.get(name)))
        return {session for node in before ^ self.names for session in places.get(node, ())}
