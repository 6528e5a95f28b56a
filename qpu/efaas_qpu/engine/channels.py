"""A device's imperfections as quantum channels and confusion matrices.

The noise of a gate is what Aer's ``NoiseModel.from_backend`` makes of the same calibration: depolarisation
followed by thermal relaxation at zero temperature for the length of the gate, with the depolarisation chosen
such that the average gate infidelity of both together is the calibrated error. If relaxation alone is worse
than the calibrated error, there is no depolarisation. Virtual gates (error and length 0) are ideal. A control
error is an extra rotation about the gate's own generator, applied right after the ideal gate.

What is not modelled: relaxation of idle qubits (a ``delay`` in the circuit is a way to ask for it),
crosstalk, leakage, errors of a reset, and decay during readout beyond the calibrated readout errors.

Superoperators act on column-stacked density matrices, S = Σ K* ⊗ K, qubit 0 least significant: Qiskit's
convention.
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efaas.devices.snapshot import DeviceSnapshot

Complex = NDArray[np.complex128]

_PAULI: dict[str, Complex] = {
    "X": np.array([[0, 1], [1, 0]], dtype=complex),
    "Y": np.array([[0, -1j], [1j, 0]], dtype=complex),
    "Z": np.array([[1, 0], [0, -1]], dtype=complex),
}

_GENERATORS = {
    "x": "X", "sx": "X", "rx": "X", "sxdg": "X", "y": "Y", "ry": "Y", "z": "Z", "rz": "Z", "p": "Z",
    "cz": "ZZ", "rzz": "ZZ", "cp": "ZZ", "cx": "XZ", "ecr": "XZ", "rzx": "XZ", "rxx": "XX", "ryy": "YY",
}  # fmt: skip
"""What a gate that turns too far turns about; the first qubit of the gate is the last letter."""


def over_rotation(name: str, angle: float) -> Complex | None:
    """exp(-i·angle/2·G), G the gate's generator; None if the gate has none or the angle is 0."""
    generator = _GENERATORS.get(name)
    if generator is None or angle == 0.0:
        return None
    matrix = np.ones((1, 1), dtype=complex)
    for letter in generator:
        matrix = np.kron(matrix, _PAULI[letter])
    rotation: Complex = math.cos(angle / 2) * np.eye(len(matrix)) - 1j * math.sin(angle / 2) * matrix
    return rotation


def relaxation_kraus(t1_us: float, t2_us: float, time_us: float) -> list[Complex]:
    """Kraus operators of thermal relaxation of one qubit at zero temperature; T2 is cut to 2·T1."""
    t2_us = min(t2_us, 2 * t1_us)
    decay = -math.expm1(-time_us / t1_us)
    coherence = math.exp(-time_us / t2_us + time_us / (2 * t1_us)) if math.isfinite(t2_us) else 1.0
    flip = (1 - coherence) / 2
    damping = [
        np.array([[1, 0], [0, math.sqrt(1 - decay)]], dtype=complex),
        np.array([[0, math.sqrt(decay)], [0, 0]], dtype=complex),
    ]
    phase: list[Complex] = [np.diag([math.sqrt(1 - flip)] * 2).astype(complex), math.sqrt(flip) * _PAULI["Z"]]
    return [p @ d for p, d in product(phase, damping) if np.any(p @ d)]


def relaxation_fidelity(snapshot: DeviceSnapshot, qubits: tuple[int, ...], time_us: float) -> float:
    """Average gate fidelity of the relaxation of some qubits for some time.

    The process fidelity of one qubit is (1 + e^(-t/T1) + 2·e^(-t/T2)) / 4; qubits multiply; the average
    fidelity is (d·F + 1) / (d + 1).
    """
    process = 1.0
    for qubit in qubits:
        values = snapshot.qubits[qubit]
        t2_us = min(values.t2_us, 2 * values.t1_us)
        process *= (1 + math.exp(-time_us / values.t1_us) + 2 * math.exp(-time_us / t2_us)) / 4
    dimension = 2 ** len(qubits)
    return float((dimension * process + 1) / (dimension + 1))


def depolarising_probability(snapshot: DeviceSnapshot, name: str, qubits: tuple[int, ...]) -> float:
    """Depolarising parameter p of (1-p)·ρ + p·I/d that completes the relaxation to the calibrated error.

    Solves F = F_relax - p·(d·F_relax - 1)/d for p (the relation Aer uses), bounded by what a channel can be.
    """
    gate = snapshot.gates.get((name, qubits))
    if gate is None:
        return 0.0
    dimension = 2 ** len(qubits)
    fidelity = relaxation_fidelity(snapshot, qubits, gate.length_ns * 1e-3)
    error = min(gate.error, dimension / (dimension + 1))
    if error <= 1 - fidelity:
        return 0.0
    probability = dimension * (error - (1 - fidelity)) / (dimension * fidelity - 1)
    return float(min(probability, 4.0 ** len(qubits) / (4.0 ** len(qubits) - 1)))


