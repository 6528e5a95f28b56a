"""From outcomes as a QPU server sends them to one `BitArray` for each classical register.

A server sends shots in their order, a row of little-endian bytes each: bit k of the row is classical bit k
of the circuit. Qiskit's arrays are big-endian, one for each register.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from efaas.errors import JobFailed

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

    from efaas.client import Evaluation


def registers_of(circuit: QuantumCircuit) -> list[tuple[str, list[int]]]:
    """Name and bit indices, least significant first, of each classical register."""
    return [(register.name, [circuit.find_bit(bit).index for bit in register]) for register in circuit.cregs]


def bit_arrays(
    evaluations: Sequence[Evaluation],
    registers: Sequence[tuple[str, Sequence[int]]],
    shape: tuple[int, ...],
    shots: int,
) -> dict[str, Any]:
    """One `BitArray` of the PUB's shape for each register.

    Args:
        evaluations: one for each parameter set, in the order of the flattened parameter array.
        registers: as `registers_of`.
        shape: of the PUB.
        shots: of each parameter set.

    Raises:
        JobFailed: a server sent another number of shots than was asked for.
    """
    from qiskit.primitives.containers import BitArray

    rows = []
    for evaluation in evaluations:
        outcomes = evaluation.outcomes
        if len(evaluation.counts):  # counted: written out again
            outcomes = np.repeat(outcomes, evaluation.counts.astype(np.intp), axis=0)
        if len(outcomes) != shots:
            raise JobFailed(
                f"the server sent {len(outcomes)} shots, {shots} were asked for", place="outcomes"
            )
        rows.append(np.unpackbits(outcomes, axis=-1, bitorder="little"))
    width = rows[0].shape[-1] if rows else 0
    bits = np.array(rows, dtype=np.uint8).reshape(*shape, shots, width)
    return {
        name: BitArray.from_bool_array(bits[..., list(places)].astype(bool), order="little")
        for name, places in registers
    }
