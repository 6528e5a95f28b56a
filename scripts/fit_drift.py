"""Fit the drift model's constants to the calibration record of a real device.

The record is ``ibm_perth_2023.json.gz``: daily calibrations of a 7-qubit device from January to June 2023,
reduced from the public repository ``manosgior/Qonductor-SC25`` (MIT). It does not ship with the project::

    python scripts/fit_drift.py --record PATH/ibm_perth_2023.json.gz
    python scripts/fit_drift.py --record PATH/ibm_perth_2023.json.gz --write-trace perth-2023.json

The first prints the record's statistics, the constants made of them (those of `efaas.core.drift.PERTH_2023`)
and what the fitted model predicts for statistics that were not fitted. The second also writes the record as a
trace that can drive a device.

How a figure is made:

- A value that a record carries over from the one before (same measurement time within an hour) says nothing
  about drift, so steps and autocorrelations are taken over *fresh* pairs: both measured anew, records less
  than 40 hours apart, no gate error of 1.0 (a failed calibration). Medians resist the bad spells of single
  qubits.
- T1, T2: rate of the Ornstein-Uhlenbeck process from the lag-1 autocorrelation φ of the logarithm (median
  over qubits), stationary deviation from the median relative step: a step of the logarithm is normal with
  deviation s = σ·sqrt(2·(1 - φ)).
- Over-rotation: after a day without calibration the median added error of a gate, θ²/6 for one and θ²/5 for
  two qubits, is the record's median step of that error.
- Readout: the two error probabilities of a qubit place the discriminator's threshold between two normal
  signals; the walk is that of the threshold. The spread that 5000 shots give by chance alone (all
  probabilities are multiples of 0.0002) is taken off.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efaas.core.drift import PERTH_2023, DriftRates

READOUT_SHOTS = 5000
QUANTITIES = ("T1", "T2", "readout", "sx", "cx")
QUARTILE = NormalDist().inv_cdf(0.75)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """One quantity of one qubit or pair: a value for each record, and when it was measured."""

    values: Floats
    measured_h: Floats
    fresh: NDArray[np.bool_]
    """For each step from a record to the next, whether it compares two new measurements."""
    usable: NDArray[np.bool_]
    """The same, carried-over values included."""


def read(path: Path) -> dict[str, Any]:
    with gzip.open(path) as file:
        record: dict[str, Any] = json.load(file)
    return record


def hours(record: dict[str, Any]) -> Floats:
    stamps = [datetime.fromisoformat(entry["update_utc"]) for entry in record["records"]]
    return np.array([stamp.timestamp() / 3600 for stamp in stamps])


def series(record: dict[str, Any], quantity: str) -> list[Series]:
    """All series of a quantity, one for each qubit or pair."""
    entries, at = record["records"], hours(record)
    if quantity in ("T1", "T2", "readout"):
        key = {"T1": "T1_us", "T2": "T2_us", "readout": "readout_error"}[quantity]
        raw = [
            [(entry["qubits"][qubit][key], entry["qubits"][qubit]["age_h"][quantity]) for entry in entries]
            for qubit in range(record["n_qubits"])
        ]
    else:
        names = (
            [f"sx{qubit}" for qubit in range(record["n_qubits"])]
            if quantity == "sx"
            else [f"cx{a}_{b}" for a, b in record["edges"]]
        )
        raw = [
            [(entry["gates"][name]["error"], entry["gates"][name]["age_h"]) for entry in entries]
            for name in names
        ]
    result = []
    for item in raw:
        values, ages = np.array(item).T
        measured = at - ages
        valid = values < 1 if quantity == "cx" else np.ones(len(values), dtype=bool)
        usable = valid[1:] & valid[:-1] & (np.diff(at) < 40)
        result.append(Series(values, measured, usable & (np.abs(np.diff(measured)) > 1), usable))
    return result


def relative_steps(items: list[Series], *, fresh: bool) -> Floats:
    return np.concatenate(
        [
            np.abs(item.values[1:] / item.values[:-1] - 1)[item.fresh if fresh else item.usable]
            for item in items
        ]
    )


def autocorrelations(items: list[Series], *, fresh: bool) -> list[float]:
    result = []
    for item in items:
        pairs, logs = (item.fresh if fresh else item.usable), np.log(item.values)
        result.append(float(np.corrcoef(logs[:-1][pairs], logs[1:][pairs])[0, 1]))
    return result


def lag_h(items: list[Series]) -> float:
    return float(np.median(np.concatenate([np.diff(item.measured_h)[item.fresh] for item in items])))


def deviation_of_step(median_relative: float) -> float:
    """Deviation s of a normal step d of the logarithm such that the median of abs(exp(d) - 1) is as given."""
    low, high = 1e-6, 10.0
    for _ in range(100):
        middle = math.sqrt(low * high)
        inside = NormalDist(0, middle).cdf(math.log1p(median_relative)) - NormalDist(0, middle).cdf(
            math.log1p(-median_relative)
        )
        low, high = (middle, high) if inside > 0.5 else (low, middle)
    return low


def coherence(items: list[Series]) -> tuple[float, float]:
    """Stationary deviation of the logarithm, and correlation over a day."""
    correlation = float(np.median(autocorrelations(items, fresh=True)))
    step = deviation_of_step(float(np.median(relative_steps(items, fresh=True))))
    return step / math.sqrt(2 * (1 - correlation)), correlation ** (24 / lag_h(items))


def over_rotation(items: list[Series], divisor: float) -> float:
    """Deviation in radians after a day: the median of θ²/divisor is the median step of the error."""
    error = float(np.median(np.concatenate([item.values[item.values < 1] for item in items])))
    step = float(np.median(relative_steps(items, fresh=True))) * error
    return math.sqrt(divisor * step) / QUARTILE


def threshold_steps(record: dict[str, Any]) -> tuple[Floats, Floats]:
    """Steps of the readout threshold between fresh records, and the deviation that shots give each."""
    steps, chance = [], []
    for qubit, item in enumerate(series(record, "readout")):
        p10, p01 = (
            np.array([entry["qubits"][qubit][key] for entry in record["records"]])
            for key in ("prob_meas0_prep1", "prob_meas1_prep0")
        )
        whole = np.abs(item.values - (p10 + p01) / 2) < 1.5 / READOUT_SHOTS
        pairs = item.fresh & whole[1:] & whole[:-1]
        variance = np.zeros(len(p10))
        shift = np.zeros(len(p10))
        for sign, probability in ((1, p10), (-1, p01)):
            bounded = np.clip(probability, 0.5 / READOUT_SHOTS, 1 - 0.5 / READOUT_SHOTS)
            z = np.array([-NormalDist().inv_cdf(p) for p in bounded])
            density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
            shift += sign * z / 2
            variance += bounded * (1 - bounded) / READOUT_SHOTS / density**2 / 4
        steps.append(np.diff(shift)[pairs])
        chance.append(np.sqrt(variance[1:] + variance[:-1])[pairs])
    return np.concatenate(steps), np.concatenate(chance)


def readout(record: dict[str, Any]) -> tuple[float, float, float]:
    """Deviation of the threshold's step (signal deviations): net of chance, as seen, by chance."""
    steps, chance = threshold_steps(record)
    seen, by_chance = float(np.median(np.abs(steps))) / QUARTILE, float(np.median(chance))
    return math.sqrt(max(0.0, seen**2 - by_chance**2)), seen, by_chance


