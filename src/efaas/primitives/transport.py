"""How the jobs of a session reach a QPU: one protocol, two ways.

- `StreamTransport` speaks to the server of a local session on a stream of its own. A job whose circuit and
  observables the server knows goes out in the caller's thread; all that can wait (the server's start, the
  connection, registrations) is done by one thread, in the order of the submits, so run() never waits.
- `RunnerTransport` goes through the session that a program runs as, and so through its journal: when the
  program runs again, its n-th submit is answered from there.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from efaas.errors import EfaasError, JobFailed, SessionEnded
from efaas.optimizers.base import Vector
from efaas.primitives.circuits import Program
from efaas.primitives.observables import Observable

if TYPE_CHECKING:
    from efaas.client import JobResult, QpuConnection
    from efaas.sdk import Session as ProgramSession

    _ResultFuture = concurrent.futures.Future[JobResult]
else:
    _ResultFuture = concurrent.futures.Future


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """One job for a QPU."""

    program: Program
    parameters: Vector
    """Shape (parameter sets, parameters), radians."""
    shots: int
    """For each parameter set and measurement basis."""
    observables: tuple[Observable, ...] = ()
    """None: outcomes in the order of shots are returned."""
    readout_mitigation: bool = False


class Run(_ResultFuture):
    """A job on its way.

    Attributes:
        stage: ``INITIALIZING``, ``QUEUED`` or ``RUNNING``, as far as that is known; done is done.
        started_s: wall time (`time.time`) at which the QPU started on it, where known.
        ended_s: wall time at which it ended, None before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stage = "INITIALIZING"
        self.started_s: float | None = None
        self.ended_s: float | None = None
        self.wanted = True
        self._drop: Callable[[], Any] | None = None
        self.set_running_or_notify_cancel()

    def cancel(self) -> bool:
        """Ask for the job to be dropped; False if it has ended already."""
        if self.done():
            return False
        self.wanted = False
        if self._drop is not None:
            self._drop()
        return True

    def begun(self) -> None:
        """The QPU has started on it."""
        self.stage = "RUNNING"
        self.started_s = time.time()

    def follow(self, job: concurrent.futures.Future[JobResult]) -> None:
        """End as this future does, and cancel it when cancelled."""
        self._drop = job.cancel
        job.add_done_callback(self._take)
        if not self.wanted:
            job.cancel()

    def _take(self, job: concurrent.futures.Future[JobResult]) -> None:
        error = job.exception()
        if error is not None:
            self.fail(error)
        elif not self.done():
            self.ended_s = time.time()
            self.set_result(job.result())

    def fail(self, error: BaseException) -> None:
        """End with an error."""
        if not self.done():
            self.ended_s = time.time()
            self.set_exception(error)


class Transport(Protocol):
    """Carries jobs to a QPU."""

    def submit(self, work: Work) -> Run:
        """Send a job on its way; returns at once."""
        ...

    def close(self) -> None:
        """End the connection; what has no result fails."""
        ...


