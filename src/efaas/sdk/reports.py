"""What a program says about how it gets on, and what its session has used.

`report` says what the last evaluation came to; each counts as one iteration. Evaluations that nothing is
reported about are told of as well, without an energy, so times and use are complete.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from efaas.runner.account import Account

if TYPE_CHECKING:
    from efaas.runner.ahead import Ahead
    from efaas.runner.progress import Progress


class Reports:
    """Progress, use and result of one session; usable from several threads.

    Args:
        progress: hears of each evaluation.

    Attributes:
        loops: those of the session that run ahead of their results.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._account = Account()
        self._lock = threading.RLock()
        self._count = 0
        self._reported: dict[str, Any] = {}
        self._finished: dict[str, Any] | None = None
        self._untold: list[dict[str, Any]] = []
        self.loops: list[Ahead] = []

    @property
    def usage(self) -> Any:
        """What the session has used."""
        return self._account.usage

    def take(self, record: Mapping[str, Any]) -> None:
        """An answer came, or was read back: count it; it is told of when it is known what it came to."""
        with self._lock:
            self._account.take(record)
            self._untold.append(self._account.event({**record, "iteration": 0}))

    def report(self, energy: float, std_error: float | None) -> None:
        """The last evaluation came to this energy."""
        with self._lock:
            self._reported = {"energy": energy, "std_error": std_error}
            self._account.best = min(self._account.best, energy)
            self._tell(energy, std_error)
            self._count += 1

    def result(self, energy: float | None, parameters: Any, further: Mapping[str, Any]) -> dict[str, Any]:
        """The session's result as the program gives it; see `Session.finish`."""
        with self._lock:
            result: dict[str, Any] = dict(self._reported)
        if energy is not None:
            result = {"energy": float(energy), "std_error": None}
        if parameters is not None:
            result["parameters"] = np.asarray(parameters, dtype=np.float64).tolist()
        if further:
            result["further"] = dict(further)
        return result

    def finish(self, result: dict[str, Any]) -> None:
        """This is the session's result; the last one counts."""
        with self._lock:
            self._finished = result

    def outcome(self) -> dict[str, Any]:
        """The part of `result.json` that the program determines."""
        with self._lock:
            finished = self._reported if self._finished is None else self._finished
            return {
                "energy": None,
                "std_error": None,
                "parameters": None,
                "final_evaluation": self._finished is not None,
                "iterations": self._count,
                "optimizer": "program",
                "stopped_by": "the program ended",
                **({"speculation": summed([each.summary() for each in self.loops])} if self.loops else {}),
                **finished,
            }

    def summary(self) -> dict[str, Any]:
        """Use, times and devices so far, as in `result.json`."""
        with self._lock:
            self.flush()
            return self._account.summary()

    def flush(self) -> None:
        """Tell of the evaluations that nothing was reported about."""
        with self._lock:
            self._tell(None, None)

    def _tell(self, energy: float | None, std_error: float | None) -> None:
        """Tell of the evaluations since the last time; the newest one has this energy."""
        best = self._account.best if self._account.best < float("inf") else None
        for event in self._untold[:-1]:
            self._progress.iteration({**event, "iteration": self._count, "best": best})
        for event in self._untold[-1:]:
            self._progress.iteration(
                {**event, "iteration": self._count, "energy": energy, "std_error": std_error, "best": best}
            )
        self._untold.clear()


def summed(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the loops of a session came to together."""
    total = dict(summaries[-1])
    for name, value in total.items():
        if isinstance(value, int | float) and name != "hit_rate":
            total[name] = sum(summary[name] for summary in summaries)
    total["hit_rate"] = total["hits"] / total["evaluations"] if total["evaluations"] else 0.0
    return total
