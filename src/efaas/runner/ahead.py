"""Carries out what `efaas.core.speculation` decides: workers, speculative jobs, and the loop that waits.

A loop hands each step over as a key (its bytes: two steps are the same only if these are equal) and what it
needs to prepare it. `wait` waits for the jobs of an evaluation and meanwhile hears of workers and running
estimates; `decide` says which step is the true one and gives back what was prepared for it, wherever that
was done, and where its job is under way already.

All of it happens in the loop's own thread: other threads only put messages into the inbox. So the order of
events is the order of the inbox, and a test that brings an inbox and a clock of its own sees every
interleaving without a sleep.

**Where speculative jobs run.** On the device of the real job they begin when it ends, and hide the way to the
server and back. On twins of that device (frozen, same snapshot: the same counts, bit for bit) they run
while it runs. A twin is connected when the first job is on its way. One speculative evaluation for each
device; the real job of the evaluation after goes where its speculative one is, under the same job id.
"""

from __future__ import annotations

import concurrent.futures
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from efaas.core.speculation import (
    AbandonPrepare,
    AwaitPrepared,
    CancelAhead,
    CandidatesFound,
    Decision,
    EvaluationSubmitted,
    Event,
    LoopEnded,
    Mode,
    NextPointDecided,
    PrepareAhead,
    PrepareFailed,
    PrepareFinished,
    PrepareNow,
    ResultCameEarly,
    ShotsWasted,
    Speculator,
    SubmitAhead,
    UsePrepared,
)

if TYPE_CHECKING:
    from efaas.client import JobResult
    from efaas.runner.jobs import JobFuture, Request

_LOOK_S = 0.25
"""Wall seconds between two looks at the limits while jobs run."""


class Inbox(Protocol):
    """What `queue.SimpleQueue` is."""

    def put(self, item: Any) -> None:
        """Put a message in; from any thread."""

    def get(self, timeout: float | None = None) -> Any:
        """Take the next one; raises `queue.Empty` after `timeout` seconds."""


class _Queue:
    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def put(self, item: Any) -> None:
        self._queue.put(item)

    def get(self, timeout: float | None = None) -> Any:
        return self._queue.get(timeout=timeout)


class Jobs(Protocol):
    """The part of a dispatcher that is used here."""

    @property
    def device(self) -> str:
        """The device in use."""
        ...

    def submit_ahead(self, request: Request, device: str) -> JobFuture | None:
        """Send a speculative job, if that device can have it at once."""
        ...

    def withdraw(self, name: str, device: str) -> None:
        """A speculative result is not wanted."""
        ...

    def connect_also(self, device: str) -> None:
        """Connect to another device as well."""
        ...


