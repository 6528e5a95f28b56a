"""What one iteration of a variational loop costs, beside what users have today.

All in one run, interleaved, on the same device model, circuit, observable, shots and parameters:

(a) qiskit-ibm-runtime in local mode, ``Session`` with ``EstimatorV2`` (one energy) and ``SamplerV2`` (one
basis); (b) a loop on ``AerSimulator.run`` whose circuits were transpiled once (one energy); (c) this system
through its stream: submit, result, and a record of both in a journal with fsync (one energy);
    beside it, the time that Aer itself executed for (c), and what (c) took beyond its Aer call. At last the
    cold
start: `efaas run` on a machine where nothing runs yet, to the first iteration on disk.

(a) and (b) run in an interpreter of their own, ``--reference-python`` (``requirements/bench.txt``). The last
lines are ``name: value (target, reached or not)``; the exit code is 0 whether or not they were reached.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from qiskit import qpy
from qiskit.circuit.library import efficient_su2

from efaas.client import QpuConnection, SessionIdentity
from efaas.journal import DirectoryJournal

SEED = 20260500
SHOTS = 1024
BIN = Path(sys.executable).parent
_START_LIMIT_S = 60.0

H2 = (
    ("IIII", -0.8126), ("IIIZ", 0.1712), ("IIZI", 0.1712), ("IZII", -0.2228), ("ZIII", -0.2228),
    ("IIZZ", 0.1686), ("IZIZ", 0.1205), ("ZIIZ", 0.1659),
    ("IZZI", 0.1659), ("ZIZI", 0.1205), ("ZZII", 0.1743),
    ("YYXX", -0.0453), ("XYYX", 0.0453), ("YXXY", 0.0453), ("XXYY", -0.0453),
)  # fmt: skip
"""Hydrogen at 0.735 Å under Jordan-Wigner, rounded: five measurement bases."""


def ising(qubits: int) -> tuple[tuple[str, float], ...]:
    """Transverse-field Ising chain: two measurement bases."""
    bonds = ["I" * (qubits - 2 - place) + "ZZ" + "I" * place for place in range(qubits - 1)]
    fields = ["I" * (qubits - 1 - place) + "X" + "I" * place for place in range(qubits)]
    return tuple((pauli, -1.0) for pauli in bonds + fields)


@dataclass(frozen=True)
class Case:
    """One row of the comparison."""

    name: str
    device: str
    qubits: int
    reps: int
    terms: tuple[tuple[str, float], ...]
    rounds: int
    """Rounds; in each, every rival runs once and this system `ours` times."""
    ours: int


@dataclass
class Measured:
    """Wall seconds of each iteration, by what was measured."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, what: str, seconds: float, value: float | None = None) -> None:
        """One iteration."""
        self.seconds.setdefault(what, []).append(seconds)
        if value is not None:
            self.values.setdefault(what, []).append(value)

    def p50(self, what: str) -> float:
        """Median, seconds."""
        return float(np.percentile(self.seconds[what], 50))


