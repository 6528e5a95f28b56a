"""What running ahead of results brings and costs, beside not doing it.

All in one run, seed by seed, side by side: for each seed every mode runs the same loop on the same QPU
server, interleaved. The classical step is real CPU work (matrix products until `t_cpu` CPU seconds are used),
never a sleep. The device's time scale makes the quantum time real: one evaluation holds the device for
`--t-qpu` wall seconds, in slices.

Parts: (1) Nelder-Mead, Off and Exact, t_cpu = t_qpu; (2) SPSA, Off and Tolerant, t_cpu = t_qpu, and Off with
only as many shots as the slices that Tolerant steps on, with exact energies of the final points; (3) a
classical step of 1 ms, Off and Exact; (4) Nelder-Mead with a second, idle twin QPU, t_cpu = 0.1 t_qpu.

The last lines are ``name: value (target, reached or not)``; the exit code is 0 whether or not they were
reached.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from qiskit.circuit.library import real_amplitudes
from qiskit.quantum_info import SparsePauliOp, Statevector
from scipy import stats

from efaas.api.load import load_text
from efaas.journal import read_records
from efaas.optimizers.nelder_mead import NelderMead
from efaas.optimizers.spsa import Spsa
from efaas.runner.environment import QpuTarget, RunnerEnvironment
from efaas.runner.progress import Progress
from efaas.sdk import Session

BIN = Path(sys.executable).parent
QUBITS = 3
CIRCUIT = real_amplitudes(QUBITS, reps=1)
TERMS = [("ZZI", -1.0), ("IZZ", -1.0), ("XII", -0.7), ("IXI", -0.7), ("IIX", -0.7)]
HAMILTONIAN = SparsePauliOp.from_list(TERMS)
SHOTS = 4096
SLICES = 16
WARM_UP = 6
"""Evaluations at the start of each loop that are left out of times."""
_START_LIMIT_S = 60.0

SESSION = """
apiVersion: efaas.dev/v1alpha1
kind: VQASession
metadata: {{name: {name}}}
spec:
  program: {{script: {{name: code, key: main.py}}}}
  shots: {shots}
  seed: {seed}
"""

DEVICE = """
apiVersion: efaas.dev/v1alpha1
kind: QPUDevice
metadata: {{name: {name}}}
spec:
  model: {{snapshot: manila-5}}
  simulation: {{timeScale: "{scale}"}}
  queue: {{slice: {slice_ms}ms, sliceLoops: true, sliceCost: 0s}}
"""


class Work:
    """The classical step: matrix products until so many CPU seconds are used; picklable."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, points: Any) -> None:  # noqa: ARG002
        """Work."""
        end = time.thread_time() + self.seconds
        matrix = np.full((24, 24), 0.5)
        while time.thread_time() < end:
            matrix = matrix @ matrix / 24.0 + 1e-3


@dataclass
class Servers:
    """QPU servers of the run."""

    targets: tuple[QpuTarget, ...]
    folder: Path
    runs: int = 0


@contextlib.contextmanager
def servers(folder: Path, t_qpu_s: float, count: int) -> Iterator[Servers]:
    """`count` twins on which an evaluation of `SHOTS` shots of one point takes `t_qpu_s` wall seconds."""
    shot_s = _shot_s(folder)
    device_s = 2 * SHOTS * shot_s
    scale = t_qpu_s / device_s
    slice_ms = max(1, int(1000 * device_s / SLICES * 1.001) + 1)
    with contextlib.ExitStack() as stack:
        targets = []
        for number in range(count):
            name = f"twin-{number}"
            text = DEVICE.format(name=name, scale=f"{scale:.9f}", slice_ms=slice_ms)
            endpoint = stack.enter_context(_server(name, text, folder))
            targets.append(QpuTarget(name, endpoint, twins="manila-5, frozen"))
        yield Servers(tuple(targets), folder)


