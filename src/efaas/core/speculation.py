"""Lets the classical side of a loop run ahead of the quantum results (EF-QuantumFuture).

One iteration of a loop is: a result arrives, the optimizer decides the next point (`decide`, milliseconds),
the point is made ready for the QPU (`prepare`, the costly classical step), and it is submitted. While the QPU
works on evaluation n, the point of evaluation n + 1 is unknown, but often it is one of a few *candidates*:
the branches of Nelder-Mead, the replies of a deterministic optimizer to guessed values, a step taken on the
estimate from the first slices. This machine decides which candidates are prepared ahead, in which order and
on how many workers, which of them also go to an idle QPU as speculative jobs, and what of that is used when
the truth is known.

What it promises:

- **Nothing is used but what is true.** A candidate is identified by the bytes of its point; it is committed
  only if the decided point has exactly these bytes (Exact), or because the host committed the very estimate
  that led to it (Tolerant: `within_tolerance`). What is not committed leaves no trace but a count of what it
  cost.
- **A candidate is prepared at most once at a time.** One that made way for a likelier candidate may come
  again when newer estimates speak for it; what it had used is wasted, and counted.
- **Better information takes precedence.** Candidates that follow from the estimate of the first shots
  (`CandidatesFound.informed`) take the workers of mere guesses. A guess that is not the first of its list
  is started only if it can be ready before the result, as far as past evaluations tell: a wrong one would
  else occupy its worker while the next evaluation's first guess waits for it.
- **It stops when it does not pay.** The seconds it masked and the seconds it cost the loop are averaged over
  the last evaluations; below break-even it pauses, and probes again after a while, so that a loop with a
  cheap classical step loses next to nothing.

The host carries out decisions in order and returns what became of them; like every machine of the core it is
given the time with each event. Times are wall seconds of the runner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """How far the classical side may run ahead."""

    OFF = "Off"
    EXACT = "Exact"
    TOLERANT = "Tolerant"


# --- events -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at `now_s`."""

    now_s: float


@dataclass(frozen=True, slots=True)
class EvaluationSubmitted(Event):
    """The real job of an evaluation went to the QPU."""

    evaluation: int


@dataclass(frozen=True, slots=True)
class CandidatesFound(Event):
    """Points that the next evaluation may have, likeliest first; those known already are ignored.

    `cost_s` is what finding them cost the loop itself.
    """

    points: tuple[bytes, ...]
    cost_s: float = 0.0
    runnable: bool = True
    """Whether they may also run on an idle QPU."""
    informed: bool = False
    """Whether they follow from what is known of the pending result, and so outrank what came before."""


@dataclass(frozen=True, slots=True)
class PrepareFinished(Event):
    """A worker has prepared a candidate."""

    point: bytes
    cpu_s: float


@dataclass(frozen=True, slots=True)
class PrepareFailed(Event):
    """A worker could not prepare a candidate; the real step will find out why, if it comes to that."""

    point: bytes
    cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class NextPointDecided(Event):
    """The result is there and the optimizer has decided; the truth about the candidates.

    `late_s` is how much later the loop got to the result because of speculation.
    """

    point: bytes
    late_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ResultCameEarly(Event):
    """A speculative job that became the real one brought its result this much earlier than a new one."""

    saved_s: float


@dataclass(frozen=True, slots=True)
class ShotsWasted(Event):
    """A speculative job that nobody used had taken about this many shots."""

    shots: int


@dataclass(frozen=True, slots=True)
class LoopEnded(Event):
    """There is no next evaluation."""


# --- decisions ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Decision:
    """Something the host must do."""


@dataclass(frozen=True, slots=True)
class PrepareAhead(Decision):
    """Prepare a candidate on a worker."""

    point: bytes


@dataclass(frozen=True, slots=True)
class AbandonPrepare(Decision):
    """Nobody wants this candidate any more: stop its worker's step if that is possible."""

    point: bytes


@dataclass(frozen=True, slots=True)
class SubmitAhead(Decision):
    """Send a prepared candidate to the QPU as a speculative job, under the real job's id."""

    point: bytes
    evaluation: int


