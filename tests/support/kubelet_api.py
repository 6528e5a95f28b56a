"""The API server as a kubelet sees it: requests in one event loop, and lists that watches keep up to date."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.rest import ApiError, Document

_LAST_WORDS_S = 0.25
TROUBLE = (aiohttp.ClientError, OSError, asyncio.TimeoutError)
"""What a request ends with when nobody answers."""


class AsyncApi:
    """REST client of the API server for one event loop.

    Args:
        server: ``https://127.0.0.1:PORT``.
        token: bearer token.
        ca_file: certificates to trust.
    """

    def __init__(self, server: str, token: str, ca_file: Path) -> None:
        self.server, self.token, self.ca_file = server, token, ca_file
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> AsyncApi:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self.token}", "Accept": "application/json"},
            connector=aiohttp.TCPConnector(ssl=context, limit=64),
            timeout=aiohttp.ClientTimeout(total=30),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        # TLS connections end a moment after they are closed; a loop gone by then would leave them open.
        await asyncio.sleep(_LAST_WORDS_S)

    async def call(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        content_type: str = "application/json",
        **query: Any,
    ) -> Document:
        """Send one request.

        Raises:
            ApiError: the answer is not a success.
        """
        body = None if document is None else json.dumps(document).encode()
        headers = {"Content-Type": content_type} if body else {}
        url = self.server + path
        async with self._session.request(method, url, data=body, headers=headers, params=query) as answer:
            parsed: Document = json.loads(await answer.read() or b"{}")
            if answer.status >= 400:
                raise ApiError(answer.status, parsed)
            return parsed

    async def merge(self, path: str, change: Mapping[str, Any]) -> Document:
        """Change an object by a merge patch."""
        return await self.call("PATCH", path, change, content_type="application/merge-patch+json")

    async def stream(self, path: str, **query: Any) -> aiohttp.ClientResponse:
        """Open a watch; read it line by line."""
        unlimited = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=None)
        return await self._session.get(
            self.server + path, params={"watch": "1", **query}, timeout=unlimited, read_bufsize=2**22
        )


Key = tuple[str, str]
"""Namespace and name."""


class Known:
    """The objects of one collection, kept by a list and a watch.

    Args:
        api: client.
        path: of the collection.
        changed: told each object as it is now, and whether it is gone.
    """

    def __init__(self, api: AsyncApi, path: str, changed: Callable[[Document, bool], None]) -> None:
        self.objects: dict[Key, Document] = {}
        self._api, self._path, self._changed = api, path, changed
        self.listed = asyncio.Event()

    async def keep(self) -> None:
        """List, watch, and list again whenever the watch breaks."""
        while True:
            try:
                await self._once()
            except (*TROUBLE, ApiError, ValueError):
                await asyncio.sleep(0.2)

    async def _once(self) -> None:
        listing = await self._api.call("GET", self._path)
        present = {key_of(each): each for each in listing["items"]}
        for key in [key for key in self.objects if key not in present]:
            self._changed(self.objects.pop(key), True)
        for key, each in present.items():
            before = self.objects.get(key)
            if before is not None and before["metadata"]["uid"] != each["metadata"]["uid"]:
                self._changed(before, True)
            self.objects[key] = each
            self._changed(each, False)
        self.listed.set()
        version = listing["metadata"]["resourceVersion"]
        response = await self._api.stream(self._path, resourceVersion=version, allowWatchBookmarks="true")
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(response.close)
            async for line in response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                if event["type"] == "BOOKMARK":
                    continue
                each, gone = event["object"], event["type"] == "DELETED"
                if gone:
                    self.objects.pop(key_of(each), None)
                else:
                    self.objects[key_of(each)] = each
                self._changed(each, gone)


def key_of(document: Mapping[str, Any]) -> Key:
    """Where an object is."""
    return document["metadata"].get("namespace", ""), document["metadata"]["name"]
