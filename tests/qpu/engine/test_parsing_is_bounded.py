"""Programs from strangers: what is not a circuit within the limits is refused with one sentence, and fast."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import pytest
from efaas_qpu.engine.messages import Limits
from efaas_qpu.engine.parse import MIN_QPY_VERSION, parse
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit, qpy

from efaas.errors import CircuitError

HEAD = 'OPENQASM 3.0; include "stdgates.inc";\n'
LIMITS = Limits(instructions=1000)


def doubling(levels: int) -> str:
    """Each gate does the one before twice: 2^levels operations in a few lines."""
    text = HEAD + "gate g0 a { x a; }\n"
    for level in range(1, levels):
        text += f"gate g{level} a {{ g{level - 1} a; g{level - 1} a; }}\n"
    return text + f"qubit q; g{levels - 1} q;"


def nested(levels: int) -> str:
    opening = "".join(f"for int i{level} in [0:99] {{" for level in range(levels))
    return HEAD + "qubit q; " + opening + "x q;" + "}" * levels


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        (HEAD + "qubit[999999999] q;", "register of 999999999"),
        (HEAD + "qubit[1_000_000] q;", "register of 1000000"),
        (HEAD + f"bit[{10**30}] c; qubit q;", "register of 1000000000"),
        (HEAD + "qubit[6] q; h q;", "has 6 qubits, the device has 5"),
        (HEAD + "qubit q; for int i in [0:1000000000] { x q; }", "more than 1000 operations"),
        (nested(5), "more than 1000 operations"),
        (HEAD + "qubit q; bit c; while (!c) { c = measure q; }", "while-loop is not supported"),
        (doubling(60), "gate 'g10' has more than 1000 operations"),
        (HEAD + "qubit q; rx(" + "(" * 100_000 + "1" + ")" * 100_000 + ") q;", "nested more than"),
        (HEAD + "qubit q; rx(" + "-" * 100_000 + "1) q;", "nested more than"),
        (HEAD + "qubit q; " + "if (true) {" * 1000 + "}" * 1000, "nested more than"),
        (HEAD + "qubit q;" + "x q;" * 1500, "more than 1000 operations"),
        ("x" * 1_000_000, "at most 524288 are taken"),
        ("", "could not be read|no qubits"),
        (HEAD + "qubit q; nosuchgate q;", "nosuchgate"),
        (HEAD + "include 'secret.inc'; qubit q;", "could not be read"),
        (HEAD + "bit[3] c;", "no qubits"),
    ],
)
def test_openqasm_beyond_the_limits_is_refused(program: str, sentence: str) -> None:
    with pytest.raises(CircuitError, match=sentence) as caught:
        parse(program, LIMITS, max_qubits=5)
    assert len(str(caught.value)) < 500


def test_doubling_qpy_definitions_are_counted_and_not_written_out() -> None:
    circuit = QuantumCircuit(1, name="g0")
    circuit.x(0)
    for level in range(1, 11):
        gate, circuit = circuit.to_gate(), QuantumCircuit(1, name=f"g{level}")
        circuit.append(gate, [0])
        circuit.append(gate, [0])
    buffer = io.BytesIO()
    qpy.dump(circuit, buffer)
    with pytest.raises(CircuitError, match="more than 1000 operations"):
        parse(buffer.getvalue(), LIMITS, max_qubits=5)


def test_bounded_loops_are_written_out() -> None:
    circuit = parse(
        HEAD + "qubit q; for int i in [1:10] { for int j in [0:4] { rx(0.1) q; } }", LIMITS, max_qubits=5
    )
    assert circuit.count_ops() == {"rx": 50}


@pytest.mark.parametrize("version", range(MIN_QPY_VERSION))
def test_old_qpy_is_refused_unread(version: int, as_qpy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def unread(*_: object) -> None:
        raise AssertionError("it was read")

    monkeypatch.setattr(qpy, "load", unread)
    program = bytearray(as_qpy(QuantumCircuit(1)))
    program[6] = version
    with pytest.raises(CircuitError, match=f"QPY version {version} is refused unread"):
        parse(bytes(program), LIMITS, max_qubits=5)


def test_newer_and_double_qpy_are_refused(as_qpy: Any) -> None:
    program = bytearray(as_qpy(QuantumCircuit(1)))
    program[6] = 200
    with pytest.raises(CircuitError, match="newer than"):
        parse(bytes(program), LIMITS, max_qubits=5)
    buffer = io.BytesIO()
    qpy.dump([QuantumCircuit(1), QuantumCircuit(1)], buffer)
    with pytest.raises(CircuitError, match="holds 2 circuits"):
        parse(buffer.getvalue(), LIMITS, max_qubits=5)


@pytest.mark.parametrize("version", [MIN_QPY_VERSION, 15])
def test_supported_qpy_is_read(version: int) -> None:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    buffer = io.BytesIO()
    qpy.dump(circuit, buffer, version=version)
    assert parse(buffer.getvalue(), LIMITS, max_qubits=5).count_ops() == {"h": 1}


@given(st.binary(max_size=200))
def test_any_bytes_are_a_circuit_or_refused(data: bytes) -> None:
    with pytest.raises(CircuitError):
        parse(data, LIMITS, max_qubits=5)


@settings(max_examples=20)
@given(data=st.data())
def test_damaged_qpy_is_a_circuit_or_refused(data: st.DataObject) -> None:
    circuit = QuantumCircuit(2, 1)
    circuit.h(0)
    circuit.cx(0, 1)
    buffer = io.BytesIO()
    qpy.dump(circuit, buffer)
    program = bytearray(buffer.getvalue())
    place = data.draw(st.integers(18, len(program) - 1))
    program[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(CircuitError):
        parse(bytes(program), LIMITS, max_qubits=5)


@given(st.text(max_size=100))
def test_any_text_is_a_circuit_or_refused(text: str) -> None:
    with contextlib.suppress(CircuitError):
        parse(HEAD + "qubit q;" + text, LIMITS, max_qubits=5)
