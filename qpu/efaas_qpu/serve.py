"""The process `efaas-qpu serve`: its options, and the order in which it starts.

The Aer worker takes most of a second to import its simulator. So its process is made as soon as the device
document is read, before gRPC is imported; clients may connect, say hello and send circuits while it starts,
and what needs it waits. A worker that cannot start at all ends the server with the reason.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from efaas.api.address import checked_address, is_loopback
from efaas.api.device import Drift, Noise, QPUDevice
from efaas.api.load import load_documents
from efaas.core.drift_trace import DriftTrace
from efaas.devices import DeviceSnapshot, load_snapshot, snapshot_from_json
from efaas.devices.trace import trace_from_json
from efaas.errors import EfaasError, InputError
from efaas_qpu.authentication import Authenticator, OpenDoor, token_from_file
from efaas_qpu.engine.process import EngineProcess
from efaas_qpu.limits import ServerLimits

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What `efaas-qpu serve` is told."""

    device: Path
    data: Path
    listen: str = "127.0.0.1:0"
    address_file: Path | None = None
    token_file: Path | None = None
    metrics_listen: str | None = None
    with_parent: bool = False
    kubernetes: str | None = None
    """``in-cluster`` or the API server's URL: it reviews tokens."""
    audience: str = "efaas-qpu"
    kubernetes_token_file: Path | None = None
    kubernetes_ca_file: Path | None = None
    keeper_account: str = ""
    """``namespace:name`` of the service account that keeps the device."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    health_listen: str | None = None
    """Where probes find the health service without TLS."""


def read_device(path: Path) -> tuple[QPUDevice, DeviceSnapshot]:
    """The one QPUDevice of a file, and its snapshot, shipped or from a ConfigMap in the same file.

    Raises:
        InputError: not exactly one device, or its model cannot be found or read.
    """
    documents = load_documents([path])
    if len(documents.devices) != 1:
        raise InputError(f"holds {len(documents.devices)} QPUDevices, it must hold one", place=str(path))
    device = documents.devices[0]
    model = device.spec.model
    if model.snapshot is not None:
        return device, load_snapshot(model.snapshot, place=f"{path}: spec.model.snapshot")
    reference = model.config_map
    assert reference is not None
    place = f"{path}: spec.model.configMap"
    for (_, name), data in documents.config_maps.items():
        if name == reference.name:
            if reference.key not in data:
                raise InputError(f"ConfigMap {name!r} has no key {reference.key!r}", place=place)
            return device, snapshot_from_json(data[reference.key], place=place)
    raise InputError(f"the file holds no ConfigMap {reference.name!r}; add it", place=place)


def read_trace(path: Path, device: QPUDevice, snapshot: DeviceSnapshot) -> DriftTrace | None:
    """The trace that drives a device, from a ConfigMap in the same file; what was repaired is logged.

    Raises:
        InputError: there is no such ConfigMap, or the trace is faulty beyond repair.
    """
    calibration = device.spec.calibration
    if calibration.drift is not Drift.TRACE or calibration.trace is None:
        return None
    reference, place = calibration.trace, f"{path}: spec.calibration.trace"
    for (_, name), data in load_documents([path]).config_maps.items():
        if name == reference.name:
            if reference.key not in data:
                raise InputError(f"ConfigMap {name!r} has no key {reference.key!r}", place=place)
            trace, repairs = trace_from_json(data[reference.key], snapshot, place)
            for repair in repairs:
                logger.warning("%s: %s", place, repair)
            return trace
    raise InputError(f"the file holds no ConfigMap {reference.name!r}; add it", place=place)


def address(text: str, place: str) -> tuple[str, int]:
    """Host, as it was written, and port of an address to listen on.

    Raises:
        InputError: it is no address, or names no host.
    """
    host, port = checked_address(text, place)
    if not host:
        raise InputError(f"{text!r} names no host; give 127.0.0.1, 0.0.0.0 or [::]", place=place)
    return text.rpartition(":")[0], port


def authenticator_for(options: Options) -> Authenticator:
    """Who decides about tokens: Kubernetes, a token in a file, or nobody where only this machine comes in.

    Raises:
        InputError: the options do not go together, or what they name cannot be read.
    """
    listen_host, _ = address(options.listen, "--listen")
    if options.health_listen is not None:
        address(options.health_listen, "--health-listen")
    if options.kubernetes is not None and options.token_file is not None:
        raise InputError("goes with no --kubernetes; give one of them", place="--token-file")
    if options.kubernetes is not None:
        from efaas_qpu.kubernetes import ClusterAuthenticator, api_server

        server = api_server(options.kubernetes, options.kubernetes_token_file, options.kubernetes_ca_file)
        return ClusterAuthenticator(server, options.audience, options.keeper_account)
    if options.token_file is not None:
        return token_from_file(options.token_file)
    if not is_loopback(listen_host.strip("[]")):
        raise InputError(
            f"{options.listen} can be reached from other machines; give --kubernetes or a --token-file, or"
            " use 127.0.0.1",
            place="--listen",
        )
    return OpenDoor()


async def serve(options: Options, limits: ServerLimits | None = None) -> None:
    """Serve one device until told to end.

    Raises:
        EfaasError: something about the options, the device, the log or the worker makes serving
            impossible.
    """
    device, snapshot = read_device(options.device)
    trace = read_trace(options.device, device, snapshot)
    authenticator = authenticator_for(options)
    try:
        options.data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{options.data} cannot be made: {error.strerror}", place="--data") from None
    simulation = device.spec.simulation
    engine = EngineProcess(snapshot, noisy=simulation.noise is Noise.DEVICE, method=simulation.method.value)
    starting = asyncio.create_task(engine.start())
    try:
        # The worker's process is made before this one goes on importing: gRPC takes as long as Aer does.
        await asyncio.sleep(0)
        from efaas_qpu.device_server import serve_device

        await serve_device(
            options, device, snapshot, trace, engine, starting, authenticator, limits or ServerLimits()
        )
    finally:
        starting.cancel()
        await engine.close()
        await asyncio.gather(starting, return_exceptions=True)


def run(options: Options) -> int:
    """Serve, and say in one line why it could not be done.

    Returns:
        Exit code: 0 ended as told, 1 the worker or the disk failed, 2 bad input.
    """
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        asyncio.run(serve(options))
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (EfaasError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0
