"""qiskit-algorithms' VQE on an EFaaS session. Import changed only: `Session` and `EstimatorV2`."""

import numpy as np
from qiskit.circuit.library import real_amplitudes
from qiskit.quantum_info import SparsePauliOp
from qiskit_algorithms import VQE, NumPyMinimumEigensolver
from qiskit_algorithms.optimizers import NFT

from efaas import EstimatorV2 as Estimator
from efaas import Session

# A transverse-field Ising chain of three spins.
hamiltonian = SparsePauliOp(["IZZ", "ZZI", "IIX", "IXI", "XII"], [-1.0, -1.0, -0.5, -0.5, -0.5])
ansatz = real_amplitudes(3, reps=2)

with Session(backend="manila-5", seed=5, noise=False) as session:
    vqe = VQE(
        Estimator(mode=session, options={"default_shots": 10_000}),
        ansatz,
        NFT(maxfev=100),
        initial_point=np.ones(ansatz.num_parameters),
    )
    result = vqe.compute_minimum_eigenvalue(hamiltonian)
    print(f"energy {np.real(result.eigenvalue):.6f}")
    exact = NumPyMinimumEigensolver().compute_minimum_eigenvalue(hamiltonian)
    print(f"exact {np.real(exact.eigenvalue):.6f}")
