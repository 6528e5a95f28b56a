"""Wakes pods that kube-scheduler keeps aside.

A pod that no node would take waits for an event that kube-scheduler watches: a change of a Node is one, a
change of a QPUDevice is not. The operator therefore writes a device's news on its Node. Three things it
cannot know: that this process heard of the news only after kube-scheduler had asked; that a session became
known; and that the time has come to let a pod go that was held back. Then this process touches a Node itself,
by an annotation that holds the time, at most once a second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Final

import aiohttp

from efaas.api.meta import GROUP
from efaas_scheduler.connection import Connection
from efaas_scheduler.decide import Decider

_LOG = logging.getLogger(__name__)

WAKE_ANNOTATION: Final = f"{GROUP}/scheduler-wake"
"""On a QPU node: when waiting pods were last woken by the scheduler."""
_LEAST_INTERVAL_S = 1.0
_TICK_S = 0.1


class Waker:
    """Touches a Node when refused pods should be tried again.

    Args:
        decider: what it is decided by.
        recheck_s: refused pods are tried again at least this often.
    """

    def __init__(self, decider: Decider, recheck_s: float) -> None:
        self._decider = decider
        self._recheck_s = recheck_s
        self.wakes = 0
        self._last_s = 0.0

    def due(self, now_s: float) -> bool:
        """Whether to wake now."""
        known = self._decider.known
        if not known.refused or now_s - self._last_s < _LEAST_INTERVAL_S:
            return False
        release_s = self._decider.next_release_s(now_s)
        return (
            known.wake_wanted
            or (release_s is not None and release_s <= now_s)
            or now_s - max(self._last_s, min(known.refused.values())) >= self._recheck_s
        )

    async def run(self, http: aiohttp.ClientSession, connection: Connection) -> None:
        """Wake until cancelled."""
        while True:
            await asyncio.sleep(_TICK_S)
            now_s = time.time()
            if not self.due(now_s):
                continue
            node = next(iter(self._decider.known.fleet.rows), None) or next(
                iter(self._decider.known.nodes), None
            )
            if node is None:
                continue
            self._decider.known.wake_wanted = False
            self._last_s = now_s
            moment = datetime.now(UTC).isoformat()
            try:
                async with http.patch(
                    f"{connection.server}/api/v1/nodes/{node}",
                    json={"metadata": {"annotations": {WAKE_ANNOTATION: moment}}},
                    headers=connection.headers() | {"Content-Type": "application/merge-patch+json"},
                    timeout=aiohttp.ClientTimeout(total=5),
                ) as response:
                    response.raise_for_status()
                    self.wakes += 1
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self._decider.known.wake_wanted = True
                _LOG.warning("waiting pods not woken", extra={"node": node, "error": repr(error)})
