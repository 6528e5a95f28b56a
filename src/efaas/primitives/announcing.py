"""A local session's server as others on this machine see it: found while it listens, gone when it ends."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

from efaas.errors import EfaasError
from efaas.primitives import registry
from efaas.primitives.local_server import LocalServer
from efaas.primitives.transport import Transport


def end_server(server: LocalServer, session_id: str, transport: Transport) -> None:
    """Take a session out of the registry, then end its stream and its server."""
    registry.remove(session_id)
    with contextlib.suppress(EfaasError):
        transport.close()
    server.stop()


def announced(
    server: LocalServer, session_id: str, document: str, seed: int, max_time_s: float | None
) -> str:
    """The server's endpoint, waited for; the session can be found by its id from then on."""
    endpoint = server.endpoint()
    created = datetime.now(UTC).isoformat()
    if server.is_running() and not registry.is_known(session_id):
        entry = registry.Entry(
            session_id, endpoint, server.token, server.pid, document, seed, created, max_time_s
        )
        with contextlib.suppress(OSError):  # then it can be used, but not found by its id
            registry.write(entry)
        if not server.is_running():  # it was ended meanwhile
            registry.remove(session_id)
    return endpoint
