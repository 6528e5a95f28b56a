"""Who may write a session's journal, asked of a real API server: tokens that are bound to pods."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from efaas_gateway.cluster import WRITER_AUDIENCE, ApiServer, ClusterAccess

from efaas.errors import InputError
from efaas.journal.remote import GatewayJournal
from tests.gateway.running import RunningGateway
from tests.support.cluster import Cluster, wait_until

pytestmark = pytest.mark.cluster

SESSIONS = "/apis/efaas.dev/v1alpha1/namespaces/quantum/vqasessions"
SESSION: dict[str, Any] = {
    "apiVersion": "efaas.dev/v1alpha1",
    "kind": "VQASession",
    "metadata": {"name": "h2", "namespace": "quantum"},
    "spec": {
        "problem": {"molecule": {"name": "H2", "qubits": 4}},
        "ansatz": {"realAmplitudes": {"repetitions": 1}},
        "optimizer": {"rotosolve": {}},
        "shots": 1024,
    },
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        running.apply_crds()
        running.create_namespace("quantum")
        account = {"metadata": {"name": "runner", "namespace": "quantum"}}
        running.api.create("/api/v1/namespaces/quantum/serviceaccounts", account)
        yield running


@pytest.fixture
def gateway(cluster: Cluster, tmp_path: Path) -> Iterator[RunningGateway]:
    token = tmp_path / "token"
    token.write_text(cluster.token)
    access = ClusterAccess(ApiServer(cluster.server, token, cluster.ca_file))
    running = RunningGateway(str(tmp_path / "gateway.db"), access=access)
    yield running
    running.call(access.close())
    running.stop()


def make_pod(cluster: Cluster, name: str) -> tuple[str, str]:
    """UID of a new pod, and a token that is bound to it."""
    path = "/api/v1/namespaces/quantum/pods"
    container = {"name": "runner", "image": "none"}
    spec = {"serviceAccountName": "runner", "containers": [container]}
    pod = cluster.api.create(path, {"metadata": {"name": name, "namespace": "quantum"}, "spec": spec})
    return pod["metadata"]["uid"], make_token(cluster, name, pod["metadata"]["uid"])


def make_token(cluster: Cluster, pod: str = "", uid: str = "") -> str:
    bound = {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": uid}} if pod else {}
    answer = cluster.api.create(
        "/api/v1/namespaces/quantum/serviceaccounts/runner/token",
        {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [WRITER_AUDIENCE], **bound},
        },
    )
    return str(answer["status"]["token"])


def test_only_the_pod_that_runs_a_session_writes_its_journal(
    cluster: Cluster, gateway: RunningGateway, tmp_path: Path
) -> None:
    cluster.api.create(SESSIONS, SESSION)
    first, first_token = make_pod(cluster, "first")
    second, second_token = make_pod(cluster, "second")

    def run_by(uid: str, epoch: int) -> None:
        cluster.api.patch(
            f"{SESSIONS}/h2/status",
            {"status": {"runner": {"pod": "first", "uid": uid, "leaseEpoch": epoch}}},
        )

    def write(token: str, epoch: int, folder: str) -> list[Any]:
        with GatewayJournal(
            gateway.endpoint,
            "session",
            "quantum/h2",
            buffer=tmp_path / folder,
            lease_epoch=epoch,
            token=token,
        ) as journal:
            journal.append({"by": folder})
            return [record["by"] for record in journal.records()]

    run_by(first, 1)
    assert write(first_token, 1, "first") == ["first"]
    with pytest.raises(InputError, match=f"pod {second} does not run it"):
        write(second_token, 1, "second")
    with pytest.raises(InputError, match="not bound to a pod"):
        write(make_token(cluster), 1, "unbound")
    with pytest.raises(InputError, match="lease epoch 2 is not the one"):
        write(first_token, 2, "ahead")
    # A node is lost: the operator gives the session to another pod under the next epoch.
    run_by(second, 2)
    assert write(second_token, 2, "second") == ["first", "second"]
    with pytest.raises(InputError, match=f"pod {first} does not run it"):
        write(first_token, 1, "first again")
    # The pod is deleted: its token is nobody's, whatever the session says. An answer may be remembered for
    # half a minute, so a new token is asked about.
    fresh = make_token(cluster, "second", second)
    cluster.api.delete("/api/v1/namespaces/quantum/pods/second", gracePeriodSeconds=0)
    wait_until("the pod is gone", lambda: cluster.api.find("/api/v1/namespaces/quantum/pods/second") is None)

    def is_nobodys() -> bool:
        try:
            write(fresh, 2, "deleted")
        except InputError as error:
            return "does not know the token" in str(error)
        return False

    wait_until("the token is nobody's", is_nobodys)
    answer = httpx.get(
        f"{gateway.address}/api/v1/sessions", headers={"Authorization": f"Bearer {first_token}"}
    )
    assert answer.status_code == 401
