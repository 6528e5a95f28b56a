"""The few calls that the chart's jobs make at the API server: plain HTTPS, one after the other."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from efaas.errors import EfaasError
from efaas.kubernetes.connection import Connection

FIELD_MANAGER = "efaas-chart"
_ANSWER_S = 10.0
_LARGEST_ANSWER_BYTES = 64 << 20
_APPLY = "application/apply-patch+yaml"

Document = dict[str, Any]


class Refused(EfaasError):
    """The API server refused a call; `status` is its HTTP status."""

    code = "ApiError"

    def __init__(self, message: str, *, status: int, place: str) -> None:
        super().__init__(message, place=place)
        self.status = status


class TookTooLong(EfaasError):
    """What was waited for did not come in time."""

    code = "TookTooLong"
    retry = True


class Cluster:
    """An API server.

    Args:
        connection: how it is reached.
        patience_s: how long a call is tried again while nobody answers.
    """

    def __init__(self, connection: Connection, patience_s: float = 60.0) -> None:
        self._connection = connection
        self._patience_s = patience_s

    def get(self, path: str) -> Document | None:
        """An object or a collection; None if it is not there."""
        try:
            return self._call("GET", path)
        except Refused as refusal:
            if refusal.status == 404:
                return None
            raise

    def apply(self, path: str, document: Document) -> Document:
        """Server-side apply: what we said before and no longer say goes, what others said stays."""
        return self._call("PATCH", f"{path}?fieldManager={FIELD_MANAGER}&force=true", document, _APPLY)

    def delete(self, path: str) -> None:
        """Delete an object; fine if it is gone."""
        try:
            self._call("DELETE", path)
        except Refused as refusal:
            if refusal.status != 404:
                raise

    def _call(
        self, method: str, path: str, body: Document | None = None, content_type: str = "application/json"
    ) -> Document:
        connection = self._connection
        data = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json", "Content-Type": content_type, **connection.headers()}
        end = time.monotonic() + self._patience_s
        while True:
            request = urllib.request.Request(connection.server + path, data, headers, method=method)
            try:
                with urllib.request.urlopen(request, timeout=_ANSWER_S, context=connection.ssl) as answer:
                    read: Document = json.loads(answer.read(_LARGEST_ANSWER_BYTES))
                    return read
            except urllib.error.HTTPError as error:
                if error.code not in (429, 500, 502, 503, 504) or time.monotonic() > end:
                    raise Refused(_words(error), status=error.code, place=path) from None
            except OSError as error:
                if time.monotonic() > end:
                    raise TookTooLong(f"the API server does not answer: {error}", place=path) from None
            time.sleep(1.0)


def wait_for(what: str, holds: Callable[[], bool], timeout_s: float) -> None:
    """Look once a second until something holds.

    Raises:
        TookTooLong: it did not in time.
    """
    end = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > end:
            raise TookTooLong(f"not within {timeout_s:g} s", place=what)
        time.sleep(1.0)


def segment(name: str) -> str:
    """A name as part of a path."""
    return quote(name, safe="")


def _words(error: urllib.error.HTTPError) -> str:
    text = error.read(1 << 16).decode(errors="replace")
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text or error.reason
