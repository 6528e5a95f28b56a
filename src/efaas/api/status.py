"""What the cluster reports back: the status of VQASession and QPUDevice.

Conditions follow Kubernetes' conventions (type, status, CamelCase reason, observedGeneration). Energies and
errors are strings: the API has no floats. Nothing here changes with every iteration; per-iteration data live
in the gateway.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from efaas.api.meta import Model
from efaas.api.quantities import Number

ShortText = Annotated[str, Field(max_length=256)]
Text = Annotated[str, Field(max_length=32_768)]
Count = Annotated[int, Field(ge=0)]
Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"}, max_length=64)]


class Condition(Model):
    """One aspect of the state, as Kubernetes tools read it."""

    type: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z]*$", max_length=316)]
    """Aspect, such as Admitted, Placed, Running, Completed, Ready, Calibrated."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Field(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", max_length=1024)]
    """Why, as one CamelCase word for programs."""
    message: Text = ""
    """Why, as a sentence for people."""
    observed_generation: Count = 0
    """Generation of the spec that this was found for."""
    last_transition_time: Timestamp
    """When the status last changed, RFC 3339."""


class Usage(Model):
    """What a session has used and is charged for."""

    shots: Count = 0
    """Shots charged."""
    qpu_milliseconds: Count = 0
    """Device time charged, in milliseconds."""
    cpu_milliseconds: Count = 0
    """CPU time: requested cores times the time for which they were held, in milliseconds."""
    wasted_shots: Count = 0
    """Speculative shots that were dropped; free of charge."""


class Progress(Model):
    """How far a session is; written at a bounded rate."""

    iterations: Count = 0
    """Optimizer iterations done."""
    best_value: Number | None = None
    """Lowest energy found."""
    ttns_p50_milliseconds: Count | None = None
    """Median time to next shot, in milliseconds."""


class QueueState(Model):
    """Where a waiting session stands; rounded, and rarely written."""

    position: Count = 0
    """Sessions before it."""
    estimated_start: Timestamp | None = None
    """When its turn is expected, RFC 3339."""


class RunnerState(Model):
    """The runner that is the session's writer now; everybody else is fenced off."""

    uid: ShortText
    """UID of the runner pod."""
    pod: ShortText
    """Name of the runner pod."""
    lease_epoch: Count
    """Raised for each new runner."""
    restarts: Count = 0
    """Runners made anew after a failure."""


class SessionResult(Model):
    """The outcome in brief; the whole of it is in the gateway."""

    energy: Number | None = None
    """Final energy."""
    std_error: Number | None = None
    """Its standard error from the shots."""
    exact: Number | None = None
    """Exact ground-state energy, where it can be computed."""
    location: ShortText = ""
    """Where history and result are kept."""


class VQASessionStatus(Model):
    """What became of a session so far."""

    observed_generation: Count = 0
    """Generation of the spec that this status is about."""
    state: Literal[
        "",
        "Pending",
        "Admitted",
        "Placed",
        "Running",
        "Suspended",
        "Completed",
        "Failed",
        "Cancelled",
        "Expired",
    ] = ""
    """Lifecycle state in one word; the conditions say why."""
    reason: ShortText = ""
    """Why it waits or ended, in brief; for the table that kubectl prints."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)] = ()
    """Aspects of the state."""
    device: ShortText = ""
    """Device it is placed on."""
    queue: QueueState | None = None
    """Where it stands while it waits."""
    progress: Progress | None = None
    """How far it is."""
    usage: Usage | None = None
    """What it used."""
    runner: RunnerState | None = None
    """Its runner."""
    result: SessionResult | None = None
    """Its outcome."""
    started_at: Timestamp | None = None
    """When its first runner started, RFC 3339."""
    finished_at: Timestamp | None = None
    """When it ended, RFC 3339."""
    record: Annotated[str, Field(max_length=16_384)] = ""
    """What the operator keeps to go on after a restart: JSON of its own, not for others to read or write."""


class CalibrationState(Model):
    """The device's last calibration."""

    epoch: Count = 0
    """Number of the calibration epoch."""
    time: Timestamp | None = None
    """When it was measured, RFC 3339."""
    age_seconds: Count = 0
    """Age in device seconds, when this was written."""
    one_qubit_error_ppm: Count = 0
    """Median error of single-qubit gates, in parts per million."""
    two_qubit_error_ppm: Count = 0
    """Median error of two-qubit gates, in parts per million."""
    readout_error_ppm: Count = 0
    """Median readout error, in parts per million."""
    one_qubit_drift_ppb_per_hour: Count | None = None
    """Expected growth of that single-qubit error, in parts per billion an hour of device time."""
    two_qubit_drift_ppb_per_hour: Count | None = None
    """Expected growth of that two-qubit error, in parts per billion an hour of device time."""
    readout_drift_ppb_per_hour: Count | None = None
    """Expected growth of that readout error, in parts per billion an hour of device time."""
    local_milliseconds: Count | None = None
    """Device time of a calibration of what a typical circuit uses, in milliseconds."""
    ends_at: Timestamp | None = None
    """When the calibration that runs now is expected to end, RFC 3339."""
    request_passed_on: ShortText = ""
    """The value of spec.calibration.requestedAt that the device was last told of."""
    on_need: bool = True
    """Whether a job that finds the calibration too old gets a new one; false while calibrations fail."""


class WarmCircuit(Model):
    """A circuit whose caches are warm on the device."""

    circuit: ShortText
    """Digest of what makes the circuit in a session's spec; sessions with the same one start warm."""
    epoch: Count
    """Number of the calibration epoch that its layout goes by."""


class QPUDeviceStatus(Model):
    """What a device is doing."""

    observed_generation: Count = 0
    """Generation of the spec that this status is about."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)] = ()
    """Aspects of the state."""
    state: Literal["", "Pending", "Ready", "Calibrating", "Draining", "Down"] = ""
    """State in one word; the conditions say why."""
    qubits: Count = 0
    """Number of qubits."""
    connected_qubits: Count | None = None
    """Qubits in the largest region whose couplings work; all of them if not given."""
    node: ShortText = ""
    """Node of the QPU pod."""
    endpoint: ShortText = ""
    """Address of the QPU server's stream."""
    calibration: CalibrationState | None = None
    """Its last calibration."""
    warm_circuits: Annotated[tuple[WarmCircuit, ...], Field(max_length=64)] = ()
    """Circuits of the sessions that are there and start without preparation, some of them."""
    active_sessions: Count = 0
    """Sessions that hold a slot."""
    queue_depth: Count = 0
    """Jobs waiting."""
    expected_wait_milliseconds: Count | None = None
    """Device time that a job of one more session is expected to wait, in milliseconds."""
    duty_cycle_permille: Annotated[int, Field(ge=0, le=1000)] = 0
    """Share of device time spent on shots, in thousandths."""
