"""The independent oracle of these tests: matrices from Kronecker products, as a textbook writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
from numpy.typing import NDArray

Terms = Iterable[tuple[str, float]]
Matrix = Callable[[Terms], NDArray[np.complex128]]

PAULIS = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1.0, -1.0]),
}


def _matrix(terms: Terms) -> NDArray[np.complex128]:
    products = []
    for pauli, coefficient in terms:
        product = np.ones((1, 1), dtype=np.complex128)
        for letter in pauli:
            product = np.kron(product, PAULIS[letter])
        products.append(coefficient * product)
    return np.asarray(sum(products[1:], products[0]))


@pytest.fixture(scope="session")
def matrix() -> Matrix:
    """Matrix of a sum of Pauli strings; the leftmost letter is the most significant bit."""
    return _matrix


@pytest.fixture(scope="session")
def lowest() -> Callable[[Terms], float]:
    """Lowest eigenvalue of a sum of Pauli strings."""
    return lambda terms: float(np.linalg.eigvalsh(_matrix(terms))[0])
