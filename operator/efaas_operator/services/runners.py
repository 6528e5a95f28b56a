"""Runner pods: made gated, released, told where they are, asked to end, forced away.

Each step looks at what is there first, and twice is the same as once, so a step that was cut off is simply
taken again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from efaas.api.names import ADMISSION_GATE
from efaas_operator import paths
from efaas_operator.build import build_assignment, build_runner_pod
from efaas_operator.build.runner import runner_name
from efaas_operator.kubernetes import AlreadyExists, Conflict, Document, KubernetesApi, NotFound
from efaas_operator.reading import belongs, ended, gated
from efaas_operator.settings import Settings
from efaas_operator.world import World

_LOG = logging.getLogger(__name__)


class Runners:
    """Pods of runners and their assignments.

    Args:
        api: the API server.
        world: what is known; answers of own calls go there at once.
        settings: of the installation.
        ca_file: certificates that runners check QPU servers' and the gateway's with; None: streams are plain.
    """

    def __init__(
        self, api: KubernetesApi, world: World, settings: Settings, ca_file: Path | None = None
    ) -> None:
        self._api = api
        self._world = world
        self._settings = settings
        self._ca_file = ca_file
        self._assigned: set[str] = set()

    def find(self, session: Mapping[str, Any], epoch: int) -> Document | None:
        """The pod of an epoch's runner, if it is there."""
        metadata = session["metadata"]
        key = f"{metadata['namespace']}/{runner_name(metadata['name'], epoch)}"
        pod = self._world.pods.get(key)
        return pod if pod is not None and belongs(pod, session) else None

    async def create(self, session: Mapping[str, Any], epoch: int) -> Document:
        """Make the gated pod of an epoch's runner, or take the one that is there.

        Raises:
            Conflict: a pod of an earlier session of this name is still there.
            ApiError: the API server refused it.
        """
        pod = build_runner_pod(session, epoch, self._settings)
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        try:
            made = await self._api.create(paths.core(namespace, "pods"), pod)
        except AlreadyExists:
            made = await self._api.get(paths.core(namespace, "pods", name))
            if not belongs(made, session):
                raise Conflict(
                    "a pod of an earlier session of this name is still there; it goes with its owner",
                    status=409,
                    place=f"pod {namespace}/{name}",
                ) from None
        self._world.pods.put(made)
        return made

    async def release(self, pod: Mapping[str, Any]) -> None:
        """Take admission's gate off; gates of others stay."""
        if not gated(pod):
            return
        gates = [gate for gate in pod["spec"]["schedulingGates"] if gate["name"] != ADMISSION_GATE]
        changed = await self._api.patch(
            _path(pod), {"metadata": {"uid": pod["metadata"]["uid"]}, "spec": {"schedulingGates": gates}}
        )
        self._world.pods.put(changed)

    async def stop(self, pod: Mapping[str, Any]) -> None:
        """Ask the runner to end."""
        if not pod["metadata"].get("deletionTimestamp") and not ended(pod):
            await self._delete(pod, None)

    async def force_away(self, pod: Mapping[str, Any]) -> None:
        """Forget the pod without its kubelet's word; only for runners that nobody listens to any more."""
        await self._delete(pod, 0)

    async def assign(
        self, session: Mapping[str, Any], pod: Mapping[str, Any], targets: Sequence[Mapping[str, str]]
    ) -> None:
        """Tell a placed runner what it runs and where its QPUs are: its container can start then.

        Raises:
            Conflict: the assignment of an earlier pod of this name is still there.
        """
        uid = pod["metadata"]["uid"]
        if uid in self._assigned:
            return
        # Read for each: it is a line or two, and kubelets renew it.
        ca = self._ca_file.read_text() if self._ca_file is not None else ""
        document = build_assignment(session, pod, targets, ca)
        namespace, name = document["metadata"]["namespace"], document["metadata"]["name"]
        try:
            await self._api.create(paths.core(namespace, "configmaps"), document)
        except AlreadyExists:
            path = paths.core(namespace, "configmaps", name)
            there = await self._api.get(path)
            if not belongs(there, pod):
                await self._api.delete(path, uid=there["metadata"]["uid"])
                raise Conflict(
                    "the assignment of an earlier pod of this name was still there; it is made anew",
                    status=409,
                    place=f"configmap {namespace}/{name}",
                ) from None
        self._assigned.add(uid)

    def assigned(self, pod: Mapping[str, Any]) -> bool:
        """Whether the runner was told, as far as this process knows."""
        return pod["metadata"]["uid"] in self._assigned

    def forget(self, pod: Mapping[str, Any]) -> None:
        """The pod is gone."""
        self._assigned.discard(pod["metadata"]["uid"])

    async def _delete(self, pod: Mapping[str, Any], grace_s: int | None) -> None:
        await self._api.delete(_path(pod), uid=pod["metadata"]["uid"], grace_s=grace_s)
        try:
            self._world.pods.put(await self._api.get(_path(pod)))
        except NotFound:
            self._world.pods.gone(pod)


def _path(pod: Mapping[str, Any]) -> str:
    return paths.core(pod["metadata"]["namespace"], "pods", pod["metadata"]["name"])
