"""`efaas submit` and `kubectl efaas` against a real API server; the test plays the operator."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from efaas.cli import main as efaas
from efaas.cli.kubectl import main as kubectl_efaas
from efaas.cluster import connection
from efaas.cluster.connection import open_cluster
from efaas.cluster.follow import last_runner
from tests.support import objects
from tests.support.cluster import Cluster, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

DEVICES = "/apis/efaas.dev/v1alpha1/qpudevices"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster-cli")) as cluster:
        cluster.apply_crds()
        yield cluster


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    with cluster.fresh_namespace() as name:
        yield name


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "vqe.py"
    path.write_text("import efaas\nprint('hello')\n")
    return path


def sessions(namespace: str) -> str:
    return f"/apis/efaas.dev/v1alpha1/namespaces/{namespace}/vqasessions"


def call(command: Any, cluster: Cluster, namespace: str, *arguments: str) -> Result:
    options = [f"--kubeconfig={cluster.kubeconfig}", "-n", namespace]
    return CliRunner().invoke(command, [*arguments[:1], *options, *arguments[1:]])


def test_a_script_is_submitted_and_one_deletion_takes_all_of_it(
    cluster: Cluster, namespace: str, script: Path
):
    done = call(efaas, cluster, namespace, "submit", "--detach", "--name=h2", "--qubits=2", str(script))
    assert done.exit_code == 0, done.output
    assert f"vqasession {namespace}/h2 submitted" in done.output
    session = cluster.api.get(f"{sessions(namespace)}/h2")
    config_map = cluster.api.get(f"/api/v1/namespaces/{namespace}/configmaps/h2-program")
    assert session["spec"]["device"] == {"qubits": 2}
    assert config_map["data"]["main.py"] == script.read_text()
    (owner,) = config_map["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"]) == (session["metadata"]["uid"], True)
    again = call(efaas, cluster, namespace, "submit", "--detach", "--name=h2", str(script))
    assert again.exit_code == 2
    assert "VQASession h2: is there already; delete it, or give another --name" in again.output


def test_the_words_of_the_api_server_reach_the_person(cluster: Cluster, script: Path):
    done = call(efaas, cluster, "nowhere", "submit", "--detach", "--name=h2", str(script))
    assert done.exit_code != 0
    assert 'namespaces "nowhere" not found' in done.output


def test_a_script_waits_in_the_cluster_before_its_session_does(
    cluster: Cluster, namespace: str, script: Path, monkeypatch: pytest.MonkeyPatch
):
    made: list[str] = []
    call_cluster = connection.Cluster.call

    def watched(self: connection.Cluster, method: str, path: str, *rest: Any, **options: Any) -> Any:
        if method == "POST":
            made.append(path.rpartition("/")[2])
        return call_cluster(self, method, path, *rest, **options)

    monkeypatch.setattr(connection.Cluster, "call", watched)
    assert call(efaas, cluster, namespace, "submit", "--detach", "--name=h2", str(script)).exit_code == 0
    assert made == ["configmaps", "vqasessions"]


def test_a_refused_session_leaves_no_script_behind(
    cluster: Cluster, namespace: str, script: Path, monkeypatch: pytest.MonkeyPatch
):
    call_cluster = connection.Cluster.call

    def refusing(self: connection.Cluster, method: str, path: str, *rest: Any, **options: Any) -> Any:
        if (method, path) == ("POST", sessions(namespace)):
            raise connection.ClusterError("exceeded quota", status=403)
        return call_cluster(self, method, path, *rest, **options)

    monkeypatch.setattr(connection.Cluster, "call", refusing)
    refused = call(efaas, cluster, namespace, "submit", "--detach", "--name=h2", str(script))
    assert refused.exit_code != 0
    assert "exceeded quota" in refused.output
    assert cluster.api.find(f"/api/v1/namespaces/{namespace}/configmaps/h2-program") is None


def test_a_manifest_is_submitted_with_its_devices_and_scripts(cluster: Cluster, namespace: str):
    example = Path(__file__).resolve().parents[2] / "examples" / "program.yaml"
    done = call(efaas, cluster, namespace, "submit", "--detach", str(example))
    assert done.exit_code == 0, done.output
    assert cluster.api.get(f"{sessions(namespace)}/program")["spec"]["seed"] == 11
    data = cluster.api.get(f"/api/v1/namespaces/{namespace}/configmaps/gradient-descent")["data"]
    assert data["main.py"].startswith("import numpy as np")


def test_a_session_is_followed_to_its_end(cluster: Cluster, namespace: str, script: Path):
    results: list[Result] = []
    arguments = ("submit", "--name=h2", str(script))
    person = threading.Thread(target=lambda: results.append(call(efaas, cluster, namespace, *arguments)))
    person.start()
    path = f"{sessions(namespace)}/h2"
    wait_until("the session", lambda: cluster.api.find(path))
    waits = {
        "type": "Admitted",
        "status": "False",
        "reason": "WaitingForSlot",
        "message": "all slots are taken",
    }
    condition = {**waits, "lastTransitionTime": "2026-03-01T12:00:00Z"}
    for status in (
        {"state": "Pending", "reason": "WaitingForSlot", "conditions": [condition]},
        {
            "state": "Running",
            "device": "manila",
            "reason": "",
            "conditions": [{**condition, "status": "True"}],
        },
        {
            "state": "Failed",
            "conditions": [{**condition, "type": "Completed", "message": "its program failed"}],
        },
    ):
        cluster.api.patch(f"{path}/status", {"status": status})
    person.join(60)
    (done,) = results
    assert done.exit_code == 1
    assert f"vqasession {namespace}/h2 submitted" in done.output
    assert done.output.splitlines()[-2:] == ["Failed: its program failed", "Failed"]


def test_the_runner_of_a_session_that_is_over_is_its_newest_pod(cluster: Cluster, namespace: str):
    for epoch in (9, 10):
        metadata = {
            "name": f"h2-r{epoch}",
            "labels": {"efaas.dev/session-name": "h2"},
            "annotations": {"efaas.dev/lease-epoch": str(epoch)},
        }
        container = {"name": "runner", "image": "none"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}
        cluster.api.create(f"/api/v1/namespaces/{namespace}/pods", pod)
    client = open_cluster(str(cluster.kubeconfig), None, namespace)
    assert last_runner(client, namespace, "h2") == "h2-r10"
    assert last_runner(client, namespace, "h3") == ""


def test_sessions_and_devices_are_listed_and_described(cluster: Cluster, namespace: str):
    device = objects.device("manila", "worker-1")
    cluster.api.create(DEVICES, {**device, "metadata": {"name": "manila"}})
    cluster.api.patch(f"{DEVICES}/manila/status", {"status": device["status"]})
    cluster.api.create(sessions(namespace), objects.session("h2", namespace))
    status = {"state": "Running", "device": "manila", "usage": {"shots": 4096, "qpuMilliseconds": 1500}}
    cluster.api.patch(f"{sessions(namespace)}/h2/status", {"status": status})
    top = call(kubectl_efaas, cluster, namespace, "top", "--once")
    assert top.exit_code == 0, top.output
    assert "h2        Running" in top.output
    assert "manila   Ready" in top.output
    everywhere = call(kubectl_efaas, cluster, "default", "top", "--once", "-A")
    assert namespace in everywhere.output
    described = call(kubectl_efaas, cluster, namespace, "describe", "h2")
    assert f"Session:      {namespace}/h2" in described.output
    used = call(kubectl_efaas, cluster, namespace, "usage", "--by=device")
    assert used.output.splitlines()[1].split()[:3] == ["manila", "1", "1.500"]
    calibrated = call(kubectl_efaas, cluster, namespace, "calibrate", "manila")
    assert calibrated.output == "calibration of manila asked for\n"
    assert cluster.api.get(f"{DEVICES}/manila")["spec"]["calibration"]["requestedAt"]


def test_cancel_deletes_as_the_person_and_all_means_those_that_have_not_ended(
    cluster: Cluster, namespace: str
):
    for name in ("a", "b", "ended"):
        cluster.api.create(sessions(namespace), objects.session(name, namespace))
    cluster.api.patch(f"{sessions(namespace)}/ended/status", {"status": {"state": "Completed"}})
    one = call(kubectl_efaas, cluster, namespace, "cancel", "a")
    assert one.output == f"vqasession {namespace}/a cancelled\n"
    rest = call(kubectl_efaas, cluster, namespace, "cancel", "--all")
    assert rest.output == f"vqasession {namespace}/b cancelled\n"
    left = [each["metadata"]["name"] for each in cluster.api.items(sessions(namespace))]
    assert left == ["ended"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("describe", "none"), "none: there is no such VQASession in namespace"),
        (("cancel", "none"), "none: there is no such VQASession"),
        (("logs", "none"), "none: there is no such VQASession"),
        (("calibrate", "none"), "none: there is no such QPUDevice"),
        (("why", "none"), "efaas-system: no scheduler pod"),
        (("plot", "none"), "there is no Service efaas-gateway"),
    ],
)
def test_what_is_not_there_is_named_with_what_to_do(
    cluster: Cluster, namespace: str, arguments: tuple[str, ...], words: str
):
    done = call(kubectl_efaas, cluster, namespace, *arguments)
    assert done.exit_code == 2
    assert words in done.output
    assert len(done.output.splitlines()) == 1


def test_an_api_server_that_is_away_is_one_sentence(tmp_path: Path, cluster: Cluster):
    text = cluster.kubeconfig.read_text().replace(cluster.server, "https://127.0.0.1:1")
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(text)
    done = CliRunner().invoke(kubectl_efaas, ["top", "--once", f"--kubeconfig={kubeconfig}"])
    assert done.exit_code == 1
    assert "error: https://127.0.0.1:1: does not answer" in done.output


def test_a_context_that_is_not_there_is_named(cluster: Cluster):
    done = CliRunner().invoke(
        kubectl_efaas, ["top", "--once", f"--kubeconfig={cluster.kubeconfig}", "--context=other"]
    )
    assert done.exit_code == 2
    assert "other" in done.output
