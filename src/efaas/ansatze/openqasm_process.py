"""The process that parses OpenQASM 3 for `efaas.ansatze.openqasm`: text in, QPY or one sentence out.

It gives itself limits before it reads anything; whoever started it only has to see how it ended.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import resource
import sys
from typing import Any

MEMORY_LIMIT_BYTES = 4 << 30
"""Address space, which Qiskit's import alone takes a good part of."""


def main() -> int:
    """Read the program from standard input; the CPU limit in seconds is the first argument."""
    _limit(resource.RLIMIT_CPU, int(sys.argv[1]))
    _limit(resource.RLIMIT_AS, MEMORY_LIMIT_BYTES)
    from efaas.ansatze.openqasm import REFUSED_EXIT_CODE

    circuit, message = answer(sys.stdin.buffer.read().decode())
    if circuit is None:
        sys.stdout.write(json.dumps({"message": message}))
        return REFUSED_EXIT_CODE
    sys.stdout.buffer.write(circuit)
    return 0


def answer(text: str) -> tuple[bytes | None, str]:
    """QPY of the circuit, or None and the sentence that says why not."""
    complaints = io.StringIO()
    try:
        # The parser prints the place of a syntax error instead of raising it.
        with contextlib.redirect_stderr(complaints):
            return parse(text), ""
    except Exception as error:
        return None, explain(error, complaints.getvalue())


def parse(text: str) -> bytes:
    """QPY of the circuit, its gates expanded."""
    import openqasm3
    import qiskit_qasm3_import
    from qiskit import qpy

    from efaas.ansatze.canonical import standard_form
    from efaas.ansatze.openqasm import OWN_GATE_LIMIT

    program = openqasm3.parse(text)
    check_size(program, OWN_GATE_LIMIT)
    circuit = qiskit_qasm3_import.convert(program)
    check_inputs(program, circuit)
    buffer = io.BytesIO()
    qpy.dump(standard_form(circuit, gate_limit=OWN_GATE_LIMIT), buffer)
    return buffer.getvalue()


def check_size(program: Any, limit: int) -> None:
    """Count operations with gate definitions multiplied out, before anything multiplies them out.

    Raises:
        CircuitError: more than `limit`; names the line at which it is passed.
    """
    from openqasm3 import ast

    from efaas.errors import CircuitError

    sizes: dict[str, int] = {}

    def size_of(statements: list[Any]) -> int:
        size = 0
        for statement in statements:
            if isinstance(statement, ast.QuantumGateDefinition):
                sizes[statement.name.name] = size_of(statement.body)
            elif isinstance(statement, ast.QuantumGate):
                size += 1 + sizes.get(statement.name.name, 0)
                if size > limit:
                    where = _at(statement)
                    raise CircuitError(f"{where}more than {limit} gates, definitions multiplied out")
        return size

    size_of(program.statements)


def check_inputs(program: Any, circuit: Any) -> None:
    """Refuse a declared parameter that no gate has: a vector with its value would fit nowhere.

    Raises:
        CircuitError: there is one; names its line.
    """
    from openqasm3 import ast

    from efaas.errors import CircuitError

    angles = [angle for gate in circuit.data for angle in gate.operation.params]
    used = {parameter.name for angle in angles for parameter in getattr(angle, "parameters", ())}
    for statement in program.statements:
        if isinstance(statement, ast.IODeclaration) and statement.identifier.name not in used:
            name = statement.identifier.name
            raise CircuitError(
                f"{_at(statement)}the parameter {name!r} is not used by any gate; leave it out"
            )


def _at(statement: Any) -> str:
    """Where a statement begins, as the beginning of a sentence."""
    return f"line {statement.span.start_line}: " if statement.span else ""


def explain(error: Exception, printed: str) -> str:
    """One sentence for a person, beginning with the line where it is known."""
    from efaas.errors import CircuitError

    if isinstance(error, CircuitError):
        return error.message
    if isinstance(error, MemoryError):
        return "the circuit takes too much memory; make it smaller"
    if isinstance(error, RecursionError):
        return "an expression or definition is nested too deeply"
    syntax = re.search(r"line (\d+):\d+ ([^\n]*)", printed)
    if syntax:
        return f"line {syntax[1]}: {syntax[2][:200]}"
    token = _offending_token(error)
    if token is not None:
        shown = "the end of the text" if token.text == "<EOF>" else repr(token.text[:40])
        return f"line {token.line}: {shown} is not expected here"
    # Qiskit's errors show their message in quotes.
    text = str(getattr(error, "message", error))
    placed = re.match(r"(\d+),\d+: (.*)", text, re.DOTALL)
    if placed:
        message = " ".join(placed[2].split())[:200].rstrip(".")
        if "is not defined" in message and message.startswith("gate"):
            message += ' (the standard gates come with include "stdgates.inc";)'
        return f"line {placed[1]}: {message}"
    line = _line_being_read(error)
    fault = f"cannot be read as a circuit: {' '.join(text.split())[:200] or type(error).__name__}"
    return fault if line is None else f"line {line}: {fault}"


def _offending_token(error: Exception) -> Any:
    """The token at which the parser gave up, which it keeps two errors down; None if there is none."""
    recognition = error.__cause__.args[0] if error.__cause__ and error.__cause__.args else None
    return getattr(recognition, "offendingToken", None)


def _line_being_read(error: Exception) -> int | None:
    """Line of the innermost statement or expression that the importer was at when something failed."""
    line = None
    trace = error.__traceback__
    while trace is not None:
        span = getattr(trace.tb_frame.f_locals.get("node"), "span", None)
        line = getattr(span, "start_line", line)
        trace = trace.tb_next
    return line


def _limit(which: int, value: int) -> None:
    """Set a limit where the system has it; never above one that is set already."""
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(which, (value, value))


if __name__ == "__main__":
    sys.exit(main())
