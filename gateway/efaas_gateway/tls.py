"""The gateway's certificate, for the stream and for HTTP; renewed files are used without a restart.

Certificates in a cluster live for days and are replaced in place. Both servers ask here: gRPC before each
handshake (its own hook for that), HTTP by a context whose certificate is loaded anew when the files have
changed. New files that cannot be read, or do not belong together yet, are not used; the old ones go on.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from efaas.errors import InputError

logger = logging.getLogger(__name__)

LOOK_S = 10.0
"""Wall seconds between two looks at the files."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of a certificate chain and its key, PEM."""

    cert_file: Path
    key_file: Path

    def check(self) -> None:
        """See that they can be used.

        Raises:
            InputError: they cannot be read, or do not belong together.
        """
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.cert_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            # Of what is no PEM at all OpenSSL tells no reason.
            words = (error.reason if isinstance(error, ssl.SSLError) else error.strerror) or "not PEM"
            raise InputError(
                f"cannot be used with {self.key_file}: {words}", place=str(self.cert_file)
            ) from None

    def stamp(self) -> tuple[int, ...]:
        """Changes when the files do."""
        try:
            return (self.cert_file.stat().st_mtime_ns, self.key_file.stat().st_mtime_ns)
        except OSError:
            return ()


class Certificates:
    """What both servers use.

    Args:
        tls: the files.

    Raises:
        InputError: they cannot be used.
    """

    def __init__(self, tls: Tls) -> None:
        tls.check()
        self._tls = tls
        self._stamp = tls.stamp()
        self._given: tuple[int, ...] = self._stamp
        self._contexts: list[ssl.SSLContext] = []

    def for_http(self, context: ssl.SSLContext) -> None:
        """Keep a server's context up to date."""
        self._contexts.append(context)

    def for_stream(self) -> grpc.ServerCredentials:
        """Credentials of a gRPC server."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(),
            self._renewed,  # type: ignore[arg-type]
            False,
        )

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        pair = (self._tls.key_file.read_bytes(), self._tls.cert_file.read_bytes())
        return grpc.ssl_server_certificate_configuration([pair])

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """Asked by gRPC before each handshake, in a thread of its own; None: as before."""
        if self._given == self._stamp:
            return None
        self._given = self._stamp
        return self._configuration()

    def look(self) -> bool:
        """Use the files if they have changed and fit; says whether they are new."""
        stamp = self._tls.stamp()
        if stamp == self._stamp:
            return False
        try:
            self._tls.check()
        except InputError as error:
            logger.warning("%s; going on with the certificate before", error)
            return False
        for context in self._contexts:
            context.load_cert_chain(self._tls.cert_file, self._tls.key_file)
        self._stamp = stamp
        logger.info("uses the new certificate in %s", self._tls.cert_file)
        return True

    async def keep_looking(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(self.look)
