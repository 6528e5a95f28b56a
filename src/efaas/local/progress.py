"""What is known of a run while it goes on: one record a session, one a device.

The supervisor writes into these records, views and reports read them. Runners speak JSON lines
(`SessionRecord.apply` takes them); a user's program may write to the same pipe, so what arrives is looked at
value by value and what makes no sense is left out, never trusted.

Histories are keyed by (session, evaluation): a runner that was started again tells the evaluations of its
journal once more, and each counts once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from efaas.core.uses import Uses


class State(StrEnum):
    """Where a session is; the words of VQASession conditions."""

    PENDING = "Pending"
    SUSPENDED = "Suspended"
    PREPARING = "Preparing"
    QUEUED = "Queued"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    EXPIRED = "Expired"
    CANCELLED = "Cancelled"
    INTERRUPTED = "Interrupted"

    @property
    def ended(self) -> bool:
        """Whether the session will not go on by itself in this run."""
        return self in ENDED


FINAL = frozenset({State.COMPLETED, State.FAILED, State.EXPIRED, State.CANCELLED})
"""States that a resumed run keeps."""

ENDED = FINAL | {State.INTERRUPTED, State.SUSPENDED}
"""States in which nothing more happens in this run."""

_NOT_THE_RUNNERS = {State.SUSPENDED, State.INTERRUPTED, State.CANCELLED}
_FROM_RUNNER = {state.value: state for state in State if state not in _NOT_THE_RUNNERS}
_TEXT_LIMIT = 2000
_RECENT = 200

_NUMBERS = (
    "energy", "std_error", "best", "ttns_s", "ttns_device_s", "round_trip_s", "qpu_s", "calibration_age_s",
    "elapsed_s",
)  # fmt: skip
_INTEGERS = ("shots", "calibration_epoch")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One line of the history: an evaluation that a session was told."""

    session: str
    iteration: int
    """Optimizer iteration it belongs to, from 0."""
    evaluation: int
    """Running number of the submit, from 0."""
    energy: float | None
    std_error: float | None
    best: float | None
    """Lowest energy seen so far."""
    ttns_s: float | None
    """Time to next shot, wall seconds."""
    ttns_device_s: float | None
    """The same in device seconds."""
    round_trip_s: float | None
    """Wall seconds from submit to result."""
    qpu_s: float | None
    """Device seconds charged to the session so far."""
    shots: int | None
    """Shots charged to the session so far."""
    device: str
    calibration_age_s: float | None
    """Device seconds."""
    calibration_epoch: int | None
    elapsed_s: float | None
    """Wall seconds since the session's first start."""
    route: str = ""
    """Why it did not run on the session's own device; empty if it did."""

    def as_line(self) -> dict[str, Any]:
        """The JSON object in `history.jsonl`."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_line(cls, line: Mapping[str, Any], session: str = "") -> Evaluation | None:
        """Read a progress event or a line of the history; None when it lacks its numbers."""
        evaluation, iteration = integer(line.get("evaluation")), integer(line.get("iteration"))
        if evaluation is None or iteration is None:
            return None
        return cls(
            session=session or text(line.get("session")),
            iteration=iteration,
            evaluation=evaluation,
            device=text(line.get("device")),
            route=text(line.get("route")),
            **{name: number(line.get(name)) for name in _NUMBERS},  # type: ignore[arg-type]
            **{name: integer(line.get(name)) for name in _INTEGERS},
        )


@dataclass(slots=True)
class SessionRecord:
    """One session, as its runner, its device and the supervisor tell it."""

    key: str
    """``namespace/name``."""
    qubits: int
    devices: tuple[str, ...]
    """Devices that fit, its own first."""
    noisy: bool = True
    """Whether its own device is simulated with noise."""
    batch: bool = False
    """Whether it is a scan, which runs as batch work."""
    state: State = State.PENDING
    reason: str = ""
    activity: str = ""
    """What is still being done for a session that has ended, in words."""
    device: str = ""
    """Device of its last evaluation; its own one before the first."""
    exact: float | None = None
    """Exact ground-state energy, where it is known."""
    noisy_best: dict[str, Any] | None = None
    """Best energy of the ansatz under the device's noise with how it was found, or the reason why not."""
    history: dict[int, Evaluation] = field(default_factory=dict)
    """By evaluation number, each once."""
    iteration: int | None = None
    energy: float | None = None
    std_error: float | None = None
    best: float | None = None
    qpu_s: float = 0.0
    cpu_s: float = 0.0
    """CPU seconds of its runner so far."""
    shots: int = 0
    calibration_age_s: float | None = None
    calibration_epoch: int | None = None
    queue_position: int = 0
    """Of its first waiting job; 0 when none waits."""
    recent_ttns_s: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    """Wall seconds, of the last evaluations: what the live table looks back on."""
    result: dict[str, Any] = field(default_factory=dict)
    """What the runner said at its end."""
    restarts: int = 0
    """Runners that were started again after one was lost, in this run."""
    lease_epoch: int = 0
    bad_input: bool = False
    """Whether it failed because of what it was given."""

    @property
    def shown(self) -> str:
        """Name for people: the namespace is left out when it is the default one."""
        namespace, _, name = self.key.partition("/")
        return name if namespace == "default" else self.key

    @property
    def iterations(self) -> int:
        """Iterations done, or begun while it runs; a final evaluation is none."""
        told = integer(self.result.get("iterations"))
        return told if told is not None else 0 if self.iteration is None else self.iteration + 1

    def apply(self, event: Mapping[str, Any]) -> Evaluation | None:
        """Take one progress event of the runner.

        Returns:
            The evaluation that it told, if it told a new one.
        """
        kind = event.get("event")
        if kind == "state":
            state = _FROM_RUNNER.get(text(event.get("state")))
            if state is not None:
                self.state, self.reason = state, text(event.get("reason"))
        elif kind == "queued":
            self.queue_position = integer(event.get("position")) or 0
            if not self.state.ended:
                self.state, self.reason = State.QUEUED, text(event.get("reason"))
        elif kind == "iteration":
            self.cpu_s = max(self.cpu_s, number(event.get("cpu_s")) or 0.0)
            return self._evaluated(Evaluation.from_line(event, self.key))
        elif kind == "finished":
            result = event.get("result")
            self.result = dict(result) if isinstance(result, Mapping) else {}
            self._finished()
        return None

    def take_history(self, evaluations: Iterable[Evaluation]) -> None:
        """Take the evaluations that an earlier run of the folder has written down."""
        for evaluation in evaluations:
            self._evaluated(evaluation)

    def _evaluated(self, evaluation: Evaluation | None) -> Evaluation | None:
        if evaluation is None:
            return None
        if not self.state.ended:
            self.state, self.reason, self.queue_position = State.RUNNING, "", 0
        if evaluation.evaluation in self.history:
            return None
        self.history[evaluation.evaluation] = evaluation
        self.iteration = max(evaluation.iteration, self.iteration or 0)
        for name in ("energy", "std_error", "best", "calibration_age_s", "calibration_epoch"):
            value = getattr(evaluation, name)
            if value is not None:
                setattr(self, name, value)
        if evaluation.ttns_s is not None:
            self.recent_ttns_s.append(evaluation.ttns_s)
        self.device = evaluation.device or self.device
        self.qpu_s = max(self.qpu_s, evaluation.qpu_s or 0.0)
        self.shots = max(self.shots, evaluation.shots or 0)
        return evaluation

    def _finished(self) -> None:
        for name in ("energy", "std_error", "best"):
            value = number(self.result.get(name))
            if value is not None:
                setattr(self, name, value)
        exact = number(self.result.get("exact"))
        if exact is not None:
            self.exact = exact
        self.qpu_s = max(self.qpu_s, number(self.result.get("qpu_s")) or 0.0)
        self.cpu_s = max(self.cpu_s, number(self.result.get("cpu_s")) or 0.0)
        self.shots = max(self.shots, integer(self.result.get("shots")) or 0)

    def evaluations(self) -> list[Evaluation]:
        """The history in the order of evaluations."""
        return [self.history[number] for number in sorted(self.history)]

    def moves(self) -> list[dict[str, Any]]:
        """Where the session turned from one device to another, in the order of evaluations."""
        found, before = [], ""
        for evaluation in self.evaluations():
            if not evaluation.route and self.devices and evaluation.device != self.devices[0]:
                continue  # a speculative job on a twin came true
            if before and evaluation.device and evaluation.device != before:
                found.append(
                    {
                        "evaluation": evaluation.evaluation,
                        "source": before,
                        "target": evaluation.device,
                        "reason": evaluation.route or f"back to {evaluation.device}",
                    }
                )
            before = evaluation.device or before
        return found

    def samples(self, name: str) -> list[float]:
        """All values of one field of the history that are known, such as ``ttns_s``."""
        values = (getattr(evaluation, name) for evaluation in self.evaluations())
        return [value for value in values if value is not None]