@contextlib.contextmanager
def _server(name: str, text: str, folder: Path) -> Iterator[str]:
    manifest, address, log = (folder / f"{name}.{kind}" for kind in ("yaml", "json", "log"))
    manifest.write_text(text)
    command: list[Path | str] = [BIN / "efaas-qpu", "serve", "--device", manifest, "--data", folder / name]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--address-file", address, "--with-parent"], stdout=output, stderr=output
        )
    try:
        begin = time.perf_counter()
        while not address.exists():
            if process.poll() is not None or time.perf_counter() - begin > _START_LIMIT_S:
                raise SystemExit(f"the QPU server did not start:\n{log.read_text()}")
            time.sleep(0.01)
        yield json.loads(address.read_text())["endpoint"]
        if process.poll() is not None:
            raise SystemExit(f"a QPU server ended:\n{log.read_text()[-2000:]}")
    except BaseException:
        print(f"server exit code {process.poll()}, its log ends:\n{log.read_text()[-2000:]}")
        raise
    finally:
        process.terminate()
        process.wait()


def _shot_s(folder: Path) -> float:
    """Device seconds of one shot of the circuit, from a server without a clock of its own."""
    text = DEVICE.format(name="probe", scale="0", slice_ms=250)
    with _server("probe", text, folder) as endpoint:
        environment = RunnerEnvironment(
            folder / "x", (QpuTarget("probe", endpoint),), folder / "probe-run" / "journal"
        )
        document = load_text(SESSION.format(name="probe", shots=SHOTS, seed=1)).sessions[0]
        with Session(environment, document, Progress(None, None)) as session:
            point = np.zeros(CIRCUIT.num_parameters)
            result = session.submit(CIRCUIT, point, HAMILTONIAN).result()
    return float(result.qpu_s / result.shots)


@dataclass
class Run:
    """One loop that was run."""

    wall_s: float
    evaluations: int
    point: Any
    speculation: dict[str, Any]
    records: list[dict[str, Any]]
    turnarounds_s: list[float]

    @property
    def iteration_s(self) -> float:
        """Wall seconds an evaluation told."""
        return self.wall_s / self.evaluations

    def trajectory(self) -> list[Any]:
        """What must be the same: questions and answers, to the bit."""
        return [
            (record["number"], record["asked"], record["jobs"][0]["evaluations"]) for record in self.records
        ]


def run(
    servers: Servers,
    make: Callable[[], Any],
    seed: int,
    mode: str,
    t_cpu_s: float,
    iterations: int,
    *,
    twins: bool = False,
    shots: int = SHOTS,
    workers: int = 1,
) -> Run:
    """Run a loop; its session has a name and a journal of its own, its shots the seed's and no other."""
    servers.runs += 1
    folder = servers.folder / f"run-{servers.runs}"
    targets = servers.targets if twins else servers.targets[:1]
    environment = RunnerEnvironment(folder / "session.yaml", targets, folder / "journal")
    # Shots follow from the session's name too; the same name on the same server would get kept results.
    document = load_text(SESSION.format(name=f"s{seed}", shots=shots, seed=seed)).sessions[0]
    with Session(environment, document, Progress(None, None), clock=time.monotonic) as session:
        marks = _watch(session)
        optimizer = make()
        session.submit(CIRCUIT, np.full(CIRCUIT.num_parameters, 0.1), HAMILTONIAN, shots=256).result()
        marks.clear()
        loop = session.minimize(
            optimizer,
            CIRCUIT,
            HAMILTONIAN,
            iterations=iterations,
            prepare=Work(t_cpu_s),
            speculation=mode,
            workers=workers,
        )
    records = [record for record in read_records(folder / "journal") if record["kind"] == "submit"][1:]
    # Connecting, transpiling and the start of workers are left out, in every mode alike.
    marks = marks[WARM_UP:]
    wall_s = marks[-1][0] - marks[0][0]
    turnarounds = [later - earlier for (_, earlier), (later, _) in pairwise(marks)]
    return Run(wall_s, len(marks) - 1, loop.point, loop.speculation, records, turnarounds)


