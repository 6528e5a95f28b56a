"""`EstimatorV2`: expectation values of observables, measured on an EFaaS session.

The QPU server evaluates observables itself: it groups their terms into bases of qubit-wise commuting Pauli
strings, takes the shots of each basis, and returns values with standard errors that hold all covariances
inside a basis. What is left to do here is to say which parameter sets and observables go into which job, and
to put values back where PUBs want them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qiskit.primitives import BaseEstimatorV2, DataBin, PrimitiveResult, PubResult
from qiskit.primitives.containers.estimator_pub import EstimatorPub, EstimatorPubLike

from efaas.primitives.bindings import points
from efaas.primitives.broadcasting import Batch, batches
from efaas.primitives.circuits import PreparedCircuits
from efaas.primitives.extrapolation import Floats, extrapolate
from efaas.primitives.job import PrimitiveJob
from efaas.primitives.observables import Observable, Observables, as_terms
from efaas.primitives.options import EstimatorOptions, shots_for
from efaas.primitives.session import Session, session_for
from efaas.primitives.transport import Work

if TYPE_CHECKING:
    from efaas.client import JobResult
    from efaas.primitives.backend import Backend

JOB_SHOTS = 100_000_000
"""Shots of a whole job that a QPU server takes."""
JOB_NUMBERS = 1 << 20
"""Numbers in all parameter sets of a job that a QPU server takes."""


@dataclass(frozen=True, slots=True, eq=False)
class _Planned:
    """A PUB and the jobs that it became."""

    pub: EstimatorPub
    shots: int
    factors: tuple[int, ...]
    batches: tuple[Batch, ...]
    work: tuple[Work, ...]
    """For each noise factor, one for each batch."""
    constants: Floats
    """Shape of the flattened PUB: identity coefficients, the values at infinite noise."""


class EstimatorV2(BaseEstimatorV2):  # type: ignore[misc]
    """Estimates expectation values on an EFaaS session.

    Args:
        mode: a `Session`; a backend, or its name, for which a session is opened that ends with the program;
            None: the session whose ``with`` block this is in, or one on the default backend.
        options: `EstimatorOptions`, or a dictionary of them.

    Raises:
        InputError: an option is unknown; the text names the nearest.
    """

    def __init__(
        self,
        mode: Session | Backend | str | None = None,
        *,
        session: Session | None = None,
        backend: Any = None,
        options: EstimatorOptions | dict[str, Any] | None = None,
    ) -> None:
        self._session = session_for(mode, session, backend)
        self._options = EstimatorOptions.of(options)
        self._circuits = PreparedCircuits(measured=False)
        self._observables = Observables()

    @property
    def options(self) -> EstimatorOptions:
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

    def run(self, pubs: Iterable[EstimatorPubLike], *, precision: float | None = None) -> PrimitiveJob:
        """Send PUBs to the QPU.

        Args:
            pubs: each ``(circuit, observables, parameters, precision)``; parameters and precision may be left
                out.
            precision: target standard error of PUBs that have none; each measurement basis gets
                ⌈1/precision²⌉ shots.

        Raises:
            ValueError: a PUB is malformed (Qiskit's own check).
            InputError: a precision cannot be had, or a circuit cannot be served. The place tells which PUB.
            SessionEnded: the session is closed.
        """
        options = self._options
        default = options.precision if precision is None else precision
        plans = [
            self._plan(EstimatorPub.coerce(pub, default), f"pubs[{index}]") for index, pub in enumerate(pubs)
        ]
        extrapolator, readout = options.resilience.zne.extrapolator, options.mitigates_readout
        session = self._session

        def assemble(results: list[JobResult]) -> PrimitiveResult[PubResult]:
            values = _assemble(plans, results, extrapolator, readout)
            if len(values) == 1 and values[0].data.evs.size == 1:
                session.tell(float(values[0].data.evs.reshape(())), float(values[0].data.stds.reshape(())))
            return PrimitiveResult(values, metadata={"version": 2})

        return session.run(
            "estimator", [work for plan in plans for work in plan.work], assemble, options.seed_estimator
        )

    def _plan(self, pub: EstimatorPub, place: str) -> _Planned:
        assert pub.precision is not None
        shots = shots_for(pub.precision, f"{place}.precision")
        options = self._options
        circuit = self._circuits.get(pub.circuit, f"{place}.circuit")
        index, distinct = self._distinct(pub, place)
        qubits = circuit.qubits(qubit for terms in distinct for qubit in self._observables.looked_at(terms))
        observables = [self._observables.restrict(terms, qubits) for terms in distinct]
        values = points(pub.parameter_values, circuit.names, f"{place}.parameter_values")
        matrix = circuit.parameters(values)
        shape = pub.parameter_values.shape
        terms_of_all = max(1, sum(len(item.terms) for item in observables))
        most_points = min(
            4096, JOB_NUMBERS // max(1, matrix.shape[1]), max(1, JOB_SHOTS // (shots * terms_of_all))
        )
        plan = tuple(batches(shape, index, most_points=most_points))
        work = tuple(
            Work(
                circuit.program(qubits, factor),
                matrix if len(batch.points) == len(matrix) else matrix[list(batch.points)],
                shots,
                tuple(observables[number] for number in batch.observables),
                options.mitigates_readout,
            )
            for factor in options.noise_factors
            for batch in plan
        )
        constants = _constants(index, observables, pub.shape)
        return _Planned(pub, shots, options.noise_factors, plan, work, constants)

    def _distinct(self, pub: EstimatorPub, place: str) -> tuple[Any, list[Any]]:
        """Index of the distinct observable of each element, and the distinct ones."""
        array = pub.observables
        known: dict[Any, int] = {}
        index = np.empty(array.shape, dtype=np.intp)
        for where in np.ndindex(*array.shape):
            terms = as_terms(array[where], f"{place}.observables")
            index[where] = known.setdefault(terms, len(known))
        return index, list(known)


def _constants(index: Any, observables: Sequence[Observable], shape: tuple[int, ...]) -> Floats:
    constants = np.array([observable.constant for observable in observables], dtype=np.float64)
    return np.broadcast_to(constants[index], shape).ravel()


def _assemble(
    plans: Sequence[_Planned], results: Sequence[JobResult], extrapolator: Any, readout: bool
) -> list[PubResult]:
    """Values and standard errors of all PUBs, from the results of all jobs in their order."""
    remaining = iter(results)
    answers = []
    for plan in plans:
        size = len(plan.constants)
        values = np.zeros((len(plan.factors), size))
        errors = np.zeros_like(values)
        epochs = set()
        for level in range(len(plan.factors)):
            for batch in plan.batches:
                result = next(remaining)
                epochs.add(result.calibration_epoch)
                if size == 1:
                    values[level, 0] = result.evaluations[0].values[0]
                    errors[level, 0] = result.evaluations[0].std_errors[0]
                    continue
                values[level, batch.elements] = result.values[batch.rows, batch.columns]
                errors[level, batch.elements] = result.std_errors[batch.rows, batch.columns]
        metadata: dict[str, Any] = {
            "target_precision": plan.pub.precision,
            "shots": plan.shots,
            "circuit_metadata": plan.pub.circuit.metadata,
            "resilience": {"measure_mitigation": readout, "zne_mitigation": len(plan.factors) > 1},
            "calibration_epochs": sorted(epochs),
        }
        fields: dict[str, Any] = {}
        if len(plan.factors) > 1:
            evs, stds = extrapolate(extrapolator, plan.factors, values, errors, plan.constants)
            by_factor = (*plan.pub.shape, len(plan.factors))
            fields["evs_noise_factors"] = values.T.reshape(by_factor)
            fields["stds_noise_factors"] = errors.T.reshape(by_factor)
            metadata["resilience"]["zne"] = {
                "noise_factors": list(plan.factors),
                "extrapolator": extrapolator,
            }
        else:
            evs, stds = values[0], errors[0]
        shape = plan.pub.shape
        data = DataBin(evs=evs.reshape(shape), stds=stds.reshape(shape), **fields, shape=shape)
        answers.append(PubResult(data, metadata=metadata))
    return answers
