"""List and watch one kind of object, for ever.

A watch starts where a list ended and is told everything after. It breaks in many ways, and each has its
answer:

- The server ends it in time (we ask for half a minute, or less where state must not be that old): go on from
  the last resource version. So even a quiet watch is heard of in time, and a connection that died in silence
  is noticed.
- The connection breaks or stalls: try again with growing pauses, from the last resource version.
- The version is too old (410 Gone, as a status or as an event): list anew.
- Something was missed all the same: list anew every few minutes, whatever the watch said.

`contact_s` is when the server was last heard of; whoever decides on the state looks at it first.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from pydantic_core import from_json

from efaas_scheduler.connection import Connection

_LOG = logging.getLogger(__name__)
_PAGE = 500
LONGEST_WATCH_S = 30.0
_SLACK_S = 10.0
_LONGEST_PAUSE_S = 5.0
_LARGEST_EVENT_BYTES = 16 << 20

Document = Mapping[str, Any]


class Gone(Exception):
    """The resource version is too old to go on from."""


@dataclass
class Watch:
    """One resource.

    Args:
        path: of the collection, such as ``/api/v1/nodes``.
        query: selectors.
        listed: takes all objects of a list.
        changed: takes (event type, object).
        relist_s: everything is read anew this often.
        watch_s: the server is asked to end a watch after this.
        clock: monotonic seconds.
    """

    path: str
    listed: Callable[[list[Document]], None]
    changed: Callable[[str, Document], None]
    query: Mapping[str, str] = field(default_factory=dict)
    relist_s: float = 600.0
    watch_s: float = LONGEST_WATCH_S
    clock: Callable[[], float] = time.monotonic
    synced: bool = False
    contact_s: float | None = None
    """When the server was last heard of; None before the first list."""
    lists: int = 0
    restarts: int = 0
    """Watches that ended otherwise than in time."""
    _version: str = ""

    async def run(self, http: aiohttp.ClientSession, connection: Connection) -> None:
        """Follow the resource until cancelled."""
        pause_s = 0.1
        relist_at_s = 0.0
        while True:
            try:
                if not self._version or self.clock() >= relist_at_s:
                    await self._list(http, connection)
                    relist_at_s = self.clock() + self.relist_s * random.uniform(0.9, 1.1)
                await self._follow(http, connection)
                pause_s = 0.1
            except Gone:
                self._version = ""
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError) as error:
                self.restarts += 1
                _LOG.warning("watch broken", extra={"resource": self.path, "error": repr(error)})
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _list(self, http: aiohttp.ClientSession, connection: Connection) -> None:
        objects: list[Document] = []
        query = {**self.query, "limit": str(_PAGE)}
        while True:
            timeout = aiohttp.ClientTimeout(total=60, sock_connect=5, sock_read=30)
            async with http.get(
                connection.server + self.path, params=query, headers=connection.headers(), timeout=timeout
            ) as response:
                if response.status == 410:
                    raise Gone
                response.raise_for_status()
                page = from_json(await response.read())
            self.contact_s = self.clock()
            objects.extend(page["items"])
            token = page["metadata"].get("continue")
            if not token:
                break
            query["continue"] = token
        self.listed(objects)
        self._version = page["metadata"]["resourceVersion"]
        self.synced = True
        self.lists += 1

    async def _follow(self, http: aiohttp.ClientSession, connection: Connection) -> None:
        query = {
            **self.query,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(max(1, int(self.watch_s))),
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=self.watch_s + _SLACK_S)
        async with http.get(
            connection.server + self.path, params=query, headers=connection.headers(), timeout=timeout
        ) as response:
            if response.status == 410:
                raise Gone
            response.raise_for_status()
            self.contact_s = self.clock()
            rest = b""
            async for chunk in response.content.iter_any():
                self.contact_s = self.clock()
                lines = (rest + chunk).split(b"\n") if rest else chunk.split(b"\n")
                rest = lines.pop()
                if len(rest) > _LARGEST_EVENT_BYTES:
                    raise ValueError("an event is larger than 16 MiB")
                for line in lines:
                    if line:
                        self._event(from_json(line))
        self.contact_s = self.clock()

    def _event(self, event: Mapping[str, Any]) -> None:
        kind, found = event["type"], event["object"]
        if kind == "ERROR":
            if found.get("code") in (410, 504):
                raise Gone
            raise ValueError(str(found.get("message", found)))
        if kind != "BOOKMARK":
            self.changed(kind, found)
        self._version = found["metadata"]["resourceVersion"]
