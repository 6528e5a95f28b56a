"""The VQE loop of the tutorials: SciPy minimises what an Estimator measures in a Session.

Import changed only: `Session` and `EstimatorV2` come from efaas instead of qiskit_ibm_runtime, and the
backend is a name (`efaas devices` lists them).
"""

import numpy as np
from qiskit.circuit.library import efficient_su2
from qiskit.quantum_info import SparsePauliOp
from qiskit.transpiler import generate_preset_pass_manager
from scipy.optimize import minimize

from efaas import EstimatorV2 as Estimator
from efaas import Session

# H2 at 0.735 Angstrom, parity mapping, electronic energy in Hartree.
hamiltonian = SparsePauliOp.from_list(
    [
        ("II", -1.052373245772859),
        ("IZ", 0.39793742484318045),
        ("ZI", -0.39793742484318045),
        ("ZZ", -0.01128010425623538),
        ("XX", 0.18093119978423156),
    ]
)
ansatz = efficient_su2(hamiltonian.num_qubits, reps=1)
cost_history_dict = {"prev_vector": None, "iters": 0, "cost_history": []}


def cost_func(params, ansatz, hamiltonian, estimator):
    pub = (ansatz, [hamiltonian], [params])
    result = estimator.run(pubs=[pub]).result()
    energy = result[0].data.evs[0]
    cost_history_dict["iters"] += 1
    cost_history_dict["prev_vector"] = params
    cost_history_dict["cost_history"].append(energy)
    print(f"Iters. done: {cost_history_dict['iters']} [Current cost: {energy:.4f}]")
    return energy


with Session(backend="manila-5", seed=7) as session:
    pass_manager = generate_preset_pass_manager(backend=session.backend(), optimization_level=3)
    ansatz_isa = pass_manager.run(ansatz)
    hamiltonian_isa = hamiltonian.apply_layout(layout=ansatz_isa.layout)
    estimator = Estimator(mode=session)
    estimator.options.default_shots = 10_000
    x0 = 2 * np.pi * np.random.default_rng(11).random(ansatz.num_parameters)
    res = minimize(cost_func, x0, args=(ansatz_isa, hamiltonian_isa, estimator), method="cobyla")
    estimator.options.default_shots = 100_000
    final = estimator.run([(ansatz_isa, hamiltonian_isa, res.x)]).result()[0].data
    print(f"energy {float(final.evs):.6f} std_error {float(final.stds):.6f}")
    print(f"exact {min(np.linalg.eigvalsh(hamiltonian.to_matrix())):.6f}")
