"""A primitive's job: what run() returns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from qiskit.primitives import BasePrimitiveJob, PrimitiveResult

from efaas.errors import EfaasError, JobFailed, SessionEnded
from efaas.primitives.transport import Run

if TYPE_CHECKING:
    from efaas.client import JobResult

FINAL = ("DONE", "ERROR", "CANCELLED")
"""Statuses that a job keeps."""


class PrimitiveJob(BasePrimitiveJob):  # type: ignore[misc]
    """All PUBs of one run(), on their way to the QPU.

    Args:
        name: the job's id.
        session_id: of the session it belongs to.
        primitive: ``estimator`` or ``sampler``.
        runs: jobs on the QPU that it consists of.
        assemble: makes the result from theirs, in the same order.
    """

    def __init__(
        self,
        name: str,
        session_id: str,
        primitive: str,
        runs: Sequence[Run],
        assemble: Callable[[list[JobResult]], PrimitiveResult[Any]],
    ) -> None:
        super().__init__(name)
        self.session_id = session_id
        self.primitive_id = primitive
        self._runs = tuple(runs)
        self._assemble = assemble
        self._result: PrimitiveResult[Any] | None = None
        self._created_s = time.time()

    def result(self, timeout: float | None = None) -> PrimitiveResult[Any]:
        """The result, waited for.

        Args:
            timeout: wall seconds; None waits for ever.

        Raises:
            TimeoutError: it did not come in time; the job goes on.
            EfaasError: the job failed or was cancelled; see `efaas.errors`.
        """
        if self._result is None:
            deadline_s = None if timeout is None else time.monotonic() + timeout
            results = []
            for run in self._runs:
                left_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
                results.append(run.result(left_s))
            self._result = self._assemble(results)
        return self._result

    def wait_for_final_state(self, timeout: float | None = None) -> None:
        """Wait until the job has ended, however it did.

        Raises:
            TimeoutError: it has not in time.
        """
        try:
            self.result(timeout)
        except EfaasError:
            return

    def status(self) -> str:
        """INITIALIZING, QUEUED, RUNNING, DONE, ERROR or CANCELLED."""
        errors = [run.exception() for run in self._runs if run.done()]
        if any(error is not None for error in errors):
            failed = [run for run in self._runs if run.done() and run.exception() is not None]
            return "CANCELLED" if all(_was_dropped(run) for run in failed) else "ERROR"
        if len(errors) == len(self._runs):
            return "DONE"
        if errors or any(run.stage == "RUNNING" for run in self._runs):
            return "RUNNING"
        return "QUEUED" if any(run.stage == "QUEUED" for run in self._runs) else "INITIALIZING"

    def done(self) -> bool:
        """Whether it has its result."""
        return self.status() == "DONE"

    def running(self) -> bool:
        """Whether the QPU is at work on it."""
        return self.status() == "RUNNING"

    def cancelled(self) -> bool:
        """Whether it was cancelled before it had its result."""
        return self.status() == "CANCELLED"

    def errored(self) -> bool:
        """Whether it failed."""
        return self.status() == "ERROR"

    def in_final_state(self) -> bool:
        """Whether it has ended, however it did."""
        return self.status() in FINAL

    def cancel(self) -> bool:
        """Ask the QPU to drop what is not done.

        Returns:
            Whether there was anything left to drop.
        """
        dropped = [run.cancel() for run in self._runs]  # all of them, not only up to the first
        return any(dropped)

    def error_message(self) -> str | None:
        """Why it failed, if it did."""
        for run in self._runs:
            if run.done() and run.exception() is not None:
                return str(run.exception())
        return None

    def usage(self) -> float:
        """Device seconds charged so far."""
        return float(sum(result.qpu_s for result in self._results()))

    def metrics(self) -> dict[str, Any]:
        """When it was made, started and ended (RFC 3339), what it used, and where its time went.

        ``usage`` is in device seconds. ``timing`` sums over the jobs on the QPU: ``queue_s``,
        ``calibration_s`` and ``execution_s`` in device seconds, the others in wall seconds.
        """
        results = self._results()
        timings = [result.timing for result in results]
        started = [start_s for run in self._runs if (start_s := _started_s(run)) is not None]
        ended = [run.ended_s for run in self._runs if run.ended_s is not None]
        finished_s = max([self._created_s, *ended]) if len(ended) == len(self._runs) else None
        names = ("queue_s", "calibration_s", "execution_s", "ttns_s", "simulate_s", "round_trip_s")
        return {
            "timestamps": {
                "created": _stamp(self._created_s),
                "running": _stamp(min(started, default=None)),
                "finished": _stamp(finished_s),
            },
            "usage": {"quantum_seconds": self.usage(), "seconds": self.usage(), "status": self.status()},
            "shots": sum(result.shots for result in results),
            "qpu_jobs": [result.job_id for result in results],
            "device": sorted({result.device for result in results}),
            "calibration_epochs": sorted({result.calibration_epoch for result in results}),
            "timing": {name: sum(getattr(timing, name) for timing in timings) for name in names},
        }

    def _results(self) -> list[JobResult]:
        return [run.result() for run in self._runs if run.done() and run.exception() is None]


def _was_dropped(run: Run) -> bool:
    return not run.wanted and isinstance(run.exception(), JobFailed | SessionEnded)


def _started_s(run: Run) -> float | None:
    """When the QPU started; of a job that went through at once its server says only how long it took."""
    if run.started_s is None and run.ended_s is not None and run.exception() is None:
        return run.ended_s - run.result().timing.wall_execution_s
    return run.started_s


def _stamp(time_s: float | None) -> str | None:
    return None if time_s is None else datetime.fromtimestamp(time_s, UTC).isoformat()
