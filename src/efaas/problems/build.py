"""From the problem of a session to its Hamiltonian.

The API's models have checked shape and ranges; here is what needs mathematics. Every fault is one sentence
at the field that holds it.
"""

from __future__ import annotations

from collections import Counter

from efaas.api.session import HeisenbergChain, IsingChain, Molecule, PauliTerm, Problem
from efaas.errors import ManifestError
from efaas.problems.graphs import Terms, max_cut_terms, node_count, pauli_string
from efaas.problems.hamiltonian import Hamiltonian, parse_line
from efaas.problems.molecules import find_molecule


def build_hamiltonian(problem: Problem, *, place: str = "spec.problem") -> Hamiltonian:
    """The Hamiltonian of a problem.

    Args:
        problem: what the session asks for.
        place: field path that errors begin with.

    Raises:
        ManifestError: strings of different length, an unreadable or non-Hermitian line, a Hamiltonian that is
            zero or a multiple of the identity, an edge named twice or joining a node with itself, a ring of
            two sites, a molecule that is not shipped on that many qubits.
    """
    if problem.molecule is not None:
        return _molecule(problem.molecule, f"{place}.molecule")
    if problem.terms is not None:
        field, given = "terms", problem.terms
        terms, description = _pauli_terms(given, f"{place}.terms"), "Pauli terms"
    elif problem.hamiltonian is not None:
        field = "hamiltonian"
        terms, description = _line(problem.hamiltonian, f"{place}.hamiltonian"), "Pauli terms"
    elif problem.ising_chain is not None:
        field, chain = "isingChain", problem.ising_chain
        terms = _ising(chain, f"{place}.isingChain")
        description = f"transverse-field Ising {_shape(chain)}, J = {chain.coupling}, h = {chain.field}"
    elif problem.heisenberg_chain is not None:
        field, heisenberg = "heisenbergChain", problem.heisenberg_chain
        terms = _heisenberg(heisenberg, f"{place}.heisenbergChain")
        description = (
            f"Heisenberg {_shape(heisenberg)}, J = {heisenberg.coupling}, Δ = {heisenberg.anisotropy}, "
            f"h = {heisenberg.field}"
        )
    else:
        assert problem.max_cut is not None  # the model holds exactly one
        field, graph = "maxCut", problem.max_cut
        terms = max_cut_terms(graph, f"{place}.maxCut")
        description = f"maximum cut of {node_count(graph)} nodes and {len(graph.edges)} edges"
    place = f"{place}.{field}"
    try:
        hamiltonian = Hamiltonian(tuple(terms), description=description)
    except ValueError as fault:
        raise ManifestError(str(fault), place=place) from None
    if hamiltonian.is_constant:
        raise ManifestError(
            f"the Hamiltonian is {hamiltonian.constant:g} times the identity, so all states have the same "
            "energy; give it a term with X, Y or Z",
            place=place,
        )
    return hamiltonian


def _molecule(molecule: Molecule, place: str) -> Hamiltonian:
    return find_molecule(molecule.name, molecule.qubits, place).hamiltonian


def _pauli_terms(terms: tuple[PauliTerm, ...], place: str) -> Terms:
    """Terms as given, all of one length."""
    wanted = _usual_length([term.pauli for term in terms])
    for position, term in enumerate(terms):
        if len(term.pauli) != wanted:
            raise ManifestError(_length_fault(term.pauli, wanted), place=f"{place}[{position}].pauli")
    return [(term.pauli, float(term.coefficient)) for term in terms]


def _line(line: str, place: str) -> Terms:
    """Terms of a readable line, all of one length."""
    terms = parse_line(line, place)
    if not terms:
        raise ManifestError("the line is empty; write terms such as '-1.05 II + 0.39 IZ'", place=place)
    wanted = _usual_length([term.pauli for term in terms])
    for term in terms:
        if len(term.pauli) != wanted:
            message = f"{_length_fault(term.pauli, wanted)} (term at character {term.column})"
            raise ManifestError(message, place=place)
    return [(term.pauli, term.coefficient) for term in terms]


def _usual_length(paulis: list[str]) -> int:
    """The length that most strings have (of equally many the first), so that the odd one out is blamed."""
    return Counter(map(len, paulis)).most_common(1)[0][0]


def _length_fault(pauli: str, wanted: int) -> str:
    shown = pauli if len(pauli) <= 40 else f"{pauli[:40]}…"
    return f"{shown!r} has {len(pauli)} qubit{'s' if len(pauli) > 1 else ''}, the others have {wanted}"


def _bonds(chain: IsingChain | HeisenbergChain, place: str) -> list[tuple[int, int]]:
    """Neighbours of a chain or, if periodic, of a ring."""
    n = chain.sites
    if chain.periodic and n == 2:
        raise ManifestError(
            "a ring needs at least 3 sites; two are neighbours once, so leave periodic out",
            place=f"{place}.periodic",
        )
    return [(i, (i + 1) % n) for i in range(n if chain.periodic else n - 1)]


def _shape(chain: IsingChain | HeisenbergChain) -> str:
    return f"{'ring' if chain.periodic else 'chain'} of {chain.sites} sites"


def _ising(chain: IsingChain, place: str) -> Terms:
    """H = -J Σ Z Z - h Σ X."""
    n, coupling, field = chain.sites, float(chain.coupling), float(chain.field)
    terms = [(pauli_string(n, {a: "Z", b: "Z"}), -coupling) for a, b in _bonds(chain, place)]
    return terms + [(pauli_string(n, {i: "X"}), -field) for i in range(n)]


def _heisenberg(chain: HeisenbergChain, place: str) -> Terms:
    """H = J Σ (X X + Y Y + Δ Z Z) + h Σ Z."""
    n, coupling = chain.sites, float(chain.coupling)
    along_z = float(chain.coupling * chain.anisotropy)
    terms = [
        (pauli_string(n, {a: letter, b: letter}), strength)
        for a, b in _bonds(chain, place)
        for letter, strength in (("X", coupling), ("Y", coupling), ("Z", along_z))
    ]
    return terms + [(pauli_string(n, {i: "Z"}), float(chain.field)) for i in range(n)]
