"""What people get wrong: each mistake soon has a reason of its own, and mending it needs no restart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from efaas.devices import load_snapshot
from efaas.devices.document import snapshot_to_json
from tests.support.cluster import ApiError, wait_until
from tests.support.kubelet import Image
from tests.support.operating import DEVICES, SYSTEM, Operating, sessions_path

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

SOON_S = 30.0
"""A person looks this long before asking somebody."""
TEAM = "chemistry"
FAILS = "import sys\nprint('no convergence today', file=sys.stderr)\nsys.exit(1)\n"
WORKS = "print('all is well')\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operating]:
    with Operating(tmp_path_factory.mktemp("bad-input"), tenants=[TEAM]) as world:
        world.start_operator()
        world.add_device("good", slots=8, simulation={"noise": "None"})
        world.wait_for_device("good", within_s=120)
        yield world


def program(config_map: str) -> dict[str, Any]:
    script = {"name": config_map, "key": "program.py"}
    return {"program": {"script": script}, "device": {"qubits": 2}, "shots": 100, "seed": 1}


def put_script(world: Operating, name: str, text: str) -> None:
    path = f"/api/v1/namespaces/{TEAM}/configmaps"
    document = {"metadata": {"name": name}, "data": {"program.py": text}}
    if world.api.find(f"{path}/{name}") is None:
        world.api.create(path, document)
    else:
        world.api.patch(f"{path}/{name}", {"data": document["data"]})


def reason_of(world: Operating, name: str, reason: str) -> str:
    """Wait until the first condition that does not hold gives this reason; returns its message."""

    def look() -> str | None:
        status = (world.session(TEAM, name) or {}).get("status") or {}
        for condition in status.get("conditions") or ():
            if condition["reason"] == reason:
                return condition["message"] or "no message"
        return None

    words: str = wait_until(f"reason {reason} of {name}", look, within_s=SOON_S)
    return words


def test_an_unknown_molecule_is_refused_when_it_is_applied(world: Operating):
    with pytest.raises(ApiError) as refused:
        world.submit(TEAM, "h5", world.declared(problem={"molecule": {"name": "H5", "qubits": 4}}))
    assert refused.value.status == 422
    assert "H2" in str(refused.value), "it says which there are"
    world.submit(TEAM, "h5", world.declared(problem={"molecule": {"name": "H2", "qubits": 2}}))
    world.wait_for_state(TEAM, "h5", "Completed", within_s=90)


def test_a_program_that_fails_says_why_and_runs_once_it_is_mended(world: Operating):
    put_script(world, "fails", FAILS)
    world.submit(TEAM, "fails", program("fails"))
    world.wait_for_state(TEAM, "fails", "Failed", within_s=SOON_S)
    assert "no convergence today" in reason_of(world, "fails", "RunnerFailed")
    world.api.delete(f"{sessions_path(TEAM)}/fails")
    wait_until("session to be gone", lambda: world.session(TEAM, "fails") is None)
    put_script(world, "fails", WORKS)
    world.submit(TEAM, "fails", program("fails"))
    world.wait_for_state(TEAM, "fails", "Completed")


def test_an_image_that_cannot_be_pulled_runs_once_it_can(world: Operating):
    world.submit(TEAM, "unpulled", {**program("x"), "program": {"image": "registry.invalid/team/vqe:1"}})
    words = reason_of(world, "unpulled", "ImagePullBackOff")
    assert "registry.invalid/team/vqe:1" in words
    world.kubelet.images["registry.invalid/team/vqe:1"] = Image(["python", "-c", "print('here')"])
    world.wait_for_state(TEAM, "unpulled", "Completed")


def test_a_script_that_is_missing_takes_no_slot_and_runs_once_it_is_there(world: Operating):
    world.submit(TEAM, "scriptless", program("absent"))
    assert "ConfigMap absent" in reason_of(world, "scriptless", "ConfigMapMissing")
    assert world.session(TEAM, "scriptless")["status"]["state"] == "Pending"
    put_script(world, "absent", WORKS)
    world.wait_for_state(TEAM, "scriptless", "Completed")


def test_a_device_that_never_gets_ready_says_why_and_serves_once_it_is_mended(world: Operating):
    config_maps = f"/api/v1/namespaces/{SYSTEM}/configmaps"
    model = {"metadata": {"name": "model"}, "data": {"device.json": '{"name": "nonsense"}'}}
    world.api.create(config_maps, model)
    document = {
        "apiVersion": "efaas.dev/v1alpha1",
        "kind": "QPUDevice",
        "metadata": {"name": "broken"},
        "spec": {"model": {"configMap": {"name": "model", "key": "device.json"}}},
    }
    world.api.create(DEVICES, document)

    def ready() -> dict[str, str]:
        conditions = (world.api.get(f"{DEVICES}/broken").get("status") or {}).get("conditions") or ()
        return next((each for each in conditions if each["type"] == "Ready"), {})

    wait_until("ServerFailed", lambda: ready().get("reason") == "ServerFailed", within_s=SOON_S)
    assert "spec.model.configMap" in ready()["message"], ready()
    wants = {"device": {"matchLabels": {"efaas.dev/device": "broken"}, "qubits": 2}}
    world.submit(TEAM, "waits", world.light(1) | wants)
    words = reason_of(world, "waits", "NoDeviceReady")
    assert "broken" in words
    good = snapshot_to_json(load_snapshot("manila-5"))
    world.api.patch(f"{config_maps}/model", {"data": {"device.json": good}})
    world.wait_for_device("broken", within_s=90)
    world.wait_for_state(TEAM, "waits", "Completed")
