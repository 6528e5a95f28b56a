"""What the benchmark's sessions optimise: LiH at four qubits, else transverse-field Ising chains.

The ansätze are those of the paper's workload. Optimizer settings are fixed per problem family (Spall's
gains with a learning rate that converges within 100 iterations at the shots an iteration has); no setting
depends on the policy.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efaas.api import session as api
from efaas.bench.energies_source import Circuit
from efaas.problems import build_hamiltonian, exact_ground_energy
from efaas.problems.hamiltonian import Hamiltonian

SPSA, NELDER_MEAD = METHODS = ("spsa", "nelder-mead")
"""Optimizers of the benchmark: the paper's, and the one that Exact speculation is for."""


@dataclass(frozen=True)
class BenchProblem:
    """A circuit with its observable, and what is known of it exactly."""

    name: str
    qubits: int
    circuit: Circuit
    parameters: int
    exact: float
    """Ground-state energy by exact diagonalisation."""
    width: float
    """Highest less lowest energy."""
    learning_rate: float

    def initial(self, seed: int) -> NDArray[np.float64]:
        """First point of a session, shape (parameters,), radians."""
        return np.random.default_rng(seed).uniform(-np.pi, np.pi, self.parameters)

    def optimizer(self, seed: int, method: str = SPSA) -> Any:
        """A fresh optimizer, one of `METHODS`, at the first point."""
        from efaas.optimizers.factory import make_optimizer

        if method == NELDER_MEAD:
            simplex = api.NelderMead(step_size=Decimal("0.8"))
            return make_optimizer(api.Optimizer(nelder_mead=simplex), self.initial(seed), seed)
        spsa = api.Spsa(learning_rate=Decimal(str(self.learning_rate)), perturbation=Decimal("0.2"))
        return make_optimizer(api.Optimizer(spsa=spsa), self.initial(seed), seed)

    def optimum(self) -> NDArray[np.float64]:
        """Parameters of the least energy without noise, best of several starts; shape (parameters,)."""
        return np.array(_optimum(self.name))


def problem_of(circuit: str, qubits: int, session: str) -> BenchProblem:
    """The problem of a session.

    Args:
        circuit: what the simulation says it runs, such as ``EfficientSU2-6``; only ansatz and size are read.
        qubits: of the circuit.
        session: its name; of four-qubit sessions without a circuit every third one optimises LiH.
    """
    named = circuit.lower()
    ansatz = next((kind for kind in ("efficientsu2", "twolocal") if kind in named), "realamplitudes")
    number = re.search(r"(\d+)$", session)
    third = not circuit and number is not None and int(number.group(1)) % 3 == 0
    molecule = qubits == 4 and ("lih" in named or third)
    return named_problem(f"{'lih' if molecule else 'ising'}-{qubits}-{ansatz}")


@functools.cache
def named_problem(name: str) -> BenchProblem:
    """A problem by its name, ``<lih or ising>-<qubits>-<ansatz>``."""
    from efaas.ansatze import build_ansatz, canonical_program

    family, size, kind = name.split("-")
    qubits = int(size)
    if family == "lih":
        problem = api.Problem(molecule=api.Molecule(name="LiH", qubits=qubits))
    else:
        problem = api.Problem(ising_chain=api.IsingChain(sites=qubits))
    hamiltonian = build_hamiltonian(problem)
    built = build_ansatz(_ansatz(kind), hamiltonian)
    exact = exact_ground_energy(hamiltonian)
    assert exact is not None  # at most 18 qubits
    return BenchProblem(
        name,
        qubits,
        Circuit(canonical_program(built), tuple(hamiltonian.terms)),
        built.num_parameters,
        exact,
        _width(hamiltonian, exact),
        4.0 if family == "lih" else 4.0 / qubits,
    )


def _ansatz(kind: str) -> api.Ansatz:
    if kind == "efficientsu2":
        return api.Ansatz(efficient_su2=api.EfficientSU2(repetitions=1, entanglement="linear"))
    if kind == "twolocal":
        return api.Ansatz(n_local=api.NLocal(repetitions=1, entanglement="linear"))
    return api.Ansatz(real_amplitudes=api.RealAmplitudes(repetitions=1, entanglement="linear"))


def _width(hamiltonian: Hamiltonian, lowest: float) -> float:
    negative = Hamiltonian(tuple((pauli, -value) for pauli, value in hamiltonian.terms))
    highest = exact_ground_energy(negative)
    assert highest is not None
    return -highest - lowest


@functools.cache
def _optimum(name: str) -> tuple[float, ...]:
    """By the exact statevector, with SciPy's BFGS from six starts."""
    from qiskit.quantum_info import SparsePauliOp, Statevector
    from scipy import optimize

    from efaas.ansatze import build_ansatz

    _, size, kind = name.split("-")
    problem = named_problem(name)
    circuit = build_ansatz(_ansatz(kind), Hamiltonian(problem.circuit.terms))
    operator = SparsePauliOp.from_list(list(problem.circuit.terms))

    def energy(point: NDArray[np.float64]) -> float:
        state = Statevector(circuit.assign_parameters(point))
        return float(state.expectation_value(operator).real)

    random = np.random.default_rng(int(size))
    starts = [random.uniform(-np.pi, np.pi, problem.parameters) for _ in range(6)]
    best = min(
        (optimize.minimize(energy, start, method="BFGS") for start in starts), key=lambda found: found.fun
    )
    # Rounded, because the last digits depend on the machine and energies are kept by the digits of the point.
    return tuple(round(float(value), 6) for value in best.x)