def fit(record: dict[str, Any]) -> DriftRates:
    """The constants, rounded to three significant digits."""
    t1, t2 = coherence(series(record, "T1")), coherence(series(record, "T2"))
    figures = (
        over_rotation(series(record, "sx"), 6),
        over_rotation(series(record, "cx"), 5),
        readout(record)[0],
        *t1,
        *t2,
    )
    return DriftRates(*(float(f"{figure:.3g}") for figure in figures))


def lagged(items: list[Series], days: int) -> float:
    """Autocorrelation of the logarithm over some days, between distinct measurements; median over items."""
    result = []
    for item in items:
        new = np.concatenate([[True], np.abs(np.diff(item.measured_h)) > 1]) & (item.values < 1000)
        at, logs = item.measured_h[new], np.log(item.values[new])
        logs = logs - logs.mean()
        first, second = np.nonzero(np.abs(at[None, :] - at[:, None] - 24 * days) < 6)
        result.append(float(np.mean(logs[first] * logs[second]) / logs.var()))
    return float(np.median(result))


def report(record: dict[str, Any]) -> None:
    print(
        "Record: value and steps (pooled), lag-1 autocorrelation of the logarithm (median and range of items)"
    )
    print(
        f"{'':8} {'median':>9} {'step':>7} {'p90':>7} {'fresh':>7}"
        f"  {'autocorr.':>9} {'range':>13} {'fresh':>6}"
    )
    for quantity in QUANTITIES:
        items = series(record, quantity)
        values = np.concatenate(
            [item.values[item.values < 1] if quantity == "cx" else item.values for item in items]
        )
        steps, correlations = relative_steps(items, fresh=False), autocorrelations(items, fresh=False)
        print(
            f"{quantity:8} {np.median(values):9.3g} {np.median(steps):7.1%} {np.quantile(steps, 0.9):7.1%}"
            f" {np.median(relative_steps(items, fresh=True)):7.1%}  {np.median(correlations):9.2f}"
            f" {min(correlations):6.2f}-{max(correlations):<6.2f}"
            f" {np.median(autocorrelations(items, fresh=True)):6.2f}"
        )
    net, seen, by_chance = readout(record)
    print(
        f"\nThreshold step a day: {seen:.3f} as seen, {by_chance:.3f} by chance of {READOUT_SHOTS} shots,"
        f" {net:.3f} net"
    )
    fitted = fit(record)
    print("\nFitted constants (PERTH_2023)                     fitted   in the module")
    for field in fields(DriftRates):
        print(f"  {field.name:44} {getattr(fitted, field.name):9.3g} {getattr(PERTH_2023, field.name):12.3g}")
    print("\nNot fitted: what the model predicts, and the record")
    for quantity, deviation, correlation in (
        ("T1", fitted.t1_log_deviation, fitted.t1_day_correlation),
        ("T2", fitted.t2_log_deviation, fitted.t2_day_correlation),
    ):
        items = series(record, quantity)
        spread = [np.median(np.abs(np.log(s.values) - np.median(np.log(s.values)))) / QUARTILE for s in items]
        print(
            f"  {quantity}: robust deviation of the logarithm: {deviation:.2f},"
            f" record {np.median(spread):.2f}"
        )
        tail = math.expm1(NormalDist().inv_cdf(0.95) * deviation * math.sqrt(2 * (1 - correlation)))
        print(
            f"  {quantity}: p90 of the upward step: {tail:.0%}, record {upward(items):.0%}"
            " (which has rare bad spells)"
        )
        pairs = ", ".join(f"{d} d {correlation**d:.2f}/{lagged(items, d):.2f}" for d in (2, 3, 5))
        print(f"  {quantity}: autocorrelation, model/record: {pairs}")
    same = fitted == PERTH_2023
    print(
        "\nThe module's constants are the fitted ones."
        if same
        else "\nTHE MODULE'S CONSTANTS DIFFER FROM THE FIT."
    )
    if not same:
        raise SystemExit(1)


