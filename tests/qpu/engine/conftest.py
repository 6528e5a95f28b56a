"""Engines, circuits and an independently built simulation to hold them against."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from efaas_qpu.engine.engine import Engine
from efaas_qpu.engine.messages import Configuration, Limits
from qiskit import QuantumCircuit, qpy
from qiskit.circuit.library import efficient_su2
from qiskit.quantum_info import SuperOp
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel
from qiskit_aer.noise.device import basic_device_gate_errors

from efaas.devices import DeviceSnapshot, load_snapshot
from efaas.devices.target import build_target


def _qpy(circuit: QuantumCircuit) -> bytes:
    buffer = io.BytesIO()
    qpy.dump(circuit, buffer)
    return buffer.getvalue()


def _engine(device: str | DeviceSnapshot = "manila-5", **options: Any) -> Engine:
    snapshot = load_snapshot(device) if isinstance(device, str) else device
    settings = {"true": snapshot, "noisy": True, "method": "Auto", "limits": Limits(), **options}
    return Engine(Configuration(known=snapshot, **settings))


_AER_DROPS_BELOW = 1e-10
"""Terms of a `QuantumError` less probable than this are left out by Aer when it simulates a noise model."""


_CHANNELS: dict[Any, Any] = {}


def _channel(device: str, physical: tuple[int, ...], name: str, qubits: tuple[int, ...], error: Any) -> Any:
    """An error as a channel; Qiskit takes a tenth of a second for some."""
    key = (device, physical, name, qubits)
    if key not in _CHANNELS:
        _CHANNELS[key] = SuperOp(error).to_instruction()
    return _CHANNELS[key]


def _public_probabilities(
    engine: Engine, handle: str, values: Any, basis: str, *, model: bool
) -> tuple[Any, float]:
    """Outcome probabilities by Aer's public interface under the errors that Aer derives from a device.

    Args:
        engine: has the circuit, gives its routed form without noise.
        handle: of the circuit.
        values: of its parameters.
        basis: letters, qubit 0 rightmost.
        model: give the errors to Aer as a noise model; else write them into the circuit as channels.

    Returns:
        Probabilities, and how far a noise model may be off because of the terms that Aer leaves out.
    """
    plan, _ = engine._plans[handle]
    routed, snapshot = plan.routed, plan.true.snapshot
    circuit = routed.circuit.assign_parameters(dict(zip(plan.parameters, values, strict=True)))
    for logical, place in enumerate(routed.final):
        letter = basis[-1 - logical]
        if letter == "X":
            circuit.rz(np.pi / 2, place)
        if letter in "XY":
            circuit.sx(place)
    index = {bit: place for place, bit in enumerate(circuit.qubits)}
    used = {(item.operation.name, tuple(index[bit] for bit in item.qubits)) for item in circuit.data}
    # Aer derives the errors of a whole device, which takes seconds; only the gates in use matter.
    small = replace(
        snapshot,
        qubits=tuple(snapshot.qubits[qubit] for qubit in routed.physical),
        gates={
            (name, qubits): snapshot.gates[name, tuple(routed.physical[place] for place in qubits)]
            for name, qubits in used
        },
    )
    noise_model = NoiseModel(basis_gates=list(snapshot.basis_gates))
    channels: dict[tuple[str, tuple[int, ...]], Any] = {}
    dropped: dict[tuple[str, tuple[int, ...]], float] = {}
    for name, qubits, error in basic_device_gate_errors(target=build_target(small, control_flow=True)):
        noise_model.add_quantum_error(error, name, qubits)
        if not model:
            channels[name, tuple(qubits)] = _channel(
                snapshot.name, routed.physical, name, tuple(qubits), error
            )
        dropped[name, tuple(qubits)] = sum(p for p in error.probabilities if p < _AER_DROPS_BELOW)
    off = 0.0
    noisy = circuit.copy_empty_like()
    for item in circuit.data:
        where = (item.operation.name, tuple(index[bit] for bit in item.qubits))
        off += dropped.get(where, 0.0)
        noisy.append(item)
        if where in channels and not model:
            noisy.append(channels[where], item.qubits)
    noisy.save_probabilities(list(routed.final))
    simulator = AerSimulator(method="density_matrix", noise_model=noise_model if model else None)
    ideal_readout = np.asarray(simulator.run(noisy, shots=1).result().data()["probabilities"])
    table = ideal_readout.reshape((2,) * len(routed.final))
    for logical, place in enumerate(routed.final):
        qubit = snapshot.qubits[routed.physical[place]]
        up, down = qubit.prob_meas1_prep0, qubit.prob_meas0_prep1
        axis = len(routed.final) - 1 - logical
        table = np.moveaxis(np.tensordot([[1 - up, down], [up, 1 - down]], table, axes=(1, axis)), 0, axis)
    return table.reshape(-1), off


@pytest.fixture(scope="session")
def as_qpy() -> Callable[[QuantumCircuit], bytes]:
    return _qpy


@pytest.fixture(scope="session")
def make_engine() -> Callable[..., Engine]:
    return _engine


@pytest.fixture(scope="session")
def public_probabilities() -> Callable[..., Any]:
    return _public_probabilities


@pytest.fixture(scope="session")
def ansatz() -> Callable[..., QuantumCircuit]:
    def build(qubits: int, reps: int = 1, entanglement: str = "linear") -> QuantumCircuit:
        return efficient_su2(qubits, reps=reps, entanglement=entanglement)

    return build


@pytest.fixture(scope="session")
def manila() -> Engine:
    return _engine()


@pytest.fixture(scope="session")
def noiseless() -> Engine:
    return _engine(noisy=False)
