"""Device snapshots as JSON: what is written, and what is refused when it is read.

A snapshot of your own comes from outside (a file, a ConfigMap), so it is bounded in size before it is parsed
and checked value by value after: probabilities in range, T2 at most 2·T1, every gate on qubits that exist,
every single-qubit gate on all qubits, a set of basis gates from which any circuit can be made. The first
fault is told with its place (``qubits[3].t2Us``) and the remedy.

The document, all keys required but ``repairs``::

    {"format": "efaas.dev/device-snapshot/v1", "name": "manila-5", "source": "…",
     "calibratedAt": "2024-05-27T15:27:23-03:00", "repDelayUs": 250.0, "basisGates": ["cx", "rz", "sx", "x"],
     "qubits": [{"t1Us": 120.0, "t2Us": 80.0, "frequencyGhz": 4.96, "probMeas1Prep0": 0.01,
                 "probMeas0Prep1": 0.03, "readoutLengthNs": 5351.11}, …],
     "gates": [{"gate": "cx", "qubits": [0, 1], "error": 0.0088, "lengthNs": 277.333}, …],
     "repairs": []}
"""

from __future__ import annotations

import difflib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from efaas.core.identity import digest
from efaas.devices.snapshot import DeviceSnapshot, GateCalibration, QubitCalibration
from efaas.errors import ManifestError

FORMAT = "efaas.dev/device-snapshot/v1"
"""Value of the document's ``format``."""

MAX_BYTES = 4_000_000
"""Longest document that is parsed; a 133-qubit device takes 70 kB."""

MAX_QUBITS = 1000
"""Most qubits of a device."""

GATE_QUBITS = {
    **dict.fromkeys(
        ("id", "x", "y", "z", "h", "s", "sdg", "t", "tdg", "sx", "sxdg", "rx", "ry", "rz", "p", "u"), 1
    ),
    **dict.fromkeys(("cx", "cy", "cz", "ecr", "iswap", "swap", "cp", "rxx", "ryy", "rzz", "rzx"), 2),
}
"""Unitary gates that a snapshot may name (as OpenQASM and Qiskit do), with the number of their qubits."""

_LONGEST_NS = 1e9
_LONGEST_US = 1e9


