"""From a state to outcome probabilities, shots and estimates.

Rotation into a measurement basis, its noise, and readout errors act on each qubit alone. For a density matrix
they are one 2×4 matrix a qubit from (row, column) of the state to the outcome as read, so that all bases of a
job come from one simulation of its circuit. For a statevector the rotation is a 2×2 matrix, and readout
errors act on the probabilities.

Shots are drawn from the probabilities by inverse CDF with the uniform numbers that `efaas.core.identity`
gives to this job, pair and shot: counts do not depend on slices, restarts or order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from efaas.core.identity import ShotSource
from efaas_qpu.engine.channels import Complex

Probabilities = NDArray[np.float64]

_SHOTS = ShotSource()
"""The worker has one thread."""

_DENSE_QUBITS = 4
"""Up to here all bases are one dense real matrix; above, qubits are contracted one after another."""

TRACE: Complex = np.array([[1, 0, 0, 1]], dtype=complex)
"""Map of a qubit that nobody looks at, on (row, column) pairs 00, 01, 10, 11."""


class DensityMeasurement:
    """Measurement of a density matrix in several bases.

    Args:
        maps: for each basis, for each qubit of the state: shape (2, 4) from (row, column) to the outcome, or
            `TRACE`.
        order: qubits of the state whose outcomes are kept; outcome bit k is the qubit order[k].
    """

    def __init__(self, maps: list[list[Complex]], order: tuple[int, ...]) -> None:
        self._maps = maps
        self._qubits = len(maps[0])
        kept = [qubit for qubit in reversed(range(self._qubits)) if qubit in order]
        # Axes of the result, most significant first, are the kept qubits in descending order; wanted is
        # `order` with its last entry most significant.
        self._axes = tuple(kept.index(qubit) for qubit in reversed(order))
        self._dense: NDArray[np.float64] | None = None
        if self._qubits <= _DENSE_QUBITS:
            self._dense = np.stack([self._dense_basis(basis) for basis in maps])

    def _dense_basis(self, basis: list[Complex]) -> NDArray[np.float64]:
        total = np.ones((1, 1, 1), dtype=complex)
        for matrix in reversed(basis):
            total = np.kron(total, matrix.reshape(-1, 2, 2))
        total = self._reorder(total.reshape(total.shape[0], -1))
        # Re(D·ρ) = [Re D, -Im D]·[Re ρ, Im ρ], interleaved as complex numbers lie in memory.
        return np.ascontiguousarray(np.stack([total.real, -total.imag], axis=-1).reshape(total.shape[0], -1))

    def _reorder(self, table: NDArray[np.generic]) -> NDArray[np.generic]:
        """Permute the outcomes along the first axis."""
        bits = len(self._axes)
        rest = table.shape[1:]
        return (
            table.reshape((2,) * bits + rest)
            .transpose((*self._axes, *range(bits, bits + len(rest))))
            .reshape(table.shape)
        )

    def __call__(self, state: Complex) -> Probabilities:
        """Outcome probabilities, shape (bases, outcomes)."""
        if self._dense is not None:
            flat = np.ascontiguousarray(state, dtype=complex).reshape(-1).view(np.float64)
            dense: Probabilities = self._dense @ flat
            return dense
        qubits = self._qubits
        axes = [axis for place in range(qubits) for axis in (place, qubits + place)]
        paired = np.ascontiguousarray(np.asarray(state).reshape((2,) * (2 * qubits)).transpose(axes)).reshape(
            4, -1
        )
        return np.stack([self._contract(paired, basis) for basis in self._maps])

    def dual(self, weights: tuple[NDArray[np.float64], ...]) -> NDArray[np.float64] | None:
        """What the mean of functions of the outcome is, as a function of the state itself.

        Args:
            weights: for each basis: shape (functions, outcomes).

        Returns:
            Shape (functions, 2·4^qubits), to multiply states with as real vectors; None above four qubits.
        """
        if self._dense is None:
            return None
        return np.asarray(np.sum([w @ d for w, d in zip(weights, self._dense, strict=True)], axis=0))

    def _contract(self, paired: Complex, basis: list[Complex]) -> Probabilities:
        table = paired
        for matrix in reversed(basis):
            # The first axis is a qubit's (row, column); its outcome goes to the end, which rotates the axes.
            table = table.reshape(4, -1).T @ matrix.T
        result: Probabilities = self._reorder(table.reshape(-1).real)  # type: ignore[assignment]
        return result


class VectorMeasurement:
    """Measurement of a statevector in several bases.

    Args:
        rotations: for each basis, for each qubit: 2×2 unitary, or None for none.
        order: qubits whose outcomes are kept; outcome bit k is the qubit order[k].
        confusions: for each outcome bit, C of its readout; None: ideal readout.
    """

    def __init__(
        self,
        rotations: list[list[Complex | None]],
        order: tuple[int, ...],
        confusions: list[NDArray[np.float64]] | None,
    ) -> None:
        self._rotations = rotations
        self._qubits = len(rotations[0])
        self._order = order
        self._confusions = confusions

    def __call__(self, state: Complex) -> Probabilities:
        """Outcome probabilities, shape (bases, outcomes)."""
        return np.stack([self._measure(np.asarray(state), basis) for basis in self._rotations])

    def _measure(self, state: Complex, basis: list[Complex | None]) -> Probabilities:
        qubits = self._qubits
        for qubit, rotation in enumerate(basis):
            if rotation is not None:
                table = state.reshape(2 ** (qubits - 1 - qubit), 2, 2**qubit)
                state = np.matmul(rotation, table).reshape(-1)
        probabilities: Probabilities = state.real**2 + state.imag**2
        cube = probabilities.reshape((2,) * qubits)
        dropped = tuple(qubits - 1 - qubit for qubit in range(qubits) if qubit not in self._order)
        if dropped:
            cube = cube.sum(axis=dropped)
        kept = [qubit for qubit in reversed(range(qubits)) if qubit in self._order]
        cube = cube.transpose([kept.index(qubit) for qubit in reversed(self._order)])
        result = np.ascontiguousarray(cube).reshape(-1)
        if self._confusions is not None:
            for bit, matrix in enumerate(self._confusions):
                result = np.matmul(matrix, result.reshape(-1, 2, 2**bit)).reshape(-1)
        return result


def draw(
    probabilities: Probabilities, session_seed: int, job: str, pair: int, shots: int, first_shot: int = 0
) -> NDArray[np.int64]:
    """Outcomes of a run of shots of one pair.

    Args:
        probabilities: shape (outcomes,); tiny negative rounding errors are taken for 0.
        session_seed: the session's seed.
        job: the job's id.
        pair: index of the (parameter set, basis) pair.
        shots: length of the run.
        first_shot: its first shot, a multiple of four.

    Returns:
        Shape (shots,), indices of outcomes.
    """
    cumulative = np.cumsum(np.maximum(probabilities, 0.0))
    uniforms = _SHOTS.uniforms(session_seed, job, pair, first_shot, shots)
    outcomes = np.searchsorted(cumulative, uniforms * cumulative[-1], side="right")
    last: int = int(np.searchsorted(cumulative, cumulative[-1], side="left"))
    drawn: NDArray[np.int64] = np.minimum(outcomes, last, dtype=np.int64)
    return drawn


def draw_counts(
    probabilities: Probabilities, session_seed: int, job: str, pair: int, shots: int
) -> NDArray[np.float64]:
    """How often each outcome comes up in the first shots of a pair: the counts of what `draw` returns.

    Sorting the uniform numbers and finding the few outcomes among them takes a fraction of finding each
    number among the outcomes.

    Returns:
        Shape (outcomes,).
    """
    cumulative = np.cumsum(np.maximum(probabilities, 0.0))
    uniforms = _SHOTS.uniforms(session_seed, job, pair, 0, shots)
    uniforms *= cumulative[-1]
    uniforms.sort()
    below = np.searchsorted(uniforms, cumulative, side="left")
    last = int(np.searchsorted(cumulative, cumulative[-1], side="left"))
    below[last:] = shots
    counts = below.astype(np.float64)
    counts[1:] -= below[:-1]
    return counts


def estimate(
    weights: NDArray[np.float64], counts: NDArray[np.float64], shots: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and squared standard error of functions of the outcome.

    Args:
        weights: shape (functions, outcomes), value of each function at each outcome.
        counts: shape (outcomes,).
        shots: their sum.

    Returns:
        Means and squared standard errors s²/shots with s² the unbiased sample variance (NaN for one shot),
        both of shape (functions,).
    """
    mean = weights @ counts / shots
    if shots < 2:
        return mean, np.full(mean.shape, np.nan)
    centred = weights - mean[:, np.newaxis]
    return mean, (centred * centred) @ counts / (shots - 1) / shots


