"""A session as the server sees it: its stream, and what it registered."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol

from efaas.api.wire import qpu_pb2 as wire
from efaas_qpu.engine.messages import Prepared
from efaas_qpu.engine.observables import measurement_bases
from efaas_qpu.requests import Refused, Submission

Terms = tuple[tuple[str, float], ...]


class Outlet(Protocol):
    """The way to a client: a stream, or a list in a test."""

    def send(self, message: wire.ServerMessage) -> None:
        """Send a message, soon and in order; a client that is gone or too slow is not waited for."""

    def end(self, last_word: wire.ServerMessage | None) -> None:
        """End the stream after what was sent."""


@dataclass(slots=True)
class Session:
    """An open session."""

    name: str
    tenant: str
    lease_epoch: int
    seed: int
    outlet: Outlet | None = None
    """Its stream; None while it is away."""
    circuits: OrderedDict[str, Prepared] = field(default_factory=OrderedDict)
    """Registered circuits by handle, registered longest ago first."""
    observables: OrderedDict[str, Terms] = field(default_factory=OrderedDict)
    """Terms of registered observables by handle, registered longest ago first."""
    bases: OrderedDict[tuple[str, ...], int] = field(default_factory=OrderedDict)
    """Number of measurement bases of the sets of observables that were submitted last."""
    jobs: set[str] = field(default_factory=set)
    """Ids of its jobs without a result."""
    absence: asyncio.TimerHandle | None = None
    """What closes the session if its stream does not come back."""

    def say(self, message: wire.ServerMessage) -> None:
        """Send a message if the client is there."""
        if self.outlet is not None:
            self.outlet.send(message)

    def circuit_of(self, submission: Submission) -> Prepared:
        """The circuit of a job.

        Raises:
            Refused: it is not registered, or the parameters or observables do not fit it.
        """
        name = submission.job_id
        circuit = self.circuits.get(submission.circuit)
        if circuit is None:
            raise Refused(
                wire.UNKNOWN_HANDLE,
                f"no circuit {submission.circuit} is registered on this session; register it first",
                place="submit.circuit",
                job_id=name,
            )
        given, wanted = submission.parameters.shape[1], len(circuit.parameters)
        if given != wanted:
            raise Refused(
                wire.BAD_PARAMETERS,
                f"each set has {given} numbers, the circuit has {wanted} parameters",
                place="submit.parameters",
                job_id=name,
            )
        for index, handle in enumerate(submission.observables):
            terms = self.observables.get(handle)
            if terms is None:
                raise Refused(
                    wire.UNKNOWN_HANDLE,
                    f"no observable {handle} is registered on this session; register it first",
                    place=f"submit.observables[{index}]",
                    job_id=name,
                )
            if len(terms[0][0]) != circuit.qubits:
                raise Refused(
                    wire.BAD_OBSERVABLE,
                    f"the observable has {len(terms[0][0])} qubits, the circuit has {circuit.qubits}",
                    place=f"submit.observables[{index}]",
                    job_id=name,
                )
        if not submission.observables and not circuit.bits:
            raise Refused(
                wire.BAD_CIRCUIT,
                "the circuit measures nothing and the job has no observables; add either",
                place="submit.circuit",
                job_id=name,
            )
        return circuit

    def number_of_bases(self, observables: tuple[str, ...]) -> int:
        """Measurement bases of registered observables together; 1 when there are none."""
        if not observables:
            return 1
        known = self.bases.get(observables)
        if known is None:
            known = len(measurement_bases([self.observables[handle] for handle in observables]))
            self.bases[observables] = known
            if len(self.bases) > 256:
                self.bases.popitem(last=False)
        return known
