"""What a client may say, decoded, bounded and checked.

The one place where bytes from outside become values that the host trusts. Each function takes a protobuf
message and returns a frozen dataclass, or raises `Refused` with the code, the place and the remedy that the
client is told. What needs knowledge of the session (is this handle registered, how many parameters has the
circuit) is the host's.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from efaas.api.wire import qpu_pb2 as wire
from efaas.core.identity import circuit_digest, job_id, observable_digest
from efaas.core.qpu.messages import JobKind
from efaas_qpu.authentication import LONGEST_TOKEN
from efaas_qpu.limits import ServerLimits

PROTOCOL = 1
"""Version of the stream's protocol that this server speaks."""

_SESSION = re.compile(r"([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)/([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)")
_DIGEST = re.compile(r"[0-9a-f]{32}")
_JOB_ID = re.compile(r"[0-9]{1,20}-[0-9a-f]{32}")
_UID = re.compile(r"[-0-9a-zA-Z]{0,64}")
_PAULI = re.compile(r"[IXYZ]+")
_KINDS = {wire.LOOP: JobKind.LOOP, wire.BATCH: JobKind.BATCH, wire.SPECULATIVE: JobKind.SPECULATIVE}
_LONGEST_AGE_S = 1e10
_LONGEST_CPU_S = 1e9


class Refused(Exception):
    """A message was refused; carries what the client is told.

    Args:
        code: of the wire's ErrorCode.
        message: what is wrong and what would be right.
        place: what is at fault, such as ``submit.parameters[3]``.
        retry: whether the same message can be taken later.
        job_id: of the job that it concerns.
        handle: of the registration that it concerns.
    """

    def __init__(
        self,
        code: wire.ErrorCode,
        message: str,
        *,
        place: str = "",
        retry: bool = False,
        job_id: str = "",
        handle: str = "",
    ) -> None:
        super().__init__(code, message, place)
        self.code, self.message, self.place = code, message, place
        self.retry, self.job_id, self.handle = retry, job_id, handle

    @property
    def ends_stream(self) -> bool:
        """Whether the stream cannot go on: the fault belongs to no job and no registration."""
        return not self.job_id and not self.handle

    def to_wire(self) -> wire.ServerMessage:
        """The error as it is sent."""
        return wire.ServerMessage(
            error=wire.Error(
                code=self.code,
                message=self.message,
                place=self.place,
                retry=self.retry,
                job_id=self.job_id,
                handle=self.handle,
            )
        )


@dataclass(frozen=True, slots=True)
class Hello:
    """A session introduces itself."""

    session: str
    tenant: str
    lease_epoch: int
    token: str
    seed: int
    weight: int
    max_calibration_age_s: float | None


@dataclass(frozen=True, slots=True)
class Fence:
    """A runner is to be shut out."""

    session: str
    lease_epoch: int
    uid: str


@dataclass(frozen=True, slots=True)
class Circuit:
    """A circuit to register."""

    handle: str
    program: str | bytes


@dataclass(frozen=True, slots=True)
class Observable:
    """An observable to register."""

    handle: str
    terms: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Submission:
    """A job."""

    job_id: str
    evaluation: int
    kind: JobKind
    circuit: str
    observables: tuple[str, ...]
    parameters: NDArray[np.float64]
    """Shape (parameter sets, parameters), radians, finite."""
    shots: int
    readout_mitigation: bool
    per_shot: bool
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Cancel:
    """A job is wanted no more."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """A result need not be kept."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Close:
    """The session is done here."""


Request = Hello | Circuit | Observable | Submission | Cancel | Acknowledge | Close


def decode(data: bytes, session: str | None, limits: ServerLimits) -> Request:
    """Decode one message of a client.

    Args:
        data: as received.
        session: of the stream's hello; None before it.
        limits: bounds.

    Raises:
        Refused: not a message of the protocol, out of order, out of bounds, or its digest is wrong.
    """
    try:
        message = wire.ClientMessage.FromString(data)
    except DecodeError:
        raise Refused(
            wire.BAD_MESSAGE, "the bytes are no ClientMessage; see efaas/api/wire/qpu.proto"
        ) from None
    what = message.WhichOneof("message")
    if session is None:
        if what != "hello":
            raise Refused(
                wire.BAD_MESSAGE, f"the first message is {what or 'empty'}, it must be hello", place="hello"
            )
        return _hello(message.hello)
    match what:
        case "submit":
            return _submission(message.submit, session, limits)
        case "acknowledge":
            return Acknowledge(_named_job(message.acknowledge.job_id, "acknowledge"))
        case "cancel":
            return Cancel(_named_job(message.cancel.job_id, "cancel"))
        case "circuit":
            return _circuit(message.circuit, limits)
        case "observable":
            return _observable(message.observable, limits)
        case "close":
            return Close()
        case "hello":
            raise Refused(wire.BAD_MESSAGE, "a stream says hello once; open another one", place="hello")
    raise Refused(wire.BAD_MESSAGE, "the message is empty or of a newer protocol", place="message")


