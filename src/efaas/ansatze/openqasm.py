"""Reads OpenQASM 3 from people, in bounded time and memory.

The text is looked over first, for what can be said with its line number: a measurement, a loop, a register
that is far too large. What remains is parsed in a process of its own, because the parser (a general one, in
Python) has no limit that it keeps: a short text can ask for a register of a billion qubits or a power that
fills the memory, and neither can be interrupted from inside. That process has limits on CPU time and
memory, and hands back the circuit or one sentence.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from efaas.ansatze.canonical import standard_form
from efaas.errors import CircuitError

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

TEXT_LIMIT_BYTES = 256 * 1024
QUBIT_LIMIT = 1000
OWN_GATE_LIMIT = 20_000
"""Most operations, gates of one's own expanded; the text alone has room for some 14,000."""
CPU_LIMIT_S = 30
"""CPU time of the parsing process; 256 KiB of plain gates take about 8 s, imports 1 s."""
WALL_LIMIT_S = 60.0
REFUSED_EXIT_CODE = 3
"""Exit code of the parsing process that goes with one sentence on its standard output."""

_COMMENT = re.compile(r"//[^\n]*|/\*(?:.*?\*/|.*)", re.DOTALL)
_WORD = re.compile(r"[^\W\d]\w*")
_REGISTER = re.compile(r"(?:\bqubit\s*\[\s*|\bqreg\s+\w+\s*\[\s*|\$)([0-9_]+)")

_REFUSED = {
    "measure": "measurements are added by EFaaS for the observables; leave 'measure' out",
    "bit": "classical bits are of no use, since EFaaS adds the measurements; leave 'bit' out",
    "creg": "classical bits are of no use, since EFaaS adds the measurements; leave 'creg' out",
    "reset": "an ansatz is made of gates only; leave 'reset' out (all qubits start in 0)",
    "delay": "an ansatz is made of gates only; leave 'delay' out",
    "box": "an ansatz is made of gates only; leave 'box' out",
    "output": "an ansatz has no results of its own; leave 'output' out",
    **dict.fromkeys(
        ("for", "while", "if", "else", "switch", "def", "extern", "cal", "defcal"),
        "an ansatz is made of gates only, without control flow or subroutines; write the gates out",
    ),
}


def read_openqasm3(
    text: str, *, cpu_limit_s: int = CPU_LIMIT_S, wall_limit_s: float = WALL_LIMIT_S
) -> QuantumCircuit:
    """The circuit of an OpenQASM 3 text, in `standard_form`, without measurements.

    Args:
        text: the program; parameters are declared as ``input float a;`` or ``input angle a;``.
        cpu_limit_s: CPU seconds the parser may take.
        wall_limit_s: wall seconds the parser may take.

    Raises:
        CircuitError: larger than 256 KiB, unparsable, over a limit, or with anything but gates; the message
            begins with ``line N:`` where the line is known.
    """
    _look_over(text)
    return standard_form(_load(_parse_elsewhere(text, cpu_limit_s, wall_limit_s)))


def _without_comments(text: str) -> str:
    """Comments replaced by as many line breaks as they have."""
    return _COMMENT.sub(lambda comment: " " + "\n" * comment[0].count("\n"), text)


def _look_over(text: str) -> None:
    """Refuse what can be refused without parsing, in linear time."""
    if len(text.encode()) > TEXT_LIMIT_BYTES:
        raise CircuitError(f"the text is larger than {TEXT_LIMIT_BYTES >> 10} KiB")
    plain = _without_comments(text)
    if not plain.strip():
        raise CircuitError("the text is empty; write an OpenQASM 3 program")
    if re.match(r"\s*OPENQASM\s+2", plain):
        raise CircuitError("line 1: this is OpenQASM 2; write OPENQASM 3.0 and its register declarations")

    def line_of(position: int) -> int:
        return 1 + plain.count("\n", 0, position)

    for word in _WORD.finditer(plain):
        if word[0] in _REFUSED:
            raise CircuitError(f"line {line_of(word.start())}: {_REFUSED[word[0]]}")
    for register in _REGISTER.finditer(plain):
        digits = register[1].replace("_", "")
        if len(digits) > 9 or int(digits or 0) > QUBIT_LIMIT:
            raise CircuitError(f"line {line_of(register.start())}: more than {QUBIT_LIMIT} qubits")


def _parse_elsewhere(text: str, cpu_limit_s: int, wall_limit_s: float) -> bytes:
    """QPY of the circuit, from a process that may die of its limits."""
    # -P: the current folder, which may hold a random.py, is not searched for modules.
    command = [sys.executable, "-P", "-W", "ignore", "-m", "efaas.ansatze.openqasm_process", str(cpu_limit_s)]
    single = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    too_long = f"reading the circuit takes too long (limit {cpu_limit_s} s); make it smaller"
    try:
        done = subprocess.run(
            command,
            input=text.encode(),
            capture_output=True,
            timeout=wall_limit_s,
            env={**os.environ, **single},
        )
    except subprocess.TimeoutExpired:
        raise CircuitError(too_long) from None
    if done.returncode == 0:
        return done.stdout
    if done.returncode == REFUSED_EXIT_CODE:
        raise CircuitError(json.loads(done.stdout)["message"])
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise CircuitError(too_long)
    last_line = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    raise CircuitError(f"the process that reads the circuit ended with {done.returncode}: {last_line[:200]}")


def _load(program: bytes) -> QuantumCircuit:
    """The circuit that the parsing process wrote."""
    from qiskit import qpy

    return qpy.load(io.BytesIO(program))[0]
