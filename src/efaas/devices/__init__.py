"""Device snapshots: dataclass, JSON, and the devices that ship with the project."""

from efaas.devices.document import snapshot_digest, snapshot_from_json, snapshot_to_json
from efaas.devices.shipped import load_snapshot, snapshot_names
from efaas.devices.snapshot import DeviceSnapshot, GateCalibration, QubitCalibration, ideal

__all__ = [
    "DeviceSnapshot",
    "GateCalibration",
    "QubitCalibration",
    "ideal",
    "load_snapshot",
    "snapshot_digest",
    "snapshot_from_json",
    "snapshot_names",
    "snapshot_to_json",
]
