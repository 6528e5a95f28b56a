"""What the API answers, as pydantic models: the OpenAPI document is made from them.

Moments are seconds since 1970 (``…_at``, ``at``), durations carry their unit. A value that is not known is
null, never a made-up number.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(extra="ignore")


class Problem(Answer):
    """An error (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""
    code: str = ""
    """Stable, for programs."""
    place: str = ""
    """What is at fault, such as query.limit."""
    retry: bool = False
    """Whether the same request can succeed later."""


class About(Answer):
    """Who is looking at what."""

    version: str
    user: str
    namespaces: list[str] | None
    """Namespaces that may be seen; null: all."""
    now: float


class SessionSummary(Answer):
    """A session in a list."""

    namespace: str
    name: str
    state: str
    reason: str
    """Why it is in this state, or why it waits."""
    device: str
    created_at: float
    updated_at: float
    ended_at: float | None
    iterations: int
    evaluations: int
    energy: float | None
    std_error: float | None
    best: float | None
    exact: float | None
    noisy_best: float | None
    shots: int
    qpu_s: float
    """Device seconds charged."""
    cpu_s: float
    ttns_s: float | None
    """Time to next shot of the last iteration, wall seconds."""
    elapsed_s: float | None
    queue_position: int
    estimated_start_s: float | None
    calibration_age_s: float | None
    restarts: int


class SessionPage(Answer):
    """A page of sessions, newest first."""

    items: list[SessionSummary]
    total: int
    states: dict[str, int]
    """Number of sessions in each state, over all that may be seen."""
    next: str | None
    """What to give as ``cursor`` for the next page; null: there is none."""


class Waiting(Answer):
    """A session's place on a device."""

    device: str
    session: str | None
    """namespace/name; null: it may not be seen."""
    state: str
    position: int
    """1 is next; 0: it does not wait."""
    reason: str
    estimated_start_s: float
    """Device seconds from now."""


class SessionDetail(SessionSummary):
    """A session with everything but its trajectory."""

    limits: dict[str, Any]
    result: dict[str, Any] | None
    records: int | None
    """Records in its journal."""
    journal_bytes: int | None
    lease_epoch: int | None
    waiting: list[Waiting]


class Trajectory(Answer):
    """Evaluations of a session, in columns of equal length."""

    total: int
    """Evaluations that there are; more than the columns hold: evenly thinned out."""
    columns: dict[str, list[float | int | str | None]]


class Event(Answer):
    """Something that happened."""

    id: int
    at: float
    namespace: str
    session: str
    device: str
    reason: str
    message: str


class Events(Answer):
    """Events, newest first."""

    items: list[Event]


class Device(Answer):
    """A device as it was last told of."""

    name: str
    condition: str
    reason: str
    snapshot: str
    qubits: int
    slots: int
    clock_s: float
    calibration_epoch: int
    calibration_age_s: float
    max_age_s: float | None
    interval_s: float | None
    queue_depth: int
    busy_s: float
    calibrating_s: float
    duty_cycle: float
    known_error: float | None
    true_error: float | None
    worker: str
    updated_at: float
    waiting: list[Waiting]


class Devices(Answer):
    """All devices."""

    items: list[Device]


class DeviceState(Answer):
    """A device at a moment."""

    at: float
    clock_s: float | None
    condition: str
    calibration_epoch: int | None
    calibration_age_s: float | None
    queue_depth: int | None
    busy_s: float | None
    calibrating_s: float | None
    duty_cycle: float | None
    known_error: float | None
    true_error: float | None


class Calibration(Answer):
    """A calibration that ended."""

    epoch: int
    clock_s: float
    """Device seconds at its end."""
    at: float
    scope: str = ""
    """Full, or of what one circuit uses; empty where it was not told."""
    busy_s: float | None = None
    """Device seconds that it took."""
    reason: str = ""


class DeviceHistory(Answer):
    """A device over time, oldest first, and its calibrations, newest first."""

    states: list[DeviceState]
    calibrations: list[Calibration]


class Queue(Answer):
    """Who waits where, by device and position."""

    items: list[Waiting]


class UsageRow(Answer):
    """A sum of usage."""

    tenant: str | None = None
    session: str | None = None
    device: str | None = None
    at: float | None = None
    cpu_s: float
    qpu_s: float
    shots: int
    charges: int


class Usage(Answer):
    """Sums of usage."""

    items: list[UsageRow]


class Share(Answer):
    """What a tenant had lately of what it deserves."""

    tenant: str
    """Empty: all that may not be seen, together."""
    weight: float
    cpu_s: float
    """Decayed."""
    qpu_s: float
    share: Annotated[float, Field(ge=0, le=1)]
    """Part of all QPU seconds lately."""
    deserved: Annotated[float, Field(ge=0, le=1)]
    """Part of all weights of tenants with recent use."""


class Shares(Answer):
    """Weighted shares against deserved."""

    half_life_s: float
    items: list[Share]


class Cancelled(Answer):
    """A cancel was passed on."""

    namespace: str
    name: str
    by: str
