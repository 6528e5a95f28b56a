"""Lists everything, now and then: what watches missed is found, and everything is looked at anew.

The first survey is what the operator begins with: only when all kinds are listed it knows what is missing and
what only is not known yet. Later ones repair: a deletion while no watch was open, an event that was lost.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

from efaas_operator import paths
from efaas_operator.kubernetes import ApiError, KubernetesApi
from efaas_operator.metrics import Metrics
from efaas_operator.settings import POD_SELECTOR
from efaas_operator.world import Kind, World

_LOG = logging.getLogger(__name__)


class Survey:
    """The periodic pass.

    Args:
        api: the API server.
        world: takes the lists.
        system_namespace: whose ConfigMaps are listed.
        metrics: where repairs are counted.
        every_s: between two passes.
        look_at_all: called after each: everything is to be looked at.
    """

    def __init__(
        self,
        api: KubernetesApi,
        world: World,
        system_namespace: str,
        metrics: Metrics,
        every_s: float,
        look_at_all: Callable[[], None],
    ) -> None:
        self._api = api
        self._world = world
        self._metrics = metrics
        self._every_s = every_s
        self._look_at_all = look_at_all
        self._collections: dict[Kind, tuple[str, dict[str, str]]] = {
            Kind.NAMESPACE: (paths.NAMESPACES, {}),
            Kind.NODE: (paths.NODES, {}),
            Kind.DEVICE: (paths.DEVICES, {}),
            Kind.CONFIG_MAP: (paths.core(system_namespace, "configmaps"), {}),
            # Sessions before pods: a pod that is listed has its session in the list before.
            Kind.SESSION: (paths.SESSIONS, {}),
            Kind.POD: (paths.PODS, {"labelSelector": POD_SELECTOR}),
        }
        self.done_s = 0.0
        """Monotonic seconds at which the last pass was complete; 0: none was."""

    async def once(self) -> None:
        """List everything.

        Raises:
            ApiError: a list could not be had.
        """
        for kind, (path, query) in self._collections.items():
            first = not self._world[kind].listed
            documents, version = await self._api.list_all(path, query)
            changed = self._world[kind].replace(documents, int(version))
            if changed and not first:
                self._metrics.repaired.labels(kind.value).inc(changed)
        self.done_s = time.monotonic()

    async def run(self) -> None:
        """Pass after pass, until cancelled."""
        while True:
            await asyncio.sleep(self._every_s * random.uniform(0.9, 1.1))
            try:
                await self.once()
            except ApiError as error:
                _LOG.warning("the periodic pass could not list everything", extra={"error": str(error)})
                continue
            self._look_at_all()
