"""`SamplerV2`: outcomes of a circuit's own measurements, shot by shot, on an EFaaS session."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qiskit.primitives import BaseSamplerV2, DataBin, PrimitiveResult, SamplerPubResult
from qiskit.primitives.containers.sampler_pub import SamplerPub, SamplerPubLike

from efaas.primitives.bindings import points
from efaas.primitives.circuits import PreparedCircuits
from efaas.primitives.job import PrimitiveJob
from efaas.primitives.options import MAX_SHOTS, SamplerOptions, whole
from efaas.primitives.outcomes import bit_arrays, registers_of
from efaas.primitives.session import Session, session_for
from efaas.primitives.transport import Work

if TYPE_CHECKING:
    from efaas.client import JobResult
    from efaas.primitives.backend import Backend

JOB_BYTES = 16 << 20
"""Outcomes of a job; a QPU server sends up to twice as many."""


@dataclass(frozen=True, slots=True, eq=False)
class _Planned:
    pub: SamplerPub
    shots: int
    registers: list[tuple[str, list[int]]]
    work: tuple[Work, ...]


class SamplerV2(BaseSamplerV2):  # type: ignore[misc]
    """Samples outcomes on an EFaaS session.

    Args:
        mode: a `Session`; a backend, or its name, for which a session is opened that ends with the program;
            None: the session whose ``with`` block this is in, or one on the default backend.
        options: `SamplerOptions`, or a dictionary of them.

    Raises:
        InputError: an option is unknown; the text names the nearest.
    """

    def __init__(
        self,
        mode: Session | Backend | str | None = None,
        *,
        session: Session | None = None,
        backend: Any = None,
        options: SamplerOptions | dict[str, Any] | None = None,
    ) -> None:
        self._session = session_for(mode, session, backend)
        self._options = SamplerOptions.of(options)
        self._circuits = PreparedCircuits(measured=True)

    @property
    def options(self) -> SamplerOptions:
        """Options; setting one takes effect with the next run()."""
        return self._options

    @property
    def session(self) -> Session:
        """The session that jobs go to."""
        return self._session

    @property
    def mode(self) -> Session:
        """As `session`."""
        return self._session

    def backend(self) -> Backend:
        """The backend of the session."""
        return self._session.backend()

    def run(self, pubs: Iterable[SamplerPubLike], *, shots: int | None = None) -> PrimitiveJob:
        """Send PUBs to the QPU.

        Args:
            pubs: each a circuit or ``(circuit, parameters, shots)``; parameters and shots may be left out.
            shots: of PUBs that give none.

        Raises:
            ValueError: a PUB is malformed (Qiskit's own check).
            InputError: more shots than can be had, or a circuit cannot be served. The place tells which PUB.
            SessionEnded: the session is closed.
        """
        default = self._options.default_shots if shots is None else shots
        plans = [
            self._plan(SamplerPub.coerce(pub, default), f"pubs[{index}]") for index, pub in enumerate(pubs)
        ]

        def assemble(results: list[JobResult]) -> PrimitiveResult[SamplerPubResult]:
            return PrimitiveResult(_assemble(plans, results), metadata={"version": 2})

        return self._session.run(
            "sampler", [work for plan in plans for work in plan.work], assemble, self._options.seed_simulator
        )

    def _plan(self, pub: SamplerPub, place: str) -> _Planned:
        shots = whole(pub.shots, f"{place}.shots", 1, MAX_SHOTS)
        circuit = self._circuits.get(pub.circuit, f"{place}.circuit")
        program = circuit.program(circuit.qubits())
        matrix = circuit.parameters(points(pub.parameter_values, circuit.names, f"{place}.parameter_values"))
        width = (pub.circuit.num_clbits + 7) // 8
        most = min(4096, max(1, JOB_BYTES // (shots * max(1, width))))
        work = tuple(
            Work(program, matrix[start : start + most], shots) for start in range(0, len(matrix), most)
        )
        return _Planned(pub, shots, registers_of(pub.circuit), work)


def _assemble(plans: Sequence[_Planned], results: Sequence[JobResult]) -> list[SamplerPubResult]:
    remaining = iter(results)
    answers = []
    for plan in plans:
        mine = [next(remaining) for _ in plan.work]
        evaluations = [evaluation for result in mine for evaluation in result.evaluations]
        arrays = bit_arrays(evaluations, plan.registers, plan.pub.shape, plan.shots)
        metadata = {
            "shots": plan.shots,
            "circuit_metadata": plan.pub.circuit.metadata,
            "calibration_epochs": sorted({result.calibration_epoch for result in mine}),
        }
        answers.append(SamplerPubResult(DataBin(**arrays, shape=plan.pub.shape), metadata=metadata))
    return answers
