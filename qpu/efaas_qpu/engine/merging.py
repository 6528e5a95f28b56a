"""Gates and channels joined into as few superoperators as can be.

A density matrix is simulated step by step, and below seven qubits Aer joins no steps itself. Everything
without a parameter (a gate, its noise, a one-qubit neighbour) is therefore multiplied out once when a circuit
is prepared; only gates whose angle changes with every call stay gates. The order of steps on each qubit is
kept, which is all that the result depends on. Superoperators are column-stacked
(`efaas_qpu.engine.channels`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from efaas_qpu.engine.channels import Complex


class Merger:
    """Collects steps in order and gives them back as a circuit."""

    def __init__(self, qubits: int) -> None:
        self._qubits = qubits
        self._steps: list[tuple[Any, tuple[int, ...]]] = []
        """Operation with parameters, or superoperator, and its qubits."""
        self._last: dict[int, int] = {}
        """Step that was last on a qubit."""
        self._waiting: dict[int, Complex] = {}
        """One-qubit superoperators that have not found a step yet."""

    def open(self, operation: Any, where: tuple[int, ...]) -> None:
        """An operation that must stay as it is."""
        for place in where:
            self._settle(place)
        self._push(operation, where)

    def fixed(self, channel: Complex | None, where: tuple[int, ...]) -> None:
        """A superoperator."""
        if channel is None:
            return
        if len(where) == 1:
            before = self._waiting.get(where[0])
            self._waiting[where[0]] = channel if before is None else channel @ before
            return
        if len(where) == 2:
            low, high = (self._waiting.pop(place, None) for place in where)
            if low is not None or high is not None:
                channel = channel @ tensor(_or_identity(high), _or_identity(low))
            before_step = self._last.get(where[0])
            if before_step is not None and before_step == self._last.get(where[1]):
                step, qubits = self._steps[before_step]
                if isinstance(step, np.ndarray) and qubits == where:
                    self._steps[before_step] = (channel @ step, where)
                    return
        else:
            for place in where:
                self._settle(place)
        self._push(channel, where)

    def _push(self, step: Any, where: tuple[int, ...]) -> None:
        for place in where:
            self._last[place] = len(self._steps)
        self._steps.append((step, where))

    def _settle(self, place: int) -> None:
        """Find a step for a waiting one-qubit superoperator: the last one on its qubit, or one of its own."""
        channel = self._waiting.pop(place, None)
        if channel is None:
            return
        number = self._last.get(place)
        if number is not None:
            step, where = self._steps[number]
            if isinstance(step, np.ndarray) and len(where) <= 2:
                if len(where) == 2:
                    low, high = (channel if qubit == place else np.eye(4, dtype=complex) for qubit in where)
                    channel = tensor(high, low)
                self._steps[number] = (channel @ step, where)
                return
        self._push(channel, (place,))

    def circuit(self) -> Any:
        """All of it as a circuit."""
        from qiskit import QuantumCircuit
        from qiskit.circuit import Instruction

        for place in range(self._qubits):
            self._settle(place)
        circuit = QuantumCircuit(self._qubits)
        for step, where in self._steps:
            if isinstance(step, np.ndarray):
                step = Instruction("superop", len(where), 0, [np.ascontiguousarray(step)])
            circuit.append(step, where, copy=False)
        return circuit


def tensor(high: Complex, low: Complex) -> Complex:
    """Superoperator of two qubits from one on each; column-stacked, `low` on the less significant qubit."""
    joined = np.einsum("abcd,efgh->aebfcgdh", high.reshape(2, 2, 2, 2), low.reshape(2, 2, 2, 2))
    result: Complex = joined.reshape(16, 16)
    return result


def _or_identity(channel: Complex | None) -> Complex:
    return np.eye(4, dtype=complex) if channel is None else channel
