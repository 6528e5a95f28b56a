"""Who may speak for a session: its runner alone, told by a token that Kubernetes vouches for.

All of it is tried from a pod that NetworkPolicies let through, so that tokens alone decide. The expired token
is a runner's own one with its end in the past, signed with the cluster's key.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from e2e.support import breaking, pods
from e2e.support.devices import TWIN, bring
from e2e.support.kubectl import SHORT_S, Kubectl, wait_until
from e2e.support.sessions import SYSTEM, loop, trajectory

RUNNER = {
    "app.kubernetes.io/name": "efaas-runner",
    "app.kubernetes.io/part-of": "efaas",
    "app.kubernetes.io/managed-by": "efaas-operator",
}
SESSIONS = ("mine", "theirs", "taken")
SIGNING_KEY = "/etc/kubernetes/pki/sa.key"
QPU = "qpu-left.efaas-system.svc:8470"
GATEWAY = "efaas-gateway.efaas-system.svc:8081"

TO_QPU = """
import grpc
from efaas.api.wire import qpu_pb2 as wire, qpu_pb2_grpc
hello = wire.Hello(protocol=1, session=session, tenant="default", lease_epoch=epoch, token=token)
hello.session_seed, hello.weight = 1, 1
with grpc.secure_channel(endpoint, grpc.ssl_channel_credentials(ca.encode())) as channel:
    grpc.channel_ready_future(channel).result(timeout=20)
    try:
        messages = iter([wire.ClientMessage(hello=hello)])
        answer = next(qpu_pb2_grpc.QpuStub(channel).Session(messages, timeout=20))
        print(answer.WhichOneof("message"), wire.ErrorCode.Name(answer.error.code), answer.error.message)
    except grpc.RpcError as error:
        print("error", error.code().name, error.details())
"""
TO_GATEWAY = """
import grpc
from efaas.api.wire import journal_pb2 as wire, journal_pb2_grpc
subject = wire.Subject(kind="session", name=session)
opening = wire.Open(protocol=1, subject=subject, lease_epoch=epoch, writer="stranger", token=token)
with grpc.secure_channel(endpoint, grpc.ssl_channel_credentials(ca.encode())) as channel:
    grpc.channel_ready_future(channel).result(timeout=20)
    try:
        messages = iter([wire.JournalRequest(open=opening)])
        answer = next(journal_pb2_grpc.GatewayStub(channel).Journal(messages, timeout=20))
        refused = answer.refused
        print(answer.WhichOneof("message"), wire.RefusalCode.Name(refused.code), refused.message)
    except grpc.RpcError as error:
        print("error", error.code().name, error.details())
