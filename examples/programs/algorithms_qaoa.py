"""qiskit-algorithms' QAOA for a maximum cut. Import changed only: `Session` and `SamplerV2`."""

import numpy as np
from qiskit.quantum_info import SparsePauliOp
from qiskit_algorithms import QAOA, NumPyMinimumEigensolver
from qiskit_algorithms.optimizers import COBYLA

from efaas import SamplerV2 as Sampler
from efaas import Session

# Four nodes, five edges; the energy of a cut is (edges uncut - edges cut) / 2.
edges = [(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)]
cost = SparsePauliOp.from_sparse_list([("ZZ", edge, 0.5) for edge in edges], num_qubits=4)

with Session(backend="manila-5", seed=3, noise=False) as session:
    qaoa = QAOA(
        Sampler(mode=session, options={"default_shots": 4096}),
        COBYLA(maxiter=60),
        reps=2,
        initial_point=[0.4, 0.6, 0.6, 0.3],
    )
    result = qaoa.compute_minimum_eigenvalue(cost)
    best = result.best_measurement
    print(f"expectation {np.real(result.eigenvalue):.6f}")
    print(f"cut {best['bitstring']}")
    print(f"energy {np.real(best['value']):.6f}")
    print(f"exact {np.real(NumPyMinimumEigensolver().compute_minimum_eigenvalue(cost).eigenvalue):.6f}")
