"""The best energy that an ansatz can have on a noisy device, without shot noise.

A noisy run must be judged against what its device lets the ansatz reach, not against the exact ground state.
This module computes the noisy expectation value (readout and, if asked for, its mitigation included) from the
density matrix and minimises it from several starts.

Gates whose angle is a parameter are rotations with eigenvalues ±1/2, and on the devices here their noise does
not depend on the angle. So where a parameter sits in one angle k·θ + b of the circuit, the energy is a
sinusoid of frequency k in θ: Rotosolve (Ostaszewski et al., Quantum 5, 391) finds the exact minimum of one
parameter from three values, and the parameter-shift rule gives exact gradients. A few sweeps of the former
bring a start near a minimum, L-BFGS with the latter ends there. Other circuits get central differences, which
are good to ten digits as the function has no shot noise.

``efaas-qpu best-energy --device DEVICE.yaml --problem PROBLEM.json`` prints one JSON object.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efaas.errors import CircuitError, EfaasError, InputError, ManifestError
from efaas_qpu.engine.messages import Configuration, Term

_DIFFERENCE = 1e-4
_SWEEPS = 12
_RANDOM_STARTS = 3
_STALLED = 1e-4
"""Energy that a sweep must gain for another one to be worth it."""


@dataclass(frozen=True, slots=True)
class BestEnergy:
    """A minimum."""

    energy: float
    parameters: tuple[float, ...]
    evaluations: int
    seconds: float

    def document(self) -> dict[str, Any]:
        """As printed."""
        return {
            "energy": self.energy,
            "parameters": list(self.parameters),
            "evaluations": self.evaluations,
            "seconds": round(self.seconds, 3),
        }


class _BudgetSpent(Exception):
    """The wall time is used up."""


class _Energy:
    """The function to minimise; counts evaluations, keeps the best, stops at a deadline."""

    def __init__(
        self, evaluate: Callable[[NDArray[np.float64]], NDArray[np.float64]], deadline: float
    ) -> None:
        self._evaluate = evaluate
        self._deadline = deadline
        self.evaluations = 0
        self.best = math.inf
        self.at: NDArray[np.float64] = np.zeros(0)

    def __call__(self, parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.evaluations and time.perf_counter() > self._deadline:
            raise _BudgetSpent
        values = self._evaluate(parameters)
        self.evaluations += len(parameters)
        lowest = int(np.argmin(values))
        if values[lowest] < self.best:
            self.best, self.at = float(values[lowest]), parameters[lowest].copy()
        return values


def best_energy(
    configuration: Configuration,
    program: str | bytes,
    terms: Sequence[Term],
    starts: Sequence[Sequence[float]] = (),
    *,
    readout_mitigation: bool = False,
    budget_s: float = 8.0,
    seed: int = 0,
) -> BestEnergy:
    """Minimise the noisy expectation value of an observable over a circuit's parameters.

    Args:
        configuration: the device; what is known and what is true of it may differ.
        program: OpenQASM 3 text or QPY bytes.
        terms: the observable.
        starts: parameter vectors to begin with; some random ones follow, and zeros if none are given.
        readout_mitigation: whether the energy is that of mitigated readout.
        budget_s: wall seconds after which the best so far is returned.
        seed: of the random starts.

    Raises:
        CircuitError: the circuit or observable was refused, or the circuit needs trajectories, which have no
            exact energy.
        InputError: a start of the wrong length.
    """
    from efaas_qpu.engine.engine import Engine

    begin = time.perf_counter()
    engine = Engine(configuration)
    prepared = engine.prepare("circuit", program)
    engine.prepare_observable("observable", tuple(terms))
    if prepared.method == "trajectories":
        raise CircuitError(
            "the circuit is simulated by trajectories here, which have no exact energy; use a smaller one",
            place="program",
        )
    count = len(prepared.parameters)
    for number, start in enumerate(starts):
        if len(start) != count:
            raise InputError(f"{len(start)} values do not fit {count} parameters", place=f"starts[{number}]")

    def evaluate(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        values = engine.expectation(
            "circuit", ("observable",), parameters, readout_mitigation=readout_mitigation
        )
        return values[:, 0]

    energy = _Energy(evaluate, begin + budget_s)
    if count == 0:
        energy(np.zeros((1, 0)))
    else:
        generator = np.random.default_rng(seed)
        given = [np.array(start, dtype=np.float64) for start in starts] or [np.zeros(count)]
        random = list(generator.uniform(-math.pi, math.pi, (_RANDOM_STARTS, count)))
        frequencies = engine.frequencies("circuit")
        with contextlib.suppress(_BudgetSpent):
            _search(energy, given + random, frequencies)
    return BestEnergy(
        energy.best,
        tuple(float(value) for value in energy.at),
        energy.evaluations,
        time.perf_counter() - begin,
    )


def _search(
    energy: _Energy, starts: list[NDArray[np.float64]], frequencies: NDArray[np.float64] | None
) -> None:
    """Bring every start near a minimum, then go down from the best one first."""
    if frequencies is not None:
        starts = [_rotosolve(energy, start, frequencies) for start in starts]
    order = np.argsort(energy(np.array(starts)), kind="stable")
    for number in order:
        _descend(energy, starts[number], frequencies)


def _descend(energy: _Energy, point: NDArray[np.float64], frequencies: NDArray[np.float64] | None) -> None:
    from scipy.optimize import minimize

    def value_and_gradient(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        steps = np.full(len(parameters), _DIFFERENCE)
        scale = 1 / (2 * steps)
        if frequencies is not None:
            steps = math.pi / (2 * frequencies)
            scale = frequencies / 2
        shifts = np.diag(steps)
        values = energy(np.vstack([parameters, parameters + shifts, parameters - shifts]))
        plus, minus = values[1 : 1 + len(parameters)], values[1 + len(parameters) :]
        return float(values[0]), (plus - minus) * scale

    minimize(value_and_gradient, point, jac=True, method="L-BFGS-B", options={"maxiter": 300, "ftol": 1e-12})


def _rotosolve(
    energy: _Energy, start: NDArray[np.float64], frequencies: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Set one parameter after the other to its minimum until a sweep gains little.

    With x = k·θ relative to where θ stands, E(x) = a + b·cos x + c·sin x; E(0) and E(±π/2) give a, b, c, and
    the minimum is at x = atan2(c, b) + π.
    """
    point = start.copy()
    here = float(energy(point[np.newaxis])[0])
    for _ in range(_SWEEPS):
        before = here
        for place, frequency in enumerate(frequencies):
            step = math.pi / (2 * frequency)
            pair = np.repeat(point[np.newaxis], 2, axis=0)
            pair[0, place] += step
            pair[1, place] -= step
            plus, minus = (float(value) for value in energy(pair))
            middle = (plus + minus) / 2
            cosine, sine = here - middle, (plus - minus) / 2
            amplitude = math.hypot(cosine, sine)
            if amplitude > 1e-12:
                point[place] += (math.atan2(sine, cosine) + math.pi) / frequency
                here = middle - amplitude
        point = np.remainder(point + math.pi, 2 * math.pi) - math.pi if _whole(frequencies) else point
        if before - here < _STALLED:
            break
    return point