class StreamTransport:
    """A stream to the server of a local session.

    Args:
        connect: makes the connection, and waits for the server if that is still starting.
        numbered: whether submits are numbered, so that the same job again draws other shots. If not, the
            same job gives the same result again.
    """

    def __init__(self, connect: Callable[[], QpuConnection], *, numbered: bool = True) -> None:
        self._connect = connect
        self._numbered = numbered
        self._lock = threading.Lock()
        # Under the lock:
        self._connection: QpuConnection | None = None
        self._registered: set[str] = set()
        self._number = 0
        self._behind = 0  # submits that the thread has not sent yet
        self._same: dict[Any, Run] = {}
        self._closed = False
        self._waiting: queue.SimpleQueue[tuple[Work, int, Run] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._keep, name="primitives-submits", daemon=True)
        self._thread.start()

    def submit(self, work: Work) -> Run:
        """Send a job on its way; returns at once."""
        run = Run()
        with self._lock:
            if self._closed:
                raise SessionEnded("the session is closed; open a new one", place="session")
            number = self._number
            if self._numbered:
                self._number += 1
            else:
                key = _key(work)
                same = self._same.get(key)
                if same is not None and not same.done():
                    run.follow(same)
                    return run
                self._same[key] = run
            connection = self._connection
            straight = connection is not None and not self._behind and self._knows(work)
            if not straight:
                self._behind += 1
                self._waiting.put((work, number, run))
        if straight and connection is not None:
            self._send(connection, work, number, run)
        return run

    def close(self) -> None:
        """End the stream; jobs without a result fail."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            connection, self._connection = self._connection, None
        self._waiting.put(None)
        if connection is not None:
            with contextlib.suppress(EfaasError):
                connection.close()

    def _knows(self, work: Work) -> bool:
        return work.program.digest in self._registered and all(
            observable.digest in self._registered for observable in work.observables
        )

    def _keep(self) -> None:
        while (item := self._waiting.get()) is not None:
            work, number, run = item
            try:
                connection = self._connected()
                self._register(connection, work)
                self._send(connection, work, number, run)
            except Exception as error:
                run.fail(error)
            with self._lock:
                self._behind -= 1
        while not self._waiting.empty():
            left = self._waiting.get()
            if left is not None:
                left[2].fail(SessionEnded("the session was closed before the job was sent", place="session"))

    def _connected(self) -> QpuConnection:
        with self._lock:
            connection, closed = self._connection, self._closed
        if closed:
            raise SessionEnded("the session was closed before the job was sent", place="session")
        if connection is None:
            connection = self._connect()
            with self._lock:
                if not self._closed:
                    self._connection = connection
                    return connection
            connection.close()
            raise SessionEnded("the session was closed before the job was sent", place="session")
        return connection

    def _register(self, connection: QpuConnection, work: Work) -> None:
        if work.program.digest not in self._registered:
            connection.register_circuit(work.program.text)
            with self._lock:
                self._registered.add(work.program.digest)
        for observable in work.observables:
            if observable.digest not in self._registered:
                connection.register_observable(observable.terms)
                with self._lock:
                    self._registered.add(observable.digest)

    @staticmethod
    def _send(connection: QpuConnection, work: Work, number: int, run: Run) -> None:
        if not run.wanted:
            run.fail(JobFailed("the job was cancelled before it was sent", place="job"))
            return
        run.stage = "QUEUED"
        job = connection.submit(
            work.program.digest,
            work.parameters,
            work.shots,
            evaluation=number,
            observables=[observable.digest for observable in work.observables],
            readout_mitigation=work.readout_mitigation,
            per_shot=not work.observables,
            on_started=run.begun,
        )
        run.follow(job)
        job.add_done_callback(lambda ended: _acknowledge(connection, ended))


def _acknowledge(connection: QpuConnection, job: Any) -> None:
    if job.exception() is None:
        connection.acknowledge(job.id)


def _key(work: Work) -> Any:
    return (
        work.program.digest,
        tuple(observable.digest for observable in work.observables),
        work.parameters.tobytes(),
        work.parameters.shape,
        work.shots,
        work.readout_mitigation,
    )


class RunnerTransport:
    """The session that the program runs as, with its journal.

    Args:
        session: of `efaas.sdk`.
        owned: whether it ends with this transport.
    """

    def __init__(self, session: ProgramSession, *, owned: bool = False) -> None:
        self.session = session
        self._owned = owned

    def submit(self, work: Work) -> Run:
        """Send a job on its way, or find its result in the journal; returns at once."""
        run = Run()
        job = self.session.submit(
            work.program.text,
            work.parameters,
            [observable.terms for observable in work.observables] or None,
            work.shots,
            readout_mitigation=work.readout_mitigation,
            per_shot=not work.observables,
        )
        run.stage = "QUEUED"
        run.follow(job)
        return run

    def close(self) -> None:
        """End the session if it was opened for this transport; a program's own session goes on."""
        if self._owned:
            self.session.close()
