"""Drift traces as JSON: a record of daily values that drives a device instead of the model.

The document has one list entry for each day; `null` is a value that the record lacks::

    {"format": "efaas.dev/drift-trace/v1", "name": "perth-2023", "days": [0, 1.01, 1.98, …],
     "qubits": [{"t1Us": […], "t2Us": […], "probMeas1Prep0": […], "probMeas0Prep1": […]}, …],
     "gates": [{"gate": "cx", "qubits": [0, 1], "error": […]}, …]}

``days`` are days since the first, ascending from 0. Gates that are not listed keep the snapshot's error. Real
records have faults. What has one plain repair is repaired and named; the rest is refused:

- days further apart than `REGULAR_DAYS`: values between are interpolated; further than `LONGEST_GAP_DAYS`:
  refused;
- `null`, or a gate error of 1 (a failed calibration): interpolated between the days around it (the nearest
  day's value at either end of the record); refused if a series has no value at all, or lacks more than
  `LONGEST_GAP_DAYS` at a stretch;
- T2 above 2·T1 (measured at different times): becomes 2·T1;
- a readout that errs so often that it tells nothing, negative or infinite values, another number of qubits
  than the device's, gates that it does not have: refused.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationError

from efaas.core.device_values import DeviceParts, Floats
from efaas.core.drift import DAY_S
from efaas.core.drift_trace import DriftTrace
from efaas.devices.document import MAX_QUBITS, Part, first_fault, join_places
from efaas.devices.drifting import parts_of
from efaas.devices.snapshot import DeviceSnapshot
from efaas.errors import ManifestError

FORMAT = "efaas.dev/drift-trace/v1"
"""Value of the document's ``format``."""

MAX_BYTES = 16_000_000
"""Longest document that is parsed; half a year of a 7-qubit device takes 80 kB."""

REGULAR_DAYS = 1.5
"""Days apart up to which two records count as neighbours."""

LONGEST_GAP_DAYS = 7.0
"""Longest stretch without a value that is bridged."""

_Time = Annotated[float, Field(gt=0, le=1e9)] | None
_Probability = Annotated[float, Field(ge=0, lt=1)] | None
# 1 is let through: it is how records say that a calibration failed.
_Error = Annotated[float, Field(ge=0, le=1)] | None
_Days = Annotated[list[Annotated[float, Field(ge=0, le=36525)]], Field(min_length=1, max_length=40_000)]


class _Qubit(Part):
    t1_us: list[_Time]
    t2_us: list[_Time]
    prob_meas1_prep0: list[_Probability] = Field(alias="probMeas1Prep0")
    prob_meas0_prep1: list[_Probability] = Field(alias="probMeas0Prep1")


class _Gate(Part):
    gate: Annotated[str, Field(max_length=32)]
    qubits: Annotated[list[int], Field(min_length=1, max_length=2)]
    error: list[_Error]


class _Trace(Part):
    format: Literal["efaas.dev/drift-trace/v1"]
    name: Annotated[str, Field(max_length=200)]
    days: _Days
    qubits: Annotated[list[_Qubit], Field(max_length=MAX_QUBITS)]
    gates: Annotated[list[_Gate], Field(max_length=100 * MAX_QUBITS, default_factory=list)]


def trace_from_json(
    text: str | bytes, snapshot: DeviceSnapshot, place: str = ""
) -> tuple[DriftTrace, tuple[str, ...]]:
    """Read a trace from outside, for a device.

    Args:
        text: the JSON document, UTF-8 if bytes; not compressed.
        snapshot: the device that it is to drive.
        place: where it is from, for the errors.

    Returns:
        The complete trace, and what was repaired, one sentence each.

    Raises:
        ManifestError: too large, not such a document, not of this device, or faulty beyond repair.
    """
    if len(text) > MAX_BYTES:
        raise ManifestError(f"the trace is {len(text)} bytes long, at most {MAX_BYTES} are read", place=place)
    try:
        document = _Trace.model_validate_json(text)
    except ValidationError as error:
        raise first_fault(error, place, "a drift trace", (_Trace, _Qubit, _Gate)) from None
    return _Reader(document, parts_of(snapshot), place).trace(snapshot)


