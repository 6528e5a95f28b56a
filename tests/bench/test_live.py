"""Live against simulated: the same trace on both sides, and a real one played to real servers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from efaas.bench import live, records
from efaas.bench.live_trace import (
    BATCH_PAIRS,
    LOOP_PAIRS,
    SLICE_COST_S,
    T_NET_S,
    Trace,
    TraceSettings,
    job_of,
    record_trace,
    simulate,
)
from efaas.core.qpu.config import POLICIES
from efaas.core.qpu.messages import JobKind
from efaas.simulator import Measures

SHOT_S = 251e-6


def test_a_trace_is_the_same_again_and_another_number_another_one() -> None:
    settings = TraceSettings(length_s=200.0)
    assert record_trace(3, SHOT_S, settings) == record_trace(3, SHOT_S, settings)
    assert record_trace(3, SHOT_S, settings) != record_trace(4, SHOT_S, settings)


def test_traces_offer_the_load_that_was_asked_for() -> None:
    settings = TraceSettings(load=0.6, length_s=20_000.0)
    trace = record_trace(0, SHOT_S, settings)
    offered_s = sum(arrival.shots for arrival in trace.background) * BATCH_PAIRS * SHOT_S
    assert offered_s / (3 * settings.length_s) == pytest.approx(0.6, rel=0.05)
    lengths = [shots * LOOP_PAIRS * SHOT_S for session in trace.sessions for shots in session.shots]
    assert np.mean(lengths) == pytest.approx(settings.t_qpu_s, rel=0.15)


@pytest.mark.parametrize("policy", ["efaas", "sr", "session-fifo", "sbq"])
def test_without_others_an_iteration_waits_for_network_and_turn_alone(policy: str) -> None:
    recorded = record_trace(1, SHOT_S, TraceSettings(load=0.001, length_s=1e5))
    quiet = Trace(1, SHOT_S, recorded.background[-1:], recorded.sessions)
    measures = simulate(quiet, policy)
    assert len(measures.iterations) == sum(len(session.shots) for session in recorded.sessions)
    for iteration in measures.iterations:
        assert iteration.ttns_s == pytest.approx(T_NET_S + SLICE_COST_S)


def test_the_simulation_takes_arrivals_and_service_times_from_the_trace() -> None:
    trace = record_trace(2, SHOT_S, TraceSettings(length_s=300.0))
    measures: Measures = simulate(trace, "sr")
    assert [wait.arrived_s for wait in measures.batch] == [arrival.at_s for arrival in trace.background]
    for wait, arrival in zip(measures.batch, trace.background, strict=True):
        assert wait.device_s == pytest.approx(arrival.shots * BATCH_PAIRS * SHOT_S)


def test_jobs_go_where_the_record_says_that_they_were_sent() -> None:
    trace = record_trace(2, SHOT_S, TraceSettings(length_s=300.0))
    ids = {one.name: [f"{one.name}/{place}" for place in range(len(one.shots))] for one in trace.sessions}
    sessions = tuple(replace(one, devices=("qpu-2",) * len(one.shots)) for one in trace.sessions)
    background = tuple(replace(arrival, device="qpu-1") for arrival in trace.background)
    measures = simulate(replace(trace, sessions=sessions, background=background), "sbq", ids)
    assert {wait.device for wait in measures.batch if wait.start_s is not None} == {"qpu-1"}
    assert {one.device for one in measures.iterations if one.start_s is not None} == {"qpu-2"}


def test_a_job_is_cut_as_a_server_cuts_it() -> None:
    from efaas_qpu.engine.messages import Prepared
    from efaas_qpu.jobs import live_job
    from efaas_qpu.limits import ServerLimits
    from efaas_qpu.requests import Submission

    from efaas.api.wire import qpu_pb2 as wire

    made = job_of("id", "a/b", JobKind.LOOP, 1000, 4, SHOT_S, 7)
    fields = dict.fromkeys(Submission.__dataclass_fields__)
    fields |= {
        "job_id": "id",
        "parameters": np.zeros((2, 8)),
        "shots": 1000,
        "observables": ("h",),
        "kind": JobKind.LOOP,
        "circuit": "chain",
        "evaluation": 7,
        "per_shot": False,
    }
    prepared = Prepared("chain", (), 4, 4, (0, 1, 2, 3), 1.0, SHOT_S, 0.0, "density_matrix")
    theirs = live_job(Submission(**fields), prepared, 2, "a/b", 1, ServerLimits(), arrived_wall=0.0).job
    assert wire is not None
    assert (made.blocks, made.shots) == (theirs.blocks, theirs.shots)
    assert made.block_s == pytest.approx(theirs.block_s)


def test_disagreement_is_reported_with_its_reason(tmp_path: Path) -> None:
    row = {
        "policy": "efaas",
        "trace": 0,
        "live_s": 0.2,
        "simulated_s": 0.1,
        "network_s": 0.02,
        "iterations": 30,
        "late": 1,
        "time_scale": 0.3,
        "wall_s": 10.0,
    }
    path = tmp_path / "data" / "live" / "comparison.parquet"
    records.write(path, live.COMPARISON, [row, {**row, "policy": "sr", "simulated_s": 0.19}])
    ours, theirs = live.targets(tmp_path)
    assert ours.value == pytest.approx(50.0)
    assert not ours.reached
    assert "time scale 0.3" in ours.reason
    assert theirs.reached


def test_every_policy_has_a_time_scale_above_zero() -> None:
    assert set(live.TIME_SCALES) == set(POLICIES)
    assert min(live.TIME_SCALES.values()) > 0


@pytest.mark.integration
@pytest.mark.timeout(300)
def test_a_trace_is_played_to_real_servers_and_to_the_model(tmp_path: Path) -> None:
    """What is asserted is that both sides did the same work; how close they are depends on the machine."""
    settings = TraceSettings(load=0.5, iterations=3, warm_up_s=4.0)
    found = live.run(tmp_path, 1, policies=("efaas",), settings=settings, time_scale=0.2)
    assert [target.name for target in found] == ["live against simulated mean TTNS, efaas"]
    rows = pq.read_table(tmp_path / "data" / "live" / "iterations.parquet").to_pylist()
    sides = {side: [row for row in rows if row["side"] == side] for side in ("live", "simulated")}
    assert len(sides["live"]) == len(sides["simulated"]) == 9
    for row in sides["live"]:
        assert row["ttns_s"] >= T_NET_S
        assert np.isfinite(row["value"])
    # Real optimizers: what the three sessions measured differs.
    assert len({row["value"] for row in sides["live"]}) == 9
