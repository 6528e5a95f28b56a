"""Real energies for simulated runs: what a policy's waiting and calibration do to a VQE.

**Design.** The simulator decides *when* and *where* each iteration of a session ran, and how old the
calibration was (table `iterations`: device, calibration_age_s, told_s, ahead). It knows no energies, and
needs none: what the optimizer asks next changes neither the length of the next job nor the classical time.
So energies are put on afterwards. For each session of each run the real optimizer (`efaas.optimizers`,
SPSA) is run through the recorded iterations; iteration k's two points are measured by Aer on the device
that it ran on, at the calibration age that it had, with the shots that its device time pays for. The
trajectory that comes out is the one that the session would have had on QPU servers with these timings.

What makes that fast:

- A device of a run drifts by its own seed (run's seed and device's name) from a full calibration, so an
  energy is a function of (circuit, device seed, age, points, shots, session seed, iteration): kept on disk
  by its digest (`efaas.bench.energies_source`).
- Ages are taken to the middle of a cell of `AGE_EDGES_S`; the first cell holds all ages up to 300 s. Two
  policies that keep calibrations fresh so walk the very same trajectory and differ in time alone, which is
  what a fair comparison wants. The table `ages` says what energy changes by inside and between cells.
- Shots' randomness is by identity, without the age: where ages differ, noise is still the same (common random
  numbers), and a difference of two trajectories is the drift's.
- Frozen devices (uncalibrated experiments) are one trajectory for a session, whatever the policy.

**Convergence** is the time from a session's first parameters to the moment after which the energy of the
point that the optimizer stands at, without shot noise, on the device of that iteration, stays within a
tolerance of the exact ground energy until the session's last iteration. Tolerances are shares of the
spectrum's width, so that molecules and chains can be put side by side; a session that never stays has no
time, and the share of these is reported beside every mean. What one step changes by is no measure of
convergence and is not used.

**Shots.** An iteration takes `t_qpu_s` of device time whatever the observable: with r seconds a shot, two
points and b measurement bases the shots of a pair are t_qpu_s / (2·b·r). A molecule with 25 bases so gets
fewer shots a basis than a chain with 2; giving both 4096 would make an iteration of the one last ten times
as long.

**Speculation.** Exact changes nothing but times, and is for methods whose next points can be enumerated: it
is shown with Nelder-Mead, against others with Nelder-Mead. In Tolerant mode (`ahead` in an iteration of
`efaas-tolerant`) the next points are chosen by the running estimate of the first half of the shots, by the
very code of the runner (`efaas.runner.foresight`), and stand if the whole result is within its tolerance.

Above `AER_QUBITS` qubits a surrogate stands in for Aer, `efaas.bench.energies_surrogate`.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from efaas.bench import records
from efaas.bench.energies_problems import NELDER_MEAD, SPSA, BenchProblem, problem_of
from efaas.bench.energies_source import EnergyCache, EnergySource
from efaas.bench.energies_surrogate import AER_QUBITS, SurrogateSource, sample
from efaas.bench.energies_tables import AGES, CONVERGENCE, TRAJECTORIES
from efaas.core.identity import digest
from efaas.optimizers.base import Tell

SNAPSHOT = "kolkata-27"
AGE_EDGES_S = (300.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0, 57_600.0, 115_200.0)
"""Upper edges of the cells that calibration ages fall into; older ones count as the last."""
TOLERANCES = (0.025, 0.05, 0.1)
"""Distances to the exact ground energy, as shares of the spectrum's width; the middle one is the main one."""
TOLERANCE = 0.05
SHOT_S = 1 / 16 / 256
"""Device time of a shot, as in the simulator: cells of 256 shots take 1/16 s."""
POLICIES = ("efaas", *records.SPECULATION, *records.RIVALS, "bound-zero-wait")
METHODS = {
    "efaas-exact": (NELDER_MEAD,),
    "efaas": (SPSA, NELDER_MEAD),
    "sr": (SPSA, NELDER_MEAD),
    "bound-zero-wait": (SPSA, NELDER_MEAD),
}
"""Optimizers by policy, SPSA where none is named: Exact speculation is for methods whose next points can be
enumerated, so it is shown with Nelder-Mead, against others with Nelder-Mead."""
EXPERIMENTS = {"headline": "iterations=100,t_net_s=0.05", "drift": None, "workload": None}
"""Experiments that get energies where their iterations are kept, and the cell that is meant; None: all."""
FOLDER = "energies"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Iterated:
    """One iteration as the simulator recorded it."""

    device: str
    age_s: float | None
    """Of the calibration; None: the device is frozen."""
    told_s: float
    ahead: bool


