"""What a device has in the cluster: its server's pod, with ConfigMap, Service and volume claim.

Each step looks at what is there first, and twice is the same as once. Everything belongs to the device
(owner references), so Kubernetes takes it away with it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from efaas_operator import paths
from efaas_operator.build.device import Trouble
from efaas_operator.build.qpu import (
    build_qpu_claim,
    build_qpu_config,
    build_qpu_pod,
    build_qpu_service,
    qpu_name,
    with_digest,
)
from efaas_operator.kubernetes import AlreadyExists, Conflict, Document, KubernetesApi, NotFound
from efaas_operator.services.nodes import silent
from efaas_operator.settings import QPU_HASH_ANNOTATION, Settings
from efaas_operator.world import World

_LOG = logging.getLogger(__name__)
_LOOKED_AT_AGAIN_S = 300.0
_LAST_WORDS = 600

_IMAGE_TROUBLES = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)


class DeviceObjects:
    """Makes and keeps them.

    Args:
        api: the API server.
        world: what is known; answers of own calls go there at once.
        settings: of the installation.
    """

    def __init__(self, api: KubernetesApi, world: World, settings: Settings) -> None:
        self._api, self._world, self._settings = api, world, settings
        self._ensured: dict[str, tuple[str, str, float]] = {}

    def pod(self, name: str) -> Document | None:
        """The pod of a device's server, of whatever device of that name."""
        return self._world.pods.get(f"{self._settings.system_namespace}/{qpu_name(name)}")

    def address(self, device: Mapping[str, Any]) -> str:
        """IP of a device's server; empty while there is none that could answer."""
        pod = self.pod(device["metadata"]["name"])
        if pod is None or not owns(device, pod):
            return ""
        status = pod.get("status") or {}
        return str(status.get("podIP") or "") if status.get("phase") == "Running" else ""

    async def bring_up(self, device: Mapping[str, Any], node: str) -> Trouble | None:
        """Bring pod and the rest to what the device's document says.

        Args:
            device: the QPUDevice.
            node: where it is to be.

        Returns:
            What keeps its server from answering; None: nothing that Kubernetes knows of.

        Raises:
            ApiError: the API server refused something.
        """
        name = device["metadata"]["name"]
        config_maps, missing = self._named(device)
        pod = self.pod(name)
        if missing is None:
            config = build_qpu_config(device, config_maps, self._settings)
            wanted = with_digest(build_qpu_pod(device, node, self._settings), config)
            digest = wanted["metadata"]["annotations"][QPU_HASH_ANNOTATION]
            if pod is None:
                await self._ensure(device, config, digest)
                return await self._create(device, wanted)
            changed = (pod["metadata"].get("annotations") or {}).get(QPU_HASH_ANNOTATION) != digest
            if changed and not pod["metadata"].get("deletionTimestamp") and owns(device, pod):
                await self._delete(pod)
                return Trouble("ServerRestarting", "its server starts anew with what was changed", "Pending")
            await self._ensure(device, config, digest)
        elif pod is None:
            return missing
        if not owns(device, pod):
            return Trouble(
                "WaitsForPredecessor", "the pod of an earlier device of this name is still there", "Pending"
            )
        if (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
            await self._delete(pod)
            words = _last_words(pod) or str((pod.get("status") or {}).get("message", ""))
            return Trouble("ServerEnded", f"its pod ended and is made anew: {words}"[:1000])
        return pod_trouble(pod, self._world.nodes.get(pod["spec"].get("nodeName") or ""))

    async def force_away(self, name: str) -> None:
        """Forget a pod on a silent node without its kubelet's word: its token is worth nothing then."""
        pod = self.pod(name)
        if pod is not None:
            _LOG.warning("QPU pod on a silent node is given up", extra={"device": name})
            await self._delete(pod, 0)

    def forget(self, name: str) -> None:
        """The device is gone."""
        self._ensured.pop(name, None)

    def _named(self, device: Mapping[str, Any]) -> tuple[list[Document], Trouble | None]:
        """The ConfigMaps that a device names, or what of them is missing."""
        spec = device["spec"]
        references = (
            ("ModelMissing", "spec.model.configMap", (spec.get("model") or {}).get("configMap")),
            ("TraceMissing", "spec.calibration.trace", (spec.get("calibration") or {}).get("trace")),
        )
        found: dict[str, Document] = {}
        for reason, place, reference in references:
            if not reference:
                continue
            key = f"{self._settings.system_namespace}/{reference['name']}"
            config_map = self._world.config_maps.get(key)
            if config_map is None:
                text = f"{place}: there is no ConfigMap {key}; create it with the key {reference['key']}"
                return [], Trouble(reason, text)
            if reference["key"] not in (config_map.get("data") or {}):
                return [], Trouble(reason, f"{place}: ConfigMap {key} has no key {reference['key']}; add it")
            found[reference["name"]] = config_map
        return list(found.values()), None

    async def _ensure(self, device: Mapping[str, Any], config: Document, digest: str) -> None:
        name, uid = device["metadata"]["name"], device["metadata"]["uid"]
        namespace, own = config["metadata"]["namespace"], config["metadata"]["name"]
        there = self._world.config_maps.get(f"{namespace}/{own}")
        if there is None or there.get("data") != config["data"] or not owns(device, there):
            stored = await self._api.patch(paths.core(namespace, "configmaps", own), config, "apply")
            self._world.config_maps.put(stored)
        ensured = self._ensured.get(name)
        now_s = time.monotonic()
        if ensured is not None and ensured[:2] == (uid, digest) and now_s - ensured[2] < _LOOKED_AT_AGAIN_S:
            return
        service = build_qpu_service(device, self._settings)
        await self._api.patch(paths.core(namespace, "services", own), service, "apply")
        claim = build_qpu_claim(device, self._settings)
        try:
            await self._api.create(paths.core(namespace, "persistentvolumeclaims"), claim)
        except AlreadyExists:
            kept = await self._api.get(paths.core(namespace, "persistentvolumeclaims", own))
            if not owns(device, kept):
                raise Conflict(
                    "the volume claim of an earlier device of this name is still there; it goes with that",
                    status=409,
                    place=f"persistentvolumeclaim {namespace}/{own}",
                ) from None
        self._ensured[name] = (uid, digest, now_s)

    async def _create(self, device: Mapping[str, Any], wanted: Document) -> Trouble:
        namespace, name = wanted["metadata"]["namespace"], wanted["metadata"]["name"]
        try:
            made = await self._api.create(paths.core(namespace, "pods"), wanted)
        except AlreadyExists:
            made = await self._api.get(paths.core(namespace, "pods", name))
        self._world.pods.put(made)
        if not owns(device, made):
            return Trouble(
                "WaitsForPredecessor", "the pod of an earlier device of this name is still there", "Pending"
            )
        return Trouble("ServerStarting", "its pod was made", "Pending")

    async def _delete(self, pod: Mapping[str, Any], grace_s: int | None = None) -> None:
        metadata = pod["metadata"]
        path = paths.core(metadata["namespace"], "pods", metadata["name"])
        await self._api.delete(path, uid=metadata["uid"], grace_s=grace_s)
        try:
            self._world.pods.put(await self._api.get(path))
        except NotFound:
            self._world.pods.gone(pod)


def owns(owner: Mapping[str, Any], thing: Mapping[str, Any]) -> bool:
    """Whether a thing belongs to this owner, and not to an earlier one of its name."""
    uid = owner["metadata"]["uid"]
    return any(each.get("uid") == uid for each in thing["metadata"].get("ownerReferences") or ())


def pod_trouble(pod: Mapping[str, Any], node: Mapping[str, Any] | None) -> Trouble | None:
    """What keeps a server from answering, as Kubernetes knows it; None if nothing does.

    Args:
        pod: of the server.
        node: that it is on; None if that is gone, or the pod is on none.
    """
    status = pod.get("status") or {}
    where = pod["spec"].get("nodeName")
    if not where:
        for condition in status.get("conditions") or ():
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                return Trouble("Unschedulable", str(condition.get("message", ""))[:1000], "Pending")
        return Trouble("ServerStarting", "its pod waits for its node", "Pending")
    if silent(node):
        return Trouble("NodeLost", f"node {where} is not heard of; its server comes back with it")
    if pod["metadata"].get("deletionTimestamp"):
        return Trouble("ServerRestarting", "its pod ends and is made anew", "Pending")
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason, message = str(waiting.get("reason", "")), str(waiting.get("message", ""))
        if reason in _IMAGE_TROUBLES:
            return Trouble(reason, f"its pod cannot start: {message}"[:1000])
        words = _last_words(pod)
        if reason == "CrashLoopBackOff" or (waiting and words):
            return Trouble("ServerFailed", f"its server ended with: {words or message}"[:1000])
    if status.get("phase") != "Running":
        return Trouble("ServerStarting", "its pod is being started", "Pending")
    return None


def _last_words(pod: Mapping[str, Any]) -> str:
    """The end of what a server said before it ended: a kubelet keeps its last lines."""
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        for part in ("state", "lastState"):
            ended = (container.get(part) or {}).get("terminated")
            if ended:
                words = str(ended.get("message", "")).strip()[-_LAST_WORDS:]
                return words or f"exit code {ended.get('exitCode')} ({ended.get('reason', '')})"
    return ""
