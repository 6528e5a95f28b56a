"""What Kubernetes objects say, as the core's dataclasses.

Objects come as the API server has them. The spec of a device or session is validated by the models of
`efaas.api`; what a newer API added is ignored, and an object that cannot be understood is an error of its
own: the caller logs it and goes on without it.

A device reports what it measured; where a report lacks a figure, the spec or the drift model stands in,
always with the value that makes the device look worse rather than better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from efaas.api.device import Drift, QPUDeviceSpec
from efaas.api.names import DEVICE_LABEL, SESSION_NAME_ANNOTATION, SESSION_RESOURCE
from efaas.api.quantities import seconds
from efaas.api.session import VQASessionSpec
from efaas.api.shapes import circuit_key, circuit_shape, qubits_needed
from efaas.api.status import QPUDeviceStatus
from efaas.core.drift import DAY_S, PERTH_2023
from efaas.core.fleet import Report
from efaas.core.placement import DeviceView, Health, Request
from efaas.errors import ManifestError

Document = Mapping[str, Any]
_M = TypeVar("_M", bound=BaseModel)

_PPM = 1e-6
_PPB_PER_HOUR = 1e-9 / 3600.0
_DEFAULT_DRIFT_PER_S = (
    PERTH_2023.drive_rad_per_sqrt_day**2 / 6 / DAY_S,
    PERTH_2023.coupling_rad_per_sqrt_day**2 / 5 / DAY_S,
    0.0,
)
"""Growth of single-qubit, two-qubit and readout errors where a device that drifts does not report them."""

_HEALTH = {
    "": Health.PENDING,
    "Pending": Health.PENDING,
    "Ready": Health.READY,
    "Calibrating": Health.CALIBRATING,
    "Draining": Health.DRAINING,
    "Down": Health.DOWN,
}
_ENDED = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """A QPUDevice."""

    name: str
    node: str
    """Node it is on; empty while it has none."""
    report: Report
    """Without what is known of its node and of pods since."""
    active_sessions: int
    """Sessions that the report counts."""
    wait_per_session_s: float
    """By how much one more session lengthens the queue, in device seconds."""
    epoch: int


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A Node."""

    name: str
    labels: Mapping[str, str]
    slots: int
    """Units of the extended resource that pods may take."""
    cpus: float


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A VQASession."""

    key: str
    tenant: str
    request: Request
    """Without what the pod and the tenant's standing add."""
    cpu_s: float
    """Use so far."""
    qpu_s: float
    finished_at_s: float | None


@dataclass(frozen=True, slots=True)
class PodRecord:
    """A session's pod."""

    uid: str
    key: str
    tenant: str
    session: str | None
    """Key of its session; None if it does not name one."""
    node: str
    """Node it is bound to; empty while it waits."""
    slots: int
    cpus: float
    gated: bool
    ended: bool
    node_selector: Mapping[str, str] = field(default_factory=dict)


def read_device(document: Document, now_s: float) -> DeviceRecord:
    """A QPUDevice as it is at `now_s`.

    Raises:
        ManifestError: its spec or status is not what the API takes.
    """
    metadata = document["metadata"]
    name = metadata["name"]
    place = f"QPUDevice {name}"
    spec = _validated(QPUDeviceSpec, document.get("spec", {}), f"{place}: spec")
    status = _validated(QPUDeviceStatus, document.get("status", {}), f"{place}: status")
    scale = float(spec.simulation.time_scale)
    pace = 1.0 / scale if scale > 0 else 1.0
    frozen = spec.calibration.drift is Drift.FROZEN
    calibration = status.calibration
    max_age_s = math.inf if frozen else seconds(spec.calibration.max_age)
    if calibration is not None and calibration.time is not None:
        wall_s = max(0.0, now_s - timestamp(calibration.time))
        age_s = max(float(calibration.age_seconds), wall_s * pace)
    elif calibration is not None and calibration.epoch:
        age_s = float(calibration.age_seconds)
    else:
        # Never calibrated as far as is known: fresh if it does not drift, else past its limit.
        age_s = 0.0 if frozen else max_age_s + 1.0
    local_ms = None if calibration is None else calibration.local_milliseconds
    left_s = 0.0
    if calibration is not None and calibration.ends_at is not None:
        left_s = max(0.0, timestamp(calibration.ends_at) - now_s) * pace
    slice_s = seconds(spec.queue.slice)
    wait_s = (
        status.expected_wait_milliseconds / 1000
        if status.expected_wait_milliseconds is not None
        else status.active_sessions * slice_s
    )
    one, two, readout = (0.0, 0.0, 0.0) if frozen else _drift(calibration)
    health = _HEALTH[status.state]
    if metadata.get("deletionTimestamp"):
        health = Health.DRAINING
    view = DeviceView(
        name=name,
        qubits=status.qubits,
        connected_qubits=status.connected_qubits,
        labels={**(metadata.get("labels") or {}), DEVICE_LABEL: name},
        health=health,
        cordoned=spec.cordon,
        slots=spec.slots,
        calibration_age_s=age_s,
        max_calibration_age_s=max_age_s,
        calibration_left_s=left_s,
        queue_s=wait_s,
        local_calibration_s=seconds(spec.calibration.duration) if local_ms is None else local_ms / 1000,
        calibrates_on_need=calibration is None or calibration.on_need,
        warm_circuits=frozenset(warm.circuit for warm in status.warm_circuits),
        one_qubit_error=0.0 if calibration is None else calibration.one_qubit_error_ppm * _PPM,
        two_qubit_error=0.0 if calibration is None else calibration.two_qubit_error_ppm * _PPM,
        readout_error=0.0 if calibration is None else calibration.readout_error_ppm * _PPM,
        one_qubit_drift_per_s=one,
        two_qubit_drift_per_s=two,
        readout_drift_per_s=readout,
    )
    per_session_s = max(slice_s, wait_s / status.active_sessions if status.active_sessions else 0.0)
    return DeviceRecord(
        name,
        status.node or spec.node or "",
        Report(view, now_s, pace),
        status.active_sessions,
        per_session_s,
        0 if calibration is None else calibration.epoch,
    )


