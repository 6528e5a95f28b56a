"""What is known of a device, and what it costs to know it better.

Only calibrations look at the true device. Each measures some items (qubits and couplings), brings their
control drift back to nothing and is kept as an *epoch*: a number that only grows, when it ended, what it
covered and what it measured. Epoch 1 is the snapshot the device starts from, at time 0.

What a circuit relies on is as old as the oldest item it uses, and changed last when the newest of them did.
So a local calibration elsewhere on the device neither freshens a circuit nor makes its prepared form useless.

Cost: a full calibration of n qubits takes a given time D and covers every item. A local one of k qubits and
the couplings among them takes

    D · (f + (1 - f) · k / n),   f = 0.02,

the fixed part being the set-up that does not depend on how much is measured. A qubit brings its share of the
couplings with it (27 qubits of a heavy-hexagon lattice have 28, four in a row have 3), so counting qubits
counts both. Four qubits of 27 cost 0.165·D.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from efaas.core.device_values import DRIVE_TURNS, DeviceParts, DeviceValues, Floats
from efaas.core.drift import Drift
from efaas.core.gauss_markov import standard_normals
from efaas.core.identity import digest
from efaas.core.qpu.messages import CalibrationScope

FIXED_SHARE = 0.02
"""Part of a full calibration's time that every calibration takes, however little it covers."""

HISTORY_LENGTH = 1000
"""Epochs that are kept to be read back; older ones are in the server's log."""


def local_calibration_costs(num_qubits: int, full_s: float) -> tuple[float, float]:
    """Device seconds of a local calibration: the fixed part, and that of each qubit it covers.

    Args:
        num_qubits: qubits of the whole device, all of which a full calibration covers.
        full_s: device seconds of a full calibration.
    """
    return FIXED_SHARE * full_s, (1 - FIXED_SHARE) * full_s / num_qubits


def local_calibration_s(num_qubits: int, full_s: float, covered: int) -> float:
    """Device seconds of a local calibration of `covered` qubits; all of them cost as much as a full one.

    Args:
        num_qubits: qubits of the whole device.
        full_s: device seconds of a full calibration.
        covered: qubits to calibrate.

    Raises:
        ValueError: no qubit, or more than the device has.
    """
    if not 1 <= covered <= num_qubits:
        raise ValueError(f"{covered} qubits cannot be calibrated on a device of {num_qubits}")
    fixed_s, per_qubit_s = local_calibration_costs(num_qubits, full_s)
    return fixed_s + per_qubit_s * covered


@dataclass(frozen=True, slots=True)
class TypicalErrors:
    """Median errors, as people and placement look at a device; 0 where there is nothing of the kind."""

    one_qubit: float
    """Of gates that the drive makes; turns of the frame cost nothing and do not count."""
    two_qubit: float
    readout: float
    """Of the qubits' mean over both states."""


def typical_errors(
    gates: Sequence[tuple[str, tuple[int, ...]]],
    gate_error: Sequence[float] | Floats,
    prob_meas1_prep0: Sequence[float] | Floats,
    prob_meas0_prep1: Sequence[float] | Floats,
) -> TypicalErrors:
    """Median errors of some gates and qubits.

    Args:
        gates: (name, qubits).
        gate_error: of each gate, in that order.
        prob_meas1_prep0: of each qubit.
        prob_meas0_prep1: of each qubit.
    """
    errors = list(zip(gates, gate_error, strict=True))
    readout = (np.asarray(prob_meas1_prep0) + np.asarray(prob_meas0_prep1)) / 2

    def median(values: Sequence[float] | Floats) -> float:
        return float(np.median(values)) if len(values) else 0.0

    return TypicalErrors(
        median([error for (name, qubits), error in errors if len(qubits) == 1 and name in DRIVE_TURNS]),
        median([error for (_, qubits), error in errors if len(qubits) == 2]),
        median(readout),
    )


