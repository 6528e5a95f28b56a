"""Plays a trace to real QPU servers: sessions with real optimizers, background jobs, all over real streams.

Where a job goes is decided as in the simulator: a loop under a policy that knows sessions stays on its
device, everything else goes to the device with the fewest jobs, loops at home there counted.
"""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from efaas.bench.energies_problems import BenchProblem
from efaas.bench.live_trace import DEVICES, SLICE_COST_S, T_NET_S, Arrival, RecordedSession, Trace
from efaas.client import QpuConnection, SessionIdentity
from efaas.client.connection import QpuJob
from efaas.core.qpu.messages import JobKind
from efaas.errors import EfaasError
from efaas.optimizers.base import Tell
from efaas.simulator.host import STATELESS


@dataclass(frozen=True, slots=True)
class LiveIteration:
    """One iteration as it went, device seconds of the trace."""

    session: str
    evaluation: int
    device: str
    job_id: str
    ready_s: float
    sent_s: float
    """When it was submitted."""
    told_s: float
    """When the result was there."""
    ttns_s: float
    """Network, queue and the turn of the device to the job."""
    network_s: float
    """The part of it that the real network took."""
    execution_s: float
    value: float
    """Mean of the energies measured."""
    late: bool
    """Whether the simulation took longer than the device time it stands for."""


