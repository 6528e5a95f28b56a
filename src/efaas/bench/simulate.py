"""One run: a scenario under an arm with a seed, as rows of the tables in `records`."""

from __future__ import annotations

import gc
import math
from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from efaas.bench.arms import ARMS, Arm
from efaas.bench.bounds import background_jobs, work_conserving, zero_wait
from efaas.bench.records import BOUNDS, Rows
from efaas.bench.scenario import Scenario, background, devices, loops
from efaas.core.qpu import QpuConfig
from efaas.simulator import Measures, Simulator, percentile
from efaas.simulator.measures import BatchWait, Iteration
from efaas.simulator.workload import LoopSession


def simulate(
    experiment: str, cell: str, scenario: Scenario, policy: str, seed: int, *, detail: bool = True
) -> dict[str, Rows]:
    """Rows of one run by table.

    Args:
        experiment: its name.
        cell: what of the scenario varies in the experiment.
        scenario: settings.
        policy: an arm, or a bound.
        seed: of arrivals and service times.
        detail: whether there are other tables than `runs`.
    """
    name = f"{experiment}/{cell}/{policy}/{seed}"
    if policy in BOUNDS:
        rows = _bound(scenario, policy, seed)
    else:
        rows = _simulated(scenario, ARMS[policy], seed, detail=detail)
    rows["runs"][0] |= {
        "experiment": experiment,
        "cell": cell,
        "policy": policy,
        "seed": seed,
        "qpus": scenario.qpus,
        "sessions": scenario.sessions,
        "iterations": scenario.iterations,
        "load": scenario.load,
        "arrivals": scenario.arrivals,
        "t_cpu_s": scenario.t_cpu_s,
        "t_qpu_s": scenario.t_qpu_s,
        "t_net_s": scenario.t_net_s,
        "calibrated": scenario.calibrated,
        "t_calib_s": scenario.t_calib_s,
        "warm_up_s": scenario.warm_up_s,
        "horizon_s": scenario.horizon_s,
    }
    for table in rows.values():
        for row in table:
            row["run"] = name
    return rows if detail else {"runs": rows["runs"]}


def _simulated(scenario: Scenario, arm: Arm, seed: int, *, detail: bool) -> dict[str, Rows]:
    configs = devices(scenario, arm, seed)
    specs = loops(scenario, arm, seed)
    streams = background(scenario, seed)
    simulator = Simulator(
        configs,
        loops=specs,
        batch=streams,
        seed=seed,
        nodes=scenario.nodes,
        routed=arm.routed,
        warm_up_s=scenario.warm_up_s,
        bin_s=scenario.bin_s if detail else 0.0,
        keep_batch=scenario.keep_batch,
    )
    # Nothing in a simulation is dropped in cycles; looking for them would take a third of its time.
    gc.disable()
    try:
        measures = simulator.run(scenario.horizon_s)
    finally:
        gc.enable()
    config = next(iter(configs.values()))
    tenants = {spec.name: spec.tenant for spec in specs}
    weights = dict.fromkeys([*tenants.values(), *(jobs.tenant for jobs in streams)], 1.0)
    row = {
        **_ttns(measures.iterations, scenario.horizon_s),
        **_loops(measures.iterations, specs, measures.closed_s),
        **_devices(measures),
        **_drift(measures.iterations, config, measures),
        **_background(measures),
        "tau_s": config.tau_s,
        "alpha": config.alpha,
        "beta": config.beta,
        "gamma": config.gamma,
        "jain": _jain(measures, scenario, weights),
        "wasted_shots": measures.wasted_shots,
        "speculation_hits": measures.hits / measures.steps if measures.steps else 0.0,
        "moves": measures.moves,
        "events": measures.events,
        "little_gap": _little(measures),
        "conservation_gap_s": max(
            abs(scenario.horizon_s - device.held_s(scenario.horizon_s) - device.time.idle_s)
            for device in simulator.devices.values()
        ),
    }
    if not detail:
        return {"runs": [row]}
    return {
        "runs": [row],
        "sessions": _sessions(measures.iterations, specs, measures.closed_s, scenario.horizon_s),
        "iterations": _iterations(measures.iterations, config.tau_s, calibrated=scenario.calibrated),
        "batch": _batch(measures.batch),
        "calibrations": [
            {
                "device": each.device,
                "start_s": each.start_s,
                "end_s": each.end_s,
                "scope": each.scope,
                "qubits": each.qubits,
                "caused_by": each.caused_by,
            }
            for each in measures.calibrations
        ],
        "timeline": _timeline(measures, scenario),
    }


