"""What stale calibration costs, and what fresh calibration buys back.

First part, on the model: hydrogen on 4 qubits at the parameters that are optimal without noise, on the 27
qubits of kolkata-27 drifting at the rates fitted to a real device's record. For each seed the device is 30
days old (its coherence has forgotten the snapshot) and is calibrated in full; the circuit is laid out by what
that found. Then time passes, and the energy (exact expectation value, readout mitigated with known values) is
taken three ways on the same fate: without any calibration, after a full one at that moment (layout chosen
anew, as the server does), and after a localised one of just the qubits in use (layout kept). A seed's slope
is the least-squares line through its energy errors against age; the test is a t-test on the slopes.

Second part, on a real server with scaled time: sessions of different calibration limits run iterations on a
drifting device; afterwards its log says how old the calibration was on which each iteration started, and what
each calibration took.

The last lines are ``name: value (target, reached or not)``. Run it with ``python benchmarks/drift.py``.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from efaas_qpu.engine.engine import Engine
from efaas_qpu.engine.messages import Configuration
from efaas_qpu.ledger import DurableLedger
from efaas_qpu.limits import ServerLimits
from numpy.typing import NDArray
from qiskit import qpy
from qiskit.circuit.library import real_amplitudes
from scipy import optimize, stats

from efaas.api.session import Molecule
from efaas.api.session import Problem as ProblemDocument
from efaas.api.wire import qpu_pb2 as wire
from efaas.client import QpuConnection, SessionIdentity
from efaas.core.qpu.messages import CalibrationScope
from efaas.devices import DeviceSnapshot, load_snapshot
from efaas.devices.drifting import DriftingDevice
from efaas.journal import DirectoryJournal
from efaas.problems import build_hamiltonian, exact_ground_energy

DEVICE = "kolkata-27"
AGES_H = (0.0, 3.0, 6.0, 12.0, 24.0, 36.0, 48.0, 72.0)
FIRST_S = 30 * 86_400.0
WAYS = ("none", "full", "local")
FULL_S = 150.0

SERVER_S = 25.0
TIME_SCALE = 0.004
"""Wall seconds of a device second: 25 s are 1.7 device hours, and a busy machine's delays little of them."""
OWN_LIMIT_S = 86_400.0
LIMITS_S = {"bench/tight": 300.0, "bench/wide": 1800.0, "bench/none": OWN_LIMIT_S}
"""Calibration limits of the sessions, device seconds; the last one is the device's own."""

Floats = NDArray[np.float64]


def h2_terms() -> tuple[tuple[str, float], ...]:
    """Hydrogen at 0.735 Å on 4 qubits."""
    return tuple(build_hamiltonian(ProblemDocument(molecule=Molecule(name="H2", qubits=4))).terms)


def ansatz() -> bytes:
    """RealAmplitudes with one repetition, as QPY."""
    buffer = io.BytesIO()
    qpy.dump(real_amplitudes(4, reps=1, entanglement="circular"), buffer)
    return buffer.getvalue()


def optimal(snapshot: DeviceSnapshot, program: bytes, terms: tuple[tuple[str, float], ...]) -> Floats:
    """Parameters of the least energy without noise, best of several starts; shape (1, parameters)."""
    engine = Engine(Configuration(snapshot, snapshot, False, "Auto"))
    count = len(engine.prepare("c", program).parameters)
    engine.prepare_observable("h", terms)

    def energy(point: Floats) -> float:
        return float(engine.expectation("c", ("h",), point.reshape(1, -1))[0, 0])

    random = np.random.default_rng(5)
    starts = [random.uniform(-math.pi, math.pi, count) for _ in range(6)]
    best = min((optimize.minimize(energy, start, method="BFGS") for start in starts), key=lambda r: r.fun)
    return np.asarray(best.x, dtype=np.float64).reshape(1, -1)


class Bench:
    """Energies on one seed's device after another."""

    def __init__(self, snapshot: DeviceSnapshot) -> None:
        self.snapshot = snapshot
        self.program, self.terms = ansatz(), h2_terms()
        self.point = optimal(snapshot, self.program, self.terms)
        self.rebuild_s: list[float] = []

    def errors(self, seed: int, exact: float) -> tuple[Floats, tuple[int, ...]]:
        """Energy errors in mHa, shape (ways, ages), and the qubits of the first layout."""
        rows = np.empty((len(WAYS), len(AGES_H)))
        for way, name in enumerate(WAYS):
            known = self._calibrated(seed).known
            engine = Engine(Configuration(known, self.snapshot, True, "Auto"))
            qubits = engine.prepare("c", self.program).physical
            engine.prepare_observable("h", self.terms)
            for column, age_h in enumerate(AGES_H):
                if way and not age_h:
                    rows[way, column] = rows[0, column]  # calibrated at that very moment, whatever the way
                    continue
                device = self._calibrated(seed)
                now_s, plan = FIRST_S + 3600 * age_h, "c"
                if name == "full":
                    device.calibrate(now_s)
                    engine.set_known_device(device.known, True)
                    plan = f"c@{column}"
                    engine.prepare(plan, self.program)
                elif name == "local":
                    device.calibrate(now_s, CalibrationScope.LOCAL, qubits)
                    engine.set_known_device(device.known)
                state = device.true_state(now_s)
                begun = time.perf_counter()
                engine.set_true_device(state.snapshot, state.over_rotations)
                value = engine.expectation(plan, ("h",), self.point, readout_mitigation=True)
                self.rebuild_s.append(time.perf_counter() - begun)
                rows[way, column] = 1000 * (float(value[0, 0]) - exact)
        return rows, qubits

    def _calibrated(self, seed: int) -> DriftingDevice:
        """The device right after the full calibration from which ages count."""
        device = DriftingDevice.modelled(self.snapshot, seed, full_calibration_s=FULL_S)
        device.calibrate(FIRST_S)
        return device


