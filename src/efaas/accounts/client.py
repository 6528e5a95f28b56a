"""Keeps up with the gateway's accounts; goes on with the last ones while it is away.

One HTTP request stays open and brings an event every second. A connection that says nothing for
`SILENCE_S` is given up for a new one. Whoever uses the accounts asks for `latest`, at any time, and never
waits: accounts that are some minutes old are better than none, and `age_s` says how old they are.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from efaas.accounts.message import ACCOUNTS_PATH, EVENT_LIMIT_BYTES, Accounts, read_accounts, read_events
from efaas.errors import EfaasError, InputError

logger = logging.getLogger(__name__)

SILENCE_S = 5.0
"""Wall seconds without a word after which a connection counts as lost."""

_LONGEST_BACKOFF_S = 5.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the gateway's HTTP API is, and what admits to it."""

    url: str
    """``http://host:port`` or ``https://…``, without a path."""
    token_file: Path | None = None
    """File with the token; read anew for each connection, because Kubernetes renews it."""
    ca_file: Path | None = None
    """Certificates that the gateway's own is checked with; None: the system's."""
    server_name: str | None = None
    """Name that the certificate must have, if it is not the one in the address."""

    def token(self) -> str:
        """The token; empty without a file.

        Raises:
            OSError: the file cannot be read.
        """
        return self.token_file.read_text().strip() if self.token_file is not None else ""


class AccountsClient:
    """Hears the accounts; made and run in one event loop.

    Args:
        endpoint: the gateway.
        heard: called with each telling, in the event loop.
        clock: monotonic seconds.

    Attributes:
        latest: what was told last; None until then.
        tellings: how many were heard.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        heard: Callable[[Accounts], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint = endpoint
        self._heard = heard
        self._clock = clock
        self._heard_s = 0.0
        self._said = ""
        self.latest: Accounts | None = None
        self.tellings = 0

    @property
    def age_s(self) -> float | None:
        """Wall seconds since the last telling; None: there was none."""
        return None if self.latest is None else self._clock() - self._heard_s

    async def run(self) -> None:
        """Listen until cancelled, over any number of connections."""
        backoff_s = 0.1
        while True:
            before = self.tellings
            try:
                await self._listen()
                self._say("the gateway ended the stream of accounts")
            except (aiohttp.ClientError, TimeoutError, OSError, EfaasError) as error:
                self._say(f"no accounts from {self._endpoint.url}: {error or type(error).__name__}")
            if self.tellings > before:
                backoff_s = 0.1
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, _LONGEST_BACKOFF_S)

    def _say(self, text: str) -> None:
        # A gateway that is away for an hour is one line, not a thousand.
        if text != self._said:
            logger.warning("%s; going on with %s", text, "the last ones" if self.latest else "none")
        self._said = text

    async def _listen(self) -> None:
        token = self._endpoint.token()
        headers = {"Accept": "text/event-stream", **({"Authorization": f"Bearer {token}"} if token else {})}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE_S, sock_read=SILENCE_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.get(
                self._endpoint.url.rstrip("/") + ACCOUNTS_PATH,
                headers=headers,
                ssl=self._tls(),
                server_hostname=self._endpoint.server_name,
                allow_redirects=False,
            ) as response,
        ):
            if response.status != 200:
                words = (await response.content.read(500)).decode(errors="replace")
                raise InputError(f"it answers {response.status} {words}", place=self._endpoint.url)
            async for event, data in _events(response.content):
                if event == "accounts":
                    self._take(read_accounts(data))

    def _take(self, accounts: Accounts) -> None:
        if self._said:
            logger.info("accounts from %s are heard again", self._endpoint.url)
            self._said = ""
        self.latest, self._heard_s = accounts, self._clock()
        self.tellings += 1
        if self._heard is not None:
            self._heard(accounts)

    def _tls(self) -> ssl.SSLContext | bool:
        if self._endpoint.ca_file is None:
            return True
        # Read anew: certificates are renewed while this runs.
        return ssl.create_default_context(cafile=str(self._endpoint.ca_file))


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[tuple[str, str]]:
    """Events of a response, each as soon as it is whole.

    Raises:
        InputError: an event is longer than `EVENT_LIMIT_BYTES`.
    """
    lines: list[str] = []
    rest, size = b"", 0
    async for chunk in content.iter_any():
        size += len(chunk)
        parts = (rest + chunk).split(b"\n")
        rest = parts.pop()
        for part in parts:
            line = part.rstrip(b"\r").decode(errors="replace")
            lines.append(line)
            if not line:
                for event in read_events(lines):
                    yield event
                lines, size = [], len(rest)
        if size > EVENT_LIMIT_BYTES:
            raise InputError(f"an event of more than {EVENT_LIMIT_BYTES} bytes", place="accounts")
