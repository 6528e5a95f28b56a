"""A snapshot that lives: the true device, the known one, and the calibrations between them.

This is where snapshots (what engines and people read) meet the core's arrays. A host holds one
`DriftingDevice`: it asks for the true device whenever it simulates, for the known one when it chooses layouts
and mitigates readout, and tells it when a calibration ended. Everything else is a function of seed and time
in `efaas.core.drift`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from efaas.core.calibration import CalibrationEpoch, KnownDevice, MeasurementError, local_calibration_s
from efaas.core.device_values import DeviceParts, DeviceValues
from efaas.core.drift import PERTH_2023, Drift, DriftRates, ErrorGrowth, FixedDrift, ModelDrift
from efaas.core.drift_trace import DriftTrace, TraceDrift
from efaas.core.qpu.messages import CalibrationScope
from efaas.devices.snapshot import DeviceSnapshot, GateCalibration


def parts_of(snapshot: DeviceSnapshot) -> DeviceParts:
    """What the device is made of, for the core."""
    gates = tuple(sorted(snapshot.gates))
    lengths = np.array([snapshot.gates[gate].length_ns * 1e-3 for gate in gates])
    return DeviceParts(snapshot.num_qubits, gates, lengths)


def values_of(snapshot: DeviceSnapshot, parts: DeviceParts) -> DeviceValues:
    """The snapshot's values as the core's arrays."""
    qubits = snapshot.qubits
    return DeviceValues(
        t1_us=np.array([qubit.t1_us for qubit in qubits]),
        t2_us=np.array([qubit.t2_us for qubit in qubits]),
        prob_meas1_prep0=np.array([qubit.prob_meas1_prep0 for qubit in qubits]),
        prob_meas0_prep1=np.array([qubit.prob_meas0_prep1 for qubit in qubits]),
        gate_error=np.array([snapshot.gates[gate].error for gate in parts.gates]),
    )


def snapshot_with(snapshot: DeviceSnapshot, parts: DeviceParts, values: DeviceValues) -> DeviceSnapshot:
    """The same device with other values; lengths, frequencies and delays stay."""
    qubits = tuple(
        replace(qubit, t1_us=t1_us, t2_us=t2_us, prob_meas1_prep0=one, prob_meas0_prep1=zero)
        for qubit, t1_us, t2_us, one, zero in zip(
            snapshot.qubits,
            values.t1_us.tolist(),
            values.t2_us.tolist(),
            values.prob_meas1_prep0.tolist(),
            values.prob_meas0_prep1.tolist(),
            strict=True,
        )
    )
    gates = {
        gate: GateCalibration(error=error, length_ns=snapshot.gates[gate].length_ns)
        for gate, error in zip(parts.gates, values.gate_error.tolist(), strict=True)
    }
    return replace(snapshot, qubits=qubits, gates=gates)


@dataclass(frozen=True, slots=True)
class TrueState:
    """What a simulation needs to be the device at a moment."""

    snapshot: DeviceSnapshot
    """T1, T2, readout errors, and gate errors without control errors."""
    over_rotations: Mapping[tuple[str, tuple[int, ...]], float]
    """Radians by which a gate turns too far about its own axis, on top of its error."""


class DriftingDevice:
    """One device, true and known.

    Args:
        snapshot: the device at time 0.
        drift: how it moves; `frozen`, `modelled` and `traced` make the usual ones.
        full_calibration_s: device seconds of a full calibration.
        measurement: how far calibrations are off; not at all if not given.
        seed: seed of the measurement errors.
    """

    def __init__(
        self,
        snapshot: DeviceSnapshot,
        drift: Drift,
        *,
        full_calibration_s: float = 150.0,
        measurement: MeasurementError | None = None,
        seed: int = 0,
    ) -> None:
        self.snapshot = snapshot
        self.drift = drift
        self.parts = parts_of(snapshot)
        self.full_calibration_s = full_calibration_s
        # A trace may begin with other values than the snapshot's.
        first = (
            values_of(snapshot, self.parts)
            if drift.fixed
            else drift.true_device(0.0, np.zeros(self.parts.num_items)).values
        )
        self.record = KnownDevice(self.parts, first, measurement=measurement, seed=seed)
        self._known: tuple[int, DeviceSnapshot] | None = None
        self._true: tuple[float, int, TrueState] | None = None

    @classmethod
    def frozen(cls, snapshot: DeviceSnapshot, *, full_calibration_s: float = 150.0) -> DriftingDevice:
        """A device that is its snapshot for ever."""
        parts = parts_of(snapshot)
        return cls(
            snapshot, FixedDrift(parts, values_of(snapshot, parts)), full_calibration_s=full_calibration_s
        )

    @classmethod
    def modelled(
        cls,
        snapshot: DeviceSnapshot,
        seed: int,
        *,
        rates: DriftRates = PERTH_2023,
        full_calibration_s: float = 150.0,
        measurement: MeasurementError | None = None,
    ) -> DriftingDevice:
        """A device that drifts as the model says.

        Args:
            snapshot: the device at time 0.
            seed: seed of the drift.
            rates: how fast it drifts.
            full_calibration_s: device seconds of a full calibration.
            measurement: how far calibrations are off.
        """
        parts = parts_of(snapshot)
        drift = ModelDrift(parts, values_of(snapshot, parts), seed, rates)
        return cls(snapshot, drift, full_calibration_s=full_calibration_s, measurement=measurement, seed=seed)

    @classmethod
    def traced(
        cls,
        snapshot: DeviceSnapshot,
        trace: DriftTrace,
        seed: int,
        *,
        rates: DriftRates = PERTH_2023,
        full_calibration_s: float = 150.0,
        measurement: MeasurementError | None = None,
    ) -> DriftingDevice:
        """A device driven by a record, see `efaas.devices.trace.trace_from_json`.

        Args:
            snapshot: the device; its lengths and delays are used, its values are the trace's.
            trace: the record.
            seed: seed of the control drift between calibrations.
            rates: how fast control drifts.
            full_calibration_s: device seconds of a full calibration.
            measurement: how far calibrations are off.
        """
        drift = TraceDrift(parts_of(snapshot), trace, seed, rates)
        return cls(snapshot, drift, full_calibration_s=full_calibration_s, measurement=measurement, seed=seed)

    @property
    def known(self) -> DeviceSnapshot:
        """The device as its calibrations measured it; the same object until the next calibration."""
        if self._known is None or self._known[0] != self.record.epoch:
            values = self.record.values
            # What was never measured otherwise is the snapshot itself, to the last bit and object.
            snapshot = (
                self.snapshot
                if values.equals(values_of(self.snapshot, self.parts))
                else snapshot_with(self.snapshot, self.parts, values)
            )
            self._known = (self.record.epoch, snapshot)
        return self._known[1]

    def true_state(self, now_s: float) -> TrueState:
        """The device as it really is at a moment, not before the last calibration.

        Raises:
            ValueError: the moment is before the last calibration or beyond a hundred years.
        """
        if self._true is None or self._true[:2] != (now_s, self.record.epoch):
            device = self.drift.true_device(now_s, self.record.calibrated_s)
            snapshot = (
                self.snapshot if self.drift.fixed else snapshot_with(self.snapshot, self.parts, device.values)
            )
            self._true = (now_s, self.record.epoch, TrueState(snapshot, device.over_rotations(self.parts)))
        return self._true[2]

    def calibrate(
        self,
        now_s: float,
        scope: CalibrationScope = CalibrationScope.FULL,
        qubits: Collection[int] = (),
        couplings: Iterable[tuple[int, int]] | None = None,
    ) -> CalibrationEpoch:
        """A calibration that ends now; see `efaas.core.calibration.KnownDevice.calibrate`."""
        return self.record.calibrate(self.drift, now_s, scope, qubits, couplings)

    def restore(self, epochs: Iterable[CalibrationEpoch]) -> None:
        """Take over epochs from a log, oldest first; those known already (epoch 1) are passed over."""
        for epoch in epochs:
            if epoch.id > self.record.epoch:
                self.record.apply(epoch)

    def calibration_s(self, qubits: Collection[int] | None = None) -> float:
        """Device seconds of a calibration of these qubits and the couplings among them, or of everything."""
        if qubits is None:
            return self.full_calibration_s
        return local_calibration_s(self.parts.num_qubits, self.full_calibration_s, len(set(qubits)))

    def age_s(self, now_s: float, qubits: Collection[int] | None = None) -> float:
        """Age of the oldest of these qubits and the couplings among them, or of the whole device."""
        return self.record.age_s(now_s, qubits)

    def growth(self) -> ErrorGrowth:
        """How fast typical errors are expected to grow after a calibration."""
        return self.drift.growth(self.record.values)
