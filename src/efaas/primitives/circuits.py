"""What becomes of a circuit before it is sent: measured, compacted, folded, written once.

A program that was transpiled for a device of 127 qubits and uses five of them is sent as a circuit of five:
qubits that no gate touches and no observable looks at are left out. The QPU server places what it gets on
the device anew, by the device's own calibration, so that the choice of physical qubits that a client made is
taken as advice and not as an order; values and outcomes do not depend on it except through noise.

Everything here depends on the circuit alone, so it is done once for a circuit object and kept while that
object lives and holds the same operations: programs change circuits in place.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from efaas.core.identity import circuit_digest
from efaas.errors import CircuitError
from efaas.optimizers.base import Vector

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

_CACHE_SIZE = 64


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A circuit in the form that a QPU server takes."""

    text: bytes | str
    """QPY or OpenQASM 3."""
    digest: str
    """Handle of it."""


@dataclass(eq=False)
class PreparedCircuit:
    """One circuit of a PUB, in the form that all its programs are made from.

    Args:
        circuit: without final measurements if observables are looked at, without idle parameters.
        columns: columns of a parameter array that the circuit depends on; None: all of them.
        names: of all its parameters, in their order.
        support: qubits that an operation acts on, ascending.
        place: what errors name.
    """

    circuit: QuantumCircuit
    columns: tuple[int, ...] | None
    names: tuple[str, ...]
    support: frozenset[int]
    place: str
    _programs: dict[tuple[tuple[int, ...], int], Program] = field(default_factory=dict)

    def qubits(self, looked_at: Iterable[int] = ()) -> tuple[int, ...]:
        """Qubits that are kept, ascending: those in use and those that observables look at; at least one."""
        return tuple(sorted(self.support.union(looked_at))) or (0,)

    def parameters(self, values: Vector) -> Vector:
        """The columns that the circuit depends on.

        Args:
            values: shape (points, parameters of the circuit as given).
        """
        return values if self.columns is None else np.ascontiguousarray(values[:, self.columns])

    def program(self, qubits: tuple[int, ...], factor: int = 1) -> Program:
        """What is sent.

        Args:
            qubits: those that are kept; `qubits()`.
            factor: odd number of times that the circuit is run through, forth and back (`fold`).

        Raises:
            CircuitError: it cannot be served, or not be folded; the text names the operation.
        """
        key = (qubits, factor)
        if key not in self._programs:
            from efaas.ansatze import canonical_program

            try:
                text = canonical_program(fold(compact(self.circuit, qubits), factor))
            except CircuitError as error:
                raise CircuitError(error.message, place=error.place or self.place) from None
            self._programs[key] = Program(text, circuit_digest(text))
        return self._programs[key]


class PreparedCircuits:
    """Circuits that were prepared before, by object.

    Args:
        measured: whether outcomes of measurements are wanted, or values of observables.
    """

    def __init__(self, *, measured: bool) -> None:
        self._measured = measured
        self._known: dict[int, tuple[weakref.ref[Any], QuantumCircuit, PreparedCircuit]] = {}

    def get(self, circuit: QuantumCircuit, place: str) -> PreparedCircuit:
        """The circuit, prepared.

        Args:
            circuit: of a PUB.
            place: what errors name, such as ``pubs[0].circuit``.

        Raises:
            CircuitError: it cannot be served; the text says why.
        """
        known = self._known.get(id(circuit))
        if known is not None:
            reference, copy, prepared = known
            if reference() is circuit and _same(circuit, copy):
                return prepared
        prepared = prepare(circuit, measured=self._measured, place=place)
        if len(self._known) >= _CACHE_SIZE:
            self._known.pop(next(iter(self._known)))
        self._known[id(circuit)] = (weakref.ref(circuit), circuit.copy(), prepared)
        return prepared


def _same(circuit: QuantumCircuit, copy: QuantumCircuit) -> bool:
    return bool(
        circuit.num_qubits == copy.num_qubits and circuit.cregs == copy.cregs and circuit.data == copy.data
    )


def prepare(circuit: QuantumCircuit, *, measured: bool, place: str) -> PreparedCircuit:
    """Check a circuit and leave out what does not matter.

    Args:
        circuit: of a PUB; it is not changed.
        measured: whether outcomes are wanted. If not, measurements at its end are left out.
        place: what errors name.

    Raises:
        CircuitError: it has classical variables, or it measures nothing and outcomes are wanted.
    """
    if getattr(circuit, "num_vars", 0):
        raise CircuitError("has classical variables; use parameters and bits instead", place=place)
    if measured:
        if not any(item.operation.name == "measure" for item in circuit.data):
            raise CircuitError("measures nothing; add measurements, for example measure_all()", place=place)
    elif any(item.operation.name == "measure" for item in circuit.data):
        circuit = circuit.remove_final_measurements(inplace=False)
    columns = None
    names = tuple(parameter.name for parameter in circuit.parameters)
    used = {name for item in circuit.data for name in _parameters_of(item.operation)}
    idle = [parameter for parameter in circuit.parameters if parameter not in used]
    if idle:  # only the global phase depends on them, which nothing can observe
        columns = tuple(index for index, name in enumerate(circuit.parameters) if name in used)
        circuit = circuit.assign_parameters(dict.fromkeys(idle, 0.0), inplace=False)
    support = frozenset(
        circuit.find_bit(bit).index
        for item in circuit.data
        if item.operation.name != "barrier"
        for bit in item.qubits
    )
    return PreparedCircuit(circuit, columns, names, support, place)


def _parameters_of(operation: Any) -> Iterable[Any]:
    for value in getattr(operation, "params", ()):
        yield from getattr(value, "parameters", ())
    for block in getattr(operation, "blocks", ()):
        yield from block.parameters


def compact(circuit: QuantumCircuit, qubits: Sequence[int]) -> QuantumCircuit:
    """The circuit on these of its qubits alone, renumbered in their order; classical bits stay.

    Args:
        circuit: acts on none but these, barriers excepted.
        qubits: indices, ascending.
    """
    if len(qubits) == circuit.num_qubits:
        return circuit
    from qiskit import QuantumCircuit

    result = QuantumCircuit(len(qubits), circuit.num_clbits)
    new = {circuit.qubits[old]: result.qubits[index] for index, old in enumerate(qubits)}
    for item in circuit.data:
        where = [new[bit] for bit in item.qubits if bit in new]
        operation = item.operation
        if operation.name == "barrier":
            if where:
                result.barrier(where)
            continue
        bits = [result.clbits[circuit.find_bit(bit).index] for bit in item.clbits]
        result.append(operation, where, bits, copy=False)
    return result


def fold(circuit: QuantumCircuit, factor: int) -> QuantumCircuit:
    """U (U† U)^k with 2k + 1 = `factor`: the same state, through `factor` times as many gates.

    Barriers keep a transpiler from removing what was added (global folding: Giurgica-Tiron et al.,
    arXiv:2005.10921).

    Args:
        circuit: unitary, if the factor is not 1.
        factor: odd, at least 1.

    Raises:
        CircuitError: an operation has no inverse.
    """
    if factor == 1:
        return circuit
    for item in circuit.data:
        name = item.operation.name
        if item.clbits or name in ("reset", "delay", "initialize") or getattr(item.operation, "blocks", ()):
            raise CircuitError(
                f"has the operation {name!r}, which zero-noise extrapolation cannot run backwards; "
                "set resilience.zne_mitigation to False"
            )
    inverse = circuit.inverse()
    folded = circuit.copy()
    for _ in range(factor // 2):
        for part in (inverse, circuit):
            folded.barrier()
            folded.compose(part, inplace=True)
    return folded