def _hello(hello: wire.Hello) -> Hello:
    def refuse(field: str, text: str) -> Refused:
        return Refused(wire.BAD_MESSAGE, text, place=f"hello.{field}")

    if hello.protocol != PROTOCOL:
        raise refuse("protocol", f"{hello.protocol} is not spoken here, {PROTOCOL} is; use matching versions")
    match = _SESSION.fullmatch(hello.session)
    if match is None:
        raise refuse("session", f"{hello.session[:80]!r} is not namespace/name, two DNS labels")
    if hello.tenant != match[1]:
        raise refuse("tenant", f"{hello.tenant[:80]!r} is not the session's namespace {match[1]!r}")
    if len(hello.token) > LONGEST_TOKEN:
        raise refuse("token", f"is longer than {LONGEST_TOKEN} characters")
    if hello.lease_epoch >= 2**63:
        raise refuse("lease_epoch", f"{hello.lease_epoch} is not below 2^63")
    if hello.weight > 1_000_000:
        raise refuse("weight", f"{hello.weight} is above 1000000")
    age_s = hello.max_calibration_age_s
    if not 0 <= age_s <= _LONGEST_AGE_S:
        raise refuse(
            "max_calibration_age_s", f"{age_s} is not between 0 and {_LONGEST_AGE_S:g} device seconds"
        )
    return Hello(
        session=hello.session,
        tenant=hello.tenant,
        lease_epoch=hello.lease_epoch,
        token=hello.token,
        seed=hello.session_seed,
        weight=hello.weight or 1,
        max_calibration_age_s=age_s or None,
    )


def _handle(text: str, place: str) -> str:
    # Without a well-formed handle there is nothing the answer could name: the stream ends.
    if not _DIGEST.fullmatch(text):
        raise Refused(wire.BAD_MESSAGE, f"{text[:80]!r} is not a digest of 32 hex digits", place=place)
    return text


def _circuit(circuit: wire.RegisterCircuit, limits: ServerLimits) -> Circuit:
    handle = _handle(circuit.handle, "circuit.handle")
    kind = circuit.WhichOneof("program")
    if kind is None:
        raise Refused(
            wire.BAD_CIRCUIT,
            "holds no program; give openqasm3 or qpy",
            place="circuit.program",
            handle=handle,
        )
    program: str | bytes = circuit.openqasm3 if kind == "openqasm3" else circuit.qpy
    size = len(program.encode()) if isinstance(program, str) else len(program)
    if size > limits.program_bytes:
        raise Refused(
            wire.BAD_CIRCUIT,
            f"the program has {size} bytes, at most {limits.program_bytes} are read",
            place=f"circuit.{kind}",
            handle=handle,
        )
    if circuit_digest(program) != handle:
        raise Refused(
            wire.BAD_CIRCUIT,
            f"the digest of the program is {circuit_digest(program)}, not the handle",
            place="circuit.handle",
            handle=handle,
        )
    return Circuit(handle, program)


def _observable(observable: wire.RegisterObservable, limits: ServerLimits) -> Observable:
    handle = _handle(observable.handle, "observable.handle")

    def refuse(place: str, text: str) -> Refused:
        return Refused(wire.BAD_OBSERVABLE, text, place=f"observable.{place}", handle=handle)

    if not observable.terms:
        raise refuse("terms", "holds no term; give at least one")
    if len(observable.terms) > limits.observable_terms:
        raise refuse(
            "terms", f"has {len(observable.terms)} terms, at most {limits.observable_terms} are taken"
        )
    terms = []
    letters = len(observable.terms[0].pauli)
    for index, term in enumerate(observable.terms):
        pauli, coefficient = term.pauli, term.coefficient
        if not _PAULI.fullmatch(pauli) or len(pauli) > limits.pauli_letters:
            raise refuse(
                f"terms[{index}].pauli",
                f"{pauli[:80]!r} is not 1 to {limits.pauli_letters} of the letters I, X, Y, Z",
            )
        if len(pauli) != letters:
            raise refuse(
                f"terms[{index}].pauli", f"has {len(pauli)} qubits, the terms before it have {letters}"
            )
        if not math.isfinite(coefficient):
            raise refuse(f"terms[{index}].coefficient", f"{coefficient} is not a finite number")
        terms.append((pauli, coefficient))
    if observable_digest(terms) != handle:
        raise refuse("handle", f"the digest of the terms is {observable_digest(terms)}, not the handle")
    return Observable(handle, tuple(terms))


