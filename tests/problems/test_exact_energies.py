"""Exact energies agree with dense matrices, closed forms and brute force."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from efaas.api.session import HeisenbergChain, IsingChain, Problem
from efaas.problems import Hamiltonian, build_hamiltonian, diagonal_minimum, exact_ground_energy, expectation
from efaas.problems import exact as module

Lowest = Callable[[object], float]


def ising(sites: int, coupling: str = "1", field: str = "1", periodic: bool = False) -> Hamiltonian:
    chain = IsingChain(sites=sites, coupling=Decimal(coupling), field=Decimal(field), periodic=periodic)
    return build_hamiltonian(Problem(ising_chain=chain))


def heisenberg(sites: int, periodic: bool = False, **numbers: str) -> Hamiltonian:
    chain = HeisenbergChain(sites=sites, periodic=periodic, **{k: Decimal(v) for k, v in numbers.items()})
    return build_hamiltonian(Problem(heisenberg_chain=chain))


def random_hamiltonian(qubits: int, count: int, seed: int, letters: str = "IXYZ") -> Hamiltonian:
    random = np.random.default_rng(seed)
    strings = ["".join(random.choice(list(letters), size=qubits)) for _ in range(count)]
    return Hamiltonian(tuple(zip(strings, random.standard_normal(count), strict=True)))


HAMILTONIANS = st.integers(1, 4).flatmap(
    lambda n: st.lists(
        st.tuples(st.text("IXYZ", min_size=n, max_size=n), st.floats(0.1, 10)), min_size=1, max_size=8
    ).map(lambda terms: Hamiltonian(tuple(terms)))
)


@given(HAMILTONIANS)
def test_the_ground_energy_is_that_of_the_dense_matrix(lowest: Lowest, hamiltonian: Hamiltonian) -> None:
    assert exact_ground_energy(hamiltonian) == pytest.approx(lowest(hamiltonian.terms), abs=1e-9)


@given(HAMILTONIANS, st.data())
def test_the_energy_of_a_statevector_is_that_of_the_dense_matrix(
    matrix: Callable[[object], np.ndarray], hamiltonian: Hamiltonian, data: st.DataObject
) -> None:
    size = 2**hamiltonian.num_qubits
    parts = data.draw(arrays.arrays(np.float64, (2, size), elements=st.floats(-1, 1)))
    state = parts[0] + 1j * parts[1] + np.eye(size)[0]
    expected = np.vdot(state, matrix(hamiltonian.terms) @ state).real
    assert expectation(hamiltonian, state) == pytest.approx(expected, abs=1e-9)


def test_a_statevector_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="2 qubits need"):
        expectation(Hamiltonian((("ZZ", 1.0),)), np.ones(2))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("qubits", [4, 7])
def test_lanczos_agrees_with_the_dense_matrix(lowest: Lowest, qubits: int, seed: int) -> None:
    # Odd numbers of Y make a complex matrix, even ones a real one: both are gone through.
    letters = "IXYZ" if seed % 2 else "IXZ"
    hamiltonian = random_hamiltonian(qubits, 12, seed, letters)
    assert module._lanczos(hamiltonian) == pytest.approx(lowest(hamiltonian.terms), abs=1e-9)


def free_fermion_ring(sites: int, coupling: float, field: float) -> float:
    """Ground energy of the periodic transverse-field Ising chain (Pfeuty 1970), even fermion parity.

    E = -Σ_k sqrt(J² + h² - 2 J h cos k) over k = (2m + 1) π / N.
    """
    ks = (2 * np.arange(sites) + 1) * np.pi / sites
    return -float(np.sqrt(coupling**2 + field**2 - 2 * coupling * field * np.cos(ks)).sum())


def free_fermion_chain(sites: int, coupling: float, field: float) -> float:
    """Ground energy of the open chain (Lieb, Schultz and Mattis 1961): minus the sum of singular values."""
    couplings = np.diag([field] * sites) + np.diag([coupling] * (sites - 1), 1)
    return -float(np.linalg.svd(couplings, compute_uv=False).sum())


@pytest.mark.parametrize("field", ["0.3", "1", "2.5"])
@pytest.mark.parametrize("sites", [2, 3, 6, 9, 11])
def test_the_open_ising_chain_has_the_energy_of_free_fermions(sites: int, field: str) -> None:
    expected = free_fermion_chain(sites, 1.0, float(field))
    assert exact_ground_energy(ising(sites, field=field)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("field", ["0.3", "1", "2.5"])
@pytest.mark.parametrize("sites", [3, 4, 8, 11])
def test_the_ising_ring_has_the_energy_of_free_fermions(sites: int, field: str) -> None:
    expected = free_fermion_ring(sites, 1.0, float(field))
    assert exact_ground_energy(ising(sites, field=field, periodic=True)) == pytest.approx(expected, abs=1e-9)


def test_the_ising_chain_is_written_as_its_formula() -> None:
    assert ising(3, "2", "0.5").terms == (
        ("IIX", -0.5),
        ("IXI", -0.5),
        ("IZZ", -2.0),
        ("XII", -0.5),
        ("ZZI", -2.0),
    )
    assert dict(ising(3, periodic=True).terms)["ZIZ"] == -1.0


def test_two_heisenberg_spins_form_a_singlet() -> None:
    assert exact_ground_energy(heisenberg(2)) == pytest.approx(-3.0)
    # A ferromagnet's ground state is a triplet.
    assert exact_ground_energy(heisenberg(2, coupling="-1")) == pytest.approx(-1.0)


def test_a_heisenberg_ring_of_four_has_its_textbook_energy() -> None:
    # In spins of one half E = -2 J; Pauli matrices are twice the spins, so bonds count four times.
    assert exact_ground_energy(heisenberg(4, periodic=True)) == pytest.approx(-8.0)


def test_an_anisotropic_heisenberg_chain_in_a_field_is_written_as_its_formula() -> None:
    chain = heisenberg(2, coupling="0.5", anisotropy="3", field="-0.25")
    assert dict(chain.terms) == {"XX": 0.5, "YY": 0.5, "ZZ": 1.5, "IZ": -0.25, "ZI": -0.25}


def test_the_xx_chain_of_twelve_has_the_energy_of_free_fermions() -> None:
    # Hopping fermions: X X + Y Y = 2 (a† a + h.c.), single-particle energies 4 cos(k π / (N + 1)); half are
    # filled.
    levels = 4 * np.cos(np.arange(1, 13) * np.pi / 13)
    expected = float(levels[levels < 0].sum())
    assert exact_ground_energy(heisenberg(12, anisotropy="0")) == pytest.approx(expected, abs=1e-8)


@given(
    st.integers(1, 6).flatmap(
        lambda n: st.dictionaries(
            st.text("IZ", min_size=n, max_size=n), st.integers(-4, 4).filter(bool), min_size=1, max_size=8
        )
    )
)
def test_a_diagonal_hamiltonian_is_enumerated(terms: dict[str, int]) -> None:
    hamiltonian = Hamiltonian(tuple(terms.items()))
    n = hamiltonian.num_qubits
    energies = []
    for state in range(2**n):
        bits = format(state, f"0{n}b")
        energies.append(
            sum(
                c * math.prod(-1 for p, b in zip(pauli, bits, strict=True) if p == "Z" and b == "1")
                for pauli, c in terms.items()
            )
        )
    found = diagonal_minimum(hamiltonian)
    assert found is not None
    assert found == (pytest.approx(min(energies), abs=1e-9), int(np.argmin(energies)))


def test_enumeration_in_chunks_finds_a_planted_state() -> None:
    # 20 qubits are four chunks; a field on each qubit plants the ground state.
    planted = 0b1011_0011_1000_1111_0101
    fields = {q: 1.0 if planted >> q & 1 else -1.0 for q in range(20)}
    terms = tuple(("I" * (19 - q) + "Z" + "I" * q, strength) for q, strength in fields.items())
    assert diagonal_minimum(Hamiltonian(terms)) == (pytest.approx(-20.0), planted)


def test_what_is_too_large_has_no_reference() -> None:
    assert exact_ground_energy(ising(40)) is None
    assert exact_ground_energy(Hamiltonian((("Z" * 25, 1.0),))) is None
    # Few enough qubits, but a thousand diagonals of 2^16 entries.
    flips = ["".join(letters) for letters in itertools.islice(itertools.product("IX", repeat=16), 1000)]
    assert exact_ground_energy(Hamiltonian(tuple((flip, 1.0) for flip in flips))) is None


def test_the_minimum_over_basis_states_wants_a_diagonal_hamiltonian() -> None:
    with pytest.raises(ValueError, match="X or Y"):
        diagonal_minimum(Hamiltonian((("X", 1.0),)))


def test_importing_problems_loads_neither_scipy_nor_qiskit() -> None:
    program = "import sys, efaas.problems; sys.exit(bool({'scipy', 'qiskit'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
