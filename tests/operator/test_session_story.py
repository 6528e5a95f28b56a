"""A session's story at a real API server, its pods' statuses written by the test."""

from __future__ import annotations

import time

import pytest

from tests.operator.conftest import RESULT, Played, container
from tests.support import objects
from tests.support.cluster import Process, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def conditions(status):
    return {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}


def test_crashes_are_tried_again_with_a_new_epoch_and_bad_input_is_not(
    played: Played, shared_operator: Process
):
    played.add_device("perth")
    played.submit("h2")
    played.bind("h2", "perth")
    played.run("h2")
    played.wait_for_state("h2", "Running")
    played.end("h2", code=137, message="killed")
    waits = played.wait_for_reason("h2", "RunnerDied")
    assert waits["state"] == "Pending"
    assert "try 2 of 6 in 10 s" in waits["reason"]
    second = wait_until("second runner", lambda: played.pod("h2", 2))
    assert second["metadata"]["annotations"]["efaas.dev/lease-epoch"] == "2"
    played.bind("h2", "perth", 2)
    played.run("h2", 2)
    status = played.wait_for_state("h2", "Running")
    assert status["runner"]["leaseEpoch"] == 2
    assert status["runner"]["restarts"] == 1
    played.end("h2", 2, code=2, message='{"status": "Failed", "reason": "there is no molecule h5"}')
    failed = played.wait_for_state("h2", "Failed")
    assert failed["reason"] == "BadInput: there is no molecule h5"


def test_a_limit_that_the_runner_found_ends_it_as_expired(played: Played, shared_operator: Process):
    played.add_device("perth")
    played.submit("h2")
    played.bind("h2", "perth")
    played.run("h2")
    played.end("h2", code=3, message='{"status": "Expired", "reason": "spec.limits.shots is 250"}')
    assert played.wait_for_state("h2", "Expired")["reason"] == "LimitReached: spec.limits.shots is 250"


def test_a_pod_that_its_node_refused_is_made_anew_at_once(played: Played, shared_operator: Process):
    played.add_device("perth")
    played.submit("h2")
    played.bind("h2", "perth")
    played.set_pod("h2", phase="Failed", reason="OutOfefaas.dev/session", message="Node didn't have enough")
    assert wait_until("next runner", lambda: played.pod("h2", 2))
    played.bind("h2", "perth", 2)
    played.assignment("h2", 2)


def test_suspension_stops_the_runner_and_resuming_makes_the_next(played: Played, shared_operator: Process):
    played.add_device("perth")
    played.submit("h2")
    played.bind("h2", "perth")
    played.run("h2")
    played.wait_for_state("h2", "Running")
    played.api.patch(f"{played.sessions}/h2", {"spec": {"suspend": True}})
    played.wait_for_state("h2", "Suspended")
    played.collect_deleted("h2")
    played.api.patch(f"{played.sessions}/h2", {"spec": {"suspend": False}})
    played.bind("h2", "perth", 2)
    played.run("h2", 2)
    assert played.wait_for_state("h2", "Running")["runner"]["leaseEpoch"] == 2


def test_deletion_ends_the_runner_first(played: Played, shared_operator: Process):
    played.add_device("perth")
    played.submit("h2")
    played.bind("h2", "perth")
    played.run("h2")
    played.wait_for_state("h2", "Running")
    played.api.delete(f"{played.sessions}/h2")
    wait_until("runner asked to end", lambda: played.pod("h2")["metadata"].get("deletionTimestamp"))
    assert played.api.find(f"{played.sessions}/h2") is not None
    played.collect_deleted("h2")
    wait_until("session gone", lambda: played.api.find(f"{played.sessions}/h2") is None)


def test_time_to_live_deletes_what_is_over(played: Played, shared_operator: Process):
    played.add_device("perth")
    played.submit("h2", ttlSecondsAfterFinished=1)
    played.bind("h2", "perth")
    played.run("h2")
    played.end("h2", message=RESULT)
    wait_until("session gone", lambda: played.api.find(f"{played.sessions}/h2") is None)


