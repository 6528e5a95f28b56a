"""The client's end of a session's stream, without a network.

`Exchange` knows what a session has registered, which of its jobs have no result yet, and how to say all of
it again: after a reconnect `opening()` is Hello, every circuit, every observable, every unfinished job
under the id it had, and the cancels that were not answered. The server runs no job twice and returns what
it kept, so repeating is always safe. `QpuStream` moves the messages; tests move them by hand.

Each message received becomes at most one event. Answers about things nobody waits for (a result that comes
after a reconnect has brought it already, a registration said twice) become none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from efaas.api.wire import qpu_pb2 as wire
from efaas.client.results import (
    CircuitInfo,
    DeviceInfo,
    Evaluation,
    JobResult,
    circuit_from_wire,
    device_from_wire,
    evaluation_from_wire,
    result_from_wire,
)
from efaas.client.trust import Trust
from efaas.core.identity import circuit_digest, job_id, observable_digest
from efaas.core.qpu.messages import JobKind
from efaas.errors import (
    CircuitError,
    EfaasError,
    InputError,
    JobFailed,
    ParameterError,
    QpuUnavailable,
    SessionEnded,
)

PROTOCOL = 1
"""Version of the stream's protocol that this client speaks."""

_MOST_UNCLAIMED = 256

_KINDS = {JobKind.LOOP: wire.LOOP, JobKind.BATCH: wire.BATCH, JobKind.SPECULATIVE: wire.SPECULATIVE}


@dataclass(frozen=True, slots=True)
class SessionIdentity:
    """Who speaks on the stream."""

    session: str
    """``namespace/name``."""
    lease_epoch: int = 0
    """Grows with every new owner of the session; a server refuses an older one than it has seen."""
    token: str = field(default="", repr=False)
    """Secret that admits the session to the server."""
    seed: int = 0
    """Seed of all shots of the session, below 2^64."""
    weight: int = 1
    """Fair-share weight."""
    max_calibration_age_s: float = 0.0
    """Device seconds; 0 leaves it to the device."""
    trust: Trust | None = field(default=None, repr=False)
    """Which certificate the server must show before it is told the token; None: the stream is plain."""

    @property
    def tenant(self) -> str:
        """The namespace."""
        return self.session.partition("/")[0]


# --- events ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Welcomed:
    """The server took the session."""

    device: DeviceInfo


@dataclass(frozen=True, slots=True)
class CircuitReady:
    """A circuit is prepared."""

    info: CircuitInfo


@dataclass(frozen=True, slots=True)
class ObservableReady:
    """An observable is registered."""

    handle: str
    bases: int


@dataclass(frozen=True, slots=True)
class RegistrationFailed:
    """A circuit or observable was refused."""

    handle: str
    error: EfaasError


@dataclass(frozen=True, slots=True)
class JobQueued:
    """A job waits."""

    job_id: str
    position: int
    estimated_start_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class JobStarted:
    """A job's first shots are taken."""

    job_id: str


@dataclass(frozen=True, slots=True)
class JobPartial:
    """Running estimate of a job."""

    job_id: str
    shots: int
    evaluations: tuple[Evaluation, ...]


@dataclass(frozen=True, slots=True)
class JobDone:
    """A job has its result; it is forgotten here."""

    result: JobResult


@dataclass(frozen=True, slots=True)
class JobErred:
    """A job has none and gets none; it is forgotten here."""

    job_id: str
    error: EfaasError


@dataclass(frozen=True, slots=True)
class StreamRefused:
    """The server ends the stream; `error.retry` tells whether to connect again."""

    error: EfaasError


Event = (
    Welcomed
    | CircuitReady
    | ObservableReady
    | RegistrationFailed
    | JobQueued
    | JobStarted
    | JobPartial
    | JobDone
    | JobErred
    | StreamRefused
)


@dataclass(slots=True)
class _Unfinished:
    message: wire.ClientMessage
    sent_s: float
    cancelled: bool = False
    after_cancel: bool = False
    """Whether it is the submit of a job whose cancel may still be answered."""
    claims: bool = False
    """Whether it is the real submit of a speculative job that was on its way."""

    @property
    def is_speculative(self) -> bool:
        """Whether nobody has said yet that it is wanted."""
        return bool(self.message.submit.kind == wire.SPECULATIVE)


