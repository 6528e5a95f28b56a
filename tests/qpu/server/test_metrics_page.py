"""`docs/metrics.md` and the metrics of the code are the same."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from efaas_qpu.description import refresh_gauges
from efaas_qpu.metrics import Metrics
from prometheus_client import generate_latest

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| ([\w, ]*) \| (.+) \|$")


def documented() -> dict[str, tuple[str, str, str]]:
    rows = [ROW.match(line) for line in PAGE.read_text().splitlines()]
    own = [row for row in rows if row and row[1].startswith("efaas_qpu_")]
    return {row[1]: (row[2], row[3].strip(), row[4]) for row in own}


def implemented() -> dict[str, tuple[str, str, str]]:
    metrics = {}
    for collector in vars(Metrics()).values():
        if hasattr(collector, "describe"):
            for family in collector.describe():
                name = f"{family.name}_total" if family.type == "counter" else family.name
                labels = ", ".join(collector._labelnames)
                metrics[name] = (family.type, labels, family.documentation)
    return metrics


def test_page_and_code_are_equal():
    assert implemented()
    assert documented() == implemented()


def test_names_carry_their_unit():
    for name, (kind, _, text) in implemented().items():
        assert name.startswith("efaas_qpu_")
        if "device seconds" in text.lower() and kind == "histogram":
            assert "device_seconds" in name


def test_what_happens_is_counted(world):
    async def scenario() -> dict[str, float]:
        async with world.serve():
            world.engine.failures.append(world.WorkerFailed("killed", how="died"))
            client = await world.ready()
            await client.send(world.submit(0))
            await client.expect("result")
            await client.send(world.submit(0), world.submit(1, shots=0))
            await client.expect("result")
            await client.expect("error")
            refresh_gauges(world.host)
            lines = generate_latest(world.host.metrics.registry).decode().splitlines()
            return {
                line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"
            }

    values = asyncio.run(scenario())
    expected = {
        'efaas_qpu_jobs_total{kind="loop",outcome="completed"}': 1,
        'efaas_qpu_worker_failures_total{how="died"}': 1,
        'efaas_qpu_stream_errors_total{code="BAD_PARAMETERS"}': 1,
        "efaas_qpu_results_returned_again_total": 1,
        "efaas_qpu_shots_total": 200,
        "efaas_qpu_streams": 1,
        "efaas_qpu_sessions": 1,
        "efaas_qpu_queue_depth": 0,
        "efaas_qpu_kept_results": 1,
        "efaas_qpu_server_seconds_count": 1,
        "efaas_qpu_start_wait_seconds_count": 1,
        "efaas_qpu_simulate_seconds_sum": 0.002,
    }
    assert {name: values[name] for name in expected} == expected
    assert 0 < values["efaas_qpu_duty_cycle_ratio"] <= 1
