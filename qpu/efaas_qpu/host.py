"""The host of one QPU: sessions, what they registered, and their jobs.

Handlers of streams call it with requests that are decoded and bounded; it checks what needs knowledge of
the session and passes jobs to the `DeviceDriver`, which runs them as the core's machine decides.

Jobs outlive streams: a job whose client is gone runs on, its result is kept, and the same submit on the
    next stream
gets it. The same submit while the job is under way changes nothing. A session's newest stream is its
stream: an older one, which the client has lost or which belongs to a runner that was thought dead, is told
so and ended.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from efaas.api.wire import qpu_pb2 as wire
from efaas.core.identity import BLOCK_SHOTS
from efaas.core.qpu import messages as core
from efaas.devices.drifting import DriftingDevice
from efaas.errors import EfaasError
from efaas_qpu.authentication import Authenticator, NotAdmitted, OpenDoor
from efaas_qpu.configuration import Offer
from efaas_qpu.driver import DeviceDriver, Machine
from efaas_qpu.engine.messages import Prepared, WorkerFailed
from efaas_qpu.entries import Known, Lease, is_another
from efaas_qpu.jobs import LiveJob, live_job, queued_message
from efaas_qpu.ledger import DurableLedger
from efaas_qpu.limits import ServerLimits
from efaas_qpu.living import Engine, LivingDevice
from efaas_qpu.metrics import Metrics
from efaas_qpu.requests import Circuit, Hello, Observable, Refused, Submission
from efaas_qpu.sessions import Outlet, Session

logger = logging.getLogger(__name__)

_FREED_TOGETHER = 256
"""Acknowledged results that may wait for the next record of the log."""


class QpuHost:
    """See the module's text.

    Args:
        device: name of the device, for clients.
        snapshot: name of its snapshot, for clients.
        qubits: of the device.
        machine: decides.
        drifting: the device as it was at time 0, before any calibration of the log.
        engine: simulates; made for the drifting device's snapshot, started by the caller.
        ledger: what was before.
        offer: what the device says of itself to whoever places sessions.
        noisy: whether the engine simulates noise.
        time_scale: wall seconds for each device second; 0: as fast as it simulates.
        version: of the server, for clients.
        authenticator: who may speak for a session; everyone if not given.
        limits: bounds.
        metrics: where to count.
        wall: a monotonic wall clock, seconds.
    """

    def __init__(
        self,
        *,
        device: str,
        snapshot: str,
        qubits: int,
        machine: Machine,
        drifting: DriftingDevice,
        engine: Engine,
        ledger: DurableLedger,
        offer: Offer | None = None,
        noisy: bool = True,
        time_scale: float = 0.0,
        version: str = "",
        authenticator: Authenticator | None = None,
        limits: ServerLimits | None = None,
        metrics: Metrics | None = None,
        wall: Callable[[], float] = time.monotonic,
    ) -> None:
        self.device, self.snapshot, self.qubits, self.version = device, snapshot, qubits, version
        self.limits = limits or ServerLimits()
        self.metrics = metrics or Metrics()
        self.worker = ""
        """What the Aer worker says of itself; empty until it is up."""
        self.is_draining = False
        """Whether the server is about to end."""
        self.availability: wire.Availability = wire.OPEN
        """What the device is open to, as its keeper wants it."""
        self.sessions: dict[str, Session] = {}
        """Open sessions by name."""
        self.ledger = ledger
        self.offer = offer or Offer()
        self.living = LivingDevice(drifting, engine, self.metrics, ledger.state.epochs, noisy=noisy)
        self._preparing: asyncio.Task[None] | None = None
        """Prepares circuits for a calibration that has just ended."""
        self._authenticator = authenticator or OpenDoor()
        self._wall = wall
        self.driver = DeviceDriver(
            machine,
            self.living,
            ledger,
            self.metrics,
            time_scale=time_scale,
            say=self._say,
            ended=self._job_ended,
            recalibrated=self._recalibrated,
            wall=wall,
        )

    # --- the device -------------------------------------------------------------------------------

    async def admit_keeper(self, token: str) -> None:
        """Let through who may calibrate and cordon the device.

        Raises:
            Refused: the token does not admit to that.
        """
        try:
            await self._authenticator.keeper(token)
        except NotAdmitted as reason:
            raise _refusal(reason, "authorization") from None

    @property
    def tells_everyone(self) -> bool:
        """Whether anyone who reaches the server may hear of sessions."""
        return self._authenticator.tells_everyone

    def calibrate(self) -> None:
        """A person wants a full calibration."""
        self.driver.feed(core.CalibrationRequested(self.driver.clock.now_s()))

    def cordon(self, availability: wire.Availability) -> None:
        """Keep new sessions, or all work, away, or let them come again."""
        now_s = self.driver.clock.now_s()
        if availability == wire.OPEN or self.availability == wire.DRAINED:
            self.driver.feed(core.DrainCancelled(now_s))
        if availability != wire.OPEN:
            self.driver.feed(core.DrainRequested(now_s, drain=availability == wire.DRAINED))
        self.availability = availability

    # --- sessions ---------------------------------------------------------------------------------

    async def open(self, hello: Hello, outlet: Outlet) -> Session:
        """Take a session in, or back, and say welcome.

        Raises:
            Refused: wrong token, older lease epoch, another seed than before, or no room; ends the stream.
        """
        try:
            uid = await self._authenticator.session(hello.session, hello.lease_epoch, hello.token)
        except NotAdmitted as reason:
            raise _refusal(reason, "hello.token") from None
        if self.is_draining:
            raise Refused(wire.DRAINING, "the server is about to end; connect again later", retry=True)
        known = self._known(hello.session, uid)
        if known is not None and hello.lease_epoch < known.lease_epoch:
            raise Refused(
                wire.FENCED,
                f"lease epoch {hello.lease_epoch} is older than {known.lease_epoch}, which owns the session",
                place="hello.lease_epoch",
            )
        if known is not None and known.seed not in (None, hello.seed):
            raise Refused(
                wire.BAD_MESSAGE,
                "the session had another seed before; keep the seed, or take a new name",
                place="hello.session_seed",
            )
        session = self._take_in(hello, outlet)
        if known is None or (known.seed, known.lease_epoch) != (hello.seed, hello.lease_epoch):
            self.driver.entry.sessions[session.name] = Lease(hello.seed, hello.lease_epoch, uid)
        welcome = wire.Welcome(
            device=self.device,
            qubits=self.qubits,
            calibration_epoch=self.driver.calibration_epoch,
            calibration_age_s=self.driver.calibration_age_s,
            block_shots=BLOCK_SHOTS,
            version=self.version,
        )
        session.say(wire.ServerMessage(welcome=welcome))
        self.driver.feed(
            core.SessionOpened(
                self.driver.clock.now_s(),
                session.name,
                hello.tenant,
                weight=float(hello.weight),
                max_calibration_age_s=hello.max_calibration_age_s,
                charged_shots=known.shots if known else 0,
                charged_qpu_s=known.qpu_s if known else 0.0,
            )
        )
        return session

    def _known(self, name: str, uid: str) -> Known | None:
        """What is remembered of a session; of another one that had its name, everything ends here."""
        known = self.ledger.state.sessions.get(name)
        if known is not None and is_another(known, uid):
            self.end_session(name)
            return None
        return known

    def fence(self, name: str, lease_epoch: int, uid: str) -> int:
        """Refuse a session's lease epochs up to this one from now on, and end the stream that has one.

        Its jobs stay: they are the next runner's.

        Args:
            name: ``namespace/name``.
            lease_epoch: the last one that is refused.
            uid: of its object; empty if it does not matter.

        Returns:
            The least epoch that is not refused.
        """
        known = self._known(name, uid)
        least = max(known.lease_epoch if known else 0, lease_epoch + 1)
        if known is None or known.lease_epoch != least:
            self.driver.entry.sessions[name] = Lease(None, least, uid)
            self.driver.commit()
        session = self.sessions.get(name)
        if session is not None and session.lease_epoch < least and session.outlet is not None:
            last_word = Refused(
                wire.FENCED, f"lease epochs below {least} were shut out", place="hello.lease_epoch"
            )
            session.outlet.end(last_word.to_wire())
        return least

    def end_session(self, name: str) -> int:
        """A session is over: its jobs end, the running one after its slice; its stream ends.

        Returns:
            Number of jobs that will never have a result.
        """
        jobs = [live for live in self.driver.jobs.values() if live.job.session == name]
        for live in jobs:
            if live.holds_device or live.unclaimed is not None:
                live.cancelled = True
                self.driver.feed(core.JobCancelled(self.driver.clock.now_s(), live.job.id))
                if live.unclaimed is not None:
                    self.driver.drop(live, "cancelled")
        session = self.sessions.get(name)
        if session is not None:
            outlet = session.outlet
            self.close_session(session)
            if outlet is not None:
                outlet.end(Refused(wire.FENCED, "the session is over", place="hello.session").to_wire())
        return sum(live.unclaimed is None for live in jobs)

    def _take_in(self, hello: Hello, outlet: Outlet) -> Session:
        session = self.sessions.get(hello.session)
        if session is None:
            if len(self.sessions) >= self.limits.sessions:
                raise Refused(
                    wire.LIMIT_REACHED, f"{self.limits.sessions} sessions are open already", retry=True
                )
            session = Session(hello.session, hello.tenant, hello.lease_epoch, hello.seed)
            self.sessions[hello.session] = session
        elif session.outlet is not None:
            last_word = Refused(
                wire.FENCED, "a newer stream of this session took over", place="hello.session"
            )
            session.outlet.end(last_word.to_wire())
        if session.absence is not None:
            session.absence.cancel()
            session.absence = None
        session.outlet, session.lease_epoch = outlet, hello.lease_epoch
        return session

    def leave(self, session: Session, outlet: Outlet) -> None:
        """A stream has ended; unless another one took over, the session may come back for a while."""
        if session.outlet is not outlet:
            return
        session.outlet = None
        if self.sessions.get(session.name) is session and not self.is_draining:
            loop = asyncio.get_running_loop()
            session.absence = loop.call_later(self.limits.absence_s, self.close_session, session)

    def close_session(self, session: Session) -> None:
        """The session is done here: its waiting jobs are dropped; kept results stay until they make way."""
        if self.sessions.get(session.name) is not session:
            return
        if session.absence is not None:
            session.absence.cancel()
        self.driver.feed(core.SessionClosed(self.driver.clock.now_s(), session.name))
        for name in list(session.jobs):
            live = self.driver.jobs.get(name)
            if live is not None and not live.holds_device:
                self.driver.drop(live, "dropped")
        session.outlet = None
        del self.sessions[session.name]

    def _say(self, session: str, message: wire.ServerMessage) -> None:
        here = self.sessions.get(session)
        if here is not None:
            here.say(message)

    # --- registrations ----------------------------------------------------------------------------

    async def register_circuit(self, session: Session, circuit: Circuit) -> None:
        """Prepare a circuit and answer.

        Raises:
            Refused: the engine refused it, or no worker could be started.
        """
        try:
            prepared = await self.living.prepare(circuit.handle, circuit.program)
        except WorkerFailed as error:
            self.metrics.worker_failures.labels(error.how).inc()
            raise Refused(
                wire.WORKER_FAILED, error.message, place="circuit", retry=True, handle=circuit.handle
            ) from None
        except EfaasError as error:
            raise Refused(
                wire.BAD_CIRCUIT, error.message, place=error.place or "circuit", handle=circuit.handle
            ) from None
        session.circuits[circuit.handle] = prepared
        session.circuits.move_to_end(circuit.handle)
        if len(session.circuits) > self.limits.circuits:
            session.circuits.popitem(last=False)
        if prepared.prepare_s:
            self.metrics.prepare_time.observe(prepared.prepare_s)
        session.say(wire.ServerMessage(circuit=_registered(circuit.handle, prepared)))

    def _recalibrated(self) -> None:
        """A full calibration ended: registered circuits are prepared anew, in the background."""
        if self._preparing is not None:
            self._preparing.cancel()
        self._preparing = asyncio.create_task(self._prepare_ahead())

    async def _prepare_ahead(self) -> None:
        """Give every open session plans of the present calibration; submits go on with old ones meanwhile.

        Jobs keep the plan that they were submitted with.
        """
        for session in list(self.sessions.values()):
            for handle, old in list(session.circuits.items()):
                if self.sessions.get(session.name) is not session:
                    break
                if old.handle == self.living.plan(handle):
                    continue
                try:
                    new = await self.living.prepare_ahead(handle, old.handle)
                except EfaasError as error:
                    # The old plan stays: it runs as well as it can be told to the engine again.
                    logger.info("circuit %s keeps the layout of plan %s: %s", handle, old.handle, error)
                    continue
                if session.circuits.get(handle) is old:
                    session.circuits[handle] = new

    def warm_circuits(self) -> dict[str, list[str]]:
        """Circuits that are ready for the present layout, and the open sessions that registered each."""
        warm: dict[str, list[str]] = {}
        for session in self.sessions.values():
            for handle, prepared in session.circuits.items():
                if prepared.handle == self.living.plan(handle):
                    warm.setdefault(handle, []).append(session.name)
        return dict(sorted(warm.items()))

    async def register_observable(self, session: Session, observable: Observable) -> None:
        """Prepare an observable and answer.

        Raises:
            Refused: the engine refused it.
        """
        try:
            bases = await self.living.prepare_observable(observable.handle, observable.terms)
        except EfaasError as error:
            raise Refused(
                wire.BAD_OBSERVABLE,
                error.message,
                place=error.place or "observable",
                retry=error.retry,
                handle=observable.handle,
            ) from None
        session.observables[observable.handle] = observable.terms
        session.observables.move_to_end(observable.handle)
        if len(session.observables) > self.limits.observables:
            session.observables.popitem(last=False)
        registered = wire.ObservableRegistered(handle=observable.handle, bases=bases)
        session.say(wire.ServerMessage(observable=registered))

    # --- jobs -------------------------------------------------------------------------------------

    def submit(self, session: Session, submission: Submission) -> None:
        """Queue a job, or answer with what is known of it.

        Raises:
            Refused: it names what is not registered, does not fit it, or is too much.
        """
        arrived_wall = self._wall()
        if self._is_known(session, submission, arrived_wall):
            return
        name = submission.job_id
        if self.is_draining:
            raise Refused(wire.DRAINING, "the server is about to end; submit later", retry=True, job_id=name)
        if len(session.jobs) >= self.limits.unfinished_jobs:
            raise Refused(
                wire.LIMIT_REACHED,
                f"{self.limits.unfinished_jobs} jobs of this session have no result yet; await some",
                retry=True,
                job_id=name,
            )
        live = live_job(
            submission,
            session.circuit_of(submission),
            session.number_of_bases(submission.observables),
            session.name,
            session.seed,
            self.limits,
            arrived_wall=arrived_wall,
        )
        self.driver.jobs[name] = live
        session.jobs.add(name)
        try:
            self.driver.feed(core.JobSubmitted(self.driver.clock.now_s(), live.job, submission.cpu_s))
        except BaseException:
            self.driver.drop(live, "failed")
            raise

    def _is_known(self, session: Session, submission: Submission, arrived_wall: float) -> bool:
        """Answer a submit of a job that has its result or is under way; False if it is neither."""
        live = self.driver.jobs.get(submission.job_id)
        kept = self.ledger.state.kept.get(submission.job_id)
        if live is None and kept is None:
            return False
        before = live.submission.per_shot if live is not None else kept is not None and kept.per_shot
        if before != submission.per_shot:
            raise Refused(
                wire.BAD_PARAMETERS,
                f"the same job was submitted with per_shot {str(before).lower()}; use another evaluation",
                place="submit.per_shot",
                job_id=submission.job_id,
            )
        if live is None:
            assert kept is not None
            self._return_again(session, wire.Result.FromString(kept.result), arrived_wall)
        elif live.unclaimed is not None and submission.kind is core.JobKind.SPECULATIVE:
            self._return_again(session, live.unclaimed, arrived_wall)
        else:
            self._take_up(session, live, submission)
        return True

    def _take_up(self, session: Session, live: LiveJob, submission: Submission) -> None:
        """The job is under way, or is speculative and complete: it is wanted, by this session, for real."""
        live.cancelled = False
        live.claim(submission)
        session.jobs.add(live.job.id)
        was_complete = live.unclaimed is not None
        self.driver.feed(core.JobSubmitted(self.driver.clock.now_s(), live.job, submission.cpu_s))
        if was_complete:
            return  # the machine has completed it once more, with its charge
        if live.started_wall is not None:
            session.say(wire.ServerMessage(started=wire.Started(job_id=live.job.id)))
        elif live.report is not None:
            session.say(queued_message(live.report))

    def _return_again(self, session: Session, result: wire.Result, arrived_wall: float) -> None:
        again = wire.Result()
        again.CopyFrom(result)
        again.kept = True
        again.timing.server_s = self._wall() - arrived_wall
        self.metrics.results_returned_again.inc()
        session.say(wire.ServerMessage(result=again))

    def cancel(self, session: Session, job_id: str) -> None:
        """Drop a job; ids that are unknown, finished or another session's are ignored."""
        live = self.driver.jobs.get(job_id)
        if live is None or live.job.session != session.name or live.cancelled:
            return
        live.cancelled = True
        unclaimed = live.unclaimed is not None
        self.driver.feed(core.JobCancelled(self.driver.clock.now_s(), job_id))
        if unclaimed:
            self.driver.drop(live, "cancelled")

    def acknowledge(self, session: Session, job_id: str) -> None:
        """A result is on its runner's disk; ids that are unknown or another session's are ignored."""
        kept = self.ledger.state.kept.get(job_id)
        if kept is not None and kept.session == session.name:
            self.driver.entry.freed.append(job_id)
            if len(self.driver.entry.freed) >= _FREED_TOGETHER:
                self.driver.commit(everything=True)

    def _job_ended(self, live: LiveJob) -> None:
        session = self.sessions.get(live.job.session)
        if session is not None:
            session.jobs.discard(live.job.id)

    async def drain(self) -> None:
        """Take nothing new, let the running job end if it is quick, and end every stream."""
        self.is_draining = True
        if self._preparing is not None:
            self._preparing.cancel()
        self.driver.feed(core.DrainRequested(self.driver.clock.now_s(), drain=True))
        if not await self.driver.settle(self.limits.drain_s):
            logger.warning("the running job did not end in %g s; it will run again", self.limits.drain_s)
        last_word = Refused(wire.DRAINING, "the server is ending; connect again later", retry=True).to_wire()
        for session in self.sessions.values():
            if session.absence is not None:
                session.absence.cancel()
            if session.outlet is not None:
                session.outlet.end(last_word)


def _refusal(reason: NotAdmitted, place: str) -> Refused:
    code = wire.FENCED if reason.fenced else wire.UNAUTHENTICATED
    return Refused(code, reason.message, place=place, retry=reason.retry)


def _registered(handle: str, prepared: Prepared) -> wire.CircuitRegistered:
    return wire.CircuitRegistered(
        handle=handle,
        parameters=prepared.parameters,
        qubits=prepared.qubits,
        duration_us=prepared.duration_us,
        shot_s=prepared.shot_s,
        layout=prepared.layout,
        prepare_s=prepared.prepare_s,
    )
