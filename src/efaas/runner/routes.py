"""Where the session's next iteration goes, from what its QPUs say about themselves.

`efaas.core.routing.Router` decides; this is its host in a runner. A watch asks all QPUs of the session a few
times a second how they are, so that a decision costs no round trip, and brings what they said up to the
moment of the decision: calibrations age at the pace of the device's clock. One thing it knows better than a
server's description: how old the calibration of *this* session's circuit is, since a localised one counts for
the circuit alone. Its last result there tells.

**Foreseen moves.** When the device in use will soon have to calibrate (its schedule says so, or the session's
limit), `foreseen` names the device that the next iteration would
go to. The dispatcher registers the circuit there in the background, so the session starts warm.

A session with one QPU has nothing to decide and asks nobody.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from efaas.core.fleet import Report, at
from efaas.core.placement import DeviceView, Health, Request
from efaas.core.routing import Route, Router
from efaas.runner.connecting import trust_in
from efaas.runner.environment import QpuTarget

if TYPE_CHECKING:
    from efaas.client import JobResult
    from efaas.client.describing import Description

LOOK_S = 0.2
"""Wall seconds between two looks at the QPUs."""

LOOKAHEAD_S = 1.0
"""Wall seconds before a calibration from which on a move counts as foreseen."""

WORTH_S = 1.0
"""Device seconds of a calibration that are worth taking a waiting job elsewhere."""

_SILENCE_S = 1.5
"""Wall seconds without an answer after which a QPU that answered before counts as down."""


class Asks(Protocol):
    """The part of `efaas.client.describing.Describer` that is used here; tests bring their own."""

    def ask(self, endpoints: Mapping[str, str]) -> Mapping[str, Description]:
        """Ask servers (``host:port`` by device name); those that do not answer are left out."""
        ...

    def close(self) -> None:
        """Ask no more."""
        ...


class LateDescriber:
    """A `Describer` that is made when it is first needed: gRPC takes a tenth of a second to import.

    Args:
        targets: servers that will be asked, for what certificates they must show.
    """

    def __init__(self, targets: Sequence[QpuTarget] = ()) -> None:
        self._targets = targets
        self._describer: Asks | None = None

    def ask(self, endpoints: Mapping[str, str]) -> Mapping[str, Description]:
        """See `Asks`."""
        if self._describer is None:
            from efaas.client.describing import Describer

            trusts = {target.device: trust_in(target) for target in self._targets}
            self._describer = Describer({name: trust for name, trust in trusts.items() if trust is not None})
        return self._describer.ask(endpoints)

    def close(self) -> None:
        """See `Asks`."""
        if self._describer is not None:
            self._describer.close()


@dataclass(slots=True)
class _Known:
    """What is known of one device."""

    description: Description
    pace: float = 1.0
    """Device seconds that pass in a wall second."""
    down: bool = False


@dataclass(frozen=True, slots=True)
class _Fresh:
    """How old the calibration of the session's circuit was at its last result on a device."""

    age_s: float
    at_s: float
    """Monotonic wall time at which that job started."""


