"""The best that has been seen: kept beside an optimizer, whose own `point` may be an average or a mean.

With shot noise the lowest value seen is too low on average: it was chosen for its luck as well as for its
energy. It is good for progress and for stopping; the energy that is reported comes from one more evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from efaas.errors import InputError
from efaas.optimizers.base import Ask, Estimate, Tell


@dataclass(slots=True)
class BestSeen:
    """Lowest value so far, where and when; the earlier one where two are equal.

    Attributes:
        estimate: point, value and standard error; None before the first.
        iteration: iteration it belongs to, -1 before the first.
    """

    estimate: Estimate | None = None
    iteration: int = -1

    def see(self, estimate: Estimate | None, iteration: int) -> bool:
        """Look at an optimizer's `estimate`; tells whether it is the best so far."""
        if estimate is None or (self.estimate is not None and estimate.value >= self.estimate.value):
            return False
        self.estimate, self.iteration = estimate, iteration
        return True

    def see_told(self, asked: Ask, answers: Tell) -> bool:
        """Look at each point that was measured; tells whether one of them is the best so far.

        For methods whose points are a quarter turn away from where they stand (Adam, Rotosolve), `see`
        tells more.
        """
        if len(answers.values) == 0:
            return False
        row = int(np.argmin(answers.values))
        found = Estimate(asked.points[row].copy(), float(answers.values[row]), float(answers.std_errors[row]))
        return self.see(found, asked.iteration)

    def state(self) -> dict[str, Any]:
        """As JSON-ready values."""
        estimate = self.estimate
        return {
            "iteration": self.iteration,
            "estimate": estimate
            and {"point": estimate.point.tolist(), "value": estimate.value, "stdError": estimate.std_error},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> BestSeen:
        """Go on from `state`.

        Raises:
            InputError: it is not such a state.
        """
        try:
            found = state["estimate"]
            estimate = found and Estimate(
                np.array(found["point"], dtype=np.float64), float(found["value"]), float(found["stdError"])
            )
            return cls(estimate, int(state["iteration"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"is not a best point ({error!r}); start the session anew", place="state"
            ) from None
