"""Hands changes to those who look on live; slow ones are told to read anew rather than waited for.

Each change has a number, so that a browser that lost its connection asks for what came after. Changes are
kept for a while; who asks for older ones, or reads slower than changes come, gets one ``reset`` and starts
from the read API, which always has everything.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any

_KEPT = 5000
_BACKLOG = 2000
_REMEMBERED_S = 60.0


@dataclass(frozen=True, slots=True)
class Change:
    """One change: JSON-ready, numbered."""

    number: int
    body: dict[str, Any]


class Hub:
    """All lookers-on of one gateway; used in its event loop."""

    def __init__(self) -> None:
        self._number = 0
        self._kept: deque[Change] = deque(maxlen=_KEPT)
        self._listeners: set[asyncio.Queue[Change | None]] = set()
        self._left_s = -math.inf

    @property
    def listeners(self) -> int:
        """How many look on."""
        return len(self._listeners)

    @property
    def is_watched(self) -> bool:
        """Whether somebody looks on, or did a moment ago and may come back for what was missed."""
        return bool(self._listeners) or time.monotonic() - self._left_s < _REMEMBERED_S

    def skip(self) -> None:
        """Things changed that nobody was told of: whoever comes back, or has just come, must read anew."""
        self._number += 1
        self._kept.clear()
        for listener in self._listeners:
            listener.put_nowait(None)

    def publish(self, bodies: Iterable[dict[str, Any]]) -> None:
        """Tell of changes."""
        for body in bodies:
            self._number += 1
            change = Change(self._number, body)
            self._kept.append(change)
            for listener in self._listeners:
                if listener.qsize() < _BACKLOG:
                    listener.put_nowait(change)
                elif listener.qsize() == _BACKLOG:
                    listener.put_nowait(None)

    async def follow(
        self, after: int | None, wanted: Callable[[dict[str, Any]], bool], beat_s: float = 15.0
    ) -> AsyncIterator[Change | None]:
        """Yield changes that are wanted, from now or from after a number; None every so often.

        The iteration ends when changes were missed: the listener must read anew.
        """
        queue: asyncio.Queue[Change | None] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            if after is not None and after != self._number:
                oldest = self._kept[0].number if self._kept else self._number + 1
                if after > self._number or after + 1 < oldest:
                    return
                for change in list(self._kept):
                    if change.number > after:
                        queue.put_nowait(change)
            while True:
                try:
                    item = await asyncio.wait_for(queue.get(), beat_s)
                except TimeoutError:
                    yield None
                    continue
                if item is None:
                    return
                if wanted(item.body):
                    yield item
        finally:
            self._listeners.discard(queue)
            self._left_s = time.monotonic()
