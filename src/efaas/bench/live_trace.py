"""A recorded trace: when each background job comes, how long each job takes, how long each classical step.

The same trace is played to real QPU servers (`efaas.bench.live`) and to the simulator. Only what users
decide is in it; where a job goes and when it starts are what the two are compared by. Service times are
whole numbers of shots, so that both sides mean the same device time to the last bit; jobs have their live
ids in the simulation too, since some policies draw from them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from efaas.core.identity import BLOCK_SHOTS
from efaas.core.qpu import QpuConfig
from efaas.core.qpu.messages import Job, JobKind
from efaas.simulator import BatchStream, LoopSession, Measures, Simulator

DEVICES = ("qpu-0", "qpu-1", "qpu-2")
SLICE_COST_S = 0.01
T_NET_S = 0.05
"""Network, one way, device seconds: the live client waits for it before it submits."""
LOOP_PAIRS, BATCH_PAIRS = 4, 2
"""Parameter sets times measurement bases: two points, or one, of a transverse-field Ising chain."""


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """What traces are drawn from."""

    load: float = 0.9
    """Background work offered ÷ (devices · time)."""
    mean_s: float = 5.0
    """Mean device time of a background job, exponential."""
    loops: int = 3
    iterations: int = 8
    t_cpu_s: float = 1.5
    t_qpu_s: float = 2.0
    warm_up_s: float = 40.0
    """Before it only background runs."""
    length_s: float = 1500.0
    """Background comes until then, or until the loops are done."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A background job."""

    at_s: float
    shots: int
    """For each of its pairs."""
    service_s: float | None = None
    """Device time that it had when it was played; None: what its shots take."""
    device: str = ""
    """Where it was sent when it was played; empty: to the least loaded."""


@dataclass(frozen=True, slots=True)
class RecordedSession:
    """A loop."""

    name: str
    opens_s: float
    shots: tuple[int, ...]
    """Of each iteration, for each of its pairs."""
    steps_s: tuple[float, ...]
    """Classical time after each iteration."""
    devices: tuple[str, ...] = ()
    """Where each iteration was sent when it was played; empty: to the least loaded, or to its home."""
    services_s: tuple[float, ...] = ()
    """Device time that each iteration had when it was played; empty: what its shots take."""
    t_net_s: float = T_NET_S
    """Network, one way."""
    t_back_s: float = 0.0
    """Network, back."""


@dataclass(frozen=True, slots=True)
class Trace:
    """See the module's text."""

    number: int
    shot_s: float
    """Device seconds of a shot."""
    background: tuple[Arrival, ...]
    sessions: tuple[RecordedSession, ...]


def record_trace(number: int, shot_s: float, settings: TraceSettings) -> Trace:
    """Draw a trace; the same number gives the same one.

    Args:
        number: of the trace; its seed.
        shot_s: device seconds of a shot of the circuit.
        settings: what it is drawn from.
    """
    random = np.random.default_rng([20, number])
    rate = settings.load * len(DEVICES) / settings.mean_s
    background, at_s = [], 0.0
    while (at_s := at_s + float(random.exponential(1 / rate))) < settings.length_s:
        shots = round(float(random.exponential(settings.mean_s)) / (BATCH_PAIRS * shot_s))
        background.append(Arrival(at_s, max(1, shots)))
    sessions = []
    sigma = math.sqrt(math.log1p(0.1**2))
    for loop in range(settings.loops):
        lengths = random.normal(settings.t_qpu_s, 0.15 * settings.t_qpu_s, settings.iterations)
        steps = settings.t_cpu_s * np.exp(sigma * random.standard_normal(settings.iterations) - sigma**2 / 2)
        sessions.append(
            RecordedSession(
                f"team-{loop}/trace-{number}",
                settings.warm_up_s + float(random.uniform(0.0, settings.t_cpu_s + settings.t_qpu_s)),
                tuple(max(1, round(float(length) / (LOOP_PAIRS * shot_s))) for length in lengths),
                tuple(float(step) for step in steps),
            )
        )
    return Trace(number, shot_s, tuple(background), tuple(sessions))