class Workers(Protocol):
    """Where classical steps run beside the loop; `efaas.sdk.workers` has one."""

    count: int

    @property
    def is_ready(self) -> bool:
        """Whether a step would start at once."""
        ...

    def start(self, what: Any) -> concurrent.futures.Future[tuple[Any, float]]:
        """Run a step; gives its value and its CPU seconds."""
        ...

    def abandon(self, step: concurrent.futures.Future[tuple[Any, float]]) -> None:
        """End a step that nobody wants; its future fails at once or soon."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """A step that the loop may take."""

    key: bytes
    what: Any
    """What `prepare` needs."""
    runnable: bool = True
    """Whether its jobs are known once it is prepared, so that they may be sent ahead too."""


@dataclass(slots=True)
class _Launched:
    """Speculative jobs of one candidate."""

    device: str
    futures: list[JobFuture]
    began_s: float


@dataclass(frozen=True, slots=True)
class Taken:
    """The true step, ready to be submitted."""

    prepared: Any
    device: str = ""
    """Where its jobs are under way already; empty: nowhere."""
    hit: bool = False
    masked_s: float = 0.0


@dataclass(slots=True)
class _Evaluation:
    """The evaluation that is pending."""

    number: int = -1
    next_number: int = 0
    device: str = ""
    open: int = 0
    submitted_s: float = 0.0
    arrived_s: float = 0.0
    claimed: bool = False


@dataclass(frozen=True, slots=True)
class _Prepared:
    key: bytes
    future: concurrent.futures.Future[tuple[Any, float]]


@dataclass(frozen=True, slots=True)
class _Partial:
    number: int
    what: Any


@dataclass(slots=True)
class _Figures:
    """What the guesses at saved time and wasted shots stand on."""

    usual_s: float | None = None
    shots: int = 0
    launched: int = 0
    claimed: int = 0


class Ahead:
    """See the module's text.

    Args:
        mode: Exact or Tolerant.
        jobs: takes speculative jobs.
        prepare: prepares a step in the loop.
        requests: the speculative jobs of a step, what was prepared for it, and its first evaluation number.
        workers: prepare steps beside the loop, given what `Step.what` is; None: preparing costs nothing.
        twins: devices that give the same counts as the one in use, in groups by any of them.
        clock: wall seconds from anywhere.
        inbox: of messages; tests bring their own.
    """

    def __init__(
        self,
        mode: Mode,
        jobs: Jobs,
        *,
        prepare: Callable[[Any], Any],
        requests: Callable[[Any, Any, int], Sequence[Request]],
        workers: Workers | None = None,
        twins: Callable[[str], Sequence[str]] = lambda _: (),
        clock: Callable[[], float] = time.monotonic,
        inbox: Inbox | None = None,
    ) -> None:
        self.mode = mode
        self._jobs, self._prepare, self._requests = jobs, prepare, requests
        self._workers, self._twins, self._clock = workers, twins, clock
        self._inbox: Inbox = inbox or _Queue()
        self._speculator = Speculator(
            workers=workers.count if workers is not None else 64, speculative_jobs=1 + len(twins(jobs.device))
        )
        self._steps: dict[bytes, Any] = {}
        self._running: dict[bytes, concurrent.futures.Future[tuple[Any, float]]] = {}
        self._values: dict[bytes, Any] = {}
        self._launched: dict[bytes, _Launched] = {}
        self._now = _Evaluation()
        self._figures = _Figures()
        self._taken: Taken | None = None
        self._lock = threading.Lock()

    @property
    def wants_candidates(self) -> bool:
        """Whether candidates are worth finding now."""
        ready = self._workers is None or self._workers.is_ready
        return ready and self._speculator.wants_candidates

    def summary(self) -> dict[str, Any]:
        """What speculation brought and cost so far, for `result.json`."""
        report = self._speculator.report
        return {
            "mode": self.mode.value,
            "evaluations": report.evaluations,
            "paused_evaluations": report.paused_evaluations,
            "hits": report.hits,
            "hit_rate": report.hit_rate,
            "masked_s": report.masked_s,
            "masked_qpu_s": report.masked_qpu_s,
            "wasted_cpu_s": report.wasted_cpu_s,
            # As they were taken: a device may have refused what was decided.
            "speculative_jobs": self._figures.launched,
            "speculative_hits": self._figures.claimed,
            "wasted_shots": report.wasted_shots,
        }

    # --- what the loop says ---------------------------------------------------------------------------

    def submitted(self, number: int, futures: Sequence[concurrent.futures.Future[Any]], device: str) -> None:
        """The real jobs of an evaluation are on their way.

        Args:
            number: of the first of them.
            futures: of all of them.
            device: where their speculative jobs ran; empty: they are new.
        """
        where = device or self._jobs.device
        if self._now.number < 0:
            for twin in self._twins(where):
                self._jobs.connect_also(twin)
        now_s = self._clock()
        self._now = now = _Evaluation(
            number, number + len(futures), where, len(futures), now_s, claimed=bool(device)
        )

        def done(_: concurrent.futures.Future[Any]) -> None:
            with self._lock:
                now.open -= 1
                now.arrived_s = self._clock()
            self._inbox.put(None)

        self._feed(EvaluationSubmitted(now_s, number))
        for future in futures:
            future.add_done_callback(done)

    def listener(self, number: int) -> Callable[[Any], None]:
        """What is to hear of running estimates of an evaluation, from any thread."""
        return lambda estimate: self._inbox.put(_Partial(number, estimate))

    def offer(self, steps: Iterable[Step], *, informed: bool = False) -> None:
        """Steps that may come next, likeliest first; finding them stops when the result is there."""
        if not self.wants_candidates:
            return
        for step in steps:
            self._steps[step.key] = step.what
            self._feed(CandidatesFound(self._clock(), (step.key,), runnable=step.runnable, informed=informed))
            if not self._now.open:
                return

    def wait(
        self,
        look: Callable[[], None],
        on_partial: Callable[[Any], None],
    ) -> None:
        """Wait until all jobs of the evaluation have ended.

        Args:
            look: called four times a second; raises if the wait is to end.
            on_partial: is given what `listener` was given, in this thread.
        """
        while self._now.open:
            message = self._next(look)
            if isinstance(message, _Partial) and message.number == self._now.number:
                on_partial(message.what)

    def came(self, results: Sequence[JobResult]) -> None:
        """The results of the evaluation, for the figures."""
        figures, now = self._figures, self._now
        took_s = now.arrived_s - now.submitted_s
        figures.shots = sum(result.shots for result in results)
        if not now.claimed:
            before = figures.usual_s
            figures.usual_s = took_s if before is None else 0.7 * before + 0.3 * took_s
        elif figures.usual_s is not None:
            self._feed(ResultCameEarly(now.arrived_s, max(0.0, figures.usual_s - took_s)))

    def decide(self, step: Step) -> Taken:
        """This is the true next step; returns it prepared.

        Raises:
            Exception: whatever preparing it in the loop raised.
        """
        starting = self._workers is not None and not self._workers.is_ready
        if self._now.number < 0 or starting:
            return Taken(self._prepare(step.what))
        now_s = self._clock()
        self._steps[step.key] = step.what
        self._taken = None
        self._feed(NextPointDecided(now_s, step.key, max(0.0, now_s - self._now.arrived_s)))
        while (taken := self._answer()) is None:
            self._next(lambda: None)
        self._steps.clear()
        self._values.clear()
        self._launched.clear()
        return taken

    def _answer(self) -> Taken | None:
        return self._taken

    def end(self) -> None:
        """There is no next step."""
        self._feed(LoopEnded(self._clock()))

    # --- what happens meanwhile -----------------------------------------------------------------------

    def _next(self, look: Callable[[], None]) -> Any:
        try:
            message = self._inbox.get(timeout=_LOOK_S)
        except queue.Empty:
            look()
            return None
        if isinstance(message, _Prepared):
            self._prepared(message)
        return message

    def _prepared(self, message: _Prepared) -> None:
        if self._running.get(message.key) is message.future:
            del self._running[message.key]
        try:
            value, cpu_s = message.future.result()
        except (Exception, concurrent.futures.CancelledError) as error:
            self._feed(PrepareFailed(self._clock(), message.key, getattr(error, "cpu_s", 0.0)))
            return
        self._values[message.key] = value
        self._feed(PrepareFinished(self._clock(), message.key, cpu_s))

    def _feed(self, event: Event) -> None:
        decisions = deque(self._speculator.handle(event))
        while decisions:
            decisions.extend(self._carry_out(decisions.popleft()))

    def _carry_out(self, decision: Decision) -> list[Decision]:
        match decision:
            case PrepareAhead(key):
                return self._prepare_ahead(key)
            case AbandonPrepare(key):
                running = self._running.pop(key, None)
                if running is not None and self._workers is not None:
                    self._workers.abandon(running)
            case SubmitAhead(key):
                self._launch(key)
            case CancelAhead(key):
                self._cancel(key)
            case UsePrepared(key, masked_s):
                launched = self._launched.get(key)
                device = launched.device if launched is not None else ""
                self._figures.claimed += launched is not None
                self._taken = Taken(self._values[key], device, hit=True, masked_s=masked_s)
            case PrepareNow(key):
                self._taken = Taken(self._prepare(self._steps[key]))
            case AwaitPrepared():
                pass
        return []

    def _prepare_ahead(self, key: bytes) -> list[Decision]:
        if self._workers is None:
            self._values[key] = self._prepare(self._steps[key])
            return self._speculator.handle(PrepareFinished(self._clock(), key, 0.0))
        future = self._running[key] = self._workers.start(self._steps[key])
        future.add_done_callback(lambda ended: self._inbox.put(_Prepared(key, ended)))
        return []

    def _launch(self, key: bytes) -> None:
        here = self._now.device
        taken = {launched.device for launched in self._launched.values()}
        # An idle twin before the device whose real job must end first.
        for device in (*self._twins(here), here):
            if device in taken:
                continue
            requests = self._requests(self._steps[key], self._values[key], self._now.next_number)
            futures = [self._jobs.submit_ahead(request, device) for request in requests]
            launched = _Launched(device, [future for future in futures if future is not None], self._clock())
            if len(launched.futures) == len(requests):
                self._launched[key] = launched
                self._figures.launched += 1
                return
            self._take_back(launched)

    def _cancel(self, key: bytes) -> None:
        launched = self._launched.pop(key, None)
        if launched is None:
            return
        complete = all(future.done() and future.exception() is None for future in launched.futures)
        self._take_back(launched)
        figures, now = self._figures, self._now
        began_s = launched.began_s if launched.device != now.device else max(launched.began_s, now.arrived_s)
        if launched.device == now.device and now.open:
            return  # it waited behind the real job
        share = (self._clock() - began_s) / figures.usual_s if figures.usual_s else 0.0
        if complete:
            share = 1.0
        self._feed(ShotsWasted(self._clock(), round(min(1.0, share) * figures.shots)))

    def _take_back(self, launched: _Launched) -> None:
        for future in launched.futures:
            if not future.cancel():
                self._jobs.withdraw(future.id, launched.device)
