"""One played node: its object, its Lease, its silence."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from tests.support.kubelet_api import TROUBLE
from tests.support.kubelet_binding import requests
from tests.support.rest import ApiError, Document

if TYPE_CHECKING:
    from tests.support.kubelet import Kubelet
    from tests.support.kubelet_pod import PodLife

_RENEWAL_S = 2.0
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


class Node:
    """A node of a test kubelet."""

    def __init__(self, kubelet: Kubelet, name: str) -> None:
        self.kubelet, self.name = kubelet, name
        self.path = f"/api/v1/nodes/{name}"
        self._hears = asyncio.Event()
        self._hears.set()
        self._adopting = asyncio.Lock()

    @property
    def silent(self) -> bool:
        """Whether it is cut off."""
        return not self._hears.is_set()

    async def heard(self) -> None:
        """Return when the node can speak to the API server."""
        await self._hears.wait()

    def document(self) -> Document:
        """Its object as it is known."""
        return self.kubelet.known_nodes.objects[("", self.name)]

    def used(self, newcomer: PodLife) -> dict[str, Decimal]:
        """What its pods hold, without one that comes."""
        sums: Counter[str] = Counter()
        for life in self.kubelet.lives.values():
            if life.node is self and life.holds and life is not newcomer:
                for name, amount in requests(life.pod).items():
                    sums[name] += amount  # type: ignore[assignment]
        return dict(sums)  # type: ignore[arg-type]

    async def register(
        self, labels: Mapping[str, str], taints: Sequence[Mapping[str, str]], cpu: str
    ) -> None:
        """Create its object and its Lease."""
        document = {
            "metadata": {"name": self.name, "labels": {"kubernetes.io/hostname": self.name, **labels}},
            "spec": {"taints": list(taints)},
        }
        await self.kubelet.api.call("POST", "/api/v1/nodes", document)
        capacity = {"cpu": cpu, "memory": "256Gi", "pods": "250", "ephemeral-storage": "100Gi"}
        await self._say_ready({"capacity": capacity, "allocatable": capacity})
        while ("", self.name) not in self.kubelet.known_nodes.objects:
            await asyncio.sleep(0.01)

    async def renew(self) -> None:
        """Keep its Lease fresh while it can speak."""
        while True:
            await self.heard()
            spec = {
                "holderIdentity": self.name,
                "leaseDurationSeconds": 40,
                "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            }
            with contextlib.suppress(*TROUBLE):
                try:
                    await self.kubelet.api.merge(f"{_LEASES}/{self.name}", {"spec": spec})
                except ApiError as error:
                    if error.status == 404:
                        with contextlib.suppress(ApiError):
                            await self.kubelet.api.call(
                                "POST", _LEASES, {"metadata": {"name": self.name}, "spec": spec}
                            )
            await asyncio.sleep(_RENEWAL_S)

    async def silence(self) -> None:
        """Hear and say nothing from now on."""
        self._hears.clear()

    async def come_back(self) -> None:
        """Be Ready again."""
        self._hears.set()
        await self._say_ready({})

    async def adopt_capacity(self) -> None:
        """What others put into capacity (extended resources) can be allocated: kubelets copy it."""
        async with self._adopting:
            status = self.document().get("status", {})
            capacity, allocatable = status.get("capacity") or {}, status.get("allocatable") or {}
            news = {
                name: capacity.get(name)
                for name in capacity.keys() | allocatable.keys()
                if "/" in name and capacity.get(name) != allocatable.get(name)
            }
            if news:
                with contextlib.suppress(ApiError, *TROUBLE):
                    await self.kubelet.api.merge(f"{self.path}/status", {"status": {"allocatable": news}})

    async def zero_extended_resources(self) -> None:
        """What a kubelet does when it starts: it knows of no device plugin yet."""
        capacity = self.document()["status"].get("capacity") or {}
        zeros = {name: "0" for name in capacity if "/" in name}
        await self.kubelet.api.merge(
            f"{self.path}/status", {"status": {"capacity": zeros, "allocatable": zeros}}
        )

    async def _say_ready(self, status: Mapping[str, object]) -> None:
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "kubelet is posting ready status",
            "lastHeartbeatTime": moment,
            "lastTransitionTime": moment,
        }
        await self.kubelet.api.merge(f"{self.path}/status", {"status": {**status, "conditions": [ready]}})
