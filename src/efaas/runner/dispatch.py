"""The session's way to its QPUs: jobs in, futures out; connections, failover and retries in between.

A `Dispatcher` uses one connection at a time. It begins with the first QPU of the list that answers (the
session's own comes first). After that `efaas.runner.routes` says before each iteration where it goes; a
session that turns to another QPU keeps the connection it leaves, so coming back costs nothing, and jobs that
are on their way stay where they are. Without routes a connection that is lost is made anew to the same QPU
first, since a session on another device has another trajectory.

A submit on a living connection goes straight through in the caller's thread; everything that can wait
(connecting, registering, trying again) is done by one thread of its own, so callers only ever wait for a
future.

What ends a job's future:

- its result, wherever it came from: a job id names a computation, so a result that arrives late from a
  connection that was given up is as good as any;
- a fault of the request (`InputError`), or of the session on the server (`SessionEnded`), at once;
- `JobFailed` that a retry can mend, after `RETRIES` more tries with the same job id, which is never charged
  twice;
- `QpuUnavailable` when no QPU of the list could be reached.
"""

from __future__ import annotations

import bisect
import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from efaas.core.identity import circuit_digest, job_id, observable_digest
from efaas.core.qpu.messages import JobKind
from efaas.errors import EfaasError, InputError, JobFailed, QpuUnavailable, SessionEnded
from efaas.runner.connecting import CONNECTION_PATIENCE_S, Connected, Connector
from efaas.runner.environment import QpuTarget
from efaas.runner.jobs import Connect, Connection, JobFuture, News, Request, Terms, connect_to_server
from efaas.runner.routes import Routes, Watch

if TYPE_CHECKING:
    from efaas.client import JobResult, SessionIdentity
    from efaas.runner.jobs import PartialListener

RETRIES = 3
"""Further tries of a job that the server gave up on with the word that a retry can help."""

RETRY_DELAY_S = 0.2
"""Wall seconds before such a try; doubles with each."""

_UNACKNOWLEDGED = 1000
"""Results of which is remembered who brought them."""

_POLL_S = 0.5
"""Wall seconds between two looks at the address of the QPU in use: a server that was started anew has
another."""


@dataclass(eq=False)
class _Task:
    request: Request
    future: JobFuture
    cpu_s: float
    on_partial: PartialListener | None = None
    connection: Connected | None = None
    tries: int = 0
    taken_back: bool = False
    """Whether it was cancelled so that it can go to another QPU."""
    not_before_s: float = 0.0


