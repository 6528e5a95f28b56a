"""How old what is known of the device is, and when it must be measured again.

The machine keeps ages, not physics: the moment of the last full calibration, and the localised ones after it
with the qubits that each measured. A circuit's calibration is as old as the newest one that covers *all* of
its qubits: pairs are calibrated too, and two localised calibrations of {0, 1} and of {2, 3} never measured
the pair 1-2. A localised calibration makes way when a later one covers all that it did, or when
`MOST_LOCAL` newer ones are kept: forgetting one can only make a circuit look older than it is.

- **On need.** A job whose session (or whose device) has a limit does not start on a calibration older than
  that. A localised calibration of just its qubits comes first, or a full one when that costs no more; the
  session that caused it pays.
- **On schedule.** A full calibration is due `interval_s` after the last one. It may come up to a fifth of
  the interval early when the device idles and no loop is open, waits for such a moment up to a quarter of
  the interval late, and then takes place (or before the device's own limit, whichever comes first). Nobody
  is charged.
- **On request** of a person: as soon as what has started is done.

A frozen device calibrates on request and for a session's own limit only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from efaas.core.qpu.config import CalibrationConfig
from efaas.core.qpu.messages import CalibrationScope, Job

_EARLY = 0.8
_LATE = 1.25

MOST_LOCAL = 256
"""Localised calibrations since the last full one that are remembered."""


@dataclass(frozen=True, slots=True)
class CalibrationNeed:
    """A calibration that has to be, or may be."""

    scope: CalibrationScope
    qubits: tuple[int, ...]
    expected_s: float
    reason: str


class CalibrationClock:
    """Ages and due times of one device's calibrations."""

    def __init__(self, config: CalibrationConfig) -> None:
        self.config = config
        # Asked for with every event of a device, so looked up and computed once.
        self._frozen = config.frozen
        self._max_age_s = config.max_age_s
        self._early_after_s = _EARLY * config.interval_s
        self._due_after_s = config.interval_s
        self._deadline_after_s = min(_LATE * config.interval_s, max(config.max_age_s, 0.0))
        self.epoch = config.epoch
        """Epoch of the last calibration, full or localised."""
        self.serial = 0
        """Running number of calibrations done by this machine."""
        self.full_at_s = config.calibrated_at_s
        """End of the last full calibration."""
        self.requested = False
        """Whether a person asked for a full calibration."""
        # Localised calibrations since then, oldest first: when each ended, and the qubits it covered.
        self._local: list[tuple[float, frozenset[int]]] = []
        for ended_s, covered in config.local_calibrations:
            self._remember(covered, ended_s)

    def age_s(self, qubits: tuple[int, ...], now_s: float) -> float:
        """Age of what is known of these qubits; of the whole device when none are named."""
        return now_s - self.calibrated_at_s(qubits)

    def calibrated_at_s(self, qubits: tuple[int, ...]) -> float:
        """End of the newest calibration that covered all of these qubits; of the last full one for none."""
        if qubits:
            for ended_s, covered in reversed(self._local):
                if covered.issuperset(qubits):
                    return ended_s
        return self.full_at_s

    def limit_s(self, session_limit_s: float | None, policy_limit_s: float) -> float:
        """Oldest calibration on which a job may start."""
        own_s = self._max_age_s if self._max_age_s < policy_limit_s else policy_limit_s
        if self._frozen:
            own_s = math.inf
        return own_s if session_limit_s is None or own_s < session_limit_s else session_limit_s

    def need(self, job: Job, limit_s: float, now_s: float, *, localised: bool) -> CalibrationNeed | None:
        """The calibration without which the job may not start now; None when it may."""
        age_s = self.age_s(job.qubits, now_s)
        if age_s <= limit_s:
            return None
        reason = f"the calibration is {age_s:.6g} s old, job {job.id} takes one of at most {limit_s:.6g} s"
        cost_s = self.cost_s(job, localised=localised)
        if cost_s < self.config.duration_s:
            return CalibrationNeed(CalibrationScope.LOCAL, job.qubits, cost_s, reason)
        return CalibrationNeed(CalibrationScope.FULL, (), cost_s, reason)

    def cost_s(self, job: Job, *, localised: bool) -> float:
        """Device seconds of the calibration that a job needs: of its qubits, or of the whole device."""
        if not localised or not job.qubits:
            return self.config.duration_s
        return self.config.local_calibration_s(len(job.qubits))

    @property
    def early_s(self) -> float:
        """From here on a scheduled calibration may use an idle device."""
        return math.inf if self._frozen else self.full_at_s + self._early_after_s

    @property
    def due_s(self) -> float:
        """From here on a scheduled calibration waits for the next good moment."""
        return math.inf if self._frozen else self.full_at_s + self._due_after_s

    @property
    def deadline_s(self) -> float:
        """From here on it waits for nothing but what has started."""
        if self.requested:
            return -math.inf
        return math.inf if self._frozen else self.full_at_s + self._deadline_after_s

    def full(self, reason: str) -> CalibrationNeed:
        """A full calibration."""
        return CalibrationNeed(CalibrationScope.FULL, (), self.config.duration_s, reason)

    def finished(self, scope: CalibrationScope, qubits: tuple[int, ...], epoch: int, now_s: float) -> None:
        """A calibration ended now."""
        self.serial += 1
        self.epoch = epoch
        if scope is CalibrationScope.FULL:
            self.full_at_s = now_s
            self.requested = False
            self._local.clear()
        else:
            self._remember(qubits, now_s)

    def _remember(self, qubits: Iterable[int], ended_s: float) -> None:
        covered = frozenset(qubits)
        self._local = [entry for entry in self._local if not covered.issuperset(entry[1])]
        self._local.append((ended_s, covered))
        del self._local[:-MOST_LOCAL]