class _Loads:
    """Jobs and loops at home on each device."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(DEVICES, 0)
        self._turn = 0

    def add(self, device: str, jobs: int) -> None:
        with self._lock:
            self._counts[device] += jobs

    def take_least(self) -> str:
        """The device with the fewest jobs, in turn where several have as few; it has one more now."""
        with self._lock:
            order = [DEVICES[(self._turn + step) % len(DEVICES)] for step in range(len(DEVICES))]
            device = min(order, key=lambda name: self._counts[name])
            self._turn = (DEVICES.index(device) + 1) % len(DEVICES)
            self._counts[device] += 1
            return device


class LivePlay:
    """One trace on one set of servers.

    Args:
        trace: the record.
        policy: of the servers.
        endpoints: of the servers by device.
        problem: what the sessions optimise.
        time_scale: wall seconds of a device second.
    """

    def __init__(
        self,
        trace: Trace,
        policy: str,
        endpoints: Mapping[str, str],
        problem: BenchProblem,
        time_scale: float,
    ) -> None:
        self._trace, self._policy, self._endpoints = trace, policy, endpoints
        self._problem, self._scale = problem, time_scale
        self._stateless = policy in STATELESS
        self._loads = _Loads()
        self._begun = 0.0
        self._done = threading.Event()
        # All connections are up and everything is registered before the clock starts.
        self._ready = threading.Barrier(len(trace.sessions) + 1, self._start_clock, 60.0)
        self._iterations: list[LiveIteration] = []
        self._arrivals: list[Arrival] = []
        self._errors: list[BaseException] = []

    def run(self) -> list[LiveIteration]:
        """Play it to the end of the last session.

        Raises:
            EfaasError: a job failed, or a server is gone.
        """
        loops = [
            threading.Thread(target=self._guarded, args=(self._loop, number, session), daemon=True)
            for number, session in enumerate(self._trace.sessions)
        ]
        background = threading.Thread(target=self._guarded, args=(self._background,), daemon=True)
        for thread in (*loops, background):
            thread.start()
        for thread in loops:
            thread.join()
        self._done.set()
        background.join()
        if self._errors:
            raise self._errors[0]
        return sorted(self._iterations, key=lambda one: (one.session, one.evaluation))

    def as_played(self, iterations: Sequence[LiveIteration]) -> Trace:
        """The trace as it was played: actual arrivals at each device, classical and service times, network.

        Sleeps end late and simulations stretch device time a little, more on a busy machine; these are what
        happened to the users and the device, not what a policy decided, so the model is given them. The
        device to which a stateless job is sent is the client's choice as well: two jobs that end within
        milliseconds of an arrival decide it, and with one other choice all later waits are other ones.
        """
        sessions = []
        for session in self._trace.sessions:
            mine = [one for one in iterations if one.session == session.name]
            steps = [after.ready_s - before.told_s for before, after in itertools.pairwise(mine)]
            back_s = sum(one.network_s for one in mine) / len(mine)
            sessions.append(
                replace(
                    session,
                    opens_s=mine[0].ready_s,
                    steps_s=(*steps, 0.0),
                    devices=tuple(one.device for one in mine),
                    services_s=tuple(one.execution_s for one in mine),
                    t_net_s=sum(one.sent_s - one.ready_s for one in mine) / len(mine) + back_s,
                    t_back_s=back_s,
                )
            )
        rest = self._trace.background[len(self._arrivals) :]
        return replace(self._trace, background=(*self._arrivals, *rest), sessions=tuple(sessions))

    def _guarded(self, work: Callable[..., None], *arguments: object) -> None:
        try:
            work(*arguments)
        except threading.BrokenBarrierError:
            pass
        except BaseException as error:
            self._errors.append(error)
            self._ready.abort()

    def _start_clock(self) -> None:
        self._begun = time.perf_counter()

    def _until(self, at_s: float) -> float:
        """Sleep to a moment of the trace; returns the device time then."""
        while True:
            left_s = at_s * self._scale - (time.perf_counter() - self._begun)
            if left_s <= 0:
                return (time.perf_counter() - self._begun) / self._scale
            time.sleep(left_s)

    def _connect(self, device: str, session: str, seed: int) -> tuple[QpuConnection, str, str]:
        connection = QpuConnection(self._endpoints[device], SessionIdentity(session, seed=seed))
        circuit = connection.register_circuit(self._problem.circuit.program)
        return connection, circuit.handle, connection.register_observable(self._problem.circuit.terms)

    def _loop(self, number: int, session: RecordedSession) -> None:
        optimizer = self._problem.optimizer(number)
        home = DEVICES[number % len(DEVICES)]
        where = {
            device: self._connect(device, session.name, number)
            for device in (DEVICES if self._stateless else (home,))
        }
        try:
            self._ready.wait()
            ready_s = self._until(session.opens_s)
            if not self._stateless:
                self._loads.add(home, 1)
            cpu_s = 0.0
            for evaluation, shots in enumerate(session.shots):
                asked = optimizer.ask()
                self._until(ready_s + T_NET_S)
                device = self._loads.take_least() if self._stateless else home
                connection, circuit, observable = where[device]
                submitted = time.perf_counter()
                job = connection.submit(
                    circuit,
                    asked.points,
                    shots,
                    evaluation=evaluation,
                    observables=[observable],
                    readout_mitigation=True,
                    cpu_s=cpu_s,
                )
                result = job.result()
                told = time.perf_counter()
                if self._stateless:
                    self._loads.add(device, -1)
                timing = result.timing
                waited_s = timing.network_s + timing.wall_queue_s
                sent_s = (submitted - self._begun) / self._scale
                told_s = (told - self._begun) / self._scale
                self._iterations.append(
                    LiveIteration(
                        session.name,
                        evaluation,
                        device,
                        job.id,
                        ready_s,
                        sent_s,
                        told_s,
                        sent_s - ready_s + waited_s / self._scale + SLICE_COST_S,
                        timing.network_s / self._scale,
                        timing.execution_s,
                        float(result.values[:, 0].mean()),
                        timing.late,
                    )
                )
                optimizer.tell(Tell(result.values[:, 0], result.std_errors[:, 0]))
                connection.acknowledge(job.id)
                # The optimizer's own time is part of the recorded classical step.
                cpu_s = session.steps_s[evaluation]
                if evaluation + 1 < len(session.shots):
                    ready_s = max(told_s + cpu_s, self._until(told_s + cpu_s))
        finally:
            if not self._stateless:
                self._loads.add(home, -1)
            for connection, _, _ in where.values():
                connection.close()

    def _background(self) -> None:
        point = self._problem.initial(0)
        where = {device: self._connect(device, "background/jobs", 1) for device in DEVICES}
        jobs: set[QpuJob] = set()
        played: dict[QpuJob, int] = {}
        try:
            self._ready.wait()
            for number, arrival in enumerate(self._trace.background):
                if self._done.wait(
                    max(0.0, arrival.at_s * self._scale - (time.perf_counter() - self._begun))
                ):
                    break
                device = self._loads.take_least()
                connection, circuit, observable = where[device]
                sent_s = (time.perf_counter() - self._begun) / self._scale
                job = connection.submit(
                    circuit,
                    point[np.newaxis, :],
                    arrival.shots,
                    evaluation=1_000_000 * self._trace.number + number,
                    observables=[observable],
                    kind=JobKind.BATCH,
                )
                jobs.add(job)
                played[job] = len(self._arrivals)
                self._arrivals.append(replace(arrival, at_s=sent_s, device=device))
                job.add_done_callback(functools.partial(self._ended, device, jobs))
            for job in tuple(jobs):
                job.cancel()
            for job, place in played.items():
                # What was cut short would have taken what its shots take.
                self._arrivals[place] = replace(self._arrivals[place], service_s=_service_s(job))
        finally:
            for connection, _, _ in where.values():
                connection.close()

    def _ended(self, device: str, jobs: set[QpuJob], job: Any) -> None:
        jobs.discard(job)
        self._loads.add(device, -1)


def _service_s(job: QpuJob) -> float | None:
    """Device time that a job had, when it has ended; None if it was cancelled, which is no fault."""
    try:
        return job.result(60).timing.execution_s
    except (EfaasError, TimeoutError):
        return None
