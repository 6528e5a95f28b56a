"""Devices: snapshots as dataclass and JSON, those that ship with the project, and how they drift."""

from efaas.devices.document import snapshot_digest, snapshot_from_json, snapshot_to_json
from efaas.devices.drifting import DriftingDevice, TrueState
from efaas.devices.shipped import load_snapshot, snapshot_names
from efaas.devices.snapshot import DeviceSnapshot, GateCalibration, QubitCalibration, ideal
from efaas.devices.trace import trace_from_json

__all__ = [
    "DeviceSnapshot",
    "DriftingDevice",
    "GateCalibration",
    "QubitCalibration",
    "TrueState",
    "ideal",
    "load_snapshot",
    "snapshot_digest",
    "snapshot_from_json",
    "snapshot_names",
    "snapshot_to_json",
    "trace_from_json",
]
