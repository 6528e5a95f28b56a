"""Waiting for jobs without losing sight of the session's limits."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from efaas.errors import SessionEnded
from efaas.runner.account import Account
from efaas.runner.limits import Limits

if TYPE_CHECKING:
    from efaas.client import JobResult
    from efaas.runner.jobs import JobFuture

T = TypeVar("T")

_LOOK_S = 0.25
"""Wall seconds between two looks at the limits while a job runs."""


class LimitReached(SessionEnded):
    """The session has used what `spec.limits` allows; it ends as Expired."""

    code = "LimitReached"


class Waiting:
    """Waits for jobs of one session.

    Args:
        limits: of the session.
        account: what it has used.
        elapsed_s: wall seconds in which the session was alive.
        clock: wall seconds from anywhere.
    """

    def __init__(
        self, limits: Limits, account: Account, elapsed_s: Callable[[], float], clock: Callable[[], float]
    ) -> None:
        self._limits = limits
        self._account = account
        self._elapsed_s = elapsed_s
        self._clock = clock
        self._idle_since_s = clock()

    def check(self) -> None:
        """Raise if a limit is reached; the time since the last result counts as idle.

        Raises:
            LimitReached: with the limit in words.
        """
        self._raise(self._clock() - self._idle_since_s)

    def _raise(self, idle_s: float) -> None:
        reason = self._limits.reached(self._account.usage, self._elapsed_s(), idle_s)
        if reason is not None:
            raise LimitReached(reason)

    def look(self, futures: Sequence[JobFuture]) -> None:
        """Raise if a limit is reached while these run.

        Raises:
            LimitReached: all are cancelled.
        """
        try:
            self._raise(0.0)
        except LimitReached:
            for future in futures:
                future.cancel()
            raise

    def some(self, futures: Sequence[JobFuture]) -> list[JobFuture]:
        """Wait until at least one is done; returns those that are, in the order given.

        Raises:
            LimitReached: a limit was reached first; all are cancelled.
        """
        while True:
            done, _ = concurrent.futures.wait(
                futures, timeout=_LOOK_S, return_when=concurrent.futures.FIRST_COMPLETED
            )
            if done:
                self._idle_since_s = self._clock()
                return [future for future in futures if future in done]
            self.look(futures)

    def result(self, future: JobFuture) -> JobResult:
        """The result of one job.

        Raises:
            LimitReached: a limit was reached first; the job is cancelled.
            EfaasError: as the job ended.
        """
        return self.some([future])[0].result()
