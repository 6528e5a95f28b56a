"""Who may speak in a cluster: Kubernetes says whose token it is, and who the session's runner is.

A runner shows the projected token of its pod, whose audience is the QPU servers'. **TokenReview** says
whether it is good and which pod it is bound to. A token is good while its pod is there, so that of a pod
which was deleted is refused. The session's **VQASession** says which pod is its runner now, and with which
lease epoch: the operator alone writes ``status.runner``, before the pod starts. So another session's token,
and that of a runner that was replaced, open nothing.

The token of the operator, the *keeper*, admits to the calls of who keeps the device.

Answers are remembered for a short while, under a digest of the token: a good one for `REMEMBERED_S`, and
never past the token's own end; a refusal for `REFUSAL_REMEMBERED_S`, so that who tries one token over and
over does not keep the API server busy. What a VQASession says is read for each hello: hellos are rare, and
a runner that was just named must not be turned away. No answer at all is no refusal: clients are told to
try again.

Requests are plain HTTPS, a connection each, by the standard library in threads: a few a minute, not worth a
dependency of the image.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.client
import json
import logging
import os
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from efaas.api.meta import API_VERSION
from efaas.errors import InputError
from efaas_qpu.authentication import LONGEST_TOKEN, NotAdmitted

logger = logging.getLogger(__name__)

IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where every pod finds its own token and the certificates of the API server."""

REMEMBERED_S = 30.0
REFUSAL_REMEMBERED_S = 5.0
_MOST_REMEMBERED = 10_000
_ANSWER_S = 5.0
_LONGEST_ANSWER = 4 << 20
_AT_ONCE = 4
"""Requests under way: each holds a thread."""

_POD_UID = "authentication.kubernetes.io/pod-uid"
_TRY_AGAIN = "Kubernetes could not be asked about the token; try again"


class ApiServerUnavailable(Exception):
    """The API server gave no answer that makes sense."""


class Asks(Protocol):
    """The part of `ApiServer` that is used here; tests bring their own."""

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        """One request: status and object."""


