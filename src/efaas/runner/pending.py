"""One evaluation while its jobs run: what is heard of it, and which next steps are offered meanwhile.

Energies come as running estimates, slice by slice; fidelities (QN-SPSA) only whole, so their job is sent
first. A step can be looked for when both are there: in Exact mode what may follow, in Tolerant mode what
follows the estimate. In Tolerant mode a step stands if the whole result stays within the tolerance of what it
was taken on; when a later estimate shows that it will hardly do so, the step is taken anew on that one, since
the first would be rolled back.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from efaas.core.speculation import Mode
from efaas.optimizers.base import Ask, Vector
from efaas.runner.ahead import Ahead, Step
from efaas.runner.foresight import Estimate, Foresight, key_of
from efaas.runner.readings import fidelities_of


class Looks(Protocol):
    """Where next steps come from."""

    def known(self, overlaps: Vector | None) -> Iterable[Step]:
        """Steps that may come next, likeliest first, as far as that is known without the energies.

        What the next step needs beside them is computed on the way.

        Args:
            overlaps: fidelities of the pending ask, where it has any.
        """

    def following(self, estimate: Estimate) -> Iterable[Step]:
        """Steps that follow from a running estimate."""


class ForesightLooks:
    """Next steps of an optimizer whose asks are sent as they are."""

    def __init__(self, foresight: Foresight, mode: Mode) -> None:
        self._foresight, self._exact = foresight, mode is Mode.EXACT

    def known(self, overlaps: Vector | None) -> Iterator[Step]:
        """See `Looks`."""
        self._foresight.outlook(overlaps)
        if self._exact:
            yield from map(_step, self._foresight.guesses(overlaps))

    def following(self, estimate: Estimate) -> Iterator[Step]:
        """See `Looks`."""
        after = self._foresight.after_exactly if self._exact else self._foresight.after
        return map(_step, after(estimate.answers))


class Pending:
    """See the module's text. Hearing may happen in any thread; all else in the loop's own.

    Args:
        ahead: prepares steps.
        looks: finds them.
        number: of the evaluation's first job.
        fidelities: whether the evaluation has a job of fidelities.
        tolerant: whether steps are taken on running estimates.
        on_step: told each estimate that the next step is taken on.

    Attributes:
        stepped_on: the last of these.
    """

    def __init__(
        self,
        ahead: Ahead,
        looks: Looks,
        number: int,
        *,
        fidelities: bool,
        tolerant: bool,
        on_step: Callable[[Estimate], None] = lambda _: None,
    ) -> None:
        self._ahead, self._looks = ahead, looks
        self._waits, self._tolerant, self._on_step = fidelities, tolerant, on_step
        self._tell = ahead.listener(number)
        self._overlaps: Vector | None = None
        self._newest: Estimate | None = None
        self.stepped_on: Estimate | None = None

    # --- in any thread ------------------------------------------------------------------------------

    def hear_energies(self, estimate: Estimate | None) -> None:
        """A running estimate of the energies came; None: one that cannot be told."""
        if estimate is not None:
            self._tell(estimate)

    def hear_fidelities(self, job: concurrent.futures.Future[Any]) -> None:
        """The job of the fidelities ended."""
        if not job.cancelled() and job.exception() is None:
            self._tell(fidelities_of(job.result()))

    # --- in the loop's thread -----------------------------------------------------------------------

    def look_ahead(self) -> None:
        """The jobs are on their way: do what depends on no result."""
        if not self._waits and self._ahead.wants_candidates:
            self._ahead.offer(self._looks.known(None))

    def heard(self, what: Any) -> None:
        """What the `hear` methods heard, in its turn."""
        if not self._ahead.wants_candidates:
            return
        if isinstance(what, Estimate):
            self._newest = what
        else:
            self._overlaps, self._waits = what, False
            self._ahead.offer(self._looks.known(what))
        if self._newest is not None and not self._waits:
            estimate, self._newest = self._newest, None
            self._step_on(estimate if self._overlaps is None else estimate.with_overlaps(self._overlaps))

    def _step_on(self, estimate: Estimate) -> None:
        if self._tolerant:
            if self.stepped_on is not None and self.stepped_on.accepts(estimate.answers):
                return
            self.stepped_on = estimate
            self._on_step(estimate)
        self._ahead.offer(self._looks.following(estimate), informed=True)


def _step(asked: Ask) -> Step:
    return Step(key_of(asked), asked)
