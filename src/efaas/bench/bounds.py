"""Two limits that no policy passes, from the same random streams as the runs they stand beside.

*Zero wait*: each iteration starts when it has arrived, on a device of its own. Least TTNS, fastest loop.

*Work-conserving*: a pooled station of k servers (M/G/k) that never idles while work waits, without
calibration and without cost of turning. Loops ask as fast as they could without waiting, which no policy can
make them do, so its duty cycle is the most that these arrivals allow.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush

from efaas.simulator.measures import BatchWait, Iteration
from efaas.simulator.workload import BatchStream, LoopSession, stream


def zero_wait(loops: Iterable[LoopSession], seed: int, horizon_s: float) -> list[Iteration]:
    """Iterations of loops that never wait; device times and classical times are those of all arms."""
    found = []
    for spec in loops:
        random = stream(seed, spec.name)
        ready_s, told_s, evaluation = spec.opens_s, spec.opens_s, 0
        while ready_s < horizon_s and (spec.iterations is None or evaluation < spec.iterations):
            job = spec.job(evaluation, random)
            iteration = Iteration(spec.name, evaluation, ready_s, cpu_s=ready_s - told_s)
            start_s = ready_s + spec.t_net_s
            end_s = start_s + job.device_s
            told_s = end_s + spec.t_back_s
            iteration.start_s = start_s if start_s <= horizon_s else None
            iteration.end_s = end_s if end_s <= horizon_s else None
            iteration.told_s = told_s if told_s <= horizon_s else None
            iteration.calibration_age_s, iteration.calibration_s = 0.0, 0.0
            iteration.device = "alone"
            found.append(iteration)
            ready_s = told_s + spec.t_cpu(random)
            evaluation += 1
    return found


def background_jobs(streams: Iterable[BatchStream], seed: int, horizon_s: float) -> list[BatchWait]:
    """Arrivals of background jobs, as every arm meets them."""
    found = []
    for spec in streams:
        random = stream(seed, spec.name)
        number, now_s = 0, spec.gap(random, 0.0)
        while now_s <= horizon_s:
            # The order of draws is the simulator's: the gap to the next job, then this job.
            gap_s = spec.gap(random, now_s)
            job = spec.job(number, random)
            found.append(BatchWait(spec.name, now_s, job.device_s, job=job.id))
            now_s += gap_s
            number += 1
    return sorted(found, key=lambda wait: (wait.arrived_s, wait.job))


def work_conserving(
    jobs: list[BatchWait], iterations: list[Iteration], servers: int, warm_up_s: float, horizon_s: float
) -> float:
    """Duty cycle of a pooled station, first come first served, after the warm-up; jobs get their moments."""
    arrivals: list[tuple[float, float, BatchWait | None]] = [
        (wait.arrived_s, wait.device_s, wait) for wait in jobs
    ]
    arrivals += [
        (iteration.start_s, iteration.end_s - iteration.start_s, None)
        for iteration in iterations
        if iteration.start_s is not None and iteration.end_s is not None
    ]
    arrivals.sort(key=lambda arrival: arrival[:2])
    free = [0.0] * servers
    heapify(free)
    busy_s = 0.0
    for arrived_s, device_s, wait in arrivals:
        start_s = max(arrived_s, heappop(free))
        end_s = start_s + device_s
        heappush(free, end_s)
        busy_s += max(0.0, min(end_s, horizon_s) - max(start_s, warm_up_s))
        if wait is not None and start_s <= horizon_s:
            wait.start_s = start_s
            wait.served_s = min(end_s, horizon_s) - start_s
            wait.end_s = end_s if end_s <= horizon_s else None
    return busy_s / (servers * (horizon_s - warm_up_s))
