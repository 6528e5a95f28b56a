"""A device as arrays: the parts it is made of, and the values that a calibration measures.

The core may not know the snapshot's classes (`efaas.devices` stands above it and converts), and drift is
arithmetic on whole devices. Three kinds of index are used throughout:

- qubits, 0…n-1: coherence, readout and the drive that makes single-qubit gates;
- couplings: pairs of qubits (low, high) with a two-qubit gate in either direction, sorted;
- gates: (name, qubits in order), sorted; each has an error and a length.

A calibration works on qubits and couplings, so both together are called its *items*.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DRIVE_TURNS = {"sx": 1.0, "sxdg": -1.0, "x": 2.0, "y": 2.0, "rx": 1.0, "ry": 1.0, "h": 1.0, "u": 1.0}
"""Over-rotation of a single-qubit gate in units of that of a quarter turn.

A drive that is too strong by a fraction turns everything too far by the same fraction, so a half turn (``x``)
is off by twice as much as a quarter turn (``sx``). Gates with an angle or several pulses count as one quarter
turn. Gates that are not listed (``rz``, ``id``, …) are turns of the frame or waits, which the drive cannot
spoil.
"""


@dataclass(frozen=True)
class DeviceParts:
    """What a device is made of; never changes.

    Args:
        num_qubits: number of qubits.
        gates: (name, qubits) of every gate.
        gate_length_us: length of each gate, microseconds, shape (gates,).
    """

    num_qubits: int
    gates: tuple[tuple[str, tuple[int, ...]], ...]
    gate_length_us: Floats

    @cached_property
    def couplings(self) -> tuple[tuple[int, int], ...]:
        """Pairs (low, high) that have a two-qubit gate, sorted."""
        return tuple(sorted({(min(q), max(q)) for _, q in self.gates if len(q) == 2}))

    @cached_property
    def coupling_index(self) -> Mapping[tuple[int, int], int]:
        """Position of each pair in `couplings`."""
        return {pair: index for index, pair in enumerate(self.couplings)}

    @cached_property
    def gate_qubits(self) -> NDArray[np.int64]:
        """Qubits of each gate, shape (gates, 2); a single-qubit gate has -1 second."""
        return np.array([(*q, -1)[:2] for _, q in self.gates], dtype=np.int64).reshape(-1, 2)

    @cached_property
    def gate_turns(self) -> Floats:
        """Over-rotation of each gate in units of its item's angle, shape (gates,)."""
        return np.array([1.0 if len(q) == 2 else DRIVE_TURNS.get(name, 0.0) for name, q in self.gates])

    @cached_property
    def gate_item(self) -> NDArray[np.int64]:
        """Item that makes each gate: its qubit, or ``num_qubits`` + index of its coupling; shape (gates,)."""
        return np.array(
            [
                q[0] if len(q) == 1 else self.num_qubits + self.coupling_index[min(q), max(q)]
                for _, q in self.gates
            ],
            dtype=np.int64,
        )

    @property
    def num_items(self) -> int:
        """Qubits and couplings: what a full calibration works through."""
        return self.num_qubits + len(self.couplings)

    def couplings_among(self, qubits: Iterable[int]) -> tuple[tuple[int, int], ...]:
        """Couplings with both ends among the qubits, sorted."""
        inside = set(qubits)
        return tuple(pair for pair in self.couplings if pair[0] in inside and pair[1] in inside)

    def items(
        self, qubits: Collection[int], couplings: Iterable[tuple[int, int]] | None = None
    ) -> NDArray[np.int64]:
        """Item numbers of the qubits and of the couplings (those among the qubits if not given), ascending.

        Raises:
            ValueError: a qubit or a coupling does not exist.
        """
        absent = sorted(qubit for qubit in qubits if not 0 <= qubit < self.num_qubits)
        if absent:
            raise ValueError(f"qubit {absent[0]} does not exist; the device has {self.num_qubits}")
        pairs = self.couplings_among(qubits) if couplings is None else couplings
        numbers = {int(qubit) for qubit in qubits}
        for a, b in pairs:
            pair = (min(a, b), max(a, b))
            if pair not in self.coupling_index:
                raise ValueError(f"qubits {a} and {b} are not coupled")
            numbers.add(self.num_qubits + self.coupling_index[pair])
        return np.array(sorted(numbers), dtype=np.int64)


@dataclass(frozen=True)
class DeviceValues:
    """What a calibration measures of a device: everything about it but its control errors."""

    t1_us: Floats
    """Shape (qubits,)."""
    t2_us: Floats
    """Shape (qubits,); at most 2·T1."""
    prob_meas1_prep0: Floats
    """Shape (qubits,)."""
    prob_meas0_prep1: Floats
    """Shape (qubits,)."""
    gate_error: Floats
    """Average infidelity of each gate without control errors, shape (gates,)."""

    def equals(self, other: DeviceValues) -> bool:
        """Whether every value is the same number."""
        return all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("t1_us", "t2_us", "prob_meas1_prep0", "prob_meas0_prep1", "gate_error")
        )


def relaxation_error(parts: DeviceParts, t1_us: Floats, t2_us: Floats) -> Floats:
    """Average infidelity that relaxation alone gives each gate over its length, shape (gates,).

    One qubit keeps the process fidelity (1 + exp(-t/T1) + 2·exp(-t/T2)) / 4 at zero temperature, qubits
    multiply, and the average fidelity in dimension d is (d·F + 1) / (d + 1).
    """
    first, second = parts.gate_qubits.T
    length = parts.gate_length_us

    def kept(qubit: NDArray[np.int64]) -> Floats:
        fidelity: Floats = (1 + np.exp(-length / t1_us[qubit]) + 2 * np.exp(-length / t2_us[qubit])) / 4
        return fidelity

    double = second >= 0
    process = kept(first) * np.where(double, kept(second), 1.0)
    dimension = np.where(double, 4.0, 2.0)
    result: Floats = 1 - (dimension * process + 1) / (dimension + 1)
    return result


def largest_error(parts: DeviceParts) -> Floats:
    """Infidelity d / (d + 1) beyond which no depolarisation goes, shape (gates,)."""
    return np.where(parts.gate_qubits[:, 1] >= 0, 4 / 5, 2 / 3)
