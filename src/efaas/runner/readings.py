"""Results of jobs as what an optimizer is told, whole or from the first shots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from efaas.optimizers.base import Ask, Tell, Vector
from efaas.runner.foresight import Estimate

if TYPE_CHECKING:
    from efaas.client import JobResult
    from efaas.client.results import Evaluation


def answers_of(asked: Ask, results: Sequence[JobResult]) -> Tell:
    """What an optimizer is told: energies from the first job, fidelities from the last."""
    values = errors = overlaps = np.empty(0)
    if len(asked.points):
        values, errors = results[0].values[:, 0], results[0].std_errors[:, 0]
    if len(asked.overlaps):
        overlaps = fidelities_of(results[-1])
    return Tell(values, errors, overlaps)


def fidelities_of(result: JobResult) -> Vector:
    """Fidelities that a job of an overlap circuit measured, shape (pairs,)."""
    return np.array([_all_zeros(item) for item in result.evaluations])


def estimate_of(evaluations: Sequence[Evaluation], shots: int) -> Estimate | None:
    """A running estimate as answers, if it can be told."""
    values = np.array([item.values[0] for item in evaluations])
    errors = np.array([item.std_errors[0] for item in evaluations])
    if not (np.isfinite(values).all() and np.isfinite(errors).all()):
        return None
    return Estimate(Tell(values, errors), shots)


def _all_zeros(evaluation: Any) -> float:
    """Share of shots in which every bit was 0: the fidelity that an overlap circuit measures."""
    zero = ~evaluation.outcomes.any(axis=1)
    counts = evaluation.counts if len(evaluation.counts) else np.ones(len(zero), dtype=np.uint64)
    total = int(counts.sum())
    return float(counts[zero].sum()) / total if total else 0.0
