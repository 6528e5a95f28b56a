"""Molecular Hamiltonians shipped with the project, in Hartree.

They are made by ``scripts/make_molecules.py`` with a chemistry package that is not needed to read them.
Each comes with the energies a result is compared with; see `Molecule` for which is which.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from efaas.errors import ManifestError
from efaas.problems.hamiltonian import Hamiltonian


@dataclass(frozen=True)
class Molecule:
    """A molecule at one geometry, in one basis, mapped to qubits. Energies are in Hartree.

    Attributes:
        name: chemical formula.
        hamiltonian: the qubit Hamiltonian, nuclear repulsion (and frozen core) included.
        geometry: (element, position in Å) of each atom.
        basis: basis set.
        mapping: fermion-to-qubit mapping.
        electrons: electrons that the qubits describe.
        orbitals: molecular orbitals (by energy, from 0) that the qubits describe.
        frozen_orbitals: doubly occupied orbitals left in their mean-field state.
        nuclear_repulsion: repulsion of the nuclei.
        hartree_fock: mean-field energy, what a VQE starts to be useful below.
        ground_state: lowest eigenvalue of the qubit Hamiltonian over all states; a VQE is compared with this.
        ground_state_in_sector: the same over the states with the molecule's electrons only.
        full_configuration_interaction: exact energy of all electrons in the whole basis.
        source: package and version that made the integrals.
    """

    name: str
    hamiltonian: Hamiltonian
    geometry: tuple[tuple[str, tuple[float, ...]], ...]
    basis: str
    mapping: str
    electrons: int
    orbitals: tuple[int, ...]
    frozen_orbitals: int
    nuclear_repulsion: float
    hartree_fock: float
    ground_state: float
    ground_state_in_sector: float
    full_configuration_interaction: float
    source: str


@cache
def shipped_molecules() -> tuple[Molecule, ...]:
    """All molecules, by name and number of qubits."""
    folder = resources.files(__package__) / "data"
    documents = [json.loads(file.read_text()) for file in folder.iterdir() if file.name.endswith(".json")]
    return tuple(sorted(map(_molecule, documents), key=lambda m: (m.name, m.hamiltonian.num_qubits)))


def find_molecule(name: str, qubits: int, place: str) -> Molecule:
    """The molecule with this name on this many qubits.

    Raises:
        ManifestError: there is none; names those that there are.
    """
    of_name = [m for m in shipped_molecules() if m.name == name]
    if not of_name:
        names = ", ".join(sorted({m.name for m in shipped_molecules()}))
        raise ManifestError(f"{name!r} is not shipped; choose one of {names}", place=f"{place}.name")
    for molecule in of_name:
        if molecule.hamiltonian.num_qubits == qubits:
            return molecule
    sizes = " or ".join(str(m.hamiltonian.num_qubits) for m in of_name)
    raise ManifestError(f"{name} is shipped on {sizes} qubits, not on {qubits}", place=f"{place}.qubits")


def _molecule(document: dict[str, Any]) -> Molecule:
    geometry = tuple((atom, tuple(position)) for atom, position in document["geometry_angstrom"])
    description = f"{document['name']} in {document['basis']}, {document['mapping']}"
    if document["frozen_orbitals"]:
        description += f", {document['electrons']} electrons in {len(document['orbitals'])} orbitals"
    terms = tuple((pauli, float(coefficient)) for pauli, coefficient in document["terms"])
    return Molecule(
        name=document["name"],
        hamiltonian=Hamiltonian(terms, unit=document["unit"], description=description),
        geometry=geometry,
        basis=document["basis"],
        mapping=document["mapping"],
        electrons=document["electrons"],
        orbitals=tuple(document["orbitals"]),
        frozen_orbitals=document["frozen_orbitals"],
        source=document["source"],
        **document["energies"],
    )
