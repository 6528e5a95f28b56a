"""The circuits that are simulated for one prepared circuit.

A plan joins what does not depend on the true device (the routed circuit) with what does (channels, readout),
so that a drifted device swaps the noise and keeps the rest. It offers two kinds of programs:

- a **state program** ends in the whole state, once for a parameter set; bases and readout are applied to the
  state (`efaas_qpu.engine.sampling`). For a density matrix the noise is in the circuit as superoperators, and
  every gate without a parameter is merged with its noise and with fixed one-qubit neighbours into one of
  them. Measured against Aer's own noise insertion with a pruned and cached noise model, for a 4-qubit ansatz:
  0.44 instead of 8.5 ms; for 8 qubits 23 instead of 29 ms.
- a **trajectory program** ends in measurements in one basis and runs shot by shot under Aer's noise model, of
  which only the errors of (gate, qubits) pairs in use are kept: for circuits too large for a density matrix,
  and for those that measure on the way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efaas.devices.snapshot import DeviceSnapshot
from efaas.errors import CircuitError
from efaas_qpu.engine import channels
from efaas_qpu.engine.channels import Complex
from efaas_qpu.engine.device import Device, Routed, delay_us
from efaas_qpu.engine.merging import Merger
from efaas_qpu.engine.messages import Limits, Rotations
from efaas_qpu.engine.sampling import TRACE, DensityMeasurement, VectorMeasurement
from efaas_qpu.engine.simulator import Program, Simulator, save_state

STATEVECTOR = "statevector"
DENSITY_MATRIX = "density_matrix"
TRAJECTORIES = "trajectories"
_STATE_BYTES = {STATEVECTOR: 1, DENSITY_MATRIX: 2, TRAJECTORIES: 1}


@dataclass(frozen=True, slots=True)
class TrueDevice:
    """What is simulated, as opposed to what is known."""

    snapshot: DeviceSnapshot
    over_rotations: Rotations = field(default_factory=dict)
    noisy: bool = True

    def has_channels(self) -> bool:
        """Whether anything but readout can go wrong."""
        return self.noisy and not (channels.is_ideal(self.snapshot) and not any(self.over_rotations.values()))


def choose_method(routed: Routed, device: TrueDevice, method: str, limits: Limits) -> str:
    """How a circuit is simulated: never left to Aer.

    Args:
        routed: the circuit.
        device: the true device.
        method: ``Auto``, ``DensityMatrix`` or ``Trajectories``.
        limits: memory, and up to where Auto takes a density matrix.

    Raises:
        CircuitError: the state does not fit into the memory, or the circuit measures on the way and a density
            matrix was asked for.
    """
    qubits = len(routed.physical)
    resets = any(item.operation.name in ("reset", "delay") for item in routed.circuit.data)
    if method == "DensityMatrix":
        if routed.dynamic:
            raise CircuitError(
                "the circuit measures before its end or depends on outcomes, which the method DensityMatrix "
                "cannot simulate shot by shot; set the device's simulation.method to Auto or Trajectories",
                place="circuit",
            )
        chosen = DENSITY_MATRIX
    elif method == "Trajectories" or routed.dynamic:
        chosen = TRAJECTORIES
    elif not device.has_channels() and not resets:
        chosen = STATEVECTOR
    elif qubits <= limits.density_matrix_qubits:
        chosen = DENSITY_MATRIX
    else:
        chosen = TRAJECTORIES
    most = (limits.simulation_bytes // 16).bit_length() - 1
    most //= _STATE_BYTES[chosen]
    if qubits > most:
        raise CircuitError(
            f"the circuit keeps {qubits} qubits of the device busy, simulation by {chosen.replace('_', ' ')} "
            f"takes at most {most} within {limits.simulation_bytes >> 20} MiB",
            place="circuit",
        )
    return chosen


class Plan:
    """Everything that runs for one prepared circuit.

    Args:
        handle: of the circuit.
        routed: the circuit on physical qubits.
        parameters: `Parameter` objects in the order of a vector.
        device: transpiles rotations into bases.
        simulator: keeps and runs programs.
    """

    def __init__(
        self,
        handle: str,
        routed: Routed,
        parameters: tuple[Any, ...],
        device: Device,
        simulator: Simulator,
    ) -> None:
        self.handle = handle
        self.routed = routed
        self.parameters = parameters
        self.method = ""
        """How it is simulated; set by `use`."""
        self._device = device
        self._simulator = simulator
        self._true: TrueDevice | None = None
        self._state: Program | None = None
        self._trajectories: dict[str | None, Program] = {}
        self._measurements: dict[tuple[str, ...] | None, DensityMeasurement | VectorMeasurement] = {}
        self.tables: dict[Any, Any] = {}
        """Caches of the engine that go with this circuit (groupings and weights)."""
        self.is_stale = False
        """Whether the true device has changed since it ran last; kept by the engine."""

    @property
    def bytes(self) -> int:
        """About how much memory it holds."""
        programs = [*self._trajectories.values(), *([self._state] if self._state else [])]
        return (
            65536
            + sum(program.bytes for program in programs)
            + sum(getattr(table, "bytes", 0) for table in self.tables.values())
        )

    def use(self, true: TrueDevice, method: str, limits: Limits) -> None:
        """Simulate this device from now on, by the method that it takes (`choose_method`).

        Raises:
            CircuitError: the circuit cannot be simulated on it.
        """
        if true is not self._true:
            self.method = choose_method(self.routed, true, method, limits)
            self._true = true
            self.is_stale = True
            self._state = None
            self._trajectories.clear()
            self._measurements.clear()

    @property
    def true(self) -> TrueDevice:
        """The device that is simulated."""
        assert self._true is not None, "use() comes first"
        return self._true

    def state_program(self) -> Program:
        """The program that ends in the state."""
        if self._state is None:
            circuit = self._noisy_circuit() if self.method == DENSITY_MATRIX else self._bare_circuit()
            save_state(circuit, self.method)
            self._state = self._simulator.load(circuit, self.parameters, self.method)
        return self._state

    def measurement(self, bases: tuple[str, ...] | None) -> DensityMeasurement | VectorMeasurement:
        """How outcomes in these bases come from the state.

        Args:
            bases: letters, circuit qubit 0 rightmost; outcome bit k is circuit qubit k. None: the circuit's
                own measurements, outcome bit k is the k-th of `Routed.measured`.
        """
        if bases not in self._measurements:
            self._measurements[bases] = self._make_measurement(bases)
        return self._measurements[bases]

    def trajectory_program(self, basis: str | None) -> Program:
        """The program that measures one basis (None: the circuit's own measurements) shot by shot."""
        if basis not in self._trajectories:
            circuit = self._bare_circuit()
            routed = self.routed
            if basis is None:
                if not routed.dynamic:
                    _add_bits(circuit, routed.bits)
                    for logical, bit in routed.measured:
                        circuit.measure(routed.final[logical], bit)
            else:
                first = circuit.num_clbits
                _add_bits(circuit, len(routed.final))
                for logical, qubit in enumerate(routed.final):
                    for name, angles in self._device.rotation(basis[-1 - logical], routed.physical[qubit]):
                        circuit.append(_gate(name, angles), [qubit], copy=False)
                    circuit.measure(qubit, first + logical)
            self._trajectories[basis] = self._simulator.load(
                circuit, self.parameters, "statevector", self._noise_model(circuit)
            )
        return self._trajectories[basis]

    @property
    def first_bit(self) -> int:
        """Classical bits of a trajectory's outcome before those of a basis."""
        return int(self.routed.circuit.num_clbits)

    def _bare_circuit(self) -> Any:
        """A copy of the routed circuit; delays stay for the noise model where there can be one."""
        circuit = self.routed.circuit.copy()
        if self.method == STATEVECTOR:
            circuit.data = [item for item in circuit.data if item.operation.name != "delay"]
        return circuit

    def _noisy_circuit(self) -> Any:
        merger = Merger(len(self.routed.physical))
        physical = self.routed.physical
        true = self.true
        index = {bit: place for place, bit in enumerate(self.routed.circuit.qubits)}
        for item in self.routed.circuit.data:
            operation = item.operation
            where = tuple(index[bit] for bit in item.qubits)
            real = tuple(physical[place] for place in where)
            if operation.name == "delay":
                if true.noisy:
                    merger.fixed(channels.relaxation(true.snapshot, real, delay_us(operation)), where)
                continue
            if operation.name == "reset" or any(
                getattr(value, "parameters", None) for value in operation.params
            ):
                merger.open(operation, where)
            else:
                unitary = np.asarray(operation.to_matrix(), dtype=complex)
                merger.fixed(np.kron(unitary.conj(), unitary), where)
            if true.noisy:
                angle = true.over_rotations.get((operation.name, real), 0.0)
                merger.fixed(channels.noise(true.snapshot, operation.name, real, angle), where)
        return merger.circuit()

    def _make_measurement(self, bases: tuple[str, ...] | None) -> DensityMeasurement | VectorMeasurement:
        routed, true = self.routed, self.true
        if bases is None:
            logicals = tuple(logical for logical, _ in routed.measured)
            letters: tuple[str, ...] = ("Z" * len(routed.final),)
        else:
            logicals = tuple(range(len(routed.final)))
            letters = bases
        order = tuple(routed.final[logical] for logical in logicals)
        logical_of = {routed.final[logical]: logical for logical in logicals}
        places = range(len(routed.physical))
        if self.method == DENSITY_MATRIX:
            maps = [
                [
                    self._measurement_map(basis[-1 - logical_of[place]], routed.physical[place])
                    if place in logical_of
                    else TRACE
                    for place in places
                ]
                for basis in letters
            ]
            return DensityMeasurement(maps, order)
        rotations = [
            [
                self._rotation_matrix(basis[-1 - logical_of[place]], routed.physical[place])
                if place in logical_of
                else None
                for place in places
            ]
            for basis in letters
        ]
        readout = None
        if true.noisy:
            readout = [channels.confusion(true.snapshot, routed.physical[place]) for place in order]
            if all(np.array_equal(matrix, np.eye(2)) for matrix in readout):
                readout = None
        return VectorMeasurement(rotations, order, readout)

    def _rotation_matrix(self, letter: str, qubit: int) -> Complex | None:
        total: Complex | None = None
        for name, angles in self._device.rotation(letter, qubit):
            unitary = np.asarray(_gate(name, angles).to_matrix(), dtype=complex)
            total = unitary if total is None else unitary @ total
        return total

    def _measurement_map(self, letter: str, qubit: int) -> Complex:
        """2×4 matrix from (row, column) of a qubit's density matrix to its outcome as read."""
        true = self.true
        total: Complex = np.eye(4, dtype=complex)
        for name, angles in self._device.rotation(letter, qubit):
            unitary = np.asarray(_gate(name, angles).to_matrix(), dtype=complex)
            total = np.kron(unitary.conj(), unitary) @ total
            if true.noisy:
                angle = true.over_rotations.get((name, (qubit,)), 0.0)
                noise = channels.noise(true.snapshot, name, (qubit,), angle)
                if noise is not None:
                    total = noise @ total
        # Column-stacked vectors are ordered (row, column) = 00, 10, 01, 11.
        populations = total[[0, 3]][:, [0, 2, 1, 3]]
        if true.noisy:
            populations = channels.confusion(true.snapshot, qubit) @ populations
        return populations

    def _noise_model(self, circuit: Any) -> Any:
        """Aer's noise model with the errors in use, on relabelled qubits; None without noise."""
        true = self.true
        if not true.noisy:
            return None
        from qiskit_aer.noise import NoiseModel, ReadoutError

        model = NoiseModel()
        physical = self.routed.physical
        for name, where in sorted(_used(circuit)):
            real = tuple(physical[place] for place in where)
            if name == "measure":
                matrix = channels.confusion(true.snapshot, real[0])
                if not np.array_equal(matrix, np.eye(2)):
                    model.add_readout_error(ReadoutError(matrix.T), list(where))
                continue
            error = channels.aer_error(true.snapshot, name, real, true.over_rotations.get((name, real), 0.0))
            if error is not None and not error.ideal():
                model.add_quantum_error(error, name, list(where))
        self._label_delays(circuit, model)
        return None if model.is_ideal() else model

    def _label_delays(self, circuit: Any, model: Any) -> None:
        """Give each delay a label of its own, to which its relaxation belongs."""
        from qiskit.circuit.library import IGate

        true, physical = self.true, self.routed.physical
        index = {bit: place for place, bit in enumerate(circuit.qubits)}
        for number, item in enumerate(circuit.data):
            if item.operation.name != "delay":
                continue
            where = index[item.qubits[0]]
            error = channels.aer_relaxation(true.snapshot, (physical[where],), delay_us(item.operation))
            gate = IGate(label=f"delay{number}")
            circuit.data[number] = item.replace(operation=gate)
            if error is not None:
                model.add_basis_gates(["id"])
                model.add_quantum_error(error, f"delay{number}", [where])


def _gate(name: str, angles: tuple[float, ...]) -> Any:
    from qiskit.circuit.library import get_standard_gate_name_mapping

    template = get_standard_gate_name_mapping()[name]
    return template if not angles else type(template)(*angles)


def _add_bits(circuit: Any, bits: int) -> None:
    from qiskit.circuit import ClassicalRegister

    circuit.add_register(ClassicalRegister(bits))


def _used(circuit: Any) -> set[tuple[str, tuple[int, ...]]]:
    """(name, qubits) of all operations, those inside of conditions too."""
    index = {bit: place for place, bit in enumerate(circuit.qubits)}
    used: set[tuple[str, tuple[int, ...]]] = set()
    for item in circuit.data:
        where = tuple(index[bit] for bit in item.qubits)
        blocks = getattr(item.operation, "blocks", ())
        for block in blocks:
            used |= {(name, tuple(where[place] for place in inner)) for name, inner in _used(block)}
        if not blocks:
            used.add((item.operation.name, where))
    return used


def confusion_inverses(known: DeviceSnapshot, routed: Routed) -> NDArray[np.float64]:
    """C⁻¹ of each circuit qubit by the known values, shape (qubits, 2, 2).

    Raises:
        CircuitError: a qubit's readout says nothing, so that it cannot be mitigated.
    """
    inverses = []
    for logical, place in enumerate(routed.final):
        inverse = channels.unconfusion(known, routed.physical[place])
        if inverse is None:
            raise CircuitError(
                f"readout of physical qubit {routed.physical[place]} (circuit qubit {logical}) cannot be "
                "mitigated, it reads both states alike; submit without readout mitigation",
                place="submit.readoutMitigation",
            )
        inverses.append(inverse)
    return np.array(inverses)