@dataclass(frozen=True, slots=True)
class Walked:
    """One iteration with energies."""

    known_s: float
    """Moment at which the optimizer stood at the point that this iteration measures around."""
    age_s: float | None
    value: float | None
    """What was measured around the point; None for the point after the last iteration."""
    std_error: float | None
    energy: float
    """At the point, without shot noise, on the device at its age."""


def cell_of(age_s: float) -> float:
    """Middle of the cell of `AGE_EDGES_S` that an age falls into, seconds."""
    index = min(bisect_left(AGE_EDGES_S, age_s), len(AGE_EDGES_S) - 1)
    return (AGE_EDGES_S[index] + (AGE_EDGES_S[index - 1] if index else 0.0)) / 2


def device_seed(seed: int, device: str) -> int:
    """Seed of a device's drift in the runs of a seed."""
    return int(digest("bench device", seed, device)[:15], 16)


def session_seed(seed: int, session: str) -> int:
    """Seed of a session's optimizer and shots."""
    return int(digest("bench session", seed, session)[:15], 16)


def walk(
    source: EnergySource | SurrogateSource,
    problem: BenchProblem,
    seed: int,
    session: str,
    opens_s: float,
    iterations: Sequence[Iterated],
    *,
    t_qpu_s: float = 2.0,
    method: str = SPSA,
) -> list[Walked]:
    """The trajectory of a session through its recorded iterations.

    Args:
        source: of energies.
        problem: circuit, observable and optimizer.
        seed: of the run.
        session: its name.
        opens_s: moment of the first parameters.
        iterations: in order.
        t_qpu_s: mean device time of an iteration, which its shots take.
        method: optimizer, one of `efaas.bench.energies_problems.METHODS`.

    Returns:
        One entry for each iteration and one for the point after the last.

    Raises:
        EnergiesFailed: Aer could not compute an energy.
    """
    from efaas.runner.foresight import Estimate, Foresight

    own_seed = session_seed(seed, session)
    optimizer: Any = problem.optimizer(own_seed, method)
    foresight = Foresight(optimizer)
    bases = source.bases(problem.circuit)
    walked: list[Walked] = []
    known_s = opens_s
    where: dict[str, Any] = {}
    for number, iteration in enumerate(iterations):
        if optimizer.finished is not None:
            break
        asked = optimizer.ask()
        centre = optimizer.point
        shots = max(16, round(t_qpu_s / (len(asked.points) * bases * SHOT_S)))
        where = _where(seed, iteration)
        answer = source.ask(
            problem.circuit,
            "evaluate",
            **where,
            points=asked.points.tolist(),
            centre=centre.tolist(),
            shots=shots,
            session_seed=own_seed,
            job=digest("bench job", session, number, asked.points.tobytes()),
            **({"running": shots // 2} if iteration.ahead else {}),
        )
        told = Tell(np.array(answer["values"]), np.array(answer["std_errors"]))
        estimate = None
        if iteration.ahead:
            running = Tell(np.array(answer["running_values"]), np.array(answer["running_errors"]))
            estimate = Estimate(running, shots // 2)
            estimate = estimate if estimate.accepts(told) else None
        foresight.take(told, estimate)
        count = len(told.values)
        value, error = float(told.values.mean()), float(np.sqrt((told.std_errors**2).sum()) / count)
        walked.append(Walked(known_s, where.get("age_s"), value, error, float(answer["energy"])))
        known_s = iteration.told_s
    if iterations:
        last = source.ask(problem.circuit, "exact", **where, points=[optimizer.point.tolist()])
        walked.append(Walked(known_s, where.get("age_s"), None, None, float(last["energies"][0])))
    return walked


def _where(seed: int, iteration: Iterated) -> dict[str, Any]:
    if iteration.age_s is None:
        return {"seed": None}
    return {"seed": device_seed(seed, iteration.device), "age_s": cell_of(iteration.age_s)}


def converged_s(walked: Sequence[Walked], exact: float, tolerance: float) -> float | None:
    """Moment from which the energy stays within a tolerance of the exact one; None if it never does."""
    since: float | None = None
    for step in walked:
        if abs(step.energy - exact) > tolerance:
            since = None
        elif since is None:
            since = step.known_s
    return since


def final_energy(walked: Sequence[Walked]) -> float:
    """Mean energy of the last tenth of the points: where a session ends, less the jitter of single steps."""
    last = walked[-max(1, len(walked) // 10) :]
    return sum(step.energy for step in last) / len(last)


# --- over the runs of a benchmark -----------------------------------------------------------------------


def cache_path() -> Path:
    """Where energies are kept unless told otherwise: below ``$XDG_CACHE_HOME`` (``~/.cache``)."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "efaas" / "energies.sqlite"


def compute(
    out: Path,
    *,
    cache: Path | None = None,
    workers: int | None = None,
    surrogate: bool = True,
    progress: Progress | None = None,
) -> bool:
    """Put energies to the recorded iterations: writes the tables of ``data/energies/``.

    Args:
        out: result folder.
        cache: file of kept energies; `cache_path` if not given.
        workers: processes that compute; one a core if not given.
        surrogate: whether the surrogate for large circuits is held against Aer as well.
        progress: hears what is done: phase, done, all.

    Returns:
        Whether there were iterations to put energies to.

    Raises:
        EnergiesFailed: Aer could not compute an energy.
    """
    jobs = [job for experiment, cell in EXPERIMENTS.items() for job in _jobs(out, experiment, cell)]
    if not jobs:
        return False
    by_seed: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for job in jobs:
        by_seed[job["seed"]].append(job)
    kept = EnergyCache(cache or cache_path())
    count = max(1, min(workers or os.cpu_count() or 1, len(by_seed)))
    sources = [EnergySource(kept, SNAPSHOT) for _ in range(count)]
    done = 0

    def source_of(source: EnergySource, problem: BenchProblem) -> EnergySource | SurrogateSource:
        return source if problem.qubits <= AER_QUBITS else SurrogateSource(source, problem)

    def work(share: int) -> list[tuple[dict[str, Any], list[Walked]]]:
        nonlocal done
        found = []
        for seed in sorted(by_seed)[share::count]:
            # One seed at a time: its devices stay prepared.
            for job in by_seed[seed]:
                problem = job["problem"]
                steps = walk(
                    source_of(sources[share], problem),
                    problem,
                    seed,
                    job["session"],
                    job["opens_s"],
                    job["iterations"],
                    t_qpu_s=job["t_qpu_s"],
                    method=job["method"],
                )
                found.append((job, steps))
                done += 1
                if progress is not None:
                    progress("energies", done, len(jobs))
        return found

    try:
        with ThreadPoolExecutor(count) as pool:
            walked = [pair for share in pool.map(work, range(count)) for pair in share]
        ages = list(_age_rows(sources[0], sorted(by_seed)))
        if surrogate:
            sample(out, sources[0], progress=progress)
    finally:
        for source in sources:
            source.close()
        kept.close()
    walked.sort(key=lambda pair: (pair[0]["method"], pair[0]["run"], pair[0]["session"]))
    _write(out, walked, ages)
    return True


def _jobs(out: Path, experiment: str, cell: str | None) -> Iterable[dict[str, Any]]:
    """What is to be walked: one for each session of each run of a policy that is compared."""
    runs = records.read(out, experiment, "runs")
    sessions = records.read(out, experiment, "sessions")
    iterations = records.read(out, experiment, "iterations")
    if runs is None or sessions is None or iterations is None:
        return
    meant = {
        row["run"]: row
        for row in runs.to_pylist()
        if row["policy"] in POLICIES
        and (cell is None or row["cell"] == cell)
        and (row["iterations"] is None or row["iterations"] <= 200)
    }
    lists: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    wanted = ["run", "session", "evaluation", "device", "calibration_age_s", "told_s", "ahead"]
    for row in iterations.select(wanted).to_pylist():
        if row["run"] in meant and row["told_s"] is not None:
            lists[row["run"], row["session"]].append(row)
    for session in sessions.to_pylist():
        run = meant.get(session["run"])
        recorded = lists.get((session["run"], session["session"]))
        if run is None or not recorded:
            continue
        problem = problem_of(session["circuit"], session["qubits"], session["session"])
        frozen, tolerant = not run["calibrated"], run["policy"] == "efaas-tolerant"
        job = {
            "run": session["run"],
            "experiment": experiment,
            "cell": run["cell"],
            "policy": run["policy"],
            "seed": run["seed"],
            "session": session["session"],
            "opens_s": session["opens_s"],
            "asked": run["iterations"],
            "t_qpu_s": run["t_qpu_s"],
            "problem": problem,
            "iterations": [
                Iterated(
                    row["device"] or "",
                    None if frozen else row["calibration_age_s"] or 0.0,
                    row["told_s"],
                    bool(row["ahead"]) and tolerant,
                )
                for row in sorted(recorded, key=lambda row: row["evaluation"])
            ],
        }
        methods = METHODS.get(run["policy"], (SPSA,))
        for method in methods if experiment == "headline" else (SPSA,) if SPSA in methods else ():
            yield {**job, "method": method}


def _age_rows(source: EnergySource, seeds: Sequence[int]) -> Iterable[dict[str, Any]]:
    """Energy error at fixed parameters against calibration age: the cells' middles and their edges."""
    problem = problem_of("", 4, "ages")
    point = problem.optimum()
    for seed in seeds:
        for age_s in (0.0, 150.0, *AGE_EDGES_S):
            answer = source.ask(
                problem.circuit,
                "exact",
                seed=device_seed(seed, "ages"),
                age_s=age_s,
                points=[point.tolist()],
            )
            error = float(answer["energies"][0]) - problem.exact
            yield {"circuit": problem.name, "seed": seed, "age_s": age_s, "error": error}


def _write(
    out: Path, walked: Sequence[tuple[dict[str, Any], list[Walked]]], ages: Sequence[dict[str, Any]]
) -> None:
    trajectories: list[dict[str, Any]] = []
    convergence: list[dict[str, Any]] = []
    for job, steps in walked:
        problem: BenchProblem = job["problem"]
        same = {name: job[name] for name in ("run", "experiment", "cell", "policy", "seed", "session")}
        for number, step in enumerate(steps):
            trajectories.append(
                {
                    "run": job["run"],
                    "session": job["session"],
                    "optimizer": job["method"],
                    "evaluation": number,
                    "known_s": step.known_s - job["opens_s"],
                    "age_s": step.age_s,
                    "value": step.value,
                    "std_error": step.std_error,
                    "energy": step.energy,
                    "relative_error": (step.energy - problem.exact) / problem.width,
                }
            )
        for tolerance in TOLERANCES:
            moment = converged_s(steps, problem.exact, tolerance * problem.width)
            convergence.append(
                {
                    **same,
                    "optimizer": job["method"],
                    "problem": problem.name,
                    "tolerance": tolerance,
                    "converged_s": None if moment is None else moment - job["opens_s"],
                    "iterations_done": len(job["iterations"]),
                    "complete": job["asked"] is None or len(job["iterations"]) >= job["asked"],
                    "final_error": final_energy(steps) - problem.exact,
                    "final_relative_error": (final_energy(steps) - problem.exact) / problem.width,
                }
            )
    folder = out / "data" / FOLDER
    records.write(folder / "trajectories.parquet", TRAJECTORIES, trajectories)
    records.write(folder / "convergence.parquet", CONVERGENCE, convergence)
    records.write(folder / "ages.parquet", AGES, ages)


def targets(out: Path) -> list[records.Target]:
    """Targets that need energies; computes the energies of the runs in `out` first.

    Args:
        out: result folder with the experiments' data.
    """
    from efaas.bench.energies_targets import targets_of

    compute(out)
    return targets_of(out)
