"""The same comparison live: real QPU servers, streams and VQEs in scaled device time, beside the model.

For each policy three QPU servers are started (Aer behind gRPC, policy from the manifest) and several
recorded traces are played to them, one after the other: background jobs at load 0.9 and three sessions
whose optimizer asks for what the real results tell it. The same traces go through the simulator, with the
arrivals at each device, classical times, service times and network as they were recorded in the live run:
what is compared is who waits for whom. Mean TTNS of the two is put side by side, over the same iterations.

**Time scale.** A device second lasts `TIME_SCALES[policy]` wall seconds. What the programs themselves take
(gRPC both ways, the pipe to Aer, Python's event loop: some 2 ms of wall time an iteration and 1 ms a slice on
a quiet machine) is not in the model; it looks 1 / scale times as long in device time. Where an iteration
waits for tenths of a second (EFaaS) the scale is therefore larger than where it waits for ten, and all
policies take about the same wall time: three traces of six policies end within ten minutes. The wall time of
the network is reported beside the figures, so that what is left over can be judged.

``efaas bench --cluster`` plays the same traces to pods (`efaas.bench.cluster_servers`).

Tables, in ``data/live/`` or ``data/cluster/``: `iterations` (a row for each iteration and side) and
`comparison` (a row for each policy and trace).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from efaas.bench import records
from efaas.bench.energies_problems import named_problem
from efaas.bench.live_client import LiveIteration, LivePlay
from efaas.bench.live_servers import Servers
from efaas.bench.live_trace import Trace, TraceSettings, record_trace, simulate
from efaas.client import QpuConnection, SessionIdentity
from efaas.core.qpu.config import POLICIES
from efaas.simulator import Measures

SNAPSHOT = "kolkata-27"
PROBLEM = "ising-4-realamplitudes"
TIME_SCALES = {"efaas": 0.3, "sr": 0.2, "session-fifo": 0.2, "sbq": 0.1, "pf": 0.1, "pq": 0.1}
"""Wall seconds of a device second by policy."""
LEAST_TRACES = 3
LOCAL, CLUSTER = "live", "cluster"
"""Where the servers were: processes of this machine, or pods."""
CLUSTER_POLICIES = ("efaas", "sbq", "sr")
"""What is compared on a cluster: each policy needs pods of its own."""
AGREEMENT = 15.0
"""Percent by which live and simulated mean TTNS may differ."""

_TEXT, _REAL, _WHOLE, _FLAG = pa.string(), pa.float64(), pa.int64(), pa.bool_()

ITERATIONS = pa.schema(
    [
        pa.field("policy", _TEXT),
        pa.field("trace", _WHOLE),
        pa.field("side", _TEXT, metadata={"doc": "live or simulated"}),
        pa.field("session", _TEXT),
        pa.field("evaluation", _WHOLE),
        pa.field("device", _TEXT),
        pa.field("ready_s", _REAL),
        pa.field("ttns_s", _REAL, metadata={"doc": "device seconds; null: had not started at the end"}),
        pa.field("network_s", _REAL, metadata={"doc": "real network, device seconds; null: simulated"}),
        pa.field("value", _REAL, metadata={"doc": "mean of measured energies; null: simulated"}),
        pa.field("late", _FLAG, metadata={"doc": "Aer took longer than the device time"}),
    ]
)
COMPARISON = pa.schema(
    [
        pa.field("policy", _TEXT),
        pa.field("trace", _WHOLE),
        pa.field("live_s", _REAL, metadata={"doc": "mean TTNS"}),
        pa.field("simulated_s", _REAL),
        pa.field("network_s", _REAL, metadata={"doc": "real network's part of the live mean"}),
        pa.field("iterations", _WHOLE),
        pa.field("late", _WHOLE),
        pa.field("time_scale", _REAL),
        pa.field("wall_s", _REAL, metadata={"doc": "it took; differs from run to run"}),
    ]
)

Progress = Callable[[str, int, int], None]


class Started(Protocol):
    """Servers that listen."""

    endpoints: dict[str, str]


Serve = Callable[[str, float], AbstractContextManager[Started]]
"""Starts the servers of a policy at a time scale."""


def run(
    out: Path,
    seeds: int = LEAST_TRACES,
    *,
    policies: tuple[str, ...] = POLICIES,
    settings: TraceSettings | None = None,
    time_scale: float | None = None,
    progress: Progress | None = None,
    where: str = LOCAL,
    serve: Serve | None = None,
) -> list[records.Target]:
    """Play traces live and simulated; writes the tables of ``data/live/`` or ``data/cluster/``.

    Args:
        out: result folder.
        seeds: number of traces.
        policies: which are compared.
        settings: what traces are drawn from.
        time_scale: wall seconds of a device second, above 0; that of `TIME_SCALES` if not given.
        progress: hears what is done: phase, done, all.
        where: `LOCAL` or `CLUSTER`: the folder of the tables.
        serve: makes the servers of a policy at a time scale; processes of this machine if not given.

    Returns:
        A target for each policy: how far live and simulated mean TTNS are apart.

    Raises:
        ServerFailed: a QPU server does not come up.
        EfaasError: a job failed.
    """
    settings = settings or TraceSettings()
    problem = named_problem(PROBLEM)
    iterations: list[dict[str, Any]] = []
    comparison: list[dict[str, Any]] = []
    done = 0
    with tempfile.TemporaryDirectory(prefix="efaas-live-") as folder:
        for policy in policies:
            scale = time_scale or TIME_SCALES[policy]
            started = serve(policy, scale) if serve else Servers(Path(folder), SNAPSHOT, policy, scale)
            with started as servers:
                shot_s = _shot_s(next(iter(servers.endpoints.values())), problem.circuit.program)
                for number in range(seeds):
                    trace = record_trace(number, shot_s, settings)
                    begun = time.perf_counter()
                    play = LivePlay(trace, policy, servers.endpoints, problem, scale)
                    live = play.run()
                    wall_s = time.perf_counter() - begun
                    simulated = simulate(play.as_played(live), policy, _ids(live))
                    iterations += _rows(policy, trace, live, simulated)
                    comparison.append(_compared(policy, trace, live, simulated, scale, wall_s))
                    done += 1
                    if progress is not None:
                        progress(f"{where}, {policy}", done, seeds * len(policies))
    records.write(out / "data" / where / "iterations.parquet", ITERATIONS, iterations)
    records.write(out / "data" / where / "comparison.parquet", COMPARISON, comparison)
    return targets(out, where)


def _shot_s(endpoint: str, program: str | bytes) -> float:
    """Device seconds of a shot, as the server says; it compiles the circuit on the way."""
    with QpuConnection(endpoint, SessionIdentity("background/first-look")) as connection:
        return connection.register_circuit(program).shot_s


def _ids(live: list[LiveIteration]) -> dict[str, list[str]]:
    ids: dict[str, list[str]] = {}
    for iteration in live:
        ids.setdefault(iteration.session, []).append(iteration.job_id)
    return ids


def _rows(policy: str, trace: Trace, live: list[LiveIteration], simulated: Measures) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {
            "policy": policy,
            "trace": trace.number,
            "side": "live",
            "session": one.session,
            "evaluation": one.evaluation,
            "device": one.device,
            "ready_s": one.ready_s,
            "ttns_s": one.ttns_s,
            "network_s": one.network_s,
            "value": one.value,
            "late": one.late,
        }
        for one in live
    ]
    rows += [
        {
            "policy": policy,
            "trace": trace.number,
            "side": "simulated",
            "session": one.session,
            "evaluation": one.evaluation,
            "device": one.device,
            "ready_s": one.ready_s,
            "ttns_s": None if one.start_s is None else one.ttns_s,
        }
        for one in simulated.iterations
    ]
    return rows


def _compared(
    policy: str,
    trace: Trace,
    live: list[LiveIteration],
    simulated: Measures,
    time_scale: float,
    wall_s: float,
) -> dict[str, Any]:
    waits = simulated.ttns_s()
    return {
        "policy": policy,
        "trace": trace.number,
        "live_s": sum(one.ttns_s for one in live) / len(live),
        "simulated_s": sum(waits) / len(waits),
        "network_s": sum(one.network_s for one in live) / len(live),
        "iterations": len(live),
        "late": sum(one.late for one in live),
        "time_scale": time_scale,
        "wall_s": wall_s,
    }


def comparison(out: Path, where: str = LOCAL) -> list[dict[str, Any]]:
    """Rows of the comparison; none if nothing was run live there."""
    path = out / "data" / where / "comparison.parquet"
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist() if path.exists() else []
    return rows


def targets(out: Path, where: str | None = None) -> list[records.Target]:
    """How far live and simulated mean TTNS are apart, for each policy, from the tables alone.

    Args:
        out: result folder.
        where: `LOCAL` or `CLUSTER`; both if not given.
    """
    if where is None:
        return [*targets(out, LOCAL), *targets(out, CLUSTER)]
    rows = comparison(out, where)
    word = "live" if where == LOCAL else "on a cluster"
    found = []
    for policy in dict.fromkeys(row["policy"] for row in rows):
        mine = [row for row in rows if row["policy"] == policy]
        live_s = sum(row["live_s"] for row in mine) / len(mine)
        simulated_s = sum(row["simulated_s"] for row in mine) / len(mine)
        network_s = sum(row["network_s"] for row in mine) / len(mine)
        late = sum(row["late"] for row in mine)
        apart = 100 * abs(live_s - simulated_s) / live_s
        reason = (
            f"{word} {live_s:.3f} s, simulated {simulated_s:.3f} s at time scale {mine[0]['time_scale']:g}; "
            f"the real network is {network_s:.3f} s of it, {late} iterations outlasted their device time"
        )
        found.append(
            records.Target(
                f"{word} against simulated mean TTNS, {policy}",
                apart,
                None,
                len(mine),
                AGREEMENT,
                False,
                "%",
                reason,
            )
        )
    return found