def _bound(scenario: Scenario, policy: str, seed: int) -> dict[str, Rows]:
    arm = ARMS["efaas"]
    specs = loops(scenario, arm, seed)
    iterations = zero_wait(specs, seed, scenario.horizon_s)
    jobs = background_jobs(background(scenario, seed), seed, scenario.horizon_s)
    qdc = work_conserving(jobs, iterations, scenario.qpus, scenario.warm_up_s, scenario.horizon_s)
    row: dict[str, Any] = {"qdc": qdc, "tau_s": scenario.tau_s}
    if policy == "bound-work-conserving":
        measures = Measures(scenario.horizon_s, scenario.warm_up_s, batch=jobs)
        return {"runs": [row | _background(measures)]}
    closed = {each.session: each.told_s for each in iterations if each.evaluation + 1 == scenario.iterations}
    done = {name: told_s for name, told_s in closed.items() if told_s is not None}
    row = {
        "tau_s": scenario.tau_s,
        "ran_stale": 0,
        "oldest_calibration_s": 0.0,
        **_ttns(iterations, scenario.horizon_s),
        **_loops(iterations, specs, done),
    }
    return {
        "runs": [row],
        "sessions": _sessions(iterations, specs, done, scenario.horizon_s),
        "iterations": _iterations(iterations, scenario.tau_s, calibrated=scenario.calibrated),
    }


# --- measures -------------------------------------------------------------------------------------------


def waited_s(iteration: Iteration, horizon_s: float) -> float:
    """Time to next shot; of an iteration that has not started, the wait that it has had."""
    return (horizon_s if iteration.start_s is None else iteration.start_s) - iteration.ready_s


def _ttns(iterations: list[Iteration], horizon_s: float) -> dict[str, Any]:
    waits = [waited_s(each, horizon_s) for each in iterations]
    first = [waited_s(each, horizon_s) for each in iterations if each.evaluation == 0]
    later = [waited_s(each, horizon_s) for each in iterations if each.evaluation > 0]
    return {
        "ttns_mean_s": _mean(waits),
        "ttns_p50_s": _percentile(waits, 0.50),
        "ttns_p95_s": _percentile(waits, 0.95),
        "ttns_p99_s": _percentile(waits, 0.99),
        "ttns_first_s": _mean(first),
        "ttns_later_s": _mean(later),
    }


def _loops(
    iterations: list[Iteration], specs: list[LoopSession], closed_s: Mapping[str, float]
) -> dict[str, Any]:
    # A whole iteration lasts until the next parameters are ready.
    by_session: dict[str, list[Iteration]] = defaultdict(list)
    for each in iterations:
        by_session[each.session].append(each)
    whole = [
        after.ready_s - before.ready_s for each in by_session.values() for before, after in pairwise(each)
    ]
    spans = [closed_s[spec.name] - spec.opens_s for spec in specs if spec.name in closed_s]
    return {
        "iteration_mean_s": _mean(whole),
        "makespan_mean_s": _mean(spans),
        "iterations_done": sum(each.end_s is not None for each in iterations),
        "sessions_done": len(spans),
    }


def _devices(measures: Measures) -> dict[str, Any]:
    times = list(measures.devices.values())
    return {
        "qdc": measures.duty_cycle,
        "turning_share": sum(each.turning_s for each in times) / measures.measured_s,
        "calibrating_share": sum(each.calibrating_s for each in times) / measures.measured_s,
        "reserved_share": measures.reserved_share,
    }


def _drift(iterations: list[Iteration], config: QpuConfig, measures: Measures) -> dict[str, Any]:
    drifting = not config.calibration.frozen
    return {
        "ran_stale": sum(_stale(each, config.tau_s) for each in iterations) if drifting else 0,
        "waited_for_calibration": sum(bool(each.calibration_s) for each in iterations),
        "calibration_wait_s": sum(each.calibration_s or 0.0 for each in iterations),
        "oldest_calibration_s": measures.oldest_calibration_s if drifting else 0.0,
    }


def _stale(iteration: Iteration, tau_s: float) -> bool:
    return iteration.calibration_age_s is not None and iteration.calibration_age_s > tau_s


