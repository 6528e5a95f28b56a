"""A device's status, as kubectl and the scheduler read it, from what its server says of itself.

Energies and errors are whole numbers here (parts per million, milliseconds): the API has no floats. What
moves with every look (ages, waits, the queue) is rounded, and its fields are named in `UNHURRIED`, so that
whoever writes statuses can write them seldom; a reader lets a calibration's age run on by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from efaas.api.reading import timestamp
from efaas.api.wire import qpu_pb2 as wire
from efaas_operator.build.common import Document
from efaas_operator.build.conditions import Condition, build_conditions, rfc3339

UNHURRIED: Final = frozenset(
    {"queueDepth", "expectedWaitMilliseconds", "dutyCyclePermille", "warmCircuits", "calibration"}
)
"""Fields whose change alone can wait; of `calibration` only ages and the like."""

_WARM_LIMIT = 64
_MESSAGE_LIMIT = 2048
_TIME_GRAIN_S = 5.0
_PPM, _PPB, _HOUR_S = 1e6, 1e9, 3600.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a device does not serve."""

    reason: str
    """One CamelCase word."""
    message: str
    """What is wrong and what helps, for people."""
    state: str = "Down"
    """``Pending`` while it comes up by itself, ``Down`` when it was there or somebody must act."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a device beside its document."""

    node: str = ""
    endpoint: str = ""
    trouble: Trouble | None = None
    """None: its server answers."""
    described: wire.DeviceState | None = None
    """Its last answer; kept while it is away."""
    described_at_s: float = 0.0
    """Wall seconds since 1970 of that answer."""
    leaving: str = ""
    """Why sessions are to leave it; empty: they are not."""
    circuits: Mapping[str, str] = field(default_factory=dict)
    """Digest of what a circuit is made of, by session."""
    passed_on: str = ""
    """The request for a calibration that was passed on last."""


def build_device_status(
    device: Mapping[str, Any], seen: Seen, previous: Mapping[str, Any], now_s: float
) -> Document:
    """The whole status of a device.

    Args:
        device: the QPUDevice as the API server has it.
        seen: what is known beside it.
        previous: status as it is now.
        now_s: wall seconds since 1970.
    """
    generation = int(device["metadata"].get("generation", 0))
    described, trouble = seen.described, seen.trouble
    state = _state(device, seen)
    status: Document = {
        "observedGeneration": generation,
        "state": state,
        "node": seen.node,
        "endpoint": seen.endpoint,
    }
    if described is not None:
        status |= {
            "qubits": described.qubits,
            "calibration": _calibration(device, seen, previous),
            "activeSessions": described.slots_used if trouble is None else 0,
            "queueDepth": described.queue_depth,
            "expectedWaitMilliseconds": _rounded(described.expected_wait_s * 1000),
            "dutyCyclePermille": max(0, min(1000, round(described.duty_cycle * 1000))),
            "warmCircuits": _warm(described, seen.circuits) if trouble is None else [],
        }
    ready = (
        ("True", "Serving", "its server answers")
        if trouble is None and not seen.leaving
        else ("False", "Draining", seen.leaving)
        if trouble is None
        else ("False", trouble.reason, trouble.message)
    )
    status["conditions"] = build_conditions(
        (Condition("Ready", *ready), Condition("Calibrated", *_calibrated(seen))),
        previous.get("conditions") or (),
        generation,
        now_s,
        _MESSAGE_LIMIT,
    )
    return status


def _state(device: Mapping[str, Any], seen: Seen) -> str:
    if seen.trouble is not None:
        return seen.trouble.state
    if seen.leaving or device["metadata"].get("deletionTimestamp"):
        return "Draining"
    assert seen.described is not None
    return "Calibrating" if seen.described.condition == "Calibrating" else "Ready"


def _calibrated(seen: Seen) -> tuple[str, str, str]:
    """Status, reason and message; nothing that changes with every look."""
    described = seen.described
    if seen.trouble is not None or described is None:
        return "Unknown", "NotReady", "its server does not answer"
    epoch = described.calibration_epoch
    if described.condition == "Calibrating":
        return "False", "Calibrating", f"a calibration runs; the last one was epoch {epoch}"
    if described.frozen:
        return "True", "Frozen", "it does not drift, so its calibration never ages"
    limit_s = described.max_calibration_age_s
    if limit_s and described.calibration_age_s > limit_s:
        limit_h = limit_s / _HOUR_S
        message = f"epoch {epoch} is older than {limit_h:g} h; a job that needs it calibrates first"
        return "False", "Stale", message
    return "True", "Fresh", f"epoch {epoch}"


def _calibration(device: Mapping[str, Any], seen: Seen, previous: Mapping[str, Any]) -> Document:
    described = seen.described
    assert described is not None
    scale = float((device["spec"].get("simulation") or {}).get("timeScale", 0) or 0)
    before = previous.get("calibration") or {}
    # At scale 0 the device's clock runs like the wall's while it is idle, and faster while it works.
    measured_s = seen.described_at_s - described.calibration_age_s * (scale or 1.0)
    time = rfc3339(max(0.0, measured_s))
    if before.get("epoch") == described.calibration_epoch and _near(before.get("time"), measured_s):
        time = before["time"]
    calibration: Document = {
        "epoch": described.calibration_epoch,
        "time": time,
        "ageSeconds": int(described.calibration_age_s),
        "oneQubitErrorPpm": round(described.one_qubit_error * _PPM),
        "twoQubitErrorPpm": round(described.two_qubit_error * _PPM),
        "readoutErrorPpm": round(described.readout_error * _PPM),
        "oneQubitDriftPpbPerHour": _per_hour(described.one_qubit_drift_per_s),
        "twoQubitDriftPpbPerHour": _per_hour(described.two_qubit_drift_per_s),
        "readoutDriftPpbPerHour": _per_hour(described.readout_drift_per_s),
        "localMilliseconds": 0 if described.frozen else round(described.local_calibration_s * 1000),
        "onNeed": True,
    }
    if described.calibration_left_s > 0:
        left_s = described.calibration_left_s * (scale or 1.0)
        calibration["endsAt"] = rfc3339(seen.described_at_s + left_s)
    if seen.passed_on:
        calibration["requestPassedOn"] = seen.passed_on
    return calibration


def _warm(described: wire.DeviceState, circuits: Mapping[str, str]) -> list[Document]:
    """Circuits that sessions on the device have warm; of programs nobody knows what they are made of."""
    found: dict[str, int] = {}
    for warm in described.warm:
        for session in warm.sessions:
            if session in circuits:
                found[circuits[session]] = max(warm.epoch, found.get(circuits[session], 0))
    return [{"circuit": circuit, "epoch": epoch} for circuit, epoch in sorted(found.items())][:_WARM_LIMIT]


def _near(time: str | None, moment_s: float) -> bool:
    """Whether a time stamp is that of the moment, but for jitter."""
    return time is not None and abs(timestamp(time) - moment_s) <= _TIME_GRAIN_S


def _per_hour(growth_per_s: float) -> int:
    return max(0, round(growth_per_s * _PPB * _HOUR_S))


def _rounded(milliseconds: float) -> int:
    """Two significant figures: what is expected is no better known."""
    if milliseconds < 10:
        return max(0, round(milliseconds))
    digits = len(str(int(milliseconds))) - 2
    return int(round(milliseconds, -digits))
