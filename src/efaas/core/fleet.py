"""Placement over many devices at once: the rules of `efaas.core.placement` as columns of numbers.

A scheduler asks about hundreds or thousands of devices many times a second. `Fleet` keeps what was reported
of each device in numpy columns and answers a request with one pass over them. The rules are those of
`placement.refuse` and `placement.score`, and a property test holds the two against each other for any
devices and requests: the scalar functions stay the definition, this is their fast form.

Reports age: a calibration that was 5 h old when it was reported is 6 h old an hour later. `at` gives a
reported view as it is at a moment, and the fleet applies the same rule to its columns.

A scheduler that takes whole points from 0 to 10 cannot be told costs. `points` ranks instead: equal costs get
equal points, less cost never gets fewer points, and the least cost alone gets all ten. Costs are compared in
whole microseconds, so that rounding noise is no difference and a real one is never lost.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from efaas.core.placement import LEAST_FIDELITY, DeviceView, Health, Refusal, Request, Score, refuse, score

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

MOST_POINTS = 10
_COST_GRAIN_S = 1e-6
_LARGEST_GRAINS = float(2**62)

_NUMBERS = (
    "qubits",
    "connected",
    "health",
    "closed",
    "slots",
    "slots_used",
    "age_s",
    "at_s",
    "pace",
    "max_age_s",
    "left_s",
    "queue_s",
    "network_s",
    "local_s",
    "on_need",
    "one_qubit_error",
    "two_qubit_error",
    "readout_error",
    "one_qubit_drift",
    "two_qubit_drift",
    "readout_drift",
)
"""Columns, all as float64: one block of memory, one write for each report."""

_HEALTH = {health: float(number) for number, health in enumerate(Health)}


@dataclass(frozen=True, slots=True)
class Report:
    """A device as it was at a moment."""

    view: DeviceView
    at_s: float = 0.0
    """Wall time of the report."""
    pace: float = 1.0
    """Device seconds that pass in each wall second."""


def at(report: Report, now_s: float) -> DeviceView:
    """The device as it is expected to be now: its calibration is older, a running one is nearer its end."""
    passed_s = max(0.0, (now_s - report.at_s) * report.pace)
    view = report.view
    return replace(
        view,
        calibration_age_s=view.calibration_age_s + passed_s,
        calibration_left_s=max(0.0, view.calibration_left_s - passed_s),
    )


def points(costs_s: Sequence[float] | Floats) -> Ints:
    """Costs as whole points from 0 to 10, best ten; see the module's text.

    With at most eleven different costs each has points of its own. With more, the best keeps its ten and the
    others share 0 to 9 in their order.

    Args:
        costs_s: seconds, shape (devices,).

    Returns:
        Points, shape (devices,).
    """
    levels, rank = np.unique(_grains(costs_s), return_inverse=True)
    if len(levels) <= MOST_POINTS + 1:
        return np.asarray(MOST_POINTS - rank, dtype=np.int64)
    shared = MOST_POINTS - 1 - (rank - 1) * MOST_POINTS // (len(levels) - 1)
    return np.where(rank == 0, MOST_POINTS, shared).astype(np.int64)


def cheapest(keys: Sequence[str], costs_s: Floats, count: int) -> list[int]:
    """Indices of so many keys of least cost, best first; of equal costs (see `points`) the lower key.

    Args:
        keys: names of the devices.
        costs_s: seconds, shape (keys,).
        count: how many, at most.
    """
    grains = _grains(costs_s)
    if count >= len(keys):
        candidates = np.arange(len(keys))
    else:
        candidates = np.flatnonzero(grains <= np.partition(grains, count - 1)[count - 1])
    return sorted(candidates.tolist(), key=lambda index: (grains[index], keys[index]))[:count]


def _grains(costs_s: Sequence[float] | Floats) -> Floats:
    """Costs in whole microseconds."""
    return np.minimum(np.rint(np.asarray(costs_s, dtype=np.float64) / _COST_GRAIN_S), _LARGEST_GRAINS)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request would find on every row of a fleet; arrays of shape (rows,)."""

    fits: Mask
    """Whether the device is open to the request; False for rows that hold none."""
    cost_s: Floats
    """As `Score.cost_s`; meaningless where it does not fit."""


