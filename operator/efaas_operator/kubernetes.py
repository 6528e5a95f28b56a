"""The API server, asked and told in plain documents.

The models of the `kubernetes` package take several times the memory of the documents they stand for, and its
calls block; so bodies stay the dictionaries that JSON gives, over the HTTP library that kopf brings.

Every call is tried again while that can help: no answer, 429 and 5xx, as long as the server asks for
(``Retry-After``) or after growing pauses. A call that was carried out although no answer came is carried out
twice then; all callers can bear that: names are not random, patches say what shall be.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Literal

import aiohttp
from pydantic_core import from_json

from efaas.errors import EfaasError
from efaas.kubernetes.connection import Connection
from efaas_operator.metrics import Metrics

Document = dict[str, Any]
PatchKind = Literal["merge", "json", "apply"]

FIELD_MANAGER: Final = "efaas-operator"
_CONTENT_TYPES: Final = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}
_PAGE: Final = 500
_LARGEST_ANSWER_BYTES: Final = 64 << 20


class ApiError(EfaasError):
    """The API server refused a call; `status` is its HTTP status, `reason` its word."""

    code = "ApiError"

    def __init__(self, message: str, *, status: int, reason: str = "", place: str = "") -> None:
        super().__init__(message, place=place)
        self.status = status
        self.reason = reason


class NotFound(ApiError):
    """There is no such object (404)."""

    code = "NotFound"


class Conflict(ApiError):
    """Somebody else has written meanwhile (409)."""

    code = "Conflict"
    retry = True


class AlreadyExists(ApiError):
    """An object of that name is there (409)."""

    code = "AlreadyExists"


class Invalid(ApiError):
    """The object breaks a rule of its kind (400, 422)."""

    code = "Invalid"


class Forbidden(ApiError):
    """A quota, a policy or missing rights forbid it (401, 403)."""

    code = "Forbidden"


class Unavailable(ApiError):
    """The server did not answer, or asked to be left alone, for as long as was waited (429, 5xx)."""

    code = "ApiServerUnavailable"
    retry = True


class KubernetesApi:
    """One API server.

    Args:
        connection: how it is reached.
        metrics: where calls are counted.
        at_once: calls that may be under way at the same time.
        patience_s: how long one call is tried again.
    """

    def __init__(
        self, connection: Connection, metrics: Metrics, *, at_once: int = 32, patience_s: float = 20.0
    ) -> None:
        self._connection = connection
        self._metrics = metrics
        self._places = asyncio.Semaphore(at_once)
        self._patience_s = patience_s
        self._http: aiohttp.ClientSession | None = None
        self.contact_s = 0.0
        """Monotonic seconds at which the server last answered; 0: never."""

    async def __aenter__(self) -> KubernetesApi:
        tls = self._connection.ssl
        connector = aiohttp.TCPConnector(ssl=tls if tls is not None else True, limit=0)
        self._http = aiohttp.ClientSession(
            connector=connector, headers={"User-Agent": FIELD_MANAGER}, auto_decompress=True
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def get(self, path: str) -> Document:
        """One object."""
        return await self._call("get", path)

    async def list_all(self, path: str, query: Mapping[str, str] | None = None) -> tuple[list[Document], str]:
        """All objects of a collection, page by page, and the resource version they are of."""
        found: list[Document] = []
        asked = {**(query or {}), "limit": str(_PAGE)}
        while True:
            page = await self._call("list", path, query=asked)
            for item in page["items"]:
                # A list says once what all its items are.
                item.setdefault("kind", str(page["kind"]).removesuffix("List"))
                item.setdefault("apiVersion", page["apiVersion"])
                found.append(item)
            token = page["metadata"].get("continue")
            if not token:
                return found, page["metadata"]["resourceVersion"]
            asked["continue"] = token

    async def create(self, path: str, document: Document) -> Document:
        """Make an object in a collection."""
        return await self._call("create", path, document, {"fieldManager": FIELD_MANAGER})

    async def patch(
        self, path: str, body: Document | list[Document], kind: PatchKind = "merge", *, force: bool = True
    ) -> Document:
        """Change an object; `apply` makes it if it is not there, and takes what others own if `force`."""
        query = {"fieldManager": FIELD_MANAGER}
        if kind == "apply" and force:
            query["force"] = "true"
        return await self._call("patch", path, body, query, _CONTENT_TYPES[kind])

    async def replace(self, path: str, document: Document) -> Document:
        """Put an object in the place of the one whose resource version it names."""
        return await self._call("update", path, document, {"fieldManager": FIELD_MANAGER})

    async def delete(
        self,
        path: str,
        *,
        uid: str | None = None,
        grace_s: int | None = None,
        propagation: str = "Background",
    ) -> bool:
        """Delete an object; False if it was not there (any more).

        Args:
            path: of the object.
            uid: only if it still is this one.
            grace_s: what its pod gets to end; 0 forces it away without its kubelet's word.
            propagation: of the deletion to what it owns.
        """
        options: Document = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
        }
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        try:
            await self._call("delete", path, options)
        except NotFound:
            return False
        except Conflict:
            return False  # one of the same name, with another UID
        return True

    # --- one call ---------------------------------------------------------------------------------

    async def _call(
        self,
        verb: str,
        path: str,
        body: Document | list[Document] | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Document:
        give_up_s = time.monotonic() + self._patience_s
        pause_s = 0.1
        while True:
            wanted_s: float | None = None
            try:
                async with self._places:
                    status, headers, answer = await self._exchange(verb, path, body, query, content_type)
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                self._metrics.calls.labels(verb, "0").inc()
                failure: ApiError = Unavailable(
                    f"no answer of the API server ({type(error).__name__})", status=0, place=path
                )
            else:
                if status < 400:
                    return answer
                failure = _failure(status, answer, path)
                if not isinstance(failure, Unavailable):
                    raise failure
                wanted_s = _retry_after(headers)
            wait_s = max(wanted_s or 0.0, pause_s * random.uniform(0.5, 1.0))
            if time.monotonic() + wait_s > give_up_s:
                raise failure
            await asyncio.sleep(wait_s)
            pause_s = min(2 * pause_s, 5.0)

    async def _exchange(
        self,
        verb: str,
        path: str,
        body: Document | list[Document] | None,
        query: Mapping[str, str] | None,
        content_type: str,
    ) -> tuple[int, Mapping[str, str], Document]:
        if self._http is None:
            raise OSError("the client is not open")
        started = time.perf_counter()
        headers = self._connection.headers() | {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        async with self._http.request(
            _METHODS[verb],
            self._connection.server + path,
            params=query,
            data=None if body is None else json.dumps(body).encode(),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=15, sock_connect=5, sock_read=10),
        ) as response:
            if (response.content_length or 0) > _LARGEST_ANSWER_BYTES:
                raise ValueError("an answer is larger than 64 MiB")
            text = await response.read()
            self._metrics.calls.labels(verb, str(response.status)).inc()
            self._metrics.call_seconds.labels(verb).observe(time.perf_counter() - started)
            if response.status < 500:
                self.contact_s = time.monotonic()
            try:
                answer = from_json(text) if text else {}
            except ValueError:
                answer = {"message": text[:256].decode(errors="replace")}
                if response.status < 400:
                    raise
            return response.status, response.headers, answer if isinstance(answer, dict) else {}


_METHODS: Final = {
    "get": "GET",
    "list": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
}


def _failure(status: int, answer: Document, path: str) -> ApiError:
    reason, message = str(answer.get("reason", "")), str(answer.get("message", ""))[:1024]
    kind: type[ApiError]
    if status == 404:
        kind = NotFound
    elif status == 409:
        kind = AlreadyExists if reason == "AlreadyExists" else Conflict
    elif status in (400, 422):
        kind = Invalid
    elif status in (401, 403):
        kind = Forbidden
    elif status == 429 or status >= 500:
        kind = Unavailable
    else:
        kind = ApiError
    return kind(
        f"the API server answered {status} {reason}: {message}", status=status, reason=reason, place=path
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    text = headers.get("Retry-After", "")
    return min(float(text), 60.0) if text.isascii() and text.isdigit() else None
