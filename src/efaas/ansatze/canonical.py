"""One form for every circuit, and bytes that are the same in every process.

A circuit's digest is part of every job's id, so a program that is run again must produce the very same
bytes. Qiskit does not promise that: parameters carry random identifiers, circuits are numbered as they are
made, definitions of gates outside the standard library are saved under random names, and the symbols of an
expression are written in the order of a hash table. `standard_form` leaves none of it:

- gates outside Qiskit's standard library are replaced by their definitions (control flow is refused);
- each angle is a number or b + Σ a_k θ_k with numbers a_k, b; anything else is refused, since the simulator
  takes angles as an affine map of the parameters;
- parameters are plain ones, named so that their order (Qiskit sorts by name) is the order they had,
  identified by their names;
- names, metadata, registers and the global phase, which nothing can observe, are dropped. (A phase that is
  a long expression makes a circuit slow to read.)

`canonical_program` writes that form as QPY, which is read in a tenth of a millisecond. Where an angle
depends on several parameters, QPY's order of symbols is not stable, and the program is OpenQASM 3 text
instead. QPY names the version of Qiskit that wrote it: after an upgrade of Qiskit the bytes differ.
"""

from __future__ import annotations

import io
import math
import re
import uuid
from functools import cache
from typing import TYPE_CHECKING, Any

from efaas.core.identity import digest
from efaas.errors import CircuitError

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.circuit import Parameter

GATE_LIMIT = 100_000
"""Most operations of a circuit once all definitions are expanded."""

QPY_VERSION = 13
"""Oldest version that a QPU server reads, so that any newer Qiskit on its side can."""

_NAME = re.compile(r"[^\W\d]\w*")
_RESERVED = (
    "OPENQASM include defcalgrammar def cal defcal gate extern box let break continue if else end "
    "return for while in switch case default pragma input output const readonly mutable qreg qubit creg "
    "bool bit int uint float angle complex array void duration stretch gphase inv pow ctrl negctrl dim "
    "durationof delay reset measure barrier true false im pi tau euler U CX "
)
_WORDS_OF_OPENQASM = frozenset(_RESERVED.split())


def standard_form(circuit: QuantumCircuit, *, gate_limit: int = GATE_LIMIT) -> QuantumCircuit:
    """The circuit with standard gates, affine angles and named parameters only; see the module's text.

    Applying it twice gives the same as once.

    Raises:
        CircuitError: control flow or a gate without a definition; more than `gate_limit` operations; an
            angle that is not affine in the parameters or not finite; a parameter without effect on the
            state.
    """
    from qiskit import QuantumCircuit

    parameters = _named(circuit)
    result = QuantumCircuit(circuit.num_qubits, circuit.num_clbits, name="circuit")
    expansion = _Expansion(result, parameters, gate_limit)
    try:
        expansion.append(circuit, list(result.qubits), list(result.clbits))
    except RecursionError:
        raise CircuitError("the circuit's gates are defined by one another too deeply") from None
    used = {parameter.name for parameter in result.parameters}
    for given, named in parameters.items():
        if named.name not in used:
            raise CircuitError(
                f"the parameter {given.name!r} has no effect on the circuit's state; leave it out"
            )
    return result


def canonical_program(circuit: QuantumCircuit) -> bytes | str:
    """What is sent to a QPU server, and digested: the same in every process that runs the same Qiskit.

    Returns:
        QPY bytes, or OpenQASM 3 text where an angle depends on several parameters.

    Raises:
        CircuitError: as `standard_form`.
    """
    from qiskit import qasm3, qpy

    form = standard_form(circuit)
    if any(
        len(getattr(angle, "parameters", ())) > 1 for gate in form.data for angle in gate.operation.params
    ):
        return str(qasm3.dumps(form))
    buffer = io.BytesIO()
    qpy.dump(form, buffer, version=max(QPY_VERSION, qpy.common.QPY_COMPATIBILITY_VERSION))
    return buffer.getvalue()


def affine(angle: Any) -> tuple[float, list[tuple[Parameter, float]]]:
    """The angle as b + Σ a_k θ_k: (b, [(θ_k, a_k), …]) sorted by name, without vanishing a_k.

    Raises:
        CircuitError: not of that form, or not finite.
    """
    parameters = sorted(getattr(angle, "parameters", ()), key=lambda parameter: str(parameter.name))
    factors = []
    try:
        for parameter in parameters:
            slope = angle.gradient(parameter)
            if getattr(slope, "parameters", ()):
                raise CircuitError(
                    f"the angle {str(angle)[:60]} is not linear in the parameter {parameter.name!r}"
                )
            factors.append((parameter, _real(slope, angle)))
        offset = _real(angle.bind(dict.fromkeys(parameters, 0.0)) if parameters else angle, angle)
    except CircuitError:
        raise
    except Exception as error:  # Qiskit raises errors of many kinds for what it cannot differentiate or bind
        raise CircuitError(f"the angle {str(angle)[:60]} is not a linear expression of parameters") from error
    return offset, [(parameter, factor) for parameter, factor in factors if factor]


