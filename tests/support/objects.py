"""Kubernetes objects as tests need them: complete, small, and different only where a test says so."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from typing import Any

from efaas.api.names import SCHEDULER_NAME, SESSION_NAME_ANNOTATION, SESSION_RESOURCE

Document = dict[str, Any]


def rfc3339(moment_s: float) -> str:
    """A wall time as the API writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment_s))


def device(
    name: str,
    node: str,
    *,
    qubits: int = 7,
    slots: int = 4,
    age_s: float = 0.0,
    state: str = "Ready",
    now_s: float | None = None,
    labels: Mapping[str, str] | None = None,
    calibration: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    spec: Mapping[str, Any] | None = None,
) -> Document:
    """A QPUDevice with a status.

    Args:
        name: its name.
        node: node it is on.
        qubits: number of qubits.
        slots: session slots.
        age_s: age of its calibration.
        state: one word of its status.
        now_s: wall time; now if not given.
        labels: of the QPUDevice.
        calibration: further fields of the status's calibration.
        status: further fields of the status.
        spec: further fields of the spec.
    """
    now_s = time.time() if now_s is None else now_s
    return {
        "apiVersion": "efaas.dev/v1alpha1",
        "kind": "QPUDevice",
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": dict(labels or {})},
        "spec": {
            "model": {"snapshot": "perth-7"},
            "node": node,
            "slots": slots,
            "simulation": {"timeScale": "1"},
            "calibration": {"drift": "Model", "interval": "12h", "maxAge": "24h", "duration": "150s"},
            **(spec or {}),
        },
        "status": {
            "state": state,
            "qubits": qubits,
            "node": node,
            "calibration": {
                "epoch": 1,
                "time": rfc3339(now_s - age_s),
                "ageSeconds": int(age_s),
                "oneQubitErrorPpm": 300,
                "twoQubitErrorPpm": 10_000,
                "readoutErrorPpm": 20_000,
                "localMilliseconds": 20_000,
                **(calibration or {}),
            },
            **(status or {}),
        },
    }


def session(
    name: str, namespace: str = "default", *, requirements: Mapping[str, Any] | None = None, shots: int = 4096
) -> Document:
    """A VQASession for a chain of four spins; `requirements` is its ``spec.device``."""
    return {
        "apiVersion": "efaas.dev/v1alpha1",
        "kind": "VQASession",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "problem": {"isingChain": {"sites": 4}},
            "ansatz": {"efficientSU2": {"repetitions": 2}},
            "optimizer": {"spsa": {}},
            "shots": shots,
            "device": dict(requirements or {}),
        },
    }


def runner_pod(
    name: str,
    namespace: str = "default",
    *,
    session_name: str | None = None,
    cpu: str = "100m",
    node_selector: Mapping[str, str] | None = None,
    **spec: Any,
) -> Document:
    """A pod that asks for one session slot, as the operator makes them."""
    resources = {"requests": {"cpu": cpu}, "limits": {SESSION_RESOURCE: "1"}}
    annotations = {SESSION_NAME_ANNOTATION: session_name} if session_name else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
        "spec": {
            "schedulerName": SCHEDULER_NAME,
            "containers": [{"name": "runner", "image": "runner", "resources": resources}],
            **({"nodeSelector": dict(node_selector)} if node_selector else {}),
            **spec,
        },
    }


def as_stored(document: Mapping[str, Any], *, uid: str = "", generation: int = 1, **changes: Any) -> Document:
    """An object as a watch would report it."""
    stored = copy.deepcopy(dict(document))
    metadata = stored["metadata"]
    metadata.setdefault("uid", uid or f"uid-{metadata.get('namespace', '')}-{metadata['name']}")
    metadata.setdefault("generation", generation)
    metadata.setdefault("resourceVersion", "1")
    if stored["kind"] == "Pod":
        for container in stored["spec"]["containers"]:
            limits = container["resources"].get("limits", {})
            container["resources"]["requests"] = {**limits, **container["resources"].get("requests", {})}
        stored.setdefault("status", {"phase": "Pending"})
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = stored
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = value
    return stored
