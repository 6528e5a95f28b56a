"""Observables of a PUB as Pauli terms on the qubits that are kept.

Qiskit's observables may hold projectors (``0``, ``1``, ``+``, ``-``, ``r``, ``l``) beside Pauli letters; a
projector on an eigenstate of a Pauli P is (I ± P) / 2.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from efaas.core.identity import observable_digest
from efaas.errors import InputError
from efaas.runner.jobs import Terms

MAX_TERMS = 20_000
"""Pauli terms of an observable, its projectors written out."""

_PROJECTORS = {
    "0": ("Z", 0.5),
    "1": ("Z", -0.5),
    "+": ("X", 0.5),
    "-": ("X", -0.5),
    "r": ("Y", 0.5),
    "l": ("Y", -0.5),
}
_CACHE_SIZE = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Observable:
    """An observable on the qubits that are kept."""

    terms: Terms
    digest: str
    """Handle of the terms."""
    constant: float
    """Coefficient of the identity: the value on the maximally mixed state."""


def as_terms(observable: Mapping[str, float], place: str) -> Terms:
    """Pauli strings and coefficients, qubit 0 rightmost.

    Args:
        observable: letters and coefficients, as Qiskit's `ObservablesArray` gives them.
        place: what errors name.

    Raises:
        InputError: written in Pauli strings it has more than `MAX_TERMS` terms.
    """
    if all(not text.strip("IXYZ") for text in observable):
        terms = tuple((text, float(value)) for text, value in observable.items())
    else:
        sums: dict[str, float] = {}
        for text, value in observable.items():
            projectors = sum(letter in _PROJECTORS for letter in text)
            if projectors > 15 or len(sums) + 2**projectors > MAX_TERMS:
                raise InputError(
                    f"has more than {MAX_TERMS} terms when written in Pauli strings", place=place
                )
            choices = [
                (("I", 0.5), _PROJECTORS[letter]) if letter in _PROJECTORS else ((letter, 1.0),)
                for letter in text
            ]
            for chosen in itertools.product(*choices):
                factor = float(value)
                for _, share in chosen:
                    factor *= share
                pauli = "".join(letter for letter, _ in chosen)
                sums[pauli] = sums.get(pauli, 0.0) + factor
        terms = tuple(sums.items())
    if len(terms) > MAX_TERMS:
        raise InputError(f"has {len(terms)} terms, at most {MAX_TERMS} are taken", place=place)
    return terms


def looked_at(terms: Terms) -> frozenset[int]:
    """Qubits on which a term has a letter other than I."""
    return frozenset(
        index for text, _ in terms for index, letter in enumerate(reversed(text)) if letter != "I"
    )


def restrict(terms: Terms, qubits: Sequence[int]) -> Observable:
    """The observable on these qubits alone.

    Args:
        terms: identity on all other qubits.
        qubits: that are kept, ascending.
    """
    if terms and len(terms[0][0]) != len(qubits):
        width = len(terms[0][0])
        places = [width - 1 - qubit for qubit in reversed(qubits)]
        terms = tuple(("".join(text[place] for place in places), value) for text, value in terms)
    terms = terms or (("I" * len(qubits), 0.0),)
    constant = sum(value for text, value in terms if not text.strip("I"))
    return Observable(terms, observable_digest(terms), constant)


class Observables:
    """Restricted observables that were asked for before."""

    def __init__(self) -> None:
        self._looked_at: dict[Terms, frozenset[int]] = {}
        self._restricted: dict[Any, Observable] = {}

    def looked_at(self, terms: Terms) -> frozenset[int]:
        """`looked_at`, looked up."""
        known = self._looked_at.get(terms)
        if known is None:
            known = _keep(self._looked_at, terms, looked_at(terms))
        return known

    def restrict(self, terms: Terms, qubits: tuple[int, ...]) -> Observable:
        """`restrict`, looked up."""
        known = self._restricted.get((terms, qubits))
        if known is None:
            known = _keep(self._restricted, (terms, qubits), restrict(terms, qubits))
        return known


def _keep(cache: dict[Any, Any], key: Any, value: Any) -> Any:
    if len(cache) >= _CACHE_SIZE:
        cache.pop(next(iter(cache)))
    cache[key] = value
    return value
