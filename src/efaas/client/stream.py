"""The stream to a QPU server for asyncio programs.

`QpuStream` keeps one connection up: it connects with back-off, says what `Exchange.opening` gives, moves
messages both ways, and does all of it again when the connection drops. Callers see nothing of a reconnect
but the time it takes; only when no connection came up for `patience_s` seconds do waiting jobs fail with
`QpuUnavailable`.

A job tells its listener how it gets on (`JobListener`); `StreamJob` is the one for `await`. `QpuConnection`
(`efaas.client.connection`) is the same for programs without an event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from efaas.api.wire import qpu_pb2 as wire
from efaas.client import exchange as ex
from efaas.client.listener import JobListener, PartialCallback, QueuedCallback, StartedCallback, StreamJob
from efaas.client.results import CircuitInfo, DeviceInfo
from efaas.client.trust import open_channel
from efaas.errors import EfaasError, JobFailed, QpuUnavailable, SessionEnded

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Largest message taken from a server: outcomes of every shot of a large job."""

_SESSION_METHOD = "/efaas.qpu.v1alpha1.Qpu/Session"
_ACKNOWLEDGE_AFTER_S = 0.02
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.05, 2.0
_STEADY_S = 5.0
"""Wall seconds after which a connection counts as good, and the back-off starts anew when it drops."""

_MARGIN_S = 5.0
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A server that vanished without a word (power, network) is noticed within half a minute.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Connecting again is decided here, not by a back-off shared between channels.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)


