"""A job between its submit and its result, and how both look to the machine, the engine and the wire."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace

import numpy as np

from efaas.api.wire import qpu_pb2 as wire
from efaas.core.identity import BLOCK_SHOTS
from efaas.core.qpu.messages import CompleteJob, Job, JobKind, ReportQueued
from efaas.errors import EfaasError
from efaas_qpu.engine.messages import Evaluation, Execute, Executed, Prepared
from efaas_qpu.limits import ServerLimits
from efaas_qpu.requests import Refused, Submission

MOST_PARTIALS = 8
"""Running estimates of one job; more would cost more than they tell."""


@dataclass(slots=True)
class LiveJob:
    """A job that has no result yet."""

    job: Job
    """What the machine knows of it."""
    submission: Submission
    seed: int
    pairs: int
    """Parameter sets × measurement bases."""
    arrived_wall: float
    plan: str
    """What the engine calls its circuit: for the calibration that was the last when it was submitted."""
    begun_s: float = 0.0
    """Device time of the present attempt's start."""
    report: ReportQueued | None = None
    """Where it stands in the queue, as it was told last."""
    holds_device: bool = False
    cancelled: bool = False
    executed: Executed | None = None
    """What the simulation gave: all blocks at once, at the first slice of an attempt."""
    attempt: int = 0
    """Attempt that `executed` belongs to."""
    blocks_done: int = 0
    """Cells of the present attempt that held the device already."""
    started_wall: float | None = None
    """When its first shots were taken; None before."""
    started_timer: asyncio.TimerHandle | None = None
    """What will tell the client that it has started, if it has not ended by then."""
    calibration_epoch: int = 0
    calibration_age_s: float = 0.0
    wall_calibration_s: float = 0.0
    """Wall seconds of calibrations that it waited for."""
    late: bool = False
    fault: EfaasError | None = None
    """Why the engine says that it can never work."""
    unclaimed: wire.Result | None = None
    """Result of a speculative job that nobody claimed yet."""

    def claim(self, submission: Submission) -> None:
        """Make a speculative job a real one if it was submitted as such now."""
        if self.job.kind is JobKind.SPECULATIVE and submission.kind is not JobKind.SPECULATIVE:
            self.submission = submission
            self.job = replace(self.job, kind=submission.kind)


def live_job(
    submission: Submission,
    circuit: Prepared,
    bases: int,
    session: str,
    seed: int,
    limits: ServerLimits,
    *,
    arrived_wall: float,
) -> LiveJob:
    """A job for the machine, bounded.

    Raises:
        Refused: it has more shots, or could have more outcomes, than one job may.
    """
    sets = len(submission.parameters)
    pairs = sets * bases
    shots = submission.shots * pairs
    if shots > limits.job_shots:
        raise Refused(
            wire.LIMIT_REACHED,
            f"the job has {shots} shots ({submission.shots} × {pairs} parameter sets and bases), at most"
            f" {limits.job_shots} are taken; send several jobs",
            place="submit.shots",
            job_id=submission.job_id,
        )
    if not submission.observables:
        rows = submission.shots if submission.per_shot else min(submission.shots, 2 ** min(circuit.bits, 62))
        row_bytes = math.ceil(circuit.bits / 8) + (0 if submission.per_shot else 4)
        if sets * rows * row_bytes > limits.result_bytes:
            raise Refused(
                wire.LIMIT_REACHED,
                f"the outcomes could take {sets * rows * row_bytes} bytes, at most {limits.result_bytes} are"
                " sent; send several jobs",
                place="submit.shots",
                job_id=submission.job_id,
            )
    cells = math.ceil(submission.shots / BLOCK_SHOTS) * pairs
    job = Job(
        id=submission.job_id,
        session=session,
        kind=submission.kind,
        blocks=cells,
        # The last block of a pair may be short; its cells share the device time evenly.
        block_s=shots * circuit.shot_s / cells,
        shots=shots,
        circuit=submission.circuit,
        qubits=circuit.physical or circuit.layout,
        evaluation=submission.evaluation,
    )
    return LiveJob(job, submission, seed, pairs, arrived_wall, circuit.handle)


def execution(live: LiveJob, slice_blocks: int) -> Execute:
    """What the engine is asked: the whole job, with running estimates where slices are likely to end.

    Args:
        live: the job.
        slice_blocks: cells of its first slice.
    """
    submission = live.submission
    ends = [
        end * slice_blocks // live.pairs * BLOCK_SHOTS
        for end in range(1, min(MOST_PARTIALS, math.ceil(live.job.blocks / slice_blocks) - 1) + 1)
    ]
    return Execute(
        job_id=submission.job_id,
        session_seed=live.seed,
        circuit=live.plan,
        observables=submission.observables,
        parameters=submission.parameters,
        shots=submission.shots,
        readout_mitigation=submission.readout_mitigation,
        per_shot=submission.per_shot,
        shot_ranges=tuple(sorted({shots for shots in ends if 0 < shots < submission.shots})),
    )


def partial_message(live: LiveJob) -> wire.ServerMessage | None:
    """The running estimate of the rows of blocks that are done; None when there is none."""
    if live.executed is None:
        return None
    shots = live.blocks_done // live.pairs * BLOCK_SHOTS
    estimates = [estimate for estimate in live.executed.partial if estimate.shots <= shots]
    if not estimates:
        return None
    last = max(estimates, key=lambda estimate: estimate.shots)
    evaluations = [_evaluation(evaluation) for evaluation in last.evaluations]
    return wire.ServerMessage(
        partial=wire.Partial(job_id=live.job.id, shots=last.shots, evaluations=evaluations)
    )


def result_message(live: LiveJob, complete: CompleteJob, now_wall: float) -> wire.Result:
    """The result of a completed job, without what is charged for it."""
    assert live.executed is not None
    assert live.started_wall is not None
    executed = live.executed
    return wire.Result(
        job_id=live.job.id,
        evaluations=[_evaluation(evaluation) for evaluation in executed.evaluations],
        timing=wire.Timing(
            queue_s=complete.queue_s,
            calibration_s=complete.calibration_s,
            execution_s=complete.execution_s,
            wall_queue_s=live.started_wall - live.arrived_wall,
            wall_calibration_s=live.wall_calibration_s,
            wall_execution_s=now_wall - live.started_wall,
            server_s=now_wall - live.arrived_wall,
            parse_s=executed.parse_s,
            simulate_s=executed.simulate_s,
            late=live.late,
            slices=complete.slices,
            attempts=complete.attempts,
        ),
        calibration_epoch=live.calibration_epoch,
        calibration_age_s=live.calibration_age_s,
    )


def queued_message(report: ReportQueued) -> wire.ServerMessage:
    """Where a job stands in the queue."""
    return wire.ServerMessage(
        queued=wire.Queued(
            job_id=report.job_id,
            position=report.position,
            estimated_start_s=report.estimated_start_s,
            reason=report.reason,
        )
    )


def _evaluation(evaluation: Evaluation) -> wire.Evaluation:
    message = wire.Evaluation(
        values=np.asarray(evaluation.values).tolist(), std_errors=np.asarray(evaluation.std_errors).tolist()
    )
    if evaluation.outcomes is not None:
        message.outcomes.bits = evaluation.bits
        message.outcomes.outcomes = evaluation.outcomes
        if evaluation.counts is not None:
            message.outcomes.counts.extend(evaluation.counts.tolist())
    return message