class ApiServer:
    """Kubernetes' API server, asked with the QPU server's own service account.

    Args:
        url: ``https://HOST:PORT``.
        token_file: the server's own token; read for each request, because kubelets renew it.
        ca_file: certificates that the API server's own is signed by; None: the system's.
    """

    def __init__(self, url: str, token_file: Path | None, ca_file: Path | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"{url!r} is no https://HOST:PORT", place="--kubernetes")
        self._parts, self._token_file, self._ca_file = parts, token_file, ca_file
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        """One request.

        Returns:
            HTTP status and the object of the answer.

        Raises:
            ApiServerUnavailable: no answer within a few seconds, a fault of the server, or no object.
        """
        async with self._free:
            try:
                status, text = await asyncio.to_thread(self._exchange, method, path, body)
                answer = json.loads(text) if text else {}
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise ApiServerUnavailable(f"{type(error).__name__}: {error}") from None
        if status >= 500 or status == 429 or not isinstance(answer, dict):
            raise ApiServerUnavailable(f"it answered {status}")
        return status, answer

    def _exchange(self, method: str, path: str, body: Any) -> tuple[int, bytes]:
        host, port = str(self._parts.hostname), self._parts.port
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._token_file is not None:
            headers["Authorization"] = f"Bearer {self._token_file.read_text().strip()}"
        if self._parts.scheme == "https":
            context = ssl.create_default_context(cafile=str(self._ca_file) if self._ca_file else None)
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=_ANSWER_S, context=context
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=_ANSWER_S)
        try:
            text = None if body is None else json.dumps(body).encode()
            connection.request(method, self._parts.path.rstrip("/") + path, text, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(_LONGEST_ANSWER)
        finally:
            connection.close()


def api_server(
    where: str,
    token_file: Path | None = None,
    ca_file: Path | None = None,
    variables: Mapping[str, str] = os.environ,
) -> ApiServer:
    """The API server that the command line names.

    Args:
        where: ``in-cluster``, or its URL.
        token_file: the QPU server's own token; the pod's if not given.
        ca_file: as `ApiServer`; the pod's if not given.
        variables: the environment.

    Raises:
        InputError: this is no pod, or the URL is none.
    """
    if where != "in-cluster":
        return ApiServer(where, token_file, ca_file)
    host, port = variables.get("KUBERNETES_SERVICE_HOST"), variables.get("KUBERNETES_SERVICE_PORT", "443")
    token_file, ca_file = token_file or IN_CLUSTER / "token", ca_file or IN_CLUSTER / "ca.crt"
    if not host or not token_file.is_file():
        raise InputError(
            "this is no pod with a service account's token; give the API server's URL", place="--kubernetes"
        )
    return ApiServer(f"https://{f'[{host}]' if ':' in host else host}:{port}", token_file, ca_file)


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whose token it is."""

    account: str
    """``system:serviceaccount:NAMESPACE:NAME``."""
    pod_uid: str
    """Pod that the token is bound to; empty: none."""


class ClusterAuthenticator:
    """`efaas_qpu.authentication.Authenticator` by Kubernetes.

    Args:
        server: the API server.
        audience: that tokens must have.
        keeper: ``namespace:name`` of the service account that keeps devices; empty: nobody does.
        clock: monotonic wall seconds.
        now: wall seconds since 1970, against which tokens end.
    """

    tells_everyone = False

    def __init__(
        self,
        server: Asks,
        audience: str,
        keeper: str = "",
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        if keeper and (keeper.count(":") != 1 or not all(keeper.split(":"))):
            raise InputError(f"{keeper!r} is not NAMESPACE:NAME", place="--keeper-account")
        self._server, self._audience, self._clock, self._now = server, audience, clock, now
        self._keeper = f"system:serviceaccount:{keeper}" if keeper else ""
        self._remembered: OrderedDict[bytes, tuple[float, Bearer | None]] = OrderedDict()

    async def session(self, name: str, lease_epoch: int, token: str) -> str:
        """See that the token is that of the pod which is the session's runner now."""
        bearer = await self._review(token)
        namespace, _, plain = name.partition("/")
        if not bearer.pod_uid or not bearer.account.startswith(f"system:serviceaccount:{namespace}:"):
            raise NotAdmitted("the token does not admit this session")
        path = f"/apis/{API_VERSION}/namespaces/{namespace}/vqasessions/{plain}"
        status, document = await self._ask("GET", path)
        if status == 404:
            raise NotAdmitted("there is no such VQASession")
        if status != 200:
            logger.error(
                "the API server answered %d to GET %s; the QPU server's service account must be allowed to"
                " get vqasessions",
                status,
                path,
            )
            raise NotAdmitted(_TRY_AGAIN, retry=True)
        return _admitted(document, bearer, lease_epoch)

    async def keeper(self, token: str) -> None:
        """See that the token is that of the keeper's service account."""
        bearer = await self._review(token)
        if not self._keeper or bearer.account != self._keeper:
            raise NotAdmitted("the token does not admit to the device")

    async def _review(self, token: str) -> Bearer:
        if not token or len(token) > LONGEST_TOKEN:
            raise NotAdmitted("there is no token; show the one for this server's audience")
        key = hashlib.sha256(token.encode(errors="replace")).digest()
        found = self._remembered.get(key)
        if found is not None and self._clock() < found[0]:
            bearer = found[1]
        else:
            bearer = await self._ask_whose(token)
            lasts_s = REFUSAL_REMEMBERED_S
            if bearer is not None:
                lasts_s = min(REMEMBERED_S, _ends_s(token) - self._now())
            self._remembered[key] = (self._clock() + lasts_s, bearer)
            self._remembered.move_to_end(key)
            while len(self._remembered) > _MOST_REMEMBERED:
                self._remembered.popitem(last=False)
        if bearer is None:
            raise NotAdmitted(
                f"Kubernetes does not know the token, it has ended, or its audience is not {self._audience}"
            )
        return bearer

    async def _ask_whose(self, token: str) -> Bearer | None:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self._audience]},
        }
        status, answer = await self._ask("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body)
        if status not in (200, 201):
            logger.error(
                "the API server answered %d to a TokenReview; the QPU server's service account needs the role"
                " system:auth-delegator",
                status,
            )
            raise NotAdmitted(_TRY_AGAIN, retry=True)
        said = _mapping(answer.get("status"))
        user = _mapping(said.get("user"))
        account = user.get("username")
        # A cluster that does not know audiences answers without them: such a token is not for us.
        meant = self._audience in (said.get("audiences") or ())
        if said.get("authenticated") is not True or not isinstance(account, str) or not meant:
            return None
        pods = _mapping(user.get("extra")).get(_POD_UID)
        return Bearer(account, str(pods[0]) if isinstance(pods, list) and len(pods) == 1 else "")

    async def _ask(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        try:
            return await self._server.call(method, path, body)
        except ApiServerUnavailable as error:
            logger.warning("the API server could not be asked: %s", error)
            raise NotAdmitted(_TRY_AGAIN, retry=True) from None


def _admitted(document: Mapping[str, Any], bearer: Bearer, lease_epoch: int) -> str:
    """UID of a session whose runner the bearer is with this epoch.

    Raises:
        NotAdmitted: another pod is, or none, or it has another epoch.
    """
    metadata = _mapping(document.get("metadata"))
    runner = _mapping(_mapping(document.get("status")).get("runner"))
    epoch = runner.get("leaseEpoch")
    known = epoch if isinstance(epoch, int) else -1
    if runner.get("uid") != bearer.pod_uid:
        # The operator may not have written it yet, if this runner comes after the one it names.
        raise NotAdmitted("the token's pod is not the session's runner", retry=known < lease_epoch)
    if lease_epoch < known:
        raise NotAdmitted(f"lease epoch {lease_epoch} is older than {known}, the session's", fenced=True)
    if lease_epoch > known:
        raise NotAdmitted(f"lease epoch {lease_epoch} was given to nobody; the session's is {known}")
    return str(metadata.get("uid", ""))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _ends_s(token: str) -> float:
    """When a token ends, wall seconds since 1970, as it says itself; never if it does not.

    Only good for not believing an answer for too long: whether the token is good, Kubernetes has said.
    """
    try:
        claims = token.split(".")[1]
        said = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        return float(said["exp"])
    except (ValueError, LookupError, TypeError):
        return float("inf")
