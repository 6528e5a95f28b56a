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

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from efaas.core.identity import circuit_digest, observable_digest
from efaas.errors import EfaasError, InputError, JobFailed, QpuUnavailable, SessionEnded
from efaas.runner.connecting import Connected, Connector
from efaas.runner.environment import QpuTarget
from efaas.runner.jobs import Connect, JobFuture, News, Request, Terms, connect_to_server
from efaas.runner.registering import Registry
from efaas.runner.routes import Routes
from efaas.runner.tasks import Task, Tasks
from efaas.runner.turning import Turning, close_quietly, close_soon

if TYPE_CHECKING:
    from efaas.client import SessionIdentity
    from efaas.runner.jobs import PartialListener

_UNACKNOWLEDGED = 1000
"""Results of which is remembered who brought them."""

_POLL_S = 0.5
"""Wall seconds between two looks at the address of the QPU in use: a server that was started anew has
another."""


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
        begin_at: device where an earlier runner's last job ran: the next one may be there, done and charged.
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
        begin_at: str = "",
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
        self._count = len(targets)
        self._connector = Connector(targets, identity, connect, patience_s, news)
        self._news = news
        self._routes = routes
        self._changed = threading.Condition()
        # All below is read and written under `_changed`.
        self._tasks = Tasks()
        self._registry = Registry(self._changed)
        self._turning = Turning(
            targets,
            self._connector,
            news,
            self._tasks,
            routes,
            self._changed,
            self._registry.register,
            begin_at,
        )
        self._acknowledged_by: dict[str, Connected] = {}  # who brought the result of a job
        self._unlucky = 0
        self._closed = False
        self._fatal: EfaasError | None = None
        self._stopped = threading.Event()
        for name, work in (("dispatcher", self._keep), ("addresses", self._follow_addresses)):
            threading.Thread(target=work, name=name, daemon=True).start()

    # --- callers ------------------------------------------------------------------------------------

    def prepare(self, *things: str | bytes | Terms) -> None:
        """Register programs and observables ahead of the first job, on whatever connection there will be."""
        self._registry.add(*things)
        with self._changed:
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
        task = Task(request, JobFuture(name, self._cancel), cpu_s, on_partial)
        with self._changed:
            if self._fatal is not None or self._closed:
                task.future.set_exception(self._fatal or SessionEnded("the session is closed here"))
                return task.future
            connected = self._turning.connection_to(device) if device else None
            if connected is None:
                self._turning.route(request)
                connected = self._turning.current
            straight = connected is not None and not self._tasks.waiting and connected.knows(request)
            if not straight:
                self._tasks.line_up(task)
                self._changed.notify()
        if straight and connected is not None:
            self._send(task, connected)
        return task.future

    def submit_ahead(self, request: Request, device: str) -> JobFuture | None:
        """Send a speculative job to a device that is connected and knows its circuit; None if none is.

        Such a job is never retried and never moved: it is dropped where it cannot be had at once.
        """
        task = Task(request, JobFuture(self.name(request), self._cancel), 0.0)
        with self._changed:
            connected = self._turning.connection_to(device)
            if self._closed or connected is None or not connected.knows(request):
                return None
        self._send(task, connected)
        return task.future

    def withdraw(self, name: str, device: str) -> None:
        """Tell a device that the result of a speculative job is not wanted."""
        with self._changed:
            connected = self._turning.connection_to(device)
        if connected is not None:
            connected.connection.cancel(name)

    def connect_also(self, device: str) -> None:
        """Connect to another QPU of the session as well, in the background, for speculative jobs."""
        threading.Thread(
            target=self._turning.warm_up, args=(device,), name=f"connect {device}", daemon=True
        ).start()

    def name(self, request: Request) -> str:
        """The job id of a request."""
        return request.job_id(self._session)

    def acknowledge(self, name: str) -> None:
        """Tell the QPU that brought this job's result that it is on disk here."""
        with self._changed:
            connected = self._acknowledged_by.pop(name, self._turning.current)
        if connected is not None and not connected.given_up:
            connected.connection.acknowledge(name)

    @property
    def route(self) -> str:
        """Why iterations do not go to the session's own device, in words; empty while they do."""
        with self._changed:
            return self._turning.reason

    @property
    def device(self) -> str:
        """The device in use; the session's own while there is no connection."""
        with self._changed:
            return self._turning.device

    def close(self, *, over: bool = True) -> None:
        """End here; futures without a result fail.

        Args:
            over: whether the session is, so that the QPU drops its jobs. If it is not, nothing is said: the
                process ends, jobs go on and their results wait for the next runner, because one that runs is
                charged whether it is dropped or not.
        """
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify()
            self._stopped.set()
            self._connector.stop()
            open_now = self._turning.let_go()
        self._fail_all(SessionEnded("the session is closed here"))
        if over:
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
            connected, first = self._turning.current, self._turning.preferred
        if connected is None:
            connected = self._connector.search(first)
            if not self._use(connected):
                return False
        try:
            self._registry.prepare(connected)
            while True:
                with self._changed:
                    task = self._tasks.next()
                if task is None:
                    break
                self._register_and_send(task, connected)
        except QpuUnavailable as error:
            self._lost(connected, error)
        except SessionEnded:
            if not connected.given_up:
                raise
            # Another thread has given it up and closed it under our hands.
        with self._changed:
            pause_s = self._tasks.pause_s(_POLL_S)
            if not self._closed and self._turning.current is connected and pause_s > 0.0:
                self._changed.wait(pause_s)
        return True

    def _use(self, connected: Connected) -> bool:
        """Make a new connection the current one; False, and it is closed, if nobody wants it any more."""
        with self._changed:
            if not self._closed:
                self._turning.use(connected)
                return True
        close_quietly(connected.connection)
        return False

    def _follow_addresses(self) -> None:
        """Leave a connection whose server was started anew at another address.

        In a thread of its own, because the dispatcher's may be waiting for that very server.
        """
        while not self._stopped.wait(_POLL_S):
            with self._changed:
                connected = self._turning.current
            if connected is not None and connected.moved:
                self._lost(connected, QpuUnavailable("its server was started anew"), stay=True)

    def _lost(self, connected: Connected, error: QpuUnavailable, *, stay: bool = False) -> None:
        """Give a connection up; its jobs wait for the next one.

        The same QPU is tried first, unless nothing has come of it since the last time; `stay`: even then.
        """
        with self._changed:
            if self._turning.current is not connected:
                return
            guesses = self._tasks.lost_with(connected)
            self._unlucky += 0 if stay else 1
            hopeless = self._unlucky > 2 * self._count + 1
            self._turning.lose(connected, next_one=self._unlucky > 1 and not stay, turn=not stay)
            self._changed.notify()
        for task in guesses:
            task.settle(error)
        self._news.say(f"lost {connected.target.device}: {error.message}")
        close_soon(connected)
        if hopeless:
            self._end(error)

    def _end(self, error: EfaasError) -> None:
        """No job can succeed any more."""
        with self._changed:
            self._fatal = fatal = self._fatal or error
            self._closed = True
            self._stopped.set()
            self._connector.stop()
            open_now = self._turning.let_go()
        self._fail_all(fatal)
        for connected in open_now:
            close_soon(connected)

    def _fail_all(self, error: EfaasError) -> None:
        with self._changed:
            tasks = self._tasks.take_all()
        for task in tasks:
            task.settle(error)

    # --- sending ---------------------------------------------------------------------------------

    def _register_and_send(self, task: Task, connected: Connected) -> None:
        try:
            self._registry.register_all(connected, task.request)
        except InputError as error:
            task.settle(error)
        except EfaasError:
            with self._changed:
                self._tasks.line_up(task)
            raise
        else:
            self._send(task, connected)

    def _send(self, task: Task, connected: Connected) -> None:
        if task.future.cancel_wanted:
            task.settle_cancelled()
            return
        with self._changed:
            self._tasks.sent(task, connected)
        request = task.request
        real = not task.is_guess  # nobody is told that a guess waits or runs
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
            waiting, sent = self._tasks.find(future)
        if waiting is not None:
            waiting.settle_cancelled()
        elif sent is not None and sent.connection is not None:
            sent.connection.connection.cancel(future.id)

    def _ended(self, task: Task, connected: Connected, job: Any, error: Exception | None) -> None:
        """A job came to an end on a connection; runs in the stream's thread."""
        if job is not None:
            error = job.exception()
        if error is None:
            with self._changed:
                self._tasks.came(task)
                self._unlucky = 0
                self._acknowledged_by[task.future.id] = connected
                while len(self._acknowledged_by) > _UNACKNOWLEDGED:
                    del self._acknowledged_by[next(iter(self._acknowledged_by))]
            if self._routes is not None:
                self._routes.took(job.result())
            task.settle(job.result())
            return
        with self._changed:
            if task.connection is not connected or task not in self._tasks.on_the_way:
                return  # given up before; the job is on its way by another connection
            self._tasks.on_the_way.discard(task)
            lost = isinstance(error, QpuUnavailable) or (
                connected.given_up and isinstance(error, SessionEnded)
            )
            lost = lost and not task.is_guess
            back = task.taken_back and isinstance(error, JobFailed) and not task.future.cancel_wanted
            task.taken_back = False
            mendable = isinstance(error, JobFailed) and error.retry and task.may_retry and not self._closed
            again = lost or back or mendable
            if again and not self._closed:
                if not (lost or back):
                    task.put_off()
                self._tasks.line_up(task)
            in_use = self._turning.current is connected
            if lost:
                self._turning.drop_spare(connected)
        if not again or self._closed:
            task.settle(error)
        elif isinstance(error, QpuUnavailable) and in_use:
            self._lost(connected, error)
        with self._changed:
            self._changed.notify()
