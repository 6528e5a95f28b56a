"""From a session's document to what its loop needs: programs, terms, an optimizer at its first point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from efaas.api.meta import wire
from efaas.core.identity import digest
from efaas.errors import ManifestError
from efaas.optimizers.base import Optimizer, Vector
from efaas.optimizers.factory import make_optimizer
from efaas.problems import best_cut, build_hamiltonian, cut_weight, exact_ground_energy
from efaas.runner.jobs import Terms

if TYPE_CHECKING:
    from efaas.api.session import MaxCut, VQASessionSpec

NEED_PARAMETER_SHIFT = ("adam", "rotosolve")
"""Methods that are right only if the energy is a sinusoid in each parameter."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A declared session, ready to run."""

    program: str | bytes
    """The ansatz."""
    terms: Terms
    """The Hamiltonian."""
    initial: Vector
    """First point, shape (parameters,), radians."""
    make_optimizer: Callable[[], Optimizer]
    """Makes the optimizer as it is before anything was told."""
    identity: Mapping[str, Any]
    """What the trajectory depends on: a journal belongs to it."""
    exact: Callable[[], float | None]
    """Computes the exact ground-state energy; None where that is too large."""
    shots: int
    final_shots: int
    readout_mitigation: bool = False
    overlap_program: str | bytes = ""
    """Circuit whose share of all zeros is a fidelity of two points; empty where the optimizer asks for
    none."""
    sample_program: str | bytes | None = None
    """The ansatz, measured, where the bit strings are what is looked for (MaxCut)."""
    graph: MaxCut | None = None

    def best_cut(self, counts: Mapping[str, int]) -> dict[str, Any]:
        """The heaviest cut among sampled bit strings (of equal ones the smallest), and the heaviest there is.

        Args:
            counts: how often each bit string was seen, node 0 rightmost.
        """
        assert self.graph is not None
        weights = {bits: cut_weight(self.graph, bits) for bits in sorted(counts)}
        bits = max(weights, key=weights.__getitem__)
        best = best_cut(self.graph)
        return {
            "bitstring": bits,
            "weight": weights[bits],
            "share": counts[bits] / sum(counts.values()),
            "best_weight": best[0] if best else None,
            "best_bitstring": best[1] if best else None,
        }


def prepare(spec: VQASessionSpec) -> Prepared:
    """Build everything that a declared session needs.

    Raises:
        ManifestError: the problem, the ansatz or the optimizer cannot be what the document says.
    """
    from efaas.ansatze import build_ansatz, canonical_program, initial_point, overlap_circuit

    assert spec.problem is not None
    assert spec.ansatz is not None
    assert spec.optimizer is not None
    method = spec.optimizer
    hamiltonian = build_hamiltonian(spec.problem)
    circuit = build_ansatz(spec.ansatz, hamiltonian)
    if method.choice in NEED_PARAMETER_SHIFT:
        _must_obey_parameter_shift(circuit, f"spec.optimizer.{_alias(method)}")
    initial = initial_point(circuit, spec.seed, spec.initial_parameters)
    make_optimizer(method, initial, spec.seed)  # its faults are the document's, so they come before any job
    program = canonical_program(circuit)
    terms = tuple(hamiltonian.terms)
    graph = spec.problem.max_cut
    return Prepared(
        program=program,
        terms=terms,
        initial=initial,
        make_optimizer=lambda: make_optimizer(method, initial, spec.seed),
        identity={
            "ansatz": digest(program),
            "hamiltonian": digest(*(part for term in terms for part in term)),
            "optimizer": wire(method),
            "initial": digest(initial.astype("<f8").tobytes()),
            "shots": spec.shots,
            "readout_mitigation": spec.readout_mitigation,
            "seed": spec.seed,
        },
        exact=lambda: exact_ground_energy(hamiltonian),
        shots=spec.shots,
        final_shots=spec.shots if spec.final_shots is None else spec.final_shots,
        readout_mitigation=spec.readout_mitigation,
        overlap_program=canonical_program(overlap_circuit(circuit)) if method.qn_spsa is not None else "",
        sample_program=canonical_program(circuit.measure_all(inplace=False)) if graph is not None else None,
        graph=graph,
    )


def _alias(method: Any) -> str:
    return str(type(method).model_fields[method.choice].alias or method.choice)


def _must_obey_parameter_shift(circuit: Any, place: str) -> None:
    from efaas.ansatze import parameter_shift_violations

    violations = parameter_shift_violations(circuit)
    if violations:
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        raise ManifestError(
            f"needs a circuit that obeys the parameter-shift rule, but {violations[0]}{more}; "
            "take spsa, cmaEs or nelderMead",
            place=place,
        )
