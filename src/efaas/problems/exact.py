"""Exact energies: what a variational result is compared with.

A Pauli string with X-or-Y at the bits of x and Z-or-Y at the bits of z acts on a basis state as
P |k> = i^|x&z| (-1)^|k&z| |k^x>. Strings with the same x therefore add up to one diagonal followed by one
flip of bits, and the diagonal, Σ c i^|x&z| (-1)^|k&z| over all k, is the Walsh-Hadamard transform of the
coefficients placed at their z: n 2^n additions for any number of strings. That makes three things cheap
without ever building the matrix: H applied to a statevector (for Lanczos), the energy of a statevector,
and, where there is no X or Y, the table of all energies.

What is too large to be done in seconds and in some hundred MiB is answered with None, never with a guess.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from efaas.problems.hamiltonian import Hamiltonian

DENSE_QUBITS = 8
"""Up to here all eigenvalues of the matrix are computed; above, Lanczos."""
LANCZOS_QUBITS = 18
DIAGONAL_QUBITS = 24
DIAGONAL_ENTRIES = 1 << 25
"""Most entries of stored diagonals in a Lanczos run: 256 MiB real, 512 MiB complex."""
_CHUNK_QUBITS = 18
"""Energies of a diagonal Hamiltonian are tabulated 2^18 at a time: 2 MiB, which a cache holds."""

Amplitudes = NDArray[Any]
"""Complex, or real where the Hamiltonian is a real matrix."""


def exact_ground_energy(hamiltonian: Hamiltonian) -> float | None:
    """Lowest eigenvalue, over all states of the qubits; in the Hamiltonian's unit.

    Dense up to 8 qubits; Lanczos (ARPACK to machine precision, a fixed start vector, the same result each
    time) up to 18; Hamiltonians of I and Z only by enumeration up to 24.

    Returns:
        None when it is too large: more qubits than these, or so many different flips that their diagonals
        take more than `DIAGONAL_ENTRIES`.
    """
    if hamiltonian.is_diagonal:
        found = diagonal_minimum(hamiltonian)
        return None if found is None else found[0]
    n = hamiltonian.num_qubits
    if n <= DENSE_QUBITS:
        return float(np.linalg.eigvalsh(_dense(hamiltonian))[0])
    if n > LANCZOS_QUBITS:
        return None
    flips = len({x for x, _, _ in _masks(hamiltonian)})
    return None if flips << n > DIAGONAL_ENTRIES else _lanczos(hamiltonian)


def diagonal_minimum(hamiltonian: Hamiltonian) -> tuple[float, int] | None:
    """Lowest energy of a Hamiltonian of I and Z only, and the first basis state that has it.

    The states are gone through in chunks that share their upper bits, so memory stays small. In the number
    of a state qubit 0 is least significant.

    Returns:
        None for more than 24 qubits.

    Raises:
        ValueError: a term has X or Y.
    """
    if not hamiltonian.is_diagonal:
        raise ValueError("a term has X or Y; only a Hamiltonian of I and Z has its minimum at a basis state")
    n = hamiltonian.num_qubits
    if n > DIAGONAL_QUBITS:
        return None
    low_qubits = min(n, _CHUNK_QUBITS)
    low_mask = (1 << low_qubits) - 1
    masks = np.array([z for _, z, _ in _masks(hamiltonian)])
    coefficients = np.array([c for _, c in hamiltonian.terms])
    # Energies that are equal on paper differ by rounding; within this they count as equal.
    rounding = 1e-12 * float(np.abs(coefficients).sum())
    best, best_state = np.inf, 0
    for high in range(1 << (n - low_qubits)):
        signs = 1 - 2.0 * (np.bitwise_count(masks >> low_qubits & high) & 1)
        energies = np.bincount(masks & low_mask, weights=signs * coefficients, minlength=1 << low_qubits)
        _walsh_hadamard(energies)
        lowest = energies.min()
        if lowest < best - rounding:
            best = float(lowest)
            best_state = high << low_qubits | int(np.argmax(energies <= lowest + rounding))
    return best, best_state


def expectation(hamiltonian: Hamiltonian, statevector: NDArray[Any]) -> float:
    """Energy <psi|H|psi> of a statevector.

    Args:
        hamiltonian: the Hamiltonian.
        statevector: shape (2^n,), amplitudes with qubit 0 least significant in the index, of norm 1 (not
            checked).

    Raises:
        ValueError: wrong shape.
    """
    if statevector.shape != (1 << hamiltonian.num_qubits,):
        raise ValueError(
            f"the statevector has shape {statevector.shape}; {hamiltonian.num_qubits} qubits need "
            f"({1 << hamiltonian.num_qubits},)"
        )
    indices = np.arange(statevector.size)
    total = 0.0
    for x, diagonal in _diagonals(hamiltonian):
        # <psi|P|psi> = Σ_k conj(psi[k^x]) d[k] psi[k]
        total += float(np.vdot(statevector[indices ^ x], diagonal * statevector).real)
    return total


def _masks(hamiltonian: Hamiltonian) -> list[tuple[int, int, int]]:
    """(x mask, z mask, number of Y) of each term."""
    to_x, to_z = str.maketrans("IXYZ", "0110"), str.maketrans("IXYZ", "0011")
    return [
        (int(pauli.translate(to_x), 2), int(pauli.translate(to_z), 2), pauli.count("Y"))
        for pauli, _ in hamiltonian.terms
    ]


def _walsh_hadamard(values: Amplitudes) -> None:
    """Transform in place: values[k] becomes Σ_z values[z] (-1)^|k&z|; the length is a power of two."""
    half = 1
    while half < values.size:
        pairs = values.reshape(-1, 2, half)
        upper = pairs[:, 1].copy()
        np.subtract(pairs[:, 0], upper, out=pairs[:, 1])
        pairs[:, 0] += upper
        half *= 2


def _diagonals(hamiltonian: Hamiltonian) -> list[tuple[int, Amplitudes]]:
    """For each x the diagonal d with H |k> = Σ_x d_x[k] |k^x>; real if no string has an odd number of Y."""
    masks = _masks(hamiltonian)
    real = all(ys % 2 == 0 for _, _, ys in masks)
    size = 1 << hamiltonian.num_qubits
    diagonals: dict[int, Amplitudes] = {}
    for (x, z, ys), (_, coefficient) in zip(masks, hamiltonian.terms, strict=True):
        if x not in diagonals:
            diagonals[x] = np.zeros(size, dtype=np.float64 if real else np.complex128)
        phase = (1, 1j, -1, -1j)[ys % 4]
        diagonals[x][z] += coefficient * phase
    for diagonal in diagonals.values():
        _walsh_hadamard(diagonal)
    return sorted(diagonals.items())


def _dense(hamiltonian: Hamiltonian) -> NDArray[np.complex128]:
    """The matrix, shape (2^n, 2^n)."""
    indices = np.arange(1 << hamiltonian.num_qubits)
    matrix = np.zeros((indices.size, indices.size), dtype=np.complex128)
    for x, diagonal in _diagonals(hamiltonian):
        matrix[indices ^ x, indices] = diagonal
    return matrix


def _lanczos(hamiltonian: Hamiltonian) -> float | None:
    """Lowest eigenvalue by ARPACK, or None if it did not converge."""
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    size = 1 << hamiltonian.num_qubits
    indices = np.arange(size)
    diagonals = _diagonals(hamiltonian)
    dtype = diagonals[0][1].dtype

    def apply(vector: Amplitudes) -> Amplitudes:
        vector = vector.reshape(-1)
        result = np.zeros(size, dtype=dtype)
        for x, diagonal in diagonals:
            product = diagonal * vector
            result += product[indices ^ x] if x else product
        return result

    start = np.random.default_rng(0).standard_normal(size).astype(dtype)
    operator = LinearOperator((size, size), matvec=apply, dtype=dtype)
    for basis in (24, 96):
        try:
            values = eigsh(
                operator, k=1, which="SA", v0=start, ncv=basis, maxiter=60, return_eigenvectors=False
            )
        except ArpackNoConvergence:
            continue
        return float(values[0])
    return None
