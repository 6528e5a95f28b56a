"""The future of a quantum job, in the words of `concurrent.futures` and of asyncio."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from efaas.optimizers.base import Vector

if TYPE_CHECKING:
    from efaas.client import JobResult
    from efaas.client.results import Evaluation
    from efaas.runner.foresight import Estimate

    _ResultFuture = concurrent.futures.Future[JobResult]
    _AnyFuture = concurrent.futures.Future[Any]
else:
    _ResultFuture = _AnyFuture = concurrent.futures.Future

F = TypeVar("F", bound="concurrent.futures.Future[Any]")


@dataclass(frozen=True, slots=True)
class RunningEstimate:
    """What a job's result looks like after its first shots."""

    shots: int
    """For each point and measurement basis."""
    values: Vector
    """Shape (points, observables)."""
    std_errors: Vector
    """Shape (points, observables): standard errors of `values`."""


class _Awaitable(_AnyFuture):
    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.wrap_future(self).__await__()

    def then(self, step: Callable[[Any], Any]) -> StepFuture:
        """The result of a step that is run, in a thread of its own, when this has its result.

        Args:
            step: given the result. What it raises, and what this future fails with, is what the step's
                future fails with.
        """
        return StepFuture(self, step)


class StepFuture(_Awaitable):
    """The result of a step that follows a result; `then` gives it."""

    def __init__(self, before: concurrent.futures.Future[Any], step: Callable[[Any], Any]) -> None:
        super().__init__()
        self._before, self._step = before, step
        # Not in the thread that brings results: a step may submit and wait for further ones.
        before.add_done_callback(
            lambda _: threading.Thread(target=self._run, name="quantum-then", daemon=True).start()
        )

    def _run(self) -> None:
        if not self.set_running_or_notify_cancel():
            return
        try:
            self.set_result(self._step(self._before.result()))
        except BaseException as error:
            self.set_exception(error)


class QuantumFuture(_Awaitable, _ResultFuture):
    """A job on its way; `result()` gives a `JobResult`, whose `values` have the shape (points, observables).

    Everything of `concurrent.futures.Future`, `await`, and running estimates. The result is in the journal
    before it is here.

    Attributes:
        number: running number of the submit in its session, from 0.
        id: the job's id.
        stepped_on: the estimate that the next step was taken on, for a loop in Tolerant mode.
    """

    def __init__(self, number: int, name: str, cancel: Callable[[], bool] | None = None) -> None:
        super().__init__()
        self.number = number
        self.id = name
        self.stepped_on: Estimate | None = None
        self._cancel_job = cancel
        self._partial: RunningEstimate | None = None
        self._listeners: list[Callable[[RunningEstimate], None]] = []
        self._listeners_lock = threading.Lock()
        self.set_running_or_notify_cancel()

    def cancel(self) -> bool:
        """Ask the QPU to drop the job; it ends with `JobFailed`, or with its result if that was faster.

        Returns:
            False if it has ended already.
        """
        return False if self.done() or self._cancel_job is None else self._cancel_job()

    def cancels_with(self, cancel: Callable[[], bool]) -> None:
        """What `cancel` calls; set by the session."""
        self._cancel_job = cancel

    def partial(self) -> RunningEstimate | None:
        """The newest running estimate; None before the first, which comes with the job's first slice.

        A device makes them for jobs that it runs in slices: batch work, and iterations of loops where its
        `queue.sliceLoops` is set.
        """
        return self._partial

    def add_partial_callback(self, listener: Callable[[RunningEstimate], None]) -> None:
        """Call this with each running estimate, the newest one at once; in the thread that brings them."""
        with self._listeners_lock:
            self._listeners.append(listener)
            newest = self._partial
        if newest is not None:
            listener(newest)

    async def partials(self) -> AsyncIterator[RunningEstimate]:
        """Running estimates as they come, until the job has ended; a slow reader gets the newest only."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def wake(_: Any) -> None:
            loop.call_soon_threadsafe(changed.set)

        self.add_partial_callback(wake)
        self.add_done_callback(wake)
        shown: RunningEstimate | None = None
        while True:
            await changed.wait()
            changed.clear()
            newest = self._partial
            if newest is not None and newest is not shown:
                shown = newest
                yield newest
            if self.done():
                return

    def take_partial(self, shots: int, evaluations: tuple[Evaluation, ...]) -> None:
        """A running estimate came; called by the session."""
        if self.done() or not evaluations or not len(evaluations[0].values):
            return
        import numpy as np

        estimate = RunningEstimate(
            shots,
            np.stack([item.values for item in evaluations]),
            np.stack([item.std_errors for item in evaluations]),
        )
        with self._listeners_lock:
            self._partial = estimate
            listeners = list(self._listeners)
        for listener in listeners:
            listener(estimate)


def as_completed(futures: Iterable[F], timeout: float | None = None) -> Iterator[F]:
    """The futures in the order in which they end, as `concurrent.futures.as_completed`."""
    yield from concurrent.futures.as_completed(futures, timeout)  # type: ignore[misc]


def wait(
    futures: Iterable[F], timeout: float | None = None, return_when: str = concurrent.futures.ALL_COMPLETED
) -> concurrent.futures._base.DoneAndNotDoneFutures[Any]:
    """Wait for futures, as `concurrent.futures.wait`: a pair of sets, done and not done."""
    return concurrent.futures.wait(futures, timeout, return_when)
