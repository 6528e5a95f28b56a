"""qiskit-algorithms' SamplingVQE on a diagonal cost. Import changed only: `Session` and `SamplerV2`."""

import numpy as np
from qiskit.circuit.library import real_amplitudes
from qiskit.quantum_info import SparsePauliOp
from qiskit_algorithms import NumPyMinimumEigensolver, SamplingVQE
from qiskit_algorithms.optimizers import COBYLA

from efaas import SamplerV2 as Sampler
from efaas import Session

cost = SparsePauliOp(["IZZ", "ZZI", "ZIZ", "IIZ", "ZII"], [1.0, -0.7, 0.4, -0.3, 0.2])
ansatz = real_amplitudes(3, reps=1)

with Session(backend="manila-5", seed=2, noise=False) as session:
    solver = SamplingVQE(
        Sampler(mode=session, options={"default_shots": 2048}),
        ansatz,
        COBYLA(maxiter=80),
        initial_point=np.full(ansatz.num_parameters, 0.4),
    )
    result = solver.compute_minimum_eigenvalue(cost)
    print(f"expectation {np.real(result.eigenvalue):.6f}")
    print(f"energy {np.real(result.best_measurement['value']):.6f}")
    print(f"exact {np.real(NumPyMinimumEigensolver().compute_minimum_eigenvalue(cost).eigenvalue):.6f}")
