"""The shipped molecules have the energies of quantum chemistry."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from efaas.api.session import Molecule as Asked
from efaas.api.session import Problem
from efaas.errors import ManifestError
from efaas.problems import Molecule, build_hamiltonian, find_molecule, shipped_molecules

Matrix = Callable[[object], np.ndarray]

MOLECULES = pytest.mark.parametrize(
    "molecule", shipped_molecules(), ids=lambda m: f"{m.name}-{m.hamiltonian.num_qubits}"
)


def test_the_molecules_that_the_api_promises_are_shipped() -> None:
    assert [(m.name, m.hamiltonian.num_qubits) for m in shipped_molecules()] == [
        ("H2", 2),
        ("H2", 4),
        ("LiH", 4),
    ]


@MOLECULES
def test_the_ground_state_is_that_of_the_dense_matrix(matrix: Matrix, molecule: Molecule) -> None:
    energies = np.linalg.eigvalsh(matrix(molecule.hamiltonian.terms))
    assert energies[0] == pytest.approx(molecule.ground_state, abs=1e-10)
    # In the sector with the molecule's electrons it is an eigenvalue as well, and none is below the whole
    # space's.
    assert np.abs(energies - molecule.ground_state_in_sector).min() < 1e-10
    assert molecule.ground_state <= molecule.ground_state_in_sector + 1e-10


@MOLECULES
def test_energies_obey_the_variational_order(molecule: Molecule) -> None:
    exact, active, mean_field = (
        molecule.full_configuration_interaction,
        molecule.ground_state_in_sector,
        molecule.hartree_fock,
    )
    assert exact <= active + 1e-10 < mean_field
    # There is something to gain over mean field: more than chemical accuracy.
    assert mean_field - active > 1.6e-3


@pytest.mark.parametrize("qubits", [2, 4])
def test_hydrogen_has_its_published_energy(qubits: int) -> None:
    # O'Malley et al. 2016 and many since: -1.1373 Ha at 0.735 Å in STO-3G; all its electrons are on the
    # qubits.
    hydrogen = find_molecule("H2", qubits, "here")
    assert hydrogen.ground_state == pytest.approx(-1.1373, abs=5e-5)
    assert hydrogen.ground_state == pytest.approx(hydrogen.full_configuration_interaction, abs=1e-9)
    assert hydrogen.nuclear_repulsion == pytest.approx(0.52917721 / 0.735, abs=1e-7)
    assert hydrogen.hamiltonian.unit == "Ha"


def test_both_mappings_of_hydrogen_share_the_energies_of_their_sector(matrix: Matrix) -> None:
    small = np.linalg.eigvalsh(matrix(find_molecule("H2", 2, "").hamiltonian.terms))
    large = np.linalg.eigvalsh(matrix(find_molecule("H2", 4, "").hamiltonian.terms))
    for energy in small:
        assert np.abs(large - energy).min() < 1e-9


def test_the_mean_field_state_has_the_mean_field_energy(matrix: Matrix) -> None:
    # Jordan-Wigner, spin up first: the lowest orbital of each spin is occupied, qubits 0 and 2.
    hydrogen = find_molecule("H2", 4, "")
    diagonal = matrix(hydrogen.hamiltonian.terms).diagonal().real
    assert diagonal[0b0101] == pytest.approx(hydrogen.hartree_fock, abs=1e-9)
    # Parity: qubit 0 holds orbital 0 of spin up (1), qubit 1 adds orbital 0 of spin down to the ups (1 + 1
    #     = 0).
    reduced = find_molecule("H2", 2, "")
    diagonal = matrix(reduced.hamiltonian.terms).diagonal().real
    assert diagonal[0b01] == pytest.approx(reduced.hartree_fock, abs=1e-9)


def test_lithium_hydride_keeps_most_of_the_correlation_energy() -> None:
    lih = find_molecule("LiH", 4, "")
    correlation = lih.hartree_fock - lih.full_configuration_interaction
    assert lih.hartree_fock - lih.ground_state > 0.9 * correlation
    assert lih.full_configuration_interaction == pytest.approx(-7.8824, abs=5e-5)


def test_a_molecule_is_a_problem() -> None:
    hamiltonian = build_hamiltonian(Problem(molecule=Asked(name="H2", qubits=2)))
    assert hamiltonian == find_molecule("H2", 2, "").hamiltonian
    assert hamiltonian.description == "H2 in STO-3G, parity with two-qubit reduction"


@pytest.mark.parametrize(
    ("name", "qubits", "message"),
    [
        ("H2", 3, "spec.problem.molecule.qubits: H2 is shipped on 2 or 4 qubits, not on 3"),
        ("LiH", 12, "spec.problem.molecule.qubits: LiH is shipped on 4 qubits, not on 12"),
    ],
)
def test_a_size_that_is_not_shipped_is_answered_with_those_that_are(
    name: str, qubits: int, message: str
) -> None:
    with pytest.raises(ManifestError) as caught:
        build_hamiltonian(Problem.model_validate({"molecule": {"name": name, "qubits": qubits}}))
    assert str(caught.value) == message


def test_a_name_that_is_not_shipped_is_answered_with_those_that_are() -> None:
    with pytest.raises(ManifestError, match=r"x\.name: 'BeH2' is not shipped; choose one of H2, LiH"):
        find_molecule("BeH2", 4, "x")
