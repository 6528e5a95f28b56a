"""Two saturated devices under every policy: how long loops wait, and how well the devices are used.

    python benchmarks/fair_queue.py [--seeds 10] [--horizon 600]

Batch jobs of mean 5 s come at random to two devices, at 120 % of what these could do without anything else.
Two loops compute 1.5 s (spread 10 %) and need 2 s of a device (spread 0.3 s) in each iteration; 0.05 s of
network lie between. Slices last 0.25 s, turning to another job costs 10 ms and counts as idle. All policies
meet the same jobs.

TTNS is the time from the moment when the classical side has the next parameters to the moment when the
device starts on them, network included. Iterations that have not started at the end count with the wait
they have had. QDC is the device time of shots over all device time. The first 60 s, in which sessions begin
and queues fill, are left out of TTNS.

The second table has calibration on: the device calibrates in full each hour (30 s), loops accept no
calibration older than 300 s, which the project's policy renews for their four qubits, and the stateless
ones in full for everybody.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from efaas.core.qpu import CalibrationConfig, QpuConfig
from efaas.simulator import BatchStream, LoopSession, Measures, Simulator, percentile

LIMIT_TTNS_S = 0.35
LEAST_QDC = 0.95
WARM_UP_S = 60.0
STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 8: 2.36, 10: 2.26, 15: 2.14, 20: 2.09, 30: 2.05}
"""Two-sided 95 % points of Student's distribution by number of seeds."""

ROWS: tuple[tuple[str, dict[str, object]], ...] = (
    ("efaas", {}),
    ("efaas, no gap-fitting", {"gap_fitting": False}),
    ("efaas, no slicing", {"slice_s": None}),
    ("sbq", {"policy": "sbq"}),
    ("pf", {"policy": "pf"}),
    ("pq", {"policy": "pq"}),
    ("sr", {"policy": "sr"}),
    ("session-fifo", {"policy": "session-fifo"}),
)


@dataclass(frozen=True)
class Estimate:
    """Mean over seeds and half the width of its 95 % confidence interval."""

    mean: float
    half: float

    @classmethod
    def of(cls, values: list[float]) -> Estimate:
        """From one value a seed."""
        n = len(values)
        mean = sum(values) / n
        if n < 2:
            return cls(mean, math.nan)
        deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
        point = STUDENT[max(known for known in STUDENT if known <= n)]
        return cls(mean, point * deviation / math.sqrt(n))


def simulate(seed: int, horizon_s: float, calibrated: bool, **fields: object) -> Measures:
    calibration = CalibrationConfig(frozen=not calibrated, interval_s=3600.0, duration_s=30.0)
    config = QpuConfig(slice_cost_s=0.01, calibration=calibration, **fields)  # type: ignore[arg-type]
    limit_s = 300.0 if calibrated else None
    loops = [LoopSession(f"loop {n}", f"team {n}", max_calibration_age_s=limit_s) for n in range(2)]
    batch = [BatchStream(f"batch {n}", f"group {n}", rate=1.2 * 2 / 5.0 / 4) for n in range(4)]
    devices = {"first": config, "second": config}
    return Simulator(devices, loops=loops, batch=batch, seed=seed).run(horizon_s)


COLUMNS: tuple[tuple[str, Callable[[Measures], float], str], ...] = (
    ("TTNS mean s", lambda m: sum(t := m.ttns_s(after_s=WARM_UP_S)) / len(t), ".3f"),
    ("p50", lambda m: percentile(m.ttns_s(after_s=WARM_UP_S), 0.50), ".3f"),
    ("p95", lambda m: percentile(m.ttns_s(after_s=WARM_UP_S), 0.95), ".3f"),
    ("QDC", lambda m: m.duty_cycle, ".4f"),
    ("iterations", lambda m: float(m.iterations_done()), ".0f"),
    ("batch wait s", lambda m: m.batch_wait_s(), ".0f"),
    ("kept free", lambda m: m.reserved_share, ".4f"),
)


def table(seeds: int, horizon_s: float, calibrated: bool) -> dict[str, dict[str, Estimate]]:
    results: dict[str, dict[str, Estimate]] = {}
    print(f"{'policy':<23}" + "".join(f"{name:>20}" for name, _, _ in COLUMNS))
    for row, fields in ROWS:
        runs = [simulate(seed, horizon_s, calibrated, **fields) for seed in range(seeds)]
        results[row] = {name: Estimate.of([measure(run) for run in runs]) for name, measure, _ in COLUMNS}
        cells = []
        for name, _, form in COLUMNS:
            estimate = results[row][name]
            cells.append(f"{estimate.mean:{form}} ± {estimate.half:{form}}".rjust(20))
        print(f"{row:<23}" + "".join(cells), flush=True)
    return results


def verdict(name: str, estimate: Estimate, target: float, *, at_most: bool, unit: str = "") -> None:
    good = estimate.mean <= target if at_most else estimate.mean >= target
    sign = "<=" if at_most else ">="
    word = "reached" if good else "not reached"
    print(f"{name}: {estimate.mean:.4f}{unit} (target {sign} {target}{unit}, {word})")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--horizon", type=float, default=600.0, help="device seconds of each run")
    options = parser.parse_args()
    began = time.perf_counter()
    print(f"two devices, {options.seeds} seeds, {options.horizon:g} s each; mean ± 95 % confidence")
    print("\ncalibration off")
    off = table(options.seeds, options.horizon, calibrated=False)
    print("\ncalibration on")
    on = table(options.seeds, options.horizon, calibrated=True)
    print(f"\n{time.perf_counter() - began:.0f} s of wall time")
    verdict("p95 TTNS", off["efaas"]["p95"], LIMIT_TTNS_S, at_most=True, unit=" s")
    verdict("QDC", off["efaas"]["QDC"], LEAST_QDC, at_most=False)
    verdict("p95 TTNS, calibration on", on["efaas"]["p95"], LIMIT_TTNS_S, at_most=True, unit=" s")
    verdict("QDC, calibration on", on["efaas"]["QDC"], LEAST_QDC, at_most=False)


if __name__ == "__main__":
    main()
