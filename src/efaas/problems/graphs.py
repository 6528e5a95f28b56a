"""Maximum cut as an energy.

A partition of a graph's nodes is a bit string: node i is qubit i, qubit 0 is rightmost, as in the keys of
counts. The Hamiltonian is H = -Σ w_ij (1 - Z_i Z_j) / 2, so the energy of a bit string is minus the weight
of its cut, offset included, and the ground state is a maximum cut. Nodes that no edge names are qubits too:
the number of qubits is the largest node plus one.
"""

from __future__ import annotations

import math

from efaas.api.session import MaxCut
from efaas.errors import ManifestError
from efaas.problems.exact import diagonal_minimum
from efaas.problems.hamiltonian import Hamiltonian

Terms = list[tuple[str, float]]


def node_count(graph: MaxCut) -> int:
    """Qubits of a graph: its largest node plus one."""
    return 1 + max(max(edge.nodes) for edge in graph.edges)


def max_cut_terms(graph: MaxCut, place: str) -> Terms:
    """Pauli terms of a graph's Hamiltonian, not yet merged.

    Raises:
        ManifestError: an edge joins a node with itself or is named twice (in either direction).
    """
    qubits = node_count(graph)
    identity = "I" * qubits
    first_named: dict[tuple[int, int], int] = {}
    terms: Terms = []
    for position, edge in enumerate(graph.edges):
        a, b = sorted(edge.nodes)
        where = f"{place}.edges[{position}].nodes"
        if a == b:
            raise ManifestError(f"joins node {a} with itself; an edge needs two nodes", place=where)
        earlier = first_named.setdefault((a, b), position)
        if earlier != position:
            raise ManifestError(
                f"nodes {a} and {b} are joined by edges[{earlier}] already; add the weights up", place=where
            )
        weight = float(edge.weight)
        terms.append((identity, -weight / 2))
        terms.append((pauli_string(qubits, {a: "Z", b: "Z"}), weight / 2))
    return terms


def pauli_string(qubits: int, letters: dict[int, str]) -> str:
    """The string with these letters at these qubits and I elsewhere, qubit 0 rightmost."""
    string = ["I"] * qubits
    for qubit, letter in letters.items():
        string[qubits - 1 - qubit] = letter
    return "".join(string)


def cut_weight(graph: MaxCut, bitstring: str) -> float:
    """Weight of the edges between the two parts of a partition.

    Args:
        graph: the graph.
        bitstring: one of 0 and 1 for each node, node 0 rightmost.

    Raises:
        ValueError: not a bit string of the graph's length.
    """
    nodes = node_count(graph)
    if len(bitstring) != nodes or bitstring.strip("01"):
        raise ValueError(f"{bitstring[:40]!r} is not a string of {nodes} bits, one for each node")
    part = bitstring[::-1]
    return math.fsum(float(e.weight) for e in graph.edges if part[e.nodes[0]] != part[e.nodes[1]])


def best_cut(graph: MaxCut) -> tuple[float, str] | None:
    """Weight and bit string of a maximum cut, by looking at all of them; None for more than 24 nodes.

    Of several maximum cuts it is the one with the smallest bit string read as a number.
    """
    hamiltonian = Hamiltonian(tuple(max_cut_terms(graph, "graph")))
    found = diagonal_minimum(hamiltonian)
    if found is None:
        return None
    bitstring = format(found[1], f"0{hamiltonian.num_qubits}b")
    return cut_weight(graph, bitstring), bitstring
