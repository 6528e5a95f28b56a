"""A gRPC server around a host: its streams, the standard health service, reflection.

With a certificate everything that it says is TLS. The certificate is looked at anew for each connection, so
one that was renewed on the disk serves without a restart. Kubelets' probes know no TLS: for them the health
service, and nothing else, can also be had at an address of its own.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from efaas.api.wire import qpu_pb2 as wire
from efaas.errors import InputError
from efaas_qpu.host import QpuHost
from efaas_qpu.stream import SERVICE, QpuService

logger = logging.getLogger(__name__)


class Certificate:
    """A certificate with its key, in files that may be renewed at any time.

    Args:
        chain: certificates, the server's own first, PEM.
        key: its private key, PEM.

    Raises:
        InputError: a file cannot be read, or they are no certificate with its key.
    """

    def __init__(self, chain: Path, key: Path) -> None:
        self._chain, self._key = chain, key
        try:
            self._seen = self._read()
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", place=str(error.filename)) from None
        try:
            # gRPC would say no more than that it cannot listen.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key)
        except ssl.SSLError:
            raise InputError(f"is no certificate, PEM, that goes with {key}", place=str(chain)) from None

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that look for a newer certificate with each connection."""
        return grpc.dynamic_ssl_server_credentials(
            grpc.ssl_server_certificate_configuration([self._seen]), self._renewed
        )

    def _read(self) -> tuple[bytes, bytes]:
        return self._key.read_bytes(), self._chain.read_bytes()

    def _renewed(self) -> grpc.ServerCertificateConfiguration:
        """The certificate as it is now; called by gRPC for each connection, in threads of its own."""
        try:
            self._seen = self._read()
        except OSError as error:
            logger.warning("the certificate cannot be read, the one before serves on: %s", error)
        return grpc.ssl_server_certificate_configuration([self._seen])


def certificate(chain: Path | None, key: Path | None) -> Certificate | None:
    """The certificate that the command line names, if it names one.

    Raises:
        InputError: only one of the files is given, or one cannot be read.
    """
    if chain is None and key is None:
        return None
    if chain is None or key is None:
        raise InputError("go together; give both or neither", place="--tls-cert, --tls-key")
    return Certificate(chain, key)


async def listen(
    host: QpuHost, address: str, tls: Certificate | None = None
) -> tuple[grpc.aio.Server, HealthServicer, int]:
    """Start a gRPC server for a host, with health (not serving yet) and reflection.

    Args:
        host: of the device.
        address: ``HOST:PORT``.
        tls: the server's certificate; None: without TLS.

    Returns:
        The server, its health service and the port.

    Raises:
        InputError: the address cannot be listened on.
    """
    server = grpc.aio.server(
        options=(
            ("grpc.max_receive_message_length", host.limits.message_bytes),
            ("grpc.max_send_message_length", 2 * host.limits.waiting_bytes),
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 20_000),
        )
    )
    server.add_generic_rpc_handlers((QpuService(host).handlers(),))
    health_service = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    for service in ("", SERVICE):
        await health_service.set(service, health_pb2.HealthCheckResponse.NOT_SERVING)
    names = (wire.DESCRIPTOR.services_by_name["Qpu"].full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    port = await _start(server, address, "--listen", tls)
    return server, health_service, port


async def listen_for_probes(health_service: HealthServicer, address: str) -> grpc.aio.Server:
    """Start a gRPC server that has the health service alone, without TLS.

    Raises:
        InputError: the address cannot be listened on.
    """
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    await _start(server, address, "--health-listen", None)
    return server


async def _start(server: grpc.aio.Server, address: str, place: str, tls: Certificate | None) -> int:
    try:
        port = (
            server.add_insecure_port(address)
            if tls is None
            else server.add_secure_port(address, tls.credentials())
        )
    except RuntimeError:
        port = 0
    if not port:
        raise InputError(f"cannot listen on {address}; is the port taken?", place=place)
    await server.start()
    return port


async def serving(health_service: HealthServicer) -> None:
    """Tell health probes that the worker is up and jobs can run."""
    for service in ("", SERVICE):
        await health_service.set(service, health_pb2.HealthCheckResponse.SERVING)
