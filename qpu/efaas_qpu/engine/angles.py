"""All gate angles of a circuit as one function of its parameter vector.

A transpiled ansatz has angles such as ``θ₃ + π`` or ``2·θ₀ - π/2``: affine, so that all of them for many
parameter sets are one matrix product of a few microseconds instead of one symbolic substitution each. An
angle that is not affine (``sin θ`` is legal in a circuit) is evaluated by Qiskit, one at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class AngleMap:
    """Angles as A·θ + b.

    Args:
        parameters: the circuit's parameters, in the order of the vector.
        expressions: one for each angle.
    """

    def __init__(self, parameters: Sequence[Any], expressions: Sequence[Any]) -> None:
        index = {parameter: place for place, parameter in enumerate(parameters)}
        self.matrix = np.zeros((len(expressions), len(parameters)))
        self.offset = np.zeros(len(expressions))
        self.other: list[tuple[int, Any, tuple[tuple[int, Any], ...]]] = []
        """Angles that are not affine: (angle, expression, its (parameter index, parameter) pairs)."""
        for row, expression in enumerate(expressions):
            used = tuple((index[parameter], parameter) for parameter in expression.parameters)
            slopes = _slopes(expression, [parameter for _, parameter in used])
            if slopes is None:
                self.other.append((row, expression, used))
                continue
            for (column, _), slope in zip(used, slopes, strict=True):
                self.matrix[row, column] = slope
            self.offset[row] = float(expression.bind({parameter: 0.0 for _, parameter in used}))

    @property
    def affine(self) -> bool:
        """Whether all angles are."""
        return not self.other

    def __call__(self, parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        """Angles, shape (sets, angles), for parameters of shape (sets, parameters)."""
        angles: NDArray[np.float64] = parameters @ self.matrix.T + self.offset
        for row, expression, used in self.other:
            for which, values in enumerate(parameters):
                angles[which, row] = float(
                    expression.bind({name: float(values[column]) for column, name in used})
                )
        return angles


def _slopes(expression: Any, parameters: Sequence[Any]) -> list[float] | None:
    """Derivatives of an affine expression; None if it is not affine."""
    slopes = []
    for parameter in parameters:
        try:
            slope = expression.gradient(parameter)
            if getattr(slope, "parameters", None):
                return None
            value = complex(slope)
        except Exception:
            return None
        if value.imag or not np.isfinite(value.real):
            return None
        slopes.append(value.real)
    return slopes
