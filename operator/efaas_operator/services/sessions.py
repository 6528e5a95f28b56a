"""One session, looked at: what is there goes into its machine, what follows is carried out and written down.

**Every look starts from what is there.** The machine is told everything again; then what it recalls is
carried out as far as it is not done yet. So it does not matter what an earlier look, or an earlier operator,
got through: a step that is missing is seen to be missing.

**What is written when.** The record is in the session's status before a runner pod of a new epoch is made,
and the runner's UID and epoch are there before the runner is told anything (its assignment), because QPU
servers and gateway admit exactly the runner that the status names. Everything else may be written late, and
is: statuses are written at a bounded pace, and what came in between is not written at all.

**Fencing.** A runner that nobody may listen to any more is first taken out of the status, then refused by all
devices, then its pod is forced away; only then the machine is told, and makes the next.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from efaas.core.session import ProtocolError, SessionMachine, SessionState
from efaas.core.session.messages import (
    FINAL,
    AllowDeletion,
    CloseOnDevices,
    CreateRunner,
    Decision,
    DeleteSession,
    FenceRunner,
    Granted,
    Refused,
    ReleaseRunner,
    Reported,
    RunnerFenced,
    StopRunner,
)
from efaas.errors import EfaasError, InputError
from efaas_operator import paths
from efaas_operator.keeping import Kept, kept_from_text
from efaas_operator.kubernetes import Document, Forbidden, Invalid, KubernetesApi
from efaas_operator.metrics import Metrics
from efaas_operator.observing import observe, policy_of
from efaas_operator.reading import ended, epoch_of, held_s, result_of
from efaas_operator.services.admission import AdmissionService, created_s
from efaas_operator.services.finalizers import Finalizers
from efaas_operator.services.ports import DeviceService, Known, ProgressSource
from efaas_operator.services.runners import Runners
from efaas_operator.services.scripts import Scripts
from efaas_operator.services.statuses import Statuses
from efaas_operator.services.story import Story
from efaas_operator.settings import FINALIZER
from efaas_operator.world import World

_LOG = logging.getLogger(__name__)
_SLOW_LOOK_S = 30.0
_LONGEST_REASON = 1000


@dataclass(slots=True)
class Life:
    """What is in memory of one session."""

    uid: str
    machine: SessionMachine
    kept: Kept
    held_s: float = 0.0
    """Core seconds of the present runner, as last seen."""
    barred: str = ""
    """What keeps it from being considered for a slot: a script that is missing, a pod that was refused."""
    closed: bool = False
    """Whether the devices were told that it is over."""
    counted: bool = False
    """Whether admission was told that it is over."""
    chapter: tuple[str, str, int] = ("", "", 0)
    """State, reason and epoch that the story has told."""
    result: Mapping[str, Any] = field(default_factory=dict)


class SessionService:
    """Looks at sessions.

    Args:
        api: the API server.
        world: what is known of the cluster.
        runners: makes and ends runner pods.
        admission: grants slots.
        devices: reaches QPU servers.
        statuses: writes statuses.
        story: writes events.
        scripts: looks for users' scripts.
        progress: how far sessions are.
        metrics: where waits are counted.
        repair_s: between two looks at what a person can mend.
        clock: wall seconds.
    """

    def __init__(
        self,
        api: KubernetesApi,
        world: World,
        runners: Runners,
        admission: AdmissionService,
        devices: DeviceService,
        statuses: Statuses,
        story: Story,
        scripts: Scripts,
        progress: ProgressSource,
        metrics: Metrics,
        *,
        repair_s: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._repair_s = repair_s
        self._world = world
        self._finalizers = Finalizers(api, world)
        self._runners = runners
        self._admission = admission
        self._devices = devices
        self._statuses = statuses
        self._story = story
        self._scripts = scripts
        self._progress = progress
        self._metrics = metrics
        self._clock = clock
        self._lives: dict[str, Life] = {}
        self.silent_nodes: set[str] = set()
        """Nodes that nobody hears of; kept by who watches nodes."""
        admission.waiting = self.waiting
        admission.holding = self.holding

    # --- what others ask --------------------------------------------------------------------------

    def waiting(self) -> list[str]:
        """Keys of sessions that ask for a slot."""
        return [key for key, life in self._lives.items() if life.machine.wants_slot and not life.barred]

    def holding(self) -> list[tuple[str, str]]:
        """Keys of sessions that hold a slot, with their device."""
        return [
            (key, life.kept.record.device) for key, life in self._lives.items() if life.machine.holds_slot
        ]

    def states(self) -> dict[str, int]:
        """Number of sessions by state."""
        counts = dict.fromkeys((state.value for state in SessionState), 0)
        for life in self._lives.values():
            counts[life.kept.record.state.value] += 1
        return counts

    def reports(self) -> dict[str, dict[str, Any]]:
        """What the gateway is told of each session."""
        told: dict[str, dict[str, Any]] = {}
        for key, life in self._lives.items():
            record = life.kept.record
            answer = self._admission.answers.get(key) if record.state is SessionState.PENDING else None
            text = f"{record.reason}: {record.message}" if record.message else record.reason
            told[key] = {
                "state": record.state.value,
                "reason": text[:_LONGEST_REASON],
                "device": record.device,
                "queue_position": answer.position + 1 if answer and answer.position is not None else 0,
                "restarts": record.restarts,
            }
            if answer is not None and answer.start_s is not None:
                told[key]["estimated_start_s"] = answer.start_s
        return told

    def on_device(self, device: str) -> list[str]:
        """Keys of sessions that are on a device."""
        return [key for key, life in self._lives.items() if life.kept.record.device == device]

    def adopt(self) -> None:
        """Take in all known sessions as their statuses have them, so that a first plan knows all holders."""
        for session in self._world.sessions:
            try:
                self._life(session)
            except EfaasError as error:
                _LOG.warning("session cannot be taken in", extra={"error": str(error)})
        over = [(life.kept.record.finished_s or 0.0, key, life) for key, life in self._lives.items()]
        for finished_s, key, life in sorted(over, key=lambda each: each[:2]):
            if life.kept.record.state in FINAL:
                life.counted = True
                tenant = key.partition("/")[0]
                self._admission.recount(tenant, life.kept.cpu_before_s, life.kept.record.qpu_s, finished_s)

    # --- one look ---------------------------------------------------------------------------------

    async def reconcile(self, key: str) -> float | None:
        """Look at one session; returns after how many seconds to look again."""
        session = self._world.sessions.get(key)
        if session is None:
            self._gone(key)
            return None
        try:
            life = self._life(session)
        except InputError as error:
            await self._story.tell(session, "", "RecordUnreadable", str(error), self._clock())
            return _SLOW_LOOK_S
        if (
            life.kept.record.state in FINAL
            and life.closed
            and not session["metadata"].get("deletionTimestamp")
        ):
            return await self._after_the_end(key, session, life)
        missing = "" if life.kept.record.state in FINAL else await self._scripts.missing(session)
        now_s = self._clock()
        self._bar(key, life, missing)
        wants_deletion = self._tell(key, session, life, missing, now_s)
        again_s = await self._carry_out(key, session, life, now_s)
        status_s = await self._write(key, life, urgent=False)
        await self._narrate(key, life, now_s)
        if wants_deletion:
            await self._api.delete(paths.session(*key.split("/")), uid=life.uid)
        return self._next_look(life, now_s, again_s, status_s, self._repair_s if missing else None)

    def _life(self, session: Document) -> Life:
        metadata = session["metadata"]
        key = f"{metadata['namespace']}/{metadata['name']}"
        life = self._lives.get(key)
        if life is not None and life.uid == metadata["uid"]:
            return life
        if life is not None:
            self._gone(key)
        kept = kept_from_text((session.get("status") or {}).get("record", ""))
        machine = SessionMachine(policy_of(session["spec"]), kept.record)
        life = self._lives[key] = Life(metadata["uid"], machine, kept)
        life.chapter = _chapter(kept)
        life.closed = kept.record.state in FINAL and FINALIZER not in (metadata.get("finalizers") or ())
        return life

    def _tell(self, key: str, session: Document, life: Life, missing: str, now_s: float) -> bool:
        """Tell the machine what is there; whether it wants its object deleted."""
        machine, record = life.machine, life.kept.record
        runner = record.runner
        pod = self._runners.find(session, runner.epoch) if runner is not None else None
        progress = self._progress.known(key)
        charged = self._devices.charged(key)
        if pod is not None:
            life.held_s = max(life.held_s, held_s(pod, now_s))
            life.result = result_of(pod) or life.result
        before = (record.state, record.admitted_s)
        decisions: list[Decision] = []
        events = observe(
            session,
            record,
            pod,
            devices=self._world.device_by_node(),
            silent_nodes=self.silent_nodes,
            leaving=self._devices.leaving(),
            charged=charged,
            iterations=progress.iterations if progress is not None else 0,
            missing_script=missing,
            now_s=now_s,
        )
        answer = self._admission.answers.get(key)
        if machine.wants_slot and not missing:
            # Not before there is a pod to release: an admitted session without one has lost its runner.
            if pod is not None and self._admission.take_grant(key):
                events.insert(0, Granted(now_s))
            elif answer is not None and key not in self._admission.granted:
                events.insert(0, Refused(now_s, answer.reason, answer.message))
        for event in events:
            try:
                decisions += machine.handle(event)
            except ProtocolError as error:
                _LOG.info("told what cannot be", extra={"session": key, "error": str(error)})
        if runner is not None and (record.runner is None or record.runner.epoch != runner.epoch):
            self._count_runner(life)
        if before[1] is None and record.admitted_s is not None:
            self._metrics.admission_wait.observe(max(0.0, now_s - created_s(session)))
        if (before[0] is not record.state) or runner is not record.runner:
            self._admission.look_again()
        self._charge(key, life, now_s)
        return any(isinstance(decision, DeleteSession) for decision in decisions)

    def _bar(self, key: str, life: Life, why: str) -> None:
        """Keep a session out of admission for a reason, or let it in again with none."""
        if why != life.barred:
            life.barred = why
            if why:
                self._admission.take_grant(key)
            self._admission.look_again()

    def _count_runner(self, life: Life) -> None:
        life.kept.cpu_before_s += life.held_s
        life.held_s = 0.0

    def _charge(self, key: str, life: Life, now_s: float) -> None:
        record = life.kept.record
        tenant = key.partition("/")[0]
        cpu_s = life.kept.cpu_before_s + life.held_s
        if not life.counted and (cpu_s or record.qpu_s):
            self._admission.charge(key, cpu_s, record.qpu_s)
        if record.state in FINAL and not life.counted:
            life.counted = True
            held = None if record.admitted_s is None else max(0.0, now_s - record.admitted_s)
            self._admission.admission.ended(key, tenant, held)

    # --- what follows -----------------------------------------------------------------------------

    async def _carry_out(self, key: str, session: Document, life: Life, now_s: float) -> float | None:
        """Carry out what the machine recalls, as far as it is not done; when to look again at the latest."""
        record = life.kept.record
        again_s: float | None = None
        await self._clear_away(session, life)
        for decision in life.machine.recall():
            match decision:
                case CreateRunner(epoch):
                    again_s = await self._create(key, session, life, epoch, now_s)
                case ReleaseRunner(epoch):
                    pod = self._runners.find(session, epoch)
                    if pod is not None:
                        await self._runners.release(pod)
                        await self._assign(key, life)
                case StopRunner(epoch, _):
                    pod = self._runners.find(session, epoch)
                    if pod is not None:
                        await self._runners.stop(pod)
                case FenceRunner(epoch):
                    await self._fence(key, session, life, epoch)
                case CloseOnDevices():
                    if not life.closed:
                        if record.epoch == 0 or await self._devices.close_session(key):
                            await self._hear_charges(key, session, life)
                            await self._finish(key, life)
                        else:
                            again_s = self._repair_s
                case AllowDeletion():
                    if life.closed:
                        await self._finalizers.let_go(key)
                case _:
                    pass
        return again_s

    async def _create(
        self, key: str, session: Document, life: Life, epoch: int, now_s: float
    ) -> float | None:
        if self._runners.find(session, epoch) is not None:
            return None
        if not self._statuses.holds_record(session, life.kept):
            # The epoch must survive this process before a pod has it; who may go first writes first.
            granted = key in self._admission.granted
            wait_s = await self._write(key, life, urgent=granted)
            if wait_s is not None or not granted:
                # Of many that come at once each is told where it stands before pods are made for any.
                return wait_s or 0.01
            session = self._world.sessions.get(key) or session
        await self._finalizers.hold(session)
        try:
            await self._runners.create(session, epoch)
        except (Forbidden, Invalid) as error:
            text = f"its pod was refused: {error.message}"
            life.machine.handle(Refused(now_s, "PodRefused", text))
            self._bar(key, life, text)
            return self._repair_s
        self._admission.look_again()
        if key in self._admission.granted:
            return 0.01
        return None

    async def _assign(self, key: str, life: Life) -> None:
        """Once it is known where the runner is: name it in the status, then tell it."""
        record = life.kept.record
        session = self._world.sessions.get(key)
        if session is None or record.runner is None or not record.runner.usable or not record.device:
            return
        pod = self._runners.find(session, record.runner.epoch)
        if (
            pod is None
            or ended(pod)
            or self._runners.assigned(pod)
            or pod["metadata"].get("deletionTimestamp")
        ):
            return
        targets = self._devices.targets(record.device)
        if not targets:
            return
        if not self._statuses.names_runner(session, pod):
            await self._write(key, life, urgent=True)
            session = self._world.sessions.get(key) or session
        await self._runners.assign(session, pod, targets)

    async def _fence(self, key: str, session: Document, life: Life, epoch: int) -> None:
        record = life.kept.record
        # Nobody new is admitted as this runner from here on, whoever still believes to be it.
        if (session.get("status") or {}).get("runner"):
            await self._write(key, life, urgent=True)
        if not await self._devices.fence(key, epoch, record.device):
            return
        pod = self._runners.find(session, epoch)
        if pod is not None and not ended(pod):
            await self._runners.force_away(pod)
        life.machine.handle(RunnerFenced(self._clock(), epoch))
        self._count_runner(life)
        self._admission.look_again()

    async def _clear_away(self, session: Document, life: Life) -> None:
        """Force away pods of runners that the machine has given up: gone or fenced, whatever they say."""
        record = life.kept.record
        present = record.runner.epoch if record.runner is not None else 0
        key = f"{session['metadata']['namespace']}/{session['metadata']['name']}"
        for pod in self._world.pods_of(key):
            epoch = epoch_of(pod)
            if epoch == present or epoch > record.epoch:
                continue
            if not ended(pod):
                await self._runners.force_away(pod)
            elif epoch < record.epoch - 1:
                await self._runners.force_away(pod)  # its log is old news
            self._runners.forget(pod)

    async def _hear_charges(self, key: str, session: Document, life: Life) -> None:
        """Tell the machine what the session was charged: nothing is after its devices closed it.

        Devices that answer said so when they closed it. What a device booked that has gone silent, or that
        this process never heard of, only the gateway knows.
        """
        record = life.kept.record
        begun_s = datetime.fromisoformat(session["metadata"]["creationTimestamp"]).timestamp()
        for charged in (self._devices.charged(key), await self._progress.charged(key, begun_s)):
            if charged is not None:
                now_s = self._clock()
                life.machine.handle(
                    Reported(now_s, record.iterations, charged.shots, charged.qpu_s, charged.last_job_s)
                )
                self._charge(key, life, now_s)

    async def _finish(self, key: str, life: Life) -> None:
        """All is said on the devices: write how it ended, then let go of the object."""
        await self._write(key, life, urgent=True)
        await self._narrate(key, life, self._clock())
        await self._finalizers.let_go(key)
        life.closed = True
        self._scripts.forget(key)
        if life.result.get("ttns_p50_s") is not None:
            self._metrics.ttns.observe(life.result["ttns_p50_s"])

    async def _after_the_end(self, key: str, session: Document, life: Life) -> float | None:
        """A session that is over: nothing happens any more, until its time to live is."""
        del session
        wake_s = life.machine.next_wake_s
        now_s = self._clock()
        if wake_s is not None and now_s >= wake_s:
            await self._api.delete(paths.session(*key.split("/")), uid=life.uid)
            return _SLOW_LOOK_S
        status_s = await self._write(key, life, urgent=False)
        await self._narrate(key, life, now_s)
        waits = [each for each in (status_s, None if wake_s is None else wake_s - now_s) if each is not None]
        return min(waits, default=None)

    # --- writes -----------------------------------------------------------------------------------

    async def _write(self, key: str, life: Life, *, urgent: bool) -> float | None:
        """Write the status if there is something to write and it is time; else how long that is away."""
        session = self._world.sessions.get(key)
        if session is None or session["metadata"]["uid"] != life.uid:
            return None
        record = life.kept.record
        pod = self._runners.find(session, record.runner.epoch) if record.runner is not None else None
        known = Known(
            progress=self._progress.known(key),
            charged=self._devices.charged(key),
            cpu_s=life.kept.cpu_before_s + life.held_s,
            result=life.result,
            waiting=self._admission.answers.get(key),
        )
        return await self._statuses.write(session, life.kept, pod, known, self._clock(), urgent=urgent)

    async def _narrate(self, key: str, life: Life, now_s: float) -> None:
        chapter = _chapter(life.kept)
        if chapter == life.chapter:
            return
        life.chapter = chapter
        session = self._world.sessions.get(key)
        record = life.kept.record
        if session is None or record.state is SessionState.ADMITTED or record.reason in _UNTOLD:
            return
        reason, message = record.reason, record.message
        if record.state is SessionState.COMPLETED:
            reason = "Completed"
            message = f"{record.reason}: {record.message}" if record.message else record.reason
        await self._story.tell(session, f"{record.state} {record.epoch}", reason, message or reason, now_s)

    def _gone(self, key: str) -> None:
        life = self._lives.pop(key, None)
        if life is None:
            return
        if not life.counted:
            self._admission.admission.ended(key, key.partition("/")[0])
        self._admission.forget(key)
        self._statuses.forget(key)
        self._scripts.forget(key)
        self._progress.forget(key)

    def _next_look(self, life: Life, now_s: float, *waits_s: float | None) -> float | None:
        found = [wait_s for wait_s in waits_s if wait_s is not None]
        wake_s = life.machine.next_wake_s
        if wake_s is not None:
            found.append(max(0.05, wake_s - now_s))
        if life.kept.record.state not in FINAL:
            found.append(_SLOW_LOOK_S)
        return min(found, default=None)


_UNTOLD = frozenset({"WaitingForAdmission", "WaitingForSlot", "WaitingForFairShare", "NoDeviceReady"})
"""Reasons that pass by themselves: the status tells them, and a queue would only fill the story."""


def _chapter(kept: Kept) -> tuple[str, str, int]:
    record = kept.record
    return record.state.value, record.reason, record.epoch
