"""Shots and estimates: identity of a shot, distributions, errors, mitigation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from efaas_qpu.engine import sampling
from efaas_qpu.engine.engine import Engine
from efaas_qpu.engine.messages import Execute
from hypothesis import given
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.quantum_info import SparsePauliOp, Statevector

TERMS = (("ZZ", 0.7), ("XI", -0.4), ("ZI", 0.3), ("YY", 0.2), ("II", -1.0))
DISTRIBUTIONS = st.integers(1, 5).flatmap(
    lambda bits: st.lists(st.floats(0, 1), min_size=2**bits, max_size=2**bits).filter(lambda p: sum(p) > 1e-3)
)


@given(DISTRIBUTIONS, st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(0, 2**63 - 1))
def test_slices_of_any_length_give_the_shots_of_the_whole(
    weights: list[float], slices: list[int], seed: int
) -> None:
    probabilities = np.array(weights) / sum(weights)
    lengths = [4 * length for length in slices]
    whole = sampling.draw(probabilities, seed, "0-job", 3, sum(lengths))
    parts, first = [], 0
    for length in lengths:
        parts.append(sampling.draw(probabilities, seed, "0-job", 3, length, first))
        first += length
    np.testing.assert_array_equal(whole, np.concatenate(parts))


@given(DISTRIBUTIONS, st.integers(1, 500), st.integers(0, 2**63 - 1))
def test_counting_gives_the_counts_of_the_shots(weights: list[float], shots: int, seed: int) -> None:
    probabilities = np.array(weights) / sum(weights)
    drawn = sampling.draw(probabilities, seed, "0-job", 1, shots)
    counts = sampling.draw_counts(probabilities, seed, "0-job", 1, shots)
    np.testing.assert_array_equal(counts, np.bincount(drawn, minlength=len(weights)))
    assert np.all(probabilities[drawn] > 0)


@given(
    st.lists(st.integers(0, 2**12 - 1), min_size=1, max_size=50),
    st.permutations(range(12)),
    st.integers(12, 90),
)
def test_packed_rows_hold_every_bit_in_its_place(values: list[int], places: list[int], bits: int) -> None:
    rows = sampling.pack(np.array(values), tuple(places), bits)
    assert rows.shape == (len(values), (bits + 7) // 8)
    for value, row in zip(values, rows, strict=True):
        wanted = sum(((value >> source) & 1) << place for source, place in enumerate(places))
        assert int.from_bytes(row.tobytes(), "little") == wanted


@pytest.mark.parametrize("bits", [3, 8, 17, 64, 65, 130])
def test_counted_rows_ascend_and_sum_up(bits: int) -> None:
    generator = np.random.default_rng(bits)
    numbers = [int(value) for value in generator.integers(0, 7, 200)]
    numbers[0] = 2**bits - 1 if bits > 3 else 7
    rows = sampling.rows_from_hex([hex(value) for value in numbers], bits)
    distinct, counts = sampling.count_rows(rows)
    decoded = [int.from_bytes(row.tobytes(), "little") for row in distinct]
    assert decoded == sorted(set(numbers))
    assert [numbers.count(value) for value in decoded] == counts.tolist()


def prepared(engine: Engine, as_qpy: Callable[[QuantumCircuit], bytes]) -> None:
    circuit = QuantumCircuit(2)
    circuit.ry(0.9, 0)
    circuit.cx(0, 1)
    circuit.ry(0.4, 1)
    engine.prepare("c", as_qpy(circuit))
    engine.prepare_observable("h", TERMS)


@pytest.mark.parametrize("mitigated", [False, True])
def test_standard_errors_match_the_spread_of_repeated_jobs(
    manila: Engine, as_qpy: Any, mitigated: bool
) -> None:
    prepared(manila, as_qpy)
    sets, shots = 400, 256
    result = manila.execute(
        Execute("0-spread", 11, "c", ("h",), np.zeros((sets, 0)), shots, readout_mitigation=mitigated)
    )
    values = np.array([evaluation.values[0] for evaluation in result.evaluations])
    errors = np.array([evaluation.std_errors[0] for evaluation in result.evaluations])
    # The relative error of a standard deviation from n samples is 1/√(2(n - 1)), here 3.5 %.
    assert values.std(ddof=1) == pytest.approx(np.sqrt(np.mean(errors**2)), rel=0.15)
    exact = manila.expectation("c", ("h",), np.zeros((1, 0)), readout_mitigation=mitigated)[0, 0]
    assert values.mean() == pytest.approx(exact, abs=5 * values.std() / np.sqrt(sets))


def test_mitigation_takes_readout_errors_out_and_pays_in_variance(
    make_engine: Callable[..., Engine], as_qpy: Any
) -> None:
    from efaas.devices import ideal, load_snapshot

    known = load_snapshot("guadalupe-16")
    only_readout = replace(ideal(known), qubits=known.qubits)
    only_readout = replace(
        only_readout,
        qubits=tuple(replace(qubit, t1_us=float("inf"), t2_us=float("inf")) for qubit in known.qubits),
    )
    engine = make_engine(known, true=only_readout)
    prepared(engine, as_qpy)
    circuit = QuantumCircuit(2)
    circuit.ry(0.9, 0)
    circuit.cx(0, 1)
    circuit.ry(0.4, 1)
    exact = Statevector(circuit).expectation_value(SparsePauliOp.from_list(TERMS)).real
    none = np.zeros((1, 0))
    raw = engine.expectation("c", ("h",), none)[0, 0]
    mitigated = engine.expectation("c", ("h",), none, readout_mitigation=True)[0, 0]
    assert mitigated == pytest.approx(exact, abs=1e-12)
    assert abs(raw - exact) > 1e-3
    jobs = [
        engine.execute(Execute("0-m", 1, "c", ("h",), none, 4096, readout_mitigation=on)).evaluations[0]
        for on in (False, True)
    ]
    assert jobs[1].std_errors[0] > jobs[0].std_errors[0]


def test_running_estimates_are_those_of_the_first_shots(manila: Engine, as_qpy: Any) -> None:
    prepared(manila, as_qpy)
    none = np.zeros((2, 0))
    whole = manila.execute(Execute("0-r", 9, "c", ("h",), none, 1024, shot_ranges=(256, 512)))
    assert [partial.shots for partial in whole.partial] == [256, 512]
    # The whole job without running estimates takes another way to the same counts.
    plain = manila.execute(Execute("0-r", 9, "c", ("h",), none, 1024))
    for one, other in zip(whole.evaluations, plain.evaluations, strict=True):
        np.testing.assert_allclose(one.values, other.values, atol=1e-13)
        np.testing.assert_allclose(one.std_errors, other.std_errors, atol=1e-13)
    first = manila.execute(Execute("0-r", 9, "c", ("h",), none, 256))
    for one, other in zip(whole.partial[0].evaluations, first.evaluations, strict=True):
        np.testing.assert_allclose(one.values, other.values, atol=1e-13)


def test_shots_in_order_count_up_to_the_counts(manila: Engine, as_qpy: Any) -> None:
    prepared(manila, as_qpy)
    none = np.zeros((1, 0))
    single = manila.execute(Execute("0-o", 9, "c", (), none, 700, per_shot=True)).evaluations[0]
    counted = manila.execute(Execute("0-o", 9, "c", (), none, 700)).evaluations[0]
    assert single.counts is None
    assert single.outcomes is not None
    assert counted.outcomes is not None
    assert counted.counts is not None
    values, counts = np.unique(np.frombuffer(single.outcomes, dtype=np.uint8), return_counts=True)
    assert values.tobytes() == counted.outcomes
    assert counts.tolist() == counted.counts.tolist()


def test_one_shot_has_no_standard_error(manila: Engine, as_qpy: Any) -> None:
    prepared(manila, as_qpy)
    evaluation = manila.execute(Execute("0-1", 9, "c", ("h",), np.zeros((1, 0)), 1)).evaluations[0]
    assert np.isfinite(evaluation.values[0])
    assert np.isnan(evaluation.std_errors[0])


def test_an_eigenstate_has_no_spread(noiseless: Engine, as_qpy: Any) -> None:
    circuit = QuantumCircuit(2)
    circuit.x(0)
    noiseless.prepare("x", as_qpy(circuit))
    noiseless.prepare_observable("z", (("IZ", 1.5), ("II", 0.25)))
    evaluation = noiseless.execute(Execute("0-z", 9, "x", ("z",), np.zeros((1, 0)), 100)).evaluations[0]
    assert evaluation.values[0] == pytest.approx(-1.25, abs=1e-12)
    assert evaluation.std_errors[0] == pytest.approx(0, abs=1e-9)
