"""The process `efaas-qpu serve`: one device, from its document to its end.

Order of things: read the device document; open the log; listen; write the address file; start the Aer
    worker. The
worker takes most of a second to import its simulator, so clients may connect, say hello and send circuits
meanwhile; what needs the worker waits for it. A worker that cannot start at all ends the server with the
reason.

The server ends on SIGTERM and SIGINT, and with its parent if `--with-parent` is given: when the parent's
end of standard input closes, or, if standard input is no pipe, when the process gets another parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import ipaddress
import json
import logging
import os
import signal
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efaas.api.device import Noise, QPUDevice
from efaas.api.load import load_documents
from efaas.devices import DeviceSnapshot, load_snapshot, snapshot_from_json
from efaas.errors import EfaasError, InputError
from efaas.journal import DirectoryJournal
from efaas_qpu.authentication import Authenticator, OpenDoor, token_from_file
from efaas_qpu.configuration import machine_for
from efaas_qpu.description import refresh_gauges
from efaas_qpu.engine.process import EngineProcess
from efaas_qpu.host import QpuHost
from efaas_qpu.ledger import DurableLedger
from efaas_qpu.limits import ServerLimits
from efaas_qpu.listening import listen, serving
from efaas_qpu.metrics import Metrics

logger = logging.getLogger(__name__)

_SYNC_EVERY_S = 0.5
_PARENT_EVERY_S = 0.25


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


def _is_loopback(listen: str) -> bool:
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def write_address(path: Path, address: dict[str, object]) -> None:
    """Write the address file in one piece, so that who waits for it never reads half."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(json.dumps(address) + "\n", encoding="utf-8")
    os.replace(new, path)


async def serve(options: Options, limits: ServerLimits | None = None) -> None:
    """Serve one device until told to end.

    Raises:
        EfaasError: something about the options, the device, the log or the worker makes serving impossible.
    """
    limits = limits or ServerLimits()
    device, snapshot = read_device(options.device)
    authenticator: Authenticator = OpenDoor()
    if options.token_file is not None:
        authenticator = token_from_file(options.token_file)
    elif not _is_loopback(options.listen):
        raise InputError(
            f"{options.listen} can be reached from other machines; give a --token-file or use 127.0.0.1",
            place="--listen",
        )
    simulation = device.spec.simulation
    ledger = DurableLedger(DirectoryJournal(options.data / "log"), limits)
    engine = EngineProcess(snapshot, noisy=simulation.noise is Noise.DEVICE, method=simulation.method.value)
    metrics = Metrics()
    host = QpuHost(
        device=device.name,
        snapshot=snapshot.name,
        qubits=snapshot.num_qubits,
        machine=machine_for(device, ledger.state),
        engine=engine,
        ledger=ledger,
        time_scale=float(simulation.time_scale),
        version=importlib.metadata.version("efaas"),
        authenticator=authenticator,
        limits=limits,
        metrics=metrics,
    )
    server, health_service, port = await listen(host, options.listen)
    metrics_address = _serve_metrics(host, options.metrics_listen)
    if options.address_file is not None:
        endpoint = f"{options.listen.rpartition(':')[0]}:{port}"
        write_address(
            options.address_file,
            {"device": device.name, "endpoint": endpoint, "metrics": metrics_address, "pid": os.getpid()},
        )
    logger.info("%s listens on port %d", device.name, port)
    ended = asyncio.Event()
    tasks: list[asyncio.Task[Any]] = [
        asyncio.create_task(_sync(host, ledger)),
        *_watch_for_end(ended, options.with_parent),
    ]
    try:
        starting = asyncio.create_task(engine.start())
        ending = asyncio.create_task(ended.wait())
        tasks += [starting, ending]
        await asyncio.wait({starting, ending}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            host.worker = _describe_worker(starting.result(), engine)
            await serving(health_service)
            await ending
        await health_service.enter_graceful_shutdown()
        await host.drain()
    finally:
        for task in tasks:
            task.cancel()
        await server.stop(grace=1.0)
        await engine.close()
        ledger.close()
        if options.address_file is not None:
            options.address_file.unlink(missing_ok=True)


def _describe_worker(ready: object, engine: object) -> str:
    """What the worker says of itself, for people."""
    said = ready or getattr(engine, "ready", None)
    path = "fast path" if getattr(said, "fast_path", False) else "fallback"
    warning = getattr(said, "warning", "")
    if warning:
        logger.warning("the Aer worker does not use the fast path: %s", warning)
    return ", ".join(part for part in (path, getattr(said, "versions", "")) if part)


def _serve_metrics(host: QpuHost, address: str | None) -> str | None:
    """Serve the metrics over HTTP; the address, or None if there is none."""
    if address is None:
        return None
    from prometheus_client import start_http_server
    from prometheus_client.registry import Collector

    class _Refresh(Collector):
        def collect(self):  # type: ignore[no-untyped-def]
            refresh_gauges(host)
            return []

    # Registered after the gauges are made but collected with them: values are at most one scrape old.
    host.metrics.registry.register(_Refresh())
    name, _, port = address.rpartition(":")
    try:
        server, _thread = start_http_server(int(port), addr=name.strip("[]"), registry=host.metrics.registry)
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(f"cannot serve metrics on {address}: {error}", place="--metrics-listen") from None
    return f"{name}:{server.server_port}"


async def _sync(host: QpuHost, ledger: DurableLedger) -> None:
    """Bring the log to the disk twice a second; a kill loses nothing of it either way."""
    while True:
        await asyncio.sleep(_SYNC_EVERY_S)
        host.driver.commit(everything=True)
        await asyncio.to_thread(ledger.flush)


def _watch_for_end(ended: asyncio.Event, with_parent: bool) -> list[asyncio.Task[None]]:
    """Set `ended` on a signal, or when the parent is gone."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    if not with_parent:
        return []
    if stat.S_ISFIFO(os.fstat(0).st_mode) or stat.S_ISSOCK(os.fstat(0).st_mode):
        loop.add_reader(0, _parent_said_something, ended)
        return []
    return [asyncio.create_task(_watch_parent(os.getppid(), ended))]


def _parent_said_something(ended: asyncio.Event) -> None:
    with contextlib.suppress(BlockingIOError):
        if not os.read(0, 4096):
            asyncio.get_running_loop().remove_reader(0)
            ended.set()


async def _watch_parent(parent: int, ended: asyncio.Event) -> None:
    while os.getppid() == parent:
        await asyncio.sleep(_PARENT_EVERY_S)
    ended.set()


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