def read_session(document: Document) -> SessionRecord:
    """A VQASession.

    Raises:
        ManifestError: its spec is not what the API takes.
    """
    metadata = document["metadata"]
    tenant = metadata["namespace"]
    key = f"{tenant}/{metadata['name']}"
    spec = _validated(VQASessionSpec, document.get("spec", {}), f"VQASession {key}: spec")
    wants = spec.device
    request = Request(
        session=key,
        tenant=tenant,
        qubits=qubits_needed(spec),
        match_labels=wants.match_labels,
        max_calibration_age_s=None
        if wants.max_calibration_age is None
        else seconds(wants.max_calibration_age),
        min_fidelity=0.0 if wants.min_fidelity is None else float(wants.min_fidelity),
        circuit=circuit_key(spec),
        shape=circuit_shape(spec),
    )
    return with_use(SessionRecord(key, tenant, request, 0.0, 0.0, None), document)


def with_use(session: SessionRecord, document: Document) -> SessionRecord:
    """The session with what its status says of use; its spec is taken as it was read before."""
    status = document.get("status") or {}
    usage = status.get("usage") or {}
    finished = status.get("finishedAt")
    return SessionRecord(
        session.key,
        session.tenant,
        session.request,
        float(usage.get("cpuMilliseconds", 0)) / 1000,
        float(usage.get("qpuMilliseconds", 0)) / 1000,
        timestamp(finished) if finished else None,
    )


def read_node(document: Document) -> NodeRecord:
    """A Node."""
    metadata = document["metadata"]
    allocatable = (document.get("status") or {}).get("allocatable") or {}
    return NodeRecord(
        metadata["name"],
        metadata.get("labels") or {},
        _whole(allocatable.get(SESSION_RESOURCE, "0")),
        cpus(allocatable.get("cpu", "0")),
    )


def read_pod(document: Document) -> PodRecord:
    """A Pod."""
    metadata, spec, status = document["metadata"], document["spec"], document.get("status") or {}
    tenant = metadata["namespace"]
    session = (metadata.get("annotations") or {}).get(SESSION_NAME_ANNOTATION)
    slots, cpu = 0, 0.0
    for container in spec.get("containers") or ():
        requests = (container.get("resources") or {}).get("requests") or {}
        slots += _whole(requests.get(SESSION_RESOURCE, "0"))
        cpu += cpus(requests.get("cpu", "0"))
    return PodRecord(
        uid=metadata["uid"],
        key=f"{tenant}/{metadata['name']}",
        tenant=tenant,
        session=f"{tenant}/{session}" if session else None,
        node=spec.get("nodeName") or "",
        slots=slots,
        cpus=cpu,
        gated=bool(spec.get("schedulingGates")),
        ended=status.get("phase") in _ENDED,
        node_selector=spec.get("nodeSelector") or {},
    )


def timestamp(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time stamp.

    Raises:
        ManifestError: it is none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ManifestError(f"{text[:64]!r} is not an RFC 3339 time stamp") from None
    if moment.tzinfo is None:
        raise ManifestError(f"{text[:64]!r} has no time zone; write Z at its end")
    return moment.timestamp()


def cpus(quantity: str | int) -> float:
    """CPUs of a Kubernetes quantity: ``500m`` or ``2``; 0 for what is none."""
    text = str(quantity)
    try:
        return int(text[:-1]) / 1000 if text.endswith("m") else float(text)
    except ValueError:
        return 0.0


def _whole(quantity: str | int) -> int:
    """Units of an extended resource, which Kubernetes keeps whole."""
    text = str(quantity)
    try:
        return int(text[:-1]) * 1000 if text.endswith("k") else int(text)
    except ValueError:
        return 0


def _drift(calibration: Any) -> tuple[float, float, float]:
    if calibration is None:
        return _DEFAULT_DRIFT_PER_S
    reported = (
        calibration.one_qubit_drift_ppb_per_hour,
        calibration.two_qubit_drift_ppb_per_hour,
        calibration.readout_drift_ppb_per_hour,
    )
    one, two, readout = (
        default if value is None else value * _PPB_PER_HOUR
        for value, default in zip(reported, _DEFAULT_DRIFT_PER_S, strict=True)
    )
    return one, two, readout


def _validated(model: type[_M], document: Any, place: str) -> _M:
    try:
        validated = model.model_validate(document, extra="ignore")
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        raise ManifestError(first["msg"], place=f"{place}.{path}" if path else place) from None
    return validated
