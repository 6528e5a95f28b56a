"""A loop that runs ahead of its results, by the very machine that does so in a runner.

`efaas.core.speculation.Speculator` decides what is prepared ahead and what of it is used. This host carries
that out on the classical nodes. Two things it cannot know, because no optimizer runs here:

- *Exact*: whether the first candidate is the true next point. It is with probability `hit_rate`, which is an
  input; the default was measured live with Nelder-Mead (docs/speculation.md).
- *Tolerant*: whether the whole result stays within two standard errors of the estimate from the first slice.
  That follows from the shots: with the part f of them in the first slice, final minus estimate has the
  variance (1 - f) of the estimate, so the step stands with probability erf(√2 / √(1 - f)).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from efaas.core.speculation import (
    AbandonPrepare,
    AwaitPrepared,
    CandidatesFound,
    Decision,
    EvaluationSubmitted,
    Event,
    LoopEnded,
    Mode,
    NextPointDecided,
    PrepareAhead,
    PrepareFinished,
    PrepareNow,
    Speculator,
    UsePrepared,
)
from efaas.simulator.classical import Nodes

_TOLERATED = 2.0
"""Standard errors that Tolerant takes."""

Schedule = Callable[[float, Callable[[float], None]], None]


def stands(part: float) -> float:
    """Probability that a step taken on this part of the shots, between 0 and 1, stands in the end."""
    return 1.0 if part >= 1 else math.erf(_TOLERATED / math.sqrt(2 * (1 - part)))


class RunningAhead:
    """The classical side of one loop.

    Args:
        mode: Exact or Tolerant.
        hit_rate: how often Exact's first candidate is right.
        nodes: where classical steps run.
        random: of whether candidates are right.
        at: calls something at a moment.
    """

    def __init__(
        self, mode: Mode, hit_rate: float, nodes: Nodes, random: np.random.Generator, at: Schedule
    ) -> None:
        self.speculator = Speculator(workers=1)
        self._mode = mode
        self._hit_rate = hit_rate
        self._nodes = nodes
        self._random = random
        self._at = at
        self._evaluation = -1
        self._step_s = 0.0
        # Steps under way, by candidate: since when (None: waits for a node), and what starts or ends them.
        self._steps: dict[bytes, tuple[float | None, Callable[[float], None]]] = {}
        self._then: Callable[[float, bool], None] | None = None

    def submitted(self, now_s: float, evaluation: int, step_s: float) -> None:
        """The evaluation's job was sent; the classical step after it will take `step_s` on a node."""
        self._evaluation, self._step_s = evaluation, step_s
        self._handle(EvaluationSubmitted(now_s, evaluation))
        if self._mode is Mode.EXACT and self.speculator.wants_candidates:
            self._find(now_s, self._hit_rate, informed=False)

    def estimated(self, now_s: float, part: float) -> None:
        """There is a running estimate from this part of the shots."""
        if self._mode is Mode.TOLERANT and self.speculator.wants_candidates:
            self._find(now_s, stands(part), informed=True)

    def told(self, now_s: float, then: Callable[[float, bool], None]) -> None:
        """The result is there; `then(moment, ahead)` is called once the next parameters are."""
        self._then = then
        self._handle(NextPointDecided(now_s, self._point(right=True)))

    def ended(self, now_s: float) -> None:
        """There is no next evaluation."""
        self._handle(LoopEnded(now_s))

    def _point(self, *, right: bool) -> bytes:
        return f"{self._evaluation}{'' if right else ' wrong'}".encode()

    def _find(self, now_s: float, chance: float, *, informed: bool) -> None:
        right = bool(self._random.random() < chance)
        self._handle(CandidatesFound(now_s, (self._point(right=right),), runnable=False, informed=informed))

    def _handle(self, event: Event) -> None:
        for decision in self.speculator.handle(event):
            self._carry_out(decision, event.now_s)

    def _carry_out(self, decision: Decision, now_s: float) -> None:
        match decision:
            case PrepareAhead(point):
                self._prepare(point, now_s)
            case AbandonPrepare(point):
                self._abandon(point, now_s)
            case UsePrepared():
                self._ready(now_s, ahead=True)
            case PrepareNow():
                self._nodes.acquire(now_s, self._prepare_now)
            case AwaitPrepared():
                pass

    def _prepare(self, point: bytes, now_s: float) -> None:
        step_s = self._step_s

        def start(at_s: float) -> None:
            self._steps[point] = (at_s, end)
            self._at(at_s + step_s, end)

        def end(at_s: float) -> None:
            if self._steps.get(point, (None, None))[1] is end:
                del self._steps[point]
                self._nodes.release(at_s)
                self._handle(PrepareFinished(at_s, point, step_s))

        self._steps[point] = (None, start)
        self._nodes.acquire(now_s, start, ahead=True)

    def _abandon(self, point: bytes, now_s: float) -> None:
        since_s, callback = self._steps.pop(point)
        if since_s is None:
            self._nodes.forget(callback)
        else:
            self._nodes.release(now_s)
        used_s = 0.0 if since_s is None else now_s - since_s
        # The speculator is in the middle of an event: it hears of the end right after it.
        self._at(now_s, lambda at_s: self._handle(PrepareFinished(at_s, point, used_s)))

    def _prepare_now(self, now_s: float) -> None:
        def end(at_s: float) -> None:
            self._nodes.release(at_s)
            self._ready(at_s, ahead=False)

        self._at(now_s + self._step_s, end)

    def _ready(self, now_s: float, *, ahead: bool) -> None:
        then, self._then = self._then, None
        assert then is not None
        then(now_s, ahead)
