"""What an optimizer may ask next, before it has been told, and steps that are taken on estimates.

*Exact.* What a deterministic method asks next depends on the pending value by a few comparisons only. Nelder-
Mead says which (`NelderMead.branches`); Powell and COBYLA are asked what they would do if the value were one
of a few guesses. SPSA and its kin move by an amount in proportion to the pending value, so their points can
be guessed only where a bound cuts the step (QN-SPSA, from the moment its fidelities are known) or where the
value does not matter yet (SPSA while it calibrates). What they do know is the line on which the next points
lie: `outlook`.

*Tolerant.* The step is taken on the running estimate of the first shots. It counts if the whole result stays
within `TOLERANCE` standard errors of that estimate. Stochastic methods (`takes_stale_points`) are then told
the *whole* result all the same: only the points that are on their way already were chosen by the estimate,
and no shot is lost. Methods with a memory of points (Nelder-Mead, Powell, COBYLA) are told the estimate.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from efaas.core.speculation import within_tolerance
from efaas.optimizers.base import Ask, Optimizer, Outlook, Tell, Vector

TOLERANCE = 2.0
"""Standard errors of the estimate that the whole result may be away from it."""

_REPLAYED = ("powell", "cobyla")
_RECENT = 6


def key_of(asked: Ask) -> bytes:
    """What identifies a step: the bytes of everything that it asks."""
    return b"|".join((asked.points.tobytes(), asked.overlaps.tobytes()))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A result from the first shots of a job, as far as a step needs it."""

    answers: Tell
    shots: int
    """For each point and basis."""

    def with_overlaps(self, overlaps: Vector) -> Estimate:
        """The same with the fidelities of the pending ask, which are whole."""
        return Estimate(replace(self.answers, overlaps=overlaps), self.shots)

    def accepts(self, final: Tell) -> bool:
        """Whether a step that was taken on this may stand, now that the whole result is known."""
        return within_tolerance(
            self.answers.values.tolist(), final.values.tolist(), self.answers.std_errors.tolist(), TOLERANCE
        )

    def record(self) -> dict[str, Any]:
        """As a journal keeps it."""
        answers = self.answers
        return {
            "values": answers.values.tolist(),
            "std_errors": answers.std_errors.tolist(),
            **({"overlaps": answers.overlaps.tolist()} if answers.overlaps.size else {}),
            "shots": self.shots,
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Estimate:
        """Read it back."""
        values, errors, overlaps = (
            np.array(record.get(name, ()), dtype=np.float64) for name in ("values", "std_errors", "overlaps")
        )
        return cls(Tell(values, errors, overlaps), int(record["shots"]))


class Foresight:
    """Guesses and previews of one optimizer.

    Args:
        optimizer: as it stands; told by `take` alone.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._keys: tuple[Ask, bytes, frozenset[bytes]] | None = None

    def outlook(self, overlaps: Vector | None = None) -> Outlook | None:
        """What is known of the next ask before the pending energies are; None if that is nothing.

        The optimizer keeps what it computed for it: directions drawn, a metric inverted.

        Args:
            overlaps: fidelities of the pending ask, where they are known.
        """
        outlook: Callable[[Vector | None], Outlook | None] | None
        outlook = getattr(self._optimizer, "outlook", None)
        return None if outlook is None else outlook(overlaps)

    def guesses(self, overlaps: Vector | None = None) -> Iterator[Ask]:
        """What may be asked after the pending ask, likeliest first; each costs what a preview costs.

        Args:
            overlaps: as in `outlook`.
        """
        branches = getattr(self._optimizer, "branches", None)
        if branches is not None:
            for answers in branches(overlaps):
                yield from self.after(answers)
        if self._optimizer.name in _REPLAYED:
            for value in self._values():
                yield from self.after(Tell(np.array([value]), np.zeros(1)))

    def _values(self) -> Iterator[float]:
        """Guesses of the pending value: like the last one, like the best, and beyond either."""
        if not self._recent:
            return
        recent = list(self._recent)
        best, spread = min(recent), max(recent) - min(recent) or abs(recent[-1]) or 1.0
        yield from (recent[-1], best, best - spread)
        yield from (recent[-1] + spread, best + spread / 2, best + 3 * spread)

    def after_exactly(self, answers: Tell) -> Iterator[Ask]:
        """As `after`, but only what may come true to the bit although the answers are an estimate.

        That is a branch, or the reply of a method that is replayed. Any other step on an estimate differs
        from the true one in its last bits at least, so that preparing it would be in vain.
        """
        for asked in self.after(answers):
            if self._optimizer.name in _REPLAYED or key_of(asked) in self._branch_keys(answers.overlaps):
                yield asked

    def _branch_keys(self, overlaps: Vector) -> frozenset[bytes]:
        """Keys of all branches of the pending ask, found once."""
        pending, known = self._optimizer.ask(), overlaps.tobytes()
        if self._keys is None or self._keys[0] is not pending or self._keys[1] != known:
            found = self.guesses(overlaps if overlaps.size else None)
            self._keys = (pending, known, frozenset(key_of(asked) for asked in found))
        return self._keys[2]

    def after(self, answers: Tell) -> Iterator[Ask]:
        """What is asked next if these are the answers; nothing if the method would be finished."""
        asked = self._optimizer.preview(answers)
        if asked is not None:
            yield asked

    def take(self, answers: Tell, estimate: Estimate | None) -> Ask | None:
        """Tell the optimizer the answers, or the estimate that a step was taken on.

        Args:
            answers: the whole result.
            estimate: what the step was taken on, if it stands.

        Returns:
            The points that were chosen by the estimate though the optimizer was told the whole result; None
            for everything else.
        """
        optimizer: Any = self._optimizer
        if answers.values.size:
            self._recent.append(float(answers.values[-1]))
        if estimate is None:
            optimizer.tell(answers)
            return None
        if not optimizer.takes_stale_points:
            optimizer.tell(estimate.answers)
            return None
        chosen: Ask | None = optimizer.preview(estimate.answers)
        optimizer.tell(answers)
        if chosen is None or optimizer.finished is not None:
            return None
        optimizer.ask_instead(chosen)
        return chosen
