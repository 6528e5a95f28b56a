"""The simulator: a heap of (time, priority, serial, event), and the machines that the servers run.

It adds no decision of its own but one: where a job goes. Under policies that know sessions a loop stays on
the device where it was placed; under the stateless ones (`sbq`, `pf`, `pq`) each job goes to the least
loaded device. Batch jobs go to the least loaded device always.

The same configuration and seed give the same decisions to the byte (`log`): time is computed, never read,
each participant has its own random stream, and at one moment device events come before arrivals and those
before timers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from heapq import heappop, heappush

import numpy as np

from efaas.core.qpu import QpuConfig, QpuMachine
from efaas.core.qpu.messages import (
    CalibrationFinished,
    CompleteJob,
    Decision,
    Event,
    FailJob,
    Idle,
    Job,
    JobKind,
    JobSubmitted,
    SessionClosed,
    SessionOpened,
    SliceFailed,
    SliceFinished,
    StartCalibration,
    StartSlice,
    StopSlice,
    TimerFired,
    WakeAt,
)
from efaas.simulator.measures import BatchWait, DeviceTime, Iteration, Measures
from efaas.simulator.workload import BatchStream, LoopSession, stream

_STATELESS = frozenset({"sbq", "pf", "pq"})

_DEVICE, _ARRIVAL, _TIMER = range(3)
"""Priorities of events at one moment."""

Action = Callable[[float], None]


class _Device:
    """One machine and what its device does."""

    def __init__(self, name: str, config: QpuConfig) -> None:
        self.name = name
        self.machine = QpuMachine(config)
        self.epoch = config.calibration.epoch
        self.time = DeviceTime()
        # What holds the device; the token tells the answer to it from answers that came to nothing.
        self.slice: StartSlice | None = None
        self.calibration: StartCalibration | None = None
        self.since_s = 0.0
        self.token = 0
        self.wake_token = 0
        self.reserved_since_s: float | None = None


class _Loop:
    """A loop session under way."""

    def __init__(self, spec: LoopSession, random: np.random.Generator, device: str) -> None:
        self.spec = spec
        self.random = random
        self.device = device
        self.evaluation = 0
        self.cpu_s = 0.0  # classical time that led to the next iteration


class Simulator:
    """Several devices and their users.

    Args:
        devices: settings by name; one policy for all.
        loops: variational loops.
        batch: streams of batch jobs.
        seed: of everything random.
        failures: probability that a slice fails.
        keep_log: whether `log` keeps every decision, with its time and device.
    """

    def __init__(
        self,
        devices: Mapping[str, QpuConfig],
        *,
        loops: Iterable[LoopSession] = (),
        batch: Iterable[BatchStream] = (),
        seed: int = 0,
        failures: float = 0.0,
        keep_log: bool = False,
    ) -> None:
        self.devices = {name: _Device(name, config) for name, config in devices.items()}
        self.log: list[str] = []
        self._keep_log = keep_log
        self._failures = failures
        self._fault_stream = stream(seed, "faults")
        self._stateless = next(iter(devices.values())).policy in _STATELESS
        self._heap: list[tuple[float, int, int, Action]] = []
        self._serial = 0
        self._measures = Measures(0.0)
        self._iterations: dict[str, Iteration] = {}
        self._batch: dict[str, BatchWait] = {}
        self._jobs: dict[str, Job] = {}
        self._tenants: dict[str, str] = {}
        self._loops: dict[str, _Loop] = {}
        names = list(self.devices)
        for number, spec in enumerate(loops):
            device = spec.device or names[number % len(names)]
            self._place(_Loop(spec, stream(seed, spec.name), device))
        for jobs in batch:
            self._start_stream(jobs, stream(seed, jobs.name))

    def run(self, horizon_s: float) -> Measures:
        """Run until a moment; may be called once."""
        self._measures.horizon_s = horizon_s
        while self._heap and self._heap[0][0] <= horizon_s:
            now_s, _, _, action = heappop(self._heap)
            action(now_s)
        for device in self.devices.values():
            self._cut(device, horizon_s)
            self._measures.devices[device.name] = device.time
        return self._measures

    def _at(self, at_s: float, priority: int, action: Action) -> None:
        self._serial += 1
        heappush(self._heap, (at_s, priority, self._serial, action))

    # --- users ------------------------------------------------------------------------------------

    def _place(self, loop: _Loop) -> None:
        self._loops[loop.spec.name] = loop
        self._at(loop.spec.opens_s, _ARRIVAL, lambda now_s: self._open(now_s, loop))

    def _open(self, now_s: float, loop: _Loop) -> None:
        spec = loop.spec
        self._tenants[spec.name] = spec.tenant
        for device in self._where(loop):
            self._feed(
                device,
                SessionOpened(
                    now_s, spec.name, spec.tenant, spec.weight, spec.max_calibration_age_s, spec.tenant_weight
                ),
            )
        self._iterate(now_s, loop)

    def _where(self, loop: _Loop) -> list[_Device]:
        return list(self.devices.values()) if self._stateless else [self.devices[loop.device]]

    def _iterate(self, ready_s: float, loop: _Loop) -> None:
        """The classical side has the next parameters."""
        spec = loop.spec
        if spec.iterations is not None and loop.evaluation >= spec.iterations:
            for device in self._where(loop):
                self._feed(device, SessionClosed(ready_s, spec.name))
            return
        job = spec.job(loop.evaluation, loop.random)
        cpu_s = loop.cpu_s
        iteration = self._iterations[job.id] = Iteration(spec.name, loop.evaluation, ready_s)
        self._measures.iterations.append(iteration)
        loop.evaluation += 1

        def arrive(now_s: float) -> None:
            device = self._least_loaded() if self._stateless else self.devices[loop.device]
            self._submit(device, now_s, job, cpu_s)

        self._at(ready_s + spec.t_net_s, _ARRIVAL, arrive)

    def _start_stream(self, spec: BatchStream, random: np.random.Generator) -> None:
        self._tenants[spec.name] = spec.tenant
        number = 0

        def begin(now_s: float) -> None:
            for device in self.devices.values():
                opened = SessionOpened(
                    now_s, spec.name, spec.tenant, spec.weight, tenant_weight=spec.tenant_weight
                )
                self._feed(device, opened)
            for _ in range(spec.at_once):
                submit(now_s)
            self._at(now_s + spec.gap(random), _ARRIVAL, arrive)

        def submit(now_s: float) -> None:
            nonlocal number
            job = spec.job(number, random)
            number += 1
            wait = self._batch[job.id] = BatchWait(spec.name, now_s, job.device_s)
            self._measures.batch.append(wait)
            self._submit(self._least_loaded(), now_s, job, 0.0)

        def arrive(now_s: float) -> None:
            self._at(now_s + spec.gap(random), _ARRIVAL, arrive)
            submit(now_s)

        self._at(0.0, _ARRIVAL, begin)

    def _submit(self, device: _Device, now_s: float, job: Job, cpu_s: float) -> None:
        self._jobs[job.id] = job
        self._feed(device, JobSubmitted(now_s, job, cpu_s))

    def _least_loaded(self) -> _Device:
        def load(device: _Device) -> tuple[int, str]:
            machine = device.machine
            return machine.waiting + (
                machine.held is not None or machine.calibrating is not None
            ), device.name

        return min(self.devices.values(), key=load)

    # --- devices ----------------------------------------------------------------------------------

    def _feed(self, device: _Device, event: Event) -> None:
        device.wake_token += 1  # an earlier wish to be woken is void
        if device.reserved_since_s is not None:
            device.time.reserved_s += event.now_s - device.reserved_since_s
            device.reserved_since_s = None
        for decision in device.machine.handle(event):
            if self._keep_log:
                self.log.append(f"{event.now_s:.9f} {device.name} {decision!r}")
            self._carry_out(device, decision, event.now_s)
        idle = device.machine.idle
        if idle is not None and idle.reserved_for is not None and device.machine.waiting:
            device.reserved_since_s = event.now_s

    def _carry_out(self, device: _Device, decision: Decision, now_s: float) -> None:
        match decision:
            case StartSlice():
                self._start_slice(device, decision, now_s)
            case StopSlice():
                self._end_slice(device, now_s)
            case StartCalibration():
                self._start_calibration(device, decision, now_s)
            case CompleteJob(job_id) | FailJob(job_id):
                self._ended(decision, job_id, now_s)
            case WakeAt(at_s):
                token = device.wake_token
                self._at(at_s, _TIMER, lambda at: self._wake(device, token, at))
            case Idle():
                pass

    def _wake(self, device: _Device, token: int, now_s: float) -> None:
        if token == device.wake_token:
            self._feed(device, TimerFired(now_s))

    def _start_slice(self, device: _Device, started: StartSlice, now_s: float) -> None:
        device.slice, device.since_s = started, now_s
        device.token += 1
        token = device.token
        first_shot_s = now_s + started.turn_s
        iteration = self._iterations.get(started.job_id)
        if iteration is not None:
            if iteration.start_s is None:
                iteration.start_s = first_shot_s
            self._measures.oldest_calibration_s = max(
                self._measures.oldest_calibration_s, started.calibration_age_s
            )
        wait = self._batch.get(started.job_id)
        if wait is not None and wait.start_s is None:
            wait.start_s = first_shot_s

        def end(at_s: float) -> None:
            if device.token == token:
                self._end_slice(device, at_s, whole=True)

        self._at(now_s + started.expected_s, _DEVICE, end)

    def _end_slice(self, device: _Device, now_s: float, *, whole: bool = False) -> None:
        running = device.slice
        assert running is not None
        device.slice = None
        device.token += 1
        busy_s = running.expected_s if whole else now_s - device.since_s
        self._book(device, running, busy_s)
        if whole and self._failures and self._fault_stream.random() < self._failures:
            self._feed(device, SliceFailed(now_s, running.job_id, busy_s, "a simulated fault"))
        elif whole:
            self._feed(device, SliceFinished(now_s, running.job_id, busy_s))
        else:
            # The machine is in the middle of an event: it hears of the end right after it.
            self._at(
                now_s, _DEVICE, lambda at_s: self._feed(device, SliceFinished(at_s, running.job_id, busy_s))
            )

    def _book(self, device: _Device, running: StartSlice, busy_s: float) -> None:
        turning_s = min(busy_s, running.turn_s)
        device.time.turning_s += turning_s
        device.time.shots_s += busy_s - turning_s
        tenant = self._tenants[self._jobs[running.job_id].session]
        used_s = self._measures.used_s
        used_s[tenant] = used_s.get(tenant, 0.0) + busy_s - turning_s

    def _start_calibration(self, device: _Device, started: StartCalibration, now_s: float) -> None:
        device.calibration, device.since_s = started, now_s

        def end(at_s: float) -> None:
            device.calibration = None
            device.epoch += 1
            device.time.calibrating_s += started.expected_s
            self._feed(device, CalibrationFinished(at_s, started.expected_s, device.epoch))

        self._at(now_s + started.expected_s, _DEVICE, end)

    def _ended(self, decision: CompleteJob | FailJob, job_id: str, now_s: float) -> None:
        job = self._jobs[job_id]
        wait = self._batch.get(job_id)
        if wait is not None:
            wait.end_s = now_s
        loop = self._loops.get(job.session)
        if loop is None or job.kind is not JobKind.LOOP:
            return
        if isinstance(decision, CompleteJob):
            self._iterations[job_id].end_s = now_s
        loop.cpu_s = loop.spec.t_cpu(loop.random)
        self._at(now_s + loop.cpu_s, _ARRIVAL, lambda at_s: self._iterate(at_s, loop))

    def _cut(self, device: _Device, horizon_s: float) -> None:
        """What runs at the end counts up to there."""
        if device.slice is not None:
            self._book(device, device.slice, min(device.slice.expected_s, horizon_s - device.since_s))
        if device.calibration is not None:
            device.time.calibrating_s += min(device.calibration.expected_s, horizon_s - device.since_s)
        if device.reserved_since_s is not None:
            device.time.reserved_s += horizon_s - device.reserved_since_s
