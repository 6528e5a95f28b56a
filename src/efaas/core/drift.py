"""How the true device moves away from what its last calibration measured.

Two things move, for different reasons:

- **Control** drifts because electronics and frequencies do: the drive of a qubit and the interaction of a
  pair turn too far by an angle, and the threshold between the two readout signals shifts. These are random
  walks W(t) - W(t_cal): variance grows in proportion to the time since the item's last calibration, and
  calibrating the item brings them back to nothing.
- **Coherence** moves because defects near the qubit do: log T1 and log T2 wander about the snapshot's values
  (Ornstein-Uhlenbeck). No calibration changes that; it only measures anew. Gate errors follow as far as
  relaxation over the gate's length makes them.

The walk W of an item runs from time 0 whether or not anything is calibrated, and drift is a difference of two
readings. So the true device is a function of (seed, time, times of the last calibrations): it replays, it
does not matter how often or in which order it was asked, and two calibration policies can be compared on the
very same fate.

`FixedDrift` is the device that does not drift at all, `ModelDrift` the one described here, `TraceDrift` takes
coherence, gate errors and readout from a record of days instead, with control drifting between calibrations
as in the model. Constants are fitted to a real device's record; ``docs/drift.md`` says how.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Protocol

import numpy as np

from efaas.core.device_values import DeviceParts, DeviceValues, Floats, largest_error, relaxation_error
from efaas.core.gauss_markov import GaussMarkovPaths

DAY_S = 86_400.0

_REMEMBERED_TIMES = 256
"""Moments whose walks are kept: those of the items' last calibrations, which each reading needs again."""

_SIGNAL = NormalDist()


