"""The Dual-Resource Fair Queue.

Its rules, in order of precedence:

1. An active iteration that has started keeps the device, for a turn at most while another loop waits.
2. **Guaranteed share.** A class with work has a claim that grows with time (`efaas.core.qpu.claims`). Once
   it is a slice, the class gets one, between two active iterations. An iteration that met no other loop is
   delayed by one slice in all, whatever is claimed.
3. **Strict classes**: active loop › first iteration › batch › speculative.
4. Inside a class, who holds the device keeps it for a turn; then the tenant with the least decayed dominant
   share ÷ weight comes first, in it the least served session, in that the job with the highest ρ.
5. **Slicing**: what is not an active iteration runs in slices, so that an active one waits for one slice at
   most.
6. **Gap-fitting**: a slice ends where an active loop may come back; while it may come at any moment, slices
   are shorter. When it is sure to come before one cell would be done, the device is kept free for it, as long
   as the time kept free stays below `reserve_share` of all time.

ρ = α · [active] + β · (τ - Δt_wait)/τ + γ · W is the paper's priority. Δt_wait is the time that the job can
still wait until its calibration is past the limit (at most τ), so urgency grows towards the limit; W is the
session's weight w as w/(1 + w), so that α > β + γ keeps active loops first. As all Δt_wait shrink alike, the
order by ρ does not change with time.
"""

# ruff: noqa: ARG002, D102  (the interface's methods are documented in `base` and take what it says)

from __future__ import annotations

import math
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count

from efaas.core.fairness import UsageLedger
from efaas.core.qpu.calibration import CalibrationClock
from efaas.core.qpu.claims import Claim
from efaas.core.qpu.config import QpuConfig
from efaas.core.qpu.evidence import FirstPlaces, LoopEvidence, class_of
from efaas.core.qpu.fair_queue import FairQueue, JobKey
from efaas.core.qpu.lifecycle import JobRecord, JobState, SessionRecord
from efaas.core.qpu.messages import JobClass, JobKind
from efaas.core.qpu.policies.base import Choice, Hold, Policy, Run

_ROUNDING = 1e-9

_SIGMAS = 2.0
"""A loop is expected within so many spreads around its median gap."""

_FINER = 4
"""While a loop may come back at any moment, slices are so many times shorter: going on costs nothing."""


def priority(config: QpuConfig, *, active: bool, may_wait_s: float, weight_part: float) -> float:
    """The paper's ρ.

    Args:
        config: α, β, γ and τ.
        active: whether the session is an active loop.
        may_wait_s: time that the job can still wait until its calibration is past the limit.
        weight_part: W, the session's weight w as w / (1 + w), between 0 and 1.
    """
    urgency = (config.tau_s - may_wait_s) / config.tau_s
    return config.alpha * active + config.beta * urgency + config.gamma * weight_part


