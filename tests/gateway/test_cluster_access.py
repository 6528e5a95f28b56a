"""Kubernetes decides: TokenReview, SubjectAccessReview, cancelling as the user, against an API over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from efaas_gateway.cluster import ApiServer, ClusterAccess

from efaas.errors import InputError
from efaas.journal.remote import GatewayJournal
from tests.gateway.running import RunningGateway
from tests.gateway.test_read_api import fill

REVIEWER = "the-gateway's-own-token"


def _account(namespace: str, name: str, pod: str | None) -> dict[str, Any]:
    extra = {} if pod is None else {"authentication.kubernetes.io/pod-uid": [pod]}
    return {"username": f"system:serviceaccount:{namespace}:{name}", "extra": extra}


class FakeApiServer:
    """Answers reviews as Kubernetes does (authentication.k8s.io/v1, authorization.k8s.io/v1)."""

    def __init__(self) -> None:
        self.users = {
            "anna-token": {"username": "anna", "groups": ["system:authenticated", "red-team"]},
            "admin-token": {"username": "admin", "groups": ["system:masters"]},
            "eve-token": {"username": "eve"},
        }
        self.writers: dict[str, dict[str, Any]] = {
            "runner-red": _account("red", "default", "pod-1"),
            "other-pod": _account("red", "default", "pod-2"),
            "no-pod": _account("red", "default", None),
            "runner-blue": _account("blue", "default", "pod-1"),
            "qpu": _account("efaas", "efaas-qpu", "pod-9"),
        }
        self.runner: dict[str, Any] = {"uid": "pod-1", "leaseEpoch": 1}
        self.deleted: list[tuple[str, str]] = []
        self.reviews = 0
        self.broken = False
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(length) or b"{}")
                status, said = fake.answer(
                    self.command, self.path, body, self.headers.get("authorization", "")
                )
                text = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_DELETE = answer  # noqa: N815

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(
        self, method: str, path: str, body: dict[str, Any], authorization: str
    ) -> tuple[int, dict[str, Any]]:
        if self.broken:
            return 500, {}
        if method == "DELETE":
            token = authorization.removeprefix("Bearer ")
            name = path.rpartition("/")[2]
            if token == "anna-token" and name == "gone":
                return 404, {"message": "not found"}
            if token == "anna-token" and name == "locked":
                return 403, {"message": f'vqasessions "{name}" is forbidden'}
            self.deleted.append((token, path))
            return 200, {"status": "Success"}
        assert authorization == f"Bearer {REVIEWER}"
        if method == "GET":
            if path != "/apis/efaas.dev/v1alpha1/namespaces/red/vqasessions/mine":
                return 404, {}
            return 200, {"status": {"runner": self.runner}}
        self.reviews += 1
        if path.endswith("tokenreviews"):
            token, audiences = body["spec"]["token"], body["spec"].get("audiences", [])
            if not token:
                return 400, {"message": "spec.token: Required value: token is required for TokenReview"}
            user = self.writers.get(token) if audiences else self.users.get(token)
            if user is None:
                return 201, {"status": {"authenticated": False, "error": "unknown token"}}
            return 201, {"status": {"authenticated": True, "user": user, "audiences": audiences}}
        spec = body["spec"]
        wanted = spec["resourceAttributes"]
        assert (wanted["group"], wanted["resource"]) == ("efaas.dev", "vqasessions")
        allowed = "system:masters" in spec["groups"] or (
            "red-team" in spec["groups"] and wanted.get("namespace") == "red"
        )
        return 201, {"status": {"allowed": allowed}}


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    fake = FakeApiServer()
    yield fake
    fake.server.shutdown()
    fake.server.server_close()


@pytest.fixture
def running(api: FakeApiServer, tmp_path: Path) -> Iterator[RunningGateway]:
    token = tmp_path / "token"
    token.write_text(REVIEWER)
    access = ClusterAccess(ApiServer(api.url, token), system_accounts=["efaas:efaas-qpu"])
    gateway = RunningGateway(str(tmp_path / "gateway.db"), access=access, canceller=access)
    fill(gateway.store, "red/mine", 2)
    fill(gateway.store, "red/gone", 1)
    fill(gateway.store, "red/locked", 1)
    fill(gateway.store, "blue/theirs", 2)
    yield gateway
    gateway.call(access.close())
    gateway.stop()


def ask(running: RunningGateway, token: str, path: str, method: str = "GET") -> httpx.Response:
    return httpx.request(
        method,
        f"{running.address}/api/v1{path}",
        headers={"Authorization": f"Bearer {token}"},
        timeout=20,
    )


def test_tenants_see_their_own_namespaces_only(running: RunningGateway) -> None:
    names = {item["name"] for item in ask(running, "anna-token", "/sessions").json()["items"]}
    assert names == {"mine", "gone", "locked"}
    assert ask(running, "anna-token", "/about").json()["namespaces"] == ["red"]
    assert ask(running, "anna-token", "/sessions/blue/theirs").status_code == 403
    assert ask(running, "anna-token", "/sessions?namespace=blue").status_code == 403
    # Whether something is there is not said either.
    assert ask(running, "anna-token", "/sessions/blue/nothing").status_code == 403
    assert ask(running, "eve-token", "/sessions").json()["items"] == []
    assert ask(running, "eve-token", "/usage").json()["items"] == []
    assert ask(running, "admin-token", "/sessions").json()["total"] == 4
    assert ask(running, "stolen", "/sessions").status_code == 401


def test_others_on_a_device_have_no_names(running: RunningGateway) -> None:
    waiting = [
        {"session": "red/mine", "position": 2, "reason": "behind another"},
        {"session": "blue/theirs", "position": 1, "reason": "their reason"},
    ]
    body = json.dumps({"kind": "device", "name": "lagos", "sessions": waiting}).encode()
    running.call(running.gateway.service.take([body]))
    queue = ask(running, "anna-token", "/queue").json()["items"]
    assert [(entry["session"], entry["reason"]) for entry in queue] == [
        (None, ""),
        ("red/mine", "behind another"),
    ]


def test_a_cancel_deletes_the_object_with_the_users_own_token(
    running: RunningGateway, api: FakeApiServer
) -> None:
    answer = ask(running, "anna-token", "/sessions/red/mine/cancel", "POST")
    assert (answer.status_code, answer.json()["by"]) == (202, "anna")
    path = "/apis/efaas.dev/v1alpha1/namespaces/red/vqasessions/mine"
    assert api.deleted == [("anna-token", path)]
    assert ask(running, "eve-token", "/sessions/red/mine/cancel", "POST").status_code == 403
    assert ask(running, "anna-token", "/sessions/red/gone/cancel", "POST").status_code == 400
    refused = ask(running, "anna-token", "/sessions/red/locked/cancel", "POST")
    assert (refused.status_code, refused.json()["detail"]) == (403, 'vqasessions "locked" is forbidden')
    assert len(api.deleted) == 1


def test_answers_are_remembered_and_a_broken_api_server_is_said(
    running: RunningGateway, api: FakeApiServer
) -> None:
    ask(running, "anna-token", "/sessions/red/mine")
    before = api.reviews
    ask(running, "anna-token", "/sessions/red/mine")
    assert api.reviews == before
    api.broken = True
    answer = ask(running, "admin-token", "/sessions")
    assert (answer.status_code, answer.json()["retry"]) == (503, True)


def open_journal(
    running: RunningGateway, folder: Path, kind: str, name: str, token: str, epoch: int | None
) -> None:
    GatewayJournal(
        running.endpoint, kind, name, buffer=folder / token / kind, lease_epoch=epoch, token=token
    ).close()


def test_a_sessions_journal_is_open_to_the_pod_that_runs_it_alone(
    running: RunningGateway, api: FakeApiServer, tmp_path: Path
) -> None:
    def refused(token: str, epoch: int | None, words: str, name: str = "red/mine") -> None:
        with pytest.raises(InputError, match=words):
            open_journal(running, tmp_path, "session", name, token, epoch)

    open_journal(running, tmp_path, "session", "red/mine", "runner-red", 1)
    refused("other-pod", 1, "pod pod-2 does not run it")
    refused("no-pod", 1, "not bound to a pod")
    refused("runner-red", 2, "lease epoch 2 is not the one it runs under, 1")
    refused("runner-red", None, "is not the one it runs under")
    refused("runner-blue", 1, "may not write this")
    refused("qpu", 1, "may not write this")
    refused("runner-red", 1, "no VQASession of this name", "red/other")
    refused("runner-red", 1, "may not write this", "red/../../pods")
    refused("", 1, "no token was shown")
    # A user's token has no audience of ours.
    refused("anna-token", 1, "does not know the token")
    # The operator gives the session to a new pod: from then on the old one is refused.
    api.runner = {"uid": "pod-2", "leaseEpoch": 2}
    refused("runner-red", 1, "pod pod-1 does not run it")
    open_journal(running, tmp_path, "session", "red/mine", "other-pod", 2)
    api.runner = {}
    refused("other-pod", 2, "pod pod-2 does not run it")


def test_devices_and_accounts_are_the_systems(
    running: RunningGateway, api: FakeApiServer, tmp_path: Path
) -> None:
    open_journal(running, tmp_path, "device", "lagos", "qpu", None)
    with pytest.raises(InputError, match="may not write this"):
        open_journal(running, tmp_path, "device", "lagos", "runner-red", None)
    # The system's own accounts read with the token that they write with; runners do not.
    assert ask(running, "qpu", "/sessions").json()["total"] == 4
    assert ask(running, "runner-red", "/sessions").status_code == 401
    assert ask(running, "anna-token", "/accounts").status_code == 401
    with httpx.stream(
        "GET", f"{running.address}/api/v1/accounts", headers={"Authorization": "Bearer qpu"}
    ) as answer:
        assert answer.status_code == 200
        assert next(answer.iter_lines()) == "event: accounts"
