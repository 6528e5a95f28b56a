"""A device for the transpiler: targets, layouts, and how long a circuit lasts.

Layout and routing go by the *known* values of the device (what its last calibration measured), with a fixed
seed: the same circuit on the same snapshot gets the same layout in every process.

The circuit is transpiled with a barrier and a measurement of every qubit at its end. The measurement lets the
choice of layout see readout errors; the barrier keeps the transpiler from dropping rotations that no
measurement in the Z basis could see but one in another basis can. Rotations into a basis are appended
afterwards in native gates.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from efaas.devices.snapshot import DeviceSnapshot
from efaas.devices.target import build_target
from efaas.errors import CircuitError
from efaas_qpu.engine.messages import Limits

SEED_TRANSPILER = 0x0EFAA5
_OPTIMIZATION_LEVEL = 2


@dataclass(frozen=True, slots=True)
class Routed:
    """A circuit on physical qubits."""

    circuit: Any
    """Transpiled `QuantumCircuit` on the qubits in use, relabelled to 0…n-1, without final measurements."""
    physical: tuple[int, ...]
    """Physical qubit of each of its qubits, ascending."""
    layout: tuple[int, ...]
    """Physical qubit of each circuit qubit at the start."""
    final: tuple[int, ...]
    """Relabelled qubit of each circuit qubit at the end, after routing."""
    measured: tuple[tuple[int, int], ...]
    """(circuit qubit, classical bit) of the final measurements, by bit; empty for a dynamic circuit."""
    bits: int
    """Classical bits of an outcome."""
    dynamic: bool
    """Whether it measures before its end or depends on outcomes; its measurements are then in `circuit`."""
    duration_us: float


class Device:
    """Transpiles for one device; holds the cached pass manager.

    Args:
        known: the device as its last calibration saw it.
    """

    def __init__(self, known: DeviceSnapshot) -> None:
        self.known = known
        self.target = build_target(known, control_flow=True)
        self._passes: Any = None

    def route(self, circuit: Any, limits: Limits) -> Routed:
        """Choose a layout, transpile, and relabel to the qubits in use.

        Raises:
            CircuitError: the device cannot run the circuit, or it gets too long.
        """
        logical, measured, bits, dynamic = _split_measurements(circuit)
        own_bits = logical.num_clbits
        logical = _with_final_measurement(logical)
        try:
            transpiled = self._pass_manager().run(logical)
        except CircuitError:
            raise
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            raise CircuitError(
                f"the circuit cannot be run on {self.known.name}: {text}", place="circuit"
            ) from None
        return self._compact(transpiled, circuit.num_qubits, own_bits, measured, bits, dynamic, limits)

    def rotation(self, letter: str, qubit: int) -> tuple[tuple[str, tuple[float, ...]], ...]:
        """Native gates (name, angles) on a physical qubit that turn the letter's Pauli into Z.

        ``sx`` turns Y into Z, and ``rz(π/2)`` before it X into Y.
        """
        if letter in "IZ":
            return ()
        gates = self.known.gates
        if ("sx", (qubit,)) in gates and ("rz", (qubit,)) in gates:
            half_turn: tuple[str, tuple[float, ...]] = ("sx", ())
            return (("rz", (1.5707963267948966,)), half_turn) if letter == "X" else (half_turn,)
        from qiskit import QuantumCircuit, transpile

        one = QuantumCircuit(1)
        if letter == "Y":
            one.sdg(0)
        one.h(0)
        result = transpile(one, target=self.target, initial_layout=[qubit], optimization_level=1)
        return tuple(
            (item.operation.name, tuple(float(angle) for angle in item.operation.params))
            for item in result.data
        )

    def rotation_us(self, qubit: int) -> float:
        """Longest rotation into a basis on a physical qubit."""
        return max(
            sum(self._length_us(name, (qubit,)) for name, _ in self.rotation(letter, qubit))
            for letter in "XY"
        )

    def _pass_manager(self) -> Any:
        if self._passes is None:
            from qiskit.transpiler import generate_preset_pass_manager

            self._passes = generate_preset_pass_manager(
                optimization_level=_OPTIMIZATION_LEVEL, target=self.target, seed_transpiler=SEED_TRANSPILER
            )
        return self._passes

    def _compact(
        self,
        transpiled: Any,
        qubits: int,
        own_bits: int,
        measured: tuple[tuple[int, int], ...],
        bits: int,
        dynamic: bool,
        limits: Limits,
    ) -> Routed:
        from qiskit import QuantumCircuit

        index = {bit: place for place, bit in enumerate(transpiled.qubits)}
        bit_index = {bit: place for place, bit in enumerate(transpiled.clbits)}
        ends: dict[int, int] = {}
        kept: list[tuple[Any, tuple[int, ...], tuple[int, ...]]] = []
        for item in transpiled.data:
            name = item.operation.name
            where = tuple(index[bit] for bit in item.qubits)
            bits_of = tuple(bit_index[bit] for bit in item.clbits)
            if name == "barrier":
                continue
            if name == "measure" and bits_of[0] >= own_bits:
                ends[bits_of[0] - own_bits] = where[0]
                continue
            kept.append((item.operation, where, bits_of))
        if len(kept) > 4 * limits.instructions:
            raise CircuitError(
                f"the circuit takes {len(kept)} native gates, at most {4 * limits.instructions} are taken",
                place="circuit",
            )
        used = {place for _, where, _ in kept for place in where} | set(ends.values())
        physical = tuple(sorted(used))
        relabelled = {place: new for new, place in enumerate(physical)}
        compact = QuantumCircuit(len(physical))
        # Conditions may name whole registers, so that they must be kept as they are.
        if own_bits:
            own = set(transpiled.clbits[:own_bits])
            compact.add_bits(transpiled.clbits[:own_bits])
            for register in transpiled.cregs:
                if own.issuperset(register):
                    compact.add_register(register)
        for operation, where, bits_of in kept:
            compact.append(operation, [relabelled[place] for place in where], list(bits_of), copy=False)
        if compact.depth() > limits.depth:
            raise CircuitError(
                f"the circuit is {compact.depth()} native gates deep, at most {limits.depth} are taken",
                place="circuit",
            )
        finals = [ends[logical] for logical in range(qubits)]
        duration = self._duration_us(kept, finals)
        if transpiled.layout is None:
            layout = tuple(range(qubits))
        else:
            layout = tuple(transpiled.layout.initial_index_layout(filter_ancillas=True)[:qubits])
        return Routed(
            circuit=compact,
            physical=physical,
            layout=layout,
            final=tuple(relabelled[place] for place in finals),
            measured=measured,
            bits=bits,
            dynamic=dynamic,
            duration_us=duration,
        )

    def _length_us(self, name: str, where: tuple[int, ...]) -> float:
        if name in ("measure", "reset"):
            return self.known.qubits[where[0]].readout_length_ns * 1e-3
        gate = self.known.gates.get((name, where))
        return gate.length_ns * 1e-3 if gate is not None else 0.0

    def _duration_us(self, kept: Iterable[tuple[Any, tuple[int, ...], Any]], finals: list[int]) -> float:
        """Critical path with gates as late as can be, which is as long as with gates as early as can be."""
        free: dict[int, float] = {}
        for operation, where, _ in kept:
            start = max((free.get(place, 0.0) for place in where), default=0.0)
            end = start + self._operation_us(operation, where)
            for place in where:
                free[place] = end
        last = max(
            (free.get(place, 0.0) + self.rotation_us(place) for place in finals),
            default=0.0,
        )
        # All qubits are read at the same time, after the last gate.
        gates_end = max([last, *free.values()])
        return gates_end + max(self._length_us("measure", (place,)) for place in finals)

    def _operation_us(self, operation: Any, where: tuple[int, ...]) -> float:
        name = operation.name
        if name == "delay":
            return delay_us(operation)
        blocks = getattr(operation, "blocks", ())
        if not blocks:
            return self._length_us(name, where)
        longest = 0.0
        for block in blocks:
            inner = {bit: where[place] for place, bit in enumerate(block.qubits)}
            total = sum(
                self._operation_us(item.operation, tuple(inner[bit] for bit in item.qubits))
                for item in block.data
            )
            longest = max(longest, total)
        return longest


def delay_us(operation: Any) -> float:
    """Length of a delay; ``dt`` counts as a nanosecond, the device has no sampling grid.

    Raises:
        CircuitError: the length is a parameter or negative.
    """
    factor = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3, "ps": 1e-6, "dt": 1e-3}.get(operation.unit)
    try:
        length = float(operation.duration) * (factor or 0.0)
    except (TypeError, ValueError):
        raise CircuitError(
            "the length of a delay must be a number, not a parameter", place="circuit"
        ) from None
    if factor is None or not 0 <= length < 1e9:
        raise CircuitError(
            f"a delay of {operation.duration} {operation.unit} is not supported", place="circuit"
        )
    return length


def _split_measurements(circuit: Any) -> tuple[Any, tuple[tuple[int, int], ...], int, bool]:
    """The circuit without final measurements, and where they go.

    Returns:
        Circuit, (qubit, bit) pairs by bit, bits of an outcome, whether it is dynamic (then nothing was taken
        off).
    """
    index = {bit: place for place, bit in enumerate(circuit.qubits)}
    bit_index = {bit: place for place, bit in enumerate(circuit.clbits)}
    measured: dict[int, int] = {}
    done: set[int] = set()
    dynamic = False
    rest = circuit.copy_empty_like()
    for item in circuit.data:
        operation = item.operation
        if operation.name == "barrier":
            rest.append(item)
            continue
        where = [index[bit] for bit in item.qubits]
        if (
            done.intersection(where)
            or hasattr(operation, "blocks")
            or (item.clbits and operation.name != "measure")
        ):
            dynamic = True
            break
        if operation.name == "measure":
            bit = bit_index[item.clbits[0]]
            if bit in measured:
                dynamic = True
                break
            measured[bit] = where[0]
            done.add(where[0])
        else:
            rest.append(item)
    if dynamic:
        return circuit, (), circuit.num_clbits, True
    pairs: tuple[tuple[int, int], ...]
    if measured:
        pairs = tuple((measured[bit], bit) for bit in sorted(measured))
        bits = circuit.num_clbits
    else:
        pairs = tuple((qubit, qubit) for qubit in range(circuit.num_qubits))
        bits = circuit.num_qubits
    from qiskit import QuantumCircuit

    bare = QuantumCircuit(circuit.num_qubits)
    for item in rest.data:
        bare.append(item.operation, [index[bit] for bit in item.qubits], copy=False)
    return bare, pairs, bits, False


def _with_final_measurement(circuit: Any) -> Any:
    from qiskit.circuit import ClassicalRegister

    measured = circuit.copy()
    register = ClassicalRegister(circuit.num_qubits)
    measured.add_register(register)
    measured.barrier()
    measured.measure(range(circuit.num_qubits), list(register))
    return measured