class _Reader:
    """Checks and repairs one document."""

    def __init__(self, document: _Trace, parts: DeviceParts, place: str) -> None:
        self._document, self._parts, self._place = document, parts, place
        self._days = np.array(document.days)
        self._repairs: list[str] = []

    def trace(self, snapshot: DeviceSnapshot) -> tuple[DriftTrace, tuple[str, ...]]:
        self._check_days()
        t1_us, t2_us, ones, zeros = self._coherence_and_readout()
        trace = DriftTrace(self._days * DAY_S, t1_us, t2_us, ones, zeros, self._gate_errors(snapshot))
        return trace, tuple(self._repairs)

    def _fault(self, message: str, where: str) -> ManifestError:
        return ManifestError(message, place=join_places(self._place, where))

    def _check_days(self) -> None:
        steps = np.diff(self._days)
        if self._days[0] != 0 or np.any(steps <= 0):
            raise self._fault("must ascend from 0, the first day", "days")
        for index in np.flatnonzero(steps > REGULAR_DAYS):
            first, second = self._days[index], self._days[index + 1]
            if steps[index] > LONGEST_GAP_DAYS:
                raise self._fault(
                    f"nothing is recorded from day {first:g} to day {second:g}; fill the gap, at most"
                    f" {LONGEST_GAP_DAYS:g} days are bridged",
                    "days",
                )
            self._repairs.append(
                f"days {first:g} to {second:g} had no record; values between are interpolated"
            )

    def _coherence_and_readout(self) -> tuple[Floats, Floats, Floats, Floats]:
        count = self._parts.num_qubits
        if len(self._document.qubits) != count:
            raise self._fault(
                f"{len(self._document.qubits)} qubits are given, the device has {count}", "qubits"
            )
        columns: list[tuple[Floats, Floats, Floats, Floats]] = []
        for index, qubit in enumerate(self._document.qubits):
            where = f"qubits[{index}]"
            t1_us = self._series(qubit.t1_us, f"{where}.t1Us", geometric=True)
            t2_us = self._series(qubit.t2_us, f"{where}.t2Us", geometric=True)
            above = np.flatnonzero(t2_us > 2 * t1_us)
            if len(above):
                self._repairs.append(f"{where}.t2Us was above 2·T1 on {self._on(above)} and became that")
                t2_us = np.minimum(t2_us, 2 * t1_us)
            ones = self._series(qubit.prob_meas1_prep0, f"{where}.probMeas1Prep0")
            zeros = self._series(qubit.prob_meas0_prep1, f"{where}.probMeas0Prep1")
            useless = np.flatnonzero(ones + zeros >= 1)
            if len(useless):
                raise self._fault(
                    f"probMeas1Prep0 + probMeas0Prep1 is 1 or more on {self._on(useless)}, so the readout"
                    " tells nothing; the two must sum to less",
                    where,
                )
            columns.append((t1_us, t2_us, ones, zeros))
        t1, t2, one, zero = (np.stack(column, axis=1) for column in zip(*columns, strict=True))
        return t1, t2, one, zero

    def _gate_errors(self, snapshot: DeviceSnapshot) -> Floats:
        errors = np.tile([snapshot.gates[gate].error for gate in self._parts.gates], (len(self._days), 1))
        position = {gate: index for index, gate in enumerate(self._parts.gates)}
        seen = set()
        for index, gate in enumerate(self._document.gates):
            where, item = f"gates[{index}]", (gate.gate, tuple(gate.qubits))
            if item not in position:
                raise self._fault(f"the device has no {gate.gate!r} on qubits {gate.qubits}; drop it", where)
            if item in seen:
                raise self._fault(f"{gate.gate!r} on qubits {gate.qubits} is given twice; keep one", where)
            seen.add(item)
            errors[:, position[item]] = self._series(gate.error, f"{where}.error", failed=1.0)
        return errors

    def _series(
        self, raw: list[float | None], where: str, *, geometric: bool = False, failed: float | None = None
    ) -> Floats:
        """One quantity over all days, holes filled."""
        if len(raw) != len(self._days):
            raise self._fault(f"{len(raw)} values are given for {len(self._days)} days", where)
        values = np.array(
            [np.nan if value is None or value == failed else value for value in raw], dtype=float
        )
        holes = np.flatnonzero(np.isnan(values))
        if not len(holes):
            return values
        good = np.flatnonzero(~np.isnan(values))
        if not len(good):
            raise self._fault("has no value on any day; give at least one", where)
        what = "missing" if failed is None else "missing or 1 (a failed calibration)"
        edges = np.concatenate([[0.0], self._days[good], self._days[-1:]])
        longest = int(np.argmax(np.diff(edges)))
        # Neighbouring days that are far apart have been looked at with the days themselves.
        if edges[longest + 1] - edges[longest] > LONGEST_GAP_DAYS:
            raise self._fault(
                f"is {what} from day {edges[longest]:g} to day {edges[longest + 1]:g}; at most"
                f" {LONGEST_GAP_DAYS:g} days are bridged",
                where,
            )
        self._repairs.append(f"{where} was {what} on {self._on(holes)} and is interpolated")
        known = np.log(values[good]) if geometric else values[good]
        filled = np.interp(self._days[holes], self._days[good], known)
        values[holes] = np.exp(filled) if geometric else filled
        return values

    def _on(self, indices: object) -> str:
        days = [f"{day:g}" for day in self._days[indices]]  # type: ignore[call-overload]
        more = f" and {len(days) - 5} more" if len(days) > 5 else ""
        return f"day{'s' if len(days) > 1 else ''} {', '.join(days[:5])}{more}"