def _named_job(text: str, place: str) -> str:
    if not _JOB_ID.fullmatch(text):
        raise Refused(
            wire.BAD_MESSAGE, f"{text[:80]!r} is not a job id, <evaluation>-<digest>", place=f"{place}.job_id"
        )
    return text


def _submission(submit: wire.Submit, session: str, limits: ServerLimits) -> Submission:
    name = _named_job(submit.job_id, "submit")

    def refuse(place: str, text: str, code: wire.ErrorCode = wire.BAD_PARAMETERS) -> Refused:
        return Refused(code, text, place=f"submit.{place}", job_id=name)

    kind = _KINDS.get(submit.kind)
    if kind is None:
        raise refuse("kind", f"{submit.kind} is no JobKind")
    if not _DIGEST.fullmatch(submit.circuit):
        raise refuse(
            "circuit", f"{submit.circuit[:80]!r} is not a digest of 32 hex digits", wire.UNKNOWN_HANDLE
        )
    if len(submit.observables) > limits.job_observables:
        raise refuse(
            "observables",
            f"{len(submit.observables)} are more than the {limits.job_observables} of a job; send several",
        )
    for index, handle in enumerate(submit.observables):
        if not _DIGEST.fullmatch(handle):
            raise refuse(
                f"observables[{index}]",
                f"{handle[:80]!r} is not a digest of 32 hex digits",
                wire.UNKNOWN_HANDLE,
            )
    sets, numbers = submit.parameter_sets, len(submit.parameters)
    if not 1 <= sets <= limits.parameter_sets:
        raise refuse("parameter_sets", f"{sets} is not between 1 and {limits.parameter_sets}")
    if numbers > limits.parameters:
        raise refuse("parameters", f"{numbers} numbers are more than the {limits.parameters} of one job")
    if numbers % sets:
        raise refuse("parameters", f"{numbers} numbers do not divide into {sets} sets")
    parameters = np.array(submit.parameters, dtype=np.float64).reshape(sets, numbers // sets)
    if not np.isfinite(parameters).all():
        first = int(np.flatnonzero(~np.isfinite(parameters))[0])
        raise refuse(f"parameters[{first}]", f"{submit.parameters[first]} is not a finite number of radians")
    if not 1 <= submit.shots <= limits.shots:
        raise refuse("shots", f"{submit.shots} is not between 1 and {limits.shots}")
    if not 0 <= submit.cpu_s <= _LONGEST_CPU_S:
        raise refuse("cpu_s", f"{submit.cpu_s} is not between 0 and {_LONGEST_CPU_S:g} seconds")
    if submit.per_shot and submit.observables:
        raise refuse("per_shot", "is for jobs without observables, whose outcomes are returned")
    computed = job_id(
        session,
        submit.evaluation,
        submit.circuit,
        submit.observables,
        parameters,
        submit.shots,
        readout_mitigation=submit.readout_mitigation,
    )
    if computed != name:
        raise refuse("job_id", f"what is submitted has the id {computed}; see efaas.core.identity.job_id")
    return Submission(
        job_id=name,
        evaluation=submit.evaluation,
        kind=kind,
        circuit=submit.circuit,
        observables=tuple(submit.observables),
        parameters=parameters,
        shots=submit.shots,
        readout_mitigation=submit.readout_mitigation,
        per_shot=submit.per_shot,
        cpu_s=submit.cpu_s,
    )


def session_name(text: str) -> str:
    """A session's name, checked.

    Raises:
        Refused: it is none.
    """
    if _SESSION.fullmatch(text) is None:
        raise Refused(
            wire.BAD_MESSAGE, f"{text[:80]!r} is not namespace/name, two DNS labels", place="session"
        )
    return text


def decode_fence(asked: wire.FenceRequest) -> Fence:
    """A fence, checked.

    Raises:
        Refused: a field of it cannot be.
    """
    if asked.lease_epoch >= 2**63 - 1:
        raise Refused(wire.BAD_MESSAGE, f"{asked.lease_epoch} is not below 2^63 - 1", place="lease_epoch")
    if _UID.fullmatch(asked.uid) is None:
        raise Refused(wire.BAD_MESSAGE, f"{asked.uid[:80]!r} is no UID", place="uid")
    return Fence(session_name(asked.session), asked.lease_epoch, asked.uid)
