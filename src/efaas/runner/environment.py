"""What a runner is told by whoever starts it: the environment variables, read and checked once.

``EFAAS_SESSION_FILE``
    the VQASession, as YAML
``EFAAS_QPUS``
    JSON list of ``{"device", "endpoint", "tokenFile"}``, the session's own device first; instead of
    ``endpoint`` (or to correct it later) ``addressFile``: a file that the server writes its ``host:port``
    into when it listens, and again when it was started anew; with ``caFile`` (certificates that the server's
    own is signed by) the stream is TLS, and ``serverName`` is the name that its certificate must have, if
    that is not the endpoint's host
``EFAAS_JOURNAL``
    folder of the journal; results are written beside it
``EFAAS_LEASE_EPOCH``
    of this runner, a number that grows with every new owner of the session (default 0)
``EFAAS_PROGRESS_FD``
    optional: descriptor of a pipe for progress, one JSON object a line
``EFAAS_PROGRAM``
    the user's program, for sessions that have one
``EFAAS_TERMINATION_MESSAGE``
    optional: file that takes the result in brief, one JSON object of at most 4 KiB, when the runner ends; in
    a pod the one that its kubelet reads into the pod's status
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efaas.errors import InputError

if TYPE_CHECKING:
    from efaas.api.session import VQASession


@dataclass(frozen=True, slots=True)
class QpuTarget:
    """A QPU server that the session may use."""

    device: str
    endpoint: str = ""
    """``host:port``; empty while only the address file will tell."""
    token_file: Path | None = None
    address_file: Path | None = None
    ca_file: Path | None = None
    """Certificates that the server's own must be signed by; None: the stream is not encrypted."""
    server_name: str = ""
    """Name that the server's certificate must have; empty: the endpoint's host."""
    twins: str = ""
    """What its counts follow from, if it is frozen: devices with the same text are twins; empty: unknown."""

    def address(self) -> str:
        """Where it listens now, ``host:port``; empty while that is not known."""
        if self.address_file is not None:
            try:
                written = self.address_file.read_text().strip()
            except OSError:
                written = ""
            if written:
                return _endpoint_in(written)
        return self.endpoint

    def token(self) -> str:
        """The secret that admits the session; empty when there is none.

        Raises:
            InputError: the file cannot be read.
        """
        if self.token_file is None:
            return ""
        try:
            return self.token_file.read_text().strip()
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", place=str(self.token_file)) from None


@dataclass(frozen=True, slots=True)
class RunnerEnvironment:
    """The variables of a runner, read; see the module's text."""

    session_file: Path
    qpus: tuple[QpuTarget, ...]
    journal: Path
    lease_epoch: int = 0
    progress_fd: int | None = None
    program: Path | None = None
    termination_message: Path | None = None

    @property
    def folder(self) -> Path:
        """Where the session's results go: beside the journal."""
        return self.journal.parent

    def twins_of(self, device: str) -> tuple[str, ...]:
        """The session's other devices that give the same counts as this one, bit for bit."""
        own = next((qpu.twins for qpu in self.qpus if qpu.device == device), "")
        return tuple(qpu.device for qpu in self.qpus if own and qpu.twins == own and qpu.device != device)

    @classmethod
    def read(cls, variables: Mapping[str, str] = os.environ) -> RunnerEnvironment:
        """Read and check the variables.

        Raises:
            InputError: one is missing or is not what it should be; the place is its name.
        """
        for name in ("EFAAS_SESSION_FILE", "EFAAS_QPUS", "EFAAS_JOURNAL"):
            if not variables.get(name):
                raise InputError("is not set; start the session with `efaas run`", place=name)
        return cls(
            session_file=Path(variables["EFAAS_SESSION_FILE"]),
            qpus=_targets(variables["EFAAS_QPUS"]),
            journal=Path(variables["EFAAS_JOURNAL"]),
            lease_epoch=_number(variables, "EFAAS_LEASE_EPOCH") or 0,
            progress_fd=_number(variables, "EFAAS_PROGRESS_FD"),
            program=Path(variables["EFAAS_PROGRAM"]) if variables.get("EFAAS_PROGRAM") else None,
            termination_message=Path(variables["EFAAS_TERMINATION_MESSAGE"])
            if variables.get("EFAAS_TERMINATION_MESSAGE")
            else None,
        )

    def load_session(self) -> VQASession:
        """The session to run.

        Raises:
            InputError: the file cannot be read, or does not hold exactly one valid VQASession.
        """
        from efaas.api.load import load_documents

        documents = load_documents([self.session_file])
        if len(documents.sessions) != 1:
            raise InputError(
                f"holds {len(documents.sessions)} VQASessions; a runner takes one",
                place=str(self.session_file),
            )
        return documents.sessions[0]


def _endpoint_in(written: str) -> str:
    """The address in an address file: plain, or the JSON object that QPU servers write."""
    if not written.startswith("{"):
        return written
    try:
        return str(json.loads(written)["endpoint"])
    except (ValueError, KeyError):
        return ""


def _number(variables: Mapping[str, str], name: str) -> int | None:
    text = variables.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InputError(f"{text[:40]!r} is not a number", place=name)
    return int(text)


def _targets(text: str) -> tuple[QpuTarget, ...]:
    place = "EFAAS_QPUS"
    try:
        items = json.loads(text)
    except ValueError:
        raise InputError("is not JSON", place=place) from None
    if not isinstance(items, list) or not items:
        raise InputError("is not a list of at least one QPU", place=place)
    return tuple(_target(item, f"{place}[{index}]") for index, item in enumerate(items))


def _target(item: Any, place: str) -> QpuTarget:
    known = ("device", "endpoint", "tokenFile", "addressFile", "caFile", "serverName", "twins")
    if not isinstance(item, dict) or not all(isinstance(value, str) for value in item.values()):
        raise InputError(f"is not an object of the texts {', '.join(known)}", place=place)
    if not item.get("device") or not (item.get("endpoint") or item.get("addressFile")):
        raise InputError("needs device, and endpoint or addressFile", place=place)
    return QpuTarget(
        device=item["device"],
        endpoint=item.get("endpoint", ""),
        token_file=Path(item["tokenFile"]) if item.get("tokenFile") else None,
        address_file=Path(item["addressFile"]) if item.get("addressFile") else None,
        ca_file=Path(item["caFile"]) if item.get("caFile") else None,
        server_name=item.get("serverName", ""),
        twins=item.get("twins", ""),
    )
