"""What asks for the devices: loops that wait for their results, and batch jobs that just come.

Each has a random stream of its own, seeded from the simulation's seed and its name. So a session draws the
same computing times and a stream the same jobs under every policy, and runs can be compared pair by pair.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from efaas.core.identity import digest
from efaas.core.qpu.messages import Job, JobKind

BLOCK_S = 1 / 16
"""Device seconds of one cell: 256 shots at 244 µs."""
_SHOTS = 256


def stream(seed: int, name: str) -> np.random.Generator:
    """The random stream of one participant."""
    return np.random.default_rng(int(digest("simulation", seed, name), 16))


@dataclass(frozen=True, slots=True)
class LoopSession:
    """A variational loop: the device works for t_qpu, the classical side for t_cpu, and so on."""

    name: str
    tenant: str
    t_cpu_s: float = 1.5
    """Mean classical time of an iteration."""
    t_cpu_spread: float = 0.1
    """Its relative standard deviation (log-normal)."""
    t_qpu_s: float = 2.0
    """Mean device time of an iteration."""
    t_qpu_spread_s: float = 0.3
    """Its standard deviation (normal, never below one cell)."""
    t_net_s: float = 0.05
    """From the end of the classical step to the arrival at the device."""
    weight: float = 1.0
    tenant_weight: float = 1.0
    max_calibration_age_s: float | None = None
    qubits: tuple[int, ...] = (0, 1, 2, 3)
    iterations: int | None = None
    """After so many the session closes; None: it goes on to the end."""
    opens_s: float = 0.0
    device: str | None = None
    """The device it is placed on; in turn if not given."""

    def t_cpu(self, random: np.random.Generator) -> float:
        """Classical time of the next iteration."""
        if not self.t_cpu_spread:
            return self.t_cpu_s
        sigma = math.sqrt(math.log1p(self.t_cpu_spread**2))
        return self.t_cpu_s * math.exp(sigma * random.standard_normal() - sigma**2 / 2)

    def job(self, evaluation: int, random: np.random.Generator) -> Job:
        """The job of the next iteration."""
        seconds = self.t_qpu_s + self.t_qpu_spread_s * random.standard_normal()
        blocks = max(1, round(seconds / BLOCK_S))
        name = f"{self.name}#{evaluation}"
        return Job(
            name,
            self.name,
            JobKind.LOOP,
            blocks,
            BLOCK_S,
            blocks * _SHOTS,
            self.name,
            self.qubits,
            evaluation,
        )


@dataclass(frozen=True, slots=True)
class BatchStream:
    """Jobs that arrive at random (Poisson) and take exponentially long, whatever becomes of them."""

    name: str
    tenant: str
    rate: float
    """Jobs a second."""
    mean_s: float = 5.0
    """Mean device time of a job."""
    kind: JobKind = JobKind.BATCH
    """What it claims to be."""
    weight: float = 1.0
    tenant_weight: float = 1.0
    qubits: tuple[int, ...] = (0, 1, 2, 3)
    at_once: int = 0
    """Jobs that are there from the start."""

    def gap(self, random: np.random.Generator) -> float:
        """Time until the next job."""
        return float(random.exponential(1 / self.rate)) if self.rate > 0 else math.inf

    def job(self, number: int, random: np.random.Generator) -> Job:
        """The next job."""
        blocks = max(1, round(float(random.exponential(self.mean_s)) / BLOCK_S))
        name = f"{self.name}#{number}"
        return Job(
            name, self.name, self.kind, blocks, BLOCK_S, blocks * _SHOTS, self.name, self.qubits, number
        )
