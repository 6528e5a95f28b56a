"""What is kept of a cluster in which a test failed: enough to find the cause without the cluster."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable
from pathlib import Path

from e2e.support.kubectl import Kubectl, KubectlError

_KINDS = (
    "nodes",
    "pods",
    "vqasessions",
    "qpudevices",
    "leases",
    "jobs",
    "networkpolicies",
    "persistentvolumeclaims",
)


def collect(kubectl: Kubectl, folder: Path) -> None:
    """Write objects, events and logs into a folder; what cannot be had is left out."""
    folder.mkdir(parents=True, exist_ok=True)

    def keep(name: str, ask: Callable[[], str]) -> None:
        with contextlib.suppress(KubectlError, subprocess.TimeoutExpired):
            (folder / name).write_text(ask())

    keep("events.txt", lambda: kubectl("get", "events", "-A", "--sort-by=.lastTimestamp"))
    keep("overview.txt", lambda: kubectl("get", "nodes,pods,vqasessions,qpudevices", "-A", "-o", "wide"))
    for kind in _KINDS:
        keep(f"{kind}.yaml", lambda kind=kind: kubectl("get", kind, "-A", "-o", "yaml"))  # type: ignore[misc]
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    with contextlib.suppress(KubectlError, subprocess.TimeoutExpired):
        for pod in kubectl.everywhere("pods", "app.kubernetes.io/part-of=efaas"):
            namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
            for container in pod["spec"]["containers"]:
                one = ("logs", "-n", namespace, name, "-c", container["name"], "--timestamps")
                label = f"logs/{namespace}.{name}.{container['name']}"
                keep(f"{label}.txt", lambda one=one: kubectl(*one))  # type: ignore[misc]
                keep(f"{label}.previous.txt", lambda one=one: kubectl(*one, "--previous"))  # type: ignore[misc]