@dataclass(slots=True)
class DeviceRecord:
    """One device, as its server tells it."""

    name: str
    snapshot: str
    qubits: int
    noisy: bool = True
    twins: str = ""
    """What the counts of a frozen device follow from; empty if it drifts."""
    condition: str = "Starting"
    reason: str = ""
    endpoint: str = ""
    calibration_epoch: int = 0
    calibration_age_s: float = 0.0
    """Device seconds."""
    clock_s: float = 0.0
    """Device seconds."""
    queue_depth: int = 0
    known_error: float = 0.0
    """Median two-qubit error as calibrated; 0 until it is told."""
    true_error: float = 0.0
    """The same as it really is."""
    busy_s: float = 0.0
    """Device seconds of shots."""
    calibrating_s: float = 0.0
    """Device seconds of calibration."""
    duty_cycle: float = 0.0
    """busy_s over the device time since the first job."""
    cold_starts: int = 0
    """Circuits that were read and transpiled while a session waited, since its server started."""
    cold_start_s: float = 0.0
    """Wall seconds of these."""
    warm_starts: int = 0
    """Registrations and jobs whose circuit was ready."""
    warm_start_s: float = 0.0
    """Wall seconds in which noise was built anew for these, as the device had drifted."""
    prepared_ahead: int = 0
    """Circuits prepared in the background after a full calibration."""
    restarts: int = 0
    """Servers that were started again after one was lost, in this run."""
    started: bool = False
    """Whether its server was started, in this run or an earlier one of the folder."""
    failed: bool = False
    """Whether it was given up."""
    charged_s: dict[str, float] = field(default_factory=dict)
    """Device seconds charged to each session so far, as its server tells it."""
    uses: Uses = field(default_factory=Uses)
    """Where its time went, from its server's log; read at the end."""