@dataclass(frozen=True, slots=True)
class DriftRates:
    """How fast a device drifts.

    The defaults of the project are `PERTH_2023`.
    """

    drive_rad_per_sqrt_day: float
    """Deviation of a quarter turn's over-rotation, one day after its calibration."""
    coupling_rad_per_sqrt_day: float
    """Deviation of a two-qubit gate's over-rotation, one day after its calibration."""
    threshold_per_sqrt_day: float
    """Deviation of the readout threshold a day after its calibration, in deviations of the signal."""
    t1_log_deviation: float
    """Stationary deviation of log T1."""
    t1_day_correlation: float
    """Correlation of log T1 over one day, between 0 and 1."""
    t2_log_deviation: float
    t2_day_correlation: float

    def __post_init__(self) -> None:
        for name in (
            "drive_rad_per_sqrt_day",
            "coupling_rad_per_sqrt_day",
            "threshold_per_sqrt_day",
            "t1_log_deviation",
            "t2_log_deviation",
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}; it must be a finite number, not below 0")
        for name in ("t1_day_correlation", "t2_day_correlation"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise ValueError(f"{name} is {value}; it must lie between 0 and 1")

    def scaled(self, factor: float) -> DriftRates:
        """The same device drifting `factor` times as far in the same time (in deviations, not variances)."""
        return replace(
            self,
            drive_rad_per_sqrt_day=factor * self.drive_rad_per_sqrt_day,
            coupling_rad_per_sqrt_day=factor * self.coupling_rad_per_sqrt_day,
            threshold_per_sqrt_day=factor * self.threshold_per_sqrt_day,
            t1_log_deviation=factor * self.t1_log_deviation,
            t2_log_deviation=factor * self.t2_log_deviation,
        )


PERTH_2023 = DriftRates(
    drive_rad_per_sqrt_day=0.0248,
    coupling_rad_per_sqrt_day=0.124,
    threshold_per_sqrt_day=0.0374,
    t1_log_deviation=0.264,
    t1_day_correlation=0.274,
    t2_log_deviation=0.192,
    t2_day_correlation=0.204,
)
"""Fitted to ibm_perth, January to June 2023, by ``scripts/fit_drift.py --record ibm_perth_2023.json.gz``."""


@dataclass(frozen=True)
class TrueDevice:
    """The device as it really is at a moment: what a simulation of it must use."""

    values: DeviceValues
    drive_rad: Floats
    """Over-rotation of a quarter turn, shape (qubits,)."""
    coupling_rad: Floats
    """Over-rotation of a two-qubit gate, shape (couplings,)."""

    def over_rotations(self, parts: DeviceParts) -> Mapping[tuple[str, tuple[int, ...]], float]:
        """Radians by which each gate turns too far about its axis; gates that turn rightly are left out."""
        angles = self._angles(parts)
        return {gate: float(angle) for gate, angle in zip(parts.gates, angles, strict=True) if angle}

    def gate_infidelity(self, parts: DeviceParts) -> Floats:
        """Average infidelity of each gate, its over-rotation included (to first order), shape (gates,)."""
        angles, double = self._angles(parts), parts.gate_qubits[:, 1] >= 0
        added = np.where(double, over_rotation_infidelity(angles, 2), over_rotation_infidelity(angles, 1))
        return np.minimum(self.values.gate_error + added, largest_error(parts))

    def _angles(self, parts: DeviceParts) -> Floats:
        angles: Floats = (
            parts.gate_turns * np.concatenate([self.drive_rad, self.coupling_rad])[parts.gate_item]
        )
        return angles


class Drift(Protocol):
    """Source of the true device."""

    @property
    def fixed(self) -> bool:
        """Whether the device never changes and calibrations measure it exactly."""
        ...

    def true_device(self, now_s: float, calibrated_s: Floats) -> TrueDevice:
        """The device at a moment.

        Args:
            now_s: device time.
            calibrated_s: when each item was calibrated last, none after `now_s`; shape (items,),
                qubits first.
        """
        ...

    def growth(self, values: DeviceValues) -> ErrorGrowth:
        """How fast errors are expected to grow after a calibration that measured these values."""
        ...


@dataclass(frozen=True, slots=True)
class ErrorGrowth:
    """Expected growth of typical errors for each second since calibration; placement ages errors by it."""

    one_qubit_per_s: float
    two_qubit_per_s: float
    readout_per_s: float


class FixedDrift:
    """A frozen device: it is `values` for ever.

    Args:
        parts: what the device is made of.
        values: what it is.
    """

    fixed = True

    def __init__(self, parts: DeviceParts, values: DeviceValues) -> None:
        self._device = TrueDevice(values, np.zeros(parts.num_qubits), np.zeros(len(parts.couplings)))

    def true_device(self, now_s: float, calibrated_s: Floats) -> TrueDevice:  # noqa: ARG002
        """The same device at every moment."""
        return self._device

    def growth(self, values: DeviceValues) -> ErrorGrowth:  # noqa: ARG002
        """None."""
        return ErrorGrowth(0.0, 0.0, 0.0)


class ControlWalks:
    """Over-rotations and readout shifts since the last calibration of each item.

    Args:
        parts: what the device is made of.
        rates: how fast it drifts.
        seed: seed of the device's drift.
    """

    def __init__(self, parts: DeviceParts, rates: DriftRates, seed: int) -> None:
        self._parts = parts
        qubits, couplings = parts.num_qubits, len(parts.couplings)
        # Drives, couplings, thresholds; a threshold belongs to its qubit.
        self._paths = GaussMarkovPaths.brownian(f"control {seed}", 2 * qubits + couplings)
        self._scale = np.concatenate(
            [
                np.full(qubits, rates.drive_rad_per_sqrt_day),
                np.full(couplings, rates.coupling_rad_per_sqrt_day),
                np.full(qubits, rates.threshold_per_sqrt_day),
            ]
        ) / math.sqrt(DAY_S)
        self._item = np.concatenate([np.arange(qubits + couplings), np.arange(qubits)])
        self._read: OrderedDict[float, Floats] = OrderedDict()

    def since(self, now_s: float, calibrated_s: Floats) -> tuple[Floats, Floats, Floats]:
        """Drive angles (qubits,), coupling angles (couplings,) and threshold shifts (qubits,)."""
        if len(calibrated_s) and calibrated_s.max() > now_s:
            raise ValueError(
                f"an item was calibrated at {calibrated_s.max()} s, after the moment asked for, {now_s} s"
            )
        at_calibration = np.empty(len(self._item))
        when = calibrated_s[self._item]
        for time_s in np.unique(when):
            chosen = when == time_s
            at_calibration[chosen] = self._at(float(time_s))[chosen]
        moved = self._scale * (self._paths.at(now_s) - at_calibration)
        qubits = self._parts.num_qubits
        return moved[:qubits], moved[qubits:-qubits], moved[-qubits:]

    def _at(self, time_s: float) -> Floats:
        if time_s in self._read:
            self._read.move_to_end(time_s)
        else:
            self._read[time_s] = self._paths.at(time_s)
            if len(self._read) > _REMEMBERED_TIMES:
                self._read.popitem(last=False)
        return self._read[time_s]


class ModelDrift:
    """Control walks at random since calibration, coherence returns to the snapshot again and again.

    At time 0 the device is exactly the snapshot: that is the moment of the snapshot's calibration.

    Args:
        parts: what the device is made of.
        values: the snapshot.
        seed: seed of the device's drift.
        rates: how fast it drifts.
    """

    fixed = False

    def __init__(
        self, parts: DeviceParts, values: DeviceValues, seed: int, rates: DriftRates = PERTH_2023
    ) -> None:
        self._parts, self._values, self._rates = parts, values, rates
        self._control = ControlWalks(parts, rates, seed)
        self._relaxation = relaxation_error(parts, values.t1_us, values.t2_us)
        decay = [
            -math.log(correlation) / DAY_S
            for correlation in (rates.t1_day_correlation, rates.t2_day_correlation)
        ]
        self._coherence = GaussMarkovPaths.ornstein_uhlenbeck(
            f"coherence {seed}", np.repeat(decay, parts.num_qubits)
        )

    def true_device(self, now_s: float, calibrated_s: Floats) -> TrueDevice:
        """See `Drift`."""
        drive, coupling, shift = self._control.since(now_s, calibrated_s)
        t1_us, t2_us = self._coherence_at(now_s)
        values = DeviceValues(
            t1_us,
            t2_us,
            *shifted_readout(self._values.prob_meas1_prep0, self._values.prob_meas0_prep1, shift),
            self._gate_error(t1_us, t2_us),
        )
        return TrueDevice(values, drive, coupling)

    def growth(self, values: DeviceValues) -> ErrorGrowth:
        """See `Drift`."""
        return expected_growth(self._rates, values)

    def _coherence_at(self, now_s: float) -> tuple[Floats, Floats]:
        walk = self._coherence.at(now_s)
        qubits = self._parts.num_qubits
        t1_us = self._values.t1_us * np.exp(self._rates.t1_log_deviation * walk[:qubits])
        t2_us = self._values.t2_us * np.exp(self._rates.t2_log_deviation * walk[qubits:])
        return t1_us, np.minimum(t2_us, 2 * t1_us)

    def _gate_error(self, t1_us: Floats, t2_us: Floats) -> Floats:
        """The snapshot's errors with the part that relaxation makes replaced by today's."""
        change = relaxation_error(self._parts, t1_us, t2_us) - self._relaxation
        return np.clip(self._values.gate_error + change, 0.0, largest_error(self._parts))


def expected_growth(rates: DriftRates, values: DeviceValues) -> ErrorGrowth:
    """Growth of the mean error of a quarter turn, a two-qubit gate and a readout.

    An over-rotation by θ has infidelity (2/3)·sin²(θ/2) ≈ θ²/6 on one qubit and (4/5)·sin²(θ/2) ≈ θ²/5 on
    two, and θ² grows in proportion to time. A threshold shift δ changes the mean readout error by (z₀·φ(z₀) +
    z₁·φ(z₁))·δ²/4 on average over both signs, z₀ and z₁ being its distances from the two signals.
    """
    curvature = 0.0
    for probability in (values.prob_meas1_prep0, values.prob_meas0_prep1):
        z = threshold_distance(probability)
        finite = np.where(np.isfinite(z), z, 0.0)
        curvature += float(np.mean(finite * np.exp(-(finite**2) / 2))) / math.sqrt(2 * math.pi)
    return ErrorGrowth(
        one_qubit_per_s=rates.drive_rad_per_sqrt_day**2 / 6 / DAY_S,
        two_qubit_per_s=rates.coupling_rad_per_sqrt_day**2 / 5 / DAY_S,
        readout_per_s=max(0.0, rates.threshold_per_sqrt_day**2 * curvature / 4 / DAY_S),
    )


def over_rotation_infidelity(angle: Floats, qubits: int) -> Floats:
    """Average infidelity of turning too far about a Pauli axis: d/(d+1)·sin²(angle/2), d = 2^qubits."""
    dimension = 2**qubits
    result: Floats = dimension / (dimension + 1) * np.sin(angle / 2) ** 2
    return result


def threshold_distance(probability: Floats) -> Floats:
    """Distance of the threshold from a normal signal that crosses it so often; infinite for never."""
    return np.array([-_SIGNAL.inv_cdf(p) if p > 0 else math.inf for p in probability.tolist()])


def shifted_readout(
    prob_meas1_prep0: Floats, prob_meas0_prep1: Floats, shift: Floats
) -> tuple[Floats, Floats]:
    """Readout errors after the threshold moved by `shift` towards the signal of 0.

    The signals of 0 and 1 are normal with deviation 1, the unit of `shift`, and the threshold lies between:
    one error grows as the other shrinks. No shift gives the very same numbers.
    """
    ones = _crossing(prob_meas1_prep0, -shift)
    zeros = _crossing(prob_meas0_prep1, shift)
    return ones, zeros


def _crossing(probability: Floats, further: Floats) -> Floats:
    return np.array(
        [
            p if p == 0 or move == 0 else _SIGNAL.cdf(_SIGNAL.inv_cdf(p) - move)
            for p, move in zip(probability.tolist(), further.tolist(), strict=True)
        ]
    )
