"""Observables as Pauli terms, against Qiskit's own matrices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qiskit.primitives.containers.observables_array import ObservablesArray
from qiskit.quantum_info import SparseObservable, SparsePauliOp, Statevector

from efaas.errors import InputError
from efaas.primitives.observables import Observables, as_terms, looked_at, restrict

letters = st.text("IXYZ01+-rl", min_size=3, max_size=3)


@given(st.dictionaries(letters, st.floats(-2, 2), min_size=1, max_size=4))
def test_projectors_are_written_out_as_pauli_strings(given_terms):
    oracle = SparseObservable.from_list(list(given_terms.items())).as_paulis()
    expected = SparsePauliOp.from_sparse_list(
        [(text, places, value) for text, places, value in oracle.to_sparse_list()], num_qubits=3
    ).to_matrix()
    found = SparsePauliOp.from_list(as_terms(given_terms, "here") or [("III", 0.0)]).to_matrix()
    assert np.allclose(found, expected)


def test_too_many_projectors_are_refused_before_they_are_written_out():
    with pytest.raises(InputError, match=r"pubs\[0\].*20000 terms"):
        as_terms({"0" * 40: 1.0}, "pubs[0].observables")


def test_qubits_that_are_kept_are_renumbered():
    terms = as_terms(ObservablesArray.coerce(SparsePauliOp(["XIIZI", "IIIIY"], [2.0, 3.0]))[()], "here")
    assert looked_at(terms) == {0, 1, 4}
    observable = restrict(terms, (0, 1, 4))
    assert dict(observable.terms) == {"XZI": 2.0, "IIY": 3.0}
    assert observable.constant == 0.0


def test_what_is_left_out_does_not_change_the_value():
    state = Statevector.from_label("01+r0")
    terms = {"IZXII": 0.5, "IIIYI": -1.0, "IIIII": 0.25}
    exact = state.expectation_value(SparsePauliOp.from_list(list(terms.items()))).real
    kept = Statevector.from_label("1+r")
    small = restrict(as_terms(terms, "here"), (1, 2, 3))
    assert kept.expectation_value(SparsePauliOp.from_list(list(small.terms))).real == pytest.approx(exact)
    assert small.constant == 0.25


def test_nothing_at_all_is_zero():
    assert restrict((), (0, 1)).terms == (("II", 0.0),)


def test_what_was_asked_before_is_looked_up():
    observables = Observables()
    terms = (("ZZI", 1.0),)
    assert observables.restrict(terms, (1, 2)) is observables.restrict(tuple(terms), (1, 2))
    assert observables.restrict(terms, (0, 1, 2)) is not observables.restrict(terms, (1, 2))
