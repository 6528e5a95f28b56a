"""The stream to a QPU server for programs without an event loop.

`QpuConnection` is `QpuStream` with its event loop in a thread: one loop for all connections of the process,
started when the first is made. A submit hands the message to that thread and returns a `QpuJob`, which is a
`concurrent.futures.Future`, so `wait`, `as_completed` and `asyncio.wrap_future` work with it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from efaas.api.wire import qpu_pb2 as wire
from efaas.client.exchange import SessionIdentity, submit_message
from efaas.client.listener import JobCallbacks, PartialCallback, QueuedCallback, StartedCallback
from efaas.client.results import CircuitInfo, DeviceInfo, JobResult
from efaas.client.stream import QpuStream
from efaas.core.qpu.messages import JobKind
from efaas.errors import EfaasError, QpuUnavailable

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def shared_loop() -> asyncio.AbstractEventLoop:
    """The event loop that all connections of this process share, in a daemon thread.

    One for all, because gRPC's event poller wakes every loop of a process for every event.
    """
    global _loop
    with _lock:
        if _loop is None or _loop.is_closed():
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="efaas-qpu-streams", daemon=True).start()
        return _loop


class _Canceller(Protocol):
    def cancel(self, job_id: str) -> None: ...


class QpuJob(concurrent.futures.Future[JobResult]):
    """A job on its way; `id` is its job id."""

    def __init__(
        self,
        connection: _Canceller,
        name: str,
        on_queued: QueuedCallback | None,
        on_started: StartedCallback | None,
        on_partial: PartialCallback | None,
    ) -> None:
        super().__init__()
        self.id = name
        self._connection = connection
        self._on_queued, self._on_started, self._on_partial = on_queued, on_started, on_partial
        self.set_running_or_notify_cancel()

    def cancel(self) -> bool:
        """Ask the server to drop the job.

        It then ends with `JobFailed`, or with its result if that was faster, never with `CancelledError`.

        Returns:
            False if it has ended already.
        """
        if self.done():
            return False
        self._connection.cancel(self.id)
        return True

    def as_listener(self) -> _Listener:
        """What the stream tells about this job goes here."""
        return _Listener(self, self._on_queued, self._on_started, self._on_partial)


class _Listener(JobCallbacks):
    """Carries news of a job from the stream's thread into its future and callbacks."""

    def __init__(
        self,
        job: QpuJob,
        on_queued: QueuedCallback | None,
        on_started: StartedCallback | None,
        on_partial: PartialCallback | None,
    ) -> None:
        super().__init__(on_queued, on_started, on_partial)
        self._job = job

    def done(self, result: JobResult) -> None:
        if not self._job.done():
            self._job.set_result(result)

    def failed(self, error: EfaasError) -> None:
        if not self._job.done():
            self._job.set_exception(error)


class QpuConnection:
    """A session's connection to a QPU server, for blocking callers; usable from several threads.

    Args:
        endpoint: ``host:port``.
        identity: who speaks.
        patience_s: wall seconds without a connection after which waiting jobs, and the constructor, fail.

    Raises:
        QpuUnavailable: no server answered in time.
        InputError: the server refused the token or the hello.
        SessionEnded: a newer lease epoch owns the session.
    """

    def __init__(self, endpoint: str, identity: SessionIdentity, *, patience_s: float = 30.0) -> None:
        self.identity = identity
        self._loop = shared_loop()
        self._stream: QpuStream = self._wait(_make(endpoint, identity, patience_s))
        try:
            self._wait(self._stream.connect())
        except EfaasError:
            self._wait(self._stream.close())
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    @property
    def device(self) -> DeviceInfo:
        """The device as its last welcome described it."""
        return self._stream.device

    @property
    def endpoint(self) -> str:
        """``host:port``."""
        return self._stream.endpoint

    @property
    def reconnects(self) -> int:
        """How often the connection came up again."""
        return self._stream.reconnects

    def register_circuit(self, program: str | bytes) -> CircuitInfo:
        """Register OpenQASM 3 text or QPY bytes (version 13 or newer); the second time costs nothing.

        Raises:
            CircuitError: the server refused it; the text says why.
        """
        return self._wait(self._stream.register_circuit(program))

    def register_observable(self, terms: Iterable[tuple[str, float]]) -> str:
        """Register (Pauli string, coefficient) terms, qubit 0 rightmost; returns the observable's handle.

        Raises:
            InputError: the server refused it; the text says why.
        """
        return self._wait(self._stream.register_observable(list(terms)))

    def submit(
        self,
        circuit: str,
        parameters: NDArray[np.float64] | Sequence[Sequence[float]] | Sequence[float],
        shots: int,
        *,
        evaluation: int,
        observables: Sequence[str] = (),
        readout_mitigation: bool = False,
        per_shot: bool = False,
        kind: JobKind = JobKind.LOOP,
        cpu_s: float = 0.0,
        on_queued: QueuedCallback | None = None,
        on_started: StartedCallback | None = None,
        on_partial: PartialCallback | None = None,
    ) -> QpuJob:
        """Submit a job; arguments are those of `submit_message`, callbacks run in the stream's thread.

        Returns:
            A future; its `result()` raises `JobFailed`, `InputError`, `QpuUnavailable` or `SessionEnded`.

        Raises:
            ParameterError: the parameters are not finite numbers in one or two dimensions, or shots is
                below 1.
        """
        message = submit_message(
            self.identity.session,
            circuit,
            parameters,
            shots,
            evaluation=evaluation,
            observables=observables,
            readout_mitigation=readout_mitigation,
            per_shot=per_shot,
            kind=kind,
            cpu_s=cpu_s,
        )
        job = QpuJob(self, message.job_id, on_queued, on_started, on_partial)
        self._loop.call_soon_threadsafe(self._submit, message, job.as_listener())
        return job

    def _submit(self, message: wire.Submit, listener: _Listener) -> None:
        try:
            self._stream.submit_for(message, listener)
        except EfaasError as error:
            listener.failed(error)

    def cancel(self, job_id: str) -> None:
        """Ask the server to drop a job; it ends with `JobFailed`, or with its result if that was faster."""
        self._loop.call_soon_threadsafe(self._stream.cancel, job_id)

    def acknowledge(self, job_id: str) -> None:
        """Tell the server that this job's result is on disk here, so that it need not keep it."""
        self._loop.call_soon_threadsafe(self._stream.acknowledge, job_id)

    def close(self) -> None:
        """Say that the session is done here and end the stream; jobs without a result fail."""
        try:
            self._wait(self._stream.close())
        except concurrent.futures.CancelledError:
            raise QpuUnavailable("the event loop of the streams was stopped", place=self.endpoint) from None


async def _make(endpoint: str, identity: SessionIdentity, patience_s: float) -> QpuStream:
    return QpuStream(endpoint, identity, patience_s=patience_s)
