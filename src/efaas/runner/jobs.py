"""What a dispatcher takes and gives: requests, futures, and the protocols of those it works with."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from efaas.core.identity import circuit_digest, job_id, observable_digest
from efaas.core.qpu.messages import JobKind
from efaas.errors import InputError
from efaas.optimizers.base import Vector

if TYPE_CHECKING:
    from efaas.client import JobResult, SessionIdentity
    from efaas.client.results import Evaluation

    PartialListener = Callable[[int, tuple[Evaluation, ...]], None]

    _ResultFuture = concurrent.futures.Future[JobResult]
else:
    # `efaas.client` imports gRPC, which takes a tenth of a second that nobody should wait for here.
    _ResultFuture = concurrent.futures.Future

Terms = tuple[tuple[str, float], ...]
"""Pauli terms, qubit 0 rightmost."""


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One job, before anybody has decided where it runs.

    Args:
        program: OpenQASM 3 text or QPY bytes.
        parameters: shape (parameter sets, parameters), radians.
        shots: for each parameter set and measurement basis.
        evaluation: running number of the submit in its session.
        observables: none: outcomes of the program's own measurements are returned.
        readout_mitigation: whether values are corrected.
        per_shot: outcomes in the order of shots rather than counted.
        kind: what the submitter says it is.
    """

    program: str | bytes
    parameters: Vector
    shots: int
    evaluation: int
    observables: tuple[Terms, ...] = ()
    readout_mitigation: bool = False
    per_shot: bool = False
    kind: JobKind = JobKind.LOOP

    def job_id(self, session: str) -> str:
        """The id of the job in a session (``namespace/name``); what it is sent as has no say in it."""
        return job_id(
            session,
            self.evaluation,
            circuit_digest(self.program),
            [observable_digest(terms) for terms in self.observables],
            self.parameters,
            self.shots,
            readout_mitigation=self.readout_mitigation,
        )


class Connection(Protocol):
    """The part of `efaas.client.QpuConnection` that is used here; tests bring their own."""

    def register_circuit(self, program: str | bytes) -> Any:
        """Register a circuit; the answer has a `handle`."""
        ...

    def register_observable(self, terms: Any) -> str:
        """Register an observable; returns its handle."""
        ...

    @property
    def submit(self) -> Callable[..., Any]:
        """Submit a job; returns a future."""
        ...

    def cancel(self, job_id: str) -> None:
        """Ask the server to drop a job."""
        ...

    def acknowledge(self, job_id: str) -> None:
        """Tell the server that a result need not be kept."""
        ...

    def close(self) -> None:
        """End the stream."""
        ...


class News(Protocol):
    """Who wants to hear about connections and waiting jobs; called from other threads."""

    def state(self, state: str, reason: str = "", device: str = "") -> None:
        """The session is in this state now."""

    def queued(self, position: int, estimated_start_s: float, reason: str) -> None:
        """A job waits on the device."""

    def started(self, device: str) -> None:
        """A job runs on the device."""

    def moved(self, source: str, target: str, reason: str) -> None:
        """Iterations go to another device from now on."""

    def say(self, text: str) -> None:
        """A line for people."""


Connect = Callable[[str, "SessionIdentity", float], Connection]
"""Connects to ``host:port`` as this session, trying for so many seconds."""


def connect_to_server(endpoint: str, identity: SessionIdentity, patience_s: float) -> Connection:
    """Connect by gRPC; imported only now, because that takes a tenth of a second."""
    from efaas.client import QpuConnection

    return QpuConnection(endpoint, identity, patience_s=patience_s)


class JobFuture(_ResultFuture):
    """A job on its way; `id` is its job id.

    Cancelling asks the server; the job then ends with `JobFailed`, or with its result if that was faster.
    """

    def __init__(self, name: str, cancel: Callable[[JobFuture], None]) -> None:
        super().__init__()
        self.id = name
        self._cancel_job = cancel
        self.cancel_wanted = False
        self.set_running_or_notify_cancel()

    def cancel(self) -> bool:
        """Ask for the job to be dropped; False if it has ended already."""
        if self.done():
            return False
        self.cancel_wanted = True
        self._cancel_job(self)
        return True


def as_matrix(parameters: Any) -> Vector:
    """Parameters as a C-contiguous float64 matrix, one row a parameter set.

    Raises:
        InputError: more than two dimensions, or not numbers.
    """
    try:
        matrix = np.ascontiguousarray(parameters, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("is not an array of numbers", place="parameters") from None
    if matrix.ndim > 2:
        raise InputError(
            f"has {matrix.ndim} dimensions; give one vector or a list of vectors", place="parameters"
        )
    return np.atleast_2d(matrix)
