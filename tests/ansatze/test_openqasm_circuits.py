"""OpenQASM 3 from people: read in bounded time, refused with the line."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.quantum_info import Statevector

from efaas.ansatze import build_ansatz, openqasm, openqasm_process, read_openqasm3
from efaas.api.session import Ansatz
from efaas.errors import CircuitError, ManifestError
from efaas.problems import Hamiltonian

HEAD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'
GOOD = (
    HEAD
    + """\
input float a;       // line 3
input angle[32] b;
/* two
   lines */
gate twist(t) q { rx(t) q; rz(2 * t) q; }
qubit[2] q;
twist(a) q[0];
cx q[0], q[1];
inv @ rx(b - pi / 2) q[1];
"""
)
TWO_QUBITS = Hamiltonian((("XX", 1.0), ("ZZ", 1.0)))


def in_this_process(text: str, cpu_limit_s: int, wall_limit_s: float) -> bytes:
    circuit, message = openqasm_process.answer(text)
    if circuit is None:
        raise CircuitError(message)
    return circuit


@pytest.fixture
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse here: a process takes a second, and what it does is the same."""
    monkeypatch.setattr(openqasm, "_parse_elsewhere", in_this_process)


def test_a_circuit_is_read_in_a_process_of_its_own() -> None:
    circuit = build_ansatz(Ansatz(openqasm3=GOOD), TWO_QUBITS)
    expected = QuantumCircuit(2)
    a, b = 0.7, -1.9
    expected.rx(a, 0)
    expected.rz(2 * a, 0)
    expected.cx(0, 1)
    expected.rx(-(b - np.pi / 2), 1)
    assert [p.name for p in circuit.parameters] == ["a", "b"]
    states = Statevector(circuit.assign_parameters([a, b])).data, Statevector(expected).data
    assert abs(np.vdot(*states)) == pytest.approx(1)


def test_a_fault_is_told_from_the_process() -> None:
    with pytest.raises(CircuitError, match="line 10: gate 'ccq' is not defined"):
        read_openqasm3(GOOD.replace("cx", "ccq"))


def test_a_parse_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    # What hangs is of no matter here; the imports alone take longer than this.
    started = time.monotonic()
    with pytest.raises(CircuitError, match=r"reading the circuit takes too long \(limit 30 s\)"):
        read_openqasm3(GOOD, wall_limit_s=0.05)
    assert time.monotonic() - started < 10


def test_a_process_that_uses_up_its_cpu_time_is_ended() -> None:
    long = HEAD + "input float a;\nqubit[4] q;\n" + "rx(a) q[1];\n" * 13_000
    with pytest.raises(CircuitError, match=r"takes too long \(limit 1 s\)"):
        read_openqasm3(long, cpu_limit_s=1)


def test_the_most_that_the_text_may_hold_is_looked_over_at_once() -> None:
    # Quadratic patterns would take minutes for these.
    for piece in ("/*", "input float[", "qreg q", "input float   ", "//", "$1 "):
        text = (piece * openqasm.TEXT_LIMIT_BYTES)[: openqasm.TEXT_LIMIT_BYTES]
        started = time.monotonic()
        try:
            openqasm._look_over(text)
        except CircuitError:
            continue
        finally:
            assert time.monotonic() - started < 2


MULTIPLYING = (
    HEAD
    + "input float a;\nqubit[2] q;\ngate g0 r { x r; }\n"
    + "".join(f"gate g{k} r {{ g{k - 1} r; g{k - 1} r; }}\n" for k in range(1, 40))
    + "g39 q[0];\nrx(a) q[0];\n"
)


