"""The future of a quantum job, in the words of `concurrent.futures`."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from efaas.client import JobResult

    _ResultFuture = concurrent.futures.Future[JobResult]
else:
    _ResultFuture = concurrent.futures.Future


class QuantumFuture(_ResultFuture):
    """A job on its way; `result()` gives a `JobResult`, whose `values` have the shape (points, observables).

    `concurrent.futures.wait` and `as_completed` work with it. The result is in the journal before it is here.

    Attributes:
        number: running number of the submit in its session, from 0.
        id: the job's id.
    """

    def __init__(self, number: int, name: str, cancel: Callable[[], bool] | None = None) -> None:
        super().__init__()
        self.number = number
        self.id = name
        self._cancel_job = cancel
        self.set_running_or_notify_cancel()

    def cancel(self) -> bool:
        """Ask the QPU to drop the job; it ends with `JobFailed`, or with its result if that was faster.

        Returns:
            False if it has ended already.
        """
        return False if self.done() or self._cancel_job is None else self._cancel_job()
