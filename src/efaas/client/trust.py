"""How a client makes sure of the server that it speaks to: plain on one machine, TLS in a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio

from efaas.errors import QpuUnavailable

Option = tuple[str, str | int]


@dataclass(frozen=True, slots=True)
class Trust:
    """Which certificate a server must show."""

    ca_file: Path
    """Certificates that the server's own must be signed by, PEM; read for each connection, as they are
    renewed on the disk."""
    server_name: str = ""
    """Name that the certificate must have; empty: the endpoint's host."""


def open_channel(
    endpoint: str, trust: Trust | None = None, options: Sequence[Option] = ()
) -> grpc.aio.Channel:
    """A channel to ``host:port``.

    Args:
        endpoint: ``host:port``.
        trust: whom to believe; None: without TLS.
        options: of gRPC.

    Raises:
        QpuUnavailable: the certificates cannot be read; they may be there later.
    """
    if trust is None:
        return grpc.aio.insecure_channel(endpoint, options=list(options))
    try:
        credentials = grpc.ssl_channel_credentials(trust.ca_file.read_bytes())
    except OSError as error:
        raise QpuUnavailable(f"cannot be read: {error.strerror}", place=str(trust.ca_file)) from None
    named: list[Option] = [("grpc.ssl_target_name_override", trust.server_name)] if trust.server_name else []
    return grpc.aio.secure_channel(endpoint, credentials, options=[*options, *named])