def superoperator(kraus: list[Complex]) -> Complex:
    """Σ K* ⊗ K."""
    total: Complex = np.sum([np.kron(k.conj(), k) for k in kraus], axis=0)
    return total


def relaxation(snapshot: DeviceSnapshot, qubits: tuple[int, ...], time_us: float) -> Complex | None:
    """Superoperator of the relaxation of some qubits for some time; None if nothing happens."""
    if time_us <= 0 or all(
        math.isinf(snapshot.qubits[q].t1_us) and math.isinf(snapshot.qubits[q].t2_us) for q in qubits
    ):
        return None
    kraus: list[Complex] = [np.ones((1, 1), dtype=complex)]
    for qubit in qubits:
        values = snapshot.qubits[qubit]
        single = relaxation_kraus(values.t1_us, values.t2_us, time_us)
        kraus = [np.kron(k, before).astype(complex) for before in kraus for k in single]
    return superoperator(kraus)


def noise(snapshot: DeviceSnapshot, name: str, qubits: tuple[int, ...], angle: float = 0.0) -> Complex | None:
    """What happens after an ideal gate: over-rotation, depolarisation, relaxation.

    Args:
        snapshot: the true device.
        name: the gate.
        qubits: physical, in the gate's order.
        angle: over-rotation in radians.

    Returns:
        Superoperator, or None if the gate is ideal.
    """
    gate = snapshot.gates.get((name, qubits))
    if gate is None:
        return None
    dimension = 2 ** len(qubits)
    total: Complex | None = None
    rotation = over_rotation(name, angle)
    if rotation is not None:
        total = superoperator([rotation])
    probability = depolarising_probability(snapshot, name, qubits)
    if probability > 0:
        identity = np.eye(dimension, dtype=complex).reshape(-1)
        channel = (1 - probability) * np.eye(dimension**2) + probability / dimension * np.outer(
            identity, identity
        )
        total = channel if total is None else channel @ total
    decay = relaxation(snapshot, qubits, gate.length_ns * 1e-3)
    if decay is not None:
        total = decay if total is None else decay @ total
    return total


def aer_error(snapshot: DeviceSnapshot, name: str, qubits: tuple[int, ...], angle: float = 0.0) -> Any:
    """The same noise as Aer's `QuantumError`, to draw trajectories from; None if the gate is ideal."""
    from qiskit_aer.noise import coherent_unitary_error, depolarizing_error

    gate = snapshot.gates.get((name, qubits))
    if gate is None:
        return None
    parts = []
    rotation = over_rotation(name, angle)
    if rotation is not None:
        parts.append(coherent_unitary_error(rotation))
    probability = depolarising_probability(snapshot, name, qubits)
    if probability > 0:
        parts.append(depolarizing_error(probability, len(qubits)))
    decay = aer_relaxation(snapshot, qubits, gate.length_ns * 1e-3)
    if decay is not None:
        parts.append(decay)
    total = None
    for part in parts:
        total = part if total is None else total.compose(part)
    return total


def aer_relaxation(snapshot: DeviceSnapshot, qubits: tuple[int, ...], time_us: float) -> Any:
    """Relaxation as Aer's `QuantumError`; None if nothing happens."""
    from qiskit_aer.noise import thermal_relaxation_error

    if relaxation(snapshot, qubits, time_us) is None:
        return None
    error = None
    for qubit in qubits:
        values = snapshot.qubits[qubit]
        single = thermal_relaxation_error(values.t1_us, min(values.t2_us, 2 * values.t1_us), time_us)
        error = single if error is None else error.expand(single)
    return error


def confusion(snapshot: DeviceSnapshot, qubit: int) -> NDArray[np.float64]:
    """C[i, j]: probability to read i where the qubit is in j."""
    values = snapshot.qubits[qubit]
    up, down = values.prob_meas1_prep0, values.prob_meas0_prep1
    return np.array([[1 - up, down], [up, 1 - down]])


def unconfusion(snapshot: DeviceSnapshot, qubit: int) -> NDArray[np.float64] | None:
    """C⁻¹, or None for a qubit whose readout says (almost) nothing."""
    matrix = confusion(snapshot, qubit)
    determinant = float(matrix[0, 0] - matrix[0, 1])
    if abs(determinant) < 1e-3:
        return None
    return np.linalg.inv(matrix).astype(np.float64)


def is_ideal(snapshot: DeviceSnapshot) -> bool:
    """Whether nothing but readout can go wrong on the device."""
    return all(math.isinf(qubit.t1_us) and math.isinf(qubit.t2_us) for qubit in snapshot.qubits) and all(
        gate.error == 0 for gate in snapshot.gates.values()
    )
