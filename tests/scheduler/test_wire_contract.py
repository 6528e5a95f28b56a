"""The messages are those that kube-scheduler sends and reads, to the letter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from efaas_scheduler.wire import (
    ExtenderArgs,
    ExtenderBindingArgs,
    ExtenderFilterResult,
    ExtenderPreemptionArgs,
    ExtenderPreemptionResult,
    HostPriority,
    MetaPod,
    MetaVictims,
)
from pydantic import BaseModel, ValidationError

RECORDED = Path(__file__).with_name("data")


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("filter-request", ExtenderArgs),
        ("filter-request-full-nodes", ExtenderArgs),
        ("prioritize-request", ExtenderArgs),
        ("prioritize-request-full-nodes", ExtenderArgs),
        ("preempt-request", ExtenderPreemptionArgs),
        ("preempt-request-full-nodes", ExtenderPreemptionArgs),
    ],
)
def test_a_recorded_request_comes_back_as_it_was(name: str, model: type[BaseModel]):
    text = (RECORDED / f"{name}.json").read_text()
    read = model.model_validate_json(text)
    assert json.loads(read.model_dump_json(by_alias=True, exclude_unset=True)) == json.loads(text)


def test_nothing_is_left_out_of_an_answer():
    result = ExtenderFilterResult(
        node_names=["qpu-a"], failed_and_unresolvable_nodes={"qpu-b": "calibration 9 h old, limit 6 h"}
    )
    assert json.loads(result.model_dump_json(by_alias=True)) == {
        "Nodes": None,
        "NodeNames": ["qpu-a"],
        "FailedNodes": {},
        "FailedAndUnresolvableNodes": {"qpu-b": "calibration 9 h old, limit 6 h"},
        "Error": "",
    }


def test_the_odd_names_are_as_go_writes_them():
    victims = MetaVictims(pods=[MetaPod(uid="u")], num_pdb_violations=2)
    result = ExtenderPreemptionResult(node_name_to_meta_victims={"n": victims})
    assert json.loads(result.model_dump_json(by_alias=True)) == {
        "NodeNameToMetaVictims": {"n": {"Pods": [{"UID": "u"}], "NumPDBViolations": 2}}
    }
    binding = {"PodName": "p", "PodNamespace": "n", "PodUID": "u", "Node": "node"}
    assert ExtenderBindingArgs.model_validate(binding).model_dump(by_alias=True) == binding


@pytest.mark.parametrize("score", [-1, 11])
def test_points_outside_0_to_10_are_refused(score: int):
    with pytest.raises(ValidationError):
        HostPriority(host="n", score=score)


def test_names_come_from_either_form():
    for name in ("filter-request", "filter-request-full-nodes"):
        args = ExtenderArgs.model_validate_json((RECORDED / f"{name}.json").read_text())
        assert sorted(args.names()) == ["node-a", "node-b"]


def test_a_later_kube_scheduler_may_add_keys():
    document = json.loads((RECORDED / "filter-request.json").read_text()) | {"Reason": "new"}
    assert ExtenderArgs.model_validate(document).pod.metadata.name == "low-a"


def test_victims_in_full_and_by_identity_are_the_same():
    full = ExtenderPreemptionArgs.model_validate_json(
        (RECORDED / "preempt-request-full-nodes.json").read_text()
    )
    by_identity = ExtenderPreemptionArgs.model_validate_json((RECORDED / "preempt-request.json").read_text())
    for args in (full, by_identity):
        for victims in args.victims().values():
            assert [bool(pod.uid) for pod in victims.pods or ()] == [True]