@dataclass(frozen=True)
class Trend:
    """Slope of the energy error against age over seeds, mHa a day."""

    mean: float
    low: float
    high: float
    p_rises: float
    """Probability of so large a mean slope if there were none, one-sided."""


def trend(errors: Floats) -> Trend:
    """The trend of errors of shape (seeds, ages)."""
    days = np.array(AGES_H) / 24
    slopes = np.polyfit(days, errors.T, 1)[0]
    test = stats.ttest_1samp(slopes, 0.0, alternative="greater")
    half = half_width(slopes)
    return Trend(float(slopes.mean()), slopes.mean() - half, slopes.mean() + half, float(test.pvalue))


def half_width(samples: Floats) -> float:
    """Half of the 95 % confidence interval of the mean."""
    return float(stats.t.ppf(0.975, len(samples) - 1) * samples.std(ddof=1) / math.sqrt(len(samples)))


@dataclass(frozen=True)
class Served:
    """What a server's log says."""

    iterations: dict[str, int]
    oldest_s: dict[str, float]
    """By session: greatest age of a calibration on which an iteration started."""
    unfounded: int
    """Iterations whose calibration age is not that of any calibration in the log."""
    again: int
    """Iterations that a calibration made start again; not looked at for that."""
    local_share: float
    """Device seconds of a localised calibration over what a full one takes, mean over the log."""
    locals: int
    fulls: int
    failed: int