def _watch(session: Session) -> list[tuple[float, float]]:
    """(submitted, result at the program) of each real evaluation; filled as the loop runs."""
    marks: list[tuple[float, float]] = []
    dispatch = session.dispatch

    def watched(request: Any, **options: Any) -> Any:
        submitted = time.perf_counter()
        future = dispatch(request, **options)
        number = len(marks)
        marks.append((submitted, submitted))
        future.add_done_callback(
            lambda _: (
                marks.__setitem__(number, (submitted, time.perf_counter())) if number < len(marks) else None
            )
        )
        return future

    session.dispatch = watched  # type: ignore[method-assign]
    return marks


def start_of(seed: int) -> Any:
    """The first point of a seed."""
    return np.random.default_rng(seed).uniform(-1.5, 1.5, CIRCUIT.num_parameters)


def exact_energy(point: Any) -> float:
    """Without noise, from the state vector."""
    return float(Statevector(CIRCUIT.assign_parameters(point)).expectation_value(HAMILTONIAN).real)


def verdict(name: str, value: float, target: float, unit: str, *, at_least: bool) -> str:
    """``name: value (target, reached or not)``."""
    reached = value >= target if at_least else value <= target
    sign = "≥" if at_least else "≤"
    return f"{name}: {value:.3g}{unit} ({sign} {target:g}{unit}, {'reached' if reached else 'not reached'})"


