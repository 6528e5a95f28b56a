"""Is it a loop? What a session does decides, not what it says.

A variational loop submits an iteration, waits for the result, computes, and submits the next one. The
machine takes a session for a loop only as long as it sees that:

- **It waits.** At most `loop_burst` jobs between two moments at which all its results were in. One that keeps
  submitting, or keeps jobs outstanding, is batch work at once.
- **It computes.** The median of its last gaps is at least `loop_gap` of the median device time of its
  iterations. A chain of jobs back to back leaves the device nothing to give to others; it is served as
  batch work, that is, first among equals as long as it has used less than its share.
- **It is short.** An iteration longer than the drift limit τ cannot be one calibration's iteration.
- **It has shown itself before.** The first iterations of new sessions have a class of their own; a tenant
  may have `loop_burst` sessions there that have not yet come back with a second iteration, so that opening
  a session for each batch job gains nothing. A place comes back when the session proves to be a loop, or
  after a half-life.

A session that lost its class wins it back by three iterations that wait and compute.
"""

from __future__ import annotations

from collections import deque

from efaas.core.qpu.config import QpuConfig
from efaas.core.qpu.gaps import GapEstimate
from efaas.core.qpu.messages import JobClass, JobKind

_PROOF = 3
"""Good iterations that win the class back."""
_JUDGED = 6
"""Gaps that must have been seen before a session is judged by them."""


class LoopEvidence:
    """What one session has shown."""

    def __init__(self, config: QpuConfig) -> None:
        self._config = config
        self.gap = GapEstimate()
        """Estimate of its classical time."""
        self._work = GapEstimate()  # device seconds of its iterations
        self._burst = 0  # loop jobs since all its results were in
        self._burst_s = 0.0  # device seconds of those
        self._good = 0  # good iterations in a row since it lost the class
        self.iterations = 0
        """Times it came back after all its results were in."""
        self.demoted = ""
        """Why it is served as batch work, in words; empty when it is not."""

    @property
    def proven(self) -> bool:
        """Whether it came back with a second iteration after its first result."""
        return self.iterations > 0

    def submitted(self, device_s: float, gap_s: float | None) -> None:
        """A loop job arrived, `gap_s` after all results were in; None when some are outstanding."""
        if gap_s is not None and self._burst:
            self.iterations += 1
            self.gap.add(gap_s)
            self._work.add(self._burst_s)
            self._judge()
            self._burst, self._burst_s = 0, 0.0
        self._burst += 1
        self._burst_s += device_s
        if self._burst > self._config.loop_burst:
            self._demote(f"submitted {self._burst} jobs without waiting for their results")

    def _judge(self) -> None:
        """An iteration ended: did it look like one of a loop?"""
        needed = self._config.loop_gap * self._work.median_s * (2 if self.demoted else 1)
        computes = self.gap.median_s >= needed
        if len(self.gap) >= _JUDGED and not computes:
            self._demote(f"computes {self.gap.median_s:.3g} s for {self._work.median_s:.3g} s on the device")
        elif self.demoted:
            self._good += 1
            if self._good >= _PROOF:
                self.demoted = ""

    def _demote(self, why: str) -> None:
        self.demoted = f"served as batch work: {why}"
        self._good = 0


class FirstPlaces:
    """Sessions of each tenant that may be in the class of first iterations."""

    def __init__(self, config: QpuConfig) -> None:
        self._places = config.loop_burst
        self._back_after_s = config.half_life_s
        # By tenant: (moment at which the place comes back by itself, session), in the order they were taken.
        self._taken: dict[str, deque[tuple[float, str]]] = {}

    def take(self, tenant: str, session: str, now_s: float) -> bool:
        """Take a place, or keep the one taken before; False when the tenant has none left."""
        taken = self._taken.setdefault(tenant, deque())
        while taken and taken[0][0] <= now_s:
            taken.popleft()
        if any(name == session for _, name in taken):
            return True
        if len(taken) >= self._places:
            return False
        taken.append((now_s + self._back_after_s, session))
        return True

    def give_back(self, tenant: str, session: str) -> None:
        """The session proved to be a loop."""
        taken = self._taken.get(tenant)
        if taken:
            self._taken[tenant] = deque(entry for entry in taken if entry[1] != session)


def class_of(
    kind: JobKind, device_s: float, evidence: LoopEvidence, config: QpuConfig, has_place: bool
) -> tuple[JobClass, str]:
    """Class of a job that arrives, and why, in words."""
    if kind is JobKind.SPECULATIVE:
        return JobClass.SPECULATIVE, "speculative: runs when nothing else waits"
    if kind is JobKind.BATCH:
        return JobClass.BATCH, "batch work"
    if not config.strict_classes:
        return JobClass.BATCH, "loops have no class of their own here"
    if evidence.demoted:
        return JobClass.BATCH, evidence.demoted
    if device_s > config.tau_s:
        return JobClass.BATCH, f"an iteration of {device_s:.3g} s is longer than the drift limit"
    if evidence.proven:
        return JobClass.ACTIVE, "iteration of an active loop"
    if has_place:
        return JobClass.FIRST, "first iteration"
    return JobClass.BATCH, "too many sessions of this tenant have not shown a loop yet"
