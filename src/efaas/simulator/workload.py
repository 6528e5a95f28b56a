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
from efaas.core.speculation import Mode

BLOCK_S = 1 / 16
"""Device seconds of one cell: 256 shots at 244 µs."""
BLOCK_SHOTS = 256
"""Shots of one cell."""


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
    t_back_s: float = 0.0
    """From the end on the device to the arrival of the result."""
    weight: float = 1.0
    tenant_weight: float = 1.0
    max_calibration_age_s: float | None = None
    qubits: tuple[int, ...] = (0, 1, 2, 3)
    iterations: int | None = None
    """After so many the session closes; None: it goes on to the end."""
    opens_s: float = 0.0
    device: str | None = None
    """The device it is placed on; if not given, that is the simulator's choice."""
    speculation: Mode = Mode.OFF
    """How far its classical side runs ahead of the results."""
    hit_rate: float = 0.93
    """How often the first candidate of Exact is the next point: Nelder-Mead's, measured live."""
    circuit: str = ""
    """Name of its circuit, for people."""
    salt: str = ""
    """Part of its jobs' ids: what is drawn from an id then differs from seed to seed."""

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
        name = f"{self.name}{self.salt}#{evaluation}"
        return Job(
            name,
            self.name,
            JobKind.LOOP,
            blocks,
            BLOCK_S,
            blocks * BLOCK_SHOTS,
            self.name,
            self.qubits,
            evaluation,
        )


@dataclass(frozen=True, slots=True)
class BatchStream:
    """Jobs that arrive at random, whatever becomes of them.

    Arrivals are Poisson, with a rate that follows `profile` in steps if there is one; jobs take exponentially
    long, or always as long.
    """

    name: str
    tenant: str
    rate: float
    """Jobs a second, on average."""
    mean_s: float = 5.0
    """Mean device time of a job."""
    kind: JobKind = JobKind.BATCH
    """What it claims to be."""
    weight: float = 1.0
    tenant_weight: float = 1.0
    qubits: tuple[int, ...] = (0, 1, 2, 3)
    at_once: int = 0
    """Jobs that are there from the start."""
    constant: bool = False
    """Whether all jobs take `mean_s`."""
    profile: tuple[float, ...] = ()
    """Rate in each step of time as a multiple of `rate`, over and over; empty: always 1."""
    profile_step_s: float = 60.0
    """Length of a step."""
    salt: str = ""
    """Part of its jobs' ids."""
    block_s: float = BLOCK_S
    """Device seconds of a cell."""

    def gap(self, random: np.random.Generator, now_s: float = 0.0) -> float:
        """Time from now until the next job."""
        if not self.rate > 0:
            return math.inf
        work = float(random.exponential(1 / self.rate))
        if not self.profile:
            return work
        if not max(self.profile) > 0:
            return math.inf
        # The rate is constant within a step: walk from step to step until the integral is `work`.
        at_s = now_s
        step = int(at_s // self.profile_step_s)
        while True:
            intensity = self.profile[step % len(self.profile)]
            left_s = (step + 1) * self.profile_step_s - at_s
            if intensity > 0 and work <= intensity * left_s:
                return at_s + work / intensity - now_s
            work -= intensity * left_s
            step += 1
            at_s = step * self.profile_step_s

    def job(self, number: int, random: np.random.Generator) -> Job:
        """The next job."""
        seconds = self.mean_s if self.constant else float(random.exponential(self.mean_s))
        blocks = max(1, round(seconds / self.block_s))
        name = f"{self.name}{self.salt}#{number}"
        shots = blocks * BLOCK_SHOTS
        return Job(name, self.name, self.kind, blocks, self.block_s, shots, self.name, self.qubits, number)