class Exchange:
    """What one session has said to one server, and what it still waits for."""

    def __init__(self, identity: SessionIdentity) -> None:
        self.identity = identity
        self.device: DeviceInfo | None = None
        """Of the last welcome."""
        self._circuits: dict[str, wire.ClientMessage] = {}
        self._observables: dict[str, wire.ClientMessage] = {}
        self._jobs: dict[str, _Unfinished] = {}
        self._unclaimed: dict[str, None] = {}
        """Complete speculative jobs that were neither claimed nor cancelled, oldest first."""

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Ids of the jobs without a result, in the order of their submits."""
        return tuple(self._jobs)

    def opening(self, now_s: float) -> list[wire.ClientMessage]:
        """Everything that a new stream must be told, in order.

        Args:
            now_s: wall time; the round trips of unfinished jobs are counted from here on.
        """
        identity = self.identity
        hello = wire.Hello(
            protocol=PROTOCOL,
            session=identity.session,
            tenant=identity.tenant,
            lease_epoch=identity.lease_epoch,
            token=identity.token,
            session_seed=identity.seed,
            weight=identity.weight,
            max_calibration_age_s=identity.max_calibration_age_s,
        )
        messages = [wire.ClientMessage(hello=hello), *self._circuits.values(), *self._observables.values()]
        for name, job in self._jobs.items():
            job.sent_s = now_s
            messages.append(job.message)
            if job.cancelled:
                messages.append(wire.ClientMessage(cancel=wire.Cancel(job_id=name)))
        return messages

    def register_circuit(self, program: str | bytes) -> tuple[str, wire.ClientMessage]:
        """Note a circuit; returns its handle and the message that registers it."""
        handle = circuit_digest(program)
        if isinstance(program, str):
            message = wire.RegisterCircuit(handle=handle, openqasm3=program)
        else:
            message = wire.RegisterCircuit(handle=handle, qpy=program)
        self._circuits[handle] = wire.ClientMessage(circuit=message)
        return handle, self._circuits[handle]

    def register_observable(self, terms: Iterable[tuple[str, float]]) -> tuple[str, wire.ClientMessage]:
        """Note an observable given as (Pauli string, coefficient) terms, qubit 0 rightmost."""
        terms = [(pauli, float(coefficient)) for pauli, coefficient in terms]
        handle = observable_digest(terms)
        message = wire.RegisterObservable(
            handle=handle,
            terms=[wire.PauliTerm(pauli=pauli, coefficient=coefficient) for pauli, coefficient in terms],
        )
        self._observables[handle] = wire.ClientMessage(observable=message)
        return handle, self._observables[handle]

    def submit(self, message: wire.Submit, now_s: float) -> wire.ClientMessage:
        """Note a job made by `submit_message`; a real one takes the place of a speculative one: a claim.

        Raises:
            InputError: the same job is on its way already.
        """
        before = self._jobs.get(message.job_id)
        if before is not None and (not before.is_speculative or message.kind == wire.SPECULATIVE):
            raise InputError(
                "this evaluation was submitted already and has no result yet; await the first one",
                place=f"job {message.job_id}",
            )
        wrapped = wire.ClientMessage(submit=message)
        self._jobs[message.job_id] = _Unfinished(
            wrapped,
            now_s,
            after_cancel=before is not None and before.cancelled,
            claims=before is not None,
        )
        self._unclaimed.pop(message.job_id, None)
        return wrapped

    def cancel(self, name: str) -> wire.ClientMessage | None:
        """Note that a job is wanted no more; None when it has its result or was cancelled before.

        It ends with `JobErred`, or with `JobDone` if the result was faster.
        """
        job = self._jobs.get(name)
        if name in self._unclaimed:
            del self._unclaimed[name]
            return wire.ClientMessage(cancel=wire.Cancel(job_id=name))
        if job is None or job.cancelled:
            return None
        job.cancelled = True
        return wire.ClientMessage(cancel=wire.Cancel(job_id=name))

    def forget_registration(self, handle: str) -> None:
        """A refused circuit or observable is not registered again."""
        self._circuits.pop(handle, None)
        self._observables.pop(handle, None)

    def give_up(self, name: str) -> None:
        """Forget a job, because nobody can bring its result any more."""
        self._jobs.pop(name, None)

    def receive(self, message: wire.ServerMessage, now_s: float) -> Event | None:
        """Take a message of the server; None when nobody waits for what it says."""
        match message.WhichOneof("message"):
            case "result":
                return self._received_result(message.result, now_s)
            case "queued" if message.queued.job_id in self._jobs:
                queued = message.queued
                return JobQueued(queued.job_id, queued.position, queued.estimated_start_s, queued.reason)
            case "started" if message.started.job_id in self._jobs:
                return JobStarted(message.started.job_id)
            case "partial" if message.partial.job_id in self._jobs:
                partial = message.partial
                evaluations = tuple(
                    evaluation_from_wire(item, partial.job_id) for item in partial.evaluations
                )
                return JobPartial(partial.job_id, partial.shots, evaluations)
            case "error":
                return self._received_error(message.error)
            case "circuit":
                return CircuitReady(circuit_from_wire(message.circuit))
            case "observable":
                return ObservableReady(message.observable.handle, message.observable.bases)
            case "welcome":
                self.device = device_from_wire(message.welcome)
                return Welcomed(self.device)
        return None

    def _received_result(self, message: wire.Result, now_s: float) -> Event | None:
        job = self._jobs.get(message.job_id)
        if job is None:
            return None
        if job.claims and not message.shots:
            # Sent before the server read the claim; the same comes once more, with its charge.
            return None
        del self._jobs[message.job_id]
        if job.is_speculative:
            self._unclaimed[message.job_id] = None
            if len(self._unclaimed) > _MOST_UNCLAIMED:
                self._unclaimed.pop(next(iter(self._unclaimed)))
        device = self.device.device if self.device is not None else ""
        try:
            return JobDone(result_from_wire(message, device=device, round_trip_s=now_s - job.sent_s))
        except JobFailed as error:
            return JobErred(message.job_id, error)

    def _received_error(self, message: wire.Error) -> Event | None:
        if message.job_id:
            if message.code == wire.DRAINING:
                # The job stays unfinished: the stream ends soon, and the next one is told of it again.
                return None
            job = self._jobs.get(message.job_id)
            if job is None:
                return None
            if job.after_cancel and not job.cancelled and message.code == wire.CANCELLED:
                job.after_cancel = False
                return None
            del self._jobs[message.job_id]
            return JobErred(message.job_id, error_from_wire(message))
        if message.handle:
            self.forget_registration(message.handle)
            return RegistrationFailed(message.handle, error_from_wire(message))
        return StreamRefused(error_from_wire(message))


def submit_message(
    session: str,
    circuit: str,
    parameters: NDArray[np.float64] | Sequence[Sequence[float]] | Sequence[float],
    shots: int,
    *,
    evaluation: int,
    observables: Sequence[str] = (),
    readout_mitigation: bool = False,
    per_shot: bool = False,
    kind: JobKind = JobKind.LOOP,
    cpu_s: float = 0.0,
) -> wire.Submit:
    """Build a submit, checked before anything travels.

    Args:
        session: ``namespace/name``.
        circuit: handle of the circuit.
        parameters: shape (parameter sets, parameters) or (parameters,), radians.
        shots: for each parameter set and measurement basis.
        evaluation: running number of this submit in its session, from 0.
        observables: handles of observables; none: outcomes of the circuit's own measurements are returned.
        readout_mitigation: correct values with the device's known readout errors.
        per_shot: outcomes in the order of shots rather than counted.
        kind: what the job is.
        cpu_s: CPU seconds of the classical step that led here, for fair sharing.

    Raises:
        ParameterError: the parameters are no one- or two-dimensional array of finite numbers, or shots is
            below 1.
    """
    values = np.ascontiguousarray(parameters, dtype=np.float64)
    if values.ndim == 1:
        values = values.reshape(1, -1)
    if values.ndim != 2 or not len(values):
        raise ParameterError(
            f"has the shape {np.shape(parameters)}; give (parameter sets, parameters) or (parameters,)",
            place="parameters",
        )
    finite = np.isfinite(values)
    if not finite.all():
        row, column = (int(index) for index in np.argwhere(~finite)[0])
        raise ParameterError(
            f"{values[row, column]} is not a finite number of radians", place=f"parameters[{row}][{column}]"
        )
    if shots < 1:
        raise ParameterError(f"{shots} is below 1", place="shots")
    name = job_id(
        session, evaluation, circuit, observables, values, shots, readout_mitigation=readout_mitigation
    )
    return wire.Submit(
        job_id=name,
        evaluation=evaluation,
        kind=_KINDS[kind],
        circuit=circuit,
        observables=observables,
        parameter_sets=values.shape[0],
        parameters=values.ravel().tolist(),
        shots=shots,
        readout_mitigation=readout_mitigation,
        per_shot=per_shot,
        cpu_s=cpu_s,
    )


def error_from_wire(message: wire.Error) -> EfaasError:
    """The error of `efaas.errors` that a server's error stands for."""
    text, place = message.message or "the server gave no reason", message.place
    match message.code:
        case wire.BAD_CIRCUIT:
            return CircuitError(text, place=place)
        case wire.BAD_PARAMETERS:
            return ParameterError(text, place=place)
        case wire.UNAUTHENTICATED if message.retry:
            # Whoever reviews tokens could not be asked, or has not heard of this runner yet.
            return QpuUnavailable(text, place=place)
        case wire.BAD_OBSERVABLE | wire.UNKNOWN_HANDLE | wire.BAD_MESSAGE | wire.UNAUTHENTICATED:
            return InputError(text, place=place)
        case wire.LIMIT_REACHED if not message.retry:
            return InputError(text, place=place)
        case wire.FENCED:
            return SessionEnded(text, place=place)
        case wire.DRAINING:
            return QpuUnavailable(text, place=place)
        case _:
            return JobFailed(text, place=place or f"job {message.job_id}", retry=message.retry)
