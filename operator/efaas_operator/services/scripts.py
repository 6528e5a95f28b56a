"""Whether the ConfigMap with a session's script is there.

A kubelet tells of a missing one by events only, and after the session has taken a slot. So it is looked up
before the session is considered, and again while its runner does not start. Users' ConfigMaps are asked for
one by one and not watched: a cluster may have any number of them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from efaas_operator import paths
from efaas_operator.kubernetes import KubernetesApi, NotFound


class Scripts:
    """Answers about scripts, each good for a short while.

    Args:
        api: the API server.
        good_for_s: an answer is not asked for again within this.
    """

    def __init__(self, api: KubernetesApi, good_for_s: float) -> None:
        self._api = api
        self._good_for_s = good_for_s
        self._found: dict[str, tuple[float, str]] = {}

    async def missing(self, session: Mapping[str, Any]) -> str:
        """What of a session's script is missing, as a sentence with the remedy; empty if nothing is."""
        script = (session["spec"].get("program") or {}).get("script")
        if not script:
            return ""
        metadata = session["metadata"]
        key = f"{metadata['namespace']}/{metadata['name']}"
        known = self._found.get(key)
        if known is not None and time.monotonic() - known[0] < self._good_for_s:
            return known[1]
        answer = await self._look(metadata["namespace"], script["name"], script["key"])
        self._found[key] = (time.monotonic(), answer)
        return answer

    def forget(self, key: str) -> None:
        """The session is over."""
        self._found.pop(key, None)

    async def _look(self, namespace: str, name: str, key: str) -> str:
        try:
            found = await self._api.get(paths.core(namespace, "configmaps", name))
        except NotFound:
            return f"spec.program.script names the ConfigMap {name}, which is not there; create it"
        if key not in (found.get("data") or {}):
            return f"the ConfigMap {name} has no key {key}; add it or change spec.program.script.key"
        return ""
