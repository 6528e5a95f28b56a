"""A QPU server in this process, on a real port, with a fake engine: no Aer, no sleep.

`world.serve()` starts one; `world.raw()` opens a stream to it, which writes and reads protobuf messages
one by one, so that tests can say anything in any order.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import pytest
from efaas_qpu.engine.messages import Evaluation, Executed, PartialEstimate, Prepared, WorkerFailed
from efaas_qpu.engine.observables import check_terms, measurement_bases
from efaas_qpu.entries import Booking, Entry
from efaas_qpu.host import QpuHost
from efaas_qpu.ledger import DurableLedger
from efaas_qpu.limits import ServerLimits
from efaas_qpu.listening import listen

from efaas.api.wire import qpu_pb2 as wire
from efaas.core.identity import circuit_digest, job_id, observable_digest
from efaas.core.qpu.config import QpuConfig
from efaas.core.qpu.machine import QpuMachine
from efaas.devices import load_snapshot
from efaas.devices.drifting import DriftingDevice
from efaas.errors import CircuitError, ParameterError
from efaas.journal import DirectoryJournal

WAIT_S = 5.0
SHOT_S = 0.001


class FakeEngine:
    """Circuits are texts such as ``2 qubits: a b``; every observable is worth the sum of the parameters."""

    def __init__(self) -> None:
        self.prepared: list[str] = []
        self.programs: dict[str, str] = {}
        self.executed: list[str] = []
        self.told: list[tuple[str, Any]] = []
        """What it was told of the device: ("layout", snapshot), ("known", snapshot), ("true", snapshot)."""
        self.plans: list[str] = []
        """Plans that jobs ran on."""
        self.failures: deque[Exception] = deque()
        """Raised by the next executions."""
        self.gate: asyncio.Event | None = None
        """Executions wait for it."""
        self.entered = asyncio.Event()
        """Set when an execution begins."""

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def prepare(self, handle: str, program: str | bytes) -> Prepared:
        if isinstance(program, bytes) or not program.partition(" qubits: ")[1]:
            raise CircuitError("this is no circuit of the fake engine", place="circuit")
        qubits, _, names = program.partition(" qubits: ")
        warm = handle in self.prepared
        self.programs[handle] = program
        self.prepared.append(handle)
        return Prepared(
            handle=handle,
            parameters=tuple(names.split()),
            qubits=int(qubits),
            bits=int(qubits),
            layout=tuple(range(int(qubits))),
            duration_us=1.0,
            shot_s=SHOT_S,
            prepare_s=0.0 if warm else 0.01,
            method="fake",
        )

    async def prepare_as(self, handle: str, known_as: str) -> Prepared:
        return await self.prepare(handle, self.programs[known_as])

    async def set_known_device(self, snapshot: Any, *, for_layout: bool = False) -> None:
        self.told.append(("layout" if for_layout else "known", snapshot))

    async def set_true_device(self, snapshot: Any, over_rotations: Any) -> None:
        self.told.append(("true", snapshot))

    async def prepare_observable(self, handle: str, terms: Sequence[tuple[str, float]]) -> int:
        return len(measurement_bases([check_terms(terms)]))

    async def execute(self, request: Any) -> Executed:
        self.executed.append(request.job_id)
        self.plans.append(request.circuit)
        self.entered.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            raise self.failures.popleft()
        return Executed(
            evaluations=tuple(self._evaluation(row, request, request.shots) for row in request.parameters),
            partial=tuple(
                PartialEstimate(
                    shots, tuple(self._evaluation(row, request, shots) for row in request.parameters)
                )
                for shots in request.shot_ranges
            ),
            parse_s=0.001,
            simulate_s=0.002,
            sample_s=0.0,
        )

    @staticmethod
    def _evaluation(row: Any, request: Any, shots: int) -> Evaluation:
        values = np.full(len(request.observables), float(row.sum()))
        if request.observables:
            return Evaluation(values, np.full_like(values, 1 / shots), None, None, 0)
        if request.per_shot:
            return Evaluation(values, values, b"\x01" * shots, None, 2)
        return Evaluation(values, values, b"\x00\x03", np.array([shots - 1, 1]), 2)


class Client:
    """A raw stream."""

    def __init__(self, call: Any, channel: grpc.aio.Channel) -> None:
        self.call, self.channel = call, channel

    async def send(self, *messages: wire.ClientMessage) -> None:
        for message in messages:
            await self.call.write(message.SerializeToString())

    async def send_bytes(self, data: bytes) -> None:
        await self.call.write(data)

    async def read(self) -> wire.ServerMessage | None:
        """The next message; None when the stream has ended."""
        try:
            data = await asyncio.wait_for(self.call.read(), WAIT_S)
        except grpc.aio.AioRpcError:
            return None
        return wire.ServerMessage.FromString(data) if isinstance(data, bytes) else None

    async def expect(self, kind: str) -> Any:
        """The next message of a kind, passing over Queued, Started and Partial on the way to others."""
        while True:
            message = await self.read()
            assert message is not None, f"the stream ended before {kind}"
            got = message.WhichOneof("message")
            if got == kind:
                return getattr(message, kind)
            assert got in ("queued", "started", "partial"), f"{message} came before {kind}"

    async def drop(self) -> None:
        """Lose the connection without a word."""
        self.call.cancel()
        await self.channel.close()


def hello(session: str = "team/loop", **fields: Any) -> wire.ClientMessage:
    values = {"protocol": 1, "session": session, "tenant": session.partition("/")[0], "session_seed": 7}
    return wire.ClientMessage(hello=wire.Hello(**{**values, **fields}))


def circuit(program: str = "2 qubits: a b", handle: str | None = None) -> wire.ClientMessage:
    handle = circuit_digest(program) if handle is None else handle
    return wire.ClientMessage(circuit=wire.RegisterCircuit(handle=handle, openqasm3=program))


def observable(*terms: tuple[str, float], handle: str | None = None) -> wire.ClientMessage:
    terms = terms or (("ZZ", 1.0), ("XI", 0.5))
    handle = observable_digest(terms) if handle is None else handle
    pauli_terms = [wire.PauliTerm(pauli=pauli, coefficient=value) for pauli, value in terms]
    return wire.ClientMessage(observable=wire.RegisterObservable(handle=handle, terms=pauli_terms))


def submit(
    evaluation: int = 0,
    *,
    parameters: Sequence[float] = (0.25, 0.5),
    sets: int = 1,
    shots: int = 100,
    program: str = "2 qubits: a b",
    observables: Sequence[Sequence[tuple[str, float]]] = ((("ZZ", 1.0), ("XI", 0.5)),),
    session: str = "team/loop",
    **fields: Any,
) -> wire.ClientMessage:
    values = np.array(parameters, dtype=float).reshape(sets, -1)
    handles = [observable_digest(terms) for terms in observables]
    name = job_id(
        session,
        evaluation,
        circuit_digest(program),
        handles,
        values,
        shots,
        readout_mitigation=fields.get("readout_mitigation", False),
    )
    message = {
        "job_id": name,
        "evaluation": evaluation,
        "circuit": circuit_digest(program),
        "observables": handles,
        "parameter_sets": sets,
        "parameters": list(parameters),
        "shots": shots,
    }
    return wire.ClientMessage(submit=wire.Submit(**{**message, **fields}))


def cancel(job: wire.ClientMessage) -> wire.ClientMessage:
    return wire.ClientMessage(cancel=wire.Cancel(job_id=job.submit.job_id))


def acknowledge(job: wire.ClientMessage) -> wire.ClientMessage:
    return wire.ClientMessage(acknowledge=wire.Acknowledge(job_id=job.submit.job_id))


def close() -> wire.ClientMessage:
    return wire.ClientMessage(close=wire.Close())


class World:
    """Servers and clients of one test; servers share a data folder, as restarts of one do."""

    hello, circuit, observable, submit = (
        staticmethod(hello),
        staticmethod(circuit),
        staticmethod(observable),
        staticmethod(submit),
    )
    cancel, acknowledge, close = staticmethod(cancel), staticmethod(acknowledge), staticmethod(close)
    WorkerFailed, ParameterError, ServerLimits, SHOT_S = WorkerFailed, ParameterError, ServerLimits, SHOT_S

    def __init__(self, data: Path) -> None:
        self.data = data
        self.host: QpuHost
        self.engine: FakeEngine
        self.port = 0
        self.bookings: list[Booking] = []

    @contextlib.asynccontextmanager
    async def serve(
        self,
        *,
        limits: ServerLimits | None = None,
        config: QpuConfig | None = None,
        port: int = 0,
        **options: Any,
    ) -> AsyncIterator[World]:
        """A server; leaving kills it without a drain, as SIGKILL would."""
        limits = limits or ServerLimits(drain_s=0.2)
        journal = DirectoryJournal(self.data / "log")
        machine = QpuMachine(config or QpuConfig(slice_cost_s=0.0))
        ledger = DurableLedger(journal, limits)
        self.bookings = []
        commit = ledger.commit

        def noted(entry: Entry) -> None:
            self.bookings += entry.bookings
            commit(entry)

        ledger.commit = noted  # type: ignore[method-assign]
        self.engine = FakeEngine()
        self.host = QpuHost(
            device="fake-5",
            snapshot="fake",
            qubits=5,
            machine=machine,
            drifting=options.pop("drifting", None) or DriftingDevice.frozen(load_snapshot("manila-5")),
            engine=self.engine,
            ledger=ledger,
            limits=limits,
            version="test",
            **options,
        )
        self.server, self.health, self.port = await listen(self.host, f"127.0.0.1:{port}")
        try:
            yield self
        finally:
            await self.server.stop(grace=None)
            for session in self.host.sessions.values():
                if session.absence is not None:
                    session.absence.cancel()
            hold = self.host.driver.hold
            if hold is not None:
                hold.cancel()
                await asyncio.wait({hold})
            journal.close()

    async def raw(self) -> Client:
        """A stream that has said nothing yet."""
        channel = grpc.aio.insecure_channel(
            f"127.0.0.1:{self.port}", options=[("grpc.use_local_subchannel_pool", 1)]
        )
        method: Any = channel.stream_stream("/efaas.qpu.v1alpha1.Qpu/Session")
        return Client(method(), channel)

    async def greeted(self, session: str = "team/loop", **fields: Any) -> Client:
        """A stream past its welcome."""
        client = await self.raw()
        await client.send(hello(session, **fields))
        await client.expect("welcome")
        return client

    async def ready(self, session: str = "team/loop", **fields: Any) -> Client:
        """A stream with the default circuit and observable registered."""
        client = await self.greeted(session, **fields)
        await client.send(circuit(), observable())
        await client.expect("circuit")
        await client.expect("observable")
        return client

    async def describe(self) -> wire.DeviceState:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            method: Any = channel.unary_unary("/efaas.qpu.v1alpha1.Qpu/Describe")
            return wire.DeviceState.FromString(await method(b""))

    async def ask(self, method: str, request: Any, answer: Any, token: str = "") -> Any:
        """A unary call of who keeps the device."""
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            call: Any = channel.unary_unary(f"/efaas.qpu.v1alpha1.Qpu/{method}")
            metadata = (("authorization", f"Bearer {token}"),) if token else ()
            return answer.FromString(await call(request.SerializeToString(), metadata=metadata))

    async def is_healthy(self) -> bool:
        """Whether a new session gets a result."""
        client = await self.ready("team/health", session_seed=1)
        await client.send(submit(session="team/health"))
        result = await client.expect("result")
        await client.drop()
        return len(result.evaluations) == 1


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(scope="session")
def runner() -> Iterator[asyncio.Runner]:
    """One event loop for all examples of a property: gRPC's poller complains of loops that are gone."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="session")
def make_world() -> type[World]:
    return World
