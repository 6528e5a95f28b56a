"""Energies of circuits that are too large for Aer with noise: a surrogate fitted to Aer, and its error.

A noisy density matrix of n qubits takes 4^n numbers, so above `AER_QUBITS` a trajectory of hundreds of
evaluations is out of reach, while a noise-free statevector of 16 qubits takes milliseconds. What noise does
to the energy of these shallow circuits is nearly linear in the noise-free expectation values, term group by
term group: gate errors and relaxation shrink a Pauli string's expectation by a factor that depends on its
light cone and hardly on the parameters, and relaxation towards 0 shifts it. So, with the groups g of terms of
one kind (the chain's Z Z terms, its X terms),

    E(θ) = Σ_g a_g + b_g · <H_g>(θ),

with a and b by least squares from `TRAINING` energies that Aer computes with the device's full noise at
random and at near-optimal points. Circuits of more than `FITTED_QUBITS` qubits take the factors of the same
ansatz at `FITTED_QUBITS` and the shifts in proportion to their terms: with one entangling layer along a line
the light cones of most terms are the same.

`sample` measures the distance from Aer on points that were not trained on, in standard errors of one
measurement with the shots of an iteration; the report prints its mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efaas.bench import records
from efaas.bench.energies_problems import BenchProblem, named_problem
from efaas.bench.energies_source import EnergySource
from efaas.bench.energies_tables import SURROGATE

AER_QUBITS = 8
"""Up to here every energy is Aer's."""
FITTED_QUBITS = 9
"""Largest circuit for which Aer's noisy energies are cheap enough for a fit: each qubit more takes four times
the memory and up to ten times as long."""
TRAINING = 24
DEVICE = {"seed": 20, "age_s": 150.0}
"""Device on which the surrogate is fitted: freshly calibrated."""
SAMPLED = {
    "ising-9-realamplitudes": 18,
    "ising-9-efficientsu2": 18,
    "ising-9-twolocal": 18,
    "ising-10-realamplitudes": 4,
}
"""Problems that the error is measured on, and points of each; the last is not fitted itself."""

Floats = NDArray[np.float64]
Terms = tuple[tuple[str, float], ...]


def groups_of(terms: Terms) -> tuple[Terms, ...]:
    """Terms by the letters that are in them: those of one kind shrink alike."""
    kinds: dict[str, list[tuple[str, float]]] = {}
    for pauli, value in terms:
        kinds.setdefault("".join(sorted(pauli.replace("I", ""))), []).append((pauli, value))
    return tuple(tuple(kinds[kind]) for kind in sorted(kinds))


@dataclass(frozen=True, slots=True)
class Surrogate:
    """A fitted surrogate."""

    groups: tuple[Terms, ...]
    shift: float
    """Sum of the a_g."""
    factors: tuple[float, ...]
    """The b_g."""

    def energies(self, expectations: Floats) -> Floats:
        """Noisy energies from noise-free expectation values of the groups, shape (points, groups)."""
        found: Floats = self.shift + expectations @ np.array(self.factors)
        return found


def points_of(problem: BenchProblem, count: int, seed: int) -> Floats:
    """Sample points: half anywhere, half on the way to the optimum, shape (points, parameters)."""
    random = np.random.default_rng([seed, problem.parameters])
    anywhere = random.uniform(-np.pi, np.pi, (count, problem.parameters))
    # RY angles of ±π/2 make a product state near the ground state of the field; a descent ends about there.
    centre = np.zeros(problem.parameters)
    centre[: problem.qubits] = np.pi / 2
    near = centre + random.normal(0.0, 0.35, (count, problem.parameters))
    half = np.arange(count)[:, np.newaxis] % 2 == 0
    points: Floats = np.where(half, anywhere, near).round(6)
    return points


def ideal_groups(source: EnergySource, problem: BenchProblem, points: Floats) -> Floats:
    """Noise-free expectation values of the groups, shape (points, groups)."""
    answer = source.ask(
        problem.circuit,
        "exact",
        ideal=True,
        points=points.tolist(),
        groups=[list(group) for group in groups_of(problem.circuit.terms)],
    )
    return np.array(answer["energies"])


def noisy(source: EnergySource, problem: BenchProblem, points: Floats) -> Floats:
    """Energies by Aer with the device's noise, one request a point so that an interrupted fit goes on."""
    return np.array(
        [
            source.ask(problem.circuit, "exact", **DEVICE, points=[point.tolist()])["energies"][0]
            for point in points
        ]
    )


