"""Finds a QPU that answers: addresses that come late, servers that are started anew, then the next QPU."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from efaas.errors import QpuUnavailable, SessionEnded
from efaas.runner.environment import QpuTarget
from efaas.runner.jobs import Connect, Connection, News, Request, Terms

if TYPE_CHECKING:
    from efaas.client import SessionIdentity, Trust

CONNECTION_PATIENCE_S = 5.0
"""Wall seconds that one connection mends itself before it counts as lost: a server that was started anew
may be at another address, so it is better to look again soon."""

_LONGEST_PAUSE_S = 0.05
"""Wall seconds between two looks for an address that is not there yet."""


def trust_in(target: QpuTarget) -> Trust | None:
    """Which certificate a QPU's server must show; None if its stream is plain."""
    if target.ca_file is None:
        return None
    from efaas.client import Trust

    return Trust(target.ca_file, target.server_name)


@dataclass(eq=False)
class Connected:
    """A connection, and what is registered on it."""

    connection: Connection
    target: QpuTarget
    endpoint: str
    registered: set[str | bytes | Terms] = field(default_factory=set)
    given_up: bool = False

    @property
    def moved(self) -> bool:
        """Whether the server has been started anew at another address."""
        return self.target.address() not in ("", self.endpoint)

    def knows(self, request: Request) -> bool:
        """Whether all that a job names is registered here."""
        return all(thing in self.registered for thing in (request.program, *request.observables))


class Connector:
    """Connects a session to one of its QPUs.

    Args:
        targets: QPUs that may be used, the session's own first.
        identity: who speaks; each QPU's token is put in.
        connect: makes a connection.
        patience_s: wall seconds that each QPU is waited for before the next one is tried.
        news: hears about what is tried.
    """

    def __init__(
        self,
        targets: Sequence[QpuTarget],
        identity: Callable[[], SessionIdentity],
        connect: Connect,
        patience_s: float,
        news: News,
    ) -> None:
        self.targets = tuple(targets)
        self._identity = identity
        self._connect = connect
        self._patience_s = patience_s
        self._news = news
        self._stopped = threading.Event()
        self._telling = threading.Lock()

    def stop(self) -> None:
        """End a search that is under way; nothing more is said of it afterwards."""
        with self._telling:
            self._stopped.set()

    def _say(self, text: str) -> None:
        with self._telling:
            if not self._stopped.is_set():
                self._news.say(text)

    def search(self, first: int) -> Connected:
        """Connect to the first QPU that answers, beginning with the one of this index.

        Raises:
            QpuUnavailable: none does.
            InputError: one refused the session's token or hello.
            SessionEnded: a newer runner owns the session, or `stop` was called.
        """
        troubles = []
        for attempt in range(len(self.targets)):
            target = self.targets[(first + attempt) % len(self.targets)]
            self._say(f"connecting to {target.device}")
            try:
                connected = self.open(target, self._patience_s)
            except QpuUnavailable as error:
                troubles.append(f"{target.device}: {error.message}")
                continue
            self._say(f"connected to {target.device} at {connected.endpoint}")
            return connected
        raise QpuUnavailable(f"no QPU could be reached ({'; '.join(troubles)})")

    def open(self, target: QpuTarget, patience_s: float) -> Connected:
        """Connect to one QPU, waiting so many wall seconds for it.

        Raises:
            QpuUnavailable, InputError, SessionEnded: see `search`.
        """
        deadline_s = time.monotonic() + patience_s
        while True:
            endpoint = self._address(target, deadline_s, patience_s)
            identity = replace(self._identity(), token=target.token(), trust=trust_in(target))
            left_s = max(0.1, deadline_s - time.monotonic())
            try:
                connection = self._connect(endpoint, identity, min(CONNECTION_PATIENCE_S, left_s))
            except QpuUnavailable:
                # The address may have been that of a server which is gone.
                if time.monotonic() >= deadline_s or self._stopped.wait(_LONGEST_PAUSE_S):
                    raise
                continue
            return Connected(connection, target, endpoint)

    def _address(self, target: QpuTarget, deadline_s: float, patience_s: float) -> str:
        pause_s = 0.005
        while not (endpoint := target.address()):
            if self._stopped.wait(pause_s):
                raise SessionEnded("the session is closed here")
            if time.monotonic() > deadline_s:
                raise QpuUnavailable(f"its server wrote no address within {patience_s:g} s")
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return endpoint
