"""When a loop ends: the rules of `spec.stop`, as a machine told of events that answers with a reason.

Times are arguments. The caller says how long the session has run and how much device time it has used, so
that the rule gives the same answer on resume, in a simulator and in a test. Once a reason has been given it
stays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from efaas.api.quantities import seconds
from efaas.errors import InputError, ManifestError

if TYPE_CHECKING:
    from efaas.api.session import Stop


class StopReason(StrEnum):
    """Why a loop ended, in the order in which the rules are looked at."""

    MAX_ITERATIONS = "MaxIterations"
    TOLERANCE = "ToleranceReached"
    MAX_DURATION = "MaxDuration"
    MAX_QPU_TIME = "MaxQpuTime"


class StoppingRule:
    """The stopping rule of one session.

    Args:
        max_iterations: optimizer iterations.
        tolerance: energy; ends when the best value improved by less than this over the window. None: never.
        window: iterations.
        max_duration_s: wall seconds since the session's first iteration. None: no limit.
        max_qpu_time_s: device seconds used. None: no limit.
    """

    def __init__(
        self,
        *,
        max_iterations: int,
        tolerance: float | None = None,
        window: int = 20,
        max_duration_s: float | None = None,
        max_qpu_time_s: float | None = None,
    ) -> None:
        self.max_iterations = max_iterations
        self.tolerance = tolerance
        self.window = window
        self.max_duration_s = max_duration_s
        self.max_qpu_time_s = max_qpu_time_s
        self.reason: StopReason | None = None
        # (iteration, best value up to it), ascending, iterations unique; the first entry is the last one
        # that is at least a window old, so that at most window + 1 are kept.
        self._bests: list[tuple[int, float]] = []

    @classmethod
    def from_spec(cls, stop: Stop) -> StoppingRule:
        """The rule of `spec.stop`.

        Raises:
            ManifestError: the tolerance is not positive, or too large to be one.
        """
        tolerance = None if stop.tolerance is None else float(stop.tolerance)
        if tolerance is not None and not 0 < tolerance <= 1e100:
            raise ManifestError(
                f"is {tolerance:g}; it must be above 0 and at most 1e100", place="spec.stop.tolerance"
            )
        return cls(
            max_iterations=stop.max_iterations,
            tolerance=tolerance,
            window=stop.window,
            max_duration_s=None if stop.max_duration is None else seconds(stop.max_duration),
            max_qpu_time_s=None if stop.max_qpu_time is None else seconds(stop.max_qpu_time),
        )

    def observe(
        self, *, iterations: int, value: float | None, duration_s: float, qpu_time_s: float
    ) -> StopReason | None:
        """Say how things stand; returns why the loop is to end, or None.

        Args:
            iterations: iterations that are complete; never less than at the call before.
            value: an energy seen since the last call (the lowest so far is kept here), None if there was
                none.
            duration_s: wall seconds since the session's first iteration.
            qpu_time_s: device seconds used by the session.

        Raises:
            ValueError: iterations went back, or the value is NaN; nothing is changed.
        """
        if self.reason is not None:
            return self.reason
        if self._bests and iterations < self._bests[-1][0]:
            raise ValueError(f"iterations: {iterations} comes after {self._bests[-1][0]}")
        if value is not None and math.isnan(value):
            raise ValueError("value: not a number")
        if value is not None:
            self._note(iterations, value)
        if iterations >= self.max_iterations:
            self.reason = StopReason.MAX_ITERATIONS
        elif self._stalled(iterations):
            self.reason = StopReason.TOLERANCE
        elif self.max_duration_s is not None and duration_s >= self.max_duration_s:
            self.reason = StopReason.MAX_DURATION
        elif self.max_qpu_time_s is not None and qpu_time_s >= self.max_qpu_time_s:
            self.reason = StopReason.MAX_QPU_TIME
        return self.reason

    def explain(self) -> str:
        """The reason as one sentence; empty while there is none."""
        sentences = {
            StopReason.MAX_ITERATIONS: f"{self.max_iterations} iterations are done",
            StopReason.TOLERANCE: (
                f"the best value improved by less than {self.tolerance} in {self.window} iterations"
            ),
            StopReason.MAX_DURATION: f"it has run for {self.max_duration_s} s",
            StopReason.MAX_QPU_TIME: f"it has used {self.max_qpu_time_s} s of device time",
        }
        return sentences[self.reason] if self.reason is not None else ""

    def _note(self, iterations: int, value: float) -> None:
        bests = self._bests
        if bests:
            value = min(value, bests[-1][1])
            if bests[-1][0] == iterations:
                bests.pop()
        bests.append((iterations, value))
        while len(bests) > 1 and bests[1][0] <= iterations - self.window:
            bests.pop(0)

    def _stalled(self, iterations: int) -> bool:
        if self.tolerance is None or not self._bests or self._bests[0][0] > iterations - self.window:
            return False
        old = [best for iteration, best in self._bests if iteration <= iterations - self.window]
        return old[-1] - self._bests[-1][1] < self.tolerance

    def state(self) -> dict[str, Any]:
        """What has been observed, as JSON-ready values; the rule itself comes from the specification."""
        return {"reason": self.reason, "bests": [list(entry) for entry in self._bests]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`, with this rule's own limits (a person may have raised them).

        Raises:
            InputError: it is not such a state.
        """
        try:
            bests = [(int(iteration), float(best)) for iteration, best in state["bests"]]
            reason = None if state["reason"] is None else StopReason(state["reason"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"is not a stopping state ({error!r}); start the session anew", place="state"
            ) from None
        self._bests, self.reason = bests, reason