@dataclass(frozen=True, slots=True)
class CancelAhead(Decision):
    """Take a speculative job back."""

    point: bytes
    evaluation: int


@dataclass(frozen=True, slots=True)
class UsePrepared(Decision):
    """A hit: submit what was prepared for this point."""

    point: bytes
    masked_s: float


@dataclass(frozen=True, slots=True)
class AwaitPrepared(Decision):
    """A late hit: the right step is running; `UsePrepared` follows its end."""

    point: bytes


@dataclass(frozen=True, slots=True)
class PrepareNow(Decision):
    """A miss: prepare the point in the loop."""

    point: bytes


# --- the machine --------------------------------------------------------------------------------------


class _Stage(StrEnum):
    WAITING = "waiting"
    PREPARING = "preparing"
    PREPARED = "prepared"
    FAILED = "failed"


@dataclass(slots=True)
class _Candidate:
    point: bytes
    runnable: bool
    stage: _Stage = _Stage.WAITING
    started_s: float = 0.0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    submitted: bool = False


@dataclass(slots=True)
class SpeculationReport:
    """What speculation brought and cost, over a session."""

    evaluations: int = 0
    """Next points decided while speculation was on, paused evaluations left out."""
    hits: int = 0
    """Decided points of which the classical step was under way or done."""
    masked_s: float = 0.0
    """Wall seconds of classical steps that ran while the QPU worked."""
    wasted_cpu_s: float = 0.0
    """CPU seconds of steps that nobody used."""
    speculative_jobs: int = 0
    speculative_hits: int = 0
    """Speculative jobs that became the real one."""
    masked_qpu_s: float = 0.0
    """Wall seconds by which speculative jobs brought their results earlier than new jobs would have."""
    wasted_shots: int = 0
    """Shots that speculative jobs took and nobody used; free of charge."""
    paused_evaluations: int = 0
    """Evaluations in which speculation paused, because it had not paid."""

    @property
    def hit_rate(self) -> float:
        """Share of decided points that were hits; 0 before the first."""
        return self.hits / self.evaluations if self.evaluations else 0.0


_HOPE = 1.2
"""A second guess is started if it would be ready within this share of a usual evaluation."""


