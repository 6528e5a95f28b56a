"""A gRPC server around a host: its streams, the standard health service, reflection."""

from __future__ import annotations

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from efaas.api.wire import qpu_pb2 as wire
from efaas.errors import InputError
from efaas_qpu.host import QpuHost
from efaas_qpu.stream import SERVICE, QpuService


async def listen(host: QpuHost, address: str) -> tuple[grpc.aio.Server, HealthServicer, int]:
    """Start a gRPC server for a host, with health (not serving yet) and reflection.

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
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if not port:
        raise InputError(f"cannot listen on {address}; is the port taken?", place="--listen")
    await server.start()
    return server, health_service, port


async def serving(health_service: HealthServicer) -> None:
    """Tell health probes that the worker is up and jobs can run."""
    for service in ("", SERVICE):
        await health_service.set(service, health_pb2.HealthCheckResponse.SERVING)