class Routes:
    """Routes the iterations of one session; safe to use from several threads.

    Args:
        session: ``namespace/name``.
        targets: QPUs that may be used, the session's own first.
        asks: asks them how they are.
        max_calibration_age_s: of the session, device seconds; None: it has none.
        clock: monotonic wall seconds.
    """

    def __init__(
        self,
        session: str,
        targets: Sequence[QpuTarget],
        asks: Asks,
        *,
        max_calibration_age_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._targets = tuple(targets)
        self._asks = asks
        self._clock = clock
        self._router = Router(targets[0].device)
        self._request = Request(
            session=session,
            tenant=session.partition("/")[0],
            qubits=1,  # every target was chosen because it fits
            max_calibration_age_s=max_calibration_age_s,
        )
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._fresh: dict[str, _Fresh] = {}
        self._now_s = 0.0

    # --- what is known ------------------------------------------------------------------------------

    def look(self) -> None:
        """Ask all QPUs once; takes a round trip, or a second when one is silent."""
        endpoints = {target.device: target.address() for target in self._targets}
        answers = self._asks.ask({name: address for name, address in endpoints.items() if address})
        with self._lock:
            for name, description in answers.items():
                self._take(name, description)
            now_s = self._clock()
            for name, known in self._known.items():
                known.down |= name not in answers and now_s - known.description.at_s > _SILENCE_S

    def _take(self, name: str, description: Description) -> None:
        before = self._known.get(name)
        known = _Known(description)
        if before is not None:
            known.pace = before.pace
            passed_s = description.at_s - before.description.at_s
            elapsed_s = description.clock_s - before.description.clock_s
            if passed_s > 0 and elapsed_s > 0:
                known.pace = elapsed_s / passed_s
        self._known[name] = known
        self._now_s = max(self._now_s, description.clock_s)

    def took(self, result: JobResult) -> None:
        """A result of the session came: how fresh its circuit is there."""
        with self._lock:
            self._fresh[result.device] = _Fresh(
                result.calibration_age_s, self._clock() - result.timing.wall_execution_s
            )

    def close(self) -> None:
        """Ask the QPUs no more."""
        self._asks.close()

    def lost(self, device: str) -> None:
        """The connection to a device broke: it is down until it answers again."""
        with self._lock:
            if device in self._known:
                self._known[device].down = True

    def is_at(self, device: str) -> None:
        """The session is connected to this device, whoever decided so."""
        with self._lock:
            self._router.current = device

    # --- what follows -------------------------------------------------------------------------------

    def next(self, circuit: str) -> Route | None:
        """Where the next iteration goes; None while too little is known to say."""
        with self._lock:
            if self._router.current not in self._known:
                return None
            views = [self._view(name) for name in self._known]
            return self._router.route(self._now_s, replace(self._request, circuit=circuit), views)

    def is_long_away(self, device: str) -> bool:
        """Whether a job that waits there will go on waiting for a calibration that is worth a move."""
        with self._lock:
            known = self._known.get(device)
            if known is None or known.description.view.health is not Health.CALIBRATING:
                return False
            left_s = self._view(device).calibration_left_s
            return left_s > max(WORTH_S, 2 * LOOK_S * known.pace)

    def foreseen(self, circuit: str) -> str | None:
        """The device that the next iteration will probably have to go to; None while it may stay.

        Also None where the circuit is warm already: then there is nothing to prepare.
        """
        with self._lock:
            known = self._known.get(self._router.current)
            if known is None or self._until_calibration_s(known) > LOOKAHEAD_S * known.pace:
                return None
            away = Router(self._router.current)
            views = [self._view(name) for name in self._known if name != self._router.current]
            route = away.route(self._now_s, replace(self._request, circuit=circuit), views)
            view = next((view for view in views if view.name == route.device), None)
            return None if view is None or circuit in view.warm_circuits else view.name

    def _until_calibration_s(self, known: _Known) -> float:
        """Device seconds until the device calibrates, or the session may not run on it without that."""
        view = self._view(known.description.view.name)
        limits = [view.max_calibration_age_s, self._request.max_calibration_age_s or math.inf]
        until_s = min(limits) - view.calibration_age_s
        passed_s = (self._clock() - known.description.at_s) * known.pace
        return min(until_s, known.description.calibration_due_s - passed_s)

    def _view(self, name: str) -> DeviceView:
        known, now_s = self._known[name], self._clock()
        description = known.description
        view = at(Report(description.view, description.at_s, known.pace), now_s)
        fresh = self._fresh.get(name)
        if fresh is not None:
            own_s = fresh.age_s + max(0.0, now_s - fresh.at_s) * known.pace
            view = replace(view, calibration_age_s=min(view.calibration_age_s, own_s))
        return replace(
            view,
            health=Health.DOWN if known.down else view.health,
            # Where it has been the session has its place already.
            cordoned=view.cordoned and name not in self._fresh,
            slots_used=view.slots_used - (name in self._fresh and name != self._router.current),
        )


class Watch:
    """Looks at the QPUs again and again, and prepares foreseen moves, in threads of its own.

    Args:
        routes: told what is seen.
        seen: called after each look.
        prepare: registers the session's circuit on a device; may take its time.
        circuit: the session's circuit; empty while there is none.
    """

    def __init__(
        self,
        routes: Routes,
        seen: Callable[[], None],
        prepare: Callable[[str], None],
        circuit: Callable[[], str],
    ) -> None:
        self._routes = routes
        self._seen = seen
        self._prepare = prepare
        self._circuit = circuit
        self._stopped = threading.Event()
        for name, work in (("qpu-watch", self._look), ("qpu-warming", self._warm)):
            threading.Thread(target=work, name=name, daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def _look(self) -> None:
        while not self._stopped.wait(LOOK_S):
            if self._circuit():  # before the first job there is nothing to route, and the start is busy
                self._routes.look()
                self._seen()
        self._routes.close()

    def _warm(self) -> None:
        while not self._stopped.wait(LOOK_S):
            circuit = self._circuit()
            device = self._routes.foreseen(circuit) if circuit else None
            if device is not None:
                self._prepare(device)