def fit(source: EnergySource, problem: BenchProblem) -> Surrogate:
    """A problem's surrogate.

    Args:
        source: of Aer's energies.
        problem: above `FITTED_QUBITS` qubits the fit is that of the same ansatz at `FITTED_QUBITS`.

    Raises:
        EnergiesFailed: Aer could not compute an energy.
    """
    groups = groups_of(problem.circuit.terms)
    if problem.qubits > FITTED_QUBITS:
        family, _, ansatz = problem.name.split("-")
        smaller = fit(source, named_problem(f"{family}-{FITTED_QUBITS}-{ansatz}"))
        grown = sum(map(len, groups)) / sum(map(len, smaller.groups))
        return Surrogate(groups, smaller.shift * grown, smaller.factors)
    points = points_of(problem, TRAINING, seed=1)
    expectations = ideal_groups(source, problem, points)
    design = np.column_stack([np.ones(len(points)), expectations])
    found, *_ = np.linalg.lstsq(design, noisy(source, problem, points), rcond=None)
    return Surrogate(groups, float(found[0]), tuple(float(value) for value in found[1:]))


class SurrogateSource:
    """Answers as `EnergySource` does, for circuits above `AER_QUBITS` qubits.

    Shots are drawn from the noise-free state; what noise does to the mean is added. Drift is left out: the
    device is freshly calibrated, which understates what stale calibration costs large circuits.

    Args:
        source: of Aer's energies.
        problem: its circuits are answered for.
    """

    def __init__(self, source: EnergySource, problem: BenchProblem) -> None:
        self._source, self._problem = source, problem
        self._surrogate = fit(source, problem)

    def bases(self, circuit: Any) -> int:
        """Number of measurement bases."""
        return self._source.bases(circuit)

    def ask(self, circuit: Any, op: str, **request: Any) -> dict[str, Any]:
        """The answer to ``evaluate`` or ``exact``; see `efaas_qpu.energies`."""
        points = np.array(request["points"])
        if op == "exact":
            return {"energies": self._energies(points).tolist()}
        request = {name: value for name, value in request.items() if name not in ("seed", "age_s")}
        centre = request.pop("centre")
        answer = dict(self._source.ask(circuit, "evaluate", ideal=True, **request))
        noise = self._energies(points) - ideal_groups(self._source, self._problem, points).sum(axis=1)
        for name in ("values", "running_values"):
            if name in answer:
                answer[name] = (np.array(answer[name]) + noise).tolist()
        answer["energy"] = float(self._energies(np.array([centre]))[0])
        return answer

    def _energies(self, points: Floats) -> Floats:
        return self._surrogate.energies(ideal_groups(self._source, self._problem, points))


def sample(
    out: Path,
    source: EnergySource,
    *,
    problems: Mapping[str, int] = SAMPLED,
    shots: int = 2048,
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Measure how far the surrogate is from Aer; writes ``data/energies/surrogate.parquet``.

    Args:
        out: result folder.
        source: of Aer's energies.
        problems: that are sampled, and how many points of each.
        shots: of a pair in an iteration, whose standard error is the measure.
        progress: hears what is done.

    Raises:
        EnergiesFailed: Aer could not compute an energy.
    """
    rows: list[dict[str, Any]] = []
    for done, (name, points) in enumerate(problems.items()):
        problem = named_problem(name)
        surrogate = fit(source, problem)
        places = points_of(problem, points, seed=2)
        guessed = surrogate.energies(ideal_groups(source, problem, places))
        measured = noisy(source, problem, places)
        for number, point in enumerate(places):
            answer = source.ask(
                problem.circuit,
                "evaluate",
                ideal=True,
                points=[point.tolist()],
                shots=shots,
                session_seed=number,
                job=f"surrogate {number}",
            )
            rows.append(
                {
                    "circuit": name,
                    "qubits": problem.qubits,
                    "point": number,
                    "age_s": DEVICE["age_s"],
                    "aer": float(measured[number]),
                    "surrogate": float(guessed[number]),
                    "shot_error": answer["std_errors"][0],
                }
            )
        if progress is not None:
            progress("surrogate", done + 1, len(problems))
    records.write(out / "data" / "energies" / "surrogate.parquet", SURROGATE, rows)
