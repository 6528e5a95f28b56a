"""A job's evaluations, whole and running, put together from outcomes as its parameter sets come in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from efaas_qpu.engine import observables as grouping_of
from efaas_qpu.engine import sampling
from efaas_qpu.engine.messages import Evaluation, Execute, Executed, PartialEstimate

_EMPTY = np.zeros(0)


@dataclass(frozen=True, slots=True)
class Tables:
    """Grouping of a job's observables and what outcomes are worth."""

    grouping: grouping_of.Grouping
    inverses: NDArray[np.float64] | None
    weights: tuple[NDArray[np.float64], ...] | None
    """For each basis: shape (observables, outcomes); None where there are too many outcomes."""

    @property
    def bytes(self) -> int:
        """Memory of the weights."""
        return sum(table.nbytes for table in self.weights or ())


class Collected:
    """Evaluations of a job, whole and running, as its parameter sets come in."""

    def __init__(self, request: Execute) -> None:
        self._request = request
        self._ranges = [shots for shots in request.shot_ranges if 0 < shots < request.shots]
        self._whole: list[Evaluation] = []
        self._running: list[list[Evaluation]] = [[] for _ in self._ranges]

    def add_counts(self, tables: Tables, counts: list[NDArray[np.float64]]) -> None:
        """How often each outcome was seen in every basis, for one parameter set; no running estimates."""
        assert tables.weights is not None, "counts go with tabulated weights"
        tallies = list(zip(tables.weights, counts, strict=True))
        self._whole.append(_combine(tables, tallies, self._request.shots))

    def add_estimates(self, tables: Tables, drawn: list[NDArray[np.int64]]) -> None:
        """One parameter set's outcomes in every basis."""
        self._whole.append(_estimate(tables, drawn))
        for shots, evaluations in zip(self._ranges, self._running, strict=True):
            evaluations.append(_estimate(tables, [outcomes[:shots] for outcomes in drawn]))

    def add_outcomes(self, rows: NDArray[np.uint8], bits: int) -> None:
        """One parameter set's outcomes of the circuit's own measurements."""
        self._whole.append(self._outcomes(rows, bits))
        for shots, evaluations in zip(self._ranges, self._running, strict=True):
            evaluations.append(self._outcomes(rows[:shots], bits))

    def _outcomes(self, rows: NDArray[np.uint8], bits: int) -> Evaluation:
        if self._request.per_shot:
            return Evaluation(_EMPTY, _EMPTY, rows.tobytes(), None, bits)
        distinct, counts = sampling.count_rows(rows)
        return Evaluation(_EMPTY, _EMPTY, np.ascontiguousarray(distinct).tobytes(), counts, bits)

    def executed(self, parse_s: float, simulate_s: float, sample_s: float) -> Executed:
        """The job's result."""
        partial = tuple(
            PartialEstimate(shots, tuple(evaluations))
            for shots, evaluations in zip(self._ranges, self._running, strict=True)
        )
        return Executed(tuple(self._whole), partial, parse_s, simulate_s, sample_s)


def _estimate(tables: Tables, drawn: list[NDArray[np.int64]]) -> Evaluation:
    """Values and standard errors from the outcomes of every basis."""
    tallies: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    for basis, outcomes in enumerate(drawn):
        if tables.weights is not None:
            weights = tables.weights[basis]
            tallies.append((weights, np.bincount(outcomes, minlength=weights.shape[1]).astype(np.float64)))
        else:
            seen, counts = np.unique(outcomes, return_counts=True)
            weights = grouping_of.outcome_weights(tables.grouping, basis, seen, tables.inverses)
            tallies.append((weights, counts.astype(np.float64)))
    return _combine(tables, tallies, drawn[0].size)


def _combine(
    tables: Tables, tallies: list[tuple[NDArray[np.float64], NDArray[np.float64]]], shots: int
) -> Evaluation:
    """Sum over bases of what (weights, counts) of each basis say; bases are independent."""
    values = np.array(tables.grouping.constants)
    variances = np.zeros_like(values)
    for basis, (weights, counts) in enumerate(tallies):
        if tables.grouping.assignment[basis]:
            mean, variance = sampling.estimate(weights, counts, shots)
            values += mean
            variances += variance
    return Evaluation(values, np.sqrt(variances), None, None, 0)
