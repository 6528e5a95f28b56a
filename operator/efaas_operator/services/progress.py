"""How far sessions are, as the gateway knows it from their journals.

One request brings a thousand running sessions, so the gateway is asked every few seconds for all of them.
While it is away, what was heard last holds.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
from pydantic_core import from_json

from efaas_operator.services.ports import Progress

_LOG = logging.getLogger(__name__)
_PAGE = 1000
_LARGEST_ANSWER_BYTES = 16 << 20
_LARGEST = 1e15


class NoProgress:
    """Without a gateway nobody tells how far a session is, before its runner has ended."""

    def known(self, session: str) -> Progress | None:
        """Nothing."""
        del session
        return None

    def forget(self, session: str) -> None:
        """Nothing was remembered."""
        del session

    async def run(self) -> None:
        """Nothing goes on."""


class GatewayProgress:
    """Asks the gateway.

    Args:
        url: of its HTTP API.
        token_file: the operator's token for the gateway.
        ca_file: certificates that the gateway's own is checked with; None: the system's.
        every_s: between two questions.
        moved: called with the key of each session that got on.
    """

    def __init__(
        self, url: str, token_file: Path, ca_file: Path | None, every_s: float, moved: Callable[[str], None]
    ) -> None:
        self._url = f"{url.rstrip('/')}/api/v1/sessions"
        self._token_file = token_file
        self._ca_file = ca_file
        self._every_s = every_s
        self._moved = moved
        self._known: dict[str, Progress] = {}
        self._said = ""

    def known(self, session: str) -> Progress | None:
        """As last heard; None before anything was heard."""
        return self._known.get(session)

    def forget(self, session: str) -> None:
        """The session is gone."""
        self._known.pop(session, None)

    async def run(self) -> None:
        """Ask until cancelled."""
        tls: ssl.SSLContext | bool = True
        if self._ca_file is not None:
            tls = ssl.create_default_context(cafile=str(self._ca_file))
        timeout = aiohttp.ClientTimeout(total=10, sock_connect=3)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls), timeout=timeout) as http:
            while True:
                try:
                    await self._ask(http)
                    self._say("")
                except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError) as error:
                    self._say(f"{type(error).__name__}: {error}")
                await asyncio.sleep(self._every_s)

    async def _ask(self, http: aiohttp.ClientSession) -> None:
        token = (await asyncio.to_thread(self._token_file.read_text)).strip()
        query = {"state": "Running", "limit": str(_PAGE)}
        while True:
            async with http.get(
                self._url,
                params=query,
                headers={"Authorization": f"Bearer {token}"},
                allow_redirects=False,
            ) as response:
                response.raise_for_status()
                if (response.content_length or 0) > _LARGEST_ANSWER_BYTES:
                    raise ValueError("an answer is larger than 16 MiB")
                page = from_json(await response.read())
            for item in page["items"]:
                self._take(item)
            if not page.get("next"):
                return
            query["cursor"] = page["next"]

    def _take(self, item: Mapping[str, Any]) -> None:
        key = f"{item['namespace']}/{item['name']}"
        iterations = item.get("iterations")
        if not isinstance(iterations, int) or not 0 <= iterations < _LARGEST:
            return
        progress = Progress(iterations, _number(item.get("best")), _number(item.get("ttns_s")))
        if progress != self._known.get(key):
            self._known[key] = progress
            self._moved(key)

    def _say(self, trouble: str) -> None:
        # A gateway that is away for an hour is one line, not a thousand.
        if trouble != self._said:
            _LOG.warning("progress of sessions", extra={"trouble": trouble or "over"})
        self._said = trouble


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
        return None
    return float(value)
