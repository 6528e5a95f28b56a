"""Loops of a program that run ahead of their results: `Session.minimize` and `Session.loop`.

One evaluation is: the point is *prepared* (the costly part: building a circuit, solving something classical),
sent, and its result *decides* the next point. While the QPU works, `efaas.runner.ahead` has next points
prepared in other processes; how far that may go is `Off`, `Exact` or `Tolerant` (`docs/speculation.md`).

**Outlines.** Methods that move in proportion to their results (SPSA, QN-SPSA) have no points to guess, but
they know the line on which the next ones lie. A loop may say what is to be done with that: `outline(line)`
is the costly part then, runs while the QPU measures, and `prepare(points, outlined)` only finishes it. What
runs ahead is certain to be needed, so it is a hit unless it is late.

A step is known by the bytes of its point. The journal keeps that digest beside the result, so a program that
is run again decides everything anew but prepares nothing that it has a result for. What was guessed, started
or sent ahead is in no journal.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from efaas.core.identity import digest
from efaas.core.qpu.messages import JobKind
from efaas.core.speculation import Mode
from efaas.errors import InputError
from efaas.optimizers.base import Outlook, Vector
from efaas.runner.ahead import Ahead, Step, Taken
from efaas.runner.foresight import Estimate
from efaas.runner.pending import Pending
from efaas.runner.readings import fidelities_of
from efaas.sdk.future import QuantumFuture, RunningEstimate
from efaas.sdk.steps import NextJob, Steps, as_estimate
from efaas.sdk.workers import StepWorkers, spare_cpus

if TYPE_CHECKING:
    from efaas.client import JobResult
    from efaas.runner.jobs import Request
    from efaas.sdk.session import Session


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


def run_loop(
    session: Session,
    steps: Steps,
    prepare: Callable[..., Any] | None,
    speculation: str | None,
    workers: int | None,
    usual: NextJob | None = None,
    outline: Callable[[Outlook], Any] | None = None,
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
    if outline is not None and prepare is None:
        raise InputError("is of use to `prepare` alone; give that too", place="outline")
    ahead_of_time = prepare if outline is None else outline
    pool = None
    if mode is not Mode.OFF and ahead_of_time is not None:
        pool = StepWorkers(ahead_of_time, spare_cpus() if workers is None else workers)
    try:
        return _Loop(session, steps, prepare, outline, mode, pool, usual or NextJob()).run()
    finally:
        if pool is not None:
            pool.close()


class _PointWorkers:
    """The workers, which are given what `prepare` takes of a point."""

    def __init__(self, pool: StepWorkers, argument: Callable[[Any], Any]) -> None:
        self.count, self.abandon = pool.count, pool.abandon
        self._pool, self._argument = pool, argument

    @property
    def is_ready(self) -> bool:
        return self._pool.is_ready

    def start(self, what: Any) -> concurrent.futures.Future[tuple[Any, float]]:
        return self._pool.start(self._argument(what))


class _Loop:
    def __init__(
        self,
        session: Session,
        steps: Steps,
        prepare: Callable[..., Any] | None,
        outline: Callable[[Outlook], Any] | None,
        mode: Mode,
        pool: StepWorkers | None,
        usual: NextJob,
    ) -> None:
        self._session, self._steps, self._usual = session, steps, usual
        self._prepare: Callable[..., Any] = prepare or (lambda _: None)
        self._outline = outline
        # With an outline nothing that is costly is left to be done on an estimate.
        self._exact = mode is Mode.EXACT or outline is not None
        self._outlook: Outlook | None = None
        self._ahead: Ahead | None = None
        if mode is not Mode.OFF:
            workers = None if pool is None else _PointWorkers(pool, self._argument)
            work = self._prepared if outline is None else outline
            self._ahead = session.ahead_of(mode, work, self._requests_ahead, workers)
        self._evaluations = 0

    def run(self) -> LoopReport:
        """Evaluate until there is no next point."""
        steps = self._steps
        results: list[JobResult] = []
        point = steps.first()
        while point is not None:
            futures = self._submit(point)
            results = self._wait(futures, point)
            self._evaluations += 1
            if self._outline is not None:
                self._outlook = steps.outlook(fidelities_of(results[1]) if len(results) > 1 else None)
            point = steps.decide(results, futures[0].stepped_on)
        if self._ahead is not None:
            self._ahead.end()
        summary = self._ahead.summary() if self._ahead is not None else {}
        return LoopReport(steps.last(), results[0] if results else None, self._evaluations, summary)

    # --- one evaluation -----------------------------------------------------------------------------

    def _submit(self, point: Any) -> list[QuantumFuture]:
        """The jobs of a point, in the order of their numbers."""
        key = self._steps.key(point)
        digest_of_step = digest(key)
        replayed = self._session.replay_step(digest_of_step, self._steps.count(point))
        if replayed:
            return replayed
        taken = self._take(point, key)
        first = self._session.next_number
        requests = self._requests(point, taken.prepared, first, JobKind.LOOP)
        # Fidelities first: they have no running estimates, and the next step needs them whole.
        futures = [
            self._session.dispatch(request, device=taken.device, step=digest_of_step)
            for request in reversed(requests)
        ][::-1]
        if self._ahead is not None:
            self._ahead.submitted(first, futures, taken.device)
        return futures

    def _take(self, point: Any, key: bytes) -> Taken:
        """The point, prepared."""
        ahead = self._ahead
        if self._outline is None:
            return Taken(self._prepared(point)) if ahead is None else ahead.decide(Step(key, point))
        outlook, outlined = self._outlook, None
        if outlook is not None:
            step = _outlined(outlook)
            outlined = self._outline(outlook) if ahead is None else ahead.decide(step).prepared
        return Taken(self._prepare(self._steps.argument(point), outlined))

    def _argument(self, what: Any) -> Any:
        return self._steps.argument(what) if self._outline is None else what

    def _prepared(self, point: Any) -> Any:
        return self._prepare(self._steps.argument(point))

    def _requests(self, point: Any, prepared: Any, first: int, kind: JobKind) -> list[Request]:
        usual = self._usual
        job = prepared if isinstance(prepared, NextJob) else NextJob(parameters=prepared)
        job = replace(
            job,
            circuit=usual.circuit if job.circuit is None else job.circuit,
            observable=usual.observable if job.observable is None else job.observable,
            shots=usual.shots if job.shots is None else job.shots,
        )
        return [
            self._session.request(
                each.circuit, each.parameters, each.observable, each.shots, kind=kind, number=first + index
            )
            for index, each in enumerate(self._steps.jobs(point, job))
        ]

    def _requests_ahead(self, point: Any, prepared: Any, number: int) -> list[Request]:
        return self._requests(point, prepared, number, JobKind.SPECULATIVE)

    def _wait(self, futures: list[QuantumFuture], point: Any) -> list[JobResult]:
        ahead, energies = self._ahead, futures[0]
        if ahead is None or all(future.done() for future in futures):
            return [_result(future) for future in futures]
        looks = _Looks(self, point)
        pending = Pending(
            ahead,
            looks,
            energies.number,
            fidelities=len(futures) > 1,
            tolerant=not self._exact,
            on_step=lambda estimate: self._session.step_on(energies, estimate),
        )

        def hear(running: RunningEstimate) -> None:
            if np.isfinite(running.values).all() and np.isfinite(running.std_errors).all():
                looks.shape = running.values.shape
                pending.hear_energies(as_estimate(running))

        energies.add_partial_callback(hear)
        for future in futures[1:]:
            future.add_done_callback(pending.hear_fidelities)
        pending.look_ahead()
        ahead.wait(lambda: None, pending.heard)
        results = [_result(future) for future in futures]
        ahead.came(results)
        return results

    # --- what may come next -------------------------------------------------------------------------

    def known(self, point: Any, overlaps: Vector | None) -> Iterator[Step]:
        """See `efaas.runner.pending.Looks`."""
        outlook = self._steps.outlook(overlaps)
        if self._outline is not None:
            if outlook is not None:
                yield _outlined(outlook)
        elif self._exact:
            for guess in self._steps.guesses(point, overlaps):
                yield Step(self._steps.key(guess), guess)

    def following(self, estimate: Estimate, shape: tuple[int, ...]) -> Iterator[Step]:
        """See `efaas.runner.pending.Looks`; shape (points, observables)."""
        if self._outline is None:
            for point in self._steps.after(estimate, shape, exactly=self._exact):
                yield Step(self._steps.key(point), point)


class _Looks:
    """Next steps of one pending point."""

    def __init__(self, loop: _Loop, point: Any) -> None:
        self._loop, self._point = loop, point
        self.shape: tuple[int, ...] = ()

    def known(self, overlaps: Vector | None) -> Iterator[Step]:
        return self._loop.known(self._point, overlaps)

    def following(self, estimate: Estimate) -> Iterator[Step]:
        return self._loop.following(estimate, self.shape)


def _outlined(outlook: Outlook) -> Step:
    """An outline as a step; its jobs are not known before the points are."""
    return Step(outlook.key(), outlook, runnable=False)


def _result(future: QuantumFuture) -> JobResult:
    result: JobResult = future.result()
    return result
