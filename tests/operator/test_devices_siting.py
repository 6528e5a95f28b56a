"""Which node each device gets, and what nodes are told: rules, for any devices and nodes."""

from __future__ import annotations

from typing import Any

import pytest
from efaas_operator.leaving import why_closed, why_leave
from efaas_operator.siting import capacity_change, news_of, node_change, site_devices
from efaas_operator.targets import targets
from hypothesis import given
from hypothesis import strategies as st

from efaas.api.names import CALIBRATION_EPOCH_ANNOTATION, QPU_LABEL, SESSION_RESOURCE

READY = [{"type": "Ready", "status": "True"}]


def device(name: str, *, node: str | None = None, at: str = "", age: int = 0, **spec: Any) -> dict[str, Any]:
    return {
        "kind": "QPUDevice",
        "metadata": {"name": name, "creationTimestamp": f"2026-01-{age + 1:02}T00:00:00Z"},
        "spec": {"model": {"snapshot": "manila-5"}, **({"node": node} if node else {}), **spec},
        "status": {"node": at, "endpoint": f"{name}:1", "state": "Ready"} if at else {},
    }


def node(name: str, *, labelled: bool = True, ready: str = "True", **more: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "resourceVersion": "7",
            "labels": {QPU_LABEL: ""} if labelled else {},
            **more.pop("metadata", {}),
        },
        "spec": more.pop("spec", {}),
        "status": {"conditions": [{"type": "Ready", "status": ready}], **more.pop("status", {})},
    }


names = st.sampled_from(["a", "b", "c", "d"])
fleets = st.lists(
    st.builds(
        device,
        st.sampled_from("pqrst"),
        node=st.none() | names,
        at=st.just("") | names,
        age=st.integers(0, 3),
    ),
    max_size=5,
    unique_by=lambda each: each["metadata"]["name"],
)
grounds = st.lists(
    st.builds(node, names, labelled=st.booleans(), ready=st.sampled_from(["True", "False", "Unknown"])),
    max_size=4,
    unique_by=lambda each: each["metadata"]["name"],
)


@given(fleets, grounds)
def test_no_node_has_two_devices_and_nobody_moves_without_need(fleet, ground):
    sites = site_devices(fleet, ground)
    assert set(sites) == {each["metadata"]["name"] for each in fleet}
    given_nodes = [site.node for site in sites.values() if site.node]
    assert len(given_nodes) == len(set(given_nodes))
    there = {each["metadata"]["name"] for each in ground}
    assert set(given_nodes) <= there
    for each in fleet:
        site = sites[each["metadata"]["name"]]
        assert bool(site.node) != bool(site.reason and site.message)
        if each["spec"].get("node"):
            assert site.node in ("", each["spec"]["node"])
    # Once every device is where it was sent, they stay, whatever the order of the list.
    settled = [each | {"status": {"node": sites[each["metadata"]["name"]].node}} for each in fleet]
    assert site_devices(reversed(settled), ground) == sites


@given(fleets, grounds)
def test_no_labelled_ready_node_is_left_while_a_device_waits_for_one(fleet, ground):
    sites = site_devices(fleet, ground)
    used = {site.node for site in sites.values()}
    free = [
        each
        for each in ground
        if each["metadata"]["labels"]
        and each["status"]["conditions"] == READY
        and each["metadata"]["name"] not in used
    ]
    assert not free or not any(site.reason == "NoNode" for site in sites.values())


@pytest.mark.parametrize(
    ("fleet", "reason", "words"),
    [
        ([device("new", node="gone")], "NodeNotFound", "there is no node gone"),
        ([device("new", node="a"), device("other", node="a")], "NodeTaken", "has device new already"),
        ([device("new"), device("other", at="b"), device("more", at="a")], "NoNode", "all 2 nodes"),
    ],
)
def test_a_device_without_a_node_is_told_what_to_do(fleet, reason, words):
    sites = site_devices(fleet, [node("a"), node("b"), node("c", labelled=False)])
    [site] = [site for site in sites.values() if site.reason]
    assert site.reason == reason
    assert words in site.message


def test_no_label_at_all_is_told_apart():
    assert (
        "no node has the label" in site_devices([device("new")], [node("a", labelled=False)])["new"].message
    )


