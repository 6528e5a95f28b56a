"""What ``efaas submit`` sends: a script becomes a VQASession and a ConfigMap, a manifest stays as it is.

The ConfigMap is made first, so that the operator, which looks for a missing script every few seconds only,
finds it at its first look. The session then becomes its owner, so that one `kubectl delete` takes both away.
"""

from __future__ import annotations

import ast
import contextlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from efaas.api.load import load_documents, load_text
from efaas.api.meta import API_VERSION
from efaas.cluster.connection import DEVICES, Cluster, ClusterError, Document, sessions_path
from efaas.errors import InputError

SCRIPT_KEY = "main.py"
LONGEST_NAME = 52
"""Characters of a session's name: pods and Services are named after it."""

_LARGEST_SCRIPT_BYTES = 900_000
"""A ConfigMap holds one MiB, with everything around the script."""
_SUFFIX = 5


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a person says of a session beside its script."""

    name: str = ""
    """Empty: the script's, with a few random letters."""
    spec: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the VQASession's spec."""
    arguments: Sequence[str] = ()
    """Of the script."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """A session that was sent."""

    namespace: str
    name: str


def script_documents(script: Path, namespace: str, wishes: Wishes) -> tuple[Document, Document]:
    """VQASession and ConfigMap of a Python file; the ConfigMap still lacks its owner.

    Raises:
        InputError: the file cannot be read, is too large, or is not Python; or a wish is not valid.
    """
    try:
        text = script.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", place=str(script)) from None
    if len(text.encode()) > _LARGEST_SCRIPT_BYTES:
        raise InputError(
            f"has more than {_LARGEST_SCRIPT_BYTES} bytes, which no ConfigMap holds; build an image and use "
            "spec.program.image",
            place=str(script),
        )
    try:
        ast.parse(text, filename=str(script))
    except SyntaxError as error:
        raise InputError(f"is not Python: {error.msg}", place=f"{script}:{error.lineno}") from None
    name = wishes.name or session_name(script.stem)
    config_map = f"{name}-program"
    session: Document = {
        "apiVersion": API_VERSION,
        "kind": "VQASession",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "program": {
                "script": {"name": config_map, "key": SCRIPT_KEY},
                **({"arguments": list(wishes.arguments)} if wishes.arguments else {}),
            },
            **wishes.spec,
        },
    }
    load_text(yaml.safe_dump(session), place=name)
    return session, {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": config_map, "namespace": namespace},
        "data": {SCRIPT_KEY: text},
    }


def session_name(stem: str) -> str:
    """A name that no other session has, from a file's."""
    plain = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[: LONGEST_NAME - _SUFFIX - 1].strip("-")
    return f"{plain or 'session'}-{secrets.token_hex(_SUFFIX)[:_SUFFIX]}"


def submit_script(cluster: Cluster, script: Path, wishes: Wishes) -> Submitted:
    """Make the session of a script.

    Raises:
        InputError: see `script_documents`; or a session of that name is there.
        ClusterError: the API server refuses.
    """
    session, config_map = script_documents(script, cluster.namespace, wishes)
    namespace, name = cluster.namespace, session["metadata"]["name"]
    config_maps = f"/api/v1/namespaces/{namespace}/configmaps"
    script_path = f"{config_maps}/{config_map['metadata']['name']}"
    # A session of that name that is there already is named as the reason, not its script.
    if cluster.find(f"{sessions_path(namespace)}/{name}") is not None:
        raise _there_already(session)
    _create(cluster, config_maps, config_map)
    session_path = ""
    try:
        made = _create(cluster, sessions_path(namespace), session)
        session_path = f"{sessions_path(namespace)}/{name}"
        cluster.call(
            "PATCH",
            script_path,
            {"metadata": {"ownerReferences": [_owner(name, made["metadata"]["uid"])]}},
            content_type="application/merge-patch+json",
        )
    except (ClusterError, InputError):
        for path in filter(None, (session_path, script_path)):
            with contextlib.suppress(ClusterError):
                cluster.call("DELETE", path)
        raise
    return Submitted(namespace, name)


def _owner(name: str, uid: str) -> Document:
    return {
        "apiVersion": API_VERSION,
        "kind": "VQASession",
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def submit_manifest(cluster: Cluster, manifest: Path) -> list[Submitted]:
    """Make what a manifest holds: ConfigMaps and devices are applied, sessions must be new.

    Raises:
        InputError: the manifest is not valid, holds no session, or a session of that name is there.
        ClusterError: the API server refuses.
    """
    checked = load_documents([manifest])
    if not checked.sessions:
        raise InputError("holds no VQASession", place=str(manifest))
    submitted = []
    for document in yaml.safe_load_all(manifest.read_text()):
        if not document:
            continue
        kind, metadata = document["kind"], document["metadata"]
        namespace = metadata.get("namespace") or cluster.namespace
        if kind == "VQASession":
            document["metadata"] = {**metadata, "namespace": namespace}
            _create(cluster, sessions_path(namespace), document)
            submitted.append(Submitted(namespace, metadata["name"]))
        else:
            path = DEVICES if kind == "QPUDevice" else f"/api/v1/namespaces/{namespace}/configmaps"
            cluster.call(
                "PATCH",
                f"{path}/{metadata['name']}",
                document,
                query={"fieldManager": "efaas-submit", "force": "true"},
                content_type="application/apply-patch+yaml",
            )
    return submitted


def _create(cluster: Cluster, path: str, document: Document) -> Document:
    try:
        return cluster.call("POST", path, document)
    except ClusterError as error:
        name = _named(document)
        if error.status == 409:
            raise _there_already(document) from None
        if error.status == 404 and "namespaces" not in str(error):
            raise InputError(
                f"the cluster does not know {document['kind']}s; install EFaaS into it", place=name
            ) from None
        raise


def _named(document: Document) -> str:
    return f"{document['kind']} {document['metadata']['name']}"


def _there_already(document: Document) -> InputError:
    return InputError("is there already; delete it, or give another --name", place=_named(document))