class Dispatcher:
    """Carries the jobs of one session to its QPUs; see the module's text.

    Args:
        session: ``namespace/name``.
        targets: QPUs that may be used, the session's own first.
        news: hears about connections and waiting jobs.
        lease_epoch: of this runner.
        seed: of all shots of the session.
        weight: fair-share weight.
        max_calibration_age_s: device seconds; 0 leaves it to the device.
        connect: makes a connection; tests bring their own.
        patience_s: wall seconds that each QPU is waited for before the next one is tried.
        routes: says where iterations go; None: to one QPU as long as it answers.
    """

    def __init__(
        self,
        session: str,
        targets: Sequence[QpuTarget],
        news: News,
        *,
        routes: Routes | None = None,
        lease_epoch: int = 0,
        seed: int = 0,
        weight: int = 1,
        max_calibration_age_s: float = 0.0,
        connect: Connect = connect_to_server,
        patience_s: float = 30.0,
    ) -> None:
        def identity() -> SessionIdentity:
            # Imported in the dispatcher's thread: gRPC and protobuf take a tenth of a second.
            from efaas.client.exchange import SessionIdentity

            return SessionIdentity(
                session,
                lease_epoch=lease_epoch,
                seed=seed,
                weight=weight,
                max_calibration_age_s=max_calibration_age_s,
            )

        self._session = session
        self._targets = tuple(targets)
        self._connector = Connector(targets, identity, connect, patience_s, news)
        self._news = news
        self._changed = threading.Condition()
        # All below is read and written under `_changed`.
        self._current: Connected | None = None
        self._spares: dict[str, Connected] = {}  # open connections to QPUs not in use, by device
        self._acknowledged_by: dict[str, Connected] = {}  # who brought the result of a job
        self._opening = False  # whether a connection to another QPU is being made
        self._reason = ""  # why the session is not on its own device
        self._circuit = ""  # handle of the last job's circuit
        self._preferred = 0
        self._unlucky = 0
        self._waiting: list[_Task] = []  # by evaluation number
        self._on_the_way: set[_Task] = set()
        self._prepared: list[str | bytes | Terms] = []
        self._closed = False
        self._fatal: EfaasError | None = None
        self._stopped = threading.Event()
        self._routes = routes
        self._watch = (
            None if routes is None else Watch(routes, self._reconsider, self._warm_up, lambda: self._circuit)
        )
        for name, work in (("dispatcher", self._keep), ("addresses", self._follow_addresses)):
            threading.Thread(target=work, name=name, daemon=True).start()

    # --- callers ------------------------------------------------------------------------------------

    def prepare(self, *things: str | bytes | Terms) -> None:
        """Register programs and observables ahead of the first job, on whatever connection there will be."""
        with self._changed:
            self._prepared.extend(things)
            self._changed.notify()

    def submit(
        self,
        request: Request,
        *,
        cpu_s: float = 0.0,
        device: str = "",
        on_partial: PartialListener | None = None,
    ) -> JobFuture:
        """Send a job on its way; returns at once.

        Args:
            request: the job.
            cpu_s: CPU seconds of the classical step that led to it, for fair sharing.
            device: where it was begun as a speculative job; it goes there if that one is still connected.
            on_partial: hears of its running estimates, in the stream's thread.
        """
        name = self.name(request)
        task = _Task(request, JobFuture(name, self._cancel), cpu_s, on_partial)
        with self._changed:
            if self._fatal is not None or self._closed:
                task.future.set_exception(self._fatal or SessionEnded("the session is closed here"))
                return task.future
            connected = self._connection_to(device) if device else None
            if connected is None:
                self._route(request)
                connected = self._current
            straight = connected is not None and not self._waiting and self._is_registered(connected, request)
            if not straight:
                self._line_up(task)
                self._changed.notify()
        if straight and connected is not None:
            self._send(task, connected)
        return task.future

    def submit_ahead(self, request: Request, device: str) -> JobFuture | None:
        """Send a speculative job to a device that is connected and knows its circuit; None if none is.

        Such a job is never retried and never moved: it is dropped where it cannot be had at once.
        """
        task = _Task(request, JobFuture(self.name(request), self._cancel), 0.0)
        with self._changed:
            connected = self._connection_to(device)
            if self._closed or connected is None or not self._is_registered(connected, request):
                return None
        self._send(task, connected)
        return task.future

    def withdraw(self, name: str, device: str) -> None:
        """Tell a device that the result of a speculative job is not wanted."""
        with self._changed:
            connected = self._connection_to(device)
        if connected is not None:
            connected.connection.cancel(name)

    def connect_also(self, device: str) -> None:
        """Connect to another QPU of the session as well, in the background, for speculative jobs."""
        threading.Thread(target=self._warm_up, args=(device,), name=f"connect {device}", daemon=True).start()

    def _connection_to(self, device: str) -> Connected | None:
        """The open connection to a device; under `_changed`."""
        if self._current is not None and self._current.target.device == device:
            return self._current
        spare = self._spares.get(device)
        return None if spare is None or spare.given_up or spare.moved else spare

    def name(self, request: Request) -> str:
        """The job id of a request."""
        return job_id(
            self._session,
            request.evaluation,
            circuit_digest(request.program),
            [observable_digest(terms) for terms in request.observables],
            request.parameters,
            request.shots,
            readout_mitigation=request.readout_mitigation,
        )

    def acknowledge(self, name: str) -> None:
        """Tell the QPU that brought this job's result that it is on disk here."""
        with self._changed:
            connected = self._acknowledged_by.pop(name, self._current)
        if connected is not None and not connected.given_up:
            connected.connection.acknowledge(name)

    @property
    def route(self) -> str:
        """Why iterations do not go to the session's own device, in words; empty while they do."""
        with self._changed:
            return self._reason

    @property
    def device(self) -> str:
        """The device in use; the session's own while there is no connection."""
        with self._changed:
            return (self._current.target if self._current else self._targets[self._preferred]).device

    def close(self) -> None:
        """Say goodbye to the QPU; futures without a result fail."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify()
            self._stopped.set()
            self._connector.stop()
            open_now = self._let_go()
        self._fail_all(SessionEnded("the session is closed here"))
        for connected in open_now:
            connected.connection.close()

    # --- the dispatcher's own thread ----------------------------------------------------------------

    def _keep(self) -> None:
        while True:
            try:
                if not self._step():
                    return
            except EfaasError as error:
                self._end(error)
                return
            except Exception as error:
                self._end(JobFailed(f"the dispatcher of jobs failed: {error!r}"))
                raise

    def _step(self) -> bool:
        """Do what is to be done now, then wait for more; False when closed."""
        with self._changed:
            if self._closed:
                return False
            connected, first = self._current, self._preferred
        if connected is None:
            connected = self._connector.search(first)
            if not self._use(connected):
                return False
        try:
            for thing in self._unprepared(connected):
                self._register(connected, thing, quiet=True)
            while (task := self._next_task()) is not None:
                self._register_and_send(task, connected)
        except QpuUnavailable as error:
            self._lost(connected, error)
        except SessionEnded:
            if not connected.given_up:
                raise
            # Another thread has given it up and closed it under our hands.
        with self._changed:
            if not self._closed and self._current is connected and not self._is_due():
                self._changed.wait(self._pause_s())
        return True

    def _use(self, connected: Connected) -> bool:
        """Make a new connection the current one; False, and it is closed, if nobody wants it any more."""
        with self._changed:
            if not self._closed:
                self._current = connected
                self._preferred = self._targets.index(connected.target)
                if self._routes is not None:
                    self._routes.is_at(connected.target.device)
                if self._preferred == 0:
                    self._reason = ""
                else:
                    self._reason = self._reason or f"{self._targets[0].device} does not answer"
                return True
        _close_quietly(connected.connection)
        return False

    def _follow_addresses(self) -> None:
        """Leave a connection whose server was started anew at another address.

        In a thread of its own, because the dispatcher's may be waiting for that very server.
        """
        while not self._stopped.wait(_POLL_S):
            with self._changed:
                connected = self._current
            if connected is not None and connected.moved:
                self._lost(connected, QpuUnavailable("its server was started anew"), stay=True)

    def _lost(self, connected: Connected, error: QpuUnavailable, *, stay: bool = False) -> None:
        """Give a connection up; its jobs wait for the next one.

        The same QPU is tried first, unless nothing has come of it since the last time; `stay`: even then.
        """
        with self._changed:
            if self._current is not connected:
                return
            self._current = None
            connected.given_up = True
            again = [task for task in self._on_the_way if task.connection is connected]
            self._on_the_way.difference_update(again)
            guesses = [task for task in again if task.request.kind is JobKind.SPECULATIVE]
            for task in again:
                if task not in guesses:
                    self._line_up(task)
            self._unlucky += 0 if stay else 1
            if self._unlucky > 1 and not stay:
                self._preferred = (self._preferred + 1) % len(self._targets)
            hopeless = self._unlucky > 2 * len(self._targets) + 1
            if self._routes is not None and not stay:
                self._routes.lost(connected.target.device)
                self._turn(connected.target)
            self._changed.notify()
        for task in guesses:
            self._settle(task, error)
        self._news.say(f"lost {connected.target.device}: {error.message}")
        # Closing waits for an answer; a server that is gone gives none.
        threading.Thread(target=_close_quietly, args=(connected.connection,), daemon=True).start()
        if hopeless:
            self._end(error)

    def _end(self, error: EfaasError) -> None:
        """No job can succeed any more."""
        with self._changed:
            self._fatal = fatal = self._fatal or error
            self._closed = True
            self._stopped.set()
            self._connector.stop()
            open_now = self._let_go()
        self._fail_all(fatal)
        for connected in open_now:
            threading.Thread(target=_close_quietly, args=(connected.connection,), daemon=True).start()

    def _let_go(self) -> list[Connected]:
        """All connections, which are in nobody's hands after this."""
        if self._watch is not None:
            self._watch.stop()
        open_now = [*self._spares.values(), *([self._current] if self._current else [])]
        self._spares.clear()
        self._current = None
        return open_now

    # --- which QPU ----------------------------------------------------------------------------------

    def _route(self, request: Request) -> None:
        """Turn to the QPU on which the next iteration is best; under `_changed`.

        Jobs that are asked for together go to the same one: nothing turns while any is on its way.
        """
        real = any(task.request.kind is not JobKind.SPECULATIVE for task in self._on_the_way)
        if self._routes is None or real or self._waiting:
            return
        self._circuit = circuit_digest(request.program)
        if self._current is not None:
            self._turn(self._current.target)

    def _turn(self, source: QpuTarget) -> None:
        """Ask the routes, and do what they say; under `_changed`."""
        if self._routes is None or self._opening:
            return
        route = self._routes.next(self._circuit)
        if route is None or route.device is None or not route.moved:
            return
        self._preferred = [target.device for target in self._targets].index(route.device)
        self._reason = "" if self._preferred == 0 else route.reason
        if self._current is not None:
            self._spares[source.device] = self._current
        self._current = self._spares.pop(route.device, None)
        if self._current is not None and self._current.moved:
            _discard(self._current)
            self._current = None
        self._news.moved(source.device, route.device, route.reason)
        self._changed.notify()

    def _reconsider(self) -> None:
        """Take iterations that wait for a device to be calibrated to another one, if one is ready.

        A job goes there only when the server has confirmed that it was cancelled here; one that was faster
        than that has its result.
        """
        with self._changed:
            current, tasks = self._current, list(self._on_the_way)
            if (
                self._routes is None
                or current is None
                or not tasks
                or any(task.connection is not current or task.taken_back for task in tasks)
                or any(task.request.kind is not JobKind.LOOP for task in tasks)
                or not self._routes.is_long_away(current.target.device)
            ):
                return
            self._turn(current.target)
            if self._current is current:
                return
            for task in tasks:
                task.taken_back = True
        for task in tasks:
            current.connection.cancel(task.future.id)

    def _warm_up(self, device: str) -> None:
        """Connect to a QPU that the session will probably turn to, and register there what it uses."""
        with self._changed:
            current, spare = self._current, self._spares.get(device)
            if self._closed or current is None or current.target.device == device:
                return
            things = list(current.registered)
            # Two streams of one session to one server would push each other out: no turn until this is done.
            self._opening = spare is None
        try:
            if spare is None:
                target = next(target for target in self._targets if target.device == device)
                spare = self._connector.open(target, CONNECTION_PATIENCE_S)
            if not self._keep_spare(spare):
                return
            new = [thing for thing in things if thing not in spare.registered]
            for thing in new:
                self._register(spare, thing)
        except EfaasError as error:
            self._news.say(f"{device} cannot be prepared: {error.message}")
            return
        finally:
            self._opening = False
        if new:
            self._news.say(f"prepared {device} for a move")

    def _keep_spare(self, spare: Connected) -> bool:
        """Keep a connection for a later turn; False, and it is closed, if the session is."""
        with self._changed:
            self._opening = False
            if not self._closed:
                self._spares.setdefault(spare.target.device, spare)
                return True
        _close_quietly(spare.connection)
        return False

    def _fail_all(self, error: EfaasError) -> None:
        with self._changed:
            tasks = [*self._waiting, *self._on_the_way]
            self._waiting.clear()
            self._on_the_way.clear()
        for task in tasks:
            self._settle(task, error)

    # --- registering and sending --------------------------------------------------------------------

    @staticmethod
    def _is_registered(connected: Connected, request: Request) -> bool:
        return all(thing in connected.registered for thing in (request.program, *request.observables))

    def _unprepared(self, connected: Connected) -> list[str | bytes | Terms]:
        with self._changed:
            return [thing for thing in self._prepared if thing not in connected.registered]

    def _register(self, connected: Connected, thing: str | bytes | Terms, *, quiet: bool = False) -> None:
        if thing in connected.registered:
            return
        try:
            if isinstance(thing, tuple):
                connected.connection.register_observable(thing)
            else:
                connected.connection.register_circuit(thing)
        except InputError:
            if not quiet:
                raise
            # The job that names it will fail with this error, and knows whom to tell.
            with self._changed:
                self._prepared.remove(thing)
            return
        with self._changed:
            connected.registered.add(thing)

    def _register_and_send(self, task: _Task, connected: Connected) -> None:
        try:
            for thing in (task.request.program, *task.request.observables):
                self._register(connected, thing)
        except InputError as error:
            self._settle(task, error)
        except EfaasError:
            with self._changed:
                self._line_up(task)
            raise
        else:
            self._send(task, connected)

    def _line_up(self, task: _Task) -> None:
        bisect.insort(self._waiting, task, key=lambda waiting: waiting.request.evaluation)

    def _next_task(self) -> _Task | None:
        with self._changed:
            now_s = time.monotonic()
            for task in self._waiting:
                if task.not_before_s <= now_s:
                    self._waiting.remove(task)
                    return task
        return None

    def _is_due(self) -> bool:
        now_s = time.monotonic()
        return any(task.not_before_s <= now_s for task in self._waiting)

    def _pause_s(self) -> float:
        now_s = time.monotonic()
        return min([_POLL_S, *(max(0.0, task.not_before_s - now_s) for task in self._waiting)])

    def _send(self, task: _Task, connected: Connected) -> None:
        if task.future.cancel_wanted:
            self._settle(task, JobFailed("the job was cancelled", place=f"job {task.future.id}"))
            return
        with self._changed:
            task.connection = connected
            task.tries += 1
            self._on_the_way.add(task)
        request = task.request
        # Nobody is told that a guess waits or runs.
        real = request.kind is not JobKind.SPECULATIVE
        options: dict[str, Any] = {} if task.on_partial is None else {"on_partial": task.on_partial}
        try:
            job = connected.connection.submit(
                circuit_digest(request.program),
                request.parameters,
                request.shots,
                evaluation=request.evaluation,
                observables=[observable_digest(terms) for terms in request.observables],
                readout_mitigation=request.readout_mitigation,
                per_shot=request.per_shot,
                kind=request.kind,
                cpu_s=task.cpu_s,
                on_queued=self._news.queued if real else None,
                on_started=(lambda: self._news.started(connected.target.device)) if real else None,
                **options,
            )
        except EfaasError as error:
            self._ended(task, connected, None, error)
            return
        job.add_done_callback(lambda done: self._ended(task, connected, done, None))

    def _cancel(self, future: JobFuture) -> None:
        with self._changed:
            waiting = next((task for task in self._waiting if task.future is future), None)
            sent = next((task for task in self._on_the_way if task.future is future), None)
            if waiting is not None:
                self._waiting.remove(waiting)
        if waiting is not None:
            self._settle(waiting, JobFailed("the job was cancelled", place=f"job {future.id}"))
        elif sent is not None and sent.connection is not None:
            sent.connection.connection.cancel(future.id)

    def _ended(self, task: _Task, connected: Connected, job: Any, error: Exception | None) -> None:
        """A job came to an end on a connection; runs in the stream's thread."""
        if job is not None:
            error = job.exception()
        if error is None:
            with self._changed:
                self._on_the_way.discard(task)
                self._unlucky = 0
                if task in self._waiting:
                    self._waiting.remove(task)
                self._acknowledged_by[task.future.id] = connected
                while len(self._acknowledged_by) > _UNACKNOWLEDGED:
                    del self._acknowledged_by[next(iter(self._acknowledged_by))]
            if self._routes is not None:
                self._routes.took(job.result())
            self._settle(task, job.result())
            return
        with self._changed:
            if task.connection is not connected or task not in self._on_the_way:
                return  # given up before; the job is on its way by another connection
            self._on_the_way.discard(task)
            lost = isinstance(error, QpuUnavailable) or (
                connected.given_up and isinstance(error, SessionEnded)
            )
            lost = lost and task.request.kind is not JobKind.SPECULATIVE
            back = task.taken_back and isinstance(error, JobFailed) and not task.future.cancel_wanted
            task.taken_back = False
            again = lost or back or (isinstance(error, JobFailed) and error.retry and self._may_retry(task))
            if again and not self._closed:
                if not (lost or back):
                    task.not_before_s = time.monotonic() + RETRY_DELAY_S * 2.0 ** (task.tries - 1)
                self._line_up(task)
            in_use = self._current is connected
            if lost and self._spares.get(connected.target.device) is connected:
                del self._spares[connected.target.device]
        if not again or self._closed:
            self._settle(task, error)
        elif isinstance(error, QpuUnavailable) and in_use:
            self._lost(connected, error)
        with self._changed:
            self._changed.notify()

    def _may_retry(self, task: _Task) -> bool:
        if task.request.kind is JobKind.SPECULATIVE:
            return False
        return task.tries <= RETRIES and not task.future.cancel_wanted and not self._closed

    @staticmethod
    def _settle(task: _Task, outcome: JobResult | Exception) -> None:
        if task.future.done():
            return
        try:
            if isinstance(outcome, Exception):
                task.future.set_exception(outcome)
            else:
                task.future.set_result(outcome)
        except concurrent.futures.InvalidStateError:  # two connections brought it at once
            pass


def _discard(connected: Connected) -> None:
    """Give a connection up without waiting for it."""
    connected.given_up = True
    threading.Thread(target=_close_quietly, args=(connected.connection,), daemon=True).start()


def _close_quietly(connection: Connection) -> None:
    with contextlib.suppress(EfaasError):
        connection.close()
