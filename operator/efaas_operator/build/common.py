"""What all our pods share: who owns them, what they may not do, how fast they leave a dead node.

The security settings are those of the *restricted* Pod Security Standard and a root file system that cannot
be written, in every container, also in those that run a user's image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from efaas.api.meta import API_VERSION
from efaas.api.names import QPU_LABEL
from efaas_operator.settings import Settings

Document = dict[str, Any]


def labels(component: str) -> dict[str, str]:
    """The recommended labels."""
    return {
        "app.kubernetes.io/name": component,
        "app.kubernetes.io/part-of": "efaas",
        "app.kubernetes.io/managed-by": "efaas-operator",
    }


def owner_reference(owner: Mapping[str, Any]) -> Document:
    """Ties an object's life to its session or device; deletion of the owner is never blocked by it."""
    return {
        "apiVersion": owner.get("apiVersion", API_VERSION),
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": False,
    }


def pod_security(settings: Settings) -> Document:
    """Security context of a pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": settings.user,
        "runAsGroup": settings.user,
        "fsGroup": settings.user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Document:
    """Security context of a container."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def tolerations(settings: Settings) -> list[Document]:
    """Lets a pod onto QPU nodes, and off a node that is gone."""
    return [
        {"key": QPU_LABEL, "operator": "Exists", "effect": "NoSchedule"},
        *(
            {
                "key": f"node.kubernetes.io/{condition}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": settings.node_loss_s,
            }
            for condition in ("not-ready", "unreachable")
        ),
    ]


def scratch(name: str, size: str) -> Document:
    """A bounded folder that lives as long as its pod."""
    return {"name": name, "emptyDir": {"sizeLimit": size}}


def without_status(document: Mapping[str, Any]) -> Document:
    """A document as a person would apply it: no status, and only the metadata that is read again."""
    kept = ("name", "namespace", "uid", "generation", "labels")
    metadata = {key: document["metadata"][key] for key in kept if key in document["metadata"]}
    return {
        "apiVersion": document["apiVersion"],
        "kind": document["kind"],
        "metadata": metadata,
        "spec": document["spec"],
    }


def to_yaml(document: Mapping[str, Any]) -> str:
    """Text of a document for a ConfigMap."""
    return yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True)
