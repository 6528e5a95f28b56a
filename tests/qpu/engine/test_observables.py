"""Grouping of Pauli terms and the worth of outcomes, against linear algebra."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from efaas_qpu.engine.observables import check_terms, group, measurement_bases, outcome_weights
from hypothesis import given
from hypothesis import strategies as st
from qiskit.quantum_info import SparsePauliOp, Statevector, random_statevector

from efaas.errors import CircuitError

LETTERS = st.sampled_from("IXYZ")
TERMS = st.integers(1, 4).flatmap(
    lambda width: st.lists(
        st.lists(
            st.tuples(st.text(LETTERS, min_size=width, max_size=width), st.floats(-2, 2, allow_nan=False)),
            min_size=1,
            max_size=12,
        ),
        min_size=1,
        max_size=3,
    )
)


@given(TERMS)
def test_every_term_is_measured_in_exactly_one_basis_that_shows_it(
    observables: list[list[tuple[str, float]]],
) -> None:
    grouping = group(observables)
    assigned = list(itertools.chain(*grouping.assignment))
    wanted = [
        (which, pauli, coefficient)
        for which, terms in enumerate(observables)
        for pauli, coefficient in terms
        if set(pauli) != {"I"}
    ]
    assert sorted(assigned) == sorted(wanted)
    for basis, terms in zip(grouping.bases, grouping.assignment, strict=True):
        for _, pauli, _ in terms:
            assert all(letter in ("I", shown) for letter, shown in zip(pauli, basis, strict=True))


@given(TERMS, st.randoms(use_true_random=False))
def test_bases_do_not_depend_on_the_order_of_terms(
    observables: list[list[tuple[str, float]]], random: object
) -> None:
    shuffled = [list(terms) for terms in observables]
    for terms in shuffled:
        random.shuffle(terms)  # type: ignore[attr-defined]
    assert measurement_bases(observables) == measurement_bases(shuffled)


@given(TERMS, st.integers(0, 2**31))
def test_weights_of_outcomes_give_the_expectation_value(
    observables: list[list[tuple[str, float]]], seed: int
) -> None:
    width = len(observables[0][0][0])
    state = random_statevector(2**width, seed=seed)
    grouping = group(observables)
    values = np.array(grouping.constants)
    for number, basis in enumerate(grouping.bases):
        turned = Statevector(state)
        for place, letter in enumerate(reversed(basis)):
            if letter == "X":
                turned = turned.evolve(_operator("h"), [place])
            elif letter == "Y":
                turned = turned.evolve(_operator("sdg"), [place]).evolve(_operator("h"), [place])
        weights = outcome_weights(grouping, number, np.arange(2**width))
        values += weights @ turned.probabilities()
    wanted = [state.expectation_value(SparsePauliOp.from_list(terms)).real for terms in observables]
    np.testing.assert_allclose(values, wanted, atol=1e-10)


def _operator(name: str) -> object:
    from qiskit.circuit.library import get_standard_gate_name_mapping

    return get_standard_gate_name_mapping()[name]


def test_the_hydrogen_molecule_takes_five_bases() -> None:
    diagonal = ["ZIII", "IZII", "IIZI", "IIIZ", "ZZII", "ZIZI", "ZIIZ", "IZZI", "IZIZ", "IIZZ"]
    exchange = ["XXYY", "XYYX", "YXXY", "YYXX"]
    assert measurement_bases([[(pauli, 1.0) for pauli in ["IIII", *diagonal, *exchange]]]) == (
        *exchange,
        "ZZZZ",
    )


def test_an_identity_alone_takes_one_basis_and_no_shot_matters() -> None:
    grouping = group([[("II", 2.5)]])
    assert grouping.bases == ("II",)
    assert grouping.constants == (2.5,)
    assert grouping.assignment == ((),)


def test_no_observable_takes_one_basis() -> None:
    assert measurement_bases([]) == ("",)


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        ([], "at least one term"),
        ([("XQ", 1.0)], "not a string of the letters"),
        ([("", 1.0)], "not a string of the letters"),
        ([("XX", 1.0), ("X", 1.0)], "'X' has 1 qubits, the terms before it have 2"),
        ([("XX", math.nan)], "not a finite number"),
        ([("XX", math.inf)], "not a finite number"),
    ],
)
def test_faulty_terms_are_refused(terms: list[tuple[str, float]], sentence: str) -> None:
    with pytest.raises(CircuitError, match=sentence):
        check_terms(terms)


def test_observables_on_different_numbers_of_qubits_are_refused() -> None:
    with pytest.raises(CircuitError, match="on \\[1, 2\\] qubits"):
        group([[("X", 1.0)], [("XX", 1.0)]])
