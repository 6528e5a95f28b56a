"""Devices as the core's placement and routing see them, read off their machines at the moment."""

from __future__ import annotations

import math

from efaas.core.placement import DeviceView, Health
from efaas.simulator.device import Device

_QUBITS = 27
_SLOTS = 1_000_000


def device_view(device: Device, now_s: float, qubits: tuple[int, ...], t_net_s: float) -> DeviceView:
    """A device at a moment, as a report without any delay would show it.

    Args:
        device: which.
        now_s: device time.
        qubits: those of the circuit that asks: what a localised calibration would measure.
        t_net_s: network time, one way.
    """
    machine, calibration = device.machine, device.config.calibration
    outlook = machine.outlook(now_s)
    localised = machine.policy.localised
    return DeviceView(
        device.name,
        _QUBITS,
        health=Health.READY if machine.calibrating is None else Health.CALIBRATING,
        slots=_SLOTS,
        calibration_age_s=machine.calibration.age_s(qubits, now_s),
        max_calibration_age_s=math.inf if calibration.frozen else calibration.max_age_s,
        calibration_left_s=outlook.calibration_left_s,
        queue_s=outlook.wait_s,
        network_s=t_net_s,
        local_calibration_s=calibration.local_calibration_s(len(qubits))
        if localised
        else calibration.duration_s,
    )