def test_a_node_is_given_slots_taint_and_news_and_only_what_is_missing():
    bare = node("a", spec={"taints": [{"key": "other", "effect": "NoExecute"}]})
    assert capacity_change(bare, 4) == {
        "status": {part: {SESSION_RESOURCE: "4"} for part in ("capacity", "allocatable")}
    }
    change = node_change(bare, "1, Ready")
    assert change == {
        "metadata": {"resourceVersion": "7", "annotations": {CALIBRATION_EPOCH_ANNOTATION: "1, Ready"}},
        "spec": {"taints": [*bare["spec"]["taints"], {"key": QPU_LABEL, "effect": "NoSchedule"}]},
    }
    kept = node(
        "a",
        spec=change["spec"],
        metadata={"annotations": change["metadata"]["annotations"]},
        status={part: {SESSION_RESOURCE: "4"} for part in ("capacity", "allocatable")},
    )
    assert capacity_change(kept, 4) is None
    assert node_change(kept, "1, Ready") is None
    assert node_change(kept, "2, Ready") == {
        "metadata": {"annotations": {CALIBRATION_EPOCH_ANNOTATION: "2, Ready"}}
    }
    zeroed = node("a", status={"capacity": {SESSION_RESOURCE: "0"}, "allocatable": {SESSION_RESOURCE: "4"}})
    assert capacity_change(zeroed, 4) == {"status": {"capacity": {SESSION_RESOURCE: "4"}}}
    freed = node_change(kept, None)
    assert freed is not None
    assert freed["spec"] == bare["spec"]
    assert freed["metadata"]["annotations"] == {CALIBRATION_EPOCH_ANNOTATION: None}
    assert capacity_change(kept, None) == {
        "status": {part: {SESSION_RESOURCE: None} for part in ("capacity", "allocatable")}
    }
    assert node_change(bare, None) is None


@pytest.mark.parametrize(
    "change",
    [{"spec": {"slots": 3}}, {"spec": {"cordon": True}}, {"status": {"state": "Calibrating"}}],
)
def test_news_change_with_what_may_let_a_pod_in(change):
    before = device("q", at="a")
    after = {**before, **{key: {**before[key], **value} for key, value in change.items()}}
    assert news_of(before, before["status"]) != news_of(after, after["status"])
    assert news_of(before, {**before["status"], "queueDepth": 9}) == news_of(before, before["status"])


def test_a_session_is_told_of_its_own_device_then_of_twins_then_of_others():
    noisy = {"simulation": {"noise": "None"}}
    fleet = [
        device("a", at="1", **noisy),
        device("own", at="2"),
        device("twin", at="3"),
        device("down", at="4") | {"status": {"endpoint": "down:1", "state": "Down"}},
        device("drifts", at="5", calibration={"drift": "Model"}),
        device("new"),
    ]
    told = targets(fleet, "own")
    assert [each["device"] for each in told] == ["own", "twin", "a", "drifts"]
    assert told[0]["twins"] == told[1]["twins"] != told[2]["twins"]
    assert "twins" not in told[3]
    assert targets(fleet, "new") == targets(fleet, "unknown") == []
    many = [device(f"d{number:02}", at=f"n{number}") for number in range(20)]
    assert len(targets(many, "d07")) == 8
    assert targets(many, "d07")[0]["device"] == "d07"


def test_who_is_drained_or_forced_to_go_is_left_and_who_only_goes_waits():
    calm = device("q", at="a")
    assert why_leave(calm) == why_closed(calm, ["ns/s"]) == ""
    going = {**calm, "metadata": {"name": "q", "deletionTimestamp": "now"}}
    assert why_leave(going) == ""
    assert "ns/s" in why_closed(going, ["ns/s"])
    assert "efaas.dev/force-delete=true" in why_closed(going, ["ns/s"])
    forced = {**going, "metadata": {**going["metadata"], "annotations": {"efaas.dev/force-delete": "true"}}}
    assert why_leave(forced) == "the device q is being deleted"
    drained = {**calm, "metadata": {"name": "q", "annotations": {"efaas.dev/drain": "new fridge"}}}
    assert why_leave(drained) == "the device q is drained: new fridge"
