"""A scenario: everything about a simulation but the policy and the seed.

The defaults are the paper's, with its network of 0.5 s as an experiment of its own: 3 QPUs, 4 classical
nodes, t_cpu 1.5 s, t_qpu 2.0 ± 0.3 s, background jobs of mean 5 s from four groups.

Background runs alone for a warm-up, so that sessions meet a queue that has formed by itself; then sessions
open within the minute that follows, each at its own moment. Nothing about waiting is put in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from efaas.bench.arms import Arm
from efaas.core.qpu import CalibrationConfig, QpuConfig
from efaas.simulator.workload import BatchStream, LoopSession, stream

GROUPS = 4
"""Tenants that send background jobs."""
MEAN_JOB_S = 5.0
"""Mean device time of a background job."""


@dataclass(frozen=True, slots=True)
class Circuit:
    """A circuit of a workload."""

    name: str
    qubits: int
    t_qpu_s: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """Settings of a simulation; the columns of `records.RUNS` of the same names say what they are."""

    qpus: int = 3
    sessions: int = 3
    iterations: int | None = 100
    load: float = 0.9
    arrivals: str = "poisson"
    profile: tuple[float, ...] = ()
    """Relative rate of background arrivals in each minute; empty: constant."""
    t_cpu_s: float = 1.5
    t_qpu_s: float = 2.0
    t_net_s: float = 0.05
    calibrated: bool = False
    tau_s: float = 300.0
    t_calib_s: float = 30.0
    interval_s: float = 3600.0
    """Between scheduled full calibrations."""
    alpha: float = 100.0
    beta: float = 5.0
    gamma: float = 1.0
    nodes: int = 4
    warm_up_s: float = 300.0
    opening_s: float = 60.0
    """Sessions open within so long after the warm-up."""
    horizon_s: float = 3000.0
    circuits: tuple[Circuit, ...] = ()
    """What sessions run, in turn; empty: four qubits for t_qpu."""
    bin_s: float = 60.0
    keep_batch: bool = True
    tenants: int = 0
    """Tenants that sessions belong to, in turn; 0: each its own."""


def devices(scenario: Scenario, arm: Arm, seed: int) -> dict[str, QpuConfig]:
    """Settings of the devices; each was calibrated at its own moment within the last interval."""
    random = stream(seed, "calibration")
    settings = {
        "alpha": scenario.alpha,
        "beta": scenario.beta,
        "gamma": scenario.gamma,
        # The paper's sweep has α = 0: loops then have no precedence at all.
        "strict_classes": scenario.alpha > scenario.beta + scenario.gamma,
        "tau_s": scenario.tau_s * arm.tau_factor,
        "cpu_capacity": float(scenario.nodes),
        "merge_slices": True,
        "tell_positions": False,
        "policy": arm.policy,
        **arm.settings,
    }
    configs = {}
    for number in range(scenario.qpus):
        age_s = float(random.uniform(0.0, scenario.interval_s))
        calibration = CalibrationConfig(
            interval_s=scenario.interval_s,
            duration_s=scenario.t_calib_s,
            frozen=not scenario.calibrated,
            calibrated_at_s=-age_s if scenario.calibrated else 0.0,
        )
        configs[f"qpu-{number}"] = QpuConfig(calibration=calibration, **settings)
    return configs


def loops(scenario: Scenario, arm: Arm, seed: int) -> list[LoopSession]:
    """The sessions; their names are the same in every arm and for every seed."""
    random = stream(seed, "openings")
    limit_s = None
    if scenario.calibrated and arm.policy == "efaas":
        limit_s = scenario.tau_s * arm.tau_factor
    sessions = []
    for number in range(scenario.sessions):
        opens_s = scenario.warm_up_s + float(random.uniform(0.0, scenario.opening_s))
        circuit = Circuit("", 4, scenario.t_qpu_s)
        if scenario.circuits:
            circuit = scenario.circuits[number % len(scenario.circuits)]
        first = (4 * number) % 24
        tenant = number % scenario.tenants if scenario.tenants else number
        sessions.append(
            LoopSession(
                f"team-{tenant}/session-{number}",
                f"team-{tenant}",
                t_cpu_s=scenario.t_cpu_s,
                t_qpu_s=circuit.t_qpu_s,
                t_qpu_spread_s=0.15 * circuit.t_qpu_s,
                t_net_s=scenario.t_net_s,
                t_back_s=scenario.t_net_s,
                max_calibration_age_s=limit_s,
                qubits=tuple((first + qubit) % 27 for qubit in range(circuit.qubits)),
                iterations=scenario.iterations,
                opens_s=opens_s,
                speculation=arm.speculation,
                circuit=circuit.name,
                salt=f"@{seed}",
            )
        )
    return sessions


def background(scenario: Scenario, seed: int) -> list[BatchStream]:
    """Streams of background jobs that offer the load together."""
    if scenario.load <= 0:
        return []
    rate = scenario.load * scenario.qpus / MEAN_JOB_S / GROUPS
    return [
        BatchStream(
            f"group-{number}/jobs",
            f"group-{number}",
            rate,
            MEAN_JOB_S,
            profile=scenario.profile,
            qubits=tuple(range(27)),
            salt=f"@{seed}",
        )
        for number in range(GROUPS)
    ]


def varied(base: Scenario, values: Mapping[str, object]) -> Scenario:
    """The scenario with some settings replaced."""
    return replace(base, **values)  # type: ignore[arg-type]


def cell_name(values: Mapping[str, object]) -> str:
    """What varies, as it stands in the column `cell`."""
    return ",".join(f"{name}={_word(value)}" for name, value in values.items())


def _word(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
