"""Loops of a program that run ahead of their results: `Session.minimize` and `Session.loop`.

One evaluation is: the point is *prepared* (the costly part: building a circuit, solving something classical),
sent, and its result *decides* the next point. While the QPU works, `efaas.runner.ahead` has next points
prepared in other processes; how far that may go is `Off`, `Exact` or `Tolerant` (`docs/speculation.md`).

A step is known by the bytes of its point. The journal keeps that digest beside the result, so a program that
is run again decides everything anew but prepares nothing that it has a result for. What was guessed, started
or sent ahead is in no journal.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from efaas.core.identity import digest
from efaas.core.qpu.messages import JobKind
from efaas.core.speculation import Mode
from efaas.errors import InputError
from efaas.optimizers.base import Ask, Optimizer, Tell, Vector
from efaas.runner.ahead import Ahead, Step, Taken
from efaas.runner.foresight import Estimate, Foresight, key_of
from efaas.sdk.future import QuantumFuture, RunningEstimate
from efaas.sdk.workers import StepWorkers, spare_cpus

if TYPE_CHECKING:
    from efaas.client import JobResult
    from efaas.runner.jobs import Request
    from efaas.sdk.session import Session


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


@dataclass(frozen=True, slots=True)
class LoopReport:
    """How a loop ended."""

    point: Any
    """The point that the optimizer would return; of a loop of your own the last one."""
    result: JobResult | None
    """Of the last evaluation; None if there was none."""
    evaluations: int
    speculation: dict[str, Any]
    """As in `result.json`; empty with speculation off."""


class Steps(Protocol):
    """Decides points."""

    def first(self) -> Any:
        """The first point; None if there is none."""

    def key(self, point: Any) -> bytes:
        """What identifies a point."""

    def guesses(self, point: Any) -> Iterator[Any]:
        """Points that may follow the pending one, likeliest first."""

    def preview(self, estimate: RunningEstimate) -> Any:
        """The point that follows if this is the result; None if none does."""

    def decide(self, result: JobResult, stepped_on: RunningEstimate | None) -> Any:
        """The point that follows the result, or the estimate that the step was taken on; None at the end."""

    def parameters(self, point: Any) -> Any:
        """What is sent where `prepare` gives no parameters."""

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

    def guesses(self, point: Any) -> Iterator[Any]:
        """See `Steps`."""
        if self._predict is not None:
            yield from self._predict(point)

    def preview(self, estimate: RunningEstimate) -> Any:
        """See `Steps`."""
        return self._decide(estimate)

    def decide(self, result: JobResult, stepped_on: RunningEstimate | None) -> Any:
        """See `Steps`."""
        point = self._decide(result if stepped_on is None else stepped_on)
        if point is not None:
            self._point = point
        return point

    def parameters(self, point: Any) -> Any:
        """See `Steps`."""
        return point

    def last(self) -> Any:
        """See `Steps`."""
        return self._point


class OptimizerSteps:
    """Steps of an optimizer; see `Session.minimize`."""

    def __init__(
        self,
        optimizer: Optimizer,
        iterations: int,
        predict: Callable[[Any], Iterable[Any]] | None,
        report: Callable[[float, float | None], None],
    ) -> None:
        self._optimizer, self._iterations, self._predict, self._report = (
            optimizer,
            iterations,
            predict,
            report,
        )
        self._foresight = Foresight(optimizer)
        if len(optimizer.ask().overlaps):
            raise InputError(
                "asks for fidelities, which a session's declared problem can measure", place="optimizer"
            )

    def first(self) -> Any:
        """See `Steps`."""
        return self._next()

    def _next(self) -> Vector | None:
        if self._optimizer.finished is not None or self._optimizer.iteration >= self._iterations:
            return None
        return self._optimizer.ask().points

    def key(self, point: Any) -> bytes:
        """See `Steps`."""
        return key_of(Ask(0, point))

    def guesses(self, point: Any) -> Iterator[Any]:
        """See `Steps`."""
        for asked in self._foresight.guesses():
            yield asked.points
        if self._predict is not None:
            for points in self._predict(point):
                yield np.atleast_2d(np.asarray(points, dtype=np.float64))

    def preview(self, estimate: RunningEstimate) -> Any:
        """See `Steps`."""
        for asked in self._foresight.after(_tell(estimate)):
            return asked.points
        return None

    def decide(self, result: JobResult, stepped_on: RunningEstimate | None) -> Any:
        """See `Steps`."""
        estimate = None if stepped_on is None else Estimate(_tell(stepped_on), stepped_on.shots)
        self._foresight.take(_tell(result), estimate)
        found = self._optimizer.estimate
        if found is not None:
            self._report(found.value, found.std_error)
        return self._next()

    def parameters(self, point: Any) -> Any:
        """See `Steps`."""
        return point

    def last(self) -> Any:
        """See `Steps`."""
        return self._optimizer.point


def _tell(result: JobResult | RunningEstimate) -> Tell:
    return Tell(result.values[:, 0], result.std_errors[:, 0])


def run_loop(
    session: Session,
    steps: Steps,
    prepare: Callable[[Any], Any] | None,
    speculation: str | None,
    workers: int | None,
    usual: NextJob | None = None,
) -> LoopReport:
    """Run a loop to its end; see `Session.loop` and `Session.minimize`.

    Raises:
        InputError: no such mode, or something cannot be sent to another process.
        EfaasError: as submits and jobs raise.
    """
    try:
        mode = Mode(session.speculation if speculation is None else speculation)
    except ValueError:
        raise InputError(f"{speculation!r} is not Off, Exact or Tolerant", place="speculation") from None
    pool = None
    if mode is not Mode.OFF and prepare is not None:
        pool = StepWorkers(prepare, spare_cpus() if workers is None else workers)
    try:
        return _Loop(session, steps, prepare, mode, pool, usual or NextJob()).run()
    finally:
        if pool is not None:
            pool.close()


class _Loop:
    def __init__(
        self,
        session: Session,
        steps: Steps,
        prepare: Callable[[Any], Any] | None,
        mode: Mode,
        pool: StepWorkers | None,
        usual: NextJob,
    ) -> None:
        self._session, self._steps, self._mode, self._usual = session, steps, mode, usual
        self._prepare: Callable[[Any], Any] = prepare or (lambda _: None)
        self._ahead: Ahead | None = None
        if mode is not Mode.OFF:
            self._ahead = session.ahead_of(mode, self._prepare, self._requests_ahead, pool)
        self._evaluations = 0

    def run(self) -> LoopReport:
        """Evaluate until there is no next point."""
        result = None
        point = self._steps.first()
        while point is not None:
            future = self._submit(point)
            result = self._wait(future, point)
            self._evaluations += 1
            point = self._steps.decide(result, _as_running(future.stepped_on, result))
        if self._ahead is not None:
            self._ahead.end()
        summary = self._ahead.summary() if self._ahead is not None else {}
        return LoopReport(self._steps.last(), result, self._evaluations, summary)

    def _submit(self, point: Any) -> QuantumFuture:
        key = self._steps.key(point)
        step = digest(key)
        replayed = self._session.replay_step(step)
        if replayed is not None:
            return replayed
        ahead = self._ahead
        taken = Taken(self._prepare(point)) if ahead is None else ahead.decide(Step(key, point))
        request = self._request(point, taken.prepared, self._session.next_number, JobKind.LOOP)
        future = self._session.dispatch(request, device=taken.device, step=step)
        if self._ahead is not None:
            self._ahead.submitted(future.number, [future], taken.device)
        return future

    def _request(self, point: Any, prepared: Any, number: int, kind: JobKind) -> Request:
        job = prepared if isinstance(prepared, NextJob) else NextJob(parameters=prepared)
        usual = self._usual
        job = replace(
            job,
            circuit=usual.circuit if job.circuit is None else job.circuit,
            parameters=self._steps.parameters(point) if job.parameters is None else job.parameters,
            observable=usual.observable if job.observable is None else job.observable,
            shots=usual.shots if job.shots is None else job.shots,
        )
        return self._session.request(
            job.circuit, job.parameters, job.observable, job.shots, kind=kind, number=number
        )

    def _requests_ahead(self, point: Any, prepared: Any, number: int) -> list[Request]:
        return [self._request(point, prepared, number, JobKind.SPECULATIVE)]

    def _wait(self, future: QuantumFuture, point: Any) -> JobResult:
        ahead = self._ahead
        if ahead is None or future.done():
            return _result(future)
        future.add_partial_callback(ahead.listener(future.number))
        stepped = False

        def on_estimate(estimate: Any) -> None:
            nonlocal stepped
            if stepped or not ahead.wants_candidates or not np.isfinite(estimate.values).all():
                return
            if self._mode is Mode.TOLERANT:
                stepped = True
                self._session.step_on(future, _as_estimate(estimate))
            following = self._steps.preview(estimate)
            if following is not None:
                ahead.offer([self._step(following)], informed=True)

        if self._mode is Mode.EXACT and ahead.wants_candidates:
            ahead.offer(self._step(guess) for guess in self._steps.guesses(point))
        ahead.wait(lambda: None, on_estimate)
        result = _result(future)
        ahead.came([result])
        return result

    def _step(self, point: Any) -> Step:
        return Step(self._steps.key(point), point)


def _result(future: QuantumFuture) -> JobResult:
    result: JobResult = future.result()
    return result


def _as_estimate(running: RunningEstimate) -> Estimate:
    return Estimate(Tell(running.values.ravel(), running.std_errors.ravel()), running.shots)


def _as_running(estimate: Estimate | None, result: JobResult) -> RunningEstimate | None:
    if estimate is None:
        return None
    shape = result.values.shape
    answers = estimate.answers
    return RunningEstimate(estimate.shots, answers.values.reshape(shape), answers.std_errors.reshape(shape))
