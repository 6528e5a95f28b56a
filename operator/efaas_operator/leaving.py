"""Why sessions are to leave a device, and why one that answers takes no more of them; no input or output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from efaas_operator.settings import DRAIN_ANNOTATION, FORCE_DELETE_ANNOTATION

_NAMED = 3


def why_leave(device: Mapping[str, Any]) -> str:
    """Why its sessions are to be moved elsewhere, in words; empty: they stay."""
    metadata = device["metadata"]
    annotations = metadata.get("annotations") or {}
    if metadata.get("deletionTimestamp") and annotations.get(FORCE_DELETE_ANNOTATION) == "true":
        return f"the device {metadata['name']} is being deleted"
    if DRAIN_ANNOTATION in annotations:
        reason = annotations[DRAIN_ANNOTATION]
        return f"the device {metadata['name']} is drained" + (f": {reason}"[:200] if reason else "")
    return ""


def why_closed(device: Mapping[str, Any], there: Sequence[str]) -> str:
    """Why it takes no new sessions, for its condition Ready; empty: it does.

    Args:
        device: the QPUDevice as the API server has it.
        there: keys of sessions that are on it.
    """
    metadata = device["metadata"]
    reason = why_leave(device)
    if reason:
        return reason + (f"; sessions on it: {len(there)}" if there else "")
    if not metadata.get("deletionTimestamp"):
        return ""
    named = ", ".join(there[:_NAMED]) + (", …" if len(there) > _NAMED else "")
    return (
        f"its deletion waits for its sessions ({named}); to move them: kubectl annotate qpu"
        f" {metadata['name']} {FORCE_DELETE_ANNOTATION}=true"
    )