@contextlib.contextmanager
def reference(
    python: str, case: Case, program: bytes
) -> Iterator[Callable[[str, list[float]], tuple[float, float]]]:
    """The rivals, ready; a call runs one iteration and gives its seconds and its value."""
    process = subprocess.Popen(
        [python, str(Path(__file__).with_name("reference_side.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def ask(message: dict[str, Any]) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise SystemExit("the reference interpreter ended; is requirements/bench.txt installed in it?")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def run(what: str, parameters: list[float]) -> tuple[float, float]:
        answer = ask({"do": what, "parameters": parameters})
        return answer["seconds"], answer["value"]

    with process:
        versions = ask(
            {
                "do": "setup",
                "device": case.device,
                "qpy": base64.b64encode(program).decode(),
                "terms": case.terms,
                "shots": SHOTS,
                "seed": SEED,
            }
        )["versions"]
        print("reference: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
        try:
            yield run
        finally:
            assert process.stdin is not None
            process.stdin.close()


@contextlib.contextmanager
def server(device: str, folder: Path) -> Iterator[str]:
    """A QPU server of its own; gives its endpoint."""
    manifest = folder / "device.yaml"
    manifest.write_text(
        "apiVersion: efaas.dev/v1alpha1\nkind: QPUDevice\n"
        f"metadata: {{name: bench}}\nspec: {{model: {{snapshot: {device}}}}}\n"
    )
    address, log = folder / "address.json", folder / "server.log"
    begin = time.perf_counter()
    command = [BIN / "efaas-qpu", "serve", "--device", manifest, "--data", folder / "data"]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--address-file", address, "--with-parent"],
            stdout=output,
            stderr=output,
        )
    try:
        while not address.exists():
            if process.poll() is not None or time.perf_counter() - begin > _START_LIMIT_S:
                raise SystemExit(f"the QPU server did not start:\n{log.read_text()}")
            time.sleep(0.01)
        yield json.loads(address.read_text())["endpoint"]
    finally:
        process.terminate()
        process.wait()


def measure(case: Case, python: str | None) -> Measured:
    """Run a case."""
    circuit = efficient_su2(case.qubits, reps=case.reps, entanglement="linear")
    buffer = io.BytesIO()
    qpy.dump(circuit, buffer, version=13)
    program = buffer.getvalue()
    generator = np.random.default_rng(SEED)
    measured = Measured()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="efaas-bench-", dir=Path.cwd())))
        rival = stack.enter_context(reference(python, case, program)) if python else None
        begin = time.perf_counter()
        endpoint = stack.enter_context(server(case.device, folder))
        qpu = stack.enter_context(QpuConnection(endpoint, SessionIdentity("bench/iteration", seed=SEED)))
        journal = stack.enter_context(DirectoryJournal(folder / "journal", 1))
        handle = qpu.register_circuit(program).handle
        observable = qpu.register_observable(case.terms)
        evaluation = 0
        points = generator.uniform(-np.pi, np.pi, (case.rounds, circuit.num_parameters))

        def iterate(parameters: np.ndarray[Any, Any]) -> None:
            nonlocal evaluation
            start = time.perf_counter()
            job = qpu.submit(handle, parameters, SHOTS, evaluation=evaluation, observables=[observable])
            result = job.result()
            value = float(result.values[0, 0])
            journal.append({"evaluation": evaluation, "asked": parameters.tolist(), "told": value})
            seconds = time.perf_counter() - start
            evaluation += 1
            qpu.acknowledge(result.job_id)
            timing = result.timing
            measured.add("(c) this system, stream and journal", seconds, value)
            measured.add("    Aer call of (c), parse and simulation", timing.parse_s + timing.simulate_s)
            measured.add("    C++ simulation alone", timing.simulate_s)
            measured.add("    (c) beyond its Aer call", seconds - timing.parse_s - timing.simulate_s)

        iterate(points[0])
        measured.add("    server start to first result", time.perf_counter() - begin)
        for what in list(measured.seconds):
            if "start" not in what:
                measured.seconds[what].clear()
        measured.values.clear()
        if rival:
            for what in ("estimator", "sampler", "loop"):
                rival(what, points[0].tolist())
        for point in points:
            if rival:
                measured.add("(a) Session + EstimatorV2, local mode", *rival("estimator", point.tolist()))
                measured.add("(a) Session + SamplerV2, one basis", rival("sampler", point.tolist())[0])
                measured.add("(b) transpile once, AerSimulator.run", *rival("loop", point.tolist()))
            for _ in range(case.ours):
                iterate(point)
    return measured


COLD_SESSION = """
apiVersion: efaas.dev/v1alpha1
kind: QPUDevice
metadata: {name: bench}
spec: {model: {snapshot: manila-5}}
---
apiVersion: efaas.dev/v1alpha1
kind: VQASession
metadata: {name: cold}
spec:
  problem: {molecule: {name: H2, qubits: 4}}
  ansatz: {efficientSU2: {repetitions: 2, entanglement: linear}}
  optimizer: {spsa: {learningRate: "0.1"}}
  stop: {maxIterations: 3}
  shots: 1024
"""
"""The first iteration of SPSA is one job of two evaluations."""


def cold_start(times: int) -> list[float]:
    """Wall seconds from the command `efaas run` to the first iteration on disk, several times."""
    measured = []
    for _ in range(times):
        with tempfile.TemporaryDirectory(prefix="efaas-bench-", dir=Path.cwd()) as name:
            folder = Path(name)
            (folder / "cold.yaml").write_text(COLD_SESSION)
            begin = time.perf_counter()
            command = [BIN / "efaas", "run", folder / "cold.yaml", "--runs-dir", folder / "runs", "--no-plot"]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                while not _has_iterated(folder):
                    if process.poll() is not None or time.perf_counter() - begin > _START_LIMIT_S:
                        raise SystemExit("`efaas run` made no iteration")
                    time.sleep(0.005)
                measured.append(time.perf_counter() - begin)
    return measured


def _has_iterated(folder: Path) -> bool:
    """Whether the runner's journal holds an iteration: what was asked and told."""
    return any('"told"' in file.read_text() for file in folder.glob("runs/*/sessions/*/journal/*.jsonl"))


def show(case: Case, measured: Measured) -> None:
    """Print a case's table."""
    print(
        f"\n{case.name} on {case.device}: EfficientSU2 of {case.reps} repetitions, {len(case.terms)} terms, "
        f"{SHOTS} shots"
    )
    print(f"{'':45}{'p50 ms':>10}{'p95 ms':>10}{'n':>6}")
    for what, seconds in sorted(measured.seconds.items(), key=lambda item: _order(item[0])):
        p50, p95 = np.percentile(seconds, [50, 95]) * 1e3
        print(f"{what:45}{p50:10.2f}{p95:10.2f}{len(seconds):6}")
    for what, values in measured.values.items():
        print(f"  mean energy {what:45}{np.mean(values):10.4f}")


def _order(what: str) -> tuple[int, str]:
    return ("(a)", "(b)", "(c)").index(what[:3]) if what[:3] in ("(a)", "(b)", "(c)") else 3, what


def verdict(name: str, value: float, target: float, unit: str, *, at_least: bool) -> str:
    """``name: value (target, reached or not)``."""
    reached = value >= target if at_least else value <= target
    sign = "≥" if at_least else "≤"
    return f"{name}: {value:.2f}{unit} ({sign} {target:g}{unit}, {'reached' if reached else 'not reached'})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference-python", help="interpreter with requirements/bench.txt; none: (c) alone")
    parser.add_argument("--rounds", type=int, default=30, help="rounds of the small case (default 30)")
    parser.add_argument("--large-rounds", type=int, default=3, help="rounds of the large case (default 3)")
    options = parser.parse_args()
    small = Case("4 qubits", "manila-5", 4, 2, H2, options.rounds, 10)
    large = Case("8 qubits", "torino-133", 8, 2, ising(8), options.large_rounds, 10)
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, seed {SEED}")
    results = []
    for case in (small, large):
        measured = measure(case, options.reference_python)
        show(case, measured)
        results.append(measured)
    print()
    ours, estimator = "(c) this system, stream and journal", "(a) Session + EstimatorV2, local mode"
    first, second = results
    if options.reference_python:
        loop = "(b) transpile once, AerSimulator.run"
        print(verdict("4 qubits, (a) / (c)", first.p50(estimator) / first.p50(ours), 6, "×", at_least=True))
        print(verdict("4 qubits, (b) / (c)", first.p50(loop) / first.p50(ours), 1.5, "×", at_least=True))
        print(
            verdict("8 qubits, (a) / (c)", second.p50(estimator) / second.p50(ours), 100, "×", at_least=True)
        )
    beyond = first.p50("    (c) beyond its Aer call") * 1e3
    print(verdict("4 qubits, (c) beyond its Aer call, p50", beyond, 2, " ms", at_least=False))
    start = float(np.median(cold_start(3)))
    print(verdict("cold start, `efaas run` to first iteration on disk", start, 4, " s", at_least=False))


if __name__ == "__main__":
    main()
