"""Parameter values of a PUB as the matrix that a QPU server takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from efaas.errors import InputError
from efaas.optimizers.base import Vector


def points(bindings: Any, names: tuple[str, ...], place: str) -> Vector:
    """Parameter sets, one a row, of the flattened PUB.

    Args:
        bindings: Qiskit's `BindingsArray`.
        names: of the circuit's parameters, in their order: the columns.
        place: what errors name.

    Returns:
        Shape (parameter sets, parameters), radians.

    Raises:
        InputError: a value is not finite.
    """
    data = bindings.data
    # Nearly always the values come as one array in the order of the circuit's parameters.
    values = data[names] if len(data) == 1 and names in data else bindings.as_array(names)
    matrix: Vector = np.ascontiguousarray(values, dtype=np.float64).reshape(bindings.size, len(names))
    if not np.isfinite(matrix).all():
        raise InputError("hold a value that is not finite", place=place)
    return matrix
