"""What is to be looked at next: keys, each once, by a few workers.

A key that is added while it waits is looked at once; one that is added while it is being looked at is looked
at again, never twice at once. A look that fails is repeated after a pause that doubles. A look may name the
moment of the next one. So whoever learns of a change only adds a key, and nothing that decides runs twice at
a time for the same object.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from efaas_operator.kubernetes import ApiError
from efaas_operator.metrics import Metrics

_LOG = logging.getLogger(__name__)

Reconcile = Callable[[str], Awaitable[float | None]]
"""Looks at a key's object; returns after how many seconds to look again, None: when something changes."""


class WorkQueue:
    """Keys to look at.

    Args:
        kind: of the objects, for log and metrics.
        reconcile: looks at one.
        metrics: where looks are counted.
        workers: looks that may go on at the same time.
        first_pause_s: after a failed look; doubled with each further one in a row.
        longest_pause_s: of those.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        kind: str,
        reconcile: Reconcile,
        metrics: Metrics,
        *,
        workers: int = 4,
        first_pause_s: float = 0.2,
        longest_pause_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.kind = kind
        self._reconcile = reconcile
        self._metrics = metrics
        self._workers = workers
        self._first_pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._clock = clock
        self._ready: OrderedDict[str, None] = OrderedDict()
        self._later: list[tuple[float, str]] = []
        self._due: dict[str, float] = {}
        self._busy: set[str] = set()
        self._again: set[str] = set()
        self._failures: dict[str, int] = {}
        self._changed = asyncio.Event()
        self.alive_s = 0.0
        """Monotonic seconds at which a worker last began or ended a look, or had nothing to do."""

    def __len__(self) -> int:
        return len(self._ready) + len(self._busy)

    def add(self, key: str, after_s: float = 0.0) -> None:
        """Have a key looked at, now or later; the earlier of two wishes counts."""
        if after_s > 0:
            due_s = self._clock() + after_s
            if key in self._ready or due_s >= self._due.get(key, float("inf")):
                return
            self._due[key] = due_s
            heapq.heappush(self._later, (due_s, key))
            if self._later[0][1] == key:
                self._changed.set()
            return
        if key in self._busy:
            self._again.add(key)
        else:
            self._ready.setdefault(key)
            self._changed.set()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._alarm(), name=f"{self.kind} alarm")
            for number in range(self._workers):
                group.create_task(self._work(), name=f"{self.kind} worker {number}")

    async def idle(self) -> None:
        """Wait until nothing is left to look at now; for tests."""
        while self._ready or self._busy:
            await asyncio.sleep(0.01)

    async def _alarm(self) -> None:
        """Move keys whose moment has come to those that are ready."""
        while True:
            now_s = self._clock()
            self.alive_s = now_s
            while self._later and self._later[0][0] <= now_s:
                due_s, key = heapq.heappop(self._later)
                if self._due.get(key) == due_s:
                    del self._due[key]
                    self.add(key)
            self._metrics.waiting_keys.labels(self.kind).set(len(self._ready))
            wait_s = self._later[0][0] - now_s if self._later else 1.0
            await asyncio.sleep(min(max(wait_s, 0.01), 0.2))

    async def _work(self) -> None:
        while True:
            while not self._ready:
                self._changed.clear()
                await self._changed.wait()
            key, _ = self._ready.popitem(last=False)
            self._busy.add(key)
            self._due.pop(key, None)
            try:
                await self._look(key)
            finally:
                self._busy.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)

    async def _look(self, key: str) -> None:
        started = self._clock()
        try:
            after_s = await self._reconcile(key)
        except Exception as error:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            pause_s = min(self._longest_pause_s, self._first_pause_s * 2.0 ** min(failures - 1, 20))
            self._metrics.reconcile_errors.labels(self.kind).inc()
            level = logging.WARNING if isinstance(error, ApiError) else logging.ERROR
            _LOG.log(
                level,
                "look failed",
                extra={"kind": self.kind, "key": key, "error": repr(error), "again_in_s": round(pause_s, 1)},
                exc_info=None if isinstance(error, ApiError) else error,
            )
            self.add(key, pause_s)
        else:
            self._failures.pop(key, None)
            if after_s is not None:
                self.add(key, max(after_s, 0.01))
        finally:
            self._metrics.reconciling.labels(self.kind).observe(self._clock() - started)
