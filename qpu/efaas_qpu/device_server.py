"""One device's server from the moment that its worker starts to its end.

The server ends on SIGTERM and SIGINT, and with its parent if `--with-parent` is given: when the parent's
end of standard input closes, or, if standard input is no pipe, when the process gets another parent. It
also ends when its log cannot be written: what cannot be remembered must not be promised.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.metadata
import json
import logging
import os
import signal
import stat
from collections.abc import Mapping
from pathlib import Path

from prometheus_client import start_http_server

from efaas.api.device import Noise, QPUDevice
from efaas.core.drift_trace import DriftTrace
from efaas.devices import DeviceSnapshot
from efaas.errors import InputError
from efaas.journal import open_journal
from efaas.journal.remote import GatewayUnavailable
from efaas_qpu.authentication import Authenticator
from efaas_qpu.configuration import drifting_device, machine_for, offer_of
from efaas_qpu.description import refresh_gauges
from efaas_qpu.engine.messages import EngineReady
from efaas_qpu.engine.process import EngineProcess
from efaas_qpu.gateway import GatewayLink
from efaas_qpu.host import QpuHost
from efaas_qpu.ledger import DurableLedger
from efaas_qpu.limits import ServerLimits
from efaas_qpu.listening import certificate, listen, listen_for_probes, serving
from efaas_qpu.metrics import Metrics
from efaas_qpu.serve import Options, address

logger = logging.getLogger(__name__)

_SYNC_EVERY_S = 0.5
_PARENT_EVERY_S = 0.25
_GATEWAY_AGAIN_S = 1.0


async def serve_device(
    options: Options,
    device: QPUDevice,
    snapshot: DeviceSnapshot,
    trace: DriftTrace | None,
    engine: EngineProcess,
    starting: asyncio.Task[EngineReady],
    authenticator: Authenticator,
    limits: ServerLimits,
) -> None:
    """Serve until told to end.

    Args:
        options: of the process.
        device: the document.
        snapshot: of the device.
        trace: that drives the device, if one does.
        engine: simulates; closed by the caller.
        starting: ends when the engine's worker is up.
        authenticator: who may speak for a session.
        limits: bounds.

    Raises:
        EfaasError: the log, an address or the worker makes serving impossible.
        OSError: the log could not be written.
    """
    async with contextlib.AsyncExitStack() as stack:
        # Nothing listens before the log was read: who finds the server ready finds it knowing its past.
        ledger = await _read_log(options, device, limits)
        stack.callback(ledger.close)
        metrics = Metrics()
        host = QpuHost(
            device=device.name,
            snapshot=snapshot.name,
            qubits=snapshot.num_qubits,
            machine=machine_for(device, ledger.state, snapshot.num_qubits),
            drifting=drifting_device(device, snapshot, trace),
            engine=engine,
            ledger=ledger,
            offer=offer_of(device, snapshot.num_qubits),
            noisy=device.spec.simulation.noise is Noise.DEVICE,
            time_scale=float(device.spec.simulation.time_scale),
            version=importlib.metadata.version("efaas"),
            authenticator=authenticator,
            limits=limits,
            metrics=metrics,
        )
        metrics_address = _serve_metrics(metrics, options.metrics_listen)
        tls = certificate(options.tls_certificate, options.tls_key)
        server, health, port = await listen(host, options.listen, tls)
        stack.push_async_callback(server.stop, 1.0)
        if options.health_listen is not None:
            probed = await listen_for_probes(health, options.health_listen)
            stack.push_async_callback(probed.stop, None)
        if options.address_file is not None:
            endpoint = f"{address(options.listen, '--listen')[0]}:{port}"
            said = {
                "device": device.name,
                "endpoint": endpoint,
                "metrics": metrics_address,
                "pid": os.getpid(),
            }
            write_address(options.address_file, said)
            stack.callback(options.address_file.unlink, missing_ok=True)
        logger.info("%s listens on port %d", device.name, port)
        ended = asyncio.Event()
        syncing = asyncio.create_task(_sync(host, ledger))
        link = asyncio.create_task(GatewayLink(host, device).run())
        watching = [asyncio.create_task(ended.wait()), *_watch_for_end(ended, options.with_parent)]
        for task in (syncing, link, *watching):
            stack.callback(task.cancel)
        ends = {syncing, watching[0]}
        await asyncio.wait({starting, *ends}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            host.worker = _describe_worker(starting.result())
            await serving(health)
            # What was made at the start stays: a collection that walks it would be a pause in some iteration.
            gc.collect()
            gc.freeze()
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if syncing.done():
            syncing.result()
        await health.enter_graceful_shutdown()
        await host.drain()


async def _read_log(options: Options, device: QPUDevice, limits: ServerLimits) -> DurableLedger:
    """Read the log, from the gateway if it keeps it; while the gateway is away, it is waited for.

    Raises:
        EfaasError: the log is damaged, or belongs to a newer server.
    """

    def read() -> DurableLedger:
        journal = open_journal(options.data / "log", "device", device.name, None)
        try:
            return DurableLedger(journal, limits)
        except BaseException:
            journal.close()
            raise

    while True:
        try:
            return await asyncio.to_thread(read)
        except GatewayUnavailable as error:
            logger.warning("the log cannot be read yet: %s", error)
            await asyncio.sleep(_GATEWAY_AGAIN_S)


def write_address(path: Path, said: Mapping[str, object]) -> None:
    """Write the address file in one piece, so that who waits for it never reads half.

    Raises:
        InputError: it cannot be written.
    """
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_text(json.dumps(said) + "\n", encoding="utf-8")
        os.replace(new, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}", place="--address-file") from None


def _describe_worker(ready: EngineReady) -> str:
    if ready.warning:
        logger.warning("the Aer worker does not use the fast path: %s", ready.warning)
    return f"{'fast path' if ready.fast_path else 'fallback'}, {ready.versions}"


def _serve_metrics(metrics: Metrics, listen_on: str | None) -> str | None:
    """Serve the metrics over HTTP; the address, or None if there is none."""
    if listen_on is None:
        return None
    name, port = address(listen_on, "--metrics-listen")
    try:
        server, _thread = start_http_server(port, addr=name.strip("[]"), registry=metrics.registry)
    except OSError as error:
        raise InputError(f"cannot serve metrics on {listen_on}: {error}", place="--metrics-listen") from None
    return f"{name}:{server.server_port}"


async def _sync(host: QpuHost, ledger: DurableLedger) -> None:
    """Bring gauges up to date and the log to the disk twice a second; a kill loses nothing either way.

    Raises:
        OSError: the log could not be written, here or when something was committed.
    """
    while True:
        refresh_gauges(host)
        await asyncio.sleep(_SYNC_EVERY_S)
        if ledger.fault is not None:
            raise ledger.fault
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
