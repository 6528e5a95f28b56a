"""QPUDevice: a simulated quantum processor and how it ages, is calibrated and shared."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from efaas.api.meta import API_VERSION, Metadata, Model, Name
from efaas.api.quantities import Duration, Number
from efaas.api.session import ConfigMapKey, OneOf


class DeviceModel(OneOf):
    """What the device is: exactly one of the fields."""

    snapshot: Annotated[str, Field(pattern=r"^[a-z0-9][-a-z0-9]*$", max_length=63)] | None = None
    """Name of a snapshot shipped with the project, such as ``manila-5`` (`efaas devices` lists them)."""
    config_map: ConfigMapKey | None = None
    """A snapshot of your own, as JSON in a ConfigMap."""


class Noise(StrEnum):
    """Which noise the simulation applies."""

    DEVICE = "Device"
    """Gate, decoherence and readout errors of the device model."""
    NONE = "None"
    """Ideal gates and readout; only shot noise remains."""


class SimulationMethod(StrEnum):
    """How Aer simulates a circuit."""

    AUTO = "Auto"
    """Outcome probabilities from a density matrix where that is affordable, else trajectories."""
    DENSITY_MATRIX = "DensityMatrix"
    TRAJECTORIES = "Trajectories"


class Simulation(Model):
    """How the device is simulated."""

    noise: Noise = Noise.DEVICE
    """Which noise is applied."""
    method: SimulationMethod = SimulationMethod.AUTO
    """How Aer simulates a circuit."""
    time_scale: Number = Decimal(0)
    """Wall seconds for each second of device time; 0 runs as fast as it simulates."""
    seed: Annotated[int, Field(ge=0, le=2**53 - 1)] = 0
    """Seed of the device's drift."""


class Drift(StrEnum):
    """How the true device moves away from what its last calibration measured."""

    FROZEN = "Frozen"
    """Not at all: the device is its snapshot for ever."""
    MODEL = "Model"
    """Control drifts as a random walk since the last calibration, coherence fluctuates by itself."""
    TRACE = "Trace"
    """As a trace of daily values says."""


class Calibration(Model):
    """When and how the device is calibrated."""

    drift: Drift = Drift.FROZEN
    """How the true device moves."""
    trace: ConfigMapKey | None = None
    """Daily values that drive the device, for drift: Trace."""
    interval: Duration = timedelta(hours=1)
    """Device time between scheduled full calibrations."""
    duration: Duration = timedelta(seconds=150)
    """Device time that a full calibration takes."""
    max_age: Duration = timedelta(hours=24)
    """Age of a calibration past which the device runs nothing before it is calibrated."""
    requested_at: Annotated[str, Field(max_length=64)] | None = None
    """Time stamp (RFC 3339); a new one asks for a full calibration now."""

    @model_validator(mode="after")
    def _trace_is_given(self) -> Calibration:
        if (self.drift is Drift.TRACE) != (self.trace is not None):
            raise ValueError("set trace for drift: Trace, and only for that")
        return self


class QueuePolicy(StrEnum):
    """Who runs next on the device."""

    EFAAS = "efaas"
    SBQ = "sbq"
    PF = "pf"
    SR = "sr"
    PQ = "pq"
    SESSION_FIFO = "session-fifo"


class Queue(Model):
    """How the device is shared."""

    policy: QueuePolicy = QueuePolicy.EFAAS
    """Who runs next."""
    slice: Duration = timedelta(milliseconds=250)
    """Longest device time a job holds the device at a stretch while others wait."""
    slice_loops: bool = False
    """Whether iterations of loops run in slices too, which gives running estimates; costs little."""
    slice_cost: Duration = timedelta(milliseconds=10)
    """Device time lost whenever the device turns from one job to another."""
    alpha: Number = Decimal(100)
    """Weight of an active loop in the priority."""
    beta: Number = Decimal(5)
    """Weight of the drift urgency in the priority."""
    gamma: Number = Decimal(1)
    """Weight of the fair share in the priority."""
    guaranteed_share: Number = Decimal("0.05")
    """Share of device time that each class but the lowest is sure of."""
    half_life: Duration = timedelta(minutes=10)
    """Device time after which past use counts half in the fair share."""


class QPUDeviceSpec(Model):
    """The device, its simulation, calibration and queue."""

    model: DeviceModel
    """What the device is."""
    node: Annotated[str, Field(max_length=253)] | None = None
    """Kubernetes node the QPU pod is pinned to; a free one labelled ``efaas.dev/qpu`` if not given."""
    simulation: Simulation = Field(default_factory=Simulation)
    """How the device is simulated."""
    calibration: Calibration = Field(default_factory=Calibration)
    """When and how it is calibrated."""
    queue: Queue = Field(default_factory=Queue)
    """How it is shared."""
    slots: Annotated[int, Field(ge=1, le=1000)] = 8
    """Sessions that may hold a place on the device at once."""
    cordon: bool = False
    """Whether new sessions are kept away."""


class QPUDevice(Model):
    """A simulated quantum processor."""

    api_version: Literal["efaas.dev/v1alpha1"] = API_VERSION  # type: ignore[assignment]
    kind: Literal["QPUDevice"] = "QPUDevice"
    metadata: Metadata
    spec: QPUDeviceSpec

    @property
    def name(self) -> Name:
        """The device's name; devices are cluster-scoped."""
        return self.metadata.name
