"""How a program's loop moves: from a point to its jobs, from its results to the next point.

`UserSteps` is a loop of one's own (`Session.loop`), whose points are whatever the program makes of them.
`OptimizerSteps` is an optimizer (`Session.minimize`), whose points are what it asks: energies of points and,
for QN-SPSA, fidelities of pairs, which are a job of their own.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from efaas.core.identity import digest
from efaas.errors import InputError
from efaas.optimizers.base import Ask, Optimizer, Outlook, Tell, Vector
from efaas.runner.foresight import Estimate, Foresight, key_of
from efaas.runner.readings import answers_of
from efaas.sdk.future import RunningEstimate

if TYPE_CHECKING:
    from efaas.client import JobResult


@dataclass(frozen=True, slots=True)
class NextJob:
    """What a prepared point is evaluated by; what is left out is as in the call of the loop."""

    circuit: Any = None
    """As in `Session.submit`."""
    parameters: Any = None
    """As in `Session.submit`; the point itself if left out."""
    observable: Any = None
    """As in `Session.submit`."""
    shots: int | None = None
    """As in `Session.submit`."""


class Steps(Protocol):
    """Decides points."""

    def first(self) -> Any:
        """The first point; None if there is none."""

    def key(self, point: Any) -> bytes:
        """What identifies a point."""

    def argument(self, point: Any) -> Any:
        """What `prepare` is given."""

    def jobs(self, point: Any, job: NextJob) -> list[NextJob]:
        """The jobs of a point; the first has running estimates, the others are wanted whole.

        Args:
            point: the point.
            job: what was prepared, where it says something, else what the call of the loop said.
        """

    def count(self, point: Any) -> int:
        """How many jobs a point has."""

    def outlook(self, overlaps: Vector | None) -> Outlook | None:
        """What is known of the next point while the pending energies are not."""

    def guesses(self, point: Any, overlaps: Vector | None) -> Iterator[Any]:
        """Points that may follow the pending one, likeliest first."""

    def after(self, estimate: Estimate, shape: tuple[int, ...], *, exactly: bool) -> Iterator[Any]:
        """The point that follows if this is the result; `exactly`: only if it may come true to the bit."""

    def decide(self, results: Sequence[JobResult], stepped_on: Estimate | None) -> Any:
        """The point that follows the results, or the estimate that the step was taken on; None at the end."""

    def last(self) -> Any:
        """The point to be reported."""


class UserSteps:
    """Steps of a loop of one's own; see `Session.loop`."""

    def __init__(
        self, first: Any, decide: Callable[[Any], Any], predict: Callable[[Any], Iterable[Any]] | None
    ) -> None:
        self._point, self._decide, self._predict = first, decide, predict

    def first(self) -> Any:
        """See `Steps`."""
        return self._point

    def key(self, point: Any) -> bytes:
        """See `Steps`."""
        if isinstance(point, np.ndarray):
            return digest(*point.shape, point.tobytes()).encode()
        try:
            return pickle.dumps(point, protocol=5)
        except Exception as error:
            raise InputError(
                f"cannot be written as bytes ({error}); use arrays or plain values", place="point"
            ) from None

    def argument(self, point: Any) -> Any:
        """See `Steps`."""
        return point

    def jobs(self, point: Any, job: NextJob) -> list[NextJob]:
        """See `Steps`."""
        parameters = point if job.parameters is None else job.parameters
        return [NextJob(job.circuit, parameters, job.observable, job.shots)]

    def count(self, point: Any) -> int:  # noqa: ARG002
        """See `Steps`."""
        return 1

    def outlook(self, overlaps: Vector | None) -> Outlook | None:  # noqa: ARG002
        """See `Steps`."""
        return None

    def guesses(self, point: Any, overlaps: Vector | None) -> Iterator[Any]:  # noqa: ARG002
        """See `Steps`."""
        if self._predict is not None:
            yield from self._predict(point)

    def after(self, estimate: Estimate, shape: tuple[int, ...], *, exactly: bool) -> Iterator[Any]:
        """See `Steps`; a program's own `decide` hears of estimates in Tolerant mode alone."""
        if exactly:
            return
        point = self._decide(_running(estimate, shape))
        if point is not None:
            yield point

    def decide(self, results: Sequence[JobResult], stepped_on: Estimate | None) -> Any:
        """See `Steps`."""
        result = results[0]
        point = self._decide(result if stepped_on is None else _running(stepped_on, result.values.shape))
        if point is not None:
            self._point = point
        return point

    def last(self) -> Any:
        """See `Steps`."""
        return self._point


