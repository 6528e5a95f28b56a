"""What optimizers need to know of a circuit's parameters: where to begin, and which rules hold."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from efaas.ansatze.canonical import affine, standard_form
from efaas.core.identity import digest
from efaas.errors import ManifestError

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

SHIFT_GATES = frozenset({"rx", "ry", "rz", "p", "rxx", "ryy", "rzz", "rzx"})
"""Gates exp(-i θ G / 2), up to a phase, with G² = 1: the energy is a sinusoid of period 2π in their angle."""


def initial_point(
    circuit: QuantumCircuit,
    seed: int,
    given: tuple[Decimal, ...] | None = None,
    *,
    place: str = "spec.initialParameters",
) -> NDArray[np.float64]:
    """The first point of a session.

    Args:
        circuit: the ansatz.
        seed: the session's seed.
        given: the point the session asks for, radians, in the order of `circuit.parameters`; drawn if None.
        place: field path that errors begin with.

    Returns:
        Shape (parameters,), radians; uniform in [-π, π) where it is drawn.

    Raises:
        ManifestError: as many numbers are not given as the circuit has parameters, or one is too large.
    """
    count = circuit.num_parameters
    if given is None:
        key = int(digest("initial point", seed), 16)
        generator = np.random.Generator(np.random.Philox(key=key))
        return np.asarray(generator.uniform(-np.pi, np.pi, count), dtype=np.float64)
    if len(given) != count:
        raise ManifestError(
            f"has {len(given)} number{'s' if len(given) != 1 else ''}, the ansatz has {count} parameters",
            place=place,
        )
    point = np.array([float(number) for number in given], dtype=np.float64)
    for position, value in enumerate(point):
        if not np.isfinite(value):
            raise ManifestError(f"{given[position]} is too large", place=f"{place}[{position}]")
    return point


def parameter_shift_violations(circuit: QuantumCircuit) -> list[str]:
    """Why the parameter-shift rule, and Rotosolve's sinusoid, do not hold for a circuit; empty if they do.

    They hold in this simplest form (two evaluations at ± π/2 a parameter) if each parameter is in one gate,
    with factor 1 or -1, and that gate is one of `SHIFT_GATES`.

    Returns:
        One sentence for each parameter that breaks this, in the order of parameters.
    """
    places: dict[str, list[tuple[str, float]]] = {str(p.name): [] for p in circuit.parameters}
    for instruction in circuit.data:
        for angle in instruction.operation.params:
            if getattr(angle, "parameters", ()):
                for parameter, factor in affine(angle)[1]:
                    places[str(parameter.name)].append((instruction.operation.name, factor))
    sentences = []
    for name, found in places.items():
        if len(found) != 1:
            sentences.append(f"parameter {name} is in {len(found)} gates instead of one")
        elif found[0][0] not in SHIFT_GATES:
            known = ", ".join(sorted(SHIFT_GATES))
            sentences.append(f"parameter {name} is in gate {found[0][0]}, which is none of {known}")
        elif abs(found[0][1]) != 1:
            sentences.append(
                f"parameter {name} has factor {found[0][1]:g} in gate {found[0][0]} instead of 1 or -1"
            )
    return sentences


def overlap_circuit(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit whose probability of all zeros is the fidelity |<ψ(b)|ψ(a)>|² (Gacon et al. 2021).

    It runs U(a), then U(b)⁻¹, and measures every qubit. Its parameters are those of a, then those of b,
    each in the circuit's order.

    Raises:
        CircuitError: as `standard_form`, or a gate without inverse.
    """
    from qiskit.circuit import Parameter

    form = standard_form(circuit)
    digits = len(str(max(form.num_parameters - 1, 0)))

    def with_prefix(prefix: str) -> QuantumCircuit:
        names = {p: Parameter(f"{prefix}_{k:0{digits}d}") for k, p in enumerate(form.parameters)}
        return form.assign_parameters(names)

    overlap = standard_form(with_prefix("a").compose(with_prefix("b").inverse()))
    overlap.measure_all()
    return overlap
