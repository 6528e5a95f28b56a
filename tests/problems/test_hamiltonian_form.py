"""A Hamiltonian is a value: however it is written, the same operator has the same terms."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efaas.api.session import PauliTerm, Problem
from efaas.errors import ManifestError
from efaas.problems import Hamiltonian, build_hamiltonian


def from_line(line: str) -> Hamiltonian:
    return build_hamiltonian(Problem(hamiltonian=line))


def fault_of(problem: Problem) -> str:
    with pytest.raises(ManifestError) as caught:
        build_hamiltonian(problem)
    return str(caught.value)


COEFFICIENTS = st.floats(-1e6, 1e6).filter(lambda c: c != 0)
HAMILTONIANS = (
    st.integers(1, 5)
    .flatmap(
        lambda n: st.dictionaries(
            st.text("IXYZ", min_size=n, max_size=n), COEFFICIENTS, min_size=1, max_size=8
        )
    )
    .map(lambda terms: Hamiltonian(tuple(terms.items())))
)


@given(HAMILTONIANS, st.randoms())
def test_the_order_of_terms_does_not_show(hamiltonian: Hamiltonian, random: object) -> None:
    shuffled = list(hamiltonian.terms)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert Hamiltonian(tuple(shuffled)).terms == hamiltonian.terms


@given(HAMILTONIANS.filter(lambda h: not h.is_constant))
def test_the_readable_line_gives_exactly_the_same_operator_again(hamiltonian: Hamiltonian) -> None:
    assert from_line(hamiltonian.line()).terms == hamiltonian.terms


@given(HAMILTONIANS.filter(lambda h: not h.is_constant), st.lists(st.sampled_from(["", " ", "  ", "\n"])))
def test_white_space_and_stars_do_not_matter(hamiltonian: Hamiltonian, blanks: list[str]) -> None:
    line = ""
    for position, (pauli, coefficient) in enumerate(hamiltonian.terms):
        blank = blanks[position % len(blanks)] if blanks else ""
        star = "*" if position % 2 else ""
        line += (
            f"{blank}{'-' if coefficient < 0 else '+'}{blank}{abs(coefficient)!r}{blank}{star}{blank}{pauli}"
        )
    assert from_line(line).terms == hamiltonian.terms


def test_equal_strings_are_merged_and_vanishing_ones_dropped() -> None:
    hamiltonian = Hamiltonian((("ZZ", 0.1), ("XX", 1.0), ("ZZ", 0.2), ("XX", -1.0), ("II", -3.0)))
    assert hamiltonian.terms == (("II", -3.0), ("ZZ", math.fsum([0.1, 0.2])))
    assert hamiltonian.constant == -3.0
    assert hamiltonian.num_qubits == 2


def test_without_the_identity_the_constant_is_zero() -> None:
    assert Hamiltonian((("ZZ", 0.1),)).constant == 0.0


@pytest.mark.parametrize(
    ("line", "terms"),
    [
        ("-1.05 II + 0.39 IZ", (("II", -1.05), ("IZ", 0.39))),
        ("XX - 2*ZZ", (("XX", 1.0), ("ZZ", -2.0))),  # no coefficient, a star
        ("-XX", (("XX", -1.0),)),  # unary minus
        ("- -1e-3XX+.5 YY", (("XX", 0.001), ("YY", 0.5))),  # two signs, exponent, no blanks, no leading zero
        ("2. X", (("X", 2.0),)),  # a point without decimals
        ("1E2 X", (("X", 100.0),)),
        ("−0.5 Z + 2·X", (("X", 2.0), ("Z", -0.5))),  # as copied from a paper
        ("X\n  + Z\n", (("X", 1.0), ("Z", 1.0))),  # a folded YAML block
    ],
)
def test_a_readable_line_is_read(line: str, terms: tuple[tuple[str, float], ...]) -> None:
    assert from_line(line).terms == terms


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "the line is empty; write terms such as '-1.05 II + 0.39 IZ'"),
        ("1j XX", "not Hermitian: the line has an imaginary coefficient, and all must be real (character 2)"),
        (
            "0.5+0.2i ZZ",
            "not Hermitian: the line has an imaginary coefficient, and all must be real (character 8)",
        ),
        (
            "(1+2j) X",
            "not Hermitian: the line has an imaginary coefficient, and all must be real (character 5)",
        ),
        ("(1) X", "brackets are not read; write each term with its own coefficient (character 1)"),
        ("XX YY", "write + or - before 'YY' (character 4)"),
        ("XX +", "a term is missing after the last sign (character 5)"),
        ("XX + ZXX + YY", "'ZXX' has 3 qubits, the others have 2 (term at character 4)"),
        ("1e999 X", "the number 1e999 is too large (character 1)"),
        ("3", "a Pauli string of I, X, Y, Z is wanted; a constant is written '0.5 II' (character 2)"),
        (
            "2 * 3 X",
            "a Pauli string of I, X, Y, Z is wanted, not '3'; a constant is written '0.5 II' (character 5)",
        ),
        (
            "A + X",
            "a Pauli string of I, X, Y, Z is wanted, not 'A'; a constant is written '0.5 II' (character 1)",
        ),
        (
            "nan X",
            "a Pauli string of I, X, Y, Z is wanted, not 'n'; a constant is written '0.5 II' (character 1)",
        ),
        ("XX - XX", "the Hamiltonian is zero: all its terms vanish or cancel"),
        ("0 XX", "the Hamiltonian is zero: all its terms vanish or cancel"),
        (
            "-2 II",
            "the Hamiltonian is -2 times the identity, so all states have the same energy; "
            "give it a term with X, Y or Z",
        ),
        (
            "1e99 X + 1e100 Z",
            "the coefficients are not finite, or larger together than 1e+100; choose another unit",
        ),
        ("1" * 65 + " X", "the number 111111111111… has more than 64 characters (character 1)"),
    ],
)
def test_a_bad_line_gets_one_sentence(line: str, message: str) -> None:
    assert fault_of(Problem(hamiltonian=line)) == f"spec.problem.hamiltonian: {message}"


@given(st.text("IXYZij+-*.e0123456789() \n", max_size=60))
def test_any_line_is_a_hamiltonian_or_a_manifest_error(line: str) -> None:
    try:
        hamiltonian = from_line(line)
    except ManifestError as refused:
        fault = refused
    else:
        assert all(math.isfinite(c) and c != 0 for _, c in hamiltonian.terms)
        return
    assert fault.place == "spec.problem.hamiltonian"
    assert "\n" not in fault.message


def test_the_longest_line_is_read_in_linear_time() -> None:
    line = "+".join(["1X"] * 20_000)
    assert from_line(line).terms == (("X", 20_000.0),)


def terms(*pairs: tuple[str, str]) -> Problem:
    return Problem(terms=tuple(PauliTerm(pauli=p, coefficient=Decimal(c)) for p, c in pairs))


def test_terms_are_merged() -> None:
    hamiltonian = build_hamiltonian(terms(("ZZ", "0.5"), ("XI", "-1"), ("ZZ", "1")))
    assert hamiltonian.terms == (("XI", -1.0), ("ZZ", 1.5))


def test_the_string_that_differs_from_the_others_is_blamed() -> None:
    problem = terms(("ZZZZ", "1"), ("XXXX", "1"), ("YYYY", "1"), ("ZX", "1"))
    assert fault_of(problem) == "spec.problem.terms[3].pauli: 'ZX' has 2 qubits, the others have 4"
    problem = terms(("Z", "1"), ("XX", "1"), ("YY", "1"))
    assert fault_of(problem) == "spec.problem.terms[0].pauli: 'Z' has 1 qubit, the others have 2"


def test_terms_that_cancel_or_overflow_are_refused() -> None:
    cancel = "spec.problem.terms: the Hamiltonian is zero: all its terms vanish or cancel"
    assert fault_of(terms(("ZZ", "1"), ("ZZ", "-1"))) == cancel
    assert fault_of(terms(("ZZ", "1e-999"))) == cancel  # smaller than any float
    assert "not finite" in fault_of(terms(("ZZ", "1e999"), ("XX", "-1e999")))
    assert "2 times the identity" in fault_of(terms(("II", "2")))


def test_what_is_no_hamiltonian_is_no_value_either() -> None:
    for wrong in ((), (("", 1.0),), (("XA", 1.0),), (("X", 1.0), ("XX", 1.0)), (("X", math.nan),)):
        with pytest.raises(ValueError, match=r"Pauli string|differ|zero|finite"):
            Hamiltonian(wrong)
