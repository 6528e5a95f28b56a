"""Which devices an installation has: those listed, and one for each other QPU node."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field

from efaas.api.meta import API_VERSION, GROUP, Model, Name
from efaas.errors import InputError

RELEASE_LABEL = f"{GROUP}/release"
"""On a device that came with a release of the chart: the release, which alone changes or deletes it."""

Document = dict[str, Any]
_LONGEST_NAME = 52


class Listed(Model):
    """A device of the list."""

    name: Annotated[Name, Field(max_length=_LONGEST_NAME)]
    """Name of the QPUDevice."""
    spec: dict[str, Any]
    """Its specification; checked by the API server."""


class PerNode(Model):
    """A device for each QPU node that no listed device names."""

    enabled: bool = True
    """Whether there are any."""
    spec: dict[str, Any] = Field(default_factory=dict)
    """Specification of each, without its node."""


class Wanted(Model):
    """The devices of an installation."""

    per_node: PerNode = PerNode()
    """One for each node."""
    list_: Annotated[list[Listed], Field(alias="list")] = Field(default_factory=list)
    """Devices by name."""


def wanted_devices(wanted: Wanted, nodes: Iterable[str], release: str) -> list[Document]:
    """The QPUDevices that shall be there, by name.

    Args:
        wanted: what the values say.
        nodes: names of the QPU nodes.
        release: of the chart.

    Raises:
        InputError: two have the same name, or a listed device without a node stands beside one for each node,
            which would leave it none.
    """
    specs: dict[str, Mapping[str, Any]] = {}
    taken = set()
    for listed in wanted.list_:
        if listed.name in specs:
            raise InputError(f"two devices are named {listed.name!r}; rename one", place="devices.list")
        if "node" in listed.spec:
            taken.add(listed.spec["node"])
        elif wanted.per_node.enabled:
            raise InputError(
                f"{listed.name!r} names no node, and every node gets a device of its own; give it spec.node, "
                "or set devices.perNode.enabled to false",
                place="devices.list",
            )
        specs[listed.name] = listed.spec
    if wanted.per_node.enabled:
        for node in sorted(set(nodes) - taken):
            name = device_name(node)
            if name in specs:
                raise InputError(
                    f"{name!r} is the name of the device of node {node!r}; rename the listed one",
                    place="devices.list",
                )
            specs[name] = {**wanted.per_node.spec, "node": node}
    return [_device(name, spec, release) for name, spec in sorted(specs.items())]


def device_name(node: str) -> str:
    """Name of a node's device: the node's, cut and told apart by a digest where that is no device's name."""
    name = re.sub("[^a-z0-9]+", "-", node.lower()).strip("-")
    if name == node and len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(node.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - 9].rstrip('-')}-{digest}"


def _device(name: str, spec: Mapping[str, Any], release: str) -> Document:
    return {
        "apiVersion": API_VERSION,
        "kind": "QPUDevice",
        "metadata": {"name": name, "labels": {RELEASE_LABEL: release}},
        "spec": dict(spec),
    }
