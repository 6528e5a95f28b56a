"""Programs and observables of a session, and on which connections they are registered.

A job names its circuit and observables by handle, so a server must have read them before. What is known
ahead of the first job is registered as soon as there is a connection, and again on every new one.
"""

from __future__ import annotations

import threading

from efaas.errors import InputError
from efaas.runner.connecting import Connected
from efaas.runner.jobs import Request, Terms


class Registry:
    """See the module's text.

    Args:
        lock: the dispatcher's; taken by every method.
    """

    def __init__(self, lock: threading.Condition) -> None:
        self._lock = lock
        self._prepared: list[str | bytes | Terms] = []

    def add(self, *things: str | bytes | Terms) -> None:
        """Have these registered on whatever connection there will be."""
        with self._lock:
            self._prepared.extend(things)

    def prepare(self, connected: Connected) -> None:
        """Register on a connection what was added and is not there yet; what its server refuses is forgotten.

        The job that names a refused one will fail with that error, and knows whom to tell.

        Raises:
            QpuUnavailable, SessionEnded: the connection broke.
        """
        with self._lock:
            things = [thing for thing in self._prepared if thing not in connected.registered]
        for thing in things:
            try:
                self.register(connected, thing)
            except InputError:
                with self._lock:
                    self._prepared.remove(thing)

    def register_all(self, connected: Connected, request: Request) -> None:
        """Register all that a job names.

        Raises:
            InputError: the server refuses one of them.
            QpuUnavailable, SessionEnded: the connection broke.
        """
        for thing in (request.program, *request.observables):
            self.register(connected, thing)

    def register(self, connected: Connected, thing: str | bytes | Terms) -> None:
        """Register a program or an observable; the second time costs nothing. Raises as `register_all`."""
        if thing in connected.registered:
            return
        if isinstance(thing, tuple):
            connected.connection.register_observable(thing)
        else:
            connected.connection.register_circuit(thing)
        with self._lock:
            connected.registered.add(thing)