def pack(outcomes: NDArray[np.int64], places: tuple[int, ...], bits: int) -> NDArray[np.uint8]:
    """Outcomes as rows of bytes.

    Args:
        outcomes: shape (n,); bit k of an outcome goes to classical bit places[k].
        places: classical bits.
        bits: classical bits in all; those not named are 0.

    Returns:
        Shape (n, ceil(bits / 8)), little-endian.
    """
    rows = np.zeros((outcomes.size, (bits + 7) // 8), dtype=np.uint8)
    for source, place in enumerate(places):
        rows[:, place // 8] |= (((outcomes >> source) & 1) << (place % 8)).astype(np.uint8)
    return rows


def rows_from_hex(memory: list[str], bits: int) -> NDArray[np.uint8]:
    """Outcomes as Aer writes them (``0x1f``), as rows of bytes."""
    width = (bits + 7) // 8
    data = b"".join(int(outcome, 16).to_bytes(width, "little") for outcome in memory)
    return np.frombuffer(data, dtype=np.uint8).reshape(len(memory), width)


def count_rows(rows: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Distinct rows in ascending order of the number they stand for, and how often each was seen."""
    if rows.shape[1] <= 8:
        padded = np.zeros((len(rows), 8), dtype=np.uint8)
        padded[:, : rows.shape[1]] = rows
        numbers, counts = np.unique(padded.view("<u8").reshape(-1), return_counts=True)
        distinct = numbers.astype("<u8").view(np.uint8).reshape(-1, 8)[:, : rows.shape[1]]
        return distinct, counts.astype(np.int64)
    distinct, counts = np.unique(rows[:, ::-1], axis=0, return_counts=True)
    return distinct[:, ::-1], counts.astype(np.int64)
