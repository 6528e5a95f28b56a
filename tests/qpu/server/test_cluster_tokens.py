"""A QPU server in a cluster: tokens of real pods, reviewed by a real API server with real RBAC."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from efaas_qpu.authentication import NotAdmitted
from efaas_qpu.kubernetes import (
    REFUSAL_REMEMBERED_S,
    REMEMBERED_S,
    ApiServer,
    ApiServerUnavailable,
    ClusterAuthenticator,
    api_server,
)

from efaas.api.wire import qpu_pb2 as wire
from efaas.errors import InputError
from tests.support.cluster import Cluster
from tests.support.objects import session as session_document

AUDIENCE = "efaas-qpu"


class Tenants:
    """A control plane with two namespaces, their sessions, and runner pods with tokens."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.api = cluster, cluster.api
        self.sessions: dict[str, dict[str, Any]] = {}

    def prepare(self) -> None:
        self.cluster.apply_crds()
        for namespace, account in (
            ("chemistry", "default"),
            ("physics", "default"),
            ("efaas-system", "efaas-qpu"),
            ("efaas-system", "efaas-operator"),
        ):
            if self.api.find(f"/api/v1/namespaces/{namespace}") is None:
                self.cluster.create_namespace(namespace)
            self.api.create(
                f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": account}}
            )
        self.api.create(
            "/apis/rbac.authorization.k8s.io/v1/clusterroles",
            {
                "metadata": {"name": "efaas-qpu"},
                "rules": [
                    {
                        "apiGroups": ["authentication.k8s.io"],
                        "resources": ["tokenreviews"],
                        "verbs": ["create"],
                    },
                    {"apiGroups": ["efaas.dev"], "resources": ["vqasessions"], "verbs": ["get"]},
                ],
            },
        )
        self.api.create(
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            {
                "metadata": {"name": "efaas-qpu"},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": "efaas-qpu",
                },
                "subjects": [{"kind": "ServiceAccount", "name": "efaas-qpu", "namespace": "efaas-system"}],
            },
        )
        file = self.cluster.folder / "qpu-token"
        file.write_text(self.token("efaas-system", "efaas-qpu", audience=""))
        self.token_file = file

    def pod(self, namespace: str, name: str) -> str:
        """Make a pod; its UID."""
        container = {"name": "runner", "image": "runner"}
        document = {
            "metadata": {"name": name},
            "spec": {"serviceAccountName": "default", "containers": [container]},
        }
        return str(self.api.create(f"/api/v1/namespaces/{namespace}/pods", document)["metadata"]["uid"])

    def session(self, namespace: str, name: str) -> None:
        path = f"/apis/efaas.dev/v1alpha1/namespaces/{namespace}/vqasessions"
        self.sessions[f"{namespace}/{name}"] = self.api.create(path, session_document(name, namespace))

    def name_runner(self, namespace: str, session: str, pod: str, uid: str, epoch: int) -> None:
        """What the operator writes before it lets a runner start."""
        path = f"/apis/efaas.dev/v1alpha1/namespaces/{namespace}/vqasessions/{session}/status"
        runner = {"uid": uid, "pod": pod, "leaseEpoch": epoch}
        self.api.patch(path, {"status": {"runner": runner}})

    def token(
        self,
        namespace: str,
        account: str = "default",
        *,
        pod: str = "",
        uid: str = "",
        audience: str = AUDIENCE,
    ) -> str:
        spec: dict[str, Any] = {"expirationSeconds": 600}
        if audience:
            spec["audiences"] = [audience]
        if pod:
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        return str(self.api.create(path, {"spec": spec})["status"]["token"])

    def expired(self, token: str) -> str:
        """The same token as the API server would have signed it an hour ago."""
        head, body, _ = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        for claim in ("iat", "nbf", "exp"):
            claims[claim] -= 3600
        signed = f"{head}.{_encoded(json.dumps(claims).encode())}"
        key = self.cluster.folder / "service-account.key"
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(key)],
            input=signed.encode(),
            check=True,
            capture_output=True,
        ).stdout
        return f"{signed}.{_encoded(signature)}"

    def reviewer(self) -> ApiServer:
        return api_server(self.cluster.server, self.token_file, self.cluster.ca_file)

    def authenticator(self) -> ClusterAuthenticator:
        return ClusterAuthenticator(self.reviewer(), AUDIENCE, "efaas-system:efaas-operator")


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    with Cluster(tmp_path_factory.mktemp("tokens")) as cluster:
        tenants = Tenants(cluster)
        tenants.prepare()
        yield tenants


async def answer(world: Any, session: str, epoch: int, token: str) -> Any:
    """What a server says to a hello."""
    client = await world.raw()
    hello = world.hello(session, lease_epoch=epoch, token=token)
    await client.send(hello)
    said = await client.read()
    await client.drop()
    return said


