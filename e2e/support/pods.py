"""Short-lived pods that try something from inside of the cluster, under the restricted standard."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Mapping

from e2e.support.kubectl import MEDIUM_S, Document, Kubectl, wait_until


def pod(name: str, image: str, code: str, labels: Mapping[str, str] | None = None) -> Document:
    """A pod that runs Python code once."""
    container = {
        "name": "try",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", code],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": dict(labels or {})},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
        },
    }


def run(
    kubectl: Kubectl, code: str, labels: Mapping[str, str] | None = None, namespace: str = "default"
) -> str:
    """Run code in a pod of the operator's image and return what it prints."""
    deployment = kubectl.get("deployment", "efaas-operator", "efaas-system")
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    name = f"try-{secrets.token_hex(4)}"
    kubectl.apply(pod(name, image, code, labels), namespace)
    try:
        wait_until(
            f"pod {name} to end",
            lambda: kubectl.get("pod", name, namespace)["status"].get("phase") in ("Succeeded", "Failed"),
            MEDIUM_S,
        )
        return kubectl("logs", name, "-n", namespace)
    finally:
        with contextlib.suppress(Exception):
            kubectl("delete", "pod", name, "-n", namespace, "--wait=false")


def knock(kubectl: Kubectl, host: str, port: int, labels: Mapping[str, str] | None = None) -> bool:
    """Whether a TCP connection to a port comes about, from a pod with these labels."""
    code = (
        "import socket\n"
        f"try: socket.create_connection(({host!r}, {port}), timeout=5).close(); print('open')\n"
        "except TimeoutError: print('closed')\n"
        "except ConnectionRefusedError: print('refused')\n"
    )
    said = run(kubectl, code, labels).strip()
    assert said in ("open", "closed", "refused"), said
    return said == "open"
