"""A result folder as the simulations would write it, with made-up waits: small, quick, and known in
advance."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from efaas.bench import records

WAITS_S = {
    "efaas": 0.1,
    "efaas-exact": 0.1,
    "efaas-tolerant": 0.1,
    "sbq": 18.0,
    "pf": 23.0,
    "pq": 2.0,
    "sr": 0.06,
    "session-fifo": 0.07,
    "bound-zero-wait": 0.05,
}
"""Mean wait of an iteration by policy."""
QDC = {"efaas": 0.97, "sr": 0.57, "session-fifo": 0.56}


def write_experiment(
    out: Path,
    experiment: str,
    cells: Iterable[str],
    *,
    policies: Iterable[str] = tuple(WAITS_S),
    seeds: int = 2,
    sessions: int = 2,
    iterations: int = 4,
    calibrated: bool = False,
    **settings: Any,
) -> None:
    """Write all tables of one experiment."""
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in records.TABLES}
    for cell in cells:
        for policy in policies:
            for seed in range(seeds):
                _run(tables, experiment, cell, policy, seed, sessions, iterations, calibrated, settings)
    for name, rows in tables.items():
        records.write(out / "data" / experiment / f"{name}.parquet", records.TABLES[name], rows)


def _run(
    tables: dict[str, list[dict[str, Any]]],
    experiment: str,
    cell: str,
    policy: str,
    seed: int,
    sessions: int,
    iterations: int,
    calibrated: bool,
    settings: dict[str, Any],
) -> None:
    run = f"{experiment}/{cell}/{policy}/{seed}"
    random = np.random.default_rng(seed)
    wait_s = WAITS_S.get(policy, 0.2)
    waits: list[float] = []
    for number in range(sessions):
        name = f"loop-{number}"
        at_s, mine = 10.0 * number, []
        for evaluation in range(iterations):
            wait = float(random.exponential(wait_s)) + 0.05
            mine.append(wait)
            start_s = at_s + wait
            end_s = start_s + 2.0
            tables["iterations"].append(
                {
                    "run": run,
                    "session": name,
                    "evaluation": evaluation,
                    "device": f"qpu-{number % 3}",
                    "ready_s": at_s,
                    "start_s": start_s,
                    "end_s": end_s,
                    "told_s": end_s + 0.05,
                    "calibration_s": 0.0,
                    "calibration_age_s": start_s if calibrated else None,
                    "stale": calibrated and start_s > 300,
                    "cpu_s": 1.5,
                    "ahead": policy in records.SPECULATION and evaluation > 0,
                }
            )
            at_s = end_s + 0.05 + 1.5
        waits += mine
        tables["sessions"].append(
            {
                "run": run,
                "session": name,
                "tenant": f"team-{number}",
                "circuit": "RealAmplitudes-4",
                "qubits": 4,
                "opens_s": 10.0 * number,
                "closed_s": at_s,
                "iterations_done": iterations,
                "ttns_mean_s": float(np.mean(mine)),
                "ttns_first_s": mine[0],
                "qpu_s": 2.0 * iterations,
            }
        )
    for job in range(10):
        arrived = 30.0 * job
        start = arrived + float(random.exponential(20 if policy == "efaas" else 60))
        tables["batch"].append(
            {
                "run": run,
                "job": f"job-{job}",
                "tenant": "batch",
                "device": "qpu-0",
                "arrived_s": arrived,
                "device_s": 5.0,
                "served_s": 5.0,
                "start_s": start,
                "end_s": start + 5.0,
            }
        )
    for interval in range(6):
        tables["timeline"].append(
            {
                "run": run,
                "at_s": 100.0 * (interval + 1),
                "qdc": QDC.get(policy, 0.9) + 0.02 * float(random.standard_normal()),
                "calibrating_share": 0.0,
                "waiting": int(random.integers(0, 9)),
            }
        )
    tables["runs"].append(
        {
            "run": run,
            "experiment": experiment,
            "cell": cell,
            "policy": policy,
            "seed": seed,
            "qpus": 3,
            "sessions": sessions,
            "iterations": iterations,
            "load": 0.9,
            "arrivals": "poisson",
            "t_cpu_s": 1.5,
            "t_qpu_s": 2.0,
            "t_net_s": 0.05,
            "calibrated": calibrated,
            "tau_s": 300.0,
            "t_calib_s": 30.0,
            "alpha": 100.0,
            "beta": 5.0,
            "gamma": 1.0,
            "warm_up_s": 0.0,
            "horizon_s": 600.0,
            "ttns_mean_s": float(np.mean(waits)),
            "ttns_p50_s": float(np.median(waits)),
            "ttns_p95_s": float(np.quantile(waits, 0.95)),
            "ttns_p99_s": float(np.quantile(waits, 0.99)),
            "iteration_mean_s": float(np.mean(waits)) + 3.55,
            "ttns_first_s": float(waits[0]),
            "ttns_later_s": float(np.mean(waits[1:])),
            "iterations_done": sessions * iterations,
            "qdc": QDC.get(policy, 0.9) + 0.01 * float(random.standard_normal()),
            "turning_share": 0.01,
            "calibrating_share": 0.05 if calibrated else 0.0,
            "ran_stale": 0 if policy != "sr" else 3,
            "waited_for_calibration": 2 if calibrated else 0,
            "calibration_wait_s": 10.0 if calibrated else 0.0,
            "oldest_calibration_s": 250.0,
            "background_jobs": 10,
            "background_done": 10,
            "background_wait_s": 20.0 if policy == "efaas" else 60.0,
            "background_slowdown": 5.0,
            "jain": 0.9,
            "wasted_shots": 0,
            "moves": 0,
            "little_gap": 1e-12,
            "conservation_gap_s": 0.0,
            "events": 1000,
            **settings,
        }
    )