@dataclass(frozen=True, slots=True)
class CalibrationEpoch:
    """What one calibration measured. Lists are in the order of `qubits` and `gates`."""

    id: int
    finished_s: float
    """Device time at which it ended and its values are from."""
    scope: CalibrationScope
    qubits: tuple[int, ...]
    couplings: tuple[tuple[int, int], ...]
    gates: tuple[tuple[str, tuple[int, ...]], ...]
    t1_us: tuple[float, ...]
    t2_us: tuple[float, ...]
    prob_meas1_prep0: tuple[float, ...]
    prob_meas0_prep1: tuple[float, ...]
    gate_error: tuple[float, ...]

    def typical_errors(self) -> TypicalErrors:
        """Median errors of what it measured."""
        return typical_errors(self.gates, self.gate_error, self.prob_meas1_prep0, self.prob_meas0_prep1)

    def to_json(self) -> dict[str, Any]:
        """The epoch as a JSON object; `from_json` gives an equal epoch back."""
        return {
            "id": self.id,
            "finishedS": self.finished_s,
            "scope": self.scope.value,
            "qubits": list(self.qubits),
            "couplings": [list(pair) for pair in self.couplings],
            "gates": [[name, list(qubits)] for name, qubits in self.gates],
            "t1Us": list(self.t1_us),
            "t2Us": list(self.t2_us),
            "probMeas1Prep0": list(self.prob_meas1_prep0),
            "probMeas0Prep1": list(self.prob_meas0_prep1),
            "gateError": list(self.gate_error),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> CalibrationEpoch:
        """Read what `to_json` wrote (the server's own log; not for input from outside)."""
        return cls(
            id=int(document["id"]),
            finished_s=float(document["finishedS"]),
            scope=CalibrationScope(document["scope"]),
            qubits=tuple(document["qubits"]),
            couplings=tuple((a, b) for a, b in document["couplings"]),
            gates=tuple((name, tuple(qubits)) for name, qubits in document["gates"]),
            t1_us=tuple(document["t1Us"]),
            t2_us=tuple(document["t2Us"]),
            prob_meas1_prep0=tuple(document["probMeas1Prep0"]),
            prob_meas0_prep1=tuple(document["probMeas0Prep1"]),
            gate_error=tuple(document["gateError"]),
        )


@dataclass(frozen=True, slots=True)
class MeasurementError:
    """How far a calibration's values are off by chance; none by default, and never on a frozen device."""

    coherence_log_deviation: float = 0.0
    """Deviation of the logarithm of a measured T1 or T2."""
    readout_shots: int = 0
    """Shots from which each readout probability is estimated; 0: exactly known."""


class KnownDevice:
    """What the calibrations so far have measured.

    Args:
        parts: what the device is made of.
        values: what is known at time 0: epoch 1.
        measurement: how far measured values are off.
        seed: seed of the measurement errors.
    """

    def __init__(
        self,
        parts: DeviceParts,
        values: DeviceValues,
        *,
        measurement: MeasurementError | None = None,
        seed: int = 0,
    ) -> None:
        self.parts = parts
        self._measurement = measurement or MeasurementError()
        self._key = int(digest("calibration", seed), 16)
        self._values = values
        self._calibrated_s = np.zeros(parts.num_items)
        self._item_epoch = np.ones(parts.num_items, dtype=np.int64)
        self._latest = _epoch(
            parts, values, 1, 0.0, CalibrationScope.FULL, tuple(range(parts.num_qubits)), None
        )
        self._history = deque([self._latest], maxlen=HISTORY_LENGTH)

    @property
    def values(self) -> DeviceValues:
        """Known values of all parts; a calibration puts new arrays in place and never changes these."""
        return self._values

    @property
    def calibrated_s(self) -> Floats:
        """Device time of each item's last calibration, shape (items,): what `Drift.true_device` takes."""
        return self._calibrated_s.copy()

    @property
    def epoch(self) -> int:
        """Id of the newest epoch."""
        return self._latest.id

    @property
    def history(self) -> tuple[CalibrationEpoch, ...]:
        """The last epochs (`HISTORY_LENGTH` at most), oldest first."""
        return tuple(self._history)

    def age_s(
        self,
        now_s: float,
        qubits: Collection[int] | None = None,
        couplings: Iterable[tuple[int, int]] | None = None,
    ) -> float:
        """Age of the oldest item in use.

        Args:
            now_s: device time.
            qubits: qubits in use; the whole device if not given.
            couplings: pairs in use; those among the qubits if not given.

        Raises:
            ValueError: a qubit or coupling does not exist.
        """
        return max(0.0, now_s - float(self._calibrated_s[self._items(qubits, couplings)].min()))

    def epoch_of(
        self, qubits: Collection[int] | None = None, couplings: Iterable[tuple[int, int]] | None = None
    ) -> int:
        """Newest epoch that measured any of these items; until it grows, what was prepared for them is good.

        Raises:
            ValueError: a qubit or coupling does not exist.
        """
        return int(self._item_epoch[self._items(qubits, couplings)].max())

    def calibrate(
        self,
        drift: Drift,
        now_s: float,
        scope: CalibrationScope = CalibrationScope.FULL,
        qubits: Collection[int] = (),
        couplings: Iterable[tuple[int, int]] | None = None,
    ) -> CalibrationEpoch:
        """A calibration that ends now: control drift of its items is gone, their true values are known.

        Args:
            drift: the true device.
            now_s: device time, not before the last calibration's.
            scope: how much is calibrated.
            qubits: for a local calibration: which qubits.
            couplings: for a local calibration: which pairs; those among the qubits if not given.

        Returns:
            The new epoch, already applied.

        Raises:
            ValueError: time runs backwards, a local calibration of nothing, or an item that does not exist.
        """
        if scope is CalibrationScope.FULL:
            chosen, pairs = tuple(range(self.parts.num_qubits)), None
        else:
            chosen = tuple(sorted(set(qubits)))
            pairs = None if couplings is None else tuple(sorted({(min(p), max(p)) for p in couplings}))
        after = self._calibrated_s.copy()
        after[self._checked(now_s, chosen, pairs)] = now_s
        values = drift.true_device(now_s, after).values
        identifier = self.epoch + 1
        if not drift.fixed:
            values = self._measured(values, identifier)
        epoch = _epoch(self.parts, values, identifier, now_s, scope, chosen, pairs)
        self.apply(epoch)
        return epoch

    def apply(self, epoch: CalibrationEpoch) -> None:
        """Take over an epoch that was made before: a server that comes up again replays its log.

        Raises:
            ValueError: the epoch is not newer than the last one, in id or in time, or has items that do not
            exist.
        """
        if epoch.id <= self.epoch:
            raise ValueError(f"epoch {epoch.id} does not follow epoch {self.epoch}")
        items = self._checked(epoch.finished_s, epoch.qubits, epoch.couplings)
        qubits = list(epoch.qubits)
        index = {gate: number for number, gate in enumerate(self.parts.gates)}
        gates = [index[gate] for gate in epoch.gates]
        self._values = DeviceValues(
            _with(self._values.t1_us, qubits, epoch.t1_us),
            _with(self._values.t2_us, qubits, epoch.t2_us),
            _with(self._values.prob_meas1_prep0, qubits, epoch.prob_meas1_prep0),
            _with(self._values.prob_meas0_prep1, qubits, epoch.prob_meas0_prep1),
            _with(self._values.gate_error, gates, epoch.gate_error),
        )
        self._calibrated_s[items] = epoch.finished_s
        self._item_epoch[items] = epoch.id
        self._latest = epoch
        self._history.append(epoch)

    def _items(self, qubits: Collection[int] | None, couplings: Iterable[tuple[int, int]] | None) -> Any:
        return slice(None) if not qubits else self.parts.items(qubits, couplings)

    def _checked(
        self, now_s: float, qubits: tuple[int, ...], couplings: tuple[tuple[int, int], ...] | None
    ) -> Any:
        if not now_s >= self._latest.finished_s:
            raise ValueError(f"a calibration at {now_s} s cannot follow one at {self._latest.finished_s} s")
        if not qubits:
            raise ValueError("a local calibration needs at least one qubit")
        return self.parts.items(qubits, couplings)

    def _measured(self, values: DeviceValues, epoch: int) -> DeviceValues:
        """The true values with the measurement's errors; a calibration's draws depend on its id alone."""
        error, count = self._measurement, self.parts.num_qubits
        if not (error.coherence_log_deviation or error.readout_shots):
            return values
        draws = standard_normals(self._key, epoch << 128, 4 * count).reshape(4, count)
        t1_us = values.t1_us * np.exp(error.coherence_log_deviation * draws[0])
        t2_us = values.t2_us * np.exp(error.coherence_log_deviation * draws[1])

        def estimate(true: Floats, draw: Floats) -> Floats:
            if not error.readout_shots:
                return true
            # Normal in place of binomial: for the thousands of shots of a calibration they are the same.
            deviation = np.sqrt(true * (1 - true) / error.readout_shots)
            return np.clip(true + deviation * draw, 0.0, np.maximum(true, 0.49))

        return DeviceValues(
            t1_us,
            np.minimum(t2_us, 2 * t1_us),
            estimate(values.prob_meas1_prep0, draws[2]),
            estimate(values.prob_meas0_prep1, draws[3]),
            values.gate_error,
        )


def _with(values: Floats, positions: list[int], new: tuple[float, ...]) -> Floats:
    result = values.copy()
    result[positions] = new
    result.flags.writeable = False
    return result


def _epoch(
    parts: DeviceParts,
    values: DeviceValues,
    identifier: int,
    finished_s: float,
    scope: CalibrationScope,
    qubits: tuple[int, ...],
    couplings: tuple[tuple[int, int], ...] | None,
) -> CalibrationEpoch:
    pairs = parts.couplings_among(qubits) if couplings is None else couplings
    inside, joined = set(qubits), set(pairs)
    gates = [
        index
        for index, (_, q) in enumerate(parts.gates)
        if (q[0] in inside if len(q) == 1 else (min(q), max(q)) in joined)
    ]
    chosen = list(qubits)
    return CalibrationEpoch(
        id=identifier,
        finished_s=float(finished_s),
        scope=scope,
        qubits=qubits,
        couplings=pairs,
        gates=tuple(parts.gates[index] for index in gates),
        t1_us=tuple(values.t1_us[chosen].tolist()),
        t2_us=tuple(values.t2_us[chosen].tolist()),
        prob_meas1_prep0=tuple(values.prob_meas1_prep0[chosen].tolist()),
        prob_meas0_prep1=tuple(values.prob_meas0_prep1[chosen].tolist()),
        gate_error=tuple(values.gate_error[gates].tolist()),
    )