@pytest.mark.cluster
@pytest.mark.timeout(120)
def test_a_runner_is_let_in_and_everybody_else_is_kept_out(world: Any, tenants: Tenants):
    for namespace in ("chemistry", "physics"):
        tenants.session(namespace, "h2")
    uid = tenants.pod("chemistry", "h2-r1")
    tenants.name_runner("chemistry", "h2", "h2-r1", uid, 1)
    good = tenants.token("chemistry", pod="h2-r1", uid=uid)
    stranger_uid = tenants.pod("chemistry", "other-r1")
    foreign_uid = tenants.pod("physics", "h2-r1")
    strangers = {
        "another session's": tenants.token("chemistry", pod="other-r1", uid=stranger_uid),
        "another namespace's": tenants.token("physics", pod="h2-r1", uid=foreign_uid),
        "no pod's": tenants.token("chemistry"),
        "for another audience": tenants.token("chemistry", pod="h2-r1", uid=uid, audience="efaas-gateway"),
        "for the API server": tenants.token("chemistry", pod="h2-r1", uid=uid, audience=""),
        "expired": tenants.expired(good),
        "forged": good[:-20] + _encoded(b"x" * 15),
        "nonsense": "sesame",
        "none": "",
        "the operator's": tenants.token("efaas-system", "efaas-operator"),
    }

    async def scenario():
        async with world.serve(authenticator=tenants.authenticator()):
            for kind, token in strangers.items():
                said = await answer(world, "chemistry/h2", 1, token)
                assert said.error.code == wire.UNAUTHENTICATED, kind
                assert not said.error.retry, kind
                assert "epoch" not in said.error.message, kind
            assert not world.host.sessions
            runner = await world.ready("chemistry/h2", lease_epoch=1, token=good)
            await runner.send(world.submit(session="chemistry/h2"))
            await runner.expect("result")
            said = await answer(world, "chemistry/h2", 0, good)
            assert said.error.code == wire.FENCED
            said = await answer(world, "chemistry/h2", 2, good)
            assert (said.error.code, said.error.retry) == (wire.UNAUTHENTICATED, False)
            said = await answer(world, "chemistry/gone", 1, good)
            assert said.error.code == wire.UNAUTHENTICATED
            charge = world.host.ledger.state.sessions["chemistry/h2"]
            assert charge.uid == tenants.sessions["chemistry/h2"]["metadata"]["uid"]

            # The next runner: its token is good as soon as the operator has named it, the old one's no more.
            new_uid = tenants.pod("chemistry", "h2-r2")
            new = tenants.token("chemistry", pod="h2-r2", uid=new_uid)
            said = await answer(world, "chemistry/h2", 2, new)
            assert (said.error.code, said.error.retry) == (wire.UNAUTHENTICATED, True)
            tenants.name_runner("chemistry", "h2", "h2-r2", new_uid, 2)
            heir = await world.ready("chemistry/h2", lease_epoch=2, token=new)
            assert (await runner.expect("error")).code == wire.FENCED
            said = await answer(world, "chemistry/h2", 2, good)
            assert said.error.code == wire.UNAUTHENTICATED
            await heir.drop()

    asyncio.run(scenario())


@pytest.mark.cluster
@pytest.mark.timeout(120)
def test_only_the_operator_keeps_the_device(world: Any, tenants: Tenants):
    operator = tenants.token("efaas-system", "efaas-operator")
    others = [tenants.token("efaas-system", "efaas-qpu"), tenants.token("chemistry"), ""]
    wrong_audience = tenants.token("efaas-system", "efaas-operator", audience="")

    async def scenario():
        async with world.serve(authenticator=tenants.authenticator()):
            for token in (*others, wrong_audience):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await world.ask("Calibrate", wire.CalibrateRequest(), wire.CalibrateAnswer, token)
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            request = wire.FenceRequest(session="chemistry/lih", lease_epoch=1)
            assert (await world.ask("Fence", request, wire.FenceAnswer, operator)).least_epoch == 2
            await world.ask("Calibrate", wire.CalibrateRequest(), wire.CalibrateAnswer, operator)

    asyncio.run(scenario())


@pytest.mark.cluster
@pytest.mark.timeout(120)
def test_the_token_of_a_pod_that_was_deleted_is_dead(tenants: Tenants):
    tenants.session("chemistry", "brief")
    uid = tenants.pod("chemistry", "brief-r1")
    tenants.name_runner("chemistry", "brief", "brief-r1", uid, 1)
    token = tenants.token("chemistry", pod="brief-r1", uid=uid)
    tenants.api.delete("/api/v1/namespaces/chemistry/pods/brief-r1", gracePeriodSeconds=0)

    async def scenario():
        with pytest.raises(NotAdmitted, match="does not know the token"):
            await tenants.authenticator().session("chemistry/brief", 1, token)

    asyncio.run(scenario())