def mean(values: Any) -> float:
    """Arithmetic mean."""
    return float(np.mean(list(values)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--t-qpu", type=float, default=0.08, help="wall seconds of an evaluation (0.08)")
    parser.add_argument("--seeds", type=int, default=10, help="seeds of parts 1, 3 and 4 (10)")
    parser.add_argument("--pairs", type=int, default=20, help="paired seeds of part 2 (20)")
    parser.add_argument("--iterations", type=int, default=16, help="of Nelder-Mead (16)")
    parser.add_argument("--spsa-iterations", type=int, default=18, help="of SPSA (18)")
    parser.add_argument("--quick", action="store_true", help="2 seeds and 3 pairs: whether it runs at all")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.pairs, options.iterations, options.spsa_iterations = 2, 3, 10, 8
    t = options.t_qpu
    lines: list[str] = []
    begin = time.perf_counter()
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, t_qpu {t * 1e3:.0f} ms, {SHOTS} shots")
    with tempfile.TemporaryDirectory(prefix="efaas-bench-", dir=Path.cwd()) as name:
        folder = Path(name)
        with servers(folder, t, 2) as twins:
            part_exact(twins, t, options, lines)
            part_cheap(twins, options, lines)
            part_twins(twins, t, options, lines)
            part_tolerant(twins, t, options, lines)
    print(f"\n{time.perf_counter() - begin:.0f} s\n")
    print("\n".join(lines))


def nelder_mead(seed: int) -> Callable[[], Any]:
    """Nelder-Mead from the first point of a seed."""
    return lambda: NelderMead(start_of(seed))


def same(pairs: list[tuple[Run, Run]]) -> str:
    """Whether both runs of each seed are the same to the bit."""
    equal = sum(off.trajectory() == other.trajectory() for off, other in pairs)
    return f"{equal} of {len(pairs)} ({'reached' if equal == len(pairs) else 'not reached'})"


def show(what: str, runs: list[Run]) -> None:
    """One line of a table."""
    times = [1e3 * each.iteration_s for each in runs]
    print(f"{what:38}{mean(times):9.1f} ms ± {np.std(times, ddof=1) / len(times) ** 0.5:4.1f}", end="")
    ahead = [each.speculation for each in runs]
    if ahead[0]:
        rate = sum(each["hits"] for each in ahead) / max(1, sum(each["evaluations"] for each in ahead))
        print(
            f"   hits {rate:5.1%}, masked {mean(each['masked_s'] for each in ahead):.2f} s,"
            f" wasted {mean(each['wasted_cpu_s'] for each in ahead):.2f} CPU s and"
            f" {mean(each['wasted_shots'] for each in ahead):.0f} shots,"
            f" paused {mean(each['paused_evaluations'] for each in ahead):.1f}",
            end="",
        )
    print()


def part_exact(twins: Servers, t: float, options: Any, lines: list[str]) -> None:
    """Nelder-Mead, a classical step as long as the quantum one."""
    off, exact = [], []
    for seed in range(options.seeds):
        off.append(run(twins, nelder_mead(seed), seed, "Off", t, options.iterations))
        exact.append(run(twins, nelder_mead(seed), seed, "Exact", t, options.iterations))
    print("\n(1) Nelder-Mead, t_cpu = t_qpu: time per evaluation")
    show("Off", off)
    show("Exact", exact)
    ratio = 100 * mean(each.iteration_s for each in exact) / mean(each.iteration_s for each in off)
    hits = sum(each.speculation["hits"] for each in exact)
    rate = 100 * hits / sum(each.speculation["evaluations"] for each in exact)
    lines.append(verdict("Nelder-Mead, Exact / Off", ratio, 60, " %", at_least=False))
    lines.append(verdict("Nelder-Mead, hit rate of Exact", rate, 90, " %", at_least=True))
    lines.append(f"Nelder-Mead, trajectories equal to the bit: {same(list(zip(off, exact, strict=True)))}")
    median = [
        1e3 * float(np.median([s for each in runs for s in each.turnarounds_s])) for runs in (off, exact)
    ]
    lines.append(f"median turnaround of Off: {median[0]:.1f} ms")
    hit_ms = hit_turnaround_ms(exact)
    lines.append(
        verdict("median turnaround of Exact, all", median[1] / (10 * t), 10, " % of t_cpu", at_least=False)
    )
    lines.append(
        verdict(
            "median turnaround of Exact on a hit that was ready",
            hit_ms / (10 * t),
            10,
            " % of t_cpu",
            at_least=False,
        )
    )


def hit_turnaround_ms(runs: list[Run]) -> float:
    """Median of the shorter turnarounds: those of hits whose step had ended when the result came."""
    every = sorted(s for each in runs for s in each.turnarounds_s)
    hits = sum(each.speculation["hits"] for each in runs)
    return 1e3 * float(np.median(every[:hits]))


def part_cheap(twins: Servers, options: Any, lines: list[str]) -> None:
    """A classical step of 1 ms."""
    off, exact = [], []
    for seed in range(options.seeds):
        off.append(run(twins, nelder_mead(seed), 100 + seed, "Off", 0.001, options.iterations))
        exact.append(run(twins, nelder_mead(seed), 100 + seed, "Exact", 0.001, options.iterations))
    print("\n(3) Nelder-Mead, t_cpu = 1 ms")
    show("Off", off)
    show("Exact", exact)
    ratio = 100 * (mean(each.iteration_s for each in exact) / mean(each.iteration_s for each in off) - 1)
    lines.append(verdict("cost of Exact at t_cpu = 1 ms", ratio, 5, " %", at_least=False))


def part_twins(twins: Servers, t: float, options: Any, lines: list[str]) -> None:
    """A second, idle twin."""
    off, exact = [], []
    for seed in range(options.seeds):
        off.append(run(twins, nelder_mead(seed), 200 + seed, "Off", 0.1 * t, options.iterations))
        exact.append(
            run(twins, nelder_mead(seed), 200 + seed, "Exact", 0.1 * t, options.iterations, twins=True)
        )
    print("\n(4) Nelder-Mead with an idle twin QPU, t_cpu = 0.1 t_qpu")
    show("Off", off)
    show("Exact, with twin", exact)
    # Warm-up left out: among it is the first simplex, seven points in one job.
    jobs = [record["jobs"][0]["timing"] for each in off for record in each.records[WARM_UP:]]
    t_qpu_ms = 1e3 * mean(timing["wall_execution_s"] for timing in jobs)
    value = 100 * 1e3 * mean(each.iteration_s for each in exact) / t_qpu_ms
    lines.append(f"t_qpu as measured, mean: {t_qpu_ms:.1f} ms (asked for {1e3 * t:.0f} ms)")
    lines.append(
        verdict("Nelder-Mead with a twin, time per evaluation / t_qpu", value, 100, " %", at_least=False)
    )
    charged = sum(record["jobs"][0]["shots"] for each in exact for record in each.records)
    wasted = sum(each.speculation["wasted_shots"] for each in exact)
    lines.append(
        f"Nelder-Mead with a twin, shots that nobody used: {100 * wasted / charged:.0f} % of those charged"
    )
    lines.append(
        f"Nelder-Mead with a twin, trajectories equal to the bit: {same(list(zip(off, exact, strict=True)))}"
    )


def part_tolerant(twins: Servers, t: float, options: Any, lines: list[str]) -> None:
    """SPSA, steps on estimates."""
    off: list[Run] = []
    tolerant: list[Run] = []
    few: list[Run] = []
    few_s: list[float] = []

    def spsa(seed: int) -> Callable[[], Any]:
        return lambda: Spsa(start_of(seed), seed, learning_rate=0.6, perturbation=0.15)

    # Two points an evaluation: half the shots make the same quantum time. The first estimate comes when all
    # pairs have a block, that is after an eighth of the shots.
    shots = SHOTS // 2
    few_shots = shots // 8
    for seed in range(options.pairs):
        many = options.spsa_iterations
        off.append(run(twins, spsa(seed), 300 + seed, "Off", t, many, shots=shots))
        tolerant.append(run(twins, spsa(seed), 300 + seed, "Tolerant", t, many, shots=shots))
        # Equal wall time: as many more iterations as such a one is faster; the first run only measures it.
        if not few_s:
            few_s.append(run(twins, spsa(seed), 900, "Off", t, 12, shots=few_shots).iteration_s)
        faster = tolerant[-1].iteration_s / few_s[-1]
        few.append(run(twins, spsa(seed), 300 + seed, "Off", t, round(many * faster), shots=few_shots))
        few_s.append(few[-1].iteration_s)
    print("\n(2) SPSA, t_cpu = t_qpu")
    stepped = [
        record["stepped_on"]["shots"]
        for each in tolerant
        for record in each.records
        if "stepped_on" in record
    ]
    total = sum(len(each.records) for each in tolerant)
    show("Off", off)
    show("Tolerant", tolerant)
    show(f"Off with {few_shots} shots", few)
    on_shots = mean(stepped) if stepped else 0.0
    print(f"steps on estimates that stood: {len(stepped)} of {total}, of {on_shots:.0f} shots")
    ratio = 100 * mean(each.iteration_s for each in tolerant) / mean(each.iteration_s for each in off)
    lines.append(verdict("SPSA, Tolerant / Off", ratio, 60, " %", at_least=False))
    errors = [
        float(record["jobs"][0]["evaluations"][0]["std_errors"][0])
        for each in off
        for record in each.records[-3:]
    ]
    margin = mean(errors)
    energies = {
        name: np.array([exact_energy(each.point) for each in runs])
        for name, runs in (("off", off), ("tolerant", tolerant), ("few", few))
    }
    difference = energies["tolerant"] - energies["off"]
    n, bias, spread = len(difference), float(difference.mean()), float(difference.std(ddof=1))
    error = spread / n**0.5
    p = max(1 - stats.t.cdf((bias + margin) / error, n - 1), stats.t.cdf((bias - margin) / error, n - 1))
    print("final energies: " + ", ".join(f"{name} {each.mean():.4f}" for name, each in energies.items()))
    lines.append(
        f"SPSA, bias of Tolerant's final energy: {bias:+.4f} ± {error:.4f} (margin {margin:.4f}, {n} pairs)"
    )
    lines.append(verdict("SPSA, TOST of equivalence, p", float(p), 0.05, "", at_least=False))
    gain = energies["few"] - energies["tolerant"]
    gain_error = float(gain.std(ddof=1)) / n**0.5
    wall = mean(each.wall_s for each in few) / mean(each.wall_s for each in tolerant)
    worse = float(stats.t.sf(gain.mean() / gain_error, n - 1))
    lines.append(
        f"SPSA, Off with {few_shots} shots at equal wall time ({wall:.2f} of it): energy higher by "
        f"{gain.mean():+.4f} ± {gain_error:.4f}, p {worse:.3f} "
        f"(Tolerant {'pays' if worse < 0.05 else 'is not shown to pay'})"
    )


if __name__ == "__main__":
    main()
