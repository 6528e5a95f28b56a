"""What Kubernetes objects say, as the core's dataclasses: `efaas.api.reading`, shared with the operator."""

from __future__ import annotations

from efaas.api.reading import (
    DeviceRecord,
    NodeRecord,
    PodRecord,
    SessionRecord,
    cpus,
    read_device,
    read_node,
    read_pod,
    read_session,
    timestamp,
    with_use,
)

__all__ = [
    "DeviceRecord",
    "NodeRecord",
    "PodRecord",
    "SessionRecord",
    "cpus",
    "read_device",
    "read_node",
    "read_pod",
    "read_session",
    "timestamp",
    "with_use",
]