@pytest.mark.cluster
@pytest.mark.timeout(120)
def test_a_server_without_the_rights_says_try_again_and_logs_the_role(
    tenants: Tenants, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    file = tmp_path / "token"
    file.write_text(tenants.token("chemistry", audience=""))
    reviewer = api_server(tenants.cluster.server, file, tenants.cluster.ca_file)

    async def scenario():
        with pytest.raises(NotAdmitted) as caught:
            await ClusterAuthenticator(reviewer, AUDIENCE).session("chemistry/h2", 1, "any")
        assert caught.value.retry

    asyncio.run(scenario())
    assert "system:auth-delegator" in caplog.text


class Kubernetes:
    """An API server in the test's hands."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.away = False
        self.good = True

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        self.asked.append(path.rpartition("/")[2])
        if self.away:
            raise ApiServerUnavailable("it is away")
        if method == "GET":
            return 200, {"metadata": {"uid": "s"}, "status": {"runner": {"uid": "p", "leaseEpoch": 1}}}
        extra = {"authentication.kubernetes.io/pod-uid": ["p"]}
        user = {"username": "system:serviceaccount:a:default", "extra": extra}
        return 201, {"status": {"authenticated": self.good, "audiences": [AUDIENCE], "user": user}}


def jwt(exp: float) -> str:
    return f"head.{_encoded(json.dumps({'exp': exp}).encode())}.signature"


def test_answers_are_remembered_shortly_and_never_past_the_tokens_end():
    kubernetes, clock_s = Kubernetes(), [0.0]
    start_s = time.time()
    access = ClusterAuthenticator(
        kubernetes, AUDIENCE, clock=lambda: clock_s[0], now=lambda: start_s + clock_s[0]
    )

    async def reviews_after(moment_s: float, token: str) -> int:
        clock_s[0] = moment_s
        before = kubernetes.asked.count("tokenreviews")
        try:
            await access.session("a/s", 1, token)
        except NotAdmitted:
            assert not kubernetes.good
        return kubernetes.asked.count("tokenreviews") - before

    async def scenario():
        long, short = jwt(start_s + 3600), jwt(start_s + 10)
        assert await reviews_after(0, long) == 1
        assert await reviews_after(REMEMBERED_S - 1, long) == 0
        assert await reviews_after(REMEMBERED_S, long) == 1
        clock_s[0] = 0.0
        assert await reviews_after(0, short) == 1
        assert await reviews_after(9, short) == 0
        assert await reviews_after(10, short) == 1
        kubernetes.good = False
        assert await reviews_after(40, "bad") == 1
        assert await reviews_after(40 + REFUSAL_REMEMBERED_S - 1, "bad") == 0
        assert await reviews_after(40 + REFUSAL_REMEMBERED_S, "bad") == 1

    asyncio.run(scenario())


def test_no_answer_is_no_refusal_and_is_not_remembered():
    kubernetes = Kubernetes()
    access = ClusterAuthenticator(kubernetes, AUDIENCE, "efaas-system:efaas-operator")

    async def scenario():
        kubernetes.away = True
        for attempt in (access.session("a/s", 1, "t"), access.keeper("t")):
            with pytest.raises(NotAdmitted) as caught:
                await attempt
            assert caught.value.retry
        kubernetes.away = False
        assert await access.session("a/s", 1, "t") == "s"

    asyncio.run(scenario())


def test_an_api_server_that_does_not_answer_is_given_up(unused_tcp_port_url: str):
    async def scenario():
        with pytest.raises(ApiServerUnavailable):
            await api_server(unused_tcp_port_url).call("GET", "/version")

    asyncio.run(scenario())


@pytest.fixture
def unused_tcp_port_url() -> str:
    from tests.support.cluster import free_port

    return f"http://127.0.0.1:{free_port()}"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"where": "ftp://x"}, "https://HOST:PORT"),
        ({"where": "in-cluster", "variables": {}}, "no pod"),
    ],
)
def test_an_api_server_that_cannot_be_named_is_told(options: dict[str, Any], match: str):
    with pytest.raises(InputError, match=match):
        api_server(**options)


@pytest.mark.parametrize("account", ["operator", "a:", "a:b:c"])
def test_a_keeper_needs_a_namespace_and_a_name(account: str):
    with pytest.raises(InputError, match="NAMESPACE:NAME"):
        ClusterAuthenticator(Kubernetes(), AUDIENCE, account)