def _whole(frequencies: NDArray[np.float64]) -> bool:
    return bool(np.all(frequencies == np.round(frequencies)))


def main(argv: Sequence[str] | None = None) -> int:
    """``efaas-qpu best-energy``: read a device and a problem, print the best energy as JSON.

    Args:
        argv: arguments after the command's name.

    Returns:
        Exit code: 0, or 2 for bad input (one sentence on standard error).
    """
    arguments = _parser().parse_args(argv)
    try:
        result = _run(arguments.device, arguments.problem, arguments.budget)
    except EfaasError as error:
        print(f"efaas-qpu best-energy: {error}", file=sys.stderr)  # noqa: T201 - this is its output
        return 2
    print(json.dumps(result.document()))  # noqa: T201 - this is its output
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="efaas-qpu best-energy",
        description="The best energy of an ansatz under a device's noise, without shot noise, as JSON.",
    )
    parser.add_argument("--device", type=Path, required=True, help="file with one QPUDevice")
    parser.add_argument("--problem", type=Path, required=True, help="JSON with program, terms, starts")
    parser.add_argument("--budget", type=float, default=8.0, help="wall seconds for the search (default 8)")
    return parser


def _run(device_file: Path, problem_file: Path, budget_s: float) -> BestEnergy:
    from efaas.api.device import Noise
    from efaas_qpu.serve import read_device

    device, snapshot = read_device(device_file)
    simulation = device.spec.simulation
    program, terms, starts, mitigation = read_problem(problem_file)
    # Trajectories have no exact energy; the same noise is simulated exactly where it fits.
    method = "Auto" if simulation.method.value == "Trajectories" else simulation.method.value
    configuration = Configuration(
        known=snapshot, true=snapshot, noisy=simulation.noise is Noise.DEVICE, method=method
    )
    return best_energy(
        configuration, program, terms, starts, readout_mitigation=mitigation, budget_s=budget_s
    )


def read_problem(path: Path) -> tuple[str | bytes, tuple[Term, ...], list[list[float]], bool]:
    """The problem's program, terms, starts, and whether readout is mitigated.

    Raises:
        ManifestError: the file cannot be read, or is not such an object; the place is the field.
    """
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ManifestError(f"it cannot be read as JSON: {error}", place=str(path)) from None
    if not isinstance(document, dict):
        raise ManifestError("it must hold one JSON object", place=str(path))
    place = f"{path}: "
    if isinstance(document.get("openqasm3"), str):
        program: str | bytes = document["openqasm3"]
    else:
        try:
            program = base64.b64decode(document["program"], validate=True)
        except (KeyError, TypeError, ValueError):
            raise ManifestError(
                "give the circuit as `program`, base64 of QPY, or as `openqasm3`, text",
                place=f"{place}program",
            ) from None
    try:
        terms = tuple((str(pauli), float(coefficient)) for pauli, coefficient in document["terms"])
    except (KeyError, TypeError, ValueError):
        raise ManifestError("it must be a list of [Pauli string, number]", place=f"{place}terms") from None
    try:
        starts = [[float(value) for value in start] for start in document.get("starts") or []]
    except (TypeError, ValueError):
        raise ManifestError("it must be a list of lists of numbers", place=f"{place}starts") from None
    if not all(math.isfinite(value) for start in starts for value in start):
        raise ManifestError("it must hold finite numbers", place=f"{place}starts")
    mitigation = document.get("readoutMitigation", False)
    if not isinstance(mitigation, bool):
        raise ManifestError("it must be true or false", place=f"{place}readoutMitigation")
    return program, terms, starts, mitigation
