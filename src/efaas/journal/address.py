"""Where the gateway's stream is, how it is encrypted and what admits: from the environment of a writer.

=============================== ==============================================================================
``EFAAS_GATEWAY``               ``host:port`` of the stream; without it, there is no gateway
``EFAAS_GATEWAY_TOKEN_FILE``    file with the token that admits; read anew for each connection
``EFAAS_GATEWAY_CA_FILE``       certificates that the gateway's own is checked with; without it the stream is
                                not encrypted
``EFAAS_GATEWAY_SERVER_NAME``   name that its certificate must have, if it is not the one in the address
=============================== ==============================================================================
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efaas.errors import InputError

if TYPE_CHECKING:
    import grpc
    import grpc.aio

Options = Sequence[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class GatewayAddress:
    """The gateway as a writer reaches it."""

    endpoint: str
    """``host:port`` of its stream."""
    token_file: str = ""
    ca_file: str = ""
    """Empty: not encrypted."""
    server_name: str = ""

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] = os.environ) -> GatewayAddress | None:
        """Read the variables; None if they name no gateway."""
        endpoint = variables.get("EFAAS_GATEWAY", "")
        if not endpoint:
            return None
        return cls(
            endpoint,
            variables.get("EFAAS_GATEWAY_TOKEN_FILE", ""),
            variables.get("EFAAS_GATEWAY_CA_FILE", ""),
            variables.get("EFAAS_GATEWAY_SERVER_NAME", ""),
        )

    def token(self) -> str:
        """The token now; empty without a file.

        Raises:
            OSError: the file cannot be read.
        """
        return Path(self.token_file).read_text().strip() if self.token_file else ""

    def channel(self, options: Options = ()) -> grpc.Channel:
        """Open a channel.

        Raises:
            InputError: the certificates cannot be read.
        """
        import grpc

        if not self.ca_file:
            return grpc.insecure_channel(self.endpoint, options=options)
        return grpc.secure_channel(self.endpoint, self._credentials(), options=self._named(options))

    def aio_channel(self, options: Options = ()) -> grpc.aio.Channel:
        """Open a channel for coroutines.

        Raises:
            InputError: the certificates cannot be read.
        """
        import grpc.aio

        if not self.ca_file:
            return grpc.aio.insecure_channel(self.endpoint, options=options)
        return grpc.aio.secure_channel(self.endpoint, self._credentials(), options=self._named(options))

    def _credentials(self) -> grpc.ChannelCredentials:
        import grpc

        try:
            certificates = Path(self.ca_file).read_bytes()
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", place=self.ca_file) from None
        return grpc.ssl_channel_credentials(certificates)

    def _named(self, options: Options) -> list[tuple[str, Any]]:
        named = list(options)
        if self.server_name:
            named.append(("grpc.ssl_target_name_override", self.server_name))
        return named