class Part(BaseModel):
    """Base of every object in a document: camelCase, strict, unknown fields and infinities refused."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=False,
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
    )


_Probability = Annotated[float, Field(ge=0, lt=1)]
_Text = Annotated[str, Field(max_length=300)]


class _Qubit(Part):
    t1_us: Annotated[float, Field(gt=0, le=_LONGEST_US)]
    t2_us: Annotated[float, Field(gt=0, le=2 * _LONGEST_US)]
    frequency_ghz: Annotated[float, Field(ge=0, le=1000)]
    prob_meas1_prep0: _Probability = Field(alias="probMeas1Prep0")
    prob_meas0_prep1: _Probability = Field(alias="probMeas0Prep1")
    readout_length_ns: Annotated[float, Field(ge=0, le=_LONGEST_NS)]


class _Gate(Part):
    gate: Annotated[str, Field(max_length=32)]
    qubits: Annotated[list[Annotated[int, Field(ge=0, lt=MAX_QUBITS)]], Field(min_length=1, max_length=2)]
    error: _Probability
    length_ns: Annotated[float, Field(ge=0, le=_LONGEST_NS)]


class _Document(Part):
    format: Literal["efaas.dev/device-snapshot/v1"]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][-a-z0-9]*$", max_length=63)]
    source: _Text
    calibrated_at: Annotated[str, Field(max_length=64)]
    rep_delay_us: Annotated[float, Field(ge=0, le=_LONGEST_US)]
    basis_gates: Annotated[list[Annotated[str, Field(max_length=32)]], Field(min_length=1, max_length=64)]
    qubits: Annotated[list[_Qubit], Field(min_length=1, max_length=MAX_QUBITS)]
    gates: Annotated[list[_Gate], Field(max_length=100 * MAX_QUBITS)]
    repairs: Annotated[list[_Text], Field(max_length=2000)] = []


def snapshot_from_json(text: str | bytes, place: str = "") -> DeviceSnapshot:
    """Read a snapshot from outside.

    Args:
        text: the JSON document, UTF-8 if bytes; not compressed.
        place: where it is from, for the errors (``devices.yaml: spec.model.configMap``).

    Raises:
        ManifestError: too large, not JSON, a field missing, unknown or out of range, T2 above 2·T1, a gate on
            qubits that do not exist or twice on the same, or basis gates that cannot make every circuit.
    """
    size = len(text)
    if size > MAX_BYTES:
        raise ManifestError(f"the snapshot is {size} bytes long, at most {MAX_BYTES} are read", place=place)
    try:
        document = _Document.model_validate_json(text)
    except ValidationError as error:
        raise first_fault(error, place, "a device snapshot", (_Document, _Qubit, _Gate)) from None
    return _checked(document, place)


def snapshot_to_json(snapshot: DeviceSnapshot) -> str:
    """Write a snapshot as one line of JSON; `snapshot_from_json` gives an equal snapshot back.

    Raises:
        ManifestError: a value is not finite (an `ideal` snapshot has no JSON form).
    """
    document = {
        "format": FORMAT,
        "name": snapshot.name,
        "source": snapshot.source,
        "calibratedAt": snapshot.calibrated_at,
        "repDelayUs": snapshot.rep_delay_us,
        "basisGates": list(snapshot.basis_gates),
        "qubits": [
            {
                "t1Us": qubit.t1_us,
                "t2Us": qubit.t2_us,
                "frequencyGhz": qubit.frequency_ghz,
                "probMeas1Prep0": qubit.prob_meas1_prep0,
                "probMeas0Prep1": qubit.prob_meas0_prep1,
                "readoutLengthNs": qubit.readout_length_ns,
            }
            for qubit in snapshot.qubits
        ],
        "gates": [
            {"gate": name, "qubits": list(qubits), "error": gate.error, "lengthNs": gate.length_ns}
            for (name, qubits), gate in sorted(snapshot.gates.items())
        ],
        "repairs": list(snapshot.repairs),
    }
    try:
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise ManifestError(
            "has values that are not finite, which JSON cannot hold; write the snapshot it was made from",
            place=snapshot.name,
        ) from None


def snapshot_digest(snapshot: DeviceSnapshot) -> str:
    """Digest of all values: frozen devices with equal digests are twins."""
    values: list[str | float] = [snapshot.name, snapshot.rep_delay_us, *snapshot.basis_gates]
    for qubit in snapshot.qubits:
        values += [
            qubit.t1_us,
            qubit.t2_us,
            qubit.prob_meas1_prep0,
            qubit.prob_meas0_prep1,
            qubit.readout_length_ns,
        ]
    for (name, qubits), gate in sorted(snapshot.gates.items()):
        values += [name, *qubits, gate.error, gate.length_ns]
    return digest("device-snapshot", *values)


def first_fault(
    error: ValidationError, place: str, what: str, parts: tuple[type[BaseModel], ...]
) -> ManifestError:
    """The first fault that pydantic found, as one sentence with its place.

    Args:
        error: what pydantic raised.
        place: where the document is from.
        what: what the document should be, with its article.
        parts: models of the document, whose fields are offered for a misspelt one.
    """
    fault = error.errors(include_url=False, include_context=False)[0]
    where = ""
    for step in fault["loc"]:
        where += f"[{step}]" if isinstance(step, int) else f".{step}" if where else str(step)
    if fault["type"] == "extra_forbidden":
        message = f"is no field of {what}{_nearest(str(fault['loc'][-1]), parts)}"
    elif fault["type"] == "missing":
        message = "is missing"
    elif fault["type"] == "json_invalid":
        message = f"is not JSON ({fault['msg']})"
    else:
        message = f"{_shown(fault['input'])} is not allowed: {fault['msg'][0].lower()}{fault['msg'][1:]}"
    return ManifestError(message, place=join_places(place, where))


def _nearest(name: str, parts: tuple[type[BaseModel], ...]) -> str:
    fields = [field.alias or key for part in parts for key, field in part.model_fields.items()]
    near = difflib.get_close_matches(name, fields, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "…"


def join_places(place: str, where: str) -> str:
    """A place within a place, as errors write it."""
    return ": ".join(part for part in (place, where) if part)


def _checked(document: _Document, place: str) -> DeviceSnapshot:
    """The checks that look at more than one value."""
    basis = _checked_basis(document, place)
    qubits = []
    for index, qubit in enumerate(document.qubits):
        where = join_places(place, f"qubits[{index}]")
        if qubit.t2_us > 2 * qubit.t1_us:
            raise ManifestError(
                f"t2Us {qubit.t2_us:g} is above twice t1Us {qubit.t1_us:g}, which no qubit can have;"
                f" give at most {2 * qubit.t1_us:g}",
                place=where,
            )
        if qubit.prob_meas1_prep0 + qubit.prob_meas0_prep1 >= 1:
            raise ManifestError(
                "probMeas1Prep0 + probMeas0Prep1 is 1 or more, so the readout tells nothing;"
                " the two must sum to less",
                place=where,
            )
        qubits.append(
            QubitCalibration(
                t1_us=qubit.t1_us,
                t2_us=qubit.t2_us,
                frequency_ghz=qubit.frequency_ghz,
                prob_meas1_prep0=qubit.prob_meas1_prep0,
                prob_meas0_prep1=qubit.prob_meas0_prep1,
                readout_length_ns=qubit.readout_length_ns,
            )
        )
    return DeviceSnapshot(
        name=document.name,
        source=document.source,
        calibrated_at=document.calibrated_at,
        rep_delay_us=document.rep_delay_us,
        basis_gates=basis,
        qubits=tuple(qubits),
        gates=_checked_gates(document, basis, place),
        repairs=tuple(document.repairs),
    )


def _checked_basis(document: _Document, place: str) -> tuple[str, ...]:
    where = join_places(place, "basisGates")
    basis = tuple(document.basis_gates)
    for name in basis:
        if name not in GATE_QUBITS:
            near = difflib.get_close_matches(name, GATE_QUBITS, n=1)
            raise ManifestError(
                f"{name!r} is no unitary gate known here" + (f"; did you mean {near[0]!r}?" if near else ""),
                place=where,
            )
    if len(set(basis)) != len(basis):
        raise ManifestError("names a gate twice; list each once", place=where)
    # Any rotation of one qubit: one gate that does all, or any turn about z and something off that axis.
    names = set(basis)
    if "u" not in names and not (names & {"rz", "p"} and names & {"sx", "sxdg", "h", "rx", "ry"}):
        raise ManifestError(
            "cannot make every single-qubit gate; needs u, or rz (or p) with one of sx, sxdg, h, rx, ry",
            place=where,
        )
    return basis


def _checked_gates(
    document: _Document, basis: tuple[str, ...], place: str
) -> dict[tuple[str, tuple[int, ...]], GateCalibration]:
    count = len(document.qubits)
    gates: dict[tuple[str, tuple[int, ...]], GateCalibration] = {}
    for index, gate in enumerate(document.gates):
        where = join_places(place, f"gates[{index}]")
        item = (gate.gate, tuple(gate.qubits))
        if gate.gate not in basis:
            raise ManifestError(
                f"{gate.gate!r} is not among basisGates; add it there or drop it here", place=where
            )
        if len(gate.qubits) != GATE_QUBITS[gate.gate]:
            raise ManifestError(
                f"{gate.gate!r} acts on {GATE_QUBITS[gate.gate]} qubits, {len(gate.qubits)} are given",
                place=where,
            )
        if max(gate.qubits) >= count or len(set(gate.qubits)) != len(gate.qubits):
            raise ManifestError(
                f"qubits {gate.qubits} must be different and below {count}, the number of qubits", place=where
            )
        if item in gates:
            raise ManifestError(
                f"{gate.gate!r} on qubits {gate.qubits} is given twice; keep one", place=where
            )
        gates[item] = GateCalibration(error=gate.error, length_ns=gate.length_ns)
    for name in basis:
        if GATE_QUBITS[name] == 1:
            lacking = [qubit for qubit in range(count) if (name, (qubit,)) not in gates]
            if lacking:
                raise ManifestError(
                    f"{name!r} is missing on qubit {lacking[0]}; give every qubit one",
                    place=join_places(place, "gates"),
                )
    if count > 1 and not any(len(qubits) == 2 for _, qubits in gates):
        raise ManifestError(
            "has no two-qubit gate, so its qubits can never be entangled; add one",
            place=join_places(place, "gates"),
        )
    return gates