class QpuStream:
    """One session's stream to one QPU server.

    Args:
        endpoint: ``host:port``.
        identity: who speaks.
        patience_s: wall seconds without a connection after which waiting jobs fail with `QpuUnavailable`;
            also how long `connect` tries.
    """

    def __init__(self, endpoint: str, identity: ex.SessionIdentity, *, patience_s: float = 30.0) -> None:
        self.endpoint = endpoint
        self.identity = identity
        self._patience_s = patience_s
        self._exchange = ex.Exchange(identity)
        self._listeners: dict[str, JobListener] = {}
        self._registrations: dict[str, asyncio.Future[Any]] = {}
        self._circuits: dict[str, CircuitInfo] = {}
        self._bases: dict[str, int] = {}
        self._outbox: deque[wire.ClientMessage] = deque()
        self._outbox_filled = asyncio.Event()
        self._acknowledged: list[wire.ClientMessage] = []
        self._welcomed: asyncio.Future[DeviceInfo] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._ended: EfaasError | None = None
        self._closing = False
        self.reconnects = 0
        """How often the connection came up again."""

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def device(self) -> DeviceInfo:
        """The device as its last welcome described it; to be read after `connect`."""
        if self._exchange.device is None:
            raise QpuUnavailable(
                "the stream is not connected yet; await connect() first", place=self.endpoint
            )
        return self._exchange.device

    async def connect(self) -> DeviceInfo:
        """Bring the connection up and say hello.

        Raises:
            QpuUnavailable: no server answered for `patience_s` seconds.
            InputError: the server refused the token or the hello.
            SessionEnded: a newer lease epoch owns the session.
        """
        if self._keeper is None:
            self._welcomed = asyncio.get_running_loop().create_future()
            self._keeper = asyncio.create_task(self._keep_connected(), name=f"qpu-stream {self.endpoint}")
        self._must_be_open()
        assert self._welcomed is not None
        try:
            async with asyncio.timeout(self._patience_s + _MARGIN_S):
                return await asyncio.shield(self._welcomed)
        except TimeoutError:
            # A call that does not even end when it is cancelled: nobody may wait for ever for that.
            error = QpuUnavailable(
                f"no answer for {self._patience_s:g} s; see that the QPU server runs", place=self.endpoint
            )
            self._end(error)
            raise error from None

    async def register_circuit(self, program: str | bytes) -> CircuitInfo:
        """Register OpenQASM 3 text or QPY bytes (version 13 or newer); the second time costs nothing.

        Raises:
            CircuitError: the server refused it; the text says why.
        """
        self._must_be_open()
        handle, message = self._exchange.register_circuit(program)
        if handle not in self._circuits:
            await self._register(handle, message)
        return self._circuits[handle]

    async def register_observable(self, terms: Iterable[tuple[str, float]]) -> str:
        """Register an observable as (Pauli string, coefficient) terms, qubit 0 rightmost; returns its handle.

        Raises:
            InputError: the server refused it; the text says why.
        """
        self._must_be_open()
        handle, message = self._exchange.register_observable(terms)
        if handle not in self._bases:
            await self._register(handle, message)
        return handle

    async def _register(self, handle: str, message: wire.ClientMessage) -> None:
        waiting = self._registrations.get(handle)
        if waiting is None:
            waiting = self._registrations[handle] = asyncio.get_running_loop().create_future()
            self._send(message)
        await asyncio.shield(waiting)

    def submit(
        self,
        message: wire.Submit,
        *,
        on_queued: QueuedCallback | None = None,
        on_started: StartedCallback | None = None,
        on_partial: PartialCallback | None = None,
    ) -> StreamJob:
        """Submit a job made by `efaas.client.submit_message`; await what is returned.

        Raises:
            InputError: the same job is on its way already.
            QpuUnavailable, SessionEnded: the stream has ended.
        """
        job = StreamJob(message.job_id, on_queued, on_started, on_partial)
        self.submit_for(message, job)
        return job

    def submit_for(self, message: wire.Submit, listener: JobListener) -> None:
        """Submit a job and let `listener` hear of it; raises like `submit`."""
        self._must_be_open()
        self._send(self._exchange.submit(message, time.perf_counter()))
        before = self._listeners.get(message.job_id)
        self._listeners[message.job_id] = listener
        if before is not None:
            before.failed(JobFailed("a real submit claimed the job", place=f"job {message.job_id}"))

    def cancel(self, job_id: str) -> bool:
        """Ask the server to drop a job; it ends with `JobFailed`, or with its result if that was faster.

        Returns:
            False if the job has ended already.
        """
        message = self._exchange.cancel(job_id)
        if message is None:
            return False
        self._send(message)
        return True

    def acknowledge(self, job_id: str) -> None:
        """Tell the server that this job's result is on disk here, so that it need not keep it.

        The message travels behind the next one, or after a moment: nobody waits for it.
        """
        self._acknowledged.append(wire.ClientMessage(acknowledge=wire.Acknowledge(job_id=job_id)))
        if len(self._acknowledged) == 1:
            asyncio.get_running_loop().call_later(_ACKNOWLEDGE_AFTER_S, self._send_acknowledged)

    def _send_acknowledged(self) -> None:
        if self._acknowledged:
            self._outbox.extend(self._acknowledged)
            self._acknowledged.clear()
            self._outbox_filled.set()

    async def close(self) -> None:
        """Say that the session is done here and end the stream; jobs without a result fail."""
        if self._keeper is None or self._closing:
            return
        self._closing = True
        if self._ended is None:
            self._send_acknowledged()
            self._send(wire.ClientMessage(close=wire.Close()))
            # The server ends the stream when it has read the close; one that does not answer is left after
            # a second.
            await asyncio.wait({self._keeper}, timeout=1.0)
        self._keeper.cancel()
        await asyncio.wait({self._keeper}, timeout=1.0)
        self._end(SessionEnded("the stream was closed", place=self.endpoint))

    # --- keeping the connection -------------------------------------------------------------------

    def _send(self, message: wire.ClientMessage) -> None:
        self._outbox.append(message)
        self._outbox.extend(self._acknowledged)
        self._acknowledged.clear()
        self._outbox_filled.set()

    def _must_be_open(self) -> None:
        if self._ended is not None:
            raise self._ended
        if self._closing:
            raise SessionEnded("the stream was closed", place=self.endpoint)

    async def _keep_connected(self) -> None:
        try:
            await self._connect_again_and_again()
        except Exception as error:
            # Whatever it was, those who wait would wait for ever for a connection that nobody keeps.
            self._end(QpuUnavailable(f"the connection broke: {error!r}", place=self.endpoint))

    async def _connect_again_and_again(self) -> None:
        delay_s = _FIRST_DELAY_S
        lost_s = time.monotonic()
        while True:
            begun_s = time.monotonic()
            was_welcomed, trouble = await self._one_connection(lost_s + self._patience_s)
            if self._ended is not None or self._closing:
                return
            if was_welcomed:
                lost_s = time.monotonic()
                if lost_s - begun_s > _STEADY_S:
                    delay_s = _FIRST_DELAY_S
            if time.monotonic() - lost_s >= self._patience_s:
                self._end(
                    QpuUnavailable(
                        f"no connection for {self._patience_s:g} s ({trouble}); see that the QPU server runs",
                        place=self.endpoint,
                    )
                )
                return
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
            delay_s = min(2 * delay_s, _LONGEST_DELAY_S)

    async def _one_connection(self, deadline_s: float) -> tuple[bool, str]:
        """Connect once and move messages until it drops: was it welcome, and what happened."""
        try:
            opened = open_channel(self.endpoint, self.identity.trust, _CHANNEL_OPTIONS)
        except QpuUnavailable as error:
            return False, str(error)
        async with opened as channel:
            method: Any = channel.stream_stream(
                _SESSION_METHOD,
                request_serializer=wire.ClientMessage.SerializeToString,
                response_deserializer=wire.ServerMessage.FromString,
            )
            call = method(wait_for_ready=False)
            welcomed = False
            writer: asyncio.Task[None] | None = None
            watchdog = asyncio.get_running_loop().call_later(
                max(0.1, deadline_s - time.monotonic()), call.cancel
            )
            try:
                # What waits in the outbox is either part of the opening or of no use to a new stream.
                self._outbox.clear()
                for message in self._exchange.opening(time.perf_counter()):
                    await call.write(message)
                writer = asyncio.create_task(self._write(call))
                while True:
                    answer = await call.read()
                    if not isinstance(answer, wire.ServerMessage):  # grpc.aio.EOF
                        return welcomed, "the server ended the stream"
                    event = self._exchange.receive(answer, time.perf_counter())
                    if isinstance(event, ex.Welcomed):
                        watchdog.cancel()
                        welcomed = True
                    if event is not None:
                        self._tell(event)
                    if self._ended is not None:
                        return welcomed, "the server refused the session"
            except grpc.aio.AioRpcError as error:
                return welcomed, f"{error.code().name}: {error.details()}"
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                return welcomed, "the connection was cut"
            except (asyncio.InvalidStateError, grpc.aio.UsageError) as error:
                return welcomed, f"the connection was cut ({error})"
            finally:
                watchdog.cancel()
                if writer is not None:
                    writer.cancel()
                call.cancel()

    async def _write(self, call: Any) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            while True:
                while self._outbox:
                    await call.write(self._outbox.popleft())
                self._outbox_filled.clear()
                await self._outbox_filled.wait()

    # --- telling callers --------------------------------------------------------------------------

    def _tell(self, event: ex.Event) -> None:
        match event:
            case ex.JobDone(result):
                self._listeners.pop(result.job_id).done(result)
            case ex.JobErred(job_id, error):
                self._listeners.pop(job_id).failed(error)
            case ex.JobQueued(job_id, position, estimated_start_s, reason):
                self._listeners[job_id].queued(position, estimated_start_s, reason)
            case ex.JobStarted(job_id):
                self._listeners[job_id].started()
            case ex.JobPartial(job_id, shots, evaluations):
                self._listeners[job_id].partial(shots, evaluations)
            case ex.CircuitReady(info):
                self._circuits[info.handle] = info
                self._settle(info.handle, None)
            case ex.ObservableReady(handle, bases):
                self._bases[handle] = bases
                self._settle(handle, None)
            case ex.RegistrationFailed(handle, error):
                self._settle(handle, error)
            case ex.Welcomed(device):
                assert self._welcomed is not None
                if self._welcomed.done():
                    self.reconnects += 1
                else:
                    self._welcomed.set_result(device)
            case ex.StreamRefused(error):
                if not error.retry:
                    self._end(error)

    def _settle(self, handle: str, error: EfaasError | None) -> None:
        waiting = self._registrations.pop(handle, None)
        if waiting is None or waiting.done():
            return
        if error is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(error)
            waiting.exception()

    def _end(self, error: EfaasError) -> None:
        """Nothing comes any more: everyone who waits is told why."""
        if self._ended is None:
            self._ended = error
        for handle in list(self._registrations):
            self._settle(handle, error)
        for job_id, listener in list(self._listeners.items()):
            self._exchange.give_up(job_id)
            listener.failed(error)
        self._listeners.clear()
        if self._welcomed is not None and not self._welcomed.done():
            self._welcomed.set_exception(error)
            self._welcomed.exception()
