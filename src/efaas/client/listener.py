"""Who hears of a job: its owner's callbacks, and the job that can be awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any, Protocol

from efaas.client.results import Evaluation, JobResult
from efaas.errors import EfaasError


class JobListener(Protocol):
    """What a job's owner hears, all on the event loop of the stream."""

    def queued(self, position: int, estimated_start_s: float, reason: str) -> None:
        """It waits behind `position` jobs; the estimate is in device seconds from now."""

    def started(self) -> None:
        """Its first shots are taken."""

    def partial(self, shots: int, evaluations: tuple[Evaluation, ...]) -> None:
        """Running estimate after `shots` shots."""

    def done(self, result: JobResult) -> None:
        """It has its result."""

    def failed(self, error: EfaasError) -> None:
        """It gets none."""


QueuedCallback = Callable[[int, float, str], None]
StartedCallback = Callable[[], None]
PartialCallback = Callable[[int, tuple[Evaluation, ...]], None]


class JobCallbacks:
    """The part of a `JobListener` that only passes news on."""

    def __init__(
        self,
        on_queued: QueuedCallback | None,
        on_started: StartedCallback | None,
        on_partial: PartialCallback | None,
    ) -> None:
        self._on_queued, self._on_started, self._on_partial = on_queued, on_started, on_partial

    def queued(self, position: int, estimated_start_s: float, reason: str) -> None:
        """See `JobListener`."""
        if self._on_queued is not None:
            self._on_queued(position, estimated_start_s, reason)

    def started(self) -> None:
        """See `JobListener`."""
        if self._on_started is not None:
            self._on_started()

    def partial(self, shots: int, evaluations: tuple[Evaluation, ...]) -> None:
        """See `JobListener`."""
        if self._on_partial is not None:
            self._on_partial(shots, evaluations)


class StreamJob(JobCallbacks):
    """A job on its way; awaiting it gives its `JobResult` or raises the `EfaasError` that it ended with."""

    def __init__(
        self,
        name: str,
        on_queued: QueuedCallback | None,
        on_started: StartedCallback | None,
        on_partial: PartialCallback | None,
    ) -> None:
        self.id = name
        self._future: asyncio.Future[JobResult] = asyncio.get_running_loop().create_future()
        super().__init__(on_queued, on_started, on_partial)

    def __await__(self) -> Generator[Any, None, JobResult]:
        # Shielded: giving up the wait does not lose the result for others who wait.
        return asyncio.shield(self._future).__await__()

    def is_done(self) -> bool:
        """Whether there is a result or an error."""
        return self._future.done()

    def done(self, result: JobResult) -> None:
        """See `JobListener`."""
        if not self._future.done():
            self._future.set_result(result)

    def failed(self, error: EfaasError) -> None:
        """See `JobListener`."""
        if not self._future.done():
            self._future.set_exception(error)
            self._future.exception()  # an error nobody awaits is no warning
