"""From a QPUDevice document and what the log remembers to the machine that runs the device."""

from __future__ import annotations

from efaas.api.device import Drift, QPUDevice
from efaas.api.quantities import seconds
from efaas.core.qpu.config import CalibrationConfig, QpuConfig
from efaas.core.qpu.machine import QpuMachine
from efaas_qpu.ledger import Ledger


def machine_configuration(device: QPUDevice, ledger: Ledger) -> QpuConfig:
    """The machine's settings.

    Raises:
        InputError: the document's values cannot work together; the text names them.
    """
    queue, calibration = device.spec.queue, device.spec.calibration
    last = ledger.calibration
    return QpuConfig(
        policy=queue.policy.value,
        slice_s=seconds(queue.slice) or None,
        slice_cost_s=seconds(queue.slice_cost),
        alpha=float(queue.alpha),
        beta=float(queue.beta),
        gamma=float(queue.gamma),
        guaranteed_share=float(queue.guaranteed_share),
        half_life_s=seconds(queue.half_life),
        loop_gap=_loop_gap(device),
        calibration=CalibrationConfig(
            interval_s=seconds(calibration.interval),
            duration_s=seconds(calibration.duration),
            max_age_s=seconds(calibration.max_age),
            frozen=calibration.drift is Drift.FROZEN,
            calibrated_at_s=last.at_s if last else 0.0,
            epoch=last.epoch if last else 0,
        ),
    )


def _loop_gap(device: QPUDevice) -> float:
    """Share of classical time below which a session is no loop.

    At scale 0 classical steps take wall time and jobs device time, so their ratio says nothing.
    """
    return QpuConfig().loop_gap if device.spec.simulation.time_scale else 0.0


def machine_for(device: QPUDevice, ledger: Ledger) -> QpuMachine:
    """A machine for a device that goes on where the log ends.

    Raises:
        InputError: see `machine_configuration`.
    """
    return QpuMachine(machine_configuration(device, ledger))
