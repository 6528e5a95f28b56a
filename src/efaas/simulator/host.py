"""The simulator: a heap of (time, priority, serial, event), and the machines that the servers run.

It adds no decision of its own but those of whoever sends jobs:

- Batch jobs, and iterations under the stateless policies (`sbq`, `pf`, `pq`), go to the device with the
  fewest jobs, loops at home there counted. With `central`, they wait outside until a device is free.
- A loop under the other policies stays on the device where it was placed: the one with the fewest loops, then
  jobs. With `routed`, the core places it (`efaas.core.placement`) and routes its iterations
  (`efaas.core.routing`).

The same configuration and seed give the same decisions to the byte (`log`): time is computed, never read,
each participant has its own random stream, and at one moment device events come before arrivals and those
before timers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from heapq import heappop, heappush

import numpy as np

from efaas.core.placement import DeviceView, Placement, Request, place
from efaas.core.qpu import QpuConfig
from efaas.core.qpu.messages import (
    Charge,
    CompleteJob,
    FailJob,
    Job,
    JobKind,
    JobSubmitted,
    SessionClosed,
    SessionOpened,
    StartSlice,
)
from efaas.core.routing import Router
from efaas.core.speculation import Mode
from efaas.simulator.ahead import RunningAhead
from efaas.simulator.classical import Nodes
from efaas.simulator.device import ARRIVAL, Action, Device
from efaas.simulator.measures import BatchWait, Calibrated, Iteration, Measures
from efaas.simulator.views import device_view
from efaas.simulator.workload import BLOCK_S, BLOCK_SHOTS, BatchStream, LoopSession, stream

STATELESS = frozenset({"sbq", "pf", "pq"})
"""Policies under which an iteration has no home."""

EVERYBODY = "everybody"
"""The one session of all jobs where devices are told nothing about sessions."""


class _Loop:
    """A loop session under way."""

    def __init__(self, spec: LoopSession, random: np.random.Generator) -> None:
        self.spec = spec
        self.random = random
        self.evaluation = 0
        self.cpu_s = 0.0  # classical time that led to the next iteration
        self.step_s = 0.0  # time on a node that the step after the pending iteration takes
        self.home: Device | None = None
        self.device: Device | None = None
        self.router: Router | None = None
        self.opened: list[Device] = []
        self.ahead: RunningAhead | None = None
        self.told_s = 0.0
        self.came_ahead = False


class Simulator:
    """Several devices and their users.

    Args:
        devices: settings by name; one policy for all.
        loops: variational loops.
        batch: streams of batch jobs.
        seed: of everything random.
        failures: probability that a slice fails.
        keep_log: whether `log` keeps every decision, with its time and device.
        nodes: classical nodes; None: as many as are wanted.
        routed: whether the core places sessions and routes their iterations.
        central: whether jobs without a home wait outside until a device is free.
        anonymous: whether devices are told nothing about sessions: all jobs are batch work of one session.
        warm_up_s: devices are measured from here on.
        bin_s: length of the intervals over which duty cycle is kept; 0: it is not.
        keep_batch: whether each batch job is kept; if not, they are only counted.
        sent_to: devices by job id, where a record says to which one a job without a home was sent.
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
        nodes: int | None = None,
        routed: bool = False,
        central: bool = False,
        anonymous: bool = False,
        warm_up_s: float = 0.0,
        bin_s: float = 0.0,
        keep_batch: bool = True,
        sent_to: Mapping[str, str] | None = None,
    ) -> None:
        self.log: list[str] | None = [] if keep_log else None
        self.devices = {
            name: Device(index, name, config, self, warm_up_s)
            for index, (name, config) in enumerate(devices.items())
        }
        self._all = list(self.devices.values())
        self._failures = failures
        self._fault_stream = stream(seed, "faults")
        policy = next(iter(devices.values())).policy
        self._stateless = policy in STATELESS or anonymous
        self._containers = policy == "pf"
        self._seed = seed
        self._nodes = Nodes(nodes)
        self._routed = routed and not self._stateless
        self._anonymous = anonymous
        self._central: deque[tuple[Job, float]] | None = deque() if central else None
        self._warm_up_s = warm_up_s
        self._heap: list[tuple[float, int, int, Action]] = []
        self._serial = 0
        self._measures = Measures(0.0, warm_up_s, bin_s=bin_s)
        self._keep_batch = keep_batch
        self._sent_to = sent_to or {}
        self._iterations: dict[str, Iteration] = {}
        self._batch: dict[str, BatchWait] = {}
        self._jobs: dict[str, Job] = {}
        self._owners: dict[str, _Loop] = {}
        self._arrived: dict[str, float] = {}
        self._tenants: dict[str, str] = {}
        self._loops: list[_Loop] = []
        # Jobs and loops at home on each device, and where the search for the least starts.
        self._loads = [0] * len(self._all)
        self._turn = 0
        self._placed = [0] * len(self._all)
        if anonymous:
            self._at_start(SessionOpened(0.0, EVERYBODY, EVERYBODY))
        for spec in loops:
            self._place(_Loop(spec, stream(seed, spec.name)))
        for jobs in batch:
            self._start_stream(jobs, stream(seed, jobs.name))

    def run(self, horizon_s: float) -> Measures:
        """Run until a moment; may be called once."""
        measures = self._measures
        measures.horizon_s = horizon_s
        heap = self._heap
        if measures.bin_s:
            bins = int(horizon_s / measures.bin_s + 1e-9)
            measures.shots_s, measures.calibrating_s = [0.0] * bins, [0.0] * bins
            self.at(measures.bin_s, ARRIVAL, self._count_waiting)
        while heap and heap[0][0] <= horizon_s:
            now_s, _, _, action = heappop(heap)
            action(now_s)
        for device in self._all:
            device.cut(horizon_s)
            measures.devices[device.name] = device.time
            measures.events += device.events
        measures.in_system_s += sum(horizon_s - arrived_s for arrived_s in self._arrived.values())
        for loop in self._loops:
            if loop.ahead is not None:
                measures.wasted_shots += loop.ahead.speculator.report.wasted_shots
        return measures

    # --- what devices say -------------------------------------------------------------------------

    def at(self, at_s: float, priority: int, action: Action) -> None:
        """Call something at a moment."""
        self._serial += 1
        heappush(self._heap, (at_s, priority, self._serial, action))

    def fails(self) -> bool:
        """Whether the slice that ends now fails."""
        return bool(self._failures) and bool(self._fault_stream.random() < self._failures)

    def job(self, job_id: str) -> Job:
        """A job that is on a device."""
        return self._jobs[job_id]

    def slice_starts(self, device: Device, started: StartSlice, now_s: float) -> None:
        """The first slice of a job is its next shot."""
        iteration = self._iterations.get(started.job_id)
        if iteration is not None:
            if iteration.start_s is None:
                iteration.start_s = now_s + started.turn_s
                iteration.device = device.name
                iteration.calibration_age_s = started.calibration_age_s
            measures = self._measures
            measures.oldest_calibration_s = max(measures.oldest_calibration_s, started.calibration_age_s)
            return
        wait = self._batch.get(started.job_id)
        if wait is not None and wait.start_s is None:
            wait.start_s, wait.device = now_s + started.turn_s, device.name

    def slice_ended(self, device: Device, job_id: str, from_s: float, shots_s: float, now_s: float) -> None:
        """Book the shots on whoever had them."""
        wait = self._batch.get(job_id)
        if wait is not None:
            wait.served_s += shots_s
        else:
            self._estimate(job_id, shots_s, now_s)
        measures = self._measures
        session = self._jobs[job_id].session
        tenant = self._tenants.get(session, session)
        measured_s = device.measured(from_s, from_s + shots_s)
        measures.used_s[tenant] = measures.used_s.get(tenant, 0.0) + measured_s
        if measures.bin_s:
            _spread(measures.shots_s, measures.bin_s, from_s, from_s + shots_s)

    def _estimate(self, job_id: str, shots_s: float, now_s: float) -> None:
        """The slices of an iteration give its loop a running estimate, unless they were the last."""
        loop = self._owners.get(job_id)
        if loop is not None and loop.ahead is not None:
            part = shots_s / self._jobs[job_id].device_s
            if part < 1 - 1e-9:
                ahead = loop.ahead
                self.at(now_s + loop.spec.t_back_s, ARRIVAL, lambda at_s: ahead.estimated(at_s, part))

    def calibrated(self, calibration: Calibrated, now_s: float) -> None:
        """Keep it."""
        self._measures.calibrations.append(calibration)
        if self._measures.bin_s:
            _spread(self._measures.calibrating_s, self._measures.bin_s, calibration.start_s, now_s)

    def wasted(self, charge: Charge) -> None:
        """Device time that brought nothing: reruns and dropped speculation."""
        self._measures.wasted_shots += round(charge.qpu_s / BLOCK_S * BLOCK_SHOTS)

    def settled(self, device: Device, now_s: float) -> None:
        """The device's load may have changed."""
        machine = device.machine
        load = machine.waiting + device.away
        if machine.held is not None or machine.calibrating is not None:
            load += 1
        self._loads[device.index] = load
        if self._central and load == 0:
            job, cpu_s = self._central.popleft()
            device.feed(JobSubmitted(now_s, job, cpu_s))

    def job_ended(self, decision: CompleteJob | FailJob, now_s: float) -> None:
        """A job is complete or was given up."""
        job_id = decision.job_id
        self._jobs.pop(job_id)
        self._measures.in_system_s += now_s - self._arrived.pop(job_id)
        wait = self._batch.get(job_id)
        if wait is not None:
            self._batch_ended(job_id, wait, now_s)
            return
        loop = self._owners.pop(job_id)
        iteration = self._iterations[job_id]
        if isinstance(decision, CompleteJob):
            iteration.end_s = now_s
            iteration.calibration_s = decision.calibration_s
        if loop.device is not None and not self._stateless:
            loop.device.away += 1
        self.at(now_s + loop.spec.t_back_s, ARRIVAL, lambda at_s: self._told(at_s, loop, iteration))

    def _batch_ended(self, job_id: str, wait: BatchWait, now_s: float) -> None:
        wait.end_s = now_s
        if not self._keep_batch:
            del self._batch[job_id]
            if wait.arrived_s >= self._warm_up_s:
                tally = self._measures.tally
                tally.done += 1
                tally.wait_s += now_s - wait.arrived_s - wait.device_s
                tally.slowdown += (now_s - wait.arrived_s) / max(1.0, wait.device_s)

    # --- loops ------------------------------------------------------------------------------------

    def _place(self, loop: _Loop) -> None:
        self._loops.append(loop)
        self.at(loop.spec.opens_s, ARRIVAL, lambda now_s: self._open(now_s, loop))

    def _open(self, now_s: float, loop: _Loop) -> None:
        spec = loop.spec
        self._tenants[spec.name] = spec.tenant
        if spec.speculation is not Mode.OFF:
            random = stream(self._seed, f"{spec.name} candidates")
            loop.ahead = RunningAhead(
                spec.speculation,
                spec.hit_rate,
                self._nodes,
                random,
                lambda at_s, action: self.at(at_s, ARRIVAL, action),
            )
        if self._stateless:
            for device in () if self._anonymous else self._all:
                self._open_on(device, now_s, loop)
        else:
            home = self._home(now_s, loop)
            loop.home = loop.device = home
            self._placed[home.index] += 1
            home.away += 1
            if self._routed:
                loop.router = Router(home.name)
            self._open_on(home, now_s, loop)
        loop.told_s = now_s
        self._iterate(now_s, loop)

    def _open_on(self, device: Device, now_s: float, loop: _Loop) -> None:
        spec = loop.spec
        loop.opened.append(device)
        device.feed(
            SessionOpened(
                now_s, spec.name, spec.tenant, spec.weight, spec.max_calibration_age_s, spec.tenant_weight
            )
        )

    def _home(self, now_s: float, loop: _Loop) -> Device:
        if loop.spec.device is not None:
            return self.devices[loop.spec.device]
        candidates = self._all
        least = min(self._placed)
        if self._routed:
            placement = self._ranked(now_s, loop)
            if placement.best is not None:
                # The core ranks by what a loop would lose; loops that compute now are slots that are taken.
                return self.devices[placement.best]
        candidates = [device for device in candidates if self._placed[device.index] == least]
        return min(candidates, key=lambda device: (self._loads[device.index], device.index))

    def _request(self, loop: _Loop) -> Request:
        spec = loop.spec
        return Request(
            spec.name, spec.tenant, len(spec.qubits), max_calibration_age_s=spec.max_calibration_age_s
        )

    def _ranked(self, now_s: float, loop: _Loop) -> Placement:
        """The core's placement; a device has as many slots as there are loops for each, rounded up."""
        slots = 1 + min(self._placed)
        views = [
            replace(
                device_view(device, now_s, loop.spec.qubits, loop.spec.t_net_s),
                slots=slots,
                slots_used=self._placed[device.index],
            )
            for device in self._all
        ]
        return place(self._request(loop), views)

    def _route(self, now_s: float, loop: _Loop) -> Device:
        """Where the next iteration goes: the device of the loop, unless the core sends it elsewhere."""
        device, router, home = loop.device, loop.router, loop.home
        if router is None or device is None or home is None:
            return device or self._least_loaded()
        request = self._request(loop)

        def view(each: Device) -> DeviceView:
            return device_view(each, now_s, loop.spec.qubits, loop.spec.t_net_s)

        route = None
        if device is home:
            # At home the other devices matter only if the iteration cannot run here at once.
            route = router.route(now_s, request, [view(home)])
        if route is None or route.reason != "own device":
            route = router.route(now_s, request, [view(each) for each in self._all])
        return device if route.device is None else self.devices[route.device]

    def _iterate(self, ready_s: float, loop: _Loop) -> None:
        """The classical side has the next parameters."""
        spec = loop.spec
        job = spec.job(loop.evaluation, loop.random)
        if self._anonymous:
            job = replace(job, session=EVERYBODY, kind=JobKind.BATCH)
        iteration = self._iterations[job.id] = Iteration(
            spec.name, loop.evaluation, ready_s, cpu_s=ready_s - loop.told_s, ahead=loop.came_ahead
        )
        self._measures.iterations.append(iteration)
        self._owners[job.id] = loop
        loop.evaluation += 1
        loop.step_s = spec.t_cpu(loop.random)
        cpu_s = loop.cpu_s
        self.at(ready_s + spec.t_net_s, ARRIVAL, lambda at_s: self._arrive(at_s, loop, job, cpu_s))

    def _arrive(self, now_s: float, loop: _Loop, job: Job, cpu_s: float) -> None:
        device = loop.device
        if self._stateless:
            if self._central is not None:
                self._submit_centrally(now_s, job, cpu_s)
                device = None
            else:
                device = self._dispatched(job)
        else:
            assert device is not None
            away = device
            device = self._route(now_s, loop)
            away.away -= 1
            if device is not away:
                self._measures.moves += 1
                loop.device = device
                if device not in loop.opened:
                    self._open_on(device, now_s, loop)
        if device is not None and self._containers:
            self._nodes.acquire(now_s, lambda at_s: self._start_container(at_s, device, job, cpu_s))
        elif device is not None:
            self._submit(device, now_s, job, cpu_s)
        if loop.ahead is not None:
            loop.ahead.submitted(now_s, loop.evaluation - 1, loop.step_s)

    def _start_container(self, now_s: float, device: Device, job: Job, cpu_s: float) -> None:
        """A function's container has a node while it starts; for how long is the policy's word."""
        self._submit(device, now_s, job, cpu_s)
        started_s = device.machine.jobs[job.id].ready_s
        self.at(max(now_s, started_s), ARRIVAL, self._nodes.release)

    def _told(self, now_s: float, loop: _Loop, iteration: Iteration) -> None:
        """The classical side has a result, or hears that there will be none."""
        spec = loop.spec
        loop.told_s = now_s
        if iteration.end_s is not None:
            iteration.told_s = now_s
        if spec.iterations is not None and loop.evaluation >= spec.iterations:
            self._close(now_s, loop)
            return
        step_s = loop.step_s
        loop.cpu_s = step_s
        used = self._measures.cpu_used_s
        if now_s >= self._warm_up_s:
            used[spec.tenant] = used.get(spec.tenant, 0.0) + step_s
        self._measures.steps += 1
        if loop.ahead is not None:
            loop.ahead.told(now_s, lambda at_s, ahead: self._ready(at_s, loop, ahead=ahead))
            return

        def start(from_s: float) -> None:
            self.at(from_s + step_s, ARRIVAL, end)

        def end(at_s: float) -> None:
            self._nodes.release(at_s)
            self._ready(at_s, loop, ahead=False)

        self._nodes.acquire(now_s, start)

    def _ready(self, now_s: float, loop: _Loop, *, ahead: bool) -> None:
        self._measures.hits += ahead
        loop.came_ahead = ahead
        self._iterate(now_s, loop)

    def _close(self, now_s: float, loop: _Loop) -> None:
        self._measures.closed_s[loop.spec.name] = now_s
        if loop.ahead is not None:
            loop.ahead.ended(now_s)
        if loop.device is not None and not self._stateless:
            loop.device.away -= 1
            assert loop.home is not None
            self._placed[loop.home.index] -= 1
        for device in loop.opened:
            device.feed(SessionClosed(now_s, loop.spec.name))

    # --- batch jobs -------------------------------------------------------------------------------

    def _at_start(self, opened: SessionOpened) -> None:
        self._tenants[opened.session] = opened.tenant

        def begin(_now_s: float) -> None:
            for device in self._all:
                device.feed(opened)

        self.at(0.0, ARRIVAL, begin)

    def _start_stream(self, spec: BatchStream, random: np.random.Generator) -> None:
        number = 0
        if not self._anonymous:
            self._at_start(
                SessionOpened(0.0, spec.name, spec.tenant, spec.weight, tenant_weight=spec.tenant_weight)
            )

        def begin(now_s: float) -> None:
            for _ in range(spec.at_once):
                submit(now_s)
            self.at(now_s + spec.gap(random, now_s), ARRIVAL, arrive)

        def submit(now_s: float) -> None:
            nonlocal number
            job = spec.job(number, random)
            number += 1
            wait = BatchWait(spec.name, now_s, job.device_s, job=job.id)
            self._batch[job.id] = wait
            if self._keep_batch:
                self._measures.batch.append(wait)
            elif now_s >= self._warm_up_s:
                self._measures.tally.jobs += 1
            if self._anonymous:
                job = replace(job, session=EVERYBODY)
            if self._central is not None:
                self._submit_centrally(now_s, job, 0.0)
            else:
                self._submit(self._dispatched(job), now_s, job, 0.0)

        def arrive(now_s: float) -> None:
            self.at(now_s + spec.gap(random, now_s), ARRIVAL, arrive)
            submit(now_s)

        self.at(0.0, ARRIVAL, begin)

    def _submit(self, device: Device, now_s: float, job: Job, cpu_s: float) -> None:
        self._jobs[job.id] = job
        self._arrived[job.id] = now_s
        self._measures.arrivals += 1
        device.feed(JobSubmitted(now_s, job, cpu_s))

    def _submit_centrally(self, now_s: float, job: Job, cpu_s: float) -> None:
        """To a free device, or into the one line before all of them."""
        assert self._central is not None
        self._jobs[job.id] = job
        self._arrived[job.id] = now_s
        self._measures.arrivals += 1
        device = self._least_loaded()
        if self._loads[device.index] == 0:
            device.feed(JobSubmitted(now_s, job, cpu_s))
        else:
            self._central.append((job, cpu_s))

    def _dispatched(self, job: Job) -> Device:
        """Where a job without a home goes: to the least loaded device, unless a record says where it went."""
        name = self._sent_to.get(job.id)
        return self._least_loaded() if name is None else self.devices[name]

    def _least_loaded(self) -> Device:
        """The device with the fewest jobs; where several have as few, they take turns."""
        loads = self._loads
        least = min(loads)
        try:
            index = loads.index(least, self._turn)
        except ValueError:
            index = loads.index(least)
        self._turn = (index + 1) % len(loads)
        return self._all[index]

    def _count_waiting(self, now_s: float) -> None:
        waiting = sum(device.machine.waiting for device in self._all)
        if self._central is not None:
            waiting += len(self._central)
        self._measures.waiting.append(waiting)
        self.at(now_s + self._measures.bin_s, ARRIVAL, self._count_waiting)


def _spread(bins: list[float], bin_s: float, from_s: float, to_s: float) -> None:
    """Add a time to the intervals that it touches."""
    number = int(from_s / bin_s)
    while from_s < to_s and number < len(bins):
        end_s = min(to_s, (number + 1) * bin_s)
        bins[number] += end_s - from_s
        from_s = end_s
        number += 1
