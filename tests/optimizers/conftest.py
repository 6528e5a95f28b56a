"""Problems with known answers, written with nothing but numpy, and a loop that asks and tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from efaas.api.session import Optimizer as OptimizerSpec
from efaas.optimizers import Optimizer, Tell, make_optimizer
from efaas.optimizers.base import Ask, Vector

METHODS = ("spsa", "qn_spsa", "adam", "rotosolve", "cma_es", "nelder_mead", "cobyla", "powell", "scan")

I2 = np.eye(2)
X = np.array([[0.0, 1.0], [1.0, 0.0]])
Z = np.diag([1.0, -1.0])
CX = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])


class TwoQubitVqe:
    """H2 on two qubits at its equilibrium distance; RY layers with one CX: real, exact, four parameters."""

    parameters = 4
    hamiltonian = (
        -1.052373 * np.kron(I2, I2)
        + 0.397937 * np.kron(I2, Z)
        - 0.397937 * np.kron(Z, I2)
        - 0.011280 * np.kron(Z, Z)
        + 0.180931 * np.kron(X, X)
    )

    def state(self, theta: Vector) -> Vector:
        first = np.kron(self._ry(theta[0]), self._ry(theta[1])) @ np.array([1.0, 0, 0, 0])
        return np.kron(self._ry(theta[2]), self._ry(theta[3])) @ (CX @ first)

    def energy(self, theta: Vector) -> float:
        state = self.state(theta)
        return float(state @ self.hamiltonian @ state)

    def fidelity(self, theta: Vector, other: Vector) -> float:
        return float((self.state(theta) @ self.state(other)) ** 2)

    @property
    def minimum(self) -> float:
        return float(np.linalg.eigvalsh(self.hamiltonian)[0])

    @staticmethod
    def _ry(angle: float) -> Vector:
        c, s = np.cos(angle / 2), np.sin(angle / 2)
        return np.array([[c, -s], [s, c]])


@dataclass
class Bench:
    """Builds optimizers and answers them."""

    vqe: TwoQubitVqe

    def make(self, method: str, initial: Any, seed: int = 0, **options: Any) -> Optimizer:
        if method == "scan":
            options.setdefault("points", 40)
        return make_optimizer(
            OptimizerSpec.model_validate({method: options}), np.asarray(initial, float), seed
        )

    def answer(
        self,
        asked: Ask,
        function: Callable[[Vector], float] | None = None,
        noise: float = 0.0,
        random: np.random.Generator | None = None,
    ) -> Tell:
        function = function or self.vqe.energy
        values = np.array([function(point) for point in asked.points])
        overlaps = np.array([self.vqe.fidelity(a, b) for a, b in asked.overlaps])
        if noise:
            assert random is not None
            values = values + noise * random.standard_normal(values.size)
            overlaps = overlaps + noise * random.standard_normal(overlaps.size)
        return Tell(values, np.full(values.size, noise), overlaps)

    def run(
        self,
        optimizer: Optimizer,
        function: Callable[[Vector], float] | None = None,
        *,
        iterations: int,
        noise: float = 0.0,
        seed: int = 0,
    ) -> Optimizer:
        random = np.random.default_rng(seed)
        while optimizer.finished is None and optimizer.iteration < iterations:
            optimizer.tell(self.answer(optimizer.ask(), function, noise, random))
        return optimizer


# Without state, so that properties may share one.
@pytest.fixture(scope="session")
def bench() -> Bench:
    return Bench(TwoQubitVqe())


@pytest.fixture(scope="session")
def vqe() -> TwoQubitVqe:
    return TwoQubitVqe()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "method" in metafunc.fixturenames:
        metafunc.parametrize("method", METHODS)