@dataclass(slots=True)
class RunRecord:
    """The whole run."""

    name: str
    folder: str
    started: str
    """RFC 3339."""
    sessions: dict[str, SessionRecord]
    devices: dict[str, DeviceRecord]
    wall_s: float = 0.0
    """Wall seconds of all runs of the folder."""
    interrupted: bool = False
    weights: dict[str, float] = field(default_factory=dict)
    """Shares of tenants among all; 1 for those not named."""

    def exit_code(self) -> int:
        """0 all completed, 1 some failed, expired or were cancelled, 2 bad input, 130 interrupted."""
        states = {record.state for record in self.sessions.values()}
        if any(record.bad_input for record in self.sessions.values()):
            return 2
        if self.interrupted:
            return 130
        return 1 if states & {State.FAILED, State.EXPIRED, State.CANCELLED} else 0


def percentile(samples: Iterable[float], percent: float) -> float | None:
    """Percentile by linear interpolation between order statistics (NumPy's default); None without samples."""
    ordered = sorted(samples)
    if not ordered:
        return None
    position = (len(ordered) - 1) * percent / 100
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def number(value: object) -> float | None:
    """A finite float, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        converted = float(value)
    except OverflowError:
        return None
    return converted if math.isfinite(converted) else None


def integer(value: object) -> int | None:
    """An integer that is not negative, or None."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


def text(value: object) -> str:
    """A bounded text in one line; empty when it is none."""
    return " ".join(value[:_TEXT_LIMIT].split()) if isinstance(value, str) else ""