def _background(measures: Measures) -> dict[str, Any]:
    tally = measures.tally
    if tally.jobs:
        return {
            "background_jobs": tally.jobs,
            "background_done": tally.done,
            "background_wait_s": tally.wait_s / tally.done if tally.done else None,
            "background_slowdown": tally.slowdown / tally.done if tally.done else None,
        }
    jobs = [wait for wait in measures.batch if wait.arrived_s >= measures.warm_up_s]
    inside = [_inside_s(wait, measures.horizon_s) for wait in jobs]
    waits = [max(0.0, span - wait.served_s) for wait, span in zip(jobs, inside, strict=True)]
    return {
        "background_jobs": len(jobs),
        "background_done": sum(wait.end_s is not None for wait in jobs),
        "background_wait_s": _mean(waits),
        "background_wait_p95_s": _percentile(waits, 0.95),
        "background_slowdown": _mean(
            [span / max(1.0, wait.device_s) for wait, span in zip(jobs, inside, strict=True)]
        ),
    }


def _inside_s(wait: BatchWait, horizon_s: float) -> float:
    return (horizon_s if wait.end_s is None else wait.end_s) - wait.arrived_s


def _jain(measures: Measures, scenario: Scenario, weights: Mapping[str, float]) -> float | None:
    span_s = scenario.horizon_s - scenario.warm_up_s
    shares = []
    for tenant, weight in weights.items():
        cpu = measures.cpu_used_s.get(tenant, 0.0) / (scenario.nodes * span_s)
        qpu = measures.used_s.get(tenant, 0.0) / (scenario.qpus * span_s)
        shares.append(max(cpu, qpu) / weight)
    squares = sum(share**2 for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else None


def _little(measures: Measures) -> float:
    by_machines = sum(device.present_s for device in measures.devices.values())
    return abs(by_machines - measures.in_system_s) / by_machines if by_machines else 0.0


def _mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _percentile(values: list[float], part: float) -> float | None:
    return percentile(values, part) if values else None


# --- rows -----------------------------------------------------------------------------------------------


def _sessions(
    iterations: list[Iteration], specs: list[LoopSession], closed_s: Mapping[str, float], horizon_s: float
) -> Rows:
    by_session: dict[str, list[Iteration]] = defaultdict(list)
    for each in iterations:
        by_session[each.session].append(each)
    rows = []
    for spec in specs:
        own = by_session[spec.name]
        ttns = _ttns(own, horizon_s)
        del ttns["ttns_later_s"]
        rows.append(
            {
                "session": spec.name,
                "tenant": spec.tenant,
                "circuit": spec.circuit,
                "qubits": len(spec.qubits),
                "opens_s": spec.opens_s,
                "closed_s": closed_s.get(spec.name),
                "iterations_done": sum(each.end_s is not None for each in own),
                "qpu_s": sum(
                    each.end_s - each.start_s
                    for each in own
                    if each.end_s is not None and each.start_s is not None
                ),
                **ttns,
            }
        )
    return rows


def _iterations(iterations: list[Iteration], tau_s: float, *, calibrated: bool) -> Rows:
    return [
        {
            "session": each.session,
            "evaluation": each.evaluation,
            "device": each.device or None,
            "ready_s": each.ready_s,
            "start_s": each.start_s,
            "end_s": each.end_s,
            "told_s": each.told_s,
            "calibration_s": each.calibration_s,
            "calibration_age_s": each.calibration_age_s,
            "stale": calibrated and _stale(each, tau_s),
            "cpu_s": each.cpu_s,
            "ahead": each.ahead,
        }
        for each in iterations
    ]


def _batch(batch: list[BatchWait]) -> Rows:
    return [
        {
            "job": wait.job,
            "tenant": wait.session.partition("/")[0],
            "device": wait.device or None,
            "arrived_s": wait.arrived_s,
            "device_s": wait.device_s,
            "served_s": wait.served_s,
            "start_s": wait.start_s,
            "end_s": wait.end_s,
        }
        for wait in batch
    ]


def _timeline(measures: Measures, scenario: Scenario) -> Rows:
    all_s = scenario.qpus * measures.bin_s
    return [
        {
            "at_s": (number + 1) * measures.bin_s,
            "qdc": shots_s / all_s,
            "calibrating_share": calibrating_s / all_s,
            "waiting": waiting,
        }
        for number, (shots_s, calibrating_s, waiting) in enumerate(
            zip(measures.shots_s, measures.calibrating_s, measures.waiting, strict=False)
        )
    ]
