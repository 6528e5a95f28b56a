"""Access in a cluster: Kubernetes says who asks and what that user may do.

A reader shows a Kubernetes token. **TokenReview** says whose it is; **SubjectAccessReview** says whether that
user may ``get`` or ``delete`` ``vqasessions.efaas.dev`` in a namespace. So tenants see their own namespaces,
by the same roles that let them use kubectl. Answers are kept for a short while (`REMEMBERED_S`), never longer
than that, and only so many of them.

A writer shows a projected token of its service account with the audience ``efaas-gateway``. A session's
journal is open to service accounts of the session's namespace; devices' journals and reports are open to the
service accounts that the gateway is told (those of QPU servers and of the operator).

A cancel deletes the VQASession with the user's own token: the API server decides once more, and its audit log
names the user.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import httpx

from efaas.errors import EfaasError, InputError
from efaas_gateway.access import Forbidden, Unauthenticated, User, Verb

REMEMBERED_S = 30.0
_MOST = 10_000
_GROUP = "efaas.dev"
_RESOURCE = "vqasessions"
WRITER_AUDIENCE = "efaas-gateway"

T = TypeVar("T")


class ApiServerUnavailable(EfaasError):
    """Kubernetes' API server did not answer, or not as it should; worth a retry."""

    code = "ApiServerUnavailable"
    retry = True


class _Remembered:
    """Answers, each for a short while."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._answers: OrderedDict[Any, tuple[float, Any]] = OrderedDict()

    def get(self, key: Any) -> Any:
        """The answer, or None."""
        found = self._answers.get(key)
        return found[1] if found is not None and self._clock() - found[0] < REMEMBERED_S else None

    def put(self, key: Any, answer: Any) -> None:
        """Remember an answer."""
        self._answers[key] = (self._clock(), answer)
        self._answers.move_to_end(key)
        while len(self._answers) > _MOST:
            self._answers.popitem(last=False)


class ApiServer:
    """Kubernetes' API server, asked with the gateway's own service account.

    Args:
        url: its address.
        token_file: the gateway's token, read anew each time: kubelets renew it.
        ca_file: certificate that its own is signed by; None: the system's.
        timeout_s: for one request.
    """

    def __init__(
        self, url: str, token_file: Path | None = None, ca_file: Path | None = None, timeout_s: float = 5.0
    ) -> None:
        self._token_file = token_file
        verify: Any = True
        if ca_file is not None:
            import ssl

            verify = ssl.create_default_context(cafile=str(ca_file))
        self._client = httpx.AsyncClient(base_url=url, verify=verify, timeout=timeout_s)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def call(
        self, method: str, path: str, body: dict[str, Any] | None = None, token: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        """One request; returns status and object.

        Raises:
            ApiServerUnavailable: no answer, or none that makes sense.
        """
        if token is None and self._token_file is not None:
            token = self._token_file.read_text().strip()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            answer = await self._client.request(method, path, json=body, headers=headers)
            content = answer.json() if answer.content else {}
        except (httpx.HTTPError, ValueError) as error:
            raise ApiServerUnavailable(
                f"the API server could not be asked ({type(error).__name__}); try again", place="kubernetes"
            ) from None
        if answer.status_code >= 500 or not isinstance(content, dict):
            raise ApiServerUnavailable(
                f"the API server answered {answer.status_code}; try again", place="kubernetes"
            )
        return answer.status_code, content


class ClusterAccess:
    """`efaas_gateway.access.Access` by Kubernetes.

    Args:
        server: the API server.
        system_accounts: ``namespace:name`` of the service accounts that may write devices' journals and
            reports.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        server: ApiServer,
        system_accounts: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._system = frozenset(f"system:serviceaccount:{account}" for account in system_accounts)
        self._users = _Remembered(clock)
        self._allowed = _Remembered(clock)

    async def close(self) -> None:
        """Close all connections."""
        await self._server.close()

    async def user(self, token: str) -> User:
        """Whose token it is, by TokenReview."""
        return await self._review(token, ())

    async def _review(self, token: str, audiences: tuple[str, ...]) -> User:
        known = self._users.get((token, audiences))
        if known is not None:
            assert isinstance(known, User)
            return known
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, **({"audiences": list(audiences)} if audiences else {})},
        }
        status, answer = await self._server.call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body)
        _must_have_reviewed(status, "TokenReview")
        said = answer.get("status")
        said = said if isinstance(said, dict) else {}
        named = said.get("user")
        name = named.get("username", "") if isinstance(named, dict) else ""
        # A cluster that does not know audiences answers without them: such a token is not for us.
        meant = not audiences or bool(set(audiences) & set(said.get("audiences") or ()))
        if said.get("authenticated") is not True or not name or not meant:
            raise Unauthenticated("Kubernetes does not know the token, or it has expired; get a new one")
        assert isinstance(named, dict)
        user = User(name, tuple(map(str, named.get("groups") or ())), token)
        self._users.put((token, audiences), user)
        return user

    async def may(self, user: User, verb: Verb, namespace: str) -> bool:
        """Whether the user may do this, by SubjectAccessReview."""
        key = (user.name, user.groups, verb, namespace)
        known = self._allowed.get(key)
        if known is not None:
            return bool(known)
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": user.name,
                "groups": list(user.groups),
                "resourceAttributes": {
                    "group": _GROUP,
                    "resource": _RESOURCE,
                    "verb": verb,
                    **({"namespace": namespace} if namespace else {}),
                },
            },
        }
        status, answer = await self._server.call(
            "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body
        )
        _must_have_reviewed(status, "SubjectAccessReview")
        said = answer.get("status")
        allowed = isinstance(said, dict) and said.get("allowed") is True
        self._allowed.put(key, allowed)
        return allowed

    async def writer(self, token: str, kind: str, name: str) -> None:
        """See that a service account may write this journal."""
        account = (await self._review(token, (WRITER_AUDIENCE,))).name
        if account in self._system:
            return
        if kind == "session":
            namespace = name.partition("/")[0]
            if account.startswith(f"system:serviceaccount:{namespace}:"):
                return
        raise Forbidden(f"{account} may not write this", place=f"{kind} {name}".strip())

    async def cancel(self, user: User, namespace: str, name: str) -> None:
        """Delete the VQASession as the user.

        Raises:
            Forbidden: the API server refuses.
            InputError: it is gone already.
        """
        status, answer = await self._server.call(
            "DELETE",
            f"/apis/{_GROUP}/v1alpha1/namespaces/{namespace}/{_RESOURCE}/{name}",
            token=user.token,
        )
        message = str(answer.get("message", ""))[:500]
        if status in (401, 403):
            raise Forbidden(message or "the API server refuses", place=f"{namespace}/{name}")
        if status == 404:
            raise InputError("the VQASession is gone already", place=f"{namespace}/{name}")
        if status >= 300:
            raise InputError(message or f"the API server answered {status}", place=f"{namespace}/{name}")


def _must_have_reviewed(status: int, what: str) -> None:
    if status >= 300:
        raise ApiServerUnavailable(
            f"the API server answered {status} to a {what}; the gateway's service account needs the role "
            "system:auth-delegator",
            place="kubernetes",
        )
