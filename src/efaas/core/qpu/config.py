"""Settings of one device's machine, checked when they are made.

Numbers that cannot work are refused here with a sentence that names them, so that the machine itself needs no
second thoughts. All times are device seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from efaas.errors import InputError

POLICIES = ("efaas", "sbq", "pf", "sr", "pq", "session-fifo")
"""Names of the policies, the project's own first."""

_STRICT = "active loops must outrank everything: choose alpha greater than beta + gamma"


def _positive(place: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{value} must be a finite number above 0", place=place)


def _not_negative(place: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"{value} must be a finite number, 0 or more", place=place)


@dataclass(frozen=True, slots=True)
class CalibrationConfig:
    """When the device is calibrated, and what that costs.

    Raises:
        InputError: a time is not finite or out of range; a limit is below the time that a calibration takes.
    """

    interval_s: float = 3600.0
    """Between scheduled full calibrations, end to end."""
    duration_s: float = 150.0
    """Of a full calibration."""
    max_age_s: float = 86_400.0
    """Nothing starts on a calibration older than this; the device's own limit, ignored when frozen."""
    frozen: bool = True
    """The device does not drift: nothing is scheduled; a session's own limit is kept all the same."""
    local_fixed_s: float | None = None
    """Part of a localised calibration that does not depend on the qubits; 2 % of a full one if not given."""
    local_per_qubit_s: float | None = None
    """Part of a localised calibration for each qubit; a full one's 1/27 if not given."""
    calibrated_at_s: float = 0.0
    """Device time of the last full calibration before the machine starts."""
    epoch: int = 0
    """Epoch of the last calibration, full or localised."""
    local_calibrations: tuple[tuple[float, tuple[int, ...]], ...] = ()
    """Localised calibrations since the last full one, oldest first: device time of the end, and qubits."""

    def __post_init__(self) -> None:
        _positive("calibration.interval_s", self.interval_s)
        _positive("calibration.duration_s", self.duration_s)
        _positive("calibration.max_age_s", self.max_age_s)
        if self.local_fixed_s is not None:
            _not_negative("calibration.local_fixed_s", self.local_fixed_s)
        if self.local_per_qubit_s is not None:
            _not_negative("calibration.local_per_qubit_s", self.local_per_qubit_s)
        if not self.frozen and self.max_age_s < self.duration_s:
            raise InputError(
                f"{self.max_age_s} s is below the {self.duration_s} s that a calibration takes: "
                "the device would calibrate without end; raise it or shorten the calibration",
                place="calibration.max_age_s",
            )
        if not self.frozen and self.interval_s < self.duration_s:
            raise InputError(
                f"{self.interval_s} s is below the {self.duration_s} s that a calibration takes: "
                "the device would do nothing else; raise it or shorten the calibration",
                place="calibration.interval_s",
            )

    def local_calibration_s(self, qubits: int) -> float:
        """Device seconds of a localised calibration: a fixed part and one in proportion to the qubits.

        Never more than a full calibration.
        """
        fixed = 0.02 * self.duration_s if self.local_fixed_s is None else self.local_fixed_s
        each = self.duration_s / 27 if self.local_per_qubit_s is None else self.local_per_qubit_s
        return min(self.duration_s, fixed + each * qubits)


@dataclass(frozen=True, slots=True)
class QpuConfig:
    """How one device is shared.

    Raises:
        InputError: a value is out of range, or alpha, beta and gamma would break strict priority.
    """

    policy: str = "efaas"
    """One of `POLICIES`."""
    slice_s: float | None = 0.25
    """Longest time a job holds the device while a better class may come; None: jobs run whole."""
    slice_cost_s: float = 0.01
    """Lost whenever the device turns to another job than the one it held last."""
    turn_s: float = 5.0
    """How long a job keeps the device before another tenant of the same class may have it."""
    slice_loops: bool = False
    """Whether active iterations run in slices as well: costs nothing but events, gives running estimates."""
    gap_fitting: bool = True
    """Whether slices end where an active loop is expected back."""
    reserve_share: float = 0.02
    """Most device time that may be kept idle for loops expected back, as a share of all time."""
    alpha: float = 100.0
    """Weight of an active loop in the priority ρ."""
    beta: float = 5.0
    """Weight of the drift urgency in ρ."""
    gamma: float = 1.0
    """Weight of the session's share in ρ."""
    tau_s: float = 300.0
    """Drift limit τ of the paper: unit of the urgency, calibration limit of the stateless policies."""
    guaranteed_share: float = 0.05
    """Share of device time that every class but the last is sure of while it waits."""
    guarantee_window_s: float = 60.0
    """Time after which a claim to the guaranteed share lapses."""
    half_life_s: float = 600.0
    """After this time past use counts half."""
    cpu_capacity: float = 4.0
    """CPUs behind the loops: what a tenant's CPU seconds are divided by, as QPU seconds by one device."""
    strict_classes: bool = True
    """Whether loops have classes of their own; without, they are batch work: the ablation α = 0."""
    localised_calibration: bool = True
    """Whether what a job needs measured is its qubits only; without, always the whole device."""
    merge_slices: bool = False
    """Whether slices that nothing can come between are started as one, for hosts that can carry out
    `CutSlice`: a long simulation then has an event for each run of the device, not for each slice."""
    tell_positions: bool = True
    """Whether submitters are told where their jobs stand (`ReportQueued`); simulations have none to tell."""
    loop_burst: int = 4
    """Jobs that a loop may submit before it waits for all their results; more shows batch work."""
    loop_gap: float = 0.02
    """Classical time over device time of an iteration below which no loop is seen; twice that restores it."""
    max_failures: int = 3
    """Attempts of a job whose worker dies, the first included."""
    max_waiting: int = 20_000
    """Waiting jobs on the device; more are refused."""
    max_waiting_per_session: int = 10_000
    """Waiting jobs of one session; more are refused."""
    interactive_ttl_s: float = 60.0
    """Of `session-fifo`: a session without a job for this long loses the device."""
    max_ttl_s: float = 28_800.0
    """Of `session-fifo`: a session's longest life from its first job."""
    cold_start_s: tuple[float, float] = (2.0, 8.0)
    """Of `pf`: least and most time that a container takes to start."""
    pilot_start_s: float = 2.0
    """Of `pq`: time that a session's pilot takes to start."""
    pilot_task_s: float = 0.5
    """Of `pq`: time that a pilot takes to launch a task."""
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    """When the device is calibrated."""
    validate: bool = False
    """Whether all invariants are checked after each event: for tests, it costs time."""

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise InputError(
                f"{self.policy!r} is no policy; there are {', '.join(POLICIES)}", place="queue.policy"
            )
        if self.slice_s is not None:
            _positive("queue.slice_s", self.slice_s)
        for name in ("turn_s", "tau_s", "half_life_s", "guarantee_window_s", "cpu_capacity", "max_ttl_s"):
            _positive(f"queue.{name}", getattr(self, name))
        for name in ("slice_cost_s", "alpha", "beta", "gamma", "loop_gap", "pilot_start_s", "pilot_task_s"):
            _not_negative(f"queue.{name}", getattr(self, name))
        _positive("queue.interactive_ttl_s", self.interactive_ttl_s)
        if self.policy == "efaas" and self.strict_classes and not self.alpha > self.beta + self.gamma:
            raise InputError(
                f"{self.alpha:g} does not outweigh beta {self.beta:g} + gamma {self.gamma:g}: {_STRICT}",
                place="queue.alpha",
            )
        if not 0 <= self.guaranteed_share <= 0.25:
            raise InputError(
                f"{self.guaranteed_share} must lie between 0 and 0.25: three classes have it at once and "
                "loops need the rest",
                place="queue.guaranteed_share",
            )
        if not 0 <= self.reserve_share <= 1:
            raise InputError(f"{self.reserve_share} must lie between 0 and 1", place="queue.reserve_share")
        for name in ("loop_burst", "max_failures", "max_waiting", "max_waiting_per_session"):
            if getattr(self, name) < 1:
                raise InputError(f"{getattr(self, name)} must be at least 1", place=f"queue.{name}")
        least, most = self.cold_start_s
        _not_negative("queue.cold_start_s[0]", least)
        if not (math.isfinite(most) and most >= least):
            raise InputError(
                f"{most} must be finite and at least {least}, the least", place="queue.cold_start_s[1]"
            )
