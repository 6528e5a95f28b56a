"""What is told to the gateway beside the journals: states of sessions and devices, events, tenants' weights.

The operator, QPU servers and `efaas run` tell it, as JSON objects with a ``kind``. A report says what is now;
what it leaves out stays as it was. Everything is bounded and looked at value by value before it is stored.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from sqlalchemy import Connection, func, select, update

from efaas.errors import InputError
from efaas_gateway.store.derive import Derived
from efaas_gateway.store.journals import session_row, upsert
from efaas_gateway.store.tables import (
    calibrations,
    device_states,
    devices,
    events,
    sessions,
    tenants,
)

MAX_REPORT_BYTES = 1024 * 1024
"""Longest report; a result with its parameters is the largest."""

ENDED = frozenset({"Completed", "Failed", "Expired", "Cancelled", "Interrupted"})
"""States in which a session has ended for now."""

_DNS = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"
SessionKey = Annotated[str, Field(pattern=rf"^{_DNS}/{_DNS}$", max_length=400)]
DeviceName = Annotated[str, Field(pattern=rf"^{_DNS}$", max_length=253)]
Words = Annotated[str, Field(max_length=4000)]
Finite = Annotated[float, Field(allow_inf_nan=False, ge=-1e15, le=1e15)]
Amount = Annotated[float, Field(allow_inf_nan=False, ge=0, le=1e15)]
Count = Annotated[int, Field(ge=0, le=10**15)]


class _Report(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SessionReport(_Report):
    """A session as its keeper sees it."""

    kind: Literal["session"]
    name: SessionKey
    state: Annotated[str, Field(pattern=r"^[A-Za-z]{1,32}$")] | None = None
    reason: Words | None = None
    device: DeviceName | Literal[""] | None = None
    energy: Finite | None = None
    std_error: Amount | None = None
    best: Finite | None = None
    exact: Finite | None = None
    noisy_best: Finite | None = None
    queue_position: Count | None = None
    estimated_start_s: Amount | None = None
    restarts: Count | None = None
    limits: dict[str, Any] | None = None
    result: dict[str, Any] | None = None


class Waiting(_Report):
    """A session on a device."""

    session: SessionKey
    state: Words = ""
    position: Count = 0
    reason: Words = ""
    estimated_start_s: Amount = 0.0


class DeviceReport(_Report):
    """A device as its server sees it."""

    kind: Literal["device"]
    name: DeviceName
    condition: Annotated[str, Field(max_length=64)] = ""
    reason: Words = ""
    snapshot: Annotated[str, Field(max_length=253)] = ""
    qubits: Count = 0
    slots: Count = 0
    clock_s: Amount = 0.0
    calibration_epoch: Count = 0
    calibration_age_s: Amount = 0.0
    max_age_s: Amount | None = None
    """Age past which it runs nothing before it is calibrated."""
    interval_s: Amount | None = None
    """Between scheduled calibrations."""
    queue_depth: Count = 0
    busy_s: Amount = 0.0
    calibrating_s: Amount = 0.0
    duty_cycle: Amount = 0.0
    known_error: Amount | None = None
    """Median two-qubit error as calibrated."""
    true_error: Amount | None = None
    """The same as it really is; only a simulation knows."""
    worker: Words = ""
    sessions: Annotated[tuple[Waiting, ...], Field(max_length=2000)] = ()


class EventReport(_Report):
    """Something that happened."""

    kind: Literal["event"]
    session: SessionKey | Literal[""] = ""
    device: DeviceName | Literal[""] = ""
    reason: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z]{0,63}$")]
    message: Words = ""


class TenantReport(_Report):
    """A tenant's weight."""

    kind: Literal["tenant"]
    name: DeviceName
    weight: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


