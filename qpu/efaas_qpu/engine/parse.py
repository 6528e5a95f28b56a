"""Bounded reading of circuits from outside.

A program is OpenQASM 3 text or QPY bytes, both written by strangers. Length, version and declared sizes are
checked before a parser sees it; what the parser may then spend is bounded in memory here (a soft limit on the
process's data, lifted afterwards) and in time by the parent, which kills the worker. What comes out is
bounded in instructions, counted through gate definitions and loops without writing them out: sixty
definitions that each use the one before twice are 2⁶⁰ gates in two kilobytes.

QPY before version 13 is refused unread, because its loader evaluated what it read (CVE-2025-2000).
"""

from __future__ import annotations

import contextlib
import gc
import io
import re
import resource
import struct
from collections.abc import Iterator
from typing import Any

from efaas.errors import CircuitError
from efaas_qpu.engine.messages import Limits

MIN_QPY_VERSION = 13
_QPY_HEADER = struct.Struct("!6sBBBBQ")
_PARSE_BYTES = 1 << 30
_REGISTER = re.compile(r"\b(?:qubit|qreg|bit|creg)\b\s*(?:\w+\s*)?\[\s*([0-9][0-9_]*)\s*\]")
_MAX_NESTING = 200


def parse(program: str | bytes, limits: Limits, *, max_qubits: int) -> Any:
    """Read a program into a `QuantumCircuit` whose loops are written out and whose global phase is dropped.

    Args:
        program: OpenQASM 3 text, or QPY bytes of version 13 or newer that hold one circuit.
        limits: what the circuit may cost.
        max_qubits: qubits of the device.

    Raises:
        CircuitError: anything that is not a circuit within the limits.
    """
    if len(program) > limits.program_bytes:
        raise CircuitError(
            f"the program has {len(program)} bytes, at most {limits.program_bytes} are taken", place="circuit"
        )
    with _bounded_memory(_PARSE_BYTES):
        try:
            circuit = (
                _read_qpy(program) if isinstance(program, bytes) else _read_qasm(program, limits, max_qubits)
            )
        except CircuitError:
            raise
        except MemoryError:
            raise CircuitError("reading the circuit takes too much memory", place="circuit") from None
        except RecursionError:
            raise CircuitError("the circuit is nested too deeply", place="circuit") from None
        except Exception as error:
            raise CircuitError(
                f"the circuit could not be read: {_one_line(error)}", place="circuit"
            ) from None
        _check(circuit, limits, max_qubits)
        circuit = _write_out_loops(circuit)
    # A global phase cannot be observed, but a symbolic one can take minutes to carry through a transpiler.
    circuit.global_phase = 0
    return circuit


def qpy_version(program: bytes) -> int:
    """Version byte of QPY data.

    Raises:
        CircuitError: it is not QPY.
    """
    if len(program) < _QPY_HEADER.size or not program.startswith(b"QISKIT"):
        raise CircuitError("the bytes are not QPY: they do not begin with its header", place="circuit")
    return program[6]


def _read_qpy(program: bytes) -> Any:
    version = qpy_version(program)
    if version < MIN_QPY_VERSION:
        raise CircuitError(
            f"QPY version {version} is refused unread, dump it with version={MIN_QPY_VERSION} or newer",
            place="circuit",
        )
    programs = _QPY_HEADER.unpack_from(program)[5]
    if programs != 1:
        raise CircuitError(f"the QPY data holds {programs} circuits, it must hold one", place="circuit")
    from qiskit import QuantumCircuit, qpy

    if version > qpy.QPY_VERSION:
        raise CircuitError(
            f"QPY version {version} is newer than {qpy.QPY_VERSION}, the newest this server reads",
            place="circuit",
        )
    circuit = qpy.load(io.BytesIO(program))[0]
    if not isinstance(circuit, QuantumCircuit):
        raise CircuitError("the QPY data holds no quantum circuit", place="circuit")
    return circuit


def _read_qasm(program: str, limits: Limits, max_qubits: int) -> Any:
    if nesting(program) > _MAX_NESTING:
        raise CircuitError(f"brackets are nested more than {_MAX_NESTING} deep", place="circuit")
    for size in _REGISTER.findall(program):
        digits = size.replace("_", "").lstrip("0")
        most = max(max_qubits, limits.classical_bits)
        if len(digits) > 9 or int(digits or "0") > most:
            raise CircuitError(
                f"a register of {digits[:20]} (qu)bits is larger than the {max_qubits} qubits of the device "
                f"or the {limits.classical_bits} bits that are taken",
                place="circuit",
            )
    import openqasm3
    import qiskit_qasm3_import

    tree = openqasm3.parse(program)
    # The conversion copies the definition of every gate it meets, so that sizes must be known before it.
    _check_definitions(tree, limits.instructions)
    return qiskit_qasm3_import.convert(tree)


