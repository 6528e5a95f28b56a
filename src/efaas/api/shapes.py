"""What a session's circuit is expected to look like, before anybody has transpiled it.

Placement weighs devices by the chance of success of one run of the circuit. Who places sees the session's
spec only, so it counts what the ansatz says: rotations and entanglers of each layer, one readout a qubit.
Swaps that routing will add are not counted; they are alike on like devices, and the order of devices, not the
figure, is what a placement needs. One rotation counts as two physical gates (``sx rz sx`` with a virtual rz).

The execution time counts the shots of one measurement basis at the repetition delay that IBM's devices have
by default.
"""

from __future__ import annotations

import hashlib
import json

from efaas.api.session import Problem, VQASessionSpec
from efaas.core.placement import CircuitShape

REPETITION_DELAY_S = 250e-6
"""Default repetition delay of the shipped devices."""
_GATES_PER_ROTATION = 2


def qubits_needed(spec: VQASessionSpec) -> int:
    """Least number of qubits: what is asked for, and what the problem has; 1 if neither says."""
    return max(spec.device.qubits or 1, problem_qubits(spec.problem))


def problem_qubits(problem: Problem | None) -> int:
    """Qubits of a declared problem; 1 if there is none or it cannot be told."""
    if problem is None:
        return 1
    if problem.terms is not None:
        return max(len(term.pauli) for term in problem.terms)
    if problem.hamiltonian is not None:
        words = (word.strip("+-*() ") for word in problem.hamiltonian.split())
        return max((len(word) for word in words if word and not set(word) - set("IXYZ")), default=1)
    if problem.molecule is not None:
        return problem.molecule.qubits
    if problem.ising_chain is not None:
        return problem.ising_chain.sites
    if problem.heisenberg_chain is not None:
        return problem.heisenberg_chain.sites
    if problem.max_cut is not None:
        return 1 + max(max(edge.nodes) for edge in problem.max_cut.edges)
    return 1


def circuit_key(spec: VQASessionSpec) -> str | None:
    """Digest of what a declared session's circuit is made of; None for a program, which may run any.

    Nobody knows a circuit's own digest before it was built, which takes Qiskit. Sessions with the same key
    have the same circuit: it is made of the ansatz and the number of qubits, and for QAOA of the problem.
    """
    if spec.ansatz is None:
        return None
    made_of = {"ansatz": spec.ansatz.model_dump(mode="json"), "qubits": qubits_needed(spec)}
    if spec.ansatz.qaoa is not None and spec.problem is not None:
        made_of["problem"] = spec.problem.model_dump(mode="json")
    text = json.dumps(made_of, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def circuit_shape(spec: VQASessionSpec) -> CircuitShape:
    """Gates and readouts of one run of the session's circuit, and device seconds of one job."""
    qubits = qubits_needed(spec)
    one_qubit, two_qubit = _gates(spec, qubits)
    return CircuitShape(one_qubit, two_qubit, qubits, spec.shots * REPETITION_DELAY_S)


def _gates(spec: VQASessionSpec, qubits: int) -> tuple[int, int]:
    """(single-qubit gates, two-qubit gates)."""
    ansatz = spec.ansatz
    if ansatz is None or ansatz.openqasm3 is not None:
        # A program or a circuit of one's own: two layers of the usual kind.
        return 3 * qubits * _GATES_PER_ROTATION, 2 * _pairs("linear", qubits)
    if ansatz.qaoa is not None:
        bonds = _bonds(spec.problem, qubits)
        return ansatz.qaoa.layers * (qubits + bonds) * _GATES_PER_ROTATION + qubits, (
            2 * bonds * ansatz.qaoa.layers
        )
    if ansatz.n_local is not None:
        local = ansatz.n_local
        return (
            (local.repetitions + 1) * qubits * len(local.rotations) * _GATES_PER_ROTATION,
            local.repetitions * _pairs(local.entanglement, qubits) * len(local.entanglers),
        )
    layered = ansatz.efficient_su2 or ansatz.real_amplitudes
    assert layered is not None
    return (
        (layered.repetitions + 1) * qubits * _GATES_PER_ROTATION,
        layered.repetitions * _pairs(layered.entanglement, qubits),
    )


def _pairs(entanglement: str, qubits: int) -> int:
    if entanglement == "full":
        return qubits * (qubits - 1) // 2
    return qubits if entanglement in ("circular", "sca") and qubits > 2 else qubits - 1


def _bonds(problem: Problem | None, qubits: int) -> int:
    """Two-qubit terms of a problem's cost layer."""
    if problem is not None and problem.max_cut is not None:
        return len(problem.max_cut.edges)
    if problem is not None and problem.terms is not None:
        return sum(1 for term in problem.terms if len(term.pauli) - term.pauli.count("I") >= 2)
    return qubits - 1
