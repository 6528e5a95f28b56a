"""Measurement bases of a job's observables, and what an outcome says about them.

Pauli terms that differ on no qubit except by an identity (qubit-wise commuting) can be read off the same
shots. A job's observables are grouped together, so that shots serve all of them. Grouping is greedy with the
longest terms first (the largest-first heuristic of Verteletskyi et al., J. Chem. Phys. 152, 124114, in its
simplest form) and deterministic, because the index of a basis is part of the identity of a shot.

A term is estimated in exactly one basis. There, an observable is a function f(outcome) = Σ_t c_t Π_q s_q(bit
q), with s = (1, -1) for a bit as it was read. Mean and variance of f over the shots give value and standard
error with all covariances inside a basis; bases are independent, so that variances add. With readout
mitigation, s is replaced by (1, -1)·C⁻¹, C[i, j] the probability to read i where j was: the mean is then free
of readout bias, and the variance of the same f is the honest, larger, error of the mitigated estimate
(tensored readout mitigation: Bravyi et al., Phys. Rev. A 103, 042605).

Nothing here imports Qiskit; the server groups observables before it queues a job.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from efaas.errors import CircuitError
from efaas_qpu.engine.messages import Term

MAX_TERMS = 20_000
"""Terms of one observable."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """Measurement bases of several observables."""

    bases: tuple[str, ...]
    """One letter X, Y or Z a qubit, qubit 0 rightmost, ``I`` where no term looks. At least one basis."""
    assignment: tuple[tuple[tuple[int, str, float], ...], ...]
    """For each basis: (index of the observable, Pauli string, coefficient) of its terms."""
    constants: tuple[float, ...]
    """For each observable: sum of its identity coefficients, which need no shot."""


def check_terms(terms: Iterable[Term], *, place: str = "observable") -> tuple[Term, ...]:
    """The terms of one observable, checked.

    Raises:
        CircuitError: no terms or too many, unequal lengths, letters other than IXYZ, coefficients that are
            not finite.
    """
    checked: list[Term] = []
    for index, (pauli, coefficient) in enumerate(terms):
        here = f"{place}.terms[{index}]"
        if not pauli or set(pauli) - set("IXYZ"):
            raise CircuitError(f"{pauli[:80]!r} is not a string of the letters I, X, Y and Z", place=here)
        if checked and len(pauli) != len(checked[0][0]):
            raise CircuitError(
                f"{pauli[:80]!r} has {len(pauli)} qubits, the terms before it have {len(checked[0][0])}",
                place=here,
            )
        if not math.isfinite(coefficient):
            raise CircuitError(f"the coefficient {coefficient} is not a finite number", place=here)
        if index >= MAX_TERMS:
            raise CircuitError(f"there are more than {MAX_TERMS} terms", place=place)
        checked.append((pauli, float(coefficient)))
    if not checked:
        raise CircuitError("an observable needs at least one term", place=place)
    return tuple(checked)


def group(observables: Sequence[Sequence[Term]]) -> Grouping:
    """Group the union of the observables' terms into measurement bases.

    Args:
        observables: terms of each observable, all on the same number of qubits.

    Raises:
        CircuitError: the observables are on different numbers of qubits.
    """
    widths = {len(pauli) for terms in observables for pauli, _ in terms}
    if len(widths) > 1:
        raise CircuitError(
            f"the observables of a job are on {sorted(widths)} qubits, they must be on as many"
        )
    width = widths.pop() if widths else 0
    identity = "I" * width
    constants = [
        math.fsum(coefficient for pauli, coefficient in terms if pauli == identity) for terms in observables
    ]
    paulis = {pauli for terms in observables for pauli, _ in terms if pauli != identity}
    # The longest terms first: they leave the least freedom; the string itself makes the order total.
    order = sorted(paulis, key=lambda pauli: (pauli.count("I"), pauli))
    bases: list[list[str]] = []
    basis_of: dict[str, int] = {}
    for pauli in order:
        support = [(place, letter) for place, letter in enumerate(pauli) if letter != "I"]
        fits = (
            index
            for index, basis in enumerate(bases)
            if all(basis[place] in ("I", letter) for place, letter in support)
        )
        chosen = next(fits, len(bases))
        if chosen == len(bases):
            bases.append(list(identity))
        for place, letter in support:
            bases[chosen][place] = letter
        basis_of[pauli] = chosen
    if not bases:
        bases.append(list(identity))
    assignment: list[list[tuple[int, str, float]]] = [[] for _ in bases]
    for which, terms in enumerate(observables):
        for pauli, coefficient in terms:
            if pauli != identity:
                assignment[basis_of[pauli]].append((which, pauli, coefficient))
    return Grouping(
        bases=tuple("".join(basis) for basis in bases),
        assignment=tuple(tuple(terms) for terms in assignment),
        constants=tuple(constants),
    )


def measurement_bases(observables: Sequence[Sequence[Term]]) -> tuple[str, ...]:
    """Measurement bases that a job with these observables takes, in the order of its pairs; at least one."""
    return group(observables).bases


def outcome_weights(
    grouping: Grouping,
    basis: int,
    outcomes: NDArray[np.int64],
    inverses: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """What each observable is worth at each outcome of a basis: f of the module's text, without the constant.

    Args:
        grouping: the observables.
        basis: index of the basis.
        outcomes: shape (outcomes,), bit q is qubit q.
        inverses: shape (qubits, 2, 2), C⁻¹ of each qubit, to mitigate readout; None: bits as read.

    Returns:
        Shape (observables, outcomes).
    """
    weights = np.zeros((len(grouping.constants), outcomes.size))
    plain = np.array([1.0, -1.0])
    signs: dict[int, NDArray[np.float64]] = {}
    for which, pauli, coefficient in grouping.assignment[basis]:
        product = np.full(outcomes.size, coefficient)
        for place, letter in enumerate(reversed(pauli)):
            if letter == "I":
                continue
            if place not in signs:
                values = plain if inverses is None else plain @ inverses[place]
                signs[place] = values[(outcomes >> place) & 1]
            product *= signs[place]
        weights[which] += product
    return weights
