"""MaxCut as an energy: minus the weight of the cut, offset included."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efaas.api.session import Edge, MaxCut, Problem
from efaas.errors import ManifestError
from efaas.problems import best_cut, build_hamiltonian, cut_weight, exact_ground_energy


def graph(*edges: tuple[int, int, str]) -> MaxCut:
    return MaxCut(edges=tuple(Edge(nodes=(a, b), weight=Decimal(w)) for a, b, w in edges))


def by_hand(edges: list[tuple[int, int, int]], parts: int) -> int:
    """Weight of a cut; bit i of `parts` is the part of node i."""
    return sum(w for a, b, w in edges if (parts >> a & 1) != (parts >> b & 1))


GRAPHS = st.dictionaries(
    st.tuples(st.integers(0, 6), st.integers(0, 6)).filter(lambda e: e[0] < e[1]),
    st.integers(-5, 9).filter(bool),
    min_size=1,
).map(lambda edges: [(a, b, w) for (a, b), w in edges.items()])


@given(GRAPHS)
def test_the_best_cut_is_the_ground_state(edges: list[tuple[int, int, int]]) -> None:
    problem = graph(*((a, b, str(w)) for a, b, w in edges))
    nodes = 1 + max(b for _, b, _ in edges)
    weights = [by_hand(edges, parts) for parts in range(2**nodes)]
    found = best_cut(problem)
    assert found is not None
    assert found[0] == max(weights)
    assert int(found[1], 2) == weights.index(max(weights))
    assert len(found[1]) == nodes
    energy = exact_ground_energy(build_hamiltonian(Problem(max_cut=problem)))
    assert energy == pytest.approx(-max(weights), abs=1e-9)


@given(GRAPHS, st.integers(0, 2**7 - 1))
def test_the_energy_of_a_bit_string_is_minus_its_cut(edges: list[tuple[int, int, int]], parts: int) -> None:
    problem = graph(*((a, b, str(w)) for a, b, w in edges))
    hamiltonian = build_hamiltonian(Problem(max_cut=problem))
    bitstring = format(parts, "07b")[-hamiltonian.num_qubits :]
    energy = sum(
        c * (-1) ** sum(p == "Z" and b == "1" for p, b in zip(pauli, bitstring, strict=True))
        for pauli, c in hamiltonian.terms
    )
    assert energy == pytest.approx(-by_hand(edges, int(bitstring, 2)), abs=1e-9)
    assert cut_weight(problem, bitstring) == by_hand(edges, int(bitstring, 2))


def test_nodes_without_an_edge_are_qubits_too() -> None:
    hamiltonian = build_hamiltonian(Problem(max_cut=graph((1, 4, "2"))))
    assert hamiltonian.terms == (("IIIII", -1.0), ("ZIIZI", 1.0))


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (
            [(0, 1, "1"), (2, 2, "1")],
            "spec.problem.maxCut.edges[1].nodes: joins node 2 with itself; an edge needs two nodes",
        ),
        (
            [(0, 1, "1"), (1, 2, "1"), (1, 0, "3")],
            "spec.problem.maxCut.edges[2].nodes: nodes 0 and 1 are joined by edges[0] already; "
            "add the weights up",
        ),
        ([(0, 1, "0")], "spec.problem.maxCut: the Hamiltonian is zero: all its terms vanish or cancel"),
    ],
)
def test_a_bad_graph_gets_one_sentence(edges: list[tuple[int, int, str]], message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        build_hamiltonian(Problem(max_cut=graph(*edges)))
    assert str(caught.value) == message


def test_a_bit_string_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="string of 2 bits"):
        cut_weight(graph((0, 1, "1")), "011")


def test_a_graph_of_a_thousand_nodes_is_built() -> None:
    ring = graph(*((i, (i + 1) % 1000, "1") for i in range(1000)))
    hamiltonian = build_hamiltonian(Problem(max_cut=ring))
    assert hamiltonian.num_qubits == 1000
    assert hamiltonian.constant == -500
    assert best_cut(ring) is None


def test_a_ring_of_two_sites_is_refused_for_chains() -> None:
    with pytest.raises(ManifestError) as caught:
        build_hamiltonian(Problem.model_validate({"isingChain": {"sites": 2, "periodic": True}}))
    assert (
        str(caught.value)
        == "spec.problem.isingChain.periodic: a ring needs at least 3 sites; two are neighbours once, "
        "so leave periodic out"
    )
