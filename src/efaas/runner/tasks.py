"""Jobs of a session that have no result yet: those that wait for a connection, and those on their way.

A `Task` is one job from its submit to its end, over however many connections and tries that takes. `Tasks`
keeps them; the dispatcher calls it under its own lock.
"""

from __future__ import annotations

import bisect
import concurrent.futures
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from efaas.core.qpu.messages import JobKind
from efaas.errors import JobFailed
from efaas.runner.connecting import Connected
from efaas.runner.jobs import JobFuture, Request

if TYPE_CHECKING:
    from efaas.client import JobResult
    from efaas.runner.jobs import PartialListener

RETRIES = 3
"""Further tries of a job that the server gave up on with the word that a retry can help."""

RETRY_DELAY_S = 0.2
"""Wall seconds before such a try; doubles with each."""


@dataclass(eq=False)
class Task:
    """One job on its way to a result."""

    request: Request
    future: JobFuture
    cpu_s: float
    """CPU seconds of the classical step that led to it."""
    on_partial: PartialListener | None = None
    connection: Connected | None = None
    """Where it was sent last."""
    tries: int = 0
    taken_back: bool = False
    """Whether it was cancelled so that it can go to another QPU."""
    not_before_s: float = 0.0
    """Monotonic wall time before which it is not tried again."""

    @property
    def is_guess(self) -> bool:
        """Whether it is a speculative job, which is never tried again and never moved."""
        return self.request.kind is JobKind.SPECULATIVE

    @property
    def may_retry(self) -> bool:
        """Whether it may be sent once more after a fault that a retry can mend."""
        return not self.is_guess and self.tries <= RETRIES and not self.future.cancel_wanted

    def put_off(self) -> None:
        """Wait before the next try, longer each time."""
        self.not_before_s = time.monotonic() + RETRY_DELAY_S * 2.0 ** (self.tries - 1)

    def settle(self, outcome: JobResult | Exception) -> None:
        """End its future; the first end counts."""
        if self.future.done():
            return
        try:
            if isinstance(outcome, Exception):
                self.future.set_exception(outcome)
            else:
                self.future.set_result(outcome)
        except concurrent.futures.InvalidStateError:  # two connections brought it at once
            pass

    def settle_cancelled(self) -> None:
        """End its future because it was cancelled."""
        self.settle(JobFailed("the job was cancelled", place=f"job {self.future.id}"))


class Tasks:
    """What waits, by evaluation number, and what is on its way; every method under the dispatcher's lock."""

    def __init__(self) -> None:
        self.waiting: list[Task] = []
        self.on_the_way: set[Task] = set()

    def line_up(self, task: Task) -> None:
        """Let a task wait for a connection, in the order of evaluations."""
        bisect.insort(self.waiting, task, key=lambda waiting: waiting.request.evaluation)

    def next(self) -> Task | None:
        """The first task that may be sent now, taken out of the line."""
        now_s = time.monotonic()
        for task in self.waiting:
            if task.not_before_s <= now_s:
                self.waiting.remove(task)
                return task
        return None

    def pause_s(self, longest_s: float) -> float:
        """Wall seconds until one may be sent; 0 if one may now, `longest_s` if none will sooner."""
        now_s = time.monotonic()
        return min([longest_s, *(max(0.0, task.not_before_s - now_s) for task in self.waiting)])

    def sent(self, task: Task, connected: Connected) -> None:
        """It goes out on a connection now."""
        task.connection = connected
        task.tries += 1
        self.on_the_way.add(task)

    def came(self, task: Task) -> None:
        """It has its result, by whatever connection."""
        self.on_the_way.discard(task)
        if task in self.waiting:
            self.waiting.remove(task)

    def lost_with(self, connected: Connected) -> list[Task]:
        """A connection is given up: real jobs line up again; returns the guesses, which end."""
        lost = [task for task in self.on_the_way if task.connection is connected]
        self.on_the_way.difference_update(lost)
        for task in lost:
            if not task.is_guess:
                self.line_up(task)
        return [task for task in lost if task.is_guess]

    def take_all(self) -> list[Task]:
        """All of them; none is left."""
        tasks = [*self.waiting, *self.on_the_way]
        self.waiting.clear()
        self.on_the_way.clear()
        return tasks

    def find(self, future: JobFuture) -> tuple[Task | None, Task | None]:
        """The task of a future: as a waiting one, which is taken out of the line, or as a sent one."""
        waiting = next((task for task in self.waiting if task.future is future), None)
        sent = next((task for task in self.on_the_way if task.future is future), None)
        if waiting is not None:
            self.waiting.remove(waiting)
        return waiting, sent

    @property
    def has_real_on_the_way(self) -> bool:
        """Whether a job that is no guess is on its way."""
        return any(not task.is_guess for task in self.on_the_way)
