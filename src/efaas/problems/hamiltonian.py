"""A Hamiltonian as a sum of Pauli strings, and the readable line it can be written as.

`Hamiltonian` is a value: equal strings are merged, terms that vanish are dropped and the rest is sorted, so
that two ways of writing the same operator give the same terms, the same digest and the same measurement
bases.

The readable line is what people type: ``-1.05 II + 0.39 IZ - XX``. Its grammar::

    line        = term { sign { sign } term }        the first term may have signs too
    term        = [ coefficient [ "*" ] ] pauli      a missing coefficient is 1
    coefficient = decimal number, such as 0.39, .5, 2 or 1e-3
    pauli       = one or more of I X Y Z, qubit 0 rightmost

Imaginary coefficients are recognised, so that they can be refused for what they are: an operator with one
is not Hermitian and has no real energy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from efaas.errors import ManifestError

LARGEST_SUM = 1e100
"""Bound on the sum of the coefficients' sizes: squares of energies must stay finite."""


@dataclass(frozen=True)
class Hamiltonian:
    """A Hermitian operator on qubits.

    Attributes:
        terms: (Pauli string, coefficient) pairs; strings are distinct, of equal length, sorted, with qubit 0
            rightmost; coefficients are finite and not zero. What is given is merged into this form.
        unit: unit of the energy, ``"Ha"`` or empty.
        description: what it is, in a few words for people.

    Raises:
        ValueError: no term is left, a string is not made of IXYZ, lengths differ, or coefficients are not
            finite or too large together.
    """

    terms: tuple[tuple[str, float], ...]
    unit: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "terms", _merged(self.terms))

    @property
    def num_qubits(self) -> int:
        """Qubits it acts on."""
        return len(self.terms[0][0])

    @property
    def constant(self) -> float:
        """Coefficient of the identity, 0 if there is none."""
        # "I" sorts before "X", "Y" and "Z", so the identity is first.
        pauli, coefficient = self.terms[0]
        return coefficient if set(pauli) == {"I"} else 0.0

    @property
    def is_constant(self) -> bool:
        """Whether it is a multiple of the identity, which nothing can minimise."""
        return len(self.terms) == 1 and set(self.terms[0][0]) == {"I"}

    @property
    def is_diagonal(self) -> bool:
        """Whether it is made of I and Z only, so that its eigenstates are bit strings."""
        return all(set(pauli) <= {"I", "Z"} for pauli, _ in self.terms)

    def line(self) -> str:
        """The readable line that gives exactly this operator again."""
        parts = [f"{'-' if c < 0 else '+'} {abs(c)!r} {pauli}" for pauli, c in self.terms]
        first = parts[0].removeprefix("+ ").replace("- ", "-", 1)
        return " ".join([first, *parts[1:]])


def _merged(terms: Iterable[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    """Terms with equal strings added, sorted, without those that vanish."""
    summands: dict[str, list[float]] = {}
    for pauli, coefficient in terms:
        if not pauli or pauli.strip("IXYZ"):
            raise ValueError(f"{pauli[:40]!r} is not a Pauli string such as 'IZXY'")
        summands.setdefault(pauli, []).append(float(coefficient))
    if len({len(pauli) for pauli in summands}) > 1:
        raise ValueError("the Pauli strings differ in length")
    total_size = sum(abs(c) for values in summands.values() for c in values)
    if not total_size < LARGEST_SUM:
        raise ValueError(
            f"the coefficients are not finite, or larger together than {LARGEST_SUM:g}; choose another unit"
        )
    # fsum is exact, so that the order of the summands does not show.
    sums = {pauli: math.fsum(values) for pauli, values in summands.items()}
    merged = tuple((pauli, c) for pauli, c in sorted(sums.items()) if c != 0)
    if not merged:
        raise ValueError("the Hamiltonian is zero: all its terms vanish or cancel")
    return merged


# --- the readable line ----------------------------------------------------------------------------

_TOKEN = re.compile(
    r"\s*(?:(?P<sign>[+-])|(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)"
    r"|(?P<pauli>[IXYZ]+)|(?P<imaginary>[ij])|(?P<times>\*)|(?P<bracket>[()])|(?P<other>\S))"
)
_LONGEST_NUMBER = 64


@dataclass(frozen=True, slots=True)
class LineTerm:
    """One term of a readable line, with where it begins (the first character is 1)."""

    pauli: str
    coefficient: float
    column: int


def parse_line(line: str, place: str) -> tuple[LineTerm, ...]:
    """Read the terms of a readable line, in their order and not yet merged.

    Args:
        line: the text; length is the caller's to bound, time is linear in it.
        place: field path that errors name.

    Raises:
        ManifestError: not of the grammar, or a coefficient is imaginary or not finite; says at which
            character.
    """
    # As they are typed in papers: a real minus sign and a raised dot.
    tokens = _tokens(line.replace("−", "-").replace("·", "*").replace("⋅", "*"))
    terms: list[LineTerm] = []
    at = 0

    def fault(message: str, token: int) -> ManifestError:
        column = tokens[token][2] if token < len(tokens) else len(line) + 1
        return ManifestError(f"{message} (character {column})", place=place)

    kinds = [kind for kind, _, _ in tokens]
    if "imaginary" in kinds:
        message = "not Hermitian: the line has an imaginary coefficient, and all must be real"
        raise fault(message, kinds.index("imaginary"))
    while at < len(tokens):
        sign, column = 1.0, tokens[at][2]
        signs = 0
        while at < len(tokens) and tokens[at][0] == "sign":
            sign, signs, at = (-sign if tokens[at][1] == "-" else sign), signs + 1, at + 1
        if at == len(tokens):
            raise fault("a term is missing after the last sign", at)
        if terms and not signs:
            raise fault(f"write + or - before {tokens[at][1][:40]!r}", at)
        coefficient = 1.0
        if tokens[at][0] == "bracket":
            raise fault("brackets are not read; write each term with its own coefficient", at)
        if tokens[at][0] == "number":
            text = tokens[at][1]
            if len(text) > _LONGEST_NUMBER:
                raise fault(f"the number {text[:12]}… has more than {_LONGEST_NUMBER} characters", at)
            coefficient = float(text)
            if not math.isfinite(coefficient):
                raise fault(f"the number {text} is too large", at)
            at += 1
        if at < len(tokens) and tokens[at][0] == "times":
            at += 1
        if at == len(tokens) or tokens[at][0] != "pauli":
            found = f", not {tokens[at][1]!r}" if at < len(tokens) else ""
            raise fault(f"a Pauli string of I, X, Y, Z is wanted{found}; a constant is written '0.5 II'", at)
        terms.append(LineTerm(tokens[at][1], sign * coefficient, column))
        at += 1
    return tuple(terms)


def _tokens(line: str) -> list[tuple[str, str, int]]:
    """(kind, text, column from 1) of each token; nothing is skipped but white space."""
    return [
        (match.lastgroup or "", match.group(match.lastgroup or 0), match.start(match.lastgroup or 0) + 1)
        for match in _TOKEN.finditer(line)
    ]