def _real(value: Any, angle: Any) -> float:
    """A number as a finite float."""
    number = complex(value)
    if number.imag or not math.isfinite(number.real):
        raise CircuitError(f"the angle {str(angle)[:60]} is not a finite real number")
    return number.real


def _angle(value: Any, parameters: dict[Parameter, Parameter]) -> Any:
    """The angle rebuilt from named parameters, in one way only."""
    offset, factors = affine(value)
    result: Any = None
    for parameter, factor in sorted(factors, key=lambda pair: str(parameters[pair[0]].name)):
        named = parameters[parameter]
        summand = named if factor == 1 else factor * named
        result = summand if result is None else result + summand
    if result is None:
        return offset
    return result + offset if offset else result


def _named(circuit: QuantumCircuit) -> dict[Parameter, Parameter]:
    """For each parameter a plain one that is identified by its name, a word of OpenQASM."""
    from qiskit.circuit import Parameter, ParameterVectorElement

    given = list(circuit.parameters)
    names = []
    for parameter in given:
        if isinstance(parameter, ParameterVectorElement):
            digits = len(str(len(parameter.vector) - 1))
            names.append(f"{parameter.vector.name}_{parameter.index:0{digits}d}")
        else:
            names.append(parameter.name)
    usable = all(_NAME.fullmatch(name) and name not in _WORDS_OF_OPENQASM for name in names)
    if not usable or names != sorted(set(names)):
        digits = len(str(len(given)))
        names = [f"parameter_{position:0{digits}d}" for position in range(len(given))]
    return {
        parameter: Parameter(name, uuid=uuid.UUID(hex=digest("parameter", name)))
        for parameter, name in zip(given, names, strict=True)
    }


class _Expansion:
    """Copies circuits, definitions expanded, to the end of one circuit."""

    def __init__(self, result: QuantumCircuit, parameters: dict[Parameter, Parameter], limit: int) -> None:
        self._result = result
        self._parameters = parameters
        self._limit = limit
        # Expanded gates count as well as the operations they leave, so that empty definitions end too.
        self._steps = 0

    def append(self, circuit: QuantumCircuit, qubits: list[Any], clbits: list[Any]) -> None:
        """Append a circuit's operations on these bits."""
        for instruction in circuit.data:
            self._steps += 1
            if self._steps > self._limit:
                raise CircuitError(f"the circuit has more than {self._limit} operations, its gates expanded")
            operation = instruction.operation
            on_qubits = [qubits[circuit.find_bit(bit).index] for bit in instruction.qubits]
            on_clbits = [clbits[circuit.find_bit(bit).index] for bit in instruction.clbits]
            if operation.name == "global_phase":
                continue
            if operation.name == "barrier" or _is_standard(operation):
                self._result.append(self._copy(operation), on_qubits, on_clbits, copy=False)
                continue
            if getattr(operation, "blocks", ()):
                raise CircuitError(f"the circuit has control flow ({operation.name}); only gates are taken")
            definition = getattr(operation, "definition", None)
            if definition is None:
                raise CircuitError(f"the gate {operation.name!r} has no definition in standard gates")
            self.append(definition, on_qubits, on_clbits)

    def _copy(self, operation: Any) -> Any:
        """The operation without its label, with rebuilt angles."""
        if operation.name == "barrier":
            return type(operation)(operation.num_qubits)
        if operation.name == "delay":
            return operation.base_class(_delay_ns(operation), "dt")
        return operation.base_class(*(_angle(value, self._parameters) for value in operation.params))


_UNITS_NS = {"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1.0, "ps": 1e-3, "dt": 1.0}


def _delay_ns(operation: Any) -> int:
    """Length of a delay in nanoseconds, which a QPU server takes ``dt`` for.

    QPY as Qiskit 2 writes it keeps a delay's number and forgets its unit: 50 µs would come out as 50 dt.

    Raises:
        CircuitError: the length is no number, or none that can be waited for.
    """
    try:
        length = float(operation.duration) * _UNITS_NS[operation.unit]
    except (TypeError, ValueError, KeyError):
        length = math.nan
    if not 0 <= length < 1e12:
        raise CircuitError(
            f"a delay of {str(operation.duration)[:60]} {operation.unit} cannot be run; "
            "give a number of seconds, or of a part of them"
        )
    return round(length)


def _is_standard(operation: Any) -> bool:
    """Whether an operation is one of Qiskit's library and not a namesake."""
    known = _standard_gates().get(operation.name)
    return known is not None and getattr(operation, "base_class", None) is known


@cache
def _standard_gates() -> dict[str, type]:
    """Classes of the standard library by name."""
    from qiskit.circuit.library.standard_gates import get_standard_gate_name_mapping

    return {name: gate.base_class for name, gate in get_standard_gate_name_mapping().items()}
