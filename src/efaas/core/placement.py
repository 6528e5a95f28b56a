"""Which device a session goes to, and why not to the others.

Two steps, both pure. The *filter* holds the rules that must not be broken (qubits, labels, health, slots, a
calibration that is fresh or can be made so in time, least fidelity); it answers each refused device with a
reason in words and with whether waiting can help. The *score* ranks what is left by the time that a session
loses there for each useful job:

    cost_s = t_net + t_queue · (1 + overuse) + t_calibration + t_execution / F²

- t_queue is what the device's queue expects for a new active loop; `overuse` is by how much the tenant's
  dominant share there exceeds its deserved one, since a fair queue serves such a tenant later (fair-share
  term).
- t_calibration is what a localised calibration costs if the circuit is cold there, plus what is left of a
  running one.
- F is the expected success probability of one circuit run (product of 1 - error over its gates and readouts,
  with the known errors aged by the drift they have had since their calibration). A signal damped to F needs
  1/F² as many shots for the same precision, so the execution time counts that often (fidelity term).

t_net + t_queue + t_calibration is the expected TTNS. Every term is kept in the answer, for display and for
tests. Ties go to the device of the lower name, so the same views always give the same answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

LEAST_FIDELITY = 1e-6
"""Below this a circuit's output is noise, and 1/F² would only overflow."""


class Health(StrEnum):
    """Whether a device can take work."""

    PENDING = "Pending"
    READY = "Ready"
    CALIBRATING = "Calibrating"
    DRAINING = "Draining"
    DOWN = "Down"


@dataclass(frozen=True, slots=True)
class DeviceView:
    """A device as its last report shows it. Times are device seconds."""

    name: str
    qubits: int
    connected_qubits: int | None = None
    """Qubits in the largest region whose couplings work; None: all of them."""
    labels: Mapping[str, str] = field(default_factory=dict)
    node_labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of the node that the device is on, where there is one."""
    health: Health = Health.READY
    cordoned: bool = False
    slots: int = 1
    slots_used: int = 0
    calibration_age_s: float = 0.0
    max_calibration_age_s: float = math.inf
    calibration_left_s: float = 0.0
    """What is left of a running calibration."""
    queue_s: float = 0.0
    """Expected wait of a new active loop."""
    network_s: float = 0.0
    """One way from the session to the device."""
    local_calibration_s: float = 0.0
    """Cost of calibrating what a circuit of this request uses."""
    calibrates_on_need: bool = True
    """Whether the device calibrates for a job that finds it past its limit."""
    warm_circuits: frozenset[str] = frozenset()
    """Handles whose caches are warm in the current calibration epoch."""
    one_qubit_error: float = 0.0
    """Typical known error of a single-qubit gate."""
    two_qubit_error: float = 0.0
    readout_error: float = 0.0
    one_qubit_drift_per_s: float = 0.0
    """Expected growth of that error for each second since the calibration."""
    two_qubit_drift_per_s: float = 0.0
    readout_drift_per_s: float = 0.0
    overuse: Mapping[str, float] = field(default_factory=dict)
    """By tenant: dominant share ÷ deserved share - 1, where that is positive."""


@dataclass(frozen=True, slots=True)
class CircuitShape:
    """What of a circuit matters for its chance of success."""

    one_qubit_gates: int = 0
    two_qubit_gates: int = 0
    measured_qubits: int = 0
    execution_s: float = 0.0
    """Device seconds of one job."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a session asks for."""

    session: str
    tenant: str
    qubits: int
    match_labels: Mapping[str, str] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    """Labels that the device's node must carry."""
    max_calibration_age_s: float | None = None
    calibration_patience_s: float = math.inf
    """Longest wait for a stale device to be calibrated anew."""
    min_fidelity: float = 0.0
    circuit: str | None = None
    """Handle, once it is known: what caches may be warm for."""
    shape: CircuitShape = CircuitShape()
    overuse: float = 0.0
    """The tenant's dominant share over all devices ÷ its deserved share - 1, where that is positive."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a device is out of the question."""

    device: str
    reason: str
    """In words: ``5 qubits, 8 needed``."""
    waiting_helps: bool
    """Whether the reason can pass by itself."""


@dataclass(frozen=True, slots=True)
class Score:
    """What a session would lose on a device, term by term; the least cost is best."""

    device: str
    network_s: float
    queue_s: float
    calibration_s: float
    fidelity: float
    overuse: float
    execution_s: float
    warm: bool

    @property
    def ttns_s(self) -> float:
        """Expected time to next shot."""
        return self.network_s + self.queue_s + self.calibration_s

    @property
    def cost_s(self) -> float:
        """The ranked figure; see the module's text."""
        useful = max(self.fidelity, LEAST_FIDELITY) ** 2
        return self.ttns_s + self.queue_s * self.overuse + self.execution_s / useful


@dataclass(frozen=True, slots=True)
class Placement:
    """Ranked devices, best first, and refusals in the order of names."""

    scores: tuple[Score, ...]
    refusals: tuple[Refusal, ...]

    @property
    def best(self) -> str | None:
        """Name of the best device; None when every device refuses."""
        return self.scores[0].device if self.scores else None

    @property
    def reason(self) -> str:
        """Why nothing fits, in one line: ``NoDeviceFits: 3 devices: 2 too small, 1 calibrating``."""
        if self.scores:
            return ""
        if not self.refusals:
            return "NoDeviceFits: there are no devices"
        reasons = "; ".join(f"{refusal.device}: {refusal.reason}" for refusal in self.refusals)
        return f"NoDeviceFits: {reasons}"