"""
DOORS = {
    "QPU server": ("efaas-qpu", QPU, TO_QPU),
    "gateway": ("efaas-gateway", GATEWAY, TO_GATEWAY),
}
Say = Callable[[str, str, int], str]


@pytest.fixture(scope="module", autouse=True)
def _sessions(kubectl: Kubectl) -> Iterator[None]:
    """Sessions that run while others try to speak for one of them."""
    bring(kubectl, {"left": {**TWIN, "simulation": {"timeScale": "1"}}, "right": TWIN})
    here = {"device": {"matchLabels": {"efaas.dev/device": "left"}}}
    kubectl.apply([loop(name, 500, **here) for name in SESSIONS])
    for name in SESSIONS:
        kubectl.wait_for_state(name, "Running")
    yield
    kubectl("delete", "vqa", *SESSIONS, "--timeout=60s", timeout_s=70)


@pytest.fixture(params=DOORS.keys())
def door(request: pytest.FixtureRequest) -> tuple[str, str, str]:
    """Audience, address and what is said there."""
    return DOORS[request.param]


@pytest.fixture
def say(kubectl: Kubectl, door: tuple[str, str, str]) -> Say:
    """Speak for a session with a token and a lease epoch; what is answered, in a line."""
    _, endpoint, code = door
    ca = kubectl.get("configmap", "efaas-ca", SYSTEM)["data"]["ca.crt"]

    def say(session: str, token: str, epoch: int) -> str:
        known = (
            f"session, token, epoch = {session!r}, {token!r}, {epoch}\nendpoint, ca = {endpoint!r}, {ca!r}\n"
        )
        return pods.run(kubectl, known + code, RUNNER).strip()

    return say


def _token(kubectl: Kubectl, session: str, audience: str) -> tuple[str, int]:
    """A token like the one in a session's runner pod, and its lease epoch."""
    runner = kubectl.session(session)["runner"]
    bound = ("--bound-object-kind=Pod", f"--bound-object-name={runner['pod']}")
    uid = f"--bound-object-uid={runner['uid']}"
    token = kubectl("create", "token", "default", "-n", "default", f"--audience={audience}", *bound, uid)
    return token.strip(), int(runner["leaseEpoch"])


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _expired(kubectl: Kubectl, token: str) -> str:
    """The same token, had it been made two hours ago for an hour."""
    head, claims, _ = token.split(".")
    said = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    said.update(iat=int(time.time()) - 7200, nbf=int(time.time()) - 7200, exp=int(time.time()) - 3600)
    content = f"{head}.{_encoded(json.dumps(said).encode())}"
    (control_plane,) = kubectl.everywhere("nodes", "node-role.kubernetes.io/control-plane")
    text = breaking.engine("exec", control_plane["metadata"]["name"], "cat", SIGNING_KEY)
    key = serialization.load_pem_private_key(text.encode(), password=None)
    assert isinstance(key, RSAPrivateKey)
    return f"{content}.{_encoded(key.sign(content.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def test_no_token_is_refused(kubectl: Kubectl, door: tuple[str, str, str], say: Say):
    _, epoch = _token(kubectl, "mine", door[0])
    assert "UNAUTHENTICATED" in say("default/mine", "", epoch)


def test_a_token_of_another_session_is_refused(kubectl: Kubectl, door: tuple[str, str, str], say: Say):
    token, _ = _token(kubectl, "theirs", door[0])
    _, epoch = _token(kubectl, "mine", door[0])
    assert "UNAUTHENTICATED" in say("default/mine", token, epoch)


def test_an_expired_token_is_refused(kubectl: Kubectl, door: tuple[str, str, str], say: Say):
    token, epoch = _token(kubectl, "mine", door[0])
    assert "UNAUTHENTICATED" in say("default/mine", _expired(kubectl, token), epoch)


def test_a_token_for_another_audience_is_refused(kubectl: Kubectl, door: tuple[str, str, str], say: Say):
    token, epoch = _token(kubectl, "mine", "somebody-else")
    assert "UNAUTHENTICATED" in say("default/mine", token, epoch)


def test_a_higher_epoch_than_the_operators_is_refused(kubectl: Kubectl, door: tuple[str, str, str], say: Say):
    token, epoch = _token(kubectl, "mine", door[0])
    assert say("default/mine", token, epoch + 1).split()[0] in ("error", "refused")


def test_the_runners_own_token_opens(kubectl: Kubectl, door: tuple[str, str, str], say: Say):
    """Else the refusals above would show nothing.

    Who has a runner's token takes its stream to a device over, so a third session pays for this. The gateway
    knows the token, but has a living writer.
    """
    session = "taken" if door[0] == "efaas-qpu" else "theirs"
    token, epoch = _token(kubectl, session, door[0])
    said = say(f"default/{session}", token, epoch)
    assert "UNAUTHENTICATED" not in said
    assert said.split()[0] == ("welcome" if door[0] == "efaas-qpu" else "refused")


def test_sessions_went_on_all_the_while(kubectl: Kubectl):
    before = {name: len(trajectory(kubectl, name)["evaluation"]) for name in ("mine", "theirs")}
    wait_until(
        "both to go on",
        lambda: all(len(trajectory(kubectl, name)["evaluation"]) > done for name, done in before.items()),
        SHORT_S,
    )