@pytest.mark.usefixtures("_fast")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the text is empty; write an OpenQASM 3 program"),
        ("// only\n/* open", "the text is empty; write an OpenQASM 3 program"),
        ("hello", "line 1: no viable alternative at input 'hello'"),
        ("OPENQASM 2.0;", "line 1: this is OpenQASM 2; write OPENQASM 3.0 and its register declarations"),
        (GOOD.replace("cx q[0], q[1];", "cx q q[1];"), "line 10: 'q' is not expected here"),
        (GOOD.rstrip(";\n"), "line 11: the end of the text is not expected here"),
        (
            GOOD + "bit[2] c;\nc = measure q;",
            "line 12: classical bits are of no use, since EFaaS adds the measurements; leave 'bit' out",
        ),
        (
            GOOD + "\nmeasure q;",
            "line 13: measurements are added by EFaaS for the observables; leave 'measure' out",
        ),
        (
            GOOD + "for int i in [0:1000000000] { x q[0]; }",
            "line 12: an ansatz is made of gates only, without control flow or subroutines; "
            "write the gates out",
        ),
        (
            GOOD + "reset q[0];",
            "line 12: an ansatz is made of gates only; leave 'reset' out (all qubits start in 0)",
        ),
        (GOOD.replace("qubit[2]", "qubit[1000000000]"), "line 8: more than 1000 qubits"),
        (GOOD.replace("q[0], q[1]", "$0, $1001"), "line 10: more than 1000 qubits"),
        (GOOD.replace("qubit[2]", "qubit[3]"), "the circuit has 3 qubits, the problem has 2"),
        (
            GOOD.replace("q[0], q[1]", "q[0], q[7]"),
            "line 10: cannot be read as a circuit: index out of range",
        ),
        (GOOD + "input int n;", "line 12: only 'float' and 'angle' inputs are supported"),
        (
            GOOD + "input float unused;",
            "line 12: the parameter 'unused' is not used by any gate; leave it out",
        ),
        (
            HEAD + "qubit[2] q;\nh q;",
            "has no parameters to optimise; declare some, as in 'input float a;'",
        ),
        (GOOD.replace("twist(a)", "twist(a * a)"), "the angle a*a is not linear in the parameter 'a'"),
        (
            GOOD.replace("b - pi", "a - a + pi"),
            "line 4: the parameter 'b' is not used by any gate; leave it out",
        ),
        (
            GOOD.replace("pi / 2", "1 / 0"),
            "line 11: cannot be read as a circuit: integer division or modulo by zero",
        ),
        (
            GOOD.replace('include "stdgates.inc";', ""),
            "line 7: gate 'rx' is not defined (the standard gates come with include \"stdgates.inc\";)",
        ),
        (
            GOOD.replace("stdgates.inc", "/etc/passwd"),
            "line 2: non-stdgates imports not currently supported",
        ),
        (
            GOOD.replace("b - pi", "(" * 300 + "b" + ")" * 300 + " - pi"),
            "an expression or definition is nested too deeply",
        ),
        (MULTIPLYING, "line 18: more than 20000 gates, definitions multiplied out"),
        (" " * 262_143 + "é", "the text is larger than 256 KiB"),
    ],
)
def test_what_is_no_ansatz_gets_one_sentence_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        build_ansatz(Ansatz(openqasm3=text), TWO_QUBITS)
    assert str(caught.value) == f"spec.ansatz.openqasm3: {message}"


@pytest.mark.usefixtures("_fast")
def test_physical_qubits_are_the_circuits_qubits() -> None:
    circuit = read_openqasm3(HEAD + "input float a;\nrx(a) $1;\ncx $1, $0;")
    positions = [[circuit.find_bit(q).index for q in gate.qubits] for gate in circuit.data]
    assert positions == [[1], [1, 0]]


WORDS = st.sampled_from(
    [
        *"abq[]{}();,@=*/+-$0123 \n",
        "qubit",
        "input",
        "float",
        "angle",
        "gate",
        "rx",
        "cx",
        "ctrl",
        "inv",
        "pow",
        "U",
        "gphase",
        "pi",
        "let",
    ]
)


@given(st.lists(WORDS, max_size=25).map(" ".join))
def test_any_text_is_a_circuit_or_one_sentence(tail: str) -> None:
    try:
        openqasm._look_over(GOOD + tail)
    except CircuitError as refused:
        assert "\n" not in refused.message  # noqa: PT017
        return
    circuit, message = openqasm_process.answer(GOOD + tail)
    assert (circuit is None) == bool(message)
    assert "\n" not in message
