"""What a program may hand to `Session.submit`, brought into one form and checked before anything is sent."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from efaas.errors import CircuitError, InputError, ParameterError
from efaas.optimizers.base import Vector
from efaas.runner.jobs import Terms, as_matrix

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

_CACHE_SIZE = 64


class Circuits:
    """Circuits as the programs that a QPU server takes; the same circuit is written only once.

    A circuit is known again by what is in it, not by which object it is: programs change circuits in place.
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, str | bytes] = {}

    def program(self, circuit: QuantumCircuit | str | bytes, *, measured: bool) -> str | bytes:
        """OpenQASM 3 text or QPY bytes of a circuit.

        Args:
            circuit: Qiskit's, or a program ready to be sent.
            measured: whether its outcomes are wanted (a circuit without measurements gets them on all
                qubits), or values of observables (measurements at its end are left out).

        Raises:
            CircuitError: it cannot be written in the form that servers take.
        """
        if isinstance(circuit, str | bytes):
            return circuit
        if not hasattr(circuit, "num_qubits") or not hasattr(circuit, "data"):
            raise CircuitError(
                f"is a {type(circuit).__name__}; give a Qiskit QuantumCircuit, OpenQASM 3 text or QPY bytes",
                place="circuit",
            )
        key = _fingerprint(circuit, measured)
        if key is not None and key in self._known:
            return self._known[key]
        written = _written(circuit, measured)
        if key is not None:
            if len(self._known) >= _CACHE_SIZE:
                self._known.pop(next(iter(self._known)))
            self._known[key] = written
        return written


def _written(circuit: QuantumCircuit, measured: bool) -> str | bytes:
    from efaas.ansatze import canonical_program

    has_measurements = any(item.operation.name == "measure" for item in circuit.data)
    if measured and not has_measurements:
        circuit = circuit.measure_all(inplace=False)
    elif not measured and has_measurements:
        circuit = circuit.remove_final_measurements(inplace=False)
        if any(item.operation.name == "measure" for item in circuit.data):
            raise CircuitError(
                "measures in its middle; with an observable it must not measure at all", place="circuit"
            )
    return canonical_program(circuit)


def _fingerprint(circuit: QuantumCircuit, measured: bool) -> Hashable | None:
    """Everything that is in a circuit, in a form that can be compared; None if something in it cannot."""
    gates = []
    for item in circuit.data:
        if not item.is_standard_gate() and item.name not in ("measure", "barrier"):
            return None  # a gate of the user's own: its name does not tell what it does
        qubits = tuple(circuit.find_bit(bit).index for bit in item.qubits)
        clbits = tuple(circuit.find_bit(bit).index for bit in item.clbits)
        gates.append((item.name, tuple(item.params), qubits, clbits))
    key = (circuit.num_qubits, circuit.num_clbits, measured, tuple(gates))
    try:
        hash(key)
    except TypeError:
        return None
    return key


def check_parameters(circuit: Any, parameters: Any) -> Vector:
    """Parameters as a matrix, one row a point, if they fit the circuit.

    Args:
        circuit: tells how many there must be, if it is Qiskit's.
        parameters: a vector, a list of vectors, or None for a circuit without parameters.

    Raises:
        ParameterError: wrong number of columns, or not finite.
    """
    matrix = as_matrix(np.empty((1, 0)) if parameters is None else parameters)
    wanted = getattr(circuit, "num_parameters", matrix.shape[1])
    if matrix.shape[1] != wanted:
        raise ParameterError(
            f"have {matrix.shape[1]} numbers a point, the circuit has {wanted} parameters", place="parameters"
        )
    if not len(matrix):
        raise ParameterError("hold no point; give at least one", place="parameters")
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise ParameterError("is not finite", place=f"parameters[{row}][{column}]")
    return matrix


def as_observables(given: Any, qubits: int | None) -> tuple[Terms, ...]:
    """Observables as Pauli terms.

    Args:
        given: a SparsePauliOp, a Pauli string, a list of (Pauli string, coefficient); or a list of several
            of these;
            None: none, outcomes are wanted.
        qubits: of the circuit, where known.

    Raises:
        InputError: not Hermitian, another number of qubits, or nothing of the kind.
    """
    if given is None:
        return ()
    items = list(given) if isinstance(given, list | tuple) and not _is_terms(given) else [given]
    if not items:
        raise InputError("is an empty list; leave it out to get outcomes", place="observable")
    many = len(items) > 1
    return tuple(
        _terms(item, qubits, f"observable[{index}]" if many else "observable")
        for index, item in enumerate(items)
    )


def _is_terms(given: Any) -> bool:
    """Whether a list is the terms of one observable rather than several observables."""
    return all(
        isinstance(term, list | tuple)
        and len(term) == 2
        and isinstance(term[0], str)
        and not isinstance(term[1], str)
        for term in given
    ) and bool(given)


def _terms(item: Any, qubits: int | None, place: str) -> Terms:
    pairs: Iterable[tuple[Any, Any]]
    if isinstance(item, str):
        pairs = [(item, 1.0)]
    elif hasattr(item, "to_list"):
        pairs = item.to_list()
    elif hasattr(item, "to_label"):
        pairs = [(item.to_label(), 1.0)]
    elif isinstance(item, list | tuple) and _is_terms(item):
        pairs = item
    else:
        raise InputError(
            f"is a {type(item).__name__}; give a SparsePauliOp or a list of (Pauli string, coefficient)",
            place=place,
        )
    terms = tuple((_pauli(pauli, place), _real(coefficient, place)) for pauli, coefficient in pairs)
    lengths = {len(pauli) for pauli, _ in terms} | ({qubits} if qubits is not None else set())
    if len(lengths) > 1:
        raise InputError(f"has strings of {len(terms[0][0])} qubits, the circuit has {qubits}", place=place)
    return terms


def _pauli(text: Any, place: str) -> str:
    if not isinstance(text, str) or not text or text.strip("IXYZ"):
        raise InputError(f"{text!r} is not a string of I, X, Y and Z", place=place)
    return text


def _real(value: Any, place: str) -> float:
    number = complex(value)
    if abs(number.imag) > 1e-12 * max(1.0, abs(number.real)) or not math.isfinite(number.real):
        raise InputError(f"the coefficient {value} is not a finite real number", place=place)
    return float(number.real)