class Fleet:
    """Reported devices by key.

    Keys are what the caller asks about (a scheduler's nodes); each holds one device.
    """

    def __init__(self) -> None:
        self._columns = np.zeros((len(_NUMBERS), 16))
        self._by_name = {name: number for number, name in enumerate(_NUMBERS)}
        self._present = np.zeros(16, dtype=np.bool_)
        self.version = 0
        """Grows with every change."""
        self.rows: dict[str, int] = {}
        """Row of each key; keys that are gone leave theirs to later ones."""
        self._keys: dict[int, str] = {}
        self._reports: dict[int, Report] = {}
        self._free: list[int] = []
        self._labels_version = 0
        self._label_masks: dict[tuple[tuple[tuple[str, str], ...], ...], tuple[int, Mask]] = {}
        self._overuse: dict[str, set[int]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def put(self, key: str, report: Report) -> None:
        """Take a report; it replaces what was known of the key."""
        self.version += 1
        row = self.rows.get(key)
        if row is None:
            row = self._new_row()
            self.rows[key] = row
            self._keys[row] = key
            before = None
        else:
            before = self._reports[row].view
        view = report.view
        if before is None or (before.labels, before.node_labels) != (view.labels, view.node_labels):
            self._labels_version += 1
        if before is not None:
            for tenant in before.overuse:
                self._overuse[tenant].discard(row)
        for tenant in view.overuse:
            self._overuse.setdefault(tenant, set()).add(row)
        self._reports[row] = report
        self._present[row] = True
        self._columns[:, row] = (
            view.qubits,
            np.inf if view.connected_qubits is None else view.connected_qubits,
            _HEALTH[view.health],
            view.cordoned or view.health is Health.DRAINING,
            view.slots,
            view.slots_used,
            view.calibration_age_s,
            report.at_s,
            report.pace,
            view.max_calibration_age_s,
            view.calibration_left_s,
            view.queue_s,
            view.network_s,
            view.local_calibration_s,
            view.calibrates_on_need,
            view.one_qubit_error,
            view.two_qubit_error,
            view.readout_error,
            view.one_qubit_drift_per_s,
            view.two_qubit_drift_per_s,
            view.readout_drift_per_s,
        )

    def remove(self, key: str) -> None:
        """Forget a key; one that is not there is ignored."""
        row = self.rows.pop(key, None)
        if row is not None:
            self.version += 1
            for tenant in self._reports.pop(row).view.overuse:
                self._overuse[tenant].discard(row)
            del self._keys[row]
            self._present[row] = False
            self._free.append(row)
            self._labels_version += 1

    def report(self, key: str) -> Report | None:
        """What was last reported of a key."""
        row = self.rows.get(key)
        return None if row is None else self._reports[row]

    def rows_of(self, keys: Sequence[str]) -> Rows:
        """Row of each key, -1 for those that are not there; shape (keys,)."""
        return np.fromiter(map(self.rows.get, keys, itertools.repeat(-1)), dtype=np.intp, count=len(keys))

    def slots_left(self) -> Ints:
        """Free slots of each row; shape (rows,)."""
        left = self._column("slots") - self._column("slots_used")
        return np.where(self._present, np.maximum(left, 0.0), 0.0).astype(np.int64)

    def slots(self) -> int:
        """Slots of all devices together."""
        return int(self._column("slots")[self._present].sum())

    def answer(self, request: Request, now_s: float, *, ignore_slots: bool = False) -> Answer:
        """What the request would find everywhere.

        Args:
            request: what is asked for.
            now_s: wall time.
            ignore_slots: whether full devices are judged as if a slot were free (somebody else keeps slots).
        """
        column = self._column
        passed_s = np.maximum(0.0, (now_s - column("at_s")) * column("pace"))
        age_s = column("age_s") + passed_s
        left_s = np.maximum(0.0, column("left_s") - passed_s)
        local_s = column("local_s")
        limit_s = column("max_age_s")
        if request.max_calibration_age_s is not None:
            limit_s = np.minimum(limit_s, request.max_calibration_age_s)
        stale = age_s > limit_s
        health = column("health")
        calibrated_first = stale | (health == _HEALTH[Health.CALIBRATING])
        fidelity = self._fidelity(request, np.where(calibrated_first, 0.0, age_s))

        fits = (
            self._present
            & (column("qubits") >= request.qubits)
            & (column("connected") >= request.qubits)
            & (health != _HEALTH[Health.DOWN])
            & (health != _HEALTH[Health.PENDING])
            & (column("closed") == 0.0)
            & ~(stale & (column("on_need") == 0.0))
            & (local_s <= limit_s)
            & ~(stale & (left_s + local_s > request.calibration_patience_s))
            & (fidelity >= request.min_fidelity)
        )
        if not ignore_slots:
            fits &= column("slots_used") < column("slots")
        if request.match_labels or request.node_selector:
            fits &= self._carrying(request)

        cold = (
            calibrated_first if request.circuit is None else calibrated_first | ~self._warm(request.circuit)
        )
        calibration_s = left_s + np.where(cold, local_s, 0.0)
        queue_s = column("queue_s")
        useful = np.maximum(fidelity, LEAST_FIDELITY) ** 2
        cost_s = (
            column("network_s")
            + queue_s
            + calibration_s
            + queue_s * self._overuse_of(request)
            + request.shape.execution_s / useful
        )
        return Answer(fits, cost_s)

    def refusal(
        self, request: Request, row: int, now_s: float, *, ignore_slots: bool = False
    ) -> Refusal | None:
        """Why a row's device refuses the request, in words; None if it does not."""
        return refuse(request, self._view(row, now_s, ignore_slots))

    def score(self, request: Request, row: int, now_s: float) -> Score:
        """Every term of a row's score."""
        return score(request, self._view(row, now_s, True))

    def key_of(self, row: int) -> str | None:
        """Key of a row; None if it holds no device."""
        return self._keys.get(row)

    def slots_of(self, row: int) -> int:
        """Slots of a row's device."""
        return self._reports[row].view.slots

    @property
    def capacity(self) -> int:
        """Number of rows, those that hold nothing included."""
        return len(self._present)

    def report_of(self, row: int) -> Report | None:
        """What was last reported of a row's device."""
        return self._reports.get(row)

    def _view(self, row: int, now_s: float, ignore_slots: bool) -> DeviceView:
        view = at(self._reports[row], now_s)
        return replace(view, slots_used=min(view.slots_used, view.slots - 1)) if ignore_slots else view

    def _column(self, name: str) -> Floats:
        column: Floats = self._columns[self._by_name[name]]
        return column

    def _fidelity(self, request: Request, age_s: Floats) -> Floats:
        # A product of powers as one exponential of a sum of logarithms: a third of the time.
        exponent = np.zeros_like(age_s)
        shape = request.shape
        with np.errstate(divide="ignore"):
            for count, error, growth in (
                (shape.one_qubit_gates, "one_qubit_error", "one_qubit_drift"),
                (shape.two_qubit_gates, "two_qubit_error", "two_qubit_drift"),
                (shape.measured_qubits, "readout_error", "readout_drift"),
            ):
                if count:
                    aged = np.minimum(1.0, self._column(error) + self._column(growth) * age_s)
                    exponent += count * np.log1p(-aged)
        fidelity: Floats = np.exp(exponent)
        return fidelity

    def _carrying(self, request: Request) -> Mask:
        """Rows whose labels are those asked for; kept until some label changes."""
        key = (tuple(sorted(request.match_labels.items())), tuple(sorted(request.node_selector.items())))
        kept = self._label_masks.get(key)
        if kept is not None and kept[0] == self._labels_version and len(kept[1]) == len(self._present):
            return kept[1]
        mask = np.zeros_like(self._present)
        for row, report in self._reports.items():
            mask[row] = _carries(report.view.labels, request.match_labels) and _carries(
                report.view.node_labels, request.node_selector
            )
        if len(self._label_masks) > 1000:
            self._label_masks.clear()
        self._label_masks[key] = (self._labels_version, mask)
        return mask

    def _warm(self, circuit: str) -> Mask:
        mask = np.zeros_like(self._present)
        for row, report in self._reports.items():
            mask[row] = circuit in report.view.warm_circuits
        return mask

    def _overuse_of(self, request: Request) -> Floats | float:
        everywhere = max(0.0, request.overuse)
        rows = self._overuse.get(request.tenant)
        if not rows:
            return everywhere
        overuse = np.full(len(self._present), everywhere)
        for row in rows:
            overuse[row] = max(everywhere, self._reports[row].view.overuse[request.tenant])
        return overuse

    def _new_row(self) -> int:
        if self._free:
            return self._free.pop()
        row = len(self.rows)
        if row == len(self._present):
            self._columns = np.concatenate([self._columns, np.zeros_like(self._columns)], axis=1)
            self._present = np.concatenate([self._present, np.zeros_like(self._present)])
        return row


def _carries(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(labels.get(label) == value for label, value in wanted.items())