class DualResourceFairQueue(Policy):
    """The project's own policy."""

    name = "efaas"
    localised = True
    drops_speculation = True

    def __init__(self, config: QpuConfig, calibration: CalibrationClock) -> None:
        super().__init__(config, calibration)
        self.localised = config.localised_calibration
        self.tenants = UsageLedger(config.half_life_s, cpu_capacity=config.cpu_capacity)
        """Decayed use of tenants."""
        self.sessions = UsageLedger(config.half_life_s, cpu_capacity=config.cpu_capacity)
        """Decayed use of sessions, which orders those of one tenant."""
        tickets = count(1)
        self.queues = tuple(FairQueue(self.tenants, self.sessions, tickets) for _ in JobClass)
        """Waiting jobs by class."""
        # Sessions whose use changed since the last choice, with their tenants.
        self._touched: dict[str, str] = {}
        self.evidence: dict[str, LoopEvidence] = {}
        """What each open session has shown of a loop."""
        self._places = FirstPlaces(config)
        # Who had the device last, if cells are left, and how long its turn has lasted.
        self._current: JobRecord | None = None
        self._turn_s = 0.0
        # The batch job that was asked for several slices in one last, and what turning to it cost.
        self._repeated: JobRecord | None = None
        self._paid_s = 0.0
        # What each class can claim of its guaranteed share.
        self._claims = tuple(
            Claim(config.guaranteed_share, config.guarantee_window_s, config.slice_s or 0.0) for _ in JobClass
        )
        # Guaranteed slices that may still come before the next active iteration.
        self._insertions = 0
        # Arrival of the first active iteration that waits and has met lower work only; None: there is none.
        self._delayed_since_s: float | None = None
        # Loops expected back: (moment, session, number of its iterations); entries of an earlier one are
        # void.
        self._expected: list[tuple[float, str, int]] = []
        # Time that may be kept free, as of a moment, and since when some is.
        self._reserve_s = 0.0
        self._reserve_at_s = 0.0
        self._reserving = False

    # --- what happens ---

    def session_opened(self, session: SessionRecord, tenant_weight: float, now_s: float) -> None:
        self.tenants.set_weight(session.tenant, tenant_weight)
        self.sessions.set_weight(session.name, session.weight)
        self.evidence.setdefault(session.name, LoopEvidence(self.config))
        self._refresh(session)

    def session_closed(self, session: SessionRecord, now_s: float) -> None:
        self.evidence.pop(session.name, None)
        self.sessions.forget(session.name)

    def classify(self, job: JobRecord, now_s: float, gap_s: float | None) -> tuple[JobClass, str]:
        session = job.session
        evidence = self.evidence[session.name]
        has_place = False
        if job.kind is JobKind.LOOP:
            before = evidence.demoted
            evidence.submitted(job.job.device_s, gap_s)
            if evidence.proven:
                self._places.give_back(session.tenant, session.name)
            else:
                has_place = self._places.take(session.tenant, session.name, now_s)
            if evidence.demoted and not before:
                self._demote(session, evidence.demoted, now_s)
        return class_of(job.kind, job.job.device_s, evidence, self.config, has_place)

    def arrived(self, job: JobRecord, cpu_s: float, now_s: float, held_by: JobRecord | None) -> None:
        self._claims[job.job_class].come(now_s)
        met_loop = held_by is not None and held_by.job_class is JobClass.ACTIVE
        if job.job_class is JobClass.ACTIVE and not met_loop and self._delayed_since_s is None:
            self._delayed_since_s = now_s
        if cpu_s > 0:
            self._use(job.session, cpu_s, 0.0, now_s)

    def add(self, job: JobRecord, now_s: float) -> None:
        self.queues[job.job_class].add(job, self._key(job))

    def remove(self, job: JobRecord) -> None:
        self.queues[job.job_class].remove(job)

    def started(self, job: JobRecord, now_s: float) -> None:
        if job.job_class is JobClass.ACTIVE:
            self._delayed_since_s = None
        if job is not self._current:
            self._current, self._turn_s = job, 0.0
        if not job.started:
            self.tenants.enter(job.session.tenant, job.id, 0.0, job.job.device_s, now_s)
            self._refresh(job.session)

    def used(self, job: JobRecord, busy_s: float, now_s: float) -> None:
        if job is self._repeated and self._turn_s + busy_s > self.config.turn_s:
            self._end_turns(job, busy_s)
        else:
            self._turn_s += busy_s
        self._claims[job.job_class].served(busy_s, now_s)
        if job.job_class is JobClass.ACTIVE:
            share_s = 2 * self.config.guaranteed_share * self._turn_s
            self._insertions = max(1, math.ceil(share_s / (self.config.slice_s or math.inf)))
        else:
            # A slice that is several in one counts as several.
            slices = math.ceil(busy_s / (self.config.slice_s or math.inf) - _ROUNDING)
            self._insertions -= max(1, slices if self.config.merge_slices else 1)
        self._use(job.session, 0.0, busy_s, now_s)

    def _end_turns(self, job: JobRecord, busy_s: float) -> None:
        """A run that may be several slices in one: turns begin anew where they would have between slices."""
        cells_s = self._slice_cells(job) * job.job.block_s
        part_s = self._paid_s + cells_s
        had_s, whole_s = self._turn_s, self.config.turn_s
        while busy_s > _ROUNDING:
            if had_s >= whole_s:
                had_s = 0.0
            had_s += part_s if part_s < busy_s else busy_s
            busy_s -= part_s
            part_s = cells_s
        self._turn_s = had_s

    def _slice_cells(self, job: JobRecord) -> int:
        """Cells of a whole slice of this job."""
        return _fit(self.config.slice_s or math.inf, job.job.block_s, job.job.blocks)

    def left(self, job: JobRecord, now_s: float) -> None:
        if job is self._current:
            self._current = None
        self._claims[job.job_class].leave(now_s)
        self.tenants.leave(job.session.tenant, job.id)
        self._refresh(job.session)
        evidence = self.evidence.get(job.session.name)
        computes = job.kind is JobKind.LOOP and job.session.classical_since_s is not None
        if computes and evidence and evidence.gap.known and not evidence.demoted:
            back_s = now_s + evidence.gap.median_s
            heappush(self._expected, (back_s, job.session.name, evidence.iterations))

    def calibrated(self, session: SessionRecord, busy_s: float, now_s: float) -> None:
        self._use(session, 0.0, busy_s, now_s)

    def use_reported(
        self, tenant: str, cpu_s: float, qpu_s: float, now_s: float, weight: float | None = None
    ) -> None:
        if weight is not None:
            self.tenants.set_weight(tenant, weight)
        self.tenants.report(tenant, cpu_s, qpu_s, now_s)
        self._touched[""] = tenant
        self._place_touched()

    def reclassify(self, job: JobRecord, job_class: JobClass, now_s: float) -> None:
        self._claims[job.job_class].leave(now_s)
        job.job_class = job_class
        self._claims[job_class].come(now_s)

    def _demote(self, session: SessionRecord, why: str, now_s: float) -> None:
        for job in session.jobs.values():
            if job.kind is JobKind.LOOP and job.job_class < JobClass.BATCH and job.state is JobState.WAITING:
                self.remove(job)
                self.reclassify(job, JobClass.BATCH, now_s)
                job.reason = why
                self.add(job, now_s)

    def _use(self, session: SessionRecord, cpu_s: float, qpu_s: float, now_s: float) -> None:
        self.tenants.add(session.tenant, cpu_s, qpu_s, now_s)
        if not session.closed:
            self.sessions.add(session.name, cpu_s, qpu_s, now_s)
        self._refresh(session)

    def _refresh(self, session: SessionRecord) -> None:
        """The use of a session changed: its place is looked at before the next choice."""
        self._touched[session.name] = session.tenant

    def _key(self, job: JobRecord) -> JobKey:
        limit_s = self.calibration.limit_s(job.session.max_calibration_age_s, math.inf)
        old_s = self.calibration.calibrated_at_s(job.job.qubits) + limit_s
        last_s = job.arrived_s + self.config.tau_s
        if job.arrived_s <= old_s < last_s:
            last_s = old_s
        # Stated for time 0: time takes the same from every Δt_wait.
        rho = priority(
            self.config,
            active=job.job_class is JobClass.ACTIVE,
            may_wait_s=last_s,
            weight_part=job.session.weight / (1.0 + job.session.weight),
        )
        return -rho, job.arrived_s, job.serial

    # --- what is asked ---

    def _place_touched(self) -> None:
        for queue in self.queues:
            if queue.size:
                for session, tenant in self._touched.items():
                    queue.refresh(tenant, session)
        self._touched.clear()

    def choose(self, now_s: float, last_job: str | None) -> Choice:
        if self._touched:
            self._place_touched()
        self._settle_reserve(now_s)
        guaranteed = self._guaranteed(now_s, last_job)
        if guaranteed is not None:
            return guaranteed
        job = self._next()
        if job is None:
            return None
        if job is not self._current or self._turn_s >= self.config.turn_s:
            turn_left_s = self.config.turn_s
            if job is self._current:
                self._turn_s = 0.0
        else:
            turn_left_s = self.config.turn_s - self._turn_s
        return self._cells(job, turn_left_s, now_s, last_job)

    def _next(self) -> JobRecord | None:
        """Rules 1, 3 and 4."""
        active, first, batch, speculative = self.queues
        iterating = self._iterating()
        if iterating is not None:
            return iterating
        if active.size:
            queue = active
        elif first.size:
            queue = first
        elif batch.size:
            queue = batch
        else:
            queue = speculative
        current = self._current
        if current is None or not current.started or self._turn_s >= self.config.turn_s:
            return queue.first()
        return current if queue is self.queues[current.job_class] else queue.first()

    def _iterating(self) -> JobRecord | None:
        """The active iteration that is under way and keeps the device."""
        current = self._current
        if current is None or current.job_class is not JobClass.ACTIVE or not current.started:
            return None
        kept = self._turn_s < self.config.turn_s or self.queues[JobClass.ACTIVE].first() is current
        return current if kept else None

    def _guaranteed(self, now_s: float, last_job: str | None) -> Run | None:
        """Rule 2: the slice of a class that can claim one, if no active iteration waits too long for it."""
        slice_s = self.config.slice_s
        active, first = self.queues[JobClass.ACTIVE], self.queues[JobClass.FIRST]
        if slice_s is None or not (active.size or first.size) or self._iterating() is not None:
            return None
        job = self._claimant(slice_s, now_s)
        if job is None:
            return None
        block_s = job.job.block_s
        longest_s = max(slice_s, block_s)
        if active.size and self._delayed_since_s is not None:
            # Lower work delays the first of them already: what is left of one slice.
            turn_s = 0.0 if job.id == last_job else self.config.slice_cost_s
            longest_s = slice_s - (now_s - self._delayed_since_s) - turn_s
            if longest_s < max(block_s, 2 * turn_s):
                return None
        elif active.size and self._insertions <= 0:
            return None
        return Run(job, _fit(longest_s, block_s, job.job.blocks - job.next_block))

    def _claimant(self, slice_s: float, now_s: float) -> JobRecord | None:
        """The next job of the class whose claim to its guaranteed share is the largest, a slice at least."""
        claims_s = {
            job_class: self._claims[job_class].value_s(now_s)
            for job_class in (JobClass.FIRST, JobClass.BATCH)
            if self.queues[job_class]
        }
        if not claims_s:
            return None
        largest = max(claims_s, key=lambda job_class: (claims_s[job_class], -job_class))
        return self.queues[largest].first() if claims_s[largest] >= slice_s else None

    def _cells(self, job: JobRecord, turn_left_s: float, now_s: float, last_job: str | None) -> Choice:
        """Rules 5 and 6."""
        block_s = job.job.block_s
        left = job.job.blocks - job.next_block
        if self.config.slice_s is None:
            return Run(job, left)
        if job.job_class is JobClass.ACTIVE:
            longest_s = self.config.slice_s if self.config.slice_loops else turn_left_s
            return Run(job, _fit(longest_s, block_s, left))
        cells = _fit(self.config.slice_s, block_s, left)
        # A speculative slice ends at once when a real job comes: nothing is gained by fitting it in.
        fitted = self.config.gap_fitting and job.job_class is not JobClass.SPECULATIVE
        back = self._next_back(now_s) if fitted else None
        if back is None:
            return Run(job, cells)
        back_s, session, spread_s = back
        turn_s = 0.0 if job.id == last_job else self.config.slice_cost_s
        free_s = back_s - _SIGMAS * spread_s - now_s - turn_s
        if cells * block_s <= free_s:
            return Run(job, cells)
        fitting = int(free_s / block_s + _ROUNDING)
        if fitting >= 1 and fitting * block_s >= 2 * turn_s:
            return Run(job, fitting)
        until_s = back_s + _SIGMAS * spread_s
        sure = 2 * _SIGMAS * spread_s <= block_s
        if sure and now_s < until_s <= now_s + min(block_s, self._reserve_s):
            self._reserving = True
            return Hold(session, until_s, f"kept free for {session}, expected back at {back_s:.3f} s")
        return Run(job, min(cells, _fit(self.config.slice_s / _FINER, block_s, left)))

    def repeats(self, run: Run, now_s: float, last_job: str | None) -> int:
        """Whole slices of batch work until its turn ends, a loop may be back, or a better class may claim."""
        slice_s, job = self.config.slice_s, run.job
        active, first, batch, _ = self.queues
        if slice_s is None or job.job_class is not JobClass.BATCH or active.size or first.size:
            return 1
        if self._claims[JobClass.BATCH].value_s(now_s) > 0:
            return 1  # what a claim is worth in the end depends on when it is served
        cells_s = self._slice_cells(job) * job.job.block_s
        if run.blocks * job.job.block_s < cells_s - _ROUNDING:
            return 1  # shortened to fit a gap
        turn_s = 0.0 if job.id == last_job else self.config.slice_cost_s
        self._repeated, self._paid_s = job, turn_s
        had_s = self._turn_s if job is self._current else 0.0
        longest_s = self.config.turn_s - had_s - turn_s
        if batch.size == 1:
            longest_s = job.remaining_s  # there is nobody to take turns with
        slices = math.ceil(longest_s / cells_s - _ROUNDING)
        back = self._next_back(now_s) if self.config.gap_fitting else None
        if back is not None:
            back_s, _, spread_s = back
            free_s = back_s - _SIGMAS * spread_s - now_s - turn_s
            slices = min(slices, int(free_s / cells_s + _ROUNDING))
        return max(1, slices)

    def _next_back(self, now_s: float) -> tuple[float, str, float] | None:
        """The loop expected back next: (moment, session, spread)."""
        while self._expected:
            back_s, name, iteration = self._expected[0]
            evidence = self.evidence.get(name)
            if evidence is not None and evidence.iterations == iteration and not evidence.demoted:
                spread_s = evidence.gap.spread_s
                if now_s < back_s + _SIGMAS * spread_s:
                    return back_s, name, spread_s
            heappop(self._expected)
        return None

    def _settle_reserve(self, now_s: float) -> None:
        """Time that may be kept free grows with time and shrinks by what was kept free."""
        passed_s = now_s - self._reserve_at_s
        self._reserve_at_s = now_s
        if self._reserving:
            self._reserve_s -= passed_s
            self._reserving = False
        reserve_s = self._reserve_s + self.config.reserve_share * passed_s
        most_s = 2 * (self.config.slice_s or 0.0)
        self._reserve_s = most_s if most_s < reserve_s else reserve_s

    def order(self) -> Iterator[JobRecord]:
        for queue in self.queues:
            yield from queue

    def ahead(self, job_class: JobClass) -> tuple[int, float]:
        better = self.queues[: job_class + 1]
        return sum(map(len, better)), sum(queue.remaining_s for queue in better)

    def stretch(self, job: JobRecord) -> int:
        left = job.job.blocks - job.next_block
        if self.config.slice_s is None or job.job_class is JobClass.ACTIVE:
            return left
        return _fit(self.config.slice_s, job.job.block_s, left)

    def real_work_waits(self) -> bool:
        return any(map(len, self.queues[: JobClass.SPECULATIVE]))

    def quiet(self) -> bool:
        return not any(evidence.proven and not evidence.demoted for evidence in self.evidence.values())


def _fit(longest_s: float, block_s: float, left: int) -> int:
    """Cells that fit in a time; one at least."""
    cells = int(longest_s / block_s + _ROUNDING)
    if cells > left:
        cells = left
    return cells if cells > 1 else 1
