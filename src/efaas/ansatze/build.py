"""From the ansatz of a session to its circuit.

Every circuit is unmeasured, acts on exactly the Hamiltonian's qubits and is in `standard_form`, so its
parameters have a stable order: that of `circuit.parameters`, sorted by name, which is the order of every
parameter vector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from efaas.ansatze.canonical import GATE_LIMIT, standard_form
from efaas.ansatze.openqasm import read_openqasm3
from efaas.api.session import Ansatz, Entanglement
from efaas.errors import CircuitError, ManifestError
from efaas.problems.hamiltonian import Hamiltonian

if TYPE_CHECKING:
    from qiskit import QuantumCircuit


def build_ansatz(ansatz: Ansatz, hamiltonian: Hamiltonian, *, place: str = "spec.ansatz") -> QuantumCircuit:
    """The parametrised circuit of an ansatz for a Hamiltonian.

    QAOA's cost layers leave out the Hamiltonian's constant, which would only turn the global phase;
    parameters are β_0 …, then γ_0 ….

    Args:
        ansatz: what the session asks for.
        hamiltonian: sets the number of qubits, and QAOA's cost layers.
        place: field path that errors begin with.

    Raises:
        ManifestError: no parameters, too many gates, or OpenQASM 3 text that is refused.
    """
    alias = type(ansatz).model_fields[ansatz.choice].alias or ansatz.choice
    place = f"{place}.{alias}"
    if ansatz.openqasm3 is not None:
        return _own_circuit(ansatz.openqasm3, hamiltonian.num_qubits, place)
    gates = _gate_count(ansatz, hamiltonian)
    if gates > GATE_LIMIT:
        raise ManifestError(
            f"would have about {gates} gates, and {GATE_LIMIT} is the limit; take fewer repetitions or a "
            "sparser entanglement",
            place=place,
        )
    circuit = _library_circuit(ansatz, hamiltonian)
    if not circuit.num_parameters:
        raise ManifestError("has no parameters to optimise; add a rotation rx, ry or rz", place=place)
    return standard_form(circuit)


def _library_circuit(ansatz: Ansatz, hamiltonian: Hamiltonian) -> QuantumCircuit:
    """The circuit from Qiskit's library."""
    from qiskit.circuit import library
    from qiskit.quantum_info import SparsePauliOp

    n = hamiltonian.num_qubits
    if ansatz.efficient_su2 is not None:
        su2 = ansatz.efficient_su2
        return library.efficient_su2(n, reps=su2.repetitions, entanglement=su2.entanglement)
    if ansatz.real_amplitudes is not None:
        real = ansatz.real_amplitudes
        return library.real_amplitudes(n, reps=real.repetitions, entanglement=real.entanglement)
    if ansatz.n_local is not None:
        local = ansatz.n_local
        # One qubit has nothing to be entangled with; Qiskit would refuse the two-qubit gates.
        entanglers = list(local.entanglers) if n > 1 else []
        return library.n_local(
            n, list(local.rotations), entanglers, entanglement=local.entanglement, reps=local.repetitions
        )
    assert ansatz.qaoa is not None  # the model holds exactly one; OpenQASM was dealt with before
    cost = [(pauli, coefficient) for pauli, coefficient in hamiltonian.terms if set(pauli) != {"I"}]
    operator = SparsePauliOp.from_list(cost, num_qubits=n)
    return library.qaoa_ansatz(operator, reps=ansatz.qaoa.layers)


def _gate_count(ansatz: Ansatz, hamiltonian: Hamiltonian) -> int:
    """About how many gates the circuit will have, counted before any is made."""
    n = hamiltonian.num_qubits
    if ansatz.qaoa is not None:
        # An evolution under a string of weight w takes at most 2 (w - 1) CX, 2 w basis changes and a
        # rotation.
        weights = (n - pauli.count("I") for pauli, _ in hamiltonian.terms)
        cost = sum(1 if weight <= 2 else 4 * weight for weight in weights)
        return n + ansatz.qaoa.layers * (cost + n)
    if ansatz.n_local is not None:
        local = ansatz.n_local
        rotations, entanglers = len(local.rotations), len(local.entanglers)
        repetitions, entanglement = local.repetitions, local.entanglement
    else:
        layered = ansatz.efficient_su2 or ansatz.real_amplitudes
        assert layered is not None
        rotations, entanglers = 2 if ansatz.efficient_su2 else 1, 1
        repetitions, entanglement = layered.repetitions, layered.entanglement
    return (repetitions + 1) * n * rotations + repetitions * _pairs(n, entanglement) * entanglers


def _pairs(qubits: int, entanglement: Entanglement) -> int:
    """Most pairs that a layer entangles."""
    return qubits * (qubits - 1) // 2 if entanglement == "full" else qubits


def _own_circuit(text: str, qubits: int, place: str) -> QuantumCircuit:
    """The user's circuit, checked for what a session needs."""
    try:
        circuit = read_openqasm3(text)
    except CircuitError as error:
        raise ManifestError(error.message, place=place) from error
    if circuit.num_qubits != qubits:
        raise ManifestError(
            f"the circuit has {circuit.num_qubits} qubit{'s' if circuit.num_qubits != 1 else ''}, "
            f"the problem has {qubits}",
            place=place,
        )
    if not circuit.num_parameters:
        raise ManifestError(
            "has no parameters to optimise; declare some, as in 'input float a;'", place=place
        )
    return circuit
