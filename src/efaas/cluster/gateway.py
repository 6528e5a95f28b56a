"""The gateway's read API, reached from outside of the cluster.

It takes Kubernetes tokens. A kubeconfig with a client certificate has none; then a short-lived token is asked
for of the installation's service account for readers, which only those may do whom the cluster lets.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from efaas.cluster.connection import Cluster, ClusterError
from efaas.cluster.forward import forwarded
from efaas.errors import EfaasError, InputError

SERVICE = "efaas-gateway"
READER_ACCOUNT = "efaas-reader"
CA_CONFIG_MAP = "efaas-ca"
_TOKEN_S = 600
_PATIENCE_S = 30.0
_LARGEST_ANSWER_BYTES = 256 << 20


class GatewayError(EfaasError):
    """The gateway refused, or did not answer; `status` is its HTTP status, 0 without an answer."""

    code = "GatewayError"

    def __init__(self, message: str, *, status: int = 0, place: str = "") -> None:
        super().__init__(message, place=place)
        self.status = status


class Gateway:
    """Asks the gateway at an address.

    Args:
        address: ``host:port`` to connect to.
        token: bearer token.
        tls: how its certificate is checked; None: plain HTTP.
        server_name: name in its certificate.
    """

    def __init__(
        self, address: str, token: str, tls: ssl.SSLContext | None = None, server_name: str = ""
    ) -> None:
        self._address = address
        self._token = token
        self._tls = tls
        self._server_name = server_name

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """The JSON document at a path below ``/api/v1``.

        Raises:
            GatewayError: it refused, or did not answer.
        """
        return json.loads(self.read(path, query))

    def read(self, path: str, query: Mapping[str, Any] | None = None) -> bytes:
        """The bytes at a path below ``/api/v1``.

        Raises:
            GatewayError: it refused, or did not answer.
        """
        connection = self._connection()
        target = f"/api/v1{path}" + (f"?{urlencode(query, doseq=True)}" if query else "")
        try:
            connection.request("GET", target, headers={"Authorization": f"Bearer {self._token}"})
            answer = connection.getresponse()
            content = answer.read(_LARGEST_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise GatewayError(f"does not answer: {error}", place=f"gateway at {self._address}") from None
        finally:
            connection.close()
        if answer.status >= 400:
            raise GatewayError(_problem(content, answer.status), status=answer.status, place="gateway")
        return content

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._address, timeout=_PATIENCE_S)
        return _NamedConnection(self._address, self._tls, self._server_name)


class _NamedConnection(http.client.HTTPSConnection):
    """TLS to a forwarded port: the certificate is for another name than the address."""

    def __init__(self, address: str, tls: ssl.SSLContext, server_name: str) -> None:
        super().__init__(address, timeout=_PATIENCE_S, context=tls)
        self._context_used = tls
        self._server_name = server_name

    def connect(self) -> None:
        """Connect, and check the certificate for the service's name."""
        http.client.HTTPConnection.connect(self)
        self.sock = self._context_used.wrap_socket(self.sock, server_hostname=self._server_name)


@contextlib.contextmanager
def open_gateway(cluster: Cluster, system_namespace: str, url: str = "") -> Iterator[Gateway]:
    """The gateway of an installation, as long as the context lasts.

    Args:
        cluster: where it is.
        system_namespace: of its Service.
        url: where it can be reached without a way through the API server; empty: such a way is made.

    Raises:
        EfaasError: it cannot be reached, or no token can be had.
    """
    token = cluster.token() or _reader_token(cluster, system_namespace)
    if url:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise InputError(f"{url!r} is not an http or https URL", place="--gateway")
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        yield Gateway(parts.netloc, token, tls, parts.hostname or "")
        return
    service = cluster.find(f"/api/v1/namespaces/{system_namespace}/services/{SERVICE}")
    if service is None:
        raise InputError(
            f"there is no Service {SERVICE}; give --system-namespace, or --gateway URL",
            place=system_namespace,
        )
    port = next((each for each in service["spec"]["ports"] if each["name"] == "http"), None)
    if port is None:
        raise InputError("has no port named http", place=f"{system_namespace}/service/{SERVICE}")
    tls = _tls(cluster, system_namespace) if port.get("appProtocol") == "https" else None
    with forwarded(cluster, system_namespace, f"service/{SERVICE}", int(port["port"])) as address:
        yield Gateway(address, token, tls, f"{SERVICE}.{system_namespace}.svc")


def _tls(cluster: Cluster, system_namespace: str) -> ssl.SSLContext:
    found = cluster.find(f"/api/v1/namespaces/{system_namespace}/configmaps/{CA_CONFIG_MAP}")
    if found is None or "ca.crt" not in found.get("data", {}):
        raise InputError(f"there is no ConfigMap {CA_CONFIG_MAP} with ca.crt", place=system_namespace)
    return ssl.create_default_context(cadata=found["data"]["ca.crt"])


def _reader_token(cluster: Cluster, system_namespace: str) -> str:
    path = f"/api/v1/namespaces/{system_namespace}/serviceaccounts/{READER_ACCOUNT}/token"
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": _TOKEN_S},
    }
    try:
        return str(cluster.call("POST", path, body)["status"]["token"])
    except ClusterError as error:
        raise InputError(
            f"the kubeconfig has no token, and none can be had of {READER_ACCOUNT} ({error.message}); use a "
            "kubeconfig with a token",
            place="gateway",
        ) from None


def _problem(content: bytes, status: int) -> str:
    try:
        problem = json.loads(content)
        return str(problem.get("detail") or problem["title"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"HTTP status {status}"
