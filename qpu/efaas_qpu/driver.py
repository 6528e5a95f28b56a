"""Drives one device: carries out what the machine decides.

`efaas.core.qpu.QpuMachine` decides about the device; the driver gives it a clock, an Aer engine and a log.
Every event goes through `feed`: the machine handles it, its decisions are carried out in order, what they
change about the ledger is written to the log as one record, and only then are clients told. The driver
makes no decision of its own about who runs when or what is charged.

Holding the device. A job's simulation runs once, at the first slice of an attempt, and makes all blocks;
later slices only hold the device. With time scale s > 0 a slice holds it for its device time × s wall
seconds, or for as long as the simulation takes if that is longer (the job is then flagged late). With s = 0
it holds it for as long as the simulation takes, and the clock advances by the device time.

A speculative job that is complete is *unclaimed*: its result was sent, but is not in the log, because
nothing was charged for it. A real submit of the same job claims it; then the machine completes it once
more, with its charge.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from efaas.api.wire import qpu_pb2 as wire
from efaas.core.qpu import messages as core
from efaas.core.qpu.view import Outlook
from efaas.core.uses import whole_ns
from efaas.errors import EfaasError, InputError
from efaas_qpu.clock import DeviceClock
from efaas_qpu.engine.messages import WorkerFailed
from efaas_qpu.entries import Booking, CalibrationRecord, Entry, Kept
from efaas_qpu.jobs import LiveJob, execution, partial_message, queued_message, result_message
from efaas_qpu.ledger import DurableLedger
from efaas_qpu.living import LivingDevice
from efaas_qpu.metrics import Metrics

logger = logging.getLogger(__name__)

_STARTED_AFTER_S = 0.02
"""Wall seconds after which a job that still runs is worth a Started: most results are faster."""

_INSTANT_SLICES = 64
"""Slices without wall time that are run through before others get a turn of the event loop."""

_CODES = {
    core.FailureCode.WORKER_FAILED: wire.WORKER_FAILED,
    core.FailureCode.CANCELLED: wire.CANCELLED,
    core.FailureCode.LIMIT_REACHED: wire.LIMIT_REACHED,
    core.FailureCode.QUEUE_FULL: wire.LIMIT_REACHED,
    core.FailureCode.DRAINING: wire.DRAINING,
    core.FailureCode.CALIBRATION: wire.LIMIT_REACHED,
}


class Machine(Protocol):
    """`efaas.core.qpu.QpuMachine`."""

    def handle(self, event: core.Event) -> list[core.Decision]:
        """Take an event; what to do about it."""

    def outlook(self, now_s: float) -> Outlook:
        """What is to be expected of the device."""


class DeviceDriver:
    """See the module's text.

    Args:
        machine: decides.
        device: drifts, is calibrated, and simulates.
        ledger: what was before.
        metrics: where to count.
        time_scale: wall seconds for each device second; 0: as fast as it simulates.
        say: sends a message to a session's client, if it is there.
        ended: is told of each job that ended.
        recalibrated: is told of each full calibration that ended.
        wall: a monotonic wall clock, seconds.
    """

    def __init__(
        self,
        machine: Machine,
        device: LivingDevice,
        ledger: DurableLedger,
        metrics: Metrics,
        *,
        time_scale: float,
        say: Callable[[str, wire.ServerMessage], None],
        ended: Callable[[LiveJob], None],
        recalibrated: Callable[[], None] = lambda: None,
        wall: Callable[[], float] = time.monotonic,
    ) -> None:
        self._machine, self._ledger, self._metrics = machine, ledger, metrics
        self.device = device
        self._say, self._ended, self._recalibrated, self._wall = say, ended, recalibrated, wall
        self.clock = DeviceClock(time_scale, ledger.state.clock_s, wall)
        self.jobs: dict[str, LiveJob] = {}
        """Jobs without a result, and speculative ones whose result nobody claimed yet, by id."""
        self.entry = Entry(0.0)
        """What the event under way changes about the ledger."""
        self.calibrating = False
        self.hold: asyncio.Task[None] | None = None
        """What holds the device."""
        self._cut = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._wake_at_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._outgoing: list[tuple[str, wire.ServerMessage]] = []
        self._instant: tuple[core.StartSlice, LiveJob] | None = None
        """A slice that takes no wall time, because the job is simulated and the device is as fast as that."""

    @property
    def calibration_epoch(self) -> int:
        """Id of the last calibration, full or localised; 1 is that of the snapshot."""
        return self.device.epoch

    @property
    def calibration_age_s(self) -> float:
        """Device seconds since the last full calibration."""
        return self.clock.now_s() - self.device.full_at_s

    def outlook(self) -> Outlook:
        """What whoever places sessions wants to know."""
        return self._machine.outlook(self.clock.now_s())

    @property
    def queue_depth(self) -> int:
        """Jobs without a result that do not hold the device."""
        return sum(not live.holds_device and live.unclaimed is None for live in self.jobs.values())

    def feed(self, event: core.Event) -> None:
        """Let the machine handle an event, carry out its decisions, write them down, tell clients."""
        decisions = self._machine.handle(event)
        try:
            self._carry_out_all(decisions)
            for _ in range(_INSTANT_SLICES):
                if self._instant is None:
                    break
                (decision, live), self._instant = self._instant, None
                self._carry_out_all(self._machine.handle(self._end_slice(decision, live, self._wall(), None)))
            if self._instant is not None:
                (decision, live), self._instant = self._instant, None
                self.hold = asyncio.create_task(self._hold_for_slice(decision, live))
        finally:
            outgoing, self._outgoing = self._outgoing, []
            self.commit()
            for session, message in outgoing:
                self._say(session, message)

    def commit(self, *, everything: bool = False) -> None:
        """Write down what has changed, if it must not wait or `everything` is wanted."""
        if not (self.entry.must_be_written() or (everything and self.entry.may_be_written())):
            return
        entry, self.entry = self.entry, Entry(0.0)
        entry.clock_s = self.clock.now_s()
        entry.wall_s = round(time.time(), 3) if entry.kept else 0.0
        compactions = self._ledger.compactions
        self._ledger.commit(entry)
        self._metrics.log_compactions.inc(self._ledger.compactions - compactions)

    def _carry_out_all(self, decisions: Sequence[core.Decision]) -> None:
        charges = [decision for decision in decisions if isinstance(decision, core.Charge)]
        for decision in decisions:
            self._carry_out(decision, charges)

    def _carry_out(self, decision: core.Decision, charges: Sequence[core.Charge]) -> None:
        match decision:
            case core.StartSlice():
                self._start_slice(decision)
            case core.CompleteJob():
                self._complete(decision, charges)
            case core.Charge(key, session, qpu_s, shots, what):
                if not self._ledger.state.is_charged(key):
                    self.entry.bookings.append(Booking(key, session, qpu_s, shots, what))
            case core.ReportQueued(job_id):
                live = self.jobs.get(job_id)
                if live is not None:
                    live.report = decision
                    self._outgoing.append((live.job.session, queued_message(decision)))
            case core.WakeAt(at_s):
                self._wake_at_s = at_s
                self._set_timer()
            case core.StopSlice():
                self._cut.set()
            case core.StartCalibration():
                self._start_calibration(decision)
            case core.FailJob():
                self._fail(decision)
            case core.Idle():
                pass
            case _:
                raise TypeError(f"the driver cannot carry out {decision}")

    # --- ends of jobs -----------------------------------------------------------------------------

    def _complete(self, decision: core.CompleteJob, charges: Sequence[core.Charge]) -> None:
        live = self.jobs[decision.job_id]
        now_wall = self._wall()
        result = result_message(live, decision, now_wall)
        for charge in charges:
            if charge.session == live.job.session and charge.what != "calibration":
                result.shots += charge.shots
                result.qpu_s += charge.qpu_s
        self._outgoing.append((live.job.session, wire.ServerMessage(result=result)))
        if live.job.kind is core.JobKind.SPECULATIVE:
            live.unclaimed = result
            if live.started_timer is not None:
                live.started_timer.cancel()
            return
        kept = Kept(live.job.id, live.job.session, live.submission.per_shot, result.SerializeToString())
        self.entry.kept.append(kept)
        was_claimed = live.unclaimed is not None
        self._forget(live, "completed")
        metrics, timing = self._metrics, result.timing
        metrics.shots.inc(result.shots)
        if was_claimed:
            return
        metrics.queue_wait.observe(timing.queue_s)
        metrics.calibration_wait.observe(timing.calibration_s)
        metrics.start_wait.observe(timing.wall_queue_s)
        metrics.server_time.observe(timing.server_s)
        metrics.parse_time.observe(timing.parse_s)
        metrics.simulate_time.observe(timing.simulate_s)
        if timing.late:
            metrics.late_jobs.inc()

    def _fail(self, decision: core.FailJob) -> None:
        live = self.jobs.get(decision.job_id)
        if live is None:
            return
        code, place = _CODES[decision.code], ""
        message, retry = decision.reason, decision.retry
        if live.fault is not None:
            code = wire.BAD_PARAMETERS if isinstance(live.fault, InputError) else wire.INTERNAL
            message, place, retry = live.fault.message, live.fault.place, live.fault.retry
        self._forget(live, "cancelled" if code == wire.CANCELLED else "failed")
        error = wire.Error(code=code, message=message, place=place, retry=retry, job_id=decision.job_id)
        self._outgoing.append((live.job.session, wire.ServerMessage(error=error)))

    def _forget(self, live: LiveJob, outcome: str) -> None:
        del self.jobs[live.job.id]
        if live.started_timer is not None:
            live.started_timer.cancel()
        self._metrics.jobs.labels(live.job.kind.value, outcome).inc()
        self._ended(live)

    def drop(self, live: LiveJob, outcome: str) -> None:
        """Forget a job of which the machine says nothing more."""
        if self.jobs.get(live.job.id) is live:
            self._forget(live, outcome)

    # --- holding the device -----------------------------------------------------------------------

    def _start_slice(self, decision: core.StartSlice) -> None:
        live = self.jobs[decision.job_id]
        self._take_device()
        live.holds_device = True
        if live.attempt != decision.attempt:
            live.attempt, live.executed, live.blocks_done = decision.attempt, None, 0
        if live.started_wall is None:
            live.started_wall = self._wall()
            live.started_timer = asyncio.get_running_loop().call_later(
                _STARTED_AFTER_S, self._say_started, live
            )
        if decision.first_block == 0:
            live.begun_s = self.clock.now_s()
            live.calibration_epoch = self.calibration_epoch
            live.calibration_age_s = decision.calibration_age_s
        if live.executed is not None and not self.clock.time_scale:
            self._instant = (decision, live)
        else:
            self.hold = asyncio.create_task(self._hold_for_slice(decision, live))

    def _say_started(self, live: LiveJob) -> None:
        if live.started_timer is not None:
            live.started_timer.cancel()
            live.started_timer = None
            self._say(live.job.session, wire.ServerMessage(started=wire.Started(job_id=live.job.id)))

    def _start_calibration(self, decision: core.StartCalibration) -> None:
        self._take_device()
        self.calibrating = True
        self.hold = asyncio.create_task(self._hold_for_calibration(decision))

    def _take_device(self) -> None:
        if not self._idle.is_set():
            raise RuntimeError("the machine started something while the device is held")
        self._idle.clear()
        self._cut.clear()
        self.clock.hold()

    async def _hold_for_slice(self, decision: core.StartSlice, live: LiveJob) -> None:
        begun = self._wall()
        failure = await self._simulate(decision, live)
        if self.clock.time_scale:
            live.late |= self._wall() - begun > decision.expected_s * self.clock.time_scale
        if failure is None:
            await self._wait_for_device(begun, decision.expected_s)
        self._feed_safely(self._end_slice(decision, live, begun, failure))

    def _end_slice(
        self, decision: core.StartSlice, live: LiveJob, begun: float, failure: str | None
    ) -> core.Event:
        """Release the device after a slice; the event that tells the machine."""
        busy_s = self._busy_s(begun, decision.expected_s if failure is None and live.executed else 0.0)
        now_s = self._release_device()
        live.holds_device = False
        shots_s = max(0.0, busy_s - decision.turn_s)
        self.entry.busy_s += shots_s
        self.entry.held_ns += whole_ns(busy_s)
        self._metrics.busy.inc(shots_s)
        if failure is not None:
            live.blocks_done = 0
            return core.SliceFailed(now_s, live.job.id, busy_s, failure, retry=live.fault is None)
        live.blocks_done += decision.blocks
        partial = None if live.blocks_done >= live.job.blocks else partial_message(live)
        if partial is not None and not self._cut.is_set():
            self._say_started(live)
            self._say(live.job.session, partial)
        return core.SliceFinished(now_s, live.job.id, busy_s)

    async def _simulate(self, decision: core.StartSlice, live: LiveJob) -> str | None:
        """Have all blocks of the job made if they are not there yet; why that failed, if it did."""
        if live.executed is not None or self._cut.is_set():
            return None
        try:
            # At scale 0 all slices end with the simulation: estimates on the way would come too late to be
            # of use.
            slice_blocks = decision.blocks if self.clock.time_scale else live.job.blocks
            live.executed = await self.device.execute(execution(live, slice_blocks), live.begun_s)
        except WorkerFailed as error:
            self._metrics.worker_failures.labels(error.how).inc()
            logger.warning("job %s: %s", live.job.id, error)
            return error.message
        except EfaasError as error:
            live.fault = error
            return error.message
        except Exception as error:
            logger.exception("job %s", live.job.id)
            return f"the engine failed with {type(error).__name__}"
        return None

    async def _wait_for_device(self, begun: float, expected_s: float) -> None:
        """Wait until the device time of a hold is over, or it is cut short."""
        remaining = begun + expected_s * self.clock.time_scale - self._wall()
        if self.clock.time_scale and remaining > 0 and not self._cut.is_set():
            try:
                await asyncio.wait_for(self._cut.wait(), remaining)
            except TimeoutError:
                return

    def _busy_s(self, begun: float, expected_s: float) -> float:
        """Release the device; the device seconds that it was held."""
        scale = self.clock.time_scale
        busy_s = (self._wall() - begun) / scale if scale else expected_s
        self.clock.release(busy_s)
        return busy_s

    def _release_device(self) -> float:
        self.hold = None
        self._idle.set()
        return self.clock.now_s()

    async def _hold_for_calibration(self, decision: core.StartCalibration) -> None:
        begun = self._wall()
        await self._wait_for_device(begun, decision.expected_s)
        busy_s = self._busy_s(begun, decision.expected_s)
        now_s = self._release_device()
        self.calibrating = False
        epoch = self.device.calibrate(now_s, decision.scope, decision.qubits)
        self.entry.calibration = CalibrationRecord(epoch, busy_s, decision.caused_by, decision.reason)
        self.entry.calibrating_s += busy_s
        self.entry.held_ns += whole_ns(busy_s)
        self._metrics.calibrating.inc(busy_s)
        self._metrics.calibrations.labels(decision.scope.value).inc()
        for live in self.jobs.values():
            if live.started_wall is None:
                live.wall_calibration_s += self._wall() - max(begun, live.arrived_wall)
        self._feed_safely(core.CalibrationFinished(now_s, busy_s, epoch.id))
        if decision.scope is core.CalibrationScope.FULL:
            self._recalibrated()

    def _feed_safely(self, event: core.Event) -> None:
        """Feed an event that no client waits for: a fault of the program must not take the server along."""
        try:
            self.feed(event)
        except Exception:
            logger.critical("the machine or the log refused %s", type(event).__name__, exc_info=True)
        self._set_timer()

    # --- time -------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        """Wake the machine when it asked for, if the clock gets there by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._wake_at_s is None:
            return
        delay = self.clock.wall_until(self._wake_at_s)
        if delay is not None:
            self._timer = asyncio.get_running_loop().call_later(delay, self._wake)

    def _wake(self) -> None:
        self._timer = None
        if self._wake_at_s is None:
            return
        now_s = self.clock.now_s()
        if now_s >= self._wake_at_s:
            self._wake_at_s = None
            self._feed_safely(core.TimerFired(now_s))
        else:
            self._set_timer()

    async def settle(self, patience_s: float) -> bool:
        """Wait until nothing holds the device, then stop for good; whether it came to that in time."""
        settled = True
        try:
            await asyncio.wait_for(self._idle.wait(), patience_s)
        except TimeoutError:
            settled = False
        if self._timer is not None:
            self._timer.cancel()
        if self.hold is not None:
            self.hold.cancel()
            await asyncio.wait({self.hold})
        self.commit(everything=True)
        return settled