def upward(items: list[Series]) -> float:
    """0.9 quantile of the size of relative steps, taken from the smaller of both values."""
    logs = np.concatenate([np.abs(np.diff(np.log(item.values)))[item.fresh] for item in items])
    return float(np.expm1(np.quantile(logs, 0.9)))


def trace(record: dict[str, Any]) -> dict[str, Any]:
    """The record as a drift trace, faults and all: reading it names and repairs them."""
    at = hours(record)
    entries = record["records"]
    gates: list[tuple[str, tuple[int, ...]]] = [
        (name, (qubit,)) for name in ("sx", "x") for qubit in range(record["n_qubits"])
    ]
    gates += [("cx", (a, b)) for a, b in record["coupling_map"]]
    return {
        "format": "efaas.dev/drift-trace/v1",
        "name": "perth-2023",
        "days": [round(float(hour), 4) for hour in (at - at[0]) / 24],
        "qubits": [
            {
                name: [entry["qubits"][qubit][key] for entry in entries]
                for name, key in (
                    ("t1Us", "T1_us"),
                    ("t2Us", "T2_us"),
                    ("probMeas1Prep0", "prob_meas1_prep0"),
                    ("probMeas0Prep1", "prob_meas0_prep1"),
                )
            }
            for qubit in range(record["n_qubits"])
        ],
        "gates": [
            {
                "gate": name,
                "qubits": list(qubits),
                "error": [entry["gates"][name + "_".join(map(str, qubits))]["error"] for entry in entries],
            }
            for name, qubits in gates
        ],
    }


def main() -> None:
    """Print the fit; write the trace if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--record", type=Path, required=True, help="ibm_perth_2023.json.gz")
    parser.add_argument("--write-trace", type=Path, help="write the record as a drift trace to this file")
    arguments = parser.parse_args()
    record = read(arguments.record)
    if arguments.write_trace:
        arguments.write_trace.write_text(json.dumps(trace(record), separators=(",", ":")))
        print(f"wrote {arguments.write_trace}\n")
    report(record)


if __name__ == "__main__":
    main()
