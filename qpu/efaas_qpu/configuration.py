"""From a QPUDevice document and what the log remembers to the machine that runs the device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from efaas.api.device import Drift, QPUDevice
from efaas.api.quantities import seconds
from efaas.core.calibration import local_calibration_costs
from efaas.core.drift_trace import DriftTrace
from efaas.core.qpu.config import CalibrationConfig, QpuConfig
from efaas.core.qpu.machine import QpuMachine
from efaas.core.qpu.messages import CalibrationScope
from efaas.devices import DeviceSnapshot
from efaas.devices.drifting import DriftingDevice
from efaas.errors import InputError
from efaas_qpu.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Offer:
    """What a device says of itself to whoever places sessions."""

    slots: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)
    max_age_s: float = math.inf
    """Age past which the device calibrates before it runs anything; infinite when it is frozen."""
    local_fixed_s: float = 0.0
    """Device seconds of a localised calibration, whatever it covers."""
    local_per_qubit_s: float = 0.0
    """And for each qubit."""


def offer_of(device: QPUDevice, qubits: int) -> Offer:
    """What a device's document offers.

    Args:
        device: the document.
        qubits: of the whole device.
    """
    calibration = device.spec.calibration
    fixed_s, per_qubit_s = local_calibration_costs(qubits, seconds(calibration.duration))
    return Offer(
        device.spec.slots,
        dict(device.metadata.labels),
        math.inf if calibration.drift is Drift.FROZEN else seconds(calibration.max_age),
        fixed_s,
        per_qubit_s,
    )


def machine_configuration(device: QPUDevice, ledger: Ledger, qubits: int) -> QpuConfig:
    """The machine's settings.

    Args:
        device: the document.
        ledger: what was before.
        qubits: of the whole device, to which the cost of a localised calibration is in proportion.

    Raises:
        InputError: the document's values cannot work together; the text names them.
    """
    queue, calibration = device.spec.queue, device.spec.calibration
    duration_s = seconds(calibration.duration)
    fixed_s, per_qubit_s = local_calibration_costs(qubits, duration_s)
    full_at_s = [epoch.finished_s for epoch in ledger.epochs if epoch.scope is CalibrationScope.FULL]
    return QpuConfig(
        policy=queue.policy.value,
        slice_s=seconds(queue.slice) or None,
        slice_cost_s=seconds(queue.slice_cost),
        slice_loops=queue.slice_loops,
        alpha=float(queue.alpha),
        beta=float(queue.beta),
        gamma=float(queue.gamma),
        guaranteed_share=float(queue.guaranteed_share),
        half_life_s=seconds(queue.half_life),
        loop_gap=_loop_gap(device),
        calibration=CalibrationConfig(
            interval_s=seconds(calibration.interval),
            duration_s=duration_s,
            max_age_s=seconds(calibration.max_age),
            frozen=calibration.drift is Drift.FROZEN,
            local_fixed_s=fixed_s,
            local_per_qubit_s=per_qubit_s,
            calibrated_at_s=full_at_s[-1] if full_at_s else 0.0,
            epoch=ledger.epochs[-1].id if ledger.epochs else 1,
            local_calibrations=tuple(
                (epoch.finished_s, epoch.qubits)
                for epoch in ledger.epochs
                if epoch.scope is CalibrationScope.LOCAL
            ),
        ),
    )


def _loop_gap(device: QPUDevice) -> float:
    """Share of classical time below which a session is no loop.

    At scale 0 classical steps take wall time and jobs device time, so their ratio says nothing.
    """
    return QpuConfig().loop_gap if device.spec.simulation.time_scale else 0.0


def machine_for(device: QPUDevice, ledger: Ledger, qubits: int) -> QpuMachine:
    """A machine for a device that goes on where the log ends; see `machine_configuration`.

    Raises:
        InputError: see `machine_configuration`.
    """
    return QpuMachine(machine_configuration(device, ledger, qubits))


def drifting_device(device: QPUDevice, snapshot: DeviceSnapshot, trace: DriftTrace | None) -> DriftingDevice:
    """The device as its document wants it to drift.

    Args:
        device: the document.
        snapshot: the device at time 0.
        trace: for ``drift: Trace``.

    Raises:
        InputError: the document wants a trace, and there is none.
    """
    calibration, seed = device.spec.calibration, device.spec.simulation.seed
    full_s = seconds(calibration.duration)
    match calibration.drift:
        case Drift.FROZEN:
            return DriftingDevice.frozen(snapshot, full_calibration_s=full_s)
        case Drift.MODEL:
            return DriftingDevice.modelled(snapshot, seed, full_calibration_s=full_s)
        case Drift.TRACE:
            if trace is None:
                raise InputError("drift: Trace needs a trace", place="spec.calibration.trace")
            return DriftingDevice.traced(snapshot, trace, seed, full_calibration_s=full_s)
