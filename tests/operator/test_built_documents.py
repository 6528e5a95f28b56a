"""What the operator makes of documents: YAML in, YAML out, file by file of the same name."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from efaas_operator import build
from efaas_operator.settings import Settings

from efaas.api.names import SESSION_RESOURCE
from efaas.api.status import VQASessionStatus
from efaas.core.admission import Waiting
from efaas.core.session import SessionRecord, SessionState
from efaas.runner.environment import RunnerEnvironment
from tests.support.cluster import ApiError, Cluster

DATA = Path(__file__).resolve().parents[1] / "data" / "operator"
NAMES = sorted(path.name for path in (DATA / "input").glob("*.yaml"))


def settings(**changes: Any) -> Settings:
    return Settings(runner_image="efaas/runner:1", qpu_image="efaas/qpu:1", **changes)


def built(name: str) -> list[dict[str, Any]]:
    given = yaml.safe_load((DATA / "input" / name).read_text())
    before = copy.deepcopy(given)
    chosen = settings(**given.get("settings", {}))
    match given["build"]:
        case "runner_pod":
            made = [build.build_runner_pod(given["session"], given["epoch"], chosen)]
        case "assignment":
            made = [
                build.build_assignment(given["session"], given["pod"], given["devices"], given.get("ca", ""))
            ]
        case "qpu":
            device = given["device"]
            made = [
                build.build_qpu_pod(device, given["node"], chosen),
                build.build_qpu_service(device, chosen),
                build.build_qpu_config(device, given["config_maps"], chosen),
                build.build_qpu_claim(device, chosen),
            ]
        case "status":
            record = SessionRecord(**given["record"] | {"state": SessionState(given["record"]["state"])})
            waiting = Waiting(**given["waiting"]) if "waiting" in given else None
            made = [
                build.build_session_status(
                    record, given["previous"], given["generation"], given["now_s"], waiting
                )
            ]
    assert given == before, "what is given stays as it is"
    return made


@pytest.mark.parametrize("name", NAMES)
def test_documents_are_those_written_down(name: str):
    assert built(name) == list(yaml.safe_load_all((DATA / "output" / name).read_text()))


def test_every_input_has_an_output():
    assert sorted(path.name for path in (DATA / "output").glob("*.yaml")) == NAMES


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("status")])
def test_statuses_are_those_of_the_model_and_made_twice_are_the_same(name: str):
    (status,) = built(name)
    VQASessionStatus.model_validate({key: value for key, value in status.items() if value is not None})
    given = yaml.safe_load((DATA / "input" / name).read_text())
    record = SessionRecord(**given["record"] | {"state": SessionState(given["record"]["state"])})
    waiting = Waiting(**given["waiting"]) if "waiting" in given else None
    again = build.build_session_status(record, status, given["generation"], given["now_s"] + 99, waiting)
    assert again == status


@pytest.mark.parametrize("reason", ["OutOfefaas.dev/session", "", "two words", "1:", "Ünknown"])
def test_any_reason_becomes_one_that_a_condition_may_hold(reason: str):
    record = SessionRecord(reason=reason, message="why")
    status = build.build_session_status(record, {}, 1, 0.0)
    VQASessionStatus.model_validate({key: value for key, value in status.items() if value is not None})


def test_a_runner_reads_what_it_is_told(tmp_path: Path):
    (pod,) = built("runner-declared.yaml")
    (assignment,) = built("assignment.yaml")
    (container,) = pod["spec"]["containers"]
    variables = {}
    for each in container["env"]:
        if "value" in each:
            variables[each["name"]] = each["value"]
        else:
            reference = each["valueFrom"]["configMapKeyRef"]
            assert reference["name"] == assignment["metadata"]["name"]
            variables[each["name"]] = assignment["data"][reference["key"]]
    document = tmp_path / "session.yaml"
    document.write_text(assignment["data"]["session.yaml"])
    read = RunnerEnvironment.read(variables | {"EFAAS_SESSION_FILE": str(document)})
    assert [target.device for target in read.qpus] == ["manila", "perth"]
    assert read.lease_epoch == 3
    assert read.load_session().key == "chemistry/h2"
    tokens = next(mount for mount in container["volumeMounts"] if mount["name"] == "tokens")
    assert str(read.qpus[0].token_file) == f"{tokens['mountPath']}/efaas-qpu"
    assert container["resources"]["limits"][SESSION_RESOURCE] == "1"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("built")) as cluster:
        for name in ("chemistry", "efaas-system"):
            enforce = {"pod-security.kubernetes.io/enforce": "restricted"}
            cluster.api.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": enforce}})
        cluster.apply_crds()
        yield cluster


@pytest.mark.cluster
@pytest.mark.timeout(120)
def test_a_real_api_server_takes_every_status(cluster: Cluster):
    given = yaml.safe_load((DATA / "input" / "runner-declared.yaml").read_text())["session"]
    metadata = {"name": "h2", "namespace": "chemistry"}
    path = "/apis/efaas.dev/v1alpha1/namespaces/chemistry/vqasessions"
    cluster.api.create(path, given | {"metadata": metadata})
    for name in NAMES:
        if name.startswith("status"):
            (status,) = built(name)
            stored = cluster.api.patch(f"{path}/h2/status", {"status": status})["status"]
            assert stored["conditions"] == status["conditions"], name
            assert stored.get("queue") == status["queue"]
            assert stored["reason"] == status["reason"]


@pytest.mark.cluster
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("status")])
def test_a_real_api_server_takes_them_under_the_restricted_standard(cluster: Cluster, name: str):
    for document in built(name):
        plural = document["kind"].lower() + "s"
        namespace = document["metadata"]["namespace"]
        cluster.api.call(
            "POST",
            f"/api/v1/namespaces/{namespace}/{plural}",
            document,
            query={"dryRun": "All", "fieldValidation": "Strict"},
        )
    if document["kind"] == "Pod":
        loose = copy.deepcopy(document)
        del loose["spec"]["containers"][0]["securityContext"]
        with pytest.raises(ApiError, match="violates PodSecurity"):
            cluster.api.call("POST", f"/api/v1/namespaces/{namespace}/pods", loose, query={"dryRun": "All"})
