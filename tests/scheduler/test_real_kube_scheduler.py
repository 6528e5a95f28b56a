"""Placement as a cluster sees it: real API server, real kube-scheduler, nodes played by kwok."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from typing import Any

import pytest
from click.testing import CliRunner
from efaas_scheduler.cli import main

from efaas.api.names import SESSION_RESOURCE
from tests.scheduler.scheduling import Scheduling
from tests.support import objects
from tests.support.cluster import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

HOUR_S = 3600.0


def test_a_session_goes_to_the_freshest_device_and_why_shows_every_term(
    scheduling: Scheduling, namespace: str
):
    for name, hours in (("old", 8), ("fresh", 1), ("older", 20)):
        scheduling.add_device(name, age_s=hours * HOUR_S)
    scheduling.submit(namespace, "h2")
    assert scheduling.wait_placed(namespace, 1) == {"h2": "node-fresh"}
    why = scheduling.why(namespace, "h2")
    assert [entry["node"] for entry in why["nodes"]] == ["node-fresh", "node-old", "node-older"]
    fresh, old, older = (entry["cost"] for entry in why["nodes"])
    assert fresh["fidelity"] > old["fidelity"] > older["fidelity"]
    assert fresh["seconds"] < old["seconds"] < older["seconds"]
    assert why["nodes"][0]["points"] == 10
    told = CliRunner().invoke(main, ["why", "h2", "-n", namespace, "--url", scheduling.url])
    assert told.output.splitlines()[2].split()[:3] == ["node-fresh", "fresh", "10"]


def test_a_stale_device_is_avoided_and_taken_again_after_its_calibration(
    scheduling: Scheduling, namespace: str
):
    unable = {"onNeed": False}
    scheduling.add_device("stale", age_s=9 * HOUR_S, calibration=unable)
    limits = {"maxCalibrationAge": "6h"}
    scheduling.submit(namespace, "first", limits)
    message = scheduling.wait_refused(namespace, "first", "calibration 9 h old, limit 6 h")
    assert message.startswith("0/1 nodes are available")
    epoch = {"epoch": 2, "time": objects.rfc3339(time.time()), "ageSeconds": 0}
    started = time.monotonic()
    scheduling.report("stale", {"calibration": epoch}, epoch=2)
    assert scheduling.wait_placed(namespace, 1) == {"first": "node-stale"}
    assert time.monotonic() - started < 5.0


def test_news_that_only_the_extender_sees_wakes_waiting_pods_too(scheduling: Scheduling, namespace: str):
    scheduling.add_device("down", state="Down")
    scheduling.submit(namespace, "one")
    scheduling.wait_refused(namespace, "one", "down")
    scheduling.report("down", {"state": "Ready"})
    assert scheduling.wait_placed(namespace, 1, within_s=5.0) == {"one": "node-down"}


def test_each_node_has_its_reason(scheduling: Scheduling, namespace: str):
    scheduling.add_device("small", qubits=3)
    scheduling.add_device("off", state="Down")
    scheduling.cluster.create_node("plain", resources={SESSION_RESOURCE: "1"})
    scheduling.submit(namespace, "picky")
    message = scheduling.wait_refused(namespace, "picky", "0/3 nodes are available")
    for reason in ("3 qubits, 4 needed", "down", "no QPU device on this node"):
        assert f"1 {reason}" in message


def test_a_hundred_pods_fill_twenty_devices_exactly_and_the_rest_follows(
    scheduling: Scheduling, namespace: str
):
    for number in range(20):
        scheduling.add_device(f"d{number:02}", slots=4, age_s=600.0 * number)
    for number in range(100):
        scheduling.submit(namespace, f"s{number:03}")
    placed = scheduling.wait_placed(namespace, 80, within_s=60.0)
    assert Counter(placed.values()) == Counter({f"node-d{number:02}": 4 for number in range(20)})
    waiting = sorted(set(scheduling.pods(namespace)) - set(placed))
    assert len(waiting) == 20
    scheduling.wait_refused(namespace, waiting[0], f"Insufficient {SESSION_RESOURCE}")
    scheduling.finish(namespace, sorted(placed)[:20])
    after = scheduling.wait_placed(namespace, 80, within_s=60.0)
    assert set(waiting) <= set(after)
    assert max(Counter(after.values()).values()) <= 4


def test_a_burst_does_not_pile_up_on_the_best_device(scheduling: Scheduling, namespace: str):
    for number in range(4):
        # Device 0 is best by 10 ms, and one more session lengthens a queue by 250 ms.
        scheduling.add_device(f"d{number}", slots=8, status={"expectedWaitMilliseconds": 10 * number})
    for number in range(8):
        scheduling.submit(namespace, f"s{number}")
    scheduling.wait_placed(namespace, 8)
    assert scheduling.per_node(namespace) == Counter({f"node-d{number}": 2 for number in range(4)})


def test_a_namespace_that_comes_later_gets_its_share_of_what_falls_free(
    scheduling: Scheduling, namespace: str
):
    scheduling.add_device("only", slots=8)
    with scheduling.cluster.fresh_namespace("late") as late:
        for number in range(24):
            scheduling.submit(namespace, f"greedy{number:02}")
        first = sorted(scheduling.wait_placed(namespace, 8))
        for number in range(8):
            scheduling.submit(late, f"late{number}")
        wait_until("late pods to be known", lambda: scheduling.read(f"/why?pod={late}/late7")[0] == 200)
        scheduling.finish(namespace, first[:4])
        wait_until("four late pods", lambda: len(scheduling.placed(late)) == 4, within_s=30.0)
        assert len(scheduling.placed(namespace)) == 4
        # From here on both have the same: what falls free goes to the one that it was taken from.
        scheduling.finish(namespace, sorted(scheduling.placed(namespace))[:2])
        wait_until(
            "all slots taken", lambda: sum(scheduling.per_node(namespace, late).values()) == 8, within_s=30.0
        )
        assert abs(len(scheduling.placed(namespace)) - len(scheduling.placed(late))) <= 2


def test_a_slot_is_not_kept_for_ever_for_a_pod_that_cannot_come(scheduling: Scheduling, namespace: str):
    scheduling.add_device("only", slots=2, cpus=4)
    with scheduling.cluster.fresh_namespace("huge") as huge:
        scheduling.submit(namespace, "a")
        scheduling.wait_placed(namespace, 1)
        # It was served less and fits the device, but no CPU is left for it on the node.
        scheduling.submit(huge, "never", cpu="30")
        scheduling.wait_refused(huge, "never", "Insufficient cpu")
        scheduling.submit(namespace, "b")
        scheduling.wait_refused(namespace, "b", f"slot kept for namespace {huge}")
        assert set(scheduling.wait_placed(namespace, 2, within_s=40.0)) == {"a", "b"}


def test_the_extender_killed_under_load_loses_nothing_and_other_pods_go_on(
    scheduling: Scheduling, namespace: str
):
    for number in range(10):
        scheduling.add_device(f"d{number}", slots=4)
    for number in range(20):
        scheduling.submit(namespace, f"before{number:02}")
    scheduling.extender.kill()
    for number in range(20):
        scheduling.submit(namespace, f"during{number:02}")
    plain = objects.runner_pod("plain", namespace)
    plain["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "100m"}}
    scheduling.api.create(f"/api/v1/namespaces/{namespace}/pods", plain)
    wait_until("unrelated pod", lambda: "plain" in scheduling.placed(namespace), within_s=10.0)
    while_down = scheduling.placed(namespace)
    assert not any(name.startswith("during") for name in while_down)
    scheduling.extender.start()
    scheduling.wait_ready()
    placed = scheduling.wait_placed(namespace, 41, within_s=60.0)
    assert while_down.items() <= placed.items()
    del placed["plain"]
    assert Counter(placed.values()) == Counter({f"node-d{number}": 4 for number in range(10)})


def test_the_extender_ends_in_order_when_it_is_asked_to(scheduling: Scheduling):
    assert scheduling.extender.stop(within_s=10.0) == 0
    assert '"message": "stopping"' in scheduling.extender.tail()
    scheduling.extender.start()
    scheduling.wait_ready()


def test_unrelated_pods_never_reach_the_extender(scheduling: Scheduling, namespace: str):
    scheduling.add_device("d")

    def asked() -> int:
        page = scheduling.read("/metrics")[1]
        lines = [line for line in page.splitlines() if line.startswith("efaas_scheduler_answers_total{")]
        return int(sum(float(line.rpartition(" ")[2]) for line in lines))

    before = asked()
    for number in range(5):
        plain = objects.runner_pod(f"plain{number}", namespace)
        plain["spec"]["containers"][0]["resources"] = {}
        scheduling.api.create(f"/api/v1/namespaces/{namespace}/pods", plain)
    scheduling.wait_placed(namespace, 5)
    assert asked() == before


def test_no_pod_is_placed_by_old_knowledge_while_the_api_server_does_not_answer(
    scheduling: Scheduling, namespace: str
):
    node = scheduling.add_device("d")
    scheduling.submit(namespace, "one", schedulerName="nobody")
    pod = scheduling.pods(namespace)["one"]
    asked = {"Pod": pod, "Nodes": None, "NodeNames": [node]}
    with scheduling.another_extender(stalenessLimit="3s", schedulerName="nobody") as url:

        def filtered() -> dict[str, Any]:
            status, text = scheduling.read("/filter", url, asked)
            assert status == 200
            answer: dict[str, Any] = json.loads(text)
            return answer

        wait_until("the device and its session to be known", lambda: filtered()["NodeNames"] == [node])
        server = scheduling.cluster.processes["kube-apiserver"]
        os.kill(server.pid, signal.SIGSTOP)
        try:
            refused = wait_until("refusal", lambda: answer if (answer := filtered())["Error"] else None)
            assert refused["Error"].startswith(
                "state is too old to decide on: no contact with the API server"
            )
            assert not refused["NodeNames"]
            assert scheduling.read("/readyz", url)[0] == 503
        finally:
            os.kill(server.pid, signal.SIGCONT)
        wait_until("decisions again", lambda: filtered()["NodeNames"] == [node])