def _check_definitions(tree: Any, limit: int) -> None:
    """Refuse gate definitions that are too long when those that they use are written out."""
    from openqasm3 import ast

    sizes: dict[str, int] = {}

    def size_of(statements: Any) -> int:
        total = 0
        for statement in statements:
            if isinstance(statement, ast.QuantumGate):
                total += sizes.get(statement.name.name, 1)
            else:
                total += 1 + size_of(
                    getattr(statement, "block", None) or getattr(statement, "body", None) or ()
                )
        return total

    for statement in tree.statements:
        if isinstance(statement, ast.QuantumGateDefinition):
            sizes[statement.name.name] = size_of(statement.body)
            if sizes[statement.name.name] > limit:
                raise CircuitError(
                    f"gate {statement.name.name[:80]!r} has more than {limit} operations with those it uses "
                    "written out",
                    place="circuit",
                )


def nesting(text: str) -> int:
    """Deepest nesting of brackets of any kind; prefix operators in a row count as nesting too."""
    deepest = depth = operators = 0
    for character in text:
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth = max(0, depth - 1)
        operators = operators + 1 if character in "-+~!*@" else 0 if not character.isspace() else operators
        deepest = max(deepest, depth + operators)
    return deepest


def _check(circuit: Any, limits: Limits, max_qubits: int) -> None:
    if circuit.num_qubits == 0:
        raise CircuitError("the circuit has no qubits", place="circuit")
    if circuit.num_qubits > max_qubits:
        raise CircuitError(
            f"the circuit has {circuit.num_qubits} qubits, the device has {max_qubits}", place="circuit"
        )
    if circuit.num_clbits > limits.classical_bits:
        raise CircuitError(
            f"the circuit has {circuit.num_clbits} classical bits, at most {limits.classical_bits} are taken",
            place="circuit",
        )
    if circuit.num_vars:
        raise CircuitError("classical variables are not supported, use parameters and bits", place="circuit")
    instructions = count_instructions(circuit, limits.instructions)
    if instructions > limits.instructions:
        raise CircuitError(
            f"the circuit has more than {limits.instructions} operations with gates and loops written out",
            place="circuit",
        )
    if circuit.num_parameters > limits.parameters:
        raise CircuitError(
            f"the circuit has {circuit.num_parameters} parameters, at most {limits.parameters} are taken",
            place="circuit",
        )


def count_instructions(circuit: Any, limit: int) -> int:
    """Operations of a circuit with definitions and for-loops written out, or anything above `limit`.

    Raises:
        CircuitError: it holds a while-loop or a switch, whose length cannot be bounded or which is not
            supported.
    """
    from qiskit.circuit import ControlledGate
    from qiskit.circuit.library import get_standard_gate_name_mapping

    standard = set(get_standard_gate_name_mapping())
    known: dict[tuple[Any, ...], int] = {}

    def of_circuit(body: Any, level: int) -> int:
        total = 0
        for instruction in body.data:
            total += of_operation(instruction.operation, level)
            if total > limit:
                break
        return total

    def of_operation(operation: Any, level: int) -> int:
        name = operation.name
        if name in ("while_loop", "switch_case", "break_loop", "continue_loop"):
            words = name.replace("_", "-")
            raise CircuitError(f"a {words} is not supported, its length cannot be bounded", place="circuit")
        if name == "for_loop":
            repetitions = len(operation.params[0])
            if repetitions > limit:
                return limit + 1
            return repetitions * max(1, of_circuit(operation.params[2], level + 1))
        if name in ("if_else", "box"):
            return 1 + sum(of_circuit(block, level + 1) for block in operation.blocks)
        if name in standard and not isinstance(operation, ControlledGate):
            return 1
        key = (type(operation), name, operation.num_qubits, len(getattr(operation, "params", ())))
        if key not in known:
            if level > _MAX_NESTING:
                raise CircuitError("gate definitions are nested too deeply", place="circuit")
            if operation.num_qubits > 12 and name in ("unitary", "diagonal", "initialize", "isometry"):
                known[key] = limit + 1
            else:
                definition = getattr(operation, "definition", None)
                known[key] = 1 if definition is None else max(1, of_circuit(definition, level + 1))
        return known[key]

    return of_circuit(circuit, 0)


def _write_out_loops(circuit: Any) -> Any:
    if "for_loop" not in _names(circuit):
        return circuit
    from qiskit.transpiler import PassManager
    from qiskit.transpiler.passes import UnrollForLoops

    for _ in range(8):
        circuit = PassManager([UnrollForLoops(max_target_depth=-1)]).run(circuit)
        if "for_loop" not in _names(circuit):
            return circuit
    raise CircuitError("a loop inside of a condition is not supported, write it out", place="circuit")


def _names(circuit: Any) -> set[str]:
    names: set[str] = set()
    for instruction in circuit.data:
        names.add(instruction.operation.name)
        for block in getattr(instruction.operation, "blocks", ()):
            names |= _names(block)
    return names


@contextlib.contextmanager
def _bounded_memory(extra: int) -> Iterator[None]:
    """Let the process's private data grow by `extra` bytes at most; more raises MemoryError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        with open("/proc/self/statm", encoding="ascii") as status:
            data = int(status.read().split()[5]) * resource.getpagesize()
    except OSError:
        yield
        return
    wanted = data + extra
    if soft != resource.RLIM_INFINITY:
        wanted = min(wanted, soft)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    try:
        yield
    except MemoryError:
        gc.collect()
        raise
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
