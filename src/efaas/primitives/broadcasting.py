"""Which parameter sets and observables of a PUB go into which job.

A PUB's parameter sets and observables are broadcast against each other. A job evaluates all its observables
at all its parameter sets, so sets that need the same observables go together: an outer product is one job,
a PUB whose i-th set goes with its i-th observable is one job a set. No PUB becomes more than `MAX_JOBS` jobs
by this; past it, groups are joined and more is evaluated than was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_JOBS = 64
"""Jobs with different observables that a PUB is split into."""

Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One job of a PUB."""

    points: tuple[int, ...]
    """Rows of the flattened parameter array."""
    observables: tuple[int, ...]
    """Indices of distinct observables."""
    elements: Indices
    """Elements of the flattened result that are read from this job."""
    rows: Indices
    """For each of them: which of `points`."""
    columns: Indices
    """For each of them: which of `observables`."""


def batches(
    parameters_shape: tuple[int, ...],
    observable_of: Indices,
    *,
    most_points: int = 4096,
    most_observables: int = 256,
) -> list[Batch]:
    """Split a PUB.

    Args:
        parameters_shape: of the bindings.
        observable_of: in the shape of the observables array: index of the distinct observable.
        most_points: parameter sets of a job.
        most_observables: observables of a job.

    Returns:
        Batches that read every element of the broadcast result exactly once, in a fixed order.
    """
    shape = np.broadcast_shapes(parameters_shape, observable_of.shape)
    count = int(np.prod(parameters_shape, dtype=np.intp))
    point = np.broadcast_to(np.arange(count, dtype=np.intp).reshape(parameters_shape), shape).ravel()
    which = np.broadcast_to(observable_of, shape).ravel()
    if not point.size:
        return []
    if point.size == 1:
        zero = np.zeros(1, dtype=np.intp)
        return [Batch((int(point[0]),), (int(which[0]),), zero, zero, zero)]
    needed: dict[int, set[int]] = {}
    for one, other in zip(point.tolist(), which.tolist(), strict=True):
        needed.setdefault(one, set()).add(other)
    groups: dict[tuple[int, ...], list[int]] = {}
    for one, wanted in needed.items():
        groups.setdefault(tuple(sorted(wanted)), []).append(one)
    result = []
    for observables, points in _joined(list(groups.items())):
        mine = np.flatnonzero(np.isin(point, points))
        for chosen in _chunks(observables, most_observables):
            for some in _chunks(points, most_points):
                here = mine[np.isin(which[mine], chosen) & np.isin(point[mine], some)]
                if not here.size:
                    continue
                row = {value: index for index, value in enumerate(some)}
                column = {value: index for index, value in enumerate(chosen)}
                result.append(
                    Batch(
                        tuple(some),
                        tuple(chosen),
                        here,
                        np.array([row[value] for value in point[here].tolist()], dtype=np.intp),
                        np.array([column[value] for value in which[here].tolist()], dtype=np.intp),
                    )
                )
    return result


def _joined(groups: list[tuple[tuple[int, ...], list[int]]]) -> list[tuple[list[int], list[int]]]:
    size = -(-len(groups) // MAX_JOBS)
    result = []
    for start in range(0, len(groups), size):
        some = groups[start : start + size]
        observables = sorted({index for wanted, _ in some for index in wanted})
        result.append((observables, sorted(point for _, points in some for point in points)))
    return result


def _chunks(values: Sequence[int], size: int) -> list[Sequence[int]]:
    return [values[start : start + size] for start in range(0, len(values), size)]
