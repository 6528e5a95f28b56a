"""The story of a session in Kubernetes events, as ``kubectl describe`` tells it.

One event for each thing that a person would want to know of: placed, running, ended, and whatever went wrong.
An event's name follows from what it says, so that what was told before a restart is not told again. Events
are news and no state: one that cannot be written is let go.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from efaas.api.meta import API_VERSION
from efaas_operator import paths
from efaas_operator.build.conditions import rfc3339
from efaas_operator.kubernetes import AlreadyExists, ApiError, KubernetesApi

_LOG = logging.getLogger(__name__)
_REMEMBERED = 20_000
_LONGEST = 1000

CALM = frozenset({"Placed", "Running", "Converged", "Completed", "Resumed", "Suspended", "Moving"})
"""Reasons that are no warning."""


class Story:
    """Writes events.

    Args:
        api: the API server.
    """

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api
        self._told: OrderedDict[str, None] = OrderedDict()

    async def tell(
        self, subject: Mapping[str, Any], chapter: str, reason: str, message: str, now_s: float
    ) -> None:
        """Write an event about a session (or, in the system's namespace, a device).

        Args:
            subject: the object that it is about.
            chapter: tells apart the same reason at different times, such as the runner's epoch.
            reason: one CamelCase word.
            message: a sentence.
            now_s: wall seconds.
        """
        metadata = subject["metadata"]
        mark = hashlib.sha256(f"{metadata['uid']} {chapter} {reason}".encode()).hexdigest()[:16]
        if mark in self._told:
            return
        self._told[mark] = None
        while len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        namespace = metadata.get("namespace", "default")
        moment = rfc3339(now_s)
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{mark}", "namespace": namespace},
            "involvedObject": {
                "apiVersion": subject.get("apiVersion", API_VERSION),
                "kind": subject["kind"],
                "name": metadata["name"],
                "namespace": namespace if "namespace" in metadata else "",
                "uid": metadata["uid"],
            },
            "reason": reason[:128],
            "message": message[:_LONGEST],
            "type": "Normal" if reason in CALM else "Warning",
            "source": {"component": "efaas-operator"},
            "reportingComponent": "efaas.dev/operator",
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "count": 1,
        }
        try:
            await self._api.create(paths.core(namespace, "events"), event)
        except AlreadyExists:
            pass
        except ApiError as error:
            _LOG.info("event not written", extra={"reason": reason, "error": str(error)})
