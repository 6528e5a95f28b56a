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

from efaas_operator.services.ports import Charged, Progress

_LOG = logging.getLogger(__name__)
_PAGE = 1000
_LARGEST_ANSWER_BYTES = 16 << 20
_LARGEST = 1e15
_PAGE_S = 10.0
_CHARGES_S = 5.0


class NoProgress:
    """Without a gateway nobody tells how far a session is, before its runner has ended."""

    def known(self, session: str) -> Progress | None:
        """Nothing."""
        del session
        return None

    def forget(self, session: str) -> None:
        """Nothing was remembered."""
        del session

    async def charged(self, session: str, since_s: float) -> Charged | None:
        """Nothing."""
        del session, since_s
        return None

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
        self._url = f"{url.rstrip('/')}/api/v1"
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

    async def charged(self, session: str, since_s: float) -> Charged | None:
        """What devices booked for a session, those included that nobody reaches any more.

        It is asked for once in a session's life, when that ends, so it has a connection of its own.
        """
        namespace = session.partition("/")[0]
        query = {"by": "session", "tenant": namespace, "start": repr(since_s)}
        try:
            async with self._opened(_CHARGES_S) as http:
                answer = await self._get(http, "usage", query)
            for row in answer["items"]:
                if row["session"] == session:
                    return Charged(int(row["shots"]), float(row["qpu_s"]))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError) as error:
            _LOG.warning("charges of a session", extra={"key": session, "trouble": f"{error!r}"})
        return None

    def _opened(self, within_s: float) -> aiohttp.ClientSession:
        tls: ssl.SSLContext | bool = True
        if self._ca_file is not None:
            tls = ssl.create_default_context(cafile=str(self._ca_file))
        timeout = aiohttp.ClientTimeout(total=within_s, sock_connect=3)
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls), timeout=timeout)

    async def run(self) -> None:
        """Ask until cancelled."""
        async with self._opened(_PAGE_S) as http:
            while True:
                try:
                    await self._ask(http)
                    self._say("")
                except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError) as error:
                    self._say(f"{type(error).__name__}: {error}")
                await asyncio.sleep(self._every_s)

    async def _ask(self, http: aiohttp.ClientSession) -> None:
        query = {"state": "Running", "limit": str(_PAGE)}
        while True:
            page = await self._get(http, "sessions", query)
            for item in page["items"]:
                self._take(item)
            if not page.get("next"):
                return
            query["cursor"] = page["next"]

    async def _get(self, http: aiohttp.ClientSession, path: str, query: Mapping[str, str]) -> Any:
        token = (await asyncio.to_thread(self._token_file.read_text)).strip()
        async with http.get(
            f"{self._url}/{path}",
            params=query,
            headers={"Authorization": f"Bearer {token}"},
            allow_redirects=False,
        ) as response:
            response.raise_for_status()
            if (response.content_length or 0) > _LARGEST_ANSWER_BYTES:
                raise ValueError("an answer is larger than 16 MiB")
            return from_json(await response.read())

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
