"""Where objects are at the API server."""

from __future__ import annotations

from efaas.api.meta import API_VERSION

SESSIONS = f"/apis/{API_VERSION}/vqasessions"
DEVICES = f"/apis/{API_VERSION}/qpudevices"
NODES = "/api/v1/nodes"
PODS = "/api/v1/pods"
NAMESPACES = "/api/v1/namespaces"


def session(namespace: str, name: str) -> str:
    """A VQASession."""
    return f"/apis/{API_VERSION}/namespaces/{namespace}/vqasessions/{name}"


def device(name: str) -> str:
    """A QPUDevice."""
    return f"{DEVICES}/{name}"


def node(name: str) -> str:
    """A Node."""
    return f"{NODES}/{name}"


def core(namespace: str, plural: str, name: str = "") -> str:
    """An object (or, without name, the collection) of the core group."""
    collection = f"/api/v1/namespaces/{namespace}/{plural}"
    return f"{collection}/{name}" if name else collection


def lease(namespace: str, name: str = "") -> str:
    """A Lease, or the collection."""
    collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    return f"{collection}/{name}" if name else collection
