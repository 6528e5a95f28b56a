"""Makes the molecular Hamiltonians under ``src/efaas/problems/data/`` from first principles.

Run it in an environment with what ``requirements/chemistry.in`` names (numpy and pyscf)::

    python scripts/make_molecules.py

Hartree-Fock orbitals and their integrals come from PySCF; everything from there to Pauli strings is written
out below, so that a reader can check it:

1. Spin orbitals are numbered with all spin-up ones first (0 … m-1), then all spin-down ones (m … 2m-1).
2. H = E_0 + Σ h_pq a†_p a_q + ½ Σ (pq|rs) a†_p a†_r a_s a_q  (chemists' notation), E_0 the nuclear
   repulsion and, with an active space, the mean-field energy of the frozen core.
3. Jordan-Wigner: a_p = ½ (X_p + i Y_p) Z_(p-1) … Z_0; qubit p holds the occupation of spin orbital p.
4. Parity mapping: the same conjugated with CNOTs 0→1, 1→2, …, so that qubit p holds the parity of the
   occupations up to p. Qubit m-1 then holds the parity of spin-up electrons and qubit 2m-1 that of all
   electrons; both are conserved, so their Z is a number and the two qubits are left out.

LiH keeps its two valence electrons in the three σ orbitals; the two π orbitals do not mix with them. (The
two orbitals next to the Fermi level alone would miss nearly all of the correlation energy.)

Each file keeps the energies that tests and users compare with: Hartree-Fock, full configuration
interaction in the whole basis, and the lowest eigenvalue of the Hamiltonian, over the sector with the
molecule's electrons and over all states of the qubits (these can differ, since an ansatz need not keep the
electron number: a VQE is compared with the latter).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyscf
import pyscf.fci
import pyscf.gto
import pyscf.mcscf
import pyscf.scf
from numpy.typing import NDArray

DATA = Path(__file__).resolve().parent.parent / "src" / "efaas" / "problems" / "data"
DECIMALS = 12
"""Coefficients are rounded to this many decimals, far below what the basis set is good for."""

Polynomial = dict[tuple[int, int], complex]
"""Sum of Pauli strings by (x mask, z mask); a qubit in both masks carries Y."""


@dataclass(frozen=True)
class Recipe:
    """What to make."""

    file: str
    name: str
    geometry: tuple[tuple[str, tuple[float, float, float]], ...]
    mapping: str
    active_electrons: int | None = None
    active_orbitals: tuple[int, ...] | None = None
    """Molecular orbitals by energy, from 0; all of them if not given."""


H2 = (("H", (0.0, 0.0, 0.0)), ("H", (0.0, 0.0, 0.735)))
LIH = (("Li", (0.0, 0.0, 0.0)), ("H", (0.0, 0.0, 1.595)))
RECIPES = (
    Recipe("h2_4.json", "H2", H2, "jordan-wigner"),
    Recipe("h2_2.json", "H2", H2, "parity"),
    Recipe("lih_4.json", "LiH", LIH, "parity", active_electrons=2, active_orbitals=(1, 2, 5)),
)


# --- Pauli algebra --------------------------------------------------------------------------------


def times(left: Polynomial, right: Polynomial) -> Polynomial:
    """Product of two sums of Pauli strings."""
    product: Polynomial = {}
    for (x1, z1), c1 in left.items():
        for (x2, z2), c2 in right.items():
            x, z = x1 ^ x2, z1 ^ z2
            # A string is i^|x&z| X^x Z^z; moving Z^z1 past X^x2 gives (-1)^|z1&x2|.
            power = (x1 & z1).bit_count() + (x2 & z2).bit_count() - (x & z).bit_count()
            power += 2 * (z1 & x2).bit_count()
            product[x, z] = product.get((x, z), 0) + c1 * c2 * 1j ** (power % 4)
    return product


def add(total: Polynomial, summand: Polynomial, factor: complex) -> None:
    """Add a multiple of a sum of Pauli strings in place."""
    for key, coefficient in summand.items():
        total[key] = total.get(key, 0) + factor * coefficient


def lowering(p: int) -> Polynomial:
    """Jordan-Wigner image of a_p."""
    bit, below = 1 << p, (1 << p) - 1
    return {(bit, below): 0.5, (bit, below | bit): 0.5j}


def raising(p: int) -> Polynomial:
    """Jordan-Wigner image of a†_p."""
    return {key: coefficient.conjugate() for key, coefficient in lowering(p).items()}


def conjugate_with_cnot(operator: Polynomial, control: int, target: int) -> Polynomial:
    """CNOT · operator · CNOT (Aaronson and Gottesman 2004, table of the tableau update)."""
    result: Polynomial = {}
    for (x, z), coefficient in operator.items():
        xc, xt, zc, zt = x >> control & 1, x >> target & 1, z >> control & 1, z >> target & 1
        sign = -1 if xc & zt & (xt ^ zc ^ 1) else 1
        result[x ^ (xc << target), z ^ (zt << control)] = sign * coefficient
    return result


def fix_conserved_qubit(operator: Polynomial, qubit: int, eigenvalue: int) -> Polynomial:
    """Replace Z of a qubit by its eigenvalue and take the qubit out."""
    below = (1 << qubit) - 1
    result: Polynomial = {}
    for (x, z), coefficient in operator.items():
        if x >> qubit & 1 and abs(coefficient) > 1e-10:
            raise ValueError(f"qubit {qubit} is not conserved")
        key = ((x & below) | (x >> 1 & ~below), (z & below) | (z >> 1 & ~below))
        result[key] = result.get(key, 0) + coefficient * (eigenvalue if z >> qubit & 1 else 1)
    return result


def letters(x: int, z: int, qubits: int) -> str:
    """Pauli string, qubit 0 rightmost."""
    return "".join("IXZY"[(x >> q & 1) + 2 * (z >> q & 1)] for q in reversed(range(qubits)))


def dense(terms: list[tuple[str, float]]) -> NDArray[np.complex128]:
    """Matrix of a few-qubit Hamiltonian, by Kronecker products."""
    single = {
        "I": np.eye(2),
        "X": np.array([[0, 1], [1, 0]]),
        "Y": np.array([[0, -1j], [1j, 0]]),
        "Z": np.diag([1.0, -1.0]),
    }
    total = np.zeros((2 ** len(terms[0][0]),) * 2, dtype=complex)
    for pauli, coefficient in terms:
        matrix = np.ones((1, 1))
        for letter in pauli:
            matrix = np.kron(matrix, single[letter])
        total += coefficient * matrix
    return total


# --- chemistry ------------------------------------------------------------------------------------


def fermionic_hamiltonian(constant: float, one: NDArray[np.float64], two: NDArray[np.float64]) -> Polynomial:
    """Jordan-Wigner image of H.

    Args:
        constant: nuclear repulsion and frozen core, Hartree.
        one: shape (m, m), one-electron integrals of the spatial orbitals.
        two: shape (m, m, m, m), two-electron integrals (pq|rs) in chemists' notation.
    """
    m = len(one)
    total: Polynomial = {(0, 0): constant}
    up = [raising(p) for p in range(2 * m)]
    down = [lowering(p) for p in range(2 * m)]
    for p in range(m):
        for q in range(m):
            for spin in (0, m):
                add(total, times(up[p + spin], down[q + spin]), one[p, q])
            for r in range(m):
                for s in range(m):
                    for left in (0, m):
                        for right in (0, m):
                            pair = times(up[p + left], up[r + right])
                            hole = times(down[s + right], down[q + left])
                            add(total, times(pair, hole), 0.5 * two[p, q, r, s])
    return total


def pauli_terms(operator: Polynomial, qubits: int) -> list[tuple[str, float]]:
    """Sorted Pauli terms of a Hermitian operator, rounded; what rounds to nothing is left out."""
    terms = []
    for (x, z), coefficient in operator.items():
        if abs(complex(coefficient).imag) > 1e-10:
            raise ValueError("the Hamiltonian came out with an imaginary coefficient")
        value = round(float(complex(coefficient).real), DECIMALS)
        if abs(value) > 1e-10:
            terms.append((letters(x, z, qubits), value))
    return sorted(terms)


def lowest_with_electrons(terms: list[tuple[str, float]], orbitals: int, up: int, down: int) -> float:
    """Lowest eigenvalue of a Jordan-Wigner Hamiltonian over the states with these numbers of electrons."""
    low = (1 << orbitals) - 1
    states = [
        state
        for state in range(1 << 2 * orbitals)
        if (state & low).bit_count() == up and (state >> orbitals).bit_count() == down
    ]
    return float(np.linalg.eigvalsh(dense(terms)[np.ix_(states, states)])[0])


def make(recipe: Recipe) -> dict[str, Any]:
    """One molecule's document."""
    molecule = pyscf.gto.M(atom=[list(atom) for atom in recipe.geometry], basis="sto-3g", verbose=0)
    mean_field = pyscf.scf.RHF(molecule)
    mean_field.conv_tol = 1e-13
    mean_field.kernel()
    # An orbital's sign is free; make its largest coefficient positive so that the file is the same each time.
    orbitals = mean_field.mo_coeff
    largest = np.abs(orbitals).argmax(axis=0)
    mean_field.mo_coeff = orbitals = orbitals * np.sign(orbitals[largest, range(orbitals.shape[1])])

    chosen = recipe.active_orbitals or tuple(range(orbitals.shape[1]))
    electrons = recipe.active_electrons or molecule.nelectron
    space = pyscf.mcscf.CASCI(mean_field, len(chosen), electrons)
    ordered = space.sort_mo(list(chosen), orbitals, base=0)
    one, constant = space.get_h1eff(ordered)
    two = pyscf.ao2mo.restore(1, space.get_h2eff(ordered), len(chosen))
    operator = fermionic_hamiltonian(constant, one, two)

    qubits = 2 * len(chosen)
    spin_up = electrons // 2
    in_sector = lowest_with_electrons(
        pauli_terms(operator, qubits), len(chosen), spin_up, electrons - spin_up
    )
    if recipe.mapping == "parity":
        for q in range(qubits - 1):
            operator = conjugate_with_cnot(operator, q, q + 1)
        operator = fix_conserved_qubit(operator, qubits - 1, (-1) ** electrons)
        operator = fix_conserved_qubit(operator, len(chosen) - 1, (-1) ** spin_up)
        qubits -= 2
    terms = pauli_terms(operator, qubits)
    full = pyscf.fci.FCI(mean_field).kernel()[0]
    frozen = (molecule.nelectron - electrons) // 2
    return {
        "name": recipe.name,
        "qubits": qubits,
        "geometry_angstrom": [[atom, list(position)] for atom, position in recipe.geometry],
        "basis": "STO-3G",
        "charge": 0,
        "multiplicity": 1,
        "electrons": electrons,
        "orbitals": list(chosen),
        "frozen_orbitals": frozen,
        "mapping": "parity with two-qubit reduction" if recipe.mapping == "parity" else "Jordan-Wigner",
        "spin_orbitals": "spin up first, then spin down",
        "unit": "Ha",
        "energies": {
            "nuclear_repulsion": round(float(molecule.energy_nuc()), DECIMALS),
            "hartree_fock": round(float(mean_field.e_tot), DECIMALS),
            "ground_state_in_sector": round(float(in_sector), DECIMALS),
            "ground_state": round(float(np.linalg.eigvalsh(dense(terms))[0]), DECIMALS),
            "full_configuration_interaction": round(float(full), DECIMALS),
        },
        "source": f"PySCF {pyscf.__version__}",
        "terms": [list(term) for term in terms],
    }


def write(path: Path, document: dict[str, Any]) -> None:
    """One key a line, one term a line: compact, and a change shows in a diff."""
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in document.items() if key != "terms"]
    terms = ",\n".join(f"  {json.dumps(term)}" for term in document["terms"])
    path.write_text("{\n" + ",\n".join(lines) + ',\n"terms": [\n' + terms + "\n]\n}\n")


def main() -> None:
    DATA.mkdir(parents=True, exist_ok=True)
    for recipe in RECIPES:
        document = make(recipe)
        write(DATA / recipe.file, document)
        print(f"{recipe.file}: {len(document['terms'])} terms, {document['energies']}")


if __name__ == "__main__":
    main()