class OptimizerSteps:
    """Steps of an optimizer; see `Session.minimize`.

    Args:
        optimizer: is told.
        iterations: after which it ends.
        predict: further points that may come next.
        report: told the energy of each step.
        circuit: of which fidelities are taken, where `prepare` gives no other.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        iterations: int,
        predict: Callable[[Any], Iterable[Any]] | None,
        report: Callable[[float, float | None], None],
        circuit: Any,
    ) -> None:
        self._optimizer, self._iterations, self._predict = optimizer, iterations, predict
        self._report = report
        self._foresight = Foresight(optimizer)
        self._overlap_circuits: dict[int, tuple[Any, Any]] = {}
        self._pending: Ask | None = None
        if len(optimizer.ask().overlaps):
            self._overlap_circuit(circuit)

    def first(self) -> Ask | None:
        """See `Steps`."""
        return self._next()

    def _next(self) -> Ask | None:
        if self._optimizer.finished is not None or self._optimizer.iteration >= self._iterations:
            return None
        self._pending = self._optimizer.ask()
        return self._pending

    def key(self, point: Ask) -> bytes:
        """See `Steps`."""
        return key_of(point)

    def argument(self, point: Ask) -> Vector:
        """See `Steps`: the points, shape (points, parameters)."""
        return point.points

    def jobs(self, point: Ask, job: NextJob) -> list[NextJob]:
        """See `Steps`."""
        energies = NextJob(
            job.circuit, point.points if job.parameters is None else job.parameters, job.observable, job.shots
        )
        if not len(point.overlaps):
            return [energies]
        if job.parameters is not None:
            raise InputError(
                f"gives parameters of its own, but {self._optimizer.name} asks for fidelities of its own "
                "points; let it give a circuit",
                place="prepare",
            )
        pairs = point.overlaps.reshape(len(point.overlaps), -1)
        return [energies, NextJob(self._overlap_circuit(job.circuit), pairs, None, job.shots)]

    def count(self, point: Ask) -> int:
        """See `Steps`."""
        return 2 if len(point.overlaps) else 1

    def _overlap_circuit(self, circuit: Any) -> Any:
        """The circuit that measures fidelities of an ansatz; made once for each of the last few."""
        if not hasattr(circuit, "num_parameters"):
            raise InputError(
                f"is no Qiskit circuit, but {self._optimizer.name} asks for fidelities, whose circuit is "
                "made from it; give a QuantumCircuit",
                place="circuit",
            )
        known = self._overlap_circuits.get(id(circuit))
        if known is None or known[0] is not circuit:
            from efaas.ansatze import overlap_circuit

            if len(self._overlap_circuits) >= _CIRCUITS:
                self._overlap_circuits.pop(next(iter(self._overlap_circuits)))
            known = self._overlap_circuits[id(circuit)] = (circuit, overlap_circuit(circuit))
        return known[1]

    def outlook(self, overlaps: Vector | None) -> Outlook | None:
        """See `Steps`."""
        return self._foresight.outlook(overlaps)

    def guesses(self, point: Ask, overlaps: Vector | None) -> Iterator[Ask]:
        """See `Steps`."""
        yield from self._foresight.guesses(overlaps)
        if self._predict is not None:
            for points in self._predict(point.points):
                yield Ask(0, np.atleast_2d(np.asarray(points, dtype=np.float64)))

    def after(self, estimate: Estimate, shape: tuple[int, ...], *, exactly: bool) -> Iterator[Ask]:
        """See `Steps`."""
        foresee = self._foresight.after_exactly if exactly else self._foresight.after
        return foresee(_of_first_observable(estimate, shape).answers)

    def decide(self, results: Sequence[JobResult], stepped_on: Estimate | None) -> Ask | None:
        """See `Steps`."""
        assert self._pending is not None
        if stepped_on is not None:
            stepped_on = _of_first_observable(stepped_on, results[0].values.shape)
        self._foresight.take(answers_of(self._pending, results), stepped_on)
        found = self._optimizer.estimate
        if found is not None:
            self._report(found.value, found.std_error)
        return self._next()

    def last(self) -> Vector:
        """See `Steps`."""
        return self._optimizer.point


_CIRCUITS = 8


def _running(estimate: Estimate, shape: tuple[int, ...]) -> RunningEstimate:
    """An estimate as a program sees it; shape (points, observables)."""
    answers = estimate.answers
    return RunningEstimate(estimate.shots, answers.values.reshape(shape), answers.std_errors.reshape(shape))


def _of_first_observable(estimate: Estimate, shape: tuple[int, ...]) -> Estimate:
    """What an optimizer is told of an estimate; shape (points, observables)."""
    answers = estimate.answers
    values, errors = answers.values.reshape(shape)[:, 0], answers.std_errors.reshape(shape)[:, 0]
    return Estimate(Tell(values, errors, answers.overlaps), estimate.shots)


def as_estimate(running: RunningEstimate) -> Estimate:
    """A running estimate as the journal and the tolerance know it."""
    return Estimate(Tell(running.values.ravel(), running.std_errors.ravel()), running.shots)
