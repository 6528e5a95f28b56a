"""The worker process as the server sees it: asynchronous, restartable, and told again what it had prepared.

One request is with the worker at a time; callers queue on a lock. The parent keeps the programs and
observables that were prepared (within a bound of memory) and tells them again when a worker was started anew,
or when the worker dropped a circuit from its own cache. A worker that dies or takes longer than its limit
raises `WorkerFailed` from the call it was serving; the next call starts a new one. A circuit that kills or
hangs the worker while it is *prepared* is refused with `CircuitError`: the circuit is at fault.

No thread is used: the socket is read by the event loop, and the end of the process shows as the end of the
socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import socket
import subprocess
import sys
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any, Self, cast

from efaas.devices.snapshot import DeviceSnapshot
from efaas.errors import CircuitError, EfaasError, ParameterError
from efaas_qpu.engine.messages import (
    Configuration,
    EngineReady,
    Execute,
    Executed,
    Limits,
    Prepared,
    Rotations,
    Term,
    WorkerFailed,
)
from efaas_qpu.engine.worker import HEADER

_SINGLE_THREADED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
_OBSERVABLES_KEPT = 10_000
_PATIENCE_S = 1.0
"""How long a cancelled job may keep the worker; starting a new one takes about as long."""


class EngineProcess:
    """The engine of one device in a process of its own.

    Args:
        snapshot: the device as its last calibration saw it: layout and mitigation go by it.
        noisy: whether gates and readout are noisy.
        method: ``Auto``, ``DensityMatrix`` or ``Trajectories``.
        true: the device that is simulated; the known one if not given.
        limits: of time and memory.
        force_public: use Aer's public interface only (tests, fallback).
    """

    def __init__(
        self,
        snapshot: DeviceSnapshot,
        *,
        noisy: bool,
        method: str = "Auto",
        true: DeviceSnapshot | None = None,
        limits: Limits | None = None,
        force_public: bool = False,
    ) -> None:
        self._limits = limits or Limits()
        self._configuration = Configuration(
            known=_picklable(snapshot),
            true=_picklable(true or snapshot),
            noisy=noisy,
            method=method,
            limits=self._limits,
            force_public=force_public,
        )
        self._rotations: dict[tuple[str, tuple[int, ...]], float] = {}
        self._lock = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._number = 0
        self._size: int | None = None
        """Bytes of the answer whose header was read."""
        self._abandoned = False
        """Whether the answer to the last request is still to come, for nobody."""
        self._ready: EngineReady | None = None
        self._starts = 0
        self._mitigation = self._configuration.known
        """What readout mitigation goes by; the configuration's known device is that of layouts."""
        self._programs: OrderedDict[str, _Program] = OrderedDict()
        self._program_bytes = 0
        self._observables: OrderedDict[str, tuple[Term, ...]] = OrderedDict()
        self._told_circuits: set[str] = set()
        """What the worker that runs now has been told."""
        self._told_observables: set[str] = set()

    @property
    def pid(self) -> int | None:
        """Process id of the worker; None while there is none."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def starts(self) -> int:
        """How many workers were started so far."""
        return self._starts

    @property
    def ready(self) -> EngineReady | None:
        """What the last worker said at its start."""
        return self._ready

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> EngineReady:
        """Start the worker if it does not run.

        Raises:
            WorkerFailed: it did not get ready.
        """
        async with self._lock:
            return await self._start()

    async def close(self) -> None:
        """End the worker; a call that waits for it fails with `WorkerFailed`."""
        self._kill()
        async with self._lock:
            self._kill()
            if self._writer is not None:
                self._writer.close()
                with contextlib.suppress(OSError):
                    await self._writer.wait_closed()
                self._writer = self._reader = None

    async def prepare(self, handle: str, program: str | bytes) -> Prepared:
        """Parse, transpile and prepare a circuit; one that is prepared already costs nothing.

        Raises:
            CircuitError: the circuit was refused, or reading it took too long or killed the worker.
            WorkerFailed: no worker could be started.
        """
        async with self._lock:
            known = self._programs.get(handle)
            if known is not None and known.text == program:
                self._programs.move_to_end(handle)
                return replace(known.prepared, prepare_s=0.0)
            if len(program) > self._limits.program_bytes:
                raise CircuitError(
                    f"the program has {len(program)} bytes, at most {self._limits.program_bytes} are taken",
                    place="circuit",
                )
            layout = self._configuration.known
            prepared = await self._prepare(handle, program, layout)
            self._keep(handle, _Program(program, prepared, layout))
            return prepared

    async def prepare_as(self, handle: str, known_as: str) -> Prepared:
        """Prepare a circuit once more under another handle: by the layout that today's known values give.

        Args:
            handle: the new one.
            known_as: handle that it was prepared as before; stays what it is.

        Raises:
            CircuitError: it is not known (any more), or was refused.
            WorkerFailed: no worker could be started.
        """
        known = self._programs.get(known_as)
        if known is None:
            raise CircuitError("the circuit is not known (any more), register it again", place=known_as)
        return await self.prepare(handle, known.text)

    async def prepare_observable(self, handle: str, terms: tuple[Term, ...]) -> int:
        """Register an observable; the number of measurement bases that it takes alone.

        Raises:
            CircuitError: its terms are not what an observable has.
        """
        from efaas_qpu.engine.observables import check_terms, measurement_bases

        checked = check_terms(terms)
        self._observables[handle] = checked
        self._observables.move_to_end(handle)
        while len(self._observables) > _OBSERVABLES_KEPT:
            dropped, _ = self._observables.popitem(last=False)
            self._told_observables.discard(dropped)
        return len(measurement_bases([checked]))

    def observable(self, handle: str) -> tuple[Term, ...] | None:
        """Terms of a registered observable."""
        return self._observables.get(handle)

    async def execute(self, request: Execute) -> Executed:
        """Run a job. When the caller is cancelled, the worker is ended unless it is through within a second.

        Raises:
            ParameterError: parameters of the wrong shape or not finite.
            CircuitError: an unknown handle, or observables that do not fit the circuit.
            WorkerFailed: the worker died or hung; the same request again can succeed.
        """
        async with self._lock:
            await self._start()
            cold_s = 0.0
            if request.circuit not in self._told_circuits:
                cold_s += await self._tell_circuit(request.circuit)
            for handle in request.observables:
                if handle not in self._told_observables:
                    await self._tell_observable(handle)
            try:
                executed = await self._ask("execute", (request,), self._limits.execute_s)
            except _Unknown:
                cold_s += await self._tell_circuit(request.circuit)
                for handle in request.observables:
                    await self._tell_observable(handle)
                executed = await self._ask("execute", (request,), self._limits.execute_s)
        if cold_s:
            executed = replace(executed, cold=True, prepare_s=executed.prepare_s + cold_s)
        return cast(Executed, executed)

    async def set_true_device(self, snapshot: DeviceSnapshot, over_rotations: Rotations) -> None:
        """Simulate another device from now on; layouts and mitigation stay with what is known.

        Args:
            snapshot: true errors, coherence and readout.
            over_rotations: radians by (gate name, physical qubits).

        Raises:
            WorkerFailed: the worker died or hung; the device is set all the same once a new one starts.
        """
        async with self._lock:
            self._configuration = replace(self._configuration, true=_picklable(snapshot))
            self._rotations = dict(over_rotations)
            if self.pid is not None and self._reader is not None:
                await self._ask(
                    "set_true_device", (self._configuration.true, self._rotations), self._limits.prepare_s
                )

    async def set_known_device(self, snapshot: DeviceSnapshot, *, for_layout: bool = False) -> None:
        """Mitigate readout by these values from now on; what is simulated stays.

        Args:
            snapshot: what calibrations know of the device now.
            for_layout: whether circuits that are prepared from now on are laid out by it as well. Those that
                are prepared keep their layout, also when a worker must be told of them again.

        Raises:
            WorkerFailed: the worker died or hung; the device is set all the same once a new one starts.
        """
        async with self._lock:
            self._mitigation = _picklable(snapshot)
            if for_layout:
                self._configuration = replace(self._configuration, known=self._mitigation)
            if self.pid is not None and self._reader is not None:
                await self._ask("set_known_device", (self._mitigation, for_layout), self._limits.prepare_s)

    # --- what the worker knows ------------------------------------------------------------------------------

    async def _prepare(self, handle: str, program: str | bytes, layout: object) -> Prepared:
        for attempt in (1, 2):
            await self._start()
            try:
                other = None if layout is self._configuration.known else layout
                prepared = await self._ask("prepare", (handle, program, other), self._limits.prepare_s)
            except WorkerFailed as failure:
                if failure.how == "hung":
                    raise CircuitError(
                        f"reading and transpiling the circuit took longer than {self._limits.prepare_s:g} s",
                        place="circuit",
                    ) from failure
                # A first death may have been the machine's doing; a second one is the circuit's.
                if attempt == 2:
                    raise CircuitError(
                        "reading the circuit ended the process that read it", place="circuit"
                    ) from failure
            else:
                self._told_circuits.add(handle)
                return cast(Prepared, prepared)
        raise AssertionError("unreachable")

    async def _tell_circuit(self, handle: str) -> float:
        """Tell the worker of a circuit again; wall seconds that it took to prepare it."""
        if handle not in self._programs:
            raise CircuitError("the circuit is not known (any more), register it again", place=handle)
        self._programs.move_to_end(handle)
        known = self._programs[handle]
        return (await self._prepare(handle, known.text, known.layout)).prepare_s

    async def _tell_observable(self, handle: str) -> None:
        if handle not in self._observables:
            raise CircuitError("the observable is not known (any more), register it again", place=handle)
        await self._start()
        await self._ask("prepare_observable", (handle, self._observables[handle]), self._limits.prepare_s)
        self._told_observables.add(handle)

    def _keep(self, handle: str, program: _Program) -> None:
        if handle in self._programs:
            self._program_bytes -= len(self._programs.pop(handle).text)
        self._programs[handle] = program
        self._program_bytes += len(program.text)
        while self._program_bytes > self._limits.program_cache_bytes and len(self._programs) > 1:
            dropped, oldest = self._programs.popitem(last=False)
            self._program_bytes -= len(oldest.text)
            self._told_circuits.discard(dropped)

    # --- the process ----------------------------------------------------------------------------------------

    async def _start(self) -> EngineReady:
        if self._abandoned:
            await self._catch_up()
        if self.pid is not None and self._reader is not None and not self._reader.at_eof() and self._ready:
            return self._ready
        self._kill()
        if self._writer is not None:
            self._writer.close()
        ours, theirs = socket.socketpair()
        with theirs:
            environment = {**os.environ}
            for name in _SINGLE_THREADED:
                environment.setdefault(name, "1")
            self._process = subprocess.Popen(
                [sys.executable, "-m", "efaas_qpu.engine.worker", str(theirs.fileno()), str(os.getpid())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env=environment,
            )
        self._starts += 1
        self._size = None
        self._abandoned = False
        self._told_circuits.clear()
        self._told_observables.clear()
        ours.setblocking(False)
        self._reader, self._writer = await asyncio.open_unix_connection(sock=ours, limit=1 << 20)
        self._ready = cast(
            EngineReady, await self._ask("configure", (self._configuration,), self._limits.start_s)
        )
        if self._mitigation is not self._configuration.known:
            await self._ask("set_known_device", (self._mitigation, False), self._limits.prepare_s)
        if self._rotations:
            await self._ask(
                "set_true_device", (self._configuration.true, self._rotations), self._limits.prepare_s
            )
        return self._ready

    async def _ask(self, name: str, arguments: tuple[Any, ...], limit_s: float) -> Any:
        assert self._reader is not None, "_start() comes first"
        assert self._writer is not None, "_start() comes first"
        self._number += 1
        number = self._number
        data = pickle.dumps((number, name, arguments), protocol=pickle.HIGHEST_PROTOCOL)
        try:
            async with asyncio.timeout(limit_s):
                self._writer.write(HEADER.pack(len(data)) + data)
                await self._writer.drain()
                answered = -1
                while answered != number:
                    answered, good, answer = await self._receive()
        except TimeoutError:
            self._kill()
            raise WorkerFailed(
                f"the worker took longer than {limit_s:g} s and was ended", how="hung"
            ) from None
        except (asyncio.IncompleteReadError, OSError):
            self._kill()
            status = self._process.wait() if self._process is not None else None
            raise WorkerFailed(f"the worker ended ({_status(status)})", how="died") from None
        except asyncio.CancelledError:
            self._abandoned = True
            raise
        if good:
            return answer
        raise _error(*answer)

    async def _receive(self) -> tuple[int, bool, Any]:
        """The next answer; a cancellation loses nothing, as `readexactly` takes all or nothing."""
        assert self._reader is not None
        if self._size is None:
            self._size = HEADER.unpack(await self._reader.readexactly(HEADER.size))[0]
        body = await self._reader.readexactly(self._size)
        self._size = None
        return cast(tuple[int, bool, Any], pickle.loads(body))

    async def _catch_up(self) -> None:
        """Pass over the answer of a cancelled call, or end a worker that is busy with it for long."""
        self._abandoned = False
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while (await self._receive())[0] != self._number:
                    pass
        except (TimeoutError, asyncio.IncompleteReadError, OSError):
            self._kill()
        except asyncio.CancelledError:
            self._abandoned = True
            raise

    def _kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True, slots=True)
class _Program:
    """A circuit from which a worker can be told again what it is."""

    text: str | bytes
    prepared: Prepared
    layout: object
    """`DeviceSnapshot` that its layout went by."""


class _Unknown(EfaasError):
    """The worker dropped what was asked for."""


def _error(kind: str, message: str, place: str) -> EfaasError:
    if kind == "unknown":
        return _Unknown(message, place=place)
    if kind == "parameters":
        return ParameterError(message, place=place)
    if kind == "circuit":
        return CircuitError(message, place=place)
    return WorkerFailed(f"the simulation failed: {message}", how="died")


def _picklable(snapshot: DeviceSnapshot) -> DeviceSnapshot:
    return replace(snapshot, gates=dict(snapshot.gates))


def _status(status: int | None) -> str:
    if status is None:
        return "unknown"
    return f"signal {-status}" if status < 0 else f"status {status}"