Report = Annotated[SessionReport | DeviceReport | EventReport | TenantReport, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[Report] = TypeAdapter(Report)


def read_report(body: bytes) -> Report:
    """Read a report.

    Raises:
        InputError: it is too long, or is not one.
    """
    if len(body) > MAX_REPORT_BYTES:
        raise InputError(f"has {len(body)} bytes, more than the {MAX_REPORT_BYTES} allowed", place="report")
    try:
        return _ADAPTER.validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(["report", *map(str, first["loc"])])
        raise InputError(first["msg"], place=place) from None


def take_report(connection: Connection, report: Report, now: float) -> Derived:
    """Write a report; inside a writing transaction."""
    if isinstance(report, SessionReport):
        return _take_session(connection, report, now)
    if isinstance(report, DeviceReport):
        return _take_device(connection, report, now)
    if isinstance(report, EventReport):
        return add_event(connection, now, report.session, report.device, report.reason, report.message)
    statement = upsert(connection, tenants).values(name=report.name, weight=report.weight)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[tenants.c.name], set_={"weight": statement.excluded.weight}
        )
    )
    return Derived(updates=[{"kind": "tenant", "namespace": report.name, "weight": report.weight}])


def add_event(
    connection: Connection, now: float, session: str, device: str, reason: str, message: str
) -> Derived:
    """Write an event."""
    namespace, _, name = session.partition("/")
    event = {
        "at": now,
        "namespace": namespace,
        "session": name,
        "device": device,
        "reason": reason,
        "message": message,
    }
    connection.execute(events.insert().values(event))
    return Derived(updates=[{"kind": "event", **event}])


def _take_session(connection: Connection, report: SessionReport, now: float) -> Derived:
    key = session_row(connection, report.name, now)
    before = connection.execute(select(sessions).where(sessions.c.id == key)).mappings().one()
    told = report.model_dump(exclude_none=True, exclude={"kind", "name", "limits", "result"})
    changed = {name: value for name, value in told.items() if before[name] != value}
    if report.limits is not None:
        changed["limits"] = json.dumps(report.limits)
    if report.result is not None:
        changed["result"] = json.dumps(report.result)
    if not changed:
        return Derived()
    derived = Derived()
    state = changed.get("state", before["state"])
    if "state" in changed:
        changed["ended_at"] = now if state in ENDED else None
    if "state" in changed or ("reason" in changed and changed["reason"] and state != "Running"):
        derived = add_event(
            connection, now, report.name, told.get("device", ""), state or "Changed", told.get("reason", "")
        )
    connection.execute(update(sessions).where(sessions.c.id == key).values(**changed, updated_at=now))
    namespace, _, name = report.name.partition("/")
    derived.updates.append({"kind": "session", "namespace": namespace, "name": name, **told})
    return derived


def _take_device(connection: Connection, report: DeviceReport, now: float) -> Derived:
    state = report.model_dump(exclude={"kind"})
    statement = upsert(connection, devices).values(
        name=report.name, updated_at=now, condition=report.condition, state=json.dumps(state)
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[devices.c.name],
            set_={name: statement.excluded[name] for name in ("updated_at", "condition", "state")},
        )
    )
    row = {column.name: state.get(column.name) for column in device_states.columns}
    row |= {"device": report.name, "at": now}
    connection.execute(upsert(connection, device_states).values(row).on_conflict_do_nothing())
    derived = Derived(updates=[{"kind": "device", "device": report.name, **state}])
    known = connection.execute(
        select(func.max(calibrations.c.epoch)).where(calibrations.c.device == report.name)
    ).scalar()
    if report.calibration_epoch and report.calibration_epoch > (known or 0):
        calibrated = {
            "device": report.name,
            "epoch": report.calibration_epoch,
            "clock_s": max(0.0, report.clock_s - report.calibration_age_s),
        }
        connection.execute(
            upsert(connection, calibrations)
            .values(**calibrated, at=now, detail="{}")
            .on_conflict_do_nothing()
        )
        derived.updates.append({"kind": "calibration", **calibrated})
    return derived
