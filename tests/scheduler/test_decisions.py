"""What is answered, decided in memory: every rule, every reason, and what the watches change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from efaas_scheduler.decide import NO_DEVICE, Decider
from efaas_scheduler.standing import Standings
from efaas_scheduler.state import Change, Kind, Known
from efaas_scheduler.wire import Pod

from efaas.api.names import SESSION_RESOURCE
from tests.support import objects

NOW_S = 1_800_000_000.0
HOUR_S = 3600.0


class World:
    """A state and its decider, told of objects one by one."""

    def __init__(self, *, half_life_s: float = 1800.0, **weights: float) -> None:
        self.known = Known(Standings(half_life_s, weights), calibration_patience_s=1800.0)
        self.decider = Decider(self.known, hold_limit_s=15.0)

    def put(self, kind: Kind, document: dict[str, Any], now_s: float = NOW_S) -> None:
        self.known.handle(kind, Change.PUT, document, now_s)

    def device(self, name: str, *, slots: int = 4, offered: int | None = None, **changes: Any) -> str:
        node = f"node-{name}"
        labels = {"kubernetes.io/hostname": node}
        allocatable = {"cpu": "32", SESSION_RESOURCE: str(slots if offered is None else offered)}
        self.put(
            Kind.NODE,
            {
                "kind": "Node",
                "metadata": {"name": node, "labels": labels},
                "status": {"allocatable": allocatable},
            },
        )
        self.put(Kind.DEVICE, objects.device(name, node, slots=slots, now_s=NOW_S, **changes))
        return node

    def session(
        self, name: str, namespace: str = "ns", status: dict[str, Any] | None = None, **wants: Any
    ) -> None:
        document = objects.as_stored(objects.session(name, namespace, requirements=wants))
        self.put(Kind.SESSION, document | ({"status": status} if status else {}))

    def pod(self, name: str, namespace: str = "ns", session: str | None = None, **changes: Any) -> Pod:
        document = objects.as_stored(
            objects.runner_pod(name, namespace, session_name=session or name), **changes
        )
        self.put(Kind.POD, document)
        return Pod.model_validate(document)

    def bind(self, name: str, node: str, namespace: str = "ns", now_s: float = NOW_S) -> None:
        document = objects.as_stored(
            objects.runner_pod(name, namespace, session_name=name), spec__nodeName=node
        )
        self.put(Kind.POD, document, now_s)

    def filter(self, pod: Pod, *nodes: str, now_s: float = NOW_S) -> Any:
        return self.decider.filter_nodes(pod, nodes or sorted(self.known.fleet.rows), now_s)


@pytest.mark.parametrize(
    ("device", "wants", "reason"),
    [
        ({"qubits": 3}, {}, "3 qubits, 4 needed"),
        ({"status": {"connectedQubits": 3}}, {}, "3 connected qubits, 4 needed"),
        ({"state": "Down"}, {}, "down"),
        ({"state": "Pending"}, {}, "not ready yet"),
        ({"state": "Draining"}, {}, "takes no new sessions"),
        ({"spec": {"cordon": True}}, {}, "takes no new sessions"),
        ({}, {"matchLabels": {"tier": "gold"}}, "label tier is not set, gold needed"),
        (
            {"age_s": 9 * HOUR_S, "calibration": {"onNeed": False}},
            {"maxCalibrationAge": "6h"},
            "calibration 9 h old, limit 6 h",
        ),
        (
            {"age_s": 9 * HOUR_S, "calibration": {"localMilliseconds": 2_400_000}},
            {"maxCalibrationAge": "6h"},
            "calibration 9 h old, limit 6 h; a new one takes 40 min",
        ),
        (
            {"calibration": {"twoQubitErrorPpm": 200_000}},
            {"minFidelity": "0.5"},
            "fidelity 0.240, 0.500 needed",
        ),
    ],
)
def test_each_hard_rule_refuses_in_words_that_preemption_cannot_mend(
    device: dict[str, Any], wants: dict[str, Any], reason: str
):
    world = World()
    node = world.device("q", **device)
    world.session("s", **wants)
    answer = world.filter(world.pod("s"))
    assert (answer.nodes, answer.failed, answer.unresolvable) == ([], {}, {node: reason})


def test_a_node_selector_is_a_rule_too():
    world = World()
    world.device("a")
    world.session("s")
    pod = world.pod("s", spec__nodeSelector={"zone": "x"})
    assert world.filter(pod).unresolvable == {"node-a": "node label zone is not set, x needed"}


def test_only_nodes_that_were_asked_about_are_named():
    world = World()
    for name in "abc":
        world.device(name, state="Down" if name == "b" else "Ready")
    world.session("s")
    answer = world.filter(world.pod("s"), "node-b", "node-c", "elsewhere")
    assert answer.nodes == ["node-c"]
    assert answer.unresolvable == {"node-b": "down", "elsewhere": NO_DEVICE}


def test_slots_are_kept_by_the_node_and_counted_only_where_it_offers_too_many():
    world = World()
    world.device("exact", slots=1)
    world.device("short", slots=1, offered=3)
    for name, node in (("x", "node-exact"), ("y", "node-short")):
        world.session(name)
        world.bind(name, node)
    world.session("s")
    answer = world.filter(world.pod("s"))
    # kube-scheduler names node-exact: it must know that the slot has fallen free.
    assert answer.nodes == ["node-exact"]
    assert answer.failed == {"node-short": "all 1 slots taken"}


def test_a_pod_whose_session_is_not_known_yet_waits_and_is_woken():
    world = World()
    world.device("a")
    pod = world.pod("s")
    assert world.filter(pod).unresolvable == {"node-a": "VQASession s is not known yet"}
    assert not world.known.wake_wanted
    world.session("s")
    assert world.known.wake_wanted
    assert world.filter(pod).nodes == ["node-a"]


def test_a_device_that_opens_wakes_refused_pods_and_one_that_only_ages_does_not():
    world = World()
    world.device("a", state="Down")
    world.session("s")
    pod = world.pod("s")
    world.filter(pod)
    world.device("a", state="Down", age_s=5.0)
    assert not world.known.wake_wanted
    world.device("a", state="Ready")
    assert world.known.wake_wanted


def test_better_gets_more_and_equal_gets_equal_points():
    world = World()
    for name, age_s in (("a", 0.0), ("b", 3600.0), ("c", 3600.0), ("d", 7200.0)):
        world.device(name, age_s=age_s)
    world.session("s")
    nodes = ["node-d", "node-c", "node-b", "node-a"]
    assert world.decider.prioritize(world.pod("s"), nodes, NOW_S) == [8, 9, 9, 10]


@pytest.mark.parametrize(("devices", "answered"), [(100, 100), (101, 11), (300, 11)])
def test_of_very_many_open_nodes_the_best_are_answered_and_the_others_refused_by_nobody(
    devices: int, answered: int
):
    world = World()
    waits = {
        world.device(f"d{number:03}", status={"expectedWaitMilliseconds": (37 * number) % devices}): (
            37 * number
        )
        % devices
        for number in range(devices)
    }
    world.session("h2")
    pod = world.pod("h2")
    answer = world.decider.filter_nodes(pod, list(waits), NOW_S)
    assert sorted(answer.nodes, key=waits.__getitem__) == sorted(waits, key=waits.__getitem__)[:answered]
    assert (answer.failed, answer.unresolvable) == ({}, {})
    if answered == 11:
        points = world.decider.prioritize(pod, answer.nodes, NOW_S)
        assert sorted(points) == list(range(11))


def test_a_burst_is_spread_because_pods_on_their_way_count():
    world = World()
    nodes = [world.device(name) for name in "abc"]
    chosen = []
    for number in range(6):
        world.session(f"s{number}")
        pod = world.pod(f"s{number}")
        points = world.decider.prioritize(pod, nodes, NOW_S)
        chosen.append(nodes[points.index(max(points))])
    assert chosen == nodes + nodes


def test_a_prediction_ends_by_the_watch_by_another_try_and_by_time():
    world = World()
    nodes = [world.device(name) for name in "ab"]
    for name in "stu":
        world.session(name)
    world.decider.prioritize(world.pod("s"), nodes, NOW_S)
    assert len(world.known.predictions) == 1
    world.bind("s", "node-b")
    assert len(world.known.predictions) == 0
    report_a, report_b = (world.known.fleet.report(node) for node in nodes)
    assert report_a is not None
    assert report_b is not None
    assert (report_a.view.slots_used, report_b.view.slots_used) == (0, 1)
    again = world.pod("t")
    world.decider.prioritize(again, nodes, NOW_S)
    world.filter(again)
    assert len(world.known.predictions) == 0
    world.decider.prioritize(world.pod("u"), nodes, NOW_S)
    world.known.refresh(NOW_S + 11.0)
    assert len(world.known.predictions) == 0
    assert world.known.waiting["ns"].total() == 2


def test_the_only_node_left_is_expected_to_be_taken_without_being_ranked():
    world = World()
    world.device("a")
    world.session("s")
    world.filter(world.pod("s"))
    assert len(world.known.predictions) == 1


def contended(**weights: float) -> tuple[World, Pod, Pod]:
    """One device with 4 slots; `rich` holds 3 of them, and a pod of each namespace waits."""
    world = World(**weights)
    world.device("only", slots=4)
    for number in range(3):
        world.session(f"r{number}", "rich")
        world.bind(f"r{number}", "node-only", "rich")
    world.session("more", "rich")
    world.session("first", "poor")
    return world, world.pod("more", "rich"), world.pod("first", "poor")


def test_a_pod_leaves_the_last_slot_to_a_namespace_that_was_served_less():
    world, rich, poor = contended()
    answer = world.filter(rich)
    assert answer.failed == {"node-only": "slot kept for namespace poor, which was served less"}
    assert world.filter(poor).nodes == ["node-only"]


def test_nobody_is_held_back_while_there_are_slots_for_all():
    world, rich, _ = contended()
    world.device("second", slots=4)
    assert world.filter(rich).nodes == ["node-only", "node-second"]


def test_a_weight_lets_a_namespace_have_more():
    world, rich, _ = contended(rich=100.0)
    world.bind("other", "node-only", "poor")
    assert world.filter(rich).nodes == ["node-only"]


def test_past_use_counts_as_well_as_what_is_held():
    world = World()
    world.device("only", slots=1)
    usage = {"usage": {"qpuMilliseconds": 600_000, "cpuMilliseconds": 0}}
    world.session("before", "heavy", status=usage)
    world.session("h", "heavy")
    world.session("l", "light")
    heavy, light = world.pod("h", "heavy"), world.pod("l", "light")
    assert world.filter(heavy).failed == {"node-only": "slot kept for namespace light, which was served less"}
    assert world.filter(light).nodes == ["node-only"]


def test_a_gated_pod_keeps_nobody_waiting():
    world, rich, _ = contended()
    world.pod("first", "poor", spec__schedulingGates=[{"name": "efaas.dev/admission"}])
    assert world.filter(rich).nodes == ["node-only"]


def test_a_slot_is_kept_for_a_bounded_time():
    world, rich, _ = contended()
    assert not world.filter(rich, now_s=NOW_S).nodes
    assert world.decider.next_release_s(NOW_S) == NOW_S + 15.0
    assert not world.filter(rich, now_s=NOW_S + 14.0).nodes
    assert world.filter(rich, now_s=NOW_S + 16.0).nodes == ["node-only"]


def test_the_bound_starts_anew_when_one_that_was_ahead_got_its_slot():
    world, rich, _ = contended()
    world.device("second", slots=1)
    for number in range(3):
        world.session(f"p{number}", "poor")
        world.pod(f"p{number}", "poor")
    assert not world.filter(rich, "node-only", now_s=NOW_S).nodes
    world.bind("first", "node-second", "poor", now_s=NOW_S + 10.0)
    assert not world.filter(rich, "node-only", now_s=NOW_S + 20.0).nodes


def test_preemption_is_tried_only_where_the_rules_leave_a_device():
    world = World()
    world.device("a")
    world.device("b", qubits=2)
    world.session("s")
    assert world.decider.preemptable(world.pod("s"), ["node-a", "node-b", "other"], NOW_S) == ["node-a"]


def test_why_lists_every_node_with_every_term():
    world = World()
    world.device("a", age_s=3600.0, status={"expectedWaitMilliseconds": 500})
    world.device("b", qubits=2)
    world.session("s")
    world.pod("s")
    why = world.decider.why("ns/s", NOW_S)
    assert why is not None
    assert [entry["node"] for entry in why["nodes"]] == ["node-a", "node-b"]
    cost = why["nodes"][0]["cost"]
    assert cost["queueSeconds"] == 0.5
    assert cost["ttnsSeconds"] == cost["networkSeconds"] + cost["queueSeconds"] + cost["calibrationSeconds"]
    assert why["nodes"][1]["refused"] == "2 qubits, 4 needed"
    assert world.decider.why("ns/other", NOW_S) is None


def test_a_placed_pod_is_judged_as_if_it_were_not():
    world = World()
    world.device("a")
    world.session("s")
    world.bind("s", "node-a")
    before = world.known.fleet.report("node-a")
    why = world.decider.why("ns/s", NOW_S)
    assert why is not None
    assert why["nodes"][0]["slots"]["used"] == 0
    assert world.known.fleet.report("node-a") == before


def test_an_object_that_is_not_understood_counts_as_gone_and_ends_nothing(caplog: pytest.LogCaptureFixture):
    world = World()
    world.device("a")
    broken = objects.device("a", "node-a", now_s=NOW_S)
    broken["status"]["qubits"] = "many"
    for _ in range(3):
        world.put(Kind.DEVICE, broken)
    assert len(world.known.fleet) == 0
    assert len(caplog.records) == 1
    world.device("a")
    assert len(world.known.fleet) == 1


def test_a_list_removes_what_it_does_not_hold():
    world = World()
    for name in "ab":
        world.device(name)
    for name in "st":
        world.session(name)
        world.bind(name, "node-a")
    world.known.replace(Kind.DEVICE, [objects.device("b", "node-b", now_s=NOW_S)], NOW_S)
    assert sorted(world.known.fleet.rows) == ["node-b"]
    world.known.replace(Kind.POD, [], NOW_S)
    assert world.known.standings.holding() == []


def test_ageing_alone_makes_a_device_stale():
    world = World()
    world.device("a", age_s=5 * HOUR_S, calibration={"onNeed": False})
    world.session("s", maxCalibrationAge="6h")
    pod = world.pod("s")
    assert world.filter(pod, now_s=NOW_S).nodes == ["node-a"]
    assert world.filter(pod, now_s=NOW_S + 4 * HOUR_S).unresolvable == {
        "node-a": "calibration 9 h old, limit 6 h"
    }


def test_the_recorded_pod_is_decided_on():
    world = World()
    world.device("a")
    request = json.loads((Path(__file__).with_name("data") / "filter-request.json").read_text())
    pod = Pod.model_validate(request["Pod"])
    world.session("low-a", "default")
    assert world.filter(pod).nodes == ["node-a"]