def test_a_silent_node_s_session_goes_elsewhere_under_a_new_epoch(played: Played, shared_operator: Process):
    played.add_device("perth")
    played.add_device("lagos")
    played.submit("h2")
    played.bind("h2", "perth")
    played.run("h2")
    played.wait_for_state("h2", "Running")
    unknown = {
        "type": "Ready",
        "status": "Unknown",
        "reason": "NodeStatusUnknown",
        "message": "Kubelet stopped posting node status.",
        "lastHeartbeatTime": objects.rfc3339(time.time()),
        "lastTransitionTime": objects.rfc3339(time.time()),
    }
    played.api.patch("/api/v1/nodes/node-perth/status", {"status": {"conditions": [unknown]}})
    played.bind("h2", "lagos", 2)
    played.run("h2", 2)
    status = played.wait_for_state("h2", "Running")
    assert (status["device"], status["runner"]["leaseEpoch"]) == ("lagos", 2)
    assert played.pod("h2") is None, "its pod was forced away after it was fenced off"
    assert "RunnerLost" in played.events("h2")
    played.api.patch(
        "/api/v1/nodes/node-perth/status", {"status": {"conditions": [unknown | {"status": "True"}]}}
    )


def test_a_drained_device_s_sessions_move(played: Played, shared_operator: Process):
    played.add_device("perth")
    played.add_device("lagos")
    played.submit("h2")
    played.bind("h2", "perth")
    played.run("h2")
    played.wait_for_state("h2", "Running")
    played.set_device("perth", state="Draining")
    played.collect_deleted("h2")
    played.bind("h2", "lagos", 2)
    played.run("h2", 2)
    status = played.wait_for_state("h2", "Running")
    assert status["device"] == "lagos"
    assert "Moving" in played.events("h2")


def test_what_no_device_can_take_is_told_and_taken_when_one_appears(played: Played, shared_operator: Process):
    played.add_device("perth", qubits=2)
    played.submit("h2")
    told = played.wait_for_reason("h2", "NoDeviceFits")
    assert "1 device: 2 qubits, 4 needed (perth)" in told["reason"]
    assert conditions(told)["Admitted"] == ("False", "NoDeviceFits")
    played.add_device("lagos", qubits=7)
    played.released("h2")


def test_a_device_that_never_becomes_ready_is_told(played: Played, shared_operator: Process):
    played.add_device("perth", state="Down")
    played.submit("h2")
    assert "down (perth)" in played.wait_for_reason("h2", "NoDeviceReady")["reason"]


def test_never_more_are_released_than_there_are_slots_and_the_next_follows(
    played: Played, shared_operator: Process
):
    played.add_device("perth", slots=1)
    played.submit("first")
    played.bind("first", "perth")
    played.submit("second")
    waits = played.wait_for_reason("second", "WaitingForSlot")
    assert waits["queue"]["position"] == 0
    assert played.pod("second")["spec"]["schedulingGates"]
    played.run("first")
    played.end("first", message=RESULT)
    played.released("second")


def test_a_script_that_is_missing_is_told_and_noticed_when_it_is_there(
    played: Played, shared_operator: Process
):
    played.add_device("perth")
    document = objects.session("vqe", played.namespace)
    document["spec"] = {
        "program": {"script": {"name": "scripts", "key": "main.py"}},
        "device": {"qubits": 4},
    }
    played.api.create(played.sessions, document)
    told = played.wait_for_reason("vqe", "ConfigMapMissing")
    assert "scripts, which is not there; create it" in told["reason"]
    config_maps = f"/api/v1/namespaces/{played.namespace}/configmaps"
    played.api.create(config_maps, {"metadata": {"name": "scripts"}, "data": {"other.py": "pass"}})
    wait_until("key missed", lambda: "has no key main.py" in played.status("vqe")["reason"])
    played.api.patch(f"{config_maps}/scripts", {"data": {"main.py": "pass"}})
    played.released("vqe")


def test_an_image_that_cannot_be_pulled_is_told_and_the_repair_noticed(
    played: Played, shared_operator: Process
):
    played.add_device("perth")
    played.submit("h2")
    played.bind("h2", "perth")
    played.assignment("h2")
    waiting = {"reason": "ImagePullBackOff", "message": "efaas/runner:1: not found"}
    played.set_pod("h2", phase="Pending", containerStatuses=[container({"waiting": waiting})])
    told = played.wait_for_reason("h2", "ImagePullBackOff")
    assert "efaas/runner:1: not found" in told["reason"]
    played.run("h2")
    played.wait_for_state("h2", "Running")


def test_a_quota_that_forbids_pods_is_told(played: Played, shared_operator: Process):
    played.add_device("perth")
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    path = f"/api/v1/namespaces/{played.namespace}/resourcequotas"
    played.api.create(path, quota)
    played.api.patch(f"{path}/none/status", {"status": {"hard": {"pods": "0"}, "used": {"pods": "0"}}})
    played.submit("h2")
    assert "quota" in played.wait_for_reason("h2", "PodRefused")["reason"]
    played.api.delete(f"{path}/none")
    played.released("h2")
