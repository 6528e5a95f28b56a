"""A device as its last calibration saw it: topology, gate lengths, errors, coherence, readout.

Snapshots ship with the project as compact JSON (made by ``scripts/make_devices.py`` from public fake-backend
packages, which nothing needs at run time). A device of your own is the same JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class QubitCalibration:
    """One qubit's calibrated values."""

    t1_us: float
    t2_us: float
    frequency_ghz: float
    """0 where the source does not say; nothing is computed from it."""
    prob_meas1_prep0: float
    """Probability to read 1 after preparing 0."""
    prob_meas0_prep1: float
    """Probability to read 0 after preparing 1."""
    readout_length_ns: float


@dataclass(frozen=True, slots=True)
class GateCalibration:
    """One gate on one tuple of qubits."""

    error: float
    """Average gate infidelity; 0 for virtual gates."""
    length_ns: float


@dataclass(frozen=True, slots=True)
class DeviceSnapshot:
    """A whole device."""

    name: str
    source: str
    """Where the values are from, for people."""
    calibrated_at: str
    """Date of the source's calibration, RFC 3339."""
    rep_delay_us: float
    """Time between two shots that the device waits by default."""
    basis_gates: tuple[str, ...]
    qubits: tuple[QubitCalibration, ...]
    gates: Mapping[tuple[str, tuple[int, ...]], GateCalibration]
    """By (gate name, qubits in order); two-qubit gates only in the directions the device has."""
    repairs: tuple[str, ...] = ()
    """What was changed when the snapshot was made from its source, one sentence each."""

    @property
    def num_qubits(self) -> int:
        """Number of qubits."""
        return len(self.qubits)

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Directed pairs of qubits that have a two-qubit gate, sorted."""
        return tuple(sorted({(q[0], q[1]) for _, q in self.gates if len(q) == 2}))


def ideal(snapshot: DeviceSnapshot) -> DeviceSnapshot:
    """The same topology, gate lengths and delays with nothing going wrong: what ``noise: None`` simulates.

    Errors and readout probabilities are 0, T1 and T2 infinite. Such a snapshot cannot be written as JSON,
    which has no infinity.
    """
    qubits = tuple(
        replace(qubit, t1_us=math.inf, t2_us=math.inf, prob_meas1_prep0=0.0, prob_meas0_prep1=0.0)
        for qubit in snapshot.qubits
    )
    gates = {item: replace(gate, error=0.0) for item, gate in snapshot.gates.items()}
    return replace(snapshot, qubits=qubits, gates=gates)