def serve(folder: Path, terms: tuple[tuple[str, float], ...], program: bytes, point: Floats) -> Served:
    """Run sessions on a server process for a while and read its log."""
    (folder / "device.yaml").write_text(
        "apiVersion: efaas.dev/v1alpha1\nkind: QPUDevice\nmetadata: {name: drifting}\nspec:\n"
        f"  model: {{snapshot: {DEVICE}}}\n"
        f"  simulation: {{timeScale: '{TIME_SCALE}', seed: 11}}\n"
        f"  calibration: {{drift: Model, interval: 1h, duration: {FULL_S:g}s, maxAge: 24h}}\n"
    )
    address = folder / "address"
    command = [sys.executable, "-m", "efaas_qpu", "serve", "--device", str(folder / "device.yaml")]
    command += ["--data", str(folder / "data"), "--address-file", str(address), "--with-parent"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
    failed: list[str] = []

    def loop(session: str, limit_s: float) -> None:
        identity = SessionIdentity(session, seed=1, max_calibration_age_s=limit_s)
        with QpuConnection(json.loads(address.read_text())["endpoint"], identity) as qpu:
            circuit, energy = qpu.register_circuit(program), qpu.register_observable(terms)
            end, number = time.monotonic() + SERVER_S, 0
            while time.monotonic() < end:
                try:
                    job = qpu.submit(
                        circuit.handle,
                        point[0].tolist(),
                        512,
                        evaluation=number,
                        observables=[energy],
                        readout_mitigation=True,
                    )
                    job.result()
                except Exception as error:
                    failed.append(f"{session} {number}: {error}")
                number += 1
                time.sleep(0.02)

    try:
        deadline = time.monotonic() + 60
        while not address.exists():
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server does not listen: {(folder / 'log').read_text()}")
            time.sleep(0.02)
        threads = [threading.Thread(target=loop, args=item) for item in LIMITS_S.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        server.terminate()
        server.wait()
    return read_log(folder / "data" / "log", failed)


def read_log(path: Path, failed: list[str]) -> Served:
    """What the log of a server says of its iterations and calibrations."""
    moments: list[tuple[float, wire.Result, str]] = []
    journal = DirectoryJournal(path)
    for record in journal.records():
        for _, session, _, text in record.get("results", ()):
            moments.append((record["clock_s"], wire.Result.FromString(base64.b64decode(text)), session))
    limits = ServerLimits()
    history = DurableLedger(journal, limits).state.history
    ends = np.array([0.0, *(past.finished_s for past in history)])
    count: dict[str, int] = {}
    oldest: dict[str, float] = {}
    unfounded = again = 0
    for clock_s, result, session in moments:
        count[session] = count.get(session, 0) + 1
        oldest[session] = max(oldest.get(session, 0.0), result.calibration_age_s)
        if result.timing.attempts > 1:
            again += 1  # its time counts from the first attempt, its calibration is the last one's
            continue
        started_s = clock_s - result.timing.wall_execution_s / TIME_SCALE
        # From its end to its record a job takes some milliseconds, a few device seconds here.
        off_s = float(np.abs(started_s - result.calibration_age_s - ends).min())
        if off_s > 50:
            print(f"{session} {result.job_id}: epoch {result.calibration_epoch}, {off_s:.0f} s off")
            unfounded += 1
    local = [past.busy_s for past in history if past.scope is CalibrationScope.LOCAL]
    full = [past.busy_s for past in history if past.scope is CalibrationScope.FULL]
    share = float(np.mean(local)) / FULL_S if local else math.nan
    return Served(count, oldest, unfounded, again, share, len(local), len(full), len(failed))


def verdict(name: str, value: str, target: str, reached: bool) -> bool:
    """Print one of the last lines."""
    print(f"{name}: {value} ({target}, {'reached' if reached else 'not reached'})")
    return reached


def main() -> int:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=24, help="devices of the first part")
    arguments = parser.parse_args()
    snapshot = load_snapshot(DEVICE)
    bench = Bench(snapshot)
    terms = h2_terms()
    exact = exact_ground_energy(build_hamiltonian(ProblemDocument(molecule=Molecule(name="H2", qubits=4))))
    assert exact is not None
    measured = [bench.errors(seed, exact) for seed in range(1, arguments.seeds + 1)]
    errors = np.array([rows for rows, _ in measured])  # shape (seeds, ways, ages)
    print(f"H2 on 4 qubits of {DEVICE}, energy error in mHa, mean ± 95 % CI over {arguments.seeds} seeds\n")
    print("| age | no calibration | full calibration | localised calibration |")
    print("| --- | --- | --- | --- |")
    for column, age_h in enumerate(AGES_H):
        cells = [
            f"{errors[:, way, column].mean():.1f} ± {half_width(errors[:, way, column]):.1f}"
            for way in range(len(WAYS))
        ]
        print(f"| {age_h:g} h | {' | '.join(cells)} |")
    trends = {name: trend(errors[:, way]) for way, name in enumerate(WAYS)}
    print()
    for name, found in trends.items():
        print(
            f"slope, {name}: {found.mean:+.2f} mHa a day, 95 % CI {found.low:+.2f} to {found.high:+.2f},"
            f" one-sided p of a rise {found.p_rises:.2g}"
        )
    rise = errors[:, 0, -1] - errors[:, 0, 0]
    print(f"rise in {AGES_H[-1]:g} h without calibration: {rise.mean():+.1f} ± {half_width(rise):.1f} mHa")
    rebuilt_ms = 1000 * float(np.median(bench.rebuild_s))
    print(f"noise built anew and one energy, median: {rebuilt_ms:.1f} ms wall\n")
    device = DriftingDevice.modelled(snapshot, 1, full_calibration_s=FULL_S)
    share = max(device.calibration_s(layout) for _, layout in measured) / device.calibration_s()
    with tempfile.TemporaryDirectory() as folder:
        served = serve(Path(folder), terms, bench.program, bench.point)
    for session, number in sorted(served.iterations.items()):
        limit_s = LIMITS_S[session]
        oldest_s = served.oldest_s[session]
        print(f"{session}: {number} iterations, oldest calibration {oldest_s:.0f} s of {limit_s:g}")
    print(f"calibrations: {served.fulls} full, {served.locals} localised; jobs failed: {served.failed}\n")
    within = all(served.oldest_s[name] <= LIMITS_S[name] for name in served.iterations)
    none, full = trends["none"], trends["full"]
    verdict(
        "energy error rises without calibration",
        f"{none.mean:+.2f} mHa a day, p {none.p_rises:.1g}",
        "p < 0.001",
        none.p_rises < 0.001,
    )
    verdict(
        "energy error with full calibration",
        f"{full.mean:+.2f} mHa a day, 95 % CI {full.low:+.2f} to {full.high:+.2f}",
        "flat within noise: 0 in the interval, and below a fifth of the rise without",
        full.low <= 0 <= full.high and abs(full.mean) < none.mean / 5,
    )
    verdict("localised calibration of the circuit", f"{share:.3f} of a full one", "≤ 0.2", share <= 0.2)
    verdict(
        "the same on a running server",
        f"{served.local_share:.3f} of a full one, {served.locals} of them",
        "≤ 0.2",
        served.local_share <= 0.2,
    )
    total = sum(served.iterations.values())
    verdict(
        "iterations on a calibration older than their limit",
        f"{0 if within else 'some'} of {total}",
        "0",
        within and len(served.iterations) == len(LIMITS_S),
    )
    explained = served.unfounded == 0
    verdict(
        "iterations whose age no logged calibration explains",
        f"{served.unfounded} of {total - served.again}",
        "0",
        explained,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