def job_of(
    name: str,
    session: str,
    kind: JobKind,
    shots: int,
    pairs: int,
    shot_s: float,
    evaluation: int,
    service_s: float | None = None,
) -> Job:
    """The job as a QPU server makes it of a submit: cells of `BLOCK_SHOTS`, the last one shorter.

    Args:
        name: its id.
        session: whose it is.
        kind: what it is.
        shots: for each pair.
        pairs: parameter sets times measurement bases.
        shot_s: device seconds of a shot.
        evaluation: its number.
        service_s: device time that it takes instead of what its shots take.
    """
    cells = math.ceil(shots / BLOCK_SHOTS) * pairs
    return Job(
        name,
        session,
        kind,
        cells,
        (shots * pairs * shot_s if service_s is None else service_s) / cells,
        shots * pairs,
        "chain",
        (0, 1, 2, 3),
        evaluation,
    )


@dataclass(frozen=True, slots=True)
class _RecordedLoop(LoopSession):
    """A loop that does what the record says."""

    record: RecordedSession | None = None
    shot_s: float = 0.0
    ids: tuple[str, ...] = ()
    left: Iterator[float] = field(default_factory=lambda: iter(()))

    def t_cpu(self, random: np.random.Generator) -> float:  # noqa: ARG002
        return next(self.left)

    def job(self, evaluation: int, random: np.random.Generator) -> Job:  # noqa: ARG002
        assert self.record is not None
        name = self.ids[evaluation] if self.ids else f"{self.name}#{evaluation}"
        shots = self.record.shots[evaluation]
        service_s = self.record.services_s[evaluation] if self.record.services_s else None
        return job_of(name, self.name, JobKind.LOOP, shots, LOOP_PAIRS, self.shot_s, evaluation, service_s)


@dataclass(frozen=True, slots=True)
class _RecordedStream(BatchStream):
    """Background jobs that come when the record says."""

    arrivals: tuple[Arrival, ...] = ()
    shot_s: float = 0.0
    left: Iterator[Arrival] = field(default_factory=lambda: iter(()))

    def gap(self, random: np.random.Generator, now_s: float = 0.0) -> float:  # noqa: ARG002
        following = next(self.left, None)
        return math.inf if following is None else max(0.0, following.at_s - now_s)

    def job(self, number: int, random: np.random.Generator) -> Job:  # noqa: ARG002
        arrival, name = self.arrivals[number], f"{self.name}#{number}"
        shots, service_s = arrival.shots, arrival.service_s
        return job_of(name, self.name, JobKind.BATCH, shots, BATCH_PAIRS, self.shot_s, number, service_s)


def simulate(trace: Trace, policy: str, ids: Mapping[str, Sequence[str]] | None = None) -> Measures:
    """Play a trace to the simulator.

    Args:
        trace: the record.
        policy: of all devices.
        ids: ids of each session's jobs in the live run.
    """
    config = QpuConfig(policy=policy, slice_cost_s=SLICE_COST_S)
    loops = [
        _RecordedLoop(
            session.name,
            session.name.partition("/")[0],
            t_net_s=session.t_net_s,
            t_back_s=session.t_back_s,
            iterations=len(session.shots),
            opens_s=session.opens_s,
            device=DEVICES[number % len(DEVICES)],
            record=session,
            shot_s=trace.shot_s,
            ids=tuple((ids or {}).get(session.name, ())),
            left=iter(session.steps_s),
        )
        for number, session in enumerate(trace.sessions)
    ]
    batch = _RecordedStream(
        "background/jobs",
        "background",
        rate=1.0,
        arrivals=trace.background,
        shot_s=trace.shot_s,
        left=iter(trace.background),
    )
    sent_to = {
        f"{batch.name}#{number}": arrival.device
        for number, arrival in enumerate(trace.background)
        if arrival.device
    }
    for loop in loops:
        assert loop.record is not None
        sent_to |= zip(loop.ids, loop.record.devices, strict=False)
    length_s = trace.background[-1].at_s if trace.background else 1e4
    simulator = Simulator(dict.fromkeys(DEVICES, config), loops=loops, batch=[batch], sent_to=sent_to)
    return simulator.run(length_s)
