"""What is minimised: Hamiltonians, where they come from, and their exact energies.

`build_hamiltonian` turns the problem of a session into a `Hamiltonian`; `exact_ground_energy` and
`expectation` are the reference that results are compared with. Importing this package needs numpy and the
API's models only; SciPy is loaded by the one function that uses it.
"""

from efaas.problems.build import build_hamiltonian
from efaas.problems.exact import diagonal_minimum, exact_ground_energy, expectation
from efaas.problems.graphs import best_cut, cut_weight
from efaas.problems.hamiltonian import Hamiltonian
from efaas.problems.molecules import Molecule, find_molecule, shipped_molecules

__all__ = [
    "Hamiltonian",
    "Molecule",
    "best_cut",
    "build_hamiltonian",
    "cut_weight",
    "diagonal_minimum",
    "exact_ground_energy",
    "expectation",
    "find_molecule",
    "shipped_molecules",
]
