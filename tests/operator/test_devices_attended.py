"""Devices as the operator keeps them: real QPU servers on played nodes, a real API server, the real thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from efaas_operator.settings import DRAIN_ANNOTATION, FINALIZER, FORCE_DELETE_ANNOTATION

from efaas.api.names import CALIBRATION_EPOCH_ANNOTATION, QPU_LABEL, SESSION_RESOURCE
from efaas.devices import load_snapshot, snapshot_to_json
from tests.support.cluster import wait_until
from tests.support.operating import DEVICES, SYSTEM, Operating
from tests.support.rest import Document

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

PODS = f"/api/v1/namespaces/{SYSTEM}/pods"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operating]:
    with Operating(tmp_path_factory.mktemp("devices"), nodes=2, gateway=False) as world:
        # One replica, which on a crowded machine must not lose its Lease.
        pace = {"fullPass": "15s", "progressInterval": "2s", "positionInterval": "1s"}
        world.start_operator(election={"duration": "60s", "renew": "2s"}, pace=pace)
        yield world


def until(what: str, look: Callable[[], Any]) -> Any:
    return wait_until(what, look, within_s=60)


def condition(device: Document, type_: str = "Ready") -> Document:
    found = [each for each in (device.get("status") or {}).get("conditions", ()) if each["type"] == type_]
    return found[0] if found else {}


def wait_for_reason(world: Operating, name: str, reason: str, type_: str = "Ready") -> Document:
    def look() -> Document | None:
        device = world.api.get(f"{DEVICES}/{name}")
        return device if condition(device, type_).get("reason") == reason else None

    found: Document = until(f"{type_} of {name} because {reason}", look)
    return found


def node(world: Operating, name: str) -> Document:
    return world.api.get(f"/api/v1/nodes/{name}")


def slots(world: Operating, name: str) -> str | None:
    found: str | None = node(world, name)["status"]["allocatable"].get(SESSION_RESOURCE)
    return found


def remove(world: Operating, name: str) -> None:
    world.api.delete(f"{DEVICES}/{name}")
    until(f"{name} gone", lambda: world.api.find(f"{DEVICES}/{name}") is None)
    until(f"pod of {name} gone", lambda: world.api.find(f"{PODS}/qpu-{name}") is None)


def test_a_device_gets_a_server_a_node_and_a_status(world: Operating):
    world.add_device("manila", slots=3)
    device = world.wait_for_device("manila")
    status = device["status"]
    assert FINALIZER in device["metadata"]["finalizers"]
    assert (status["qubits"], status["endpoint"]) == (5, f"qpu-manila.{SYSTEM}.svc:8470")
    assert status["calibration"]["epoch"] == 1
    assert status["calibration"]["twoQubitErrorPpm"] > 0
    assert condition(device)["status"] == condition(device, "Calibrated")["status"] == "True"
    where = status["node"]
    pod = world.api.get(f"{PODS}/qpu-manila")
    assert pod["spec"]["nodeName"] == where
    until("slots", lambda: slots(world, where) == "3")
    kept = until(
        "news on the node",
        lambda: node(world, where)["metadata"].get("annotations", {}).get(CALIBRATION_EPOCH_ANNOTATION),
    )
    until(
        "the taint",
        lambda: {"key": QPU_LABEL, "effect": "NoSchedule"} in node(world, where)["spec"]["taints"],
    )

    # A kubelet that was started anew has forgotten the slots; other slots need another server.
    world.kubelet.restart(where)
    until("slots again", lambda: slots(world, where) == "3")
    world.api.patch(f"{DEVICES}/manila", {"spec": {"slots": 5, "cordon": True}})
    until("more slots", lambda: slots(world, where) == "5")
    until(
        "news of the cordon",
        lambda: node(world, where)["metadata"]["annotations"][CALIBRATION_EPOCH_ANNOTATION] != kept,
    )
    until(
        "a new server",
        lambda: world.api.get(f"{PODS}/qpu-manila")["metadata"]["uid"] != pod["metadata"]["uid"],
    )
    world.wait_for_device("manila")

    # A pod that is lost is made anew, with the log where it was.
    uid = world.api.get(f"{PODS}/qpu-manila")["metadata"]["uid"]
    world.api.delete(f"{PODS}/qpu-manila", gracePeriodSeconds=0)
    until(
        "the pod again",
        lambda: (
            (world.api.find(f"{PODS}/qpu-manila") or {"metadata": {"uid": uid}})["metadata"]["uid"] != uid
        ),
    )
    world.wait_for_device("manila")
    remove(world, "manila")
    until("a free node", lambda: slots(world, where) is None)
    until(
        "no taint",
        lambda: not any(t["key"] == QPU_LABEL for t in node(world, where)["spec"].get("taints", ())),
    )


def test_what_is_wrong_is_told_and_repair_is_noticed(world: Operating):
    model = {"configMap": {"name": "mine", "key": "device.json"}}
    document = {
        "apiVersion": "efaas.dev/v1alpha1",
        "kind": "QPUDevice",
        "metadata": {"name": "own"},
        "spec": {"model": model, "node": "node-0"},
    }
    world.api.create(DEVICES, document)
    missing = wait_for_reason(world, "own", "ModelMissing")
    assert f"no ConfigMap {SYSTEM}/mine" in condition(missing)["message"]
    maps = f"/api/v1/namespaces/{SYSTEM}/configmaps"
    world.api.create(maps, {"metadata": {"name": "mine"}, "data": {"other": "{}"}})
    until(
        "word of the key",
        lambda: "no key device.json" in condition(world.api.get(f"{DEVICES}/own"))["message"],
    )
    world.api.patch(f"{maps}/mine", {"data": {"device.json": "{}"}})
    failed = wait_for_reason(world, "own", "ServerFailed")
    assert "device.json" in condition(failed)["message"] or "model" in condition(failed)["message"]
    assert failed["status"]["state"] == "Down"
    snapshot = snapshot_to_json(load_snapshot("manila-5"))
    world.api.patch(f"{maps}/mine", {"data": {"device.json": snapshot}})
    world.wait_for_device("own")

    document["metadata"], document["spec"] = {"name": "second"}, {"model": model, "node": "node-0"}
    world.api.create(DEVICES, document)
    taken = wait_for_reason(world, "second", "NodeTaken")
    assert "device own already" in condition(taken)["message"]
    world.api.patch(f"{DEVICES}/second", {"spec": {"node": "nowhere"}})
    wait_for_reason(world, "second", "NodeNotFound")
    world.api.patch(f"{DEVICES}/second", {"spec": {"node": None}})
    until(
        "a free node for the second",
        lambda: world.api.get(f"{DEVICES}/second")["status"].get("node") == "node-1",
    )
    world.add_device("third")
    none = wait_for_reason(world, "third", "NoNode")
    assert condition(none)["message"].startswith("all 2 nodes")
    assert none["status"]["state"] == "Pending"
    for name in ("third", "second", "own"):
        remove(world, name)


def test_a_calibration_is_asked_for_once(world: Operating):
    world.add_device("drifting", calibration={"drift": "Model", "interval": "12h", "duration": "1s"})
    world.wait_for_device("drifting")
    path = f"{DEVICES}/drifting"
    uid = world.api.get(f"{PODS}/qpu-drifting")["metadata"]["uid"]
    world.api.patch(path, {"spec": {"calibration": {"requestedAt": "2026-01-31T09:30:00Z"}}})

    def calibrated() -> Document | None:
        found = world.api.get(path)["status"]["calibration"]
        return found if found["epoch"] == 2 else None

    calibration = until("epoch 2", calibrated)
    assert calibration["requestPassedOn"] == "2026-01-31T09:30:00Z"
    # Another change of the document does not bring another one, and no other server.
    world.api.patch(path, {"spec": {"cordon": True}})
    until("the cordon", lambda: world.api.get(path)["status"]["observedGeneration"] == 3)
    assert world.api.get(path)["status"]["calibration"]["epoch"] == 2
    assert world.api.get(f"{PODS}/qpu-drifting")["metadata"]["uid"] == uid
    remove(world, "drifting")


def test_sessions_leave_a_device_that_is_drained_or_forced_to_go(world: Operating):
    world.add_device("one", slots=1)
    world.wait_for_device("one")
    long = world.light(evaluations=10_000, think_s=0.2)
    world.submit("chemistry", "long", long)
    world.wait_for_state("chemistry", "long", "Running")
    path = "/apis/efaas.dev/v1alpha1/namespaces/chemistry/vqasessions/long"
    until("charges", lambda: ((world.api.get(path)["status"].get("usage")) or {}).get("shots", 0) > 0)

    # While it is there the device stays; there is room elsewhere, so it goes there when it is told to.
    world.add_device("two", slots=1)
    world.wait_for_device("two")
    world.api.delete(f"{DEVICES}/one")
    waits = wait_for_reason(world, "one", "Draining")
    assert "chemistry/long" in condition(waits)["message"]
    assert waits["status"]["state"] == "Draining"
    assert world.api.get(path)["status"]["device"] == "one"
    world.api.patch(f"{DEVICES}/one", {"metadata": {"annotations": {FORCE_DELETE_ANNOTATION: "true"}}})
    until("the device gone", lambda: world.api.find(f"{DEVICES}/one") is None)

    def moved(device: str) -> Callable[[], Any]:
        def look() -> Any:
            status = world.api.get(path)["status"]
            return status if (status.get("device"), status["state"]) == (device, "Running") else None

        return look

    before = until("the session on two", moved("two"))["runner"]["leaseEpoch"]
    assert before >= 2

    world.add_device("three", slots=1)
    world.wait_for_device("three")
    world.api.patch(f"{DEVICES}/two", {"metadata": {"annotations": {DRAIN_ANNOTATION: "new fridge"}}})
    until("the session on three", moved("three"))
    drained = wait_for_reason(world, "two", "Draining")
    assert "new fridge" in condition(drained)["message"]
    world.api.patch(f"{DEVICES}/two", {"metadata": {"annotations": {DRAIN_ANNOTATION: None}}})
    world.wait_for_device("two")
    world.api.delete(path)
    until("the session gone", lambda: world.api.find(path) is None)
    remove(world, "two")
    remove(world, "three")


def test_sessions_of_a_silent_node_go_elsewhere_and_its_device_comes_back_with_it(world: Operating):
    world.add_device("lost", slots=1)
    where = world.wait_for_device("lost")["status"]["node"]
    world.submit("physics", "steady", world.light(evaluations=10_000, think_s=0.2))
    world.wait_for_state("physics", "steady", "Running")
    world.add_device("safe", slots=1)
    world.wait_for_device("safe")
    path = "/apis/efaas.dev/v1alpha1/namespaces/physics/vqasessions/steady"
    runner = world.api.get(path)["status"]["runner"]
    world.kubelet.silence(where)

    def elsewhere() -> Any:
        status = world.api.get(path)["status"]
        return status if (status.get("device"), status["state"]) == ("safe", "Running") else None

    status = wait_until("the session elsewhere", elsewhere, within_s=90)
    assert status["runner"]["leaseEpoch"] > runner["leaseEpoch"]
    lost = wait_for_reason(world, "lost", "NodeLost")
    assert lost["status"]["state"] == "Down"
    assert f"node {where}" in condition(lost)["message"]
    world.kubelet.restore(where)
    world.wait_for_device("lost")
    world.api.delete(path)
    until("the session gone", lambda: world.api.find(path) is None)
    remove(world, "lost")
    remove(world, "safe")
