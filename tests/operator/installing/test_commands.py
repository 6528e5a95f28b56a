"""The jobs' commands at a real API server."""

from __future__ import annotations

import base64
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from tests.support.cluster import Cluster, wait_until

pytestmark = pytest.mark.cluster

DEVICES = "/apis/efaas.dev/v1alpha1/qpudevices"
NAMESPACE = "efaas-system"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("installing")) as cluster:
        cluster.create_namespace(NAMESPACE)
        cluster.apply_crds()
        for name in ("qpu-a", "qpu-b"):
            cluster.create_node(name, labels={"efaas.dev/qpu": ""})
        cluster.create_node("plain")
        yield cluster


def _run(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "efaas_operator.installing", *arguments]
    return subprocess.run(
        [*command, f"--kubeconfig={cluster.kubeconfig}"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def _devices(cluster: Cluster) -> dict[str, dict[str, object]]:
    return {each["metadata"]["name"]: each["spec"] for each in cluster.api.get(DEVICES)["items"]}


def test_devices_follow_the_values_and_leave_with_the_release(cluster, tmp_path):
    file = tmp_path / "devices.yaml"

    def apply(**wanted: object) -> str:
        file.write_text(yaml.safe_dump(wanted))
        done = _run(cluster, "devices", f"--file={file}", "--release=efaas")
        assert done.returncode == 0, done.stderr
        return done.stdout

    cluster.api.create(
        DEVICES,
        {
            "apiVersion": "efaas.dev/v1alpha1",
            "kind": "QPUDevice",
            "metadata": {"name": "mine"},
            "spec": {"model": {"snapshot": "perth-7"}},
        },
    )
    lagos = {"enabled": True, "spec": {"model": {"snapshot": "lagos-7"}}}
    apply(perNode=lagos)
    found = _devices(cluster)
    assert set(found) == {"mine", "qpu-a", "qpu-b"}
    assert [found[name]["node"] for name in ("qpu-a", "qpu-b")] == ["qpu-a", "qpu-b"]

    apply(
        perNode=lagos, list=[{"name": "ideal", "spec": {"model": {"snapshot": "manila-5"}, "node": "qpu-a"}}]
    )
    assert set(_devices(cluster)) == {"mine", "ideal", "qpu-b"}

    said = apply(
        perNode={"enabled": False}, list=[{"name": "mine", "spec": {"model": {"snapshot": "lagos-7"}}}]
    )
    assert "somebody else's" in said
    assert _devices(cluster)["mine"]["model"] == {"snapshot": "perth-7"}

    apply(perNode=lagos)
    done = _run(cluster, "remove", "--release=efaas", f"--namespace={NAMESPACE}")
    assert done.returncode == 0, done.stderr
    assert "1 devices were not made by this release" in done.stdout
    assert set(_devices(cluster)) == {"mine"}


def test_a_device_that_the_api_server_refuses_is_told_in_its_words(cluster, tmp_path):
    file = tmp_path / "devices.yaml"
    file.write_text(yaml.safe_dump({"perNode": {"enabled": False}, "list": [{"name": "x", "spec": {}}]}))
    done = _run(cluster, "devices", f"--file={file}", "--release=efaas")
    assert done.returncode == 1
    assert "spec.model" in done.stderr
    assert "Traceback" not in done.stderr


def test_removal_waits_until_the_operator_has_let_go(cluster, tmp_path):
    file = tmp_path / "devices.yaml"
    file.write_text(
        yaml.safe_dump({"perNode": {"enabled": True, "spec": {"model": {"snapshot": "lagos-7"}}}})
    )
    assert _run(cluster, "devices", f"--file={file}", "--release=efaas").returncode == 0
    cluster.api.patch(f"{DEVICES}/qpu-a", {"metadata": {"finalizers": ["efaas.dev/operator"]}})
    remove = ("remove", "--release=efaas", f"--namespace={NAMESPACE}")
    done = _run(cluster, *remove, "--timeout=1")
    assert done.returncode == 1
    assert "devices to be gone: not within 1 s" in done.stderr

    def let_go() -> None:
        cluster.api.patch(f"{DEVICES}/qpu-a", {"metadata": {"finalizers": []}})

    timer = threading.Timer(1.0, let_go)
    timer.start()
    done = _run(cluster, *remove, "--timeout=30")
    timer.join()
    assert done.returncode == 0, done.stderr


def test_certificates_are_made_kept_and_deleted(cluster):
    path = f"/api/v1/namespaces/{NAMESPACE}/secrets"
    arguments = (
        "certificates",
        f"--namespace={NAMESPACE}",
        "--authority=efaas-ca",
        f"--server=efaas-qpu-tls=*.{NAMESPACE}.svc",
        "--server=efaas-gateway-tls=gateway,gateway.svc",
        "--days=90",
        "--authority-days=3650",
    )
    first = _run(cluster, *arguments)
    assert first.returncode == 0, first.stderr
    made = {
        name: cluster.api.get(f"{path}/{name}")["data"] for name in ("efaas-qpu-tls", "efaas-gateway-tls")
    }
    bundle = base64.b64decode(made["efaas-qpu-tls"]["ca.crt"])
    assert made["efaas-gateway-tls"]["ca.crt"] == made["efaas-qpu-tls"]["ca.crt"]
    assert bundle.count(b"BEGIN CERTIFICATE") == 1
    public = f"/api/v1/namespaces/{NAMESPACE}/configmaps/efaas-ca"
    assert cluster.api.get(public)["data"] == {"ca.crt": bundle.decode()}
    again = _run(cluster, *arguments)
    assert "renewed" not in again.stdout
    assert cluster.api.get(f"{path}/efaas-qpu-tls")["data"] == made["efaas-qpu-tls"]
    done = _run(
        cluster,
        "remove",
        "--release=efaas",
        f"--namespace={NAMESPACE}",
        "--secret=efaas-ca",
        "--secret=efaas-qpu-tls",
        "--secret=efaas-gateway-tls",
        "--config-map=efaas-ca",
    )
    assert done.returncode == 0, done.stderr
    assert not cluster.api.get(path)["items"]
    assert cluster.api.find(public) is None


def test_a_check_finds_leaders_and_devices_that_are_up(cluster):
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
    check = ("check", f"--namespace={NAMESPACE}")
    done = _run(cluster, *check, "--timeout=1")
    assert done.returncode == 1
    assert "leader of efaas-operator" in done.stderr

    def lease(name: str, age_s: float) -> dict[str, object]:
        moment = (datetime.now(UTC) - timedelta(seconds=age_s)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {"metadata": {"name": name}, "spec": {"holderIdentity": "me", "renewTime": moment}}

    cluster.api.create(leases, lease("efaas-operator", 0))
    cluster.api.create(leases, lease("efaas-scheduler", 3600))
    done = _run(cluster, *check, "--timeout=1")
    assert "leader of efaas-scheduler" in done.stderr
    cluster.api.patch(f"{leases}/efaas-scheduler", lease("efaas-scheduler", 0))

    def not_up() -> bool:
        return "all devices to be up" in _run(cluster, *check, "--timeout=1").stderr

    wait_until("the device that is not up to be told", not_up)
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ready = {"type": "Ready", "status": "True", "reason": "Ready", "lastTransitionTime": moment}
    cluster.api.patch(f"{DEVICES}/mine/status", {"status": {"conditions": [ready]}})
    done = _run(cluster, *check, "--timeout=5")
    assert done.returncode == 0, done.stderr
    assert "1 devices are up" in done.stdout
