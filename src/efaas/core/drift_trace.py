"""A device driven by a record: daily values of a real one instead of a model.

A record of daily calibrations says what coherence, gate errors and readout errors were right after each
calibration. So it replaces what the model says about those; control drift *between* calibrations is in no
such record and goes on as random walks (with rates of zero it stands still).

Between two recorded times, T1 and T2 are interpolated in the logarithm (so T2 ≤ 2·T1 holds in between if it
holds at both), errors and probabilities linearly. After the last time its values stay. Time 0 of the device
is the record's first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from efaas.core.device_values import DeviceParts, DeviceValues, Floats
from efaas.core.drift import (
    PERTH_2023,
    ControlWalks,
    DriftRates,
    ErrorGrowth,
    TrueDevice,
    expected_growth,
    shifted_readout,
)


@dataclass(frozen=True)
class DriftTrace:
    """Values of a whole device at some times, complete and physical.

    Args:
        times_s: device times, ascending from 0; shape (times,).
        t1_us: shape (times, qubits), and so the next three.
        t2_us: at most 2·T1.
        prob_meas1_prep0: probability to read 1 after preparing 0.
        prob_meas0_prep1: probability to read 0 after preparing 1.
        gate_error: shape (times, gates).

    Raises:
        ValueError: times that do not ascend from 0, or values that no device can have.
    """

    times_s: Floats
    t1_us: Floats
    t2_us: Floats
    prob_meas1_prep0: Floats
    prob_meas0_prep1: Floats
    gate_error: Floats

    def __post_init__(self) -> None:
        if len(self.times_s) == 0 or self.times_s[0] != 0 or np.any(np.diff(self.times_s) <= 0):
            raise ValueError("the times of a drift trace must ascend from 0")
        if not (np.all(self.t1_us > 0) and np.all(np.isfinite(self.t1_us)) and np.all(self.t2_us > 0)):
            raise ValueError("T1 and T2 of a drift trace must be finite and above 0")
        if np.any(self.t2_us > 2 * self.t1_us):
            raise ValueError("T2 of a drift trace must be at most 2·T1")
        for name in ("prob_meas1_prep0", "prob_meas0_prep1", "gate_error"):
            values = getattr(self, name)
            if not (np.all(values >= 0) and np.all(values < 1)):
                raise ValueError(f"{name} of a drift trace must be at least 0 and below 1")
        for name in ("t1_us", "t2_us", "prob_meas1_prep0", "prob_meas0_prep1", "gate_error"):
            if getattr(self, name).shape[0] != len(self.times_s):
                raise ValueError(f"{name} of a drift trace must have a row for each time")

    def at(self, time_s: float) -> DeviceValues:
        """Interpolated values at a moment."""
        after = int(np.searchsorted(self.times_s, time_s, side="right"))
        low, high = max(after - 1, 0), min(after, len(self.times_s) - 1)
        span = self.times_s[high] - self.times_s[low]
        part = float((time_s - self.times_s[low]) / span) if span else 0.0

        def between(values: Floats) -> Floats:
            mixed: Floats = values[low] + part * (values[high] - values[low])
            return mixed

        def between_logs(values: Floats) -> Floats:
            mixed: Floats = values[low] * (values[high] / values[low]) ** part
            return mixed

        t1_us = between_logs(self.t1_us)
        return DeviceValues(
            t1_us=t1_us,
            # The bound holds exactly at both ends; in between only rounding can break it.
            t2_us=np.minimum(between_logs(self.t2_us), 2 * t1_us),
            prob_meas1_prep0=between(self.prob_meas1_prep0),
            prob_meas0_prep1=between(self.prob_meas0_prep1),
            gate_error=between(self.gate_error),
        )


class TraceDrift:
    """Coherence and errors from a record, control as random walks since calibration.

    Args:
        parts: what the device is made of.
        trace: the record.
        seed: seed of the control drift.
        rates: how fast control drifts; the coherence part is not used.
    """

    fixed = False

    def __init__(
        self, parts: DeviceParts, trace: DriftTrace, seed: int, rates: DriftRates = PERTH_2023
    ) -> None:
        self._trace, self._rates = trace, rates
        self._control = ControlWalks(parts, rates, seed)

    def true_device(self, now_s: float, calibrated_s: Floats) -> TrueDevice:
        """See `efaas.core.drift.Drift`."""
        drive, coupling, shift = self._control.since(now_s, calibrated_s)
        base = self._trace.at(now_s)
        ones, zeros = shifted_readout(base.prob_meas1_prep0, base.prob_meas0_prep1, shift)
        return TrueDevice(DeviceValues(base.t1_us, base.t2_us, ones, zeros, base.gate_error), drive, coupling)

    def growth(self, values: DeviceValues) -> ErrorGrowth:
        """See `efaas.core.drift.Drift`."""
        return expected_growth(self._rates, values)
