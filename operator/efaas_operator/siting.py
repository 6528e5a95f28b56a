"""Which node each device is on, and what a node must say about it; no input or output.

A device stays where it is as long as its node is there: its log may be on that node. One without `spec.node`
gets a free node with the label ``efaas.dev/qpu``; the older device chooses first, so that all who compute
this agree. A node that another device has is never shared: the scheduler places by the node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from efaas.api.names import CALIBRATION_EPOCH_ANNOTATION, QPU_LABEL, SESSION_RESOURCE
from efaas_operator.build.common import Document

_EFFECT = "NoSchedule"


@dataclass(frozen=True, slots=True)
class Site:
    """Where a device is to be, or why it can be nowhere."""

    node: str = ""
    reason: str = ""
    message: str = ""


def site_devices(devices: Iterable[Mapping[str, Any]], nodes: Iterable[Mapping[str, Any]]) -> dict[str, Site]:
    """A node for every device.

    Args:
        devices: QPUDevices as the API server has them.
        nodes: all nodes.
    """
    there = {node["metadata"]["name"]: node for node in nodes}
    labelled = sorted(
        name for name, node in there.items() if QPU_LABEL in (node["metadata"].get("labels") or {})
    )
    by_age = sorted(
        devices,
        key=lambda each: (each["metadata"].get("creationTimestamp") or "", each["metadata"]["name"]),
    )
    taken: dict[str, str] = {}
    sites: dict[str, Site] = {}
    # Those that name their node first, then those that have one, then those that want any.
    for device in by_age:
        name, wanted = device["metadata"]["name"], device["spec"].get("node")
        if wanted:
            sites[name] = _named(wanted, name, taken, there)
    for device in by_age:
        name = device["metadata"]["name"]
        present = (device.get("status") or {}).get("node")
        if name not in sites and present is not None and present in there and present not in taken:
            taken[present] = name
            sites[name] = Site(present)
    for device in by_age:
        name = device["metadata"]["name"]
        if name in sites:
            continue
        free = next((node for node in labelled if node not in taken and _takes_pods(there[node])), None)
        if free is None:
            sites[name] = Site(reason="NoNode", message=_no_node(len(labelled)))
        else:
            taken[free] = name
            sites[name] = Site(free)
    return sites


def _named(wanted: str, name: str, taken: dict[str, str], there: Mapping[str, Mapping[str, Any]]) -> Site:
    if wanted not in there:
        return Site(
            reason="NodeNotFound", message=f"there is no node {wanted}; mend spec.node or add the node"
        )
    if wanted in taken:
        return Site(
            reason="NodeTaken",
            message=f"node {wanted} has device {taken[wanted]} already; name another node in spec.node",
        )
    taken[wanted] = name
    return Site(wanted)


def _no_node(labelled: int) -> str:
    if not labelled:
        return f"no node has the label {QPU_LABEL}; label one, or name one in spec.node"
    return f"all {labelled} nodes with the label {QPU_LABEL} have devices; label another one"


def _takes_pods(node: Mapping[str, Any]) -> bool:
    if (node.get("spec") or {}).get("unschedulable") or node["metadata"].get("deletionTimestamp"):
        return False
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def news_of(device: Mapping[str, Any], status: Mapping[str, Any]) -> str:
    """What of a device may let a waiting pod in, as a text for its node's annotation.

    Args:
        device: the QPUDevice.
        status: as it was written last.
    """
    spec = device["spec"]
    calibration = status.get("calibration") or {}
    parts = (
        calibration.get("epoch", 0),
        status.get("state") or "Pending",
        f"{spec.get('slots', 8)} slots",
        "cordoned" if spec.get("cordon") else "open",
    )
    return ", ".join(str(part) for part in parts)


def capacity_change(node: Mapping[str, Any], slots: int | None) -> Document | None:
    """Merge patch of a node's status that gives it so many session slots; None if it has them.

    A kubelet copies what others put into the capacity to what can be allocated. One that was started anew
    sets both to zero, and a scheduler reads the second: so both are written.

    Args:
        node: as the API server has it.
        slots: of its device; None: it has no device (any more).
    """
    status = node.get("status") or {}
    wanted = None if slots is None else str(slots)
    change = {
        part: {SESSION_RESOURCE: wanted}
        for part in ("capacity", "allocatable")
        if (status.get(part) or {}).get(SESSION_RESOURCE) != wanted
    }
    return {"status": change} if change else None


def node_change(node: Mapping[str, Any], news: str | None) -> Document | None:
    """Merge patch of a node: taint, and the annotation that wakes waiting pods; None if all is there.

    It names the version that was read: of two who change taints at once, one is refused and looks again.

    Args:
        node: as the API server has it.
        news: for the annotation; None: the node has no device (any more).
    """
    metadata = node["metadata"]
    taints = list((node.get("spec") or {}).get("taints") or ())
    others = [taint for taint in taints if taint["key"] != QPU_LABEL]
    wanted = others if news is None else [*others, {"key": QPU_LABEL, "effect": _EFFECT}]
    change: Document = {}
    tainted = any(taint["key"] == QPU_LABEL and taint["effect"] == _EFFECT for taint in taints)
    if tainted != (news is not None):
        change["spec"] = {"taints": wanted}
        change["metadata"] = {"resourceVersion": metadata["resourceVersion"]}
    if (metadata.get("annotations") or {}).get(CALIBRATION_EPOCH_ANNOTATION) != news:
        change.setdefault("metadata", {})["annotations"] = {CALIBRATION_EPOCH_ANNOTATION: news}
    return change or None
