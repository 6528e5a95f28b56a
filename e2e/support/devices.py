"""Devices for a test: there are two QPU nodes, so each theme brings two devices of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from e2e.support.kubectl import MEDIUM_S, Kubectl, condition, wait_until

TWIN = {"model": {"snapshot": "manila-5"}, "slots": 12}
"""A frozen device: shots on two of them are the same, to the bit."""


def device(name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """A QPUDevice."""
    return {
        "apiVersion": "efaas.dev/v1alpha1",
        "kind": "QPUDevice",
        "metadata": {"name": name},
        "spec": dict(spec),
    }


def bring(kubectl: Kubectl, devices: Mapping[str, Mapping[str, Any]]) -> None:
    """Have exactly these devices, with nothing of an earlier test on them, and wait until they are ready."""
    kubectl("delete", "vqasessions", "--all", "--all-namespaces", "--timeout=90s", timeout_s=100)
    kubectl("delete", "qpudevices", "--all", "--timeout=90s", timeout_s=100)
    kubectl.apply([device(name, spec) for name, spec in devices.items()])
    wait_until(f"devices {', '.join(devices)} to be ready", lambda: all_ready(kubectl, *devices), MEDIUM_S)


def all_ready(kubectl: Kubectl, *names: str) -> bool:
    """Whether all of these serve."""
    found = {each["metadata"]["name"]: each.get("status") or {} for each in kubectl.everywhere("qpudevices")}
    return all(condition(found.get(name, {}), "Ready").get("status") == "True" for name in names)


def pod_of(kubectl: Kubectl, name: str) -> dict[str, Any]:
    """The device's pod."""
    return kubectl.get("pod", f"qpu-{name}", "efaas-system")
