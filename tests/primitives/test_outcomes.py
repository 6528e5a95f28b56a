"""Outcomes of a server become the BitArrays that Qiskit makes of the same shots."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qiskit.circuit import ClassicalRegister, QuantumCircuit
from qiskit.primitives.containers import BitArray

from efaas.client import Evaluation
from efaas.errors import JobFailed
from efaas.primitives.outcomes import bit_arrays, registers_of


def evaluation(samples, bits, counts=()):
    width = (bits + 7) // 8
    rows = np.array([list(int(sample).to_bytes(width, "little")) for sample in samples], dtype=np.uint8)
    return Evaluation(
        np.empty(0), np.empty(0), rows.reshape(-1, width), np.array(counts, dtype=np.uint64), bits
    )


@given(st.data(), st.lists(st.integers(1, 11), min_size=1, max_size=4))
def test_each_register_holds_its_bits_of_every_shot(data, sizes):
    circuit = QuantumCircuit(1)
    for number, size in enumerate(sizes):
        circuit.add_register(ClassicalRegister(size, f"r{number}"))
    bits = sum(sizes)
    samples = data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=3, max_size=6))
    arrays = bit_arrays([evaluation(samples, bits)], registers_of(circuit), (), len(samples))
    start = 0
    for number, size in enumerate(sizes):
        expected = BitArray.from_samples(
            [(sample >> start) & (2**size - 1) for sample in samples], num_bits=size
        )
        assert arrays[f"r{number}"] == expected
        start += size


def test_parameter_sets_take_the_shape_of_the_pub():
    circuit = QuantumCircuit(2, 2)
    evaluations = [evaluation([number], 2) for number in (0, 1, 2, 3)]
    array = bit_arrays(evaluations, registers_of(circuit), (2, 2), 1)["c"]
    assert array.shape == (2, 2)
    assert array[1, 0].get_int_counts() == {2: 1}


def test_counted_outcomes_are_written_out():
    circuit = QuantumCircuit(2, 2)
    array = bit_arrays([evaluation([0, 3], 2, [2, 5])], registers_of(circuit), (), 7)["c"]
    assert array.get_counts() == {"00": 2, "11": 5}


def test_a_wrong_number_of_shots_is_an_error():
    with pytest.raises(JobFailed, match="sent 1 shots, 2 were asked for"):
        bit_arrays([evaluation([0], 2)], registers_of(QuantumCircuit(2, 2)), (), 2)
