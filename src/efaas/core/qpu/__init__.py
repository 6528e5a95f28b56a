"""The machine that runs one QPU: queue, policies, calibration, charges."""

from __future__ import annotations

from efaas.core.qpu.config import POLICIES, CalibrationConfig, QpuConfig
from efaas.core.qpu.machine import QpuMachine
from efaas.core.qpu.story import ProtocolError
from efaas.core.qpu.view import QpuView, SessionView, WaitingJob

__all__ = [
    "POLICIES",
    "CalibrationConfig",
    "ProtocolError",
    "QpuConfig",
    "QpuMachine",
    "QpuView",
    "SessionView",
    "WaitingJob",
]