class Speculator:
    """Decides what of a loop's next step is done ahead; see the module's text.

    Args:
        workers: classical steps that may run at once beside the loop.
        speculative_jobs: candidates of one evaluation that may run on idle QPUs at once; 0: none.
        window: evaluations over which gain and cost are averaged before it may pause.
        probe_every: paused evaluations after which one is tried again.
    """

    def __init__(
        self, *, workers: int = 1, speculative_jobs: int = 0, window: int = 20, probe_every: int = 50
    ) -> None:
        if workers < 0 or speculative_jobs < 0 or window < 1 or probe_every < 1:
            raise ValueError(
                "workers and speculative_jobs must be 0 or more, window and probe_every 1 or more"
            )
        self.report = SpeculationReport()
        self._workers = workers
        self._speculative_jobs = speculative_jobs
        self._window = window
        self._probe_every = probe_every
        self._evaluation = -1
        self._candidates: dict[bytes, _Candidate] = {}
        # Steps that were abandoned but still occupy a worker until it says so.
        self._leaving: dict[bytes, int] = {}
        self._awaited: bytes | None = None
        self._decided_s = 0.0
        self._submitted_s = 0.0
        # Smoothed wall seconds of an evaluation and of a classical step; None before the first.
        self._evaluation_s: float | None = None
        self._step_s: float | None = None
        # Seconds won (masked) less seconds that speculation cost the loop, one entry an evaluation.
        self._gains_s: list[float] = []
        self._cost_s = 0.0
        self._paused_for = 0

    @property
    def wants_candidates(self) -> bool:
        """Whether candidates for the pending evaluation are worth finding now."""
        return self._paused_for == 0 and self._workers > 0

    def handle(self, event: Event) -> list[Decision]:
        """Take an event; return what is to be done, in order.

        Raises:
            ValueError: the event cannot be now (a step ended that was never started); nothing has changed.
        """
        match event:
            case EvaluationSubmitted():
                return self._handle_submitted(event)
            case CandidatesFound():
                return self._handle_candidates(event)
            case PrepareFinished() | PrepareFailed():
                return self._handle_prepared(event)
            case NextPointDecided():
                return self._handle_decided(event)
            case ResultCameEarly():
                self.report.masked_qpu_s += event.saved_s
                self._cost_s -= event.saved_s
                return []
            case ShotsWasted():
                self.report.wasted_shots += event.shots
                return []
            case LoopEnded():
                return self._drop_all_but(None)
            case _:
                raise ValueError(f"{type(event).__name__} is not an event of speculation")

    def _handle_submitted(self, event: EvaluationSubmitted) -> list[Decision]:
        decisions = self._drop_all_but(None)
        self._evaluation = event.evaluation
        self._submitted_s = event.now_s
        return decisions

    def _handle_candidates(self, event: CandidatesFound) -> list[Decision]:
        self._cost_s += event.cost_s
        if not self.wants_candidates:
            return []
        found = [point for point in event.points if point not in self._leaving]
        for point in found:
            if point not in self._candidates:
                self._candidates[point] = _Candidate(point, event.runnable)
        decisions: list[Decision] = []
        if event.informed and found:
            informed = {point: self._candidates[point] for point in found}
            # In the order of their likelihood, before all mere guesses.
            self._candidates = informed | self._candidates
            if self._candidates[found[0]].stage is not _Stage.FAILED:
                decisions = self._make_room(found[0])
        return [*decisions, *self._fill_workers(event.now_s)]

    def _make_room(self, best: bytes) -> list[Decision]:
        """Drop what keeps the likeliest candidate from its worker or its QPU: the unlikeliest first."""
        decisions: list[Decision] = []
        preparing = [each for each in self._candidates.values() if each.stage is _Stage.PREPARING]
        busy = len(preparing) + sum(self._leaving.values())
        others = [each.point for each in preparing if each.point != best]
        if self._candidates[best].stage is _Stage.WAITING and busy >= self._workers and others:
            decisions += self._drop(others[-1])
        submitted = [each.point for each in self._candidates.values() if each.submitted]
        if self._speculative_jobs and best not in submitted and len(submitted) >= self._speculative_jobs:
            candidate = self._candidates[submitted[-1]]
            candidate.submitted = False
            decisions.append(CancelAhead(candidate.point, self._evaluation + 1))
        if self._candidates[best].stage is _Stage.PREPARED and not self._candidates[best].submitted:
            decisions += self._submit_ahead(self._candidates[best])
        return decisions

    def _handle_prepared(self, event: PrepareFinished | PrepareFailed) -> list[Decision]:
        if event.point in self._leaving:
            self._leaving[event.point] -= 1
            if not self._leaving[event.point]:
                del self._leaving[event.point]
            self.report.wasted_cpu_s += event.cpu_s
            return self._fill_workers(event.now_s)
        candidate = self._candidates.get(event.point)
        if candidate is None or candidate.stage is not _Stage.PREPARING:
            raise ValueError("a classical step ended that was not running")
        candidate.cpu_s = event.cpu_s
        candidate.wall_s = event.now_s - candidate.started_s
        self._step_s = _smoothed(self._step_s, candidate.wall_s)
        failed = isinstance(event, PrepareFailed)
        candidate.stage = _Stage.FAILED if failed else _Stage.PREPARED
        if event.point == self._awaited:
            self._awaited = None
            masked_s = 0.0 if failed else max(0.0, self._decided_s - candidate.started_s)
            return self._commit(candidate, masked_s, failed=failed)
        return [*self._submit_ahead(candidate), *self._fill_workers(event.now_s)]

    def _handle_decided(self, event: NextPointDecided) -> list[Decision]:
        self._decided_s = event.now_s
        self._cost_s += event.late_s
        self._evaluation_s = _smoothed(self._evaluation_s, event.now_s - self._submitted_s)
        paused = self._paused_for > 0
        if paused:
            self._paused_for -= 1
            self.report.paused_evaluations += 1
            return [PrepareNow(event.point)]
        self.report.evaluations += 1
        decisions = self._drop_all_but(event.point)
        candidate = self._candidates.get(event.point)
        if candidate is None or candidate.stage in (_Stage.WAITING, _Stage.FAILED):
            self._candidates.pop(event.point, None)
            self._book(0.0)
            return [*decisions, PrepareNow(event.point)]
        if candidate.stage is _Stage.PREPARING:
            self._awaited = event.point
            return [*decisions, AwaitPrepared(event.point)]
        return [*decisions, *self._commit(candidate, candidate.wall_s, failed=False)]

    def _commit(self, candidate: _Candidate, masked_s: float, *, failed: bool) -> list[Decision]:
        del self._candidates[candidate.point]
        self._book(masked_s)
        if failed:
            self.report.wasted_cpu_s += candidate.cpu_s
            return [PrepareNow(candidate.point)]
        self.report.hits += 1
        self.report.speculative_hits += candidate.submitted
        self.report.masked_s += masked_s
        return [UsePrepared(candidate.point, masked_s)]

    def _fill_workers(self, now_s: float) -> list[Decision]:
        """Start waiting candidates, likeliest first, on workers that are free."""
        busy = sum(self._leaving.values())
        busy += sum(each.stage is _Stage.PREPARING for each in self._candidates.values())
        decisions: list[Decision] = []
        for rank, candidate in enumerate(self._candidates.values()):
            if busy >= self._workers:
                break
            if candidate.stage is _Stage.WAITING and (rank == 0 or self._can_be_ready(now_s)):
                candidate.stage = _Stage.PREPARING
                candidate.started_s = now_s
                busy += 1
                decisions.append(PrepareAhead(candidate.point))
        return decisions

    def _can_be_ready(self, now_s: float) -> bool:
        """Whether a step that starts now is likely to end before the pending result comes."""
        if self._step_s is None or self._evaluation_s is None:
            return True
        return now_s + self._step_s <= self._submitted_s + _HOPE * self._evaluation_s

    def _submit_ahead(self, candidate: _Candidate) -> list[Decision]:
        running = sum(each.submitted for each in self._candidates.values())
        ready = candidate.runnable and candidate.stage is _Stage.PREPARED
        if not ready or running >= self._speculative_jobs:
            return []
        candidate.submitted = True
        self.report.speculative_jobs += 1
        return [SubmitAhead(candidate.point, self._evaluation + 1)]

    def _drop_all_but(self, point: bytes | None) -> list[Decision]:
        return [
            decision
            for candidate in [each for each in self._candidates if each != point]
            for decision in self._drop(candidate)
        ]

    def _drop(self, point: bytes) -> list[Decision]:
        decisions: list[Decision] = []
        candidate = self._candidates.pop(point)
        if candidate.stage is _Stage.PREPARING:
            self._leaving[point] = self._leaving.get(point, 0) + 1
            decisions.append(AbandonPrepare(point))
        if candidate.submitted:
            decisions.append(CancelAhead(point, self._evaluation + 1))
        self.report.wasted_cpu_s += candidate.cpu_s
        return decisions

    def _book(self, masked_s: float) -> None:
        """Average gain against cost; pause when a full window has not paid."""
        self._gains_s.append(masked_s - self._cost_s)
        self._cost_s = 0.0
        if len(self._gains_s) >= self._window:
            if sum(self._gains_s) <= 0.0:
                self._paused_for = self._probe_every
            self._gains_s.clear()


def _smoothed(before: float | None, value: float) -> float:
    return value if before is None else 0.7 * before + 0.3 * value


def within_tolerance(
    estimates: Sequence[float], finals: Sequence[float], std_errors: Sequence[float], k: float
) -> bool:
    """Whether every final value stays within k standard errors of the estimate that a step was taken on.

    Args:
        estimates: values that the step was told.
        finals: the same values from all shots.
        std_errors: standard errors of the estimates.
        k: how many standard errors are tolerated.
    """
    return all(
        abs(final - estimate) <= k * error
        for estimate, final, error in zip(estimates, finals, std_errors, strict=True)
    )
