"""Which of a session's QPUs is in use, and the open connections to the others.

A session that turns to another QPU keeps the connection it leaves, so coming back costs nothing.
`efaas.runner.routes` says where the next iteration goes; `Turning` does it. It shares the dispatcher's lock
(`changed`): methods say whether they are called under it or take it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from efaas.core.identity import circuit_digest
from efaas.core.qpu.messages import JobKind
from efaas.errors import EfaasError
from efaas.runner.connecting import CONNECTION_PATIENCE_S, Connected, Connector
from efaas.runner.jobs import Connection, News, Request, Terms
from efaas.runner.routes import Routes, Watch
from efaas.runner.tasks import Tasks

if TYPE_CHECKING:
    from efaas.runner.environment import QpuTarget

Register = Callable[[Connected, "str | bytes | Terms"], None]


class Turning:
    """See the module's text.

    Args:
        targets: QPUs that may be used, the session's own first.
        connector: connects to them.
        news: hears of moves.
        tasks: jobs of the session.
        routes: says where iterations go; None: to one QPU as long as it answers.
        changed: the dispatcher's lock, notified when its thread has something to do.
        register: registers a program or an observable on a connection.
        begin_at: device that is connected to first; empty, or none of the targets: the session's own.

    Attributes, to be read under the lock:
        current: the connection in use.
        reason: why the session is not on its own device; empty while it is.
        preferred: index of the target to connect to.
    """

    def __init__(
        self,
        targets: Sequence[QpuTarget],
        connector: Connector,
        news: News,
        tasks: Tasks,
        routes: Routes | None,
        changed: threading.Condition,
        register: Register,
        begin_at: str = "",
    ) -> None:
        self._targets = tuple(targets)
        self._connector, self._news, self._tasks = connector, news, tasks
        self._routes, self._changed, self._register = routes, changed, register
        self.current: Connected | None = None
        devices = [target.device for target in targets]
        self.preferred = devices.index(begin_at) if begin_at in devices else 0
        self.reason = f"its last job ran on {begin_at}" if self.preferred else ""
        self._begins_there = self.preferred != 0  # until its first job is sent
        self._spares: dict[str, Connected] = {}  # open connections to QPUs not in use, by device
        self._opening = False  # whether a connection to another QPU is being made
        self._circuit = ""  # handle of the last job's circuit
        self._closed = False
        self._watch = (
            None if routes is None else Watch(routes, self._reconsider, self.warm_up, lambda: self._circuit)
        )

    # --- under the lock -----------------------------------------------------------------------------

    @property
    def device(self) -> str:
        """The device in use; the one that will be while there is no connection."""
        return (self.current.target if self.current else self._targets[self.preferred]).device

    def connection_to(self, device: str) -> Connected | None:
        """The open connection to a device."""
        if self.current is not None and self.current.target.device == device:
            return self.current
        spare = self._spares.get(device)
        return None if spare is None or spare.given_up or spare.moved else spare

    def use(self, connected: Connected) -> None:
        """This new connection is the one in use from now on."""
        self.current = connected
        self.preferred = self._targets.index(connected.target)
        if self._routes is not None:
            self._routes.is_at(connected.target.device)
        if self.preferred == 0:
            self.reason = ""
        else:
            self.reason = self.reason or f"{self._targets[0].device} does not answer"

    def lose(self, connected: Connected, *, next_one: bool, turn: bool) -> None:
        """The connection in use is given up.

        Args:
            connected: the connection.
            next_one: whether the next target of the list is tried before this one.
            turn: whether the routes say where to go.
        """
        self.current = None
        connected.given_up = True
        if next_one:
            self.preferred = (self.preferred + 1) % len(self._targets)
        if self._routes is not None and turn:
            self._routes.lost(connected.target.device)
            self._turn(connected.target)

    def drop_spare(self, connected: Connected) -> None:
        """A connection that is not in use broke."""
        if self._spares.get(connected.target.device) is connected:
            del self._spares[connected.target.device]

    def route(self, request: Request) -> None:
        """Turn to the QPU on which the next iteration is best.

        Jobs that are asked for together go to the same one: nothing turns while any is on its way.
        """
        if self._routes is None or self._tasks.has_real_on_the_way or self._tasks.waiting:
            return
        self._circuit = circuit_digest(request.program)
        if self._begins_there:
            self._begins_there = False
        elif self.current is not None:
            self._turn(self.current.target)

    def _turn(self, source: QpuTarget) -> None:
        """Ask the routes, and do what they say."""
        if self._routes is None or self._opening:
            return
        route = self._routes.next(self._circuit)
        if route is None or route.device is None or not route.moved:
            return
        self.preferred = [target.device for target in self._targets].index(route.device)
        self.reason = "" if self.preferred == 0 else route.reason
        if self.current is not None:
            self._spares[source.device] = self.current
        self.current = self._spares.pop(route.device, None)
        if self.current is not None and self.current.moved:
            self.current.given_up = True
            close_soon(self.current)
            self.current = None
        self._news.moved(source.device, route.device, route.reason)
        self._changed.notify()

    def let_go(self) -> list[Connected]:
        """All connections, which are in nobody's hands after this; none is kept any more."""
        self._closed = True
        if self._watch is not None:
            self._watch.stop()
        open_now = [*self._spares.values(), *([self.current] if self.current else [])]
        self._spares.clear()
        self.current = None
        return open_now

    # --- taking the lock ----------------------------------------------------------------------------

    def _reconsider(self) -> None:
        """Take iterations that wait for a device to be calibrated to another one, if one is ready.

        A job goes there only when the server has confirmed that it was cancelled here; one that was faster
        than that has its result.
        """
        with self._changed:
            current, tasks = self.current, list(self._tasks.on_the_way)
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
            if self.current is current:
                return
            for task in tasks:
                task.taken_back = True
        for task in tasks:
            current.connection.cancel(task.future.id)

    def warm_up(self, device: str) -> None:
        """Connect to a QPU that the session will probably use, and register there what it uses."""
        with self._changed:
            current, spare = self.current, self._spares.get(device)
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
        close_quietly(spare.connection)
        return False


def close_soon(connected: Connected) -> None:
    """Close a connection without waiting for it: a server that is gone gives no answer."""
    threading.Thread(target=close_quietly, args=(connected.connection,), daemon=True).start()


def close_quietly(connection: Connection) -> None:
    """Close a connection; that it could not say goodbye is nobody's business."""
    with contextlib.suppress(EfaasError):
        connection.close()
