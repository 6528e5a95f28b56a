"""Access in a cluster: Kubernetes says who asks and what that user may do.

A reader shows a Kubernetes token. **TokenReview** says whose it is; **SubjectAccessReview** says whether that
user may ``get`` or ``delete`` ``vqasessions.efaas.dev`` in a namespace. So tenants see their own namespaces,
by the same roles that let them use kubectl. Answers are kept for a short while (`REMEMBERED_S`), never longer
than that, and only so many of them.

A writer shows a projected token of its service account with the audience ``efaas-gateway``. A session's
journal is open to one pod alone: the token must be bound to the pod whose UID is ``status.runner.uid`` of the
VQASession, and a writer must come with its ``status.runner.leaseEpoch``. The operator sets both before the
pod starts, so a runner that was given up, or another pod of the same namespace, is nobody here. Devices'
journals, reports and the accounts are open to the service accounts that the gateway is told (those of QPU
servers, operator and extender); these may read over HTTP too, with the same token.

A cancel deletes the VQASession with the user's own token: the API server decides once more, and its audit log
names the user.
"""

from __future__ import annotations

import re
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
_POD_UID = "authentication.kubernetes.io/pod-uid"

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
        """Whose token it is, by TokenReview; of tokens meant for writers only the system's own."""
        try:
            return await self._review(token, ())
        except Unauthenticated as first:
            try:
                user = await self._review(token, (WRITER_AUDIENCE,))
            except Unauthenticated:
                raise first from None
            if user.name not in self._system:
                raise
            return user

    async def _review(self, token: str, audiences: tuple[str, ...]) -> User:
        if not token:
            # Kubernetes calls a review of nothing a bad request, which would look like our own mistake.
            raise Unauthenticated("no token was shown; a Kubernetes token is needed")
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
        user = User(name, tuple(map(str, named.get("groups") or ())), token, _pod_uid(named.get("extra")))
        self._users.put((token, audiences), user)
        return user

    async def may(self, user: User, verb: Verb, namespace: str) -> bool:
        """Whether the user may do this, by SubjectAccessReview."""
        if verb == "get" and user.name in self._system:
            return True
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

    async def writer(self, token: str, kind: str, name: str, lease_epoch: int | None = None) -> None:
        """See that a service account may write this journal."""
        user = await self._review(token, (WRITER_AUDIENCE,))
        if kind == "session":
            await self._must_be_runner(user, name, lease_epoch)
        elif user.name not in self._system:
            raise Forbidden(f"{user.name} may not write this", place=f"{kind} {name}".strip())

    async def _must_be_runner(self, user: User, key: str, lease_epoch: int | None) -> None:
        """See that a user is the pod that runs a session now, under its lease epoch.

        Raises:
            Forbidden: it is not.
        """
        place = f"session {key}"
        namespace, _, name = key.partition("/")
        if not user.name.startswith(f"system:serviceaccount:{namespace}:") or not _is_name(namespace, name):
            raise Forbidden(f"{user.name} may not write this", place=place)
        if not user.pod_uid:
            raise Forbidden(f"{user.name} showed a token that is not bound to a pod", place=place)
        status, session = await self._server.call(
            "GET", f"/apis/{_GROUP}/v1alpha1/namespaces/{namespace}/{_RESOURCE}/{name}"
        )
        if status == 404:
            raise Forbidden("there is no VQASession of this name", place=place)
        if status >= 300:
            raise ApiServerUnavailable(
                f"the API server answered {status} to a read; the gateway's service account must be able to "
                "get vqasessions",
                place="kubernetes",
            )
        told = session.get("status")
        runner = told.get("runner") if isinstance(told, dict) else None
        runner = runner if isinstance(runner, dict) else {}
        if user.pod_uid != runner.get("uid"):
            raise Forbidden(f"pod {user.pod_uid} does not run it", place=place)
        if lease_epoch is not None and lease_epoch != runner.get("leaseEpoch"):
            raise Forbidden(
                f"lease epoch {lease_epoch} is not the one it runs under, {runner.get('leaseEpoch')}",
                place=place,
            )

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


def _pod_uid(extra: object) -> str:
    """UID of the pod that a token is bound to, from ``user.extra`` of a TokenReview."""
    values = extra.get(_POD_UID) if isinstance(extra, dict) else None
    return str(values[0]) if isinstance(values, list) and len(values) == 1 else ""


def _is_name(*parts: str) -> bool:
    """Whether these can be names of objects; anything else could leave the path that is asked for."""
    return all(re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", part) for part in parts)


def _must_have_reviewed(status: int, what: str) -> None:
    if status >= 300:
        raise ApiServerUnavailable(
            f"the API server answered {status} to a {what}; the gateway's service account needs the role "
            "system:auth-delegator",
            place="kubernetes",
        )