def expected_fidelity(device: DeviceView, shape: CircuitShape) -> float:
    """Estimated success probability of one run of the circuit on the device now.

    The product of (1 - error) over gates and readouts (Murali et al., ASPLOS 2019, call it ESP), with each
    known error aged by its expected growth since the calibration.
    """
    fidelity = 1.0
    for count, error, growth_per_s in (
        (shape.one_qubit_gates, device.one_qubit_error, device.one_qubit_drift_per_s),
        (shape.two_qubit_gates, device.two_qubit_error, device.two_qubit_drift_per_s),
        (shape.measured_qubits, device.readout_error, device.readout_drift_per_s),
    ):
        aged = min(1.0, error + growth_per_s * device.calibration_age_s)
        fidelity *= (1.0 - aged) ** count
    return fidelity


def refuse(request: Request, device: DeviceView) -> Refusal | None:
    """The first rule that keeps the request off the device, or None."""

    def because(reason: str, *, waiting_helps: bool) -> Refusal:
        return Refusal(device.name, reason, waiting_helps)

    if device.qubits < request.qubits:
        return because(f"{device.qubits} qubits, {request.qubits} needed", waiting_helps=False)
    if device.connected_qubits is not None and device.connected_qubits < request.qubits:
        return because(
            f"{device.connected_qubits} connected qubits, {request.qubits} needed", waiting_helps=True
        )
    for kind, labels, needed in (
        ("label", device.labels, request.match_labels),
        ("node label", device.node_labels, request.node_selector),
    ):
        for label, wanted in sorted(needed.items()):
            if labels.get(label) != wanted:
                found = labels.get(label, "not set")
                return because(f"{kind} {label} is {found}, {wanted} needed", waiting_helps=False)
    if device.health is Health.PENDING:
        return because("not ready yet", waiting_helps=True)
    if device.health is Health.DOWN:
        return because("down", waiting_helps=True)
    if device.health is Health.DRAINING or device.cordoned:
        return because("takes no new sessions", waiting_helps=True)
    if device.slots_used >= device.slots:
        return because(f"all {device.slots} slots taken", waiting_helps=True)
    limit_s = _age_limit_s(request, device)
    if device.calibration_age_s > limit_s and not device.calibrates_on_need:
        return because(
            f"calibration {in_words(device.calibration_age_s)} old, limit {in_words(limit_s)}",
            waiting_helps=True,
        )
    if device.local_calibration_s > limit_s:
        return because(
            f"a calibration takes {in_words(device.local_calibration_s)}, limit {in_words(limit_s)}",
            waiting_helps=False,
        )
    until_fresh_s = device.calibration_left_s + device.local_calibration_s
    if device.calibration_age_s > limit_s and until_fresh_s > request.calibration_patience_s:
        return because(
            f"calibration {in_words(device.calibration_age_s)} old, limit {in_words(limit_s)}; "
            f"a new one takes {in_words(until_fresh_s)}",
            waiting_helps=True,
        )
    fidelity = expected_fidelity(_as_it_will_run(request, device), request.shape)
    if fidelity < request.min_fidelity:
        return because(f"fidelity {fidelity:.3f}, {request.min_fidelity:.3f} needed", waiting_helps=False)
    return None


def score(request: Request, device: DeviceView) -> Score:
    """What the session would lose on a device that does not refuse it."""
    runs = _as_it_will_run(request, device)
    warm = request.circuit is not None and request.circuit in device.warm_circuits and runs is device
    calibration_s = device.calibration_left_s
    if runs is not device or (request.circuit is not None and not warm):
        calibration_s += device.local_calibration_s
    return Score(
        device=device.name,
        network_s=device.network_s,
        queue_s=device.queue_s,
        calibration_s=calibration_s,
        fidelity=expected_fidelity(runs, request.shape),
        overuse=max(0.0, request.overuse, device.overuse.get(request.tenant, 0.0)),
        execution_s=request.shape.execution_s,
        warm=warm,
    )


def place(request: Request, devices: Iterable[DeviceView]) -> Placement:
    """Filter and rank devices for a request."""
    scores, refusals = [], []
    for device in sorted(devices, key=lambda view: view.name):
        refusal = refuse(request, device)
        if refusal is None:
            scores.append(score(request, device))
        else:
            refusals.append(refusal)
    scores.sort(key=lambda each: (each.cost_s, each.device))
    return Placement(tuple(scores), tuple(refusals))


def _age_limit_s(request: Request, device: DeviceView) -> float:
    own = math.inf if request.max_calibration_age_s is None else request.max_calibration_age_s
    return min(own, device.max_calibration_age_s)


def _as_it_will_run(request: Request, device: DeviceView) -> DeviceView:
    """The device as the request's first shot would find it: calibrated first, if it is past the limit."""
    if device.calibration_age_s <= _age_limit_s(request, device) and device.health is not Health.CALIBRATING:
        return device
    return replace(device, calibration_age_s=0.0)


def in_words(seconds: float) -> str:
    """A time as a person says it: ``9 h``, ``5 min``, ``40 s``."""
    for unit, size_s in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size_s:
            return f"{seconds / size_s:.0f} {unit}"
    return f"{seconds:.0f} s"
