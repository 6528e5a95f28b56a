"""The API server, asked with a person's kubeconfig.

The `kubernetes` package reads the kubeconfig: contexts, client certificates, and the programs that clouds use
for tokens. Bodies stay plain documents. Calls block: a command line has nothing else to do.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from efaas.api.meta import GROUP
from efaas.errors import EfaasError, InputError

Document = dict[str, Any]

SYSTEM_NAMESPACE = "efaas-system"
"""Where the control side is, unless the installation says otherwise."""

_API = f"/apis/{GROUP}/v1alpha1"
DEVICES = f"{_API}/qpudevices"
_CALL_S = 30.0
_CONNECT_S = 10.0
_LARGEST_ANSWER_BYTES = 64 << 20


class ClusterError(EfaasError):
    """The API server refused a call; `status` is its HTTP status, 0 if it did not answer."""

    code = "ClusterError"

    def __init__(self, message: str, *, status: int = 0, place: str = "") -> None:
        super().__init__(message, place=place)
        self.status = status
        self.retry = status in (0, 429) or status >= 500


def sessions_path(namespace: str | None) -> str:
    """Path of the VQASessions of a namespace, or of all (None)."""
    return f"{_API}/vqasessions" if namespace is None else f"{_API}/namespaces/{namespace}/vqasessions"


class Cluster:
    """One API server and the namespace that names without one are of.

    Args:
        client: an `ApiClient` of the `kubernetes` package.
        namespace: of the person's context, or given.
        options: kubeconfig and context as kubectl takes them, for the programs that are started beside.
    """

    def __init__(self, client: Any, namespace: str, options: tuple[str, ...] = ()) -> None:
        self._client = client
        self.namespace = namespace
        self.kubectl_options = options

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Document:
        """One request; returns the answer's document.

        Raises:
            ClusterError: the API server refused, or did not answer.
        """
        with self._opened(method, path, body, query, content_type, _CALL_S) as response:
            text = response.read(_LARGEST_ANSWER_BYTES)
        document: Document = json.loads(text) if text else {}
        return document

    def find(self, path: str) -> Document | None:
        """An object; None if there is none."""
        try:
            return self.call("GET", path)
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    def items(self, path: str, **query: str) -> list[Document]:
        """All objects of a collection."""
        found: list[Document] = []
        following = ""
        while True:
            page = self.call(
                "GET", path, query={"limit": "500", **({"continue": following} if following else {}), **query}
            )
            found.extend(page["items"])
            following = page["metadata"].get("continue", "")
            if not following:
                return found

    def watch(
        self, path: str, *, name: str = "", version: str = "", within_s: float = 60.0
    ) -> Iterator[tuple[str, Document]]:
        """What happens to the objects of a collection, until the server ends it.

        Yields:
            ADDED, MODIFIED or DELETED, and the object.

        Raises:
            ClusterError: the API server refused; 410 if the version is too old.
        """
        query = {"watch": "1", "timeoutSeconds": str(max(1, int(within_s)))}
        if name:
            query["fieldSelector"] = f"metadata.name={name}"
        if version:
            query["resourceVersion"] = version
        with self._opened("GET", path, None, query, "", within_s + 15.0) as response:
            for line in _lines(response):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise ClusterError(str(status.get("message", "")), status=int(status.get("code", 0)))
                yield event["type"], event["object"]

    def lines(self, path: str, query: Mapping[str, str] | None = None) -> Iterator[str]:
        """An answer line by line, such as a pod's log, as they come."""
        with self._opened("GET", path, None, query, "", None) as response:
            for line in _lines(response):
                yield line.decode(errors="replace")

    def token(self) -> str:
        """The person's own token; empty where the kubeconfig uses a certificate."""
        headers: dict[str, str] = {}
        self._client.update_params_for_auth(headers, [], ["BearerToken"], "", "", None)
        value = next((text for key, text in headers.items() if key.lower() == "authorization"), "")
        return value.removeprefix("Bearer ").strip()

    @contextlib.contextmanager
    def _opened(
        self,
        method: str,
        path: str,
        body: Any,
        query: Mapping[str, str] | None,
        content_type: str,
        read_s: float | None,
    ) -> Iterator[Any]:
        import urllib3

        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            request = self._client.param_serialize(
                method,
                quote(path),
                query_params=list((query or {}).items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = self._client.call_api(*request, _request_timeout=(_CONNECT_S, read_s))
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ClusterError(
                f"does not answer: {_plain(error)}", place=self._client.configuration.host
            ) from None
        response = answer.response
        try:
            if answer.status >= 400:
                raise _refusal(answer.status, response.read(65536), path)
            yield response
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ClusterError(f"stopped answering: {_plain(error)}", place=path) from None
        finally:
            response.close()


def open_cluster(kubeconfig: str | None, context: str | None, namespace: str | None) -> Cluster:
    """The cluster of a kubeconfig, as kubectl would choose it.

    Raises:
        InputError: there is no usable kubeconfig, or no such context; or the package `kubernetes` is missing.
    """
    try:
        from kubernetes import config
        from kubernetes.config.config_exception import ConfigException
    except ImportError:
        raise InputError(
            "needs the package `kubernetes`; install efaas[cluster]", place="efaas submit"
        ) from None
    try:
        contexts, active = config.list_kube_config_contexts(kubeconfig)
        client = config.new_client_from_config(kubeconfig, context)
    except (ConfigException, OSError, TypeError) as error:
        raise InputError(f"cannot be used: {error}", place=kubeconfig or "kubeconfig") from None
    chosen = next((each for each in contexts if each["name"] == context), active)
    options = (("--kubeconfig", kubeconfig) if kubeconfig else ()) + (
        ("--context", context) if context else ()
    )
    return Cluster(client, namespace or chosen["context"].get("namespace") or "default", options)


def _lines(response: Any) -> Iterator[bytes]:
    rest = b""
    while chunk := response.read1(65536):
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LARGEST_ANSWER_BYTES:
            raise ClusterError("a line is longer than 64 MiB")
        yield from whole
    if rest:
        yield rest


def _refusal(status: int, text: bytes, path: str) -> ClusterError:
    try:
        message = str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        message = text.decode(errors="replace")[:500] or f"HTTP status {status}"
    return ClusterError(message, status=status, place="" if path in message else path)


def _plain(error: BaseException) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error).splitlines()[0][:300]
