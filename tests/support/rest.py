"""A plain client of Kubernetes' REST interface: paths in, documents out."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

Document = dict[str, Any]


class ApiError(Exception):
    """The API server answered with an error.

    Args:
        status: HTTP status code.
        body: the Status document, or the text.
    """

    def __init__(self, status: int, body: Any) -> None:
        reason = body.get("message", body) if isinstance(body, dict) else body
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.body = body


class Api:
    """REST client of the API server, safe to use from several threads.

    Args:
        server: ``https://127.0.0.1:PORT``.
        token: bearer token.
        ca_file: certificates to trust.
    """

    def __init__(self, server: str, token: str, ca_file: Path) -> None:
        self._address = urlsplit(server)
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._ca_file = ca_file
        self._threads = threading.local()
        self._connections: list[http.client.HTTPSConnection] = []

    def get(self, path: str, **query: str | int) -> Document:
        """Read an object or a list."""
        return self.call("GET", path, query=query)

    def find(self, path: str) -> Document | None:
        """Read an object; None if it is not there."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def items(self, path: str, **query: str | int) -> list[Document]:
        """The objects of a list."""
        return list(self.get(path, **query)["items"])

    def create(self, path: str, document: Mapping[str, Any]) -> Document:
        """Create an object in the collection."""
        return self.call("POST", path, document)

    def replace(self, path: str, document: Mapping[str, Any]) -> Document:
        """Write an object as a whole."""
        return self.call("PUT", path, document)

    def patch(self, path: str, change: Any, *, kind: str = "merge") -> Document:
        """Change an object by a ``merge``, ``strategic-merge`` or ``json`` patch."""
        return self.call("PATCH", path, change, content_type=f"application/{kind}-patch+json")

    def delete(self, path: str, **query: str | int) -> None:
        """Delete an object or a collection; one that is gone is no error."""
        try:
            self.call("DELETE", path, query=query)
        except ApiError as error:
            if error.status != 404:
                raise

    def call(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        query: Mapping[str, str | int] | None = None,
        content_type: str = "application/json",
    ) -> Document:
        """Send one request.

        Raises:
            ApiError: the answer is not a success.
        """
        target = quote(path, safe="/:") + (f"?{urlencode(query)}" if query else "")
        body = None if document is None else json.dumps(document).encode()
        headers = self._headers | ({"Content-Type": content_type} if body else {})
        try:
            status, answer = self._exchange(method, target, body, headers)
        except (OSError, http.client.HTTPException):
            # The kept connection may have been closed meanwhile: once more on a new one.
            self._threads.connection = None
            status, answer = self._exchange(method, target, body, headers)
        try:
            parsed = json.loads(answer) if answer else {}
        except ValueError:
            parsed = answer.decode(errors="replace")
        if status >= 400:
            raise ApiError(status, parsed)
        return parsed if isinstance(parsed, dict) else {"text": parsed}

    def close(self) -> None:
        """Close the connections of all threads."""
        while self._connections:
            self._connections.pop().close()

    def _exchange(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        connection = getattr(self._threads, "connection", None)
        if connection is None:
            context = ssl.create_default_context(cafile=str(self._ca_file))
            connection = http.client.HTTPSConnection(
                str(self._address.hostname), self._address.port, timeout=30, context=context
            )
            self._threads.connection = connection
            self._connections.append(connection)
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
