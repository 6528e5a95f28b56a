"""A test kubelet: nodes of a real control plane whose pods run as processes of this machine.

`Kubelet` plays any number of nodes against the real kube-apiserver and kube-controller-manager: registers
them, renews their Leases, binds pods where no scheduler runs, and leads each pod through its life with its
real command, its environment, tokens, ConfigMaps and claims, and true statuses. What a test cannot wait for
happens on request: silence and return of a node, eviction, OOM kill, a kubelet's restart.

::

    with Cluster(folder, service_accounts=True) as cluster:
        cluster.start_controller_manager(*CONTROLLERS)
        with Kubelet(cluster, images={"efaas/runner:1": Image()}) as kubelet:
            kubelet.add_node("a", labels={"efaas.dev/qpu": ""})

What differs from a node: there is one container a pod and no isolation; paths of the container are
rewritten to folders (`tests.support.kubelet_layout`); each pod has a loopback address of its own, and Service
names are put in its place when a container starts. An image is what the test says it is; one that it does
not know cannot be pulled.

The nodes live in one thread with one event loop; processes die with it, even if the test is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlsplit

from tests.support.cluster import Cluster
from tests.support.kubelet_api import TROUBLE, AsyncApi, Known, key_of
from tests.support.kubelet_binding import choose, requests
from tests.support.kubelet_containers import Image, Play
from tests.support.kubelet_node import Node
from tests.support.kubelet_pod import PodLife, now
from tests.support.rest import ApiError, Document

__all__ = ["CONTROLLERS", "FAST_NODE_LOSS", "Image", "Kubelet", "Play"]

CONTROLLERS = (
    "garbagecollector",
    "namespace",
    "nodelifecycle",
    "taint-eviction-controller",
    "podgc",
    "root-ca-cert-publisher",
    "serviceaccount",
)
"""The controllers of kube-controller-manager that our objects need."""

FAST_NODE_LOSS = ("--node-monitor-grace-period=6s", "--node-monitor-period=1s")
"""Its arguments for nodes that count as lost soon; a cluster waits 50 s by default."""

SCHEDULERS = ("efaas-scheduler", "default-scheduler")
_BINDING_PAUSE_S = 0.05


class Kubelet:
    """Some nodes and what runs on them.

    Args:
        cluster: the control plane.
        images: by name.
        binds: schedulers to stand in for; none where real ones run.
    """

    def __init__(
        self, cluster: Cluster, images: Mapping[str, Image], *, binds: Sequence[str] = SCHEDULERS
    ) -> None:
        self.images = dict(images)
        self.folder = cluster.folder / "kubelet"
        self.server = cluster.server
        address = urlsplit(cluster.server)
        self.service_variables = {
            "KUBERNETES_SERVICE_HOST": str(address.hostname),
            "KUBERNETES_SERVICE_PORT": str(address.port),
        }
        self.api = AsyncApi(cluster.server, cluster.token, cluster.ca_file)
        self.nodes: dict[str, Node] = {}
        self.lives: dict[str, PodLife] = {}
        self._binds = frozenset(binds)
        # One process's pods get addresses that another test's do not.
        self._network = f"127.{100 + os.getpid() % 100}"
        self._addresses = itertools.count(257)
        self._assumed: dict[str, str] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._main, name="kubelet", daemon=True)
        self._up: Future[None] = Future()

    def __enter__(self) -> Kubelet:
        self._thread.start()
        self._up.result(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(30)

    # --- what a test asks for ---------------------------------------------------------------------

    def add_node(
        self,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        taints: Sequence[Mapping[str, str]] = (),
        cpu: str = "32",
    ) -> None:
        """Register a node and keep it Ready."""
        self._do(self._add_node(name, labels or {}, taints, cpu))

    def silence(self, node: str) -> None:
        """Cut a node off: its Lease ends, it hears and says nothing, its processes go on."""
        self._do(self.nodes[node].silence())

    def restore(self, node: str) -> None:
        """Bring a silent node back: it is Ready and learns what was decided meanwhile."""
        self._do(self._restore(node))

    def restart(self, node: str) -> None:
        """Start a node's kubelet anew, which sets extended resources that others gave it to zero."""
        self._do(self.nodes[node].zero_extended_resources())

    def evict(self, namespace: str, name: str) -> None:
        """End a pod because its node is short of something."""
        self._on_pod(
            namespace, name, lambda life: life.fail("Evicted", "The node was low on resource: memory.")
        )

    def kill_for_memory(self, namespace: str, name: str) -> None:
        """End a pod's container as the kernel does when it has used too much memory."""

        def kill(life: PodLife) -> None:
            if life.container is not None:
                life.container.kill_for_memory()

        self._on_pod(namespace, name, kill)

    def running(self) -> list[tuple[str, str]]:
        """Namespace and name of the pods whose containers run, also on silent nodes."""

        async def look() -> list[tuple[str, str]]:
            return [life.key for life in self.lives.values() if life.container is not None]

        return self._do(look())

    def log_of(self, namespace: str, name: str) -> str:
        """What a pod's container has said, also after its end; of the newest pod of that name."""
        logs = sorted(
            (self.folder / "pods").glob(f"{name}-????????/log"), key=lambda path: path.stat().st_mtime
        )
        return logs[-1].read_text(errors="replace") if logs else ""

    # --- for pods and nodes -----------------------------------------------------------------------

    def resolve(self, service: str, namespace: str) -> str:
        """Address of the newest pod behind a Service; empty if there is none."""
        found = self.services.objects.get((namespace, service))
        selector = (found or {}).get("spec", {}).get("selector") or {}
        newest: Document | None = None
        for (space, _), pod in self.pods.objects.items():
            labels = pod["metadata"].get("labels") or {}
            fits = space == namespace and selector and selector.items() <= labels.items()
            if fits and not pod["metadata"].get("deletionTimestamp") and pod.get("status", {}).get("podIP"):
                newest = max(newest or pod, pod, key=lambda each: each["metadata"]["creationTimestamp"])
        return newest["status"]["podIP"] if newest else ""

    async def post_event(self, pod: Document, type_: str, reason: str, message: str) -> None:
        """Write an Event about a pod."""
        metadata = pod["metadata"]
        moment = now()
        event = {
            "metadata": {"generateName": f"{metadata['name']}."},
            "involvedObject": {
                "kind": "Pod",
                "apiVersion": "v1",
                **{key: metadata[key] for key in ("name", "namespace", "uid")},
            },
            "type": type_,
            "reason": reason,
            "message": message,
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "count": 1,
            "source": {"component": "kubelet"},
        }
        with contextlib.suppress(ApiError, *TROUBLE):
            await self.api.call("POST", f"/api/v1/namespaces/{metadata['namespace']}/events", event)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Start a task that ends with the kubelet."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a played node failed", "exception": task.exception()}
            )

    # --- the thread -------------------------------------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def _on_pod(self, namespace: str, name: str, act: Callable[[PodLife], None]) -> None:
        async def find() -> None:
            for life in self.lives.values():
                if life.key == (namespace, name) and not life.gone:
                    act(life)
                    return
            raise LookupError(f"no pod {namespace}/{name} is on a node")

        self._do(find())

    def _main(self) -> None:
        asyncio.run(self._live())

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self.binder_wanted = asyncio.Event()
        self.pods = Known(self.api, "/api/v1/pods", self._pod_changed)
        self.config_maps = Known(self.api, "/api/v1/configmaps", self._config_map_changed)
        self.services = Known(self.api, "/api/v1/services", lambda *_: None)
        self.known_nodes = Known(self.api, "/api/v1/nodes", self._node_changed)
        collections = (self.known_nodes, self.services, self.config_maps, self.pods)
        try:
            async with self.api:
                for known in collections:
                    self.spawn(known.keep())
                for known in collections:
                    await asyncio.wait_for(known.listed.wait(), 30)
                self.spawn(self._bind())
                self._up.set_result(None)
                await self._ended.wait()
                for task in tuple(self._tasks):
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
        except BaseException as error:
            if not self._up.done():
                self._up.set_exception(error)
            raise

    async def _add_node(
        self, name: str, labels: Mapping[str, str], taints: Sequence[Mapping[str, str]], cpu: str
    ) -> None:
        node = Node(self, name)
        await node.register(labels, taints, cpu)
        self.nodes[name] = node
        self.spawn(node.renew())
        for pod in list(self.pods.objects.values()):
            self._pod_changed(pod, False)

    async def _restore(self, name: str) -> None:
        await self.nodes[name].come_back()
        present = {pod["metadata"]["uid"]: pod for pod in self.pods.objects.values()}
        for life in list(self.lives.values()):
            if life.node.name == name:
                life.observe(present.get(life.uid))
        for pod in list(self.pods.objects.values()):
            self._pod_changed(pod, False)

    # --- changes ----------------------------------------------------------------------------------

    def _pod_changed(self, pod: Document, gone: bool) -> None:
        uid = pod["metadata"]["uid"]
        if pod["spec"].get("nodeName") or gone:
            self._assumed.pop(uid, None)
        self.binder_wanted.set()
        node = self.nodes.get(pod["spec"].get("nodeName", ""))
        if node is None or node.silent:
            return
        life = self.lives.get(uid)
        if life is not None:
            life.observe(None if gone else pod)
        elif not gone:
            number = next(self._addresses)
            address = f"{self._network}.{number // 250}.{number % 250 + 1}"
            life = self.lives[uid] = PodLife(node, pod, address)
            life.observe(pod)
            self.spawn(self._lead(life))

    async def _lead(self, life: PodLife) -> None:
        try:
            await life.run()
        finally:
            self.lives.pop(life.uid, None)
            self.binder_wanted.set()

    def _config_map_changed(self, config_map: Document, gone: bool) -> None:
        for life in self.lives.values():
            if life.key[0] == config_map["metadata"].get("namespace"):
                life.look_again()

    def _node_changed(self, document: Document, gone: bool) -> None:
        self.binder_wanted.set()
        node = self.nodes.get(document["metadata"]["name"])
        if node is not None and not gone and not node.silent:
            self.spawn(node.adopt_capacity())

    # --- binding ----------------------------------------------------------------------------------

    async def _bind(self) -> None:
        told: dict[str, str] = {}
        while self._binds:
            await self.binder_wanted.wait()
            self.binder_wanted.clear()
            used: dict[str, Counter[str]] = {}
            waiting = []
            for pod in self.pods.objects.values():
                uid = pod["metadata"]["uid"]
                place = pod["spec"].get("nodeName") or self._assumed.get(uid)
                if place and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
                    on_node = used.setdefault(place, Counter())
                    for name, amount in requests(pod).items():
                        on_node[name] += amount  # type: ignore[assignment]
                elif (
                    not place
                    and pod["spec"].get("schedulerName", "default-scheduler") in self._binds
                    and not pod["spec"].get("schedulingGates")
                    and not pod["metadata"].get("deletionTimestamp")
                ):
                    waiting.append(pod)
            for pod in sorted(waiting, key=lambda each: each["metadata"]["creationTimestamp"]):
                node, why = choose(pod, self.known_nodes.objects.values(), used)  # type: ignore[arg-type]
                uid = pod["metadata"]["uid"]
                try:
                    if node is not None:
                        self._assumed[uid] = node
                        on_node = used.setdefault(node, Counter())
                        for name, amount in requests(pod).items():
                            on_node[name] += amount  # type: ignore[assignment]
                        await self._bind_to(pod, node)
                    elif told.get(uid) != why:
                        told[uid] = why
                        await self._say_unschedulable(pod, why)
                except (ApiError, *TROUBLE):
                    self._assumed.pop(uid, None)
                    self.binder_wanted.set()
            await asyncio.sleep(_BINDING_PAUSE_S)

    async def _bind_to(self, pod: Document, node: str) -> None:
        namespace, name = key_of(pod)
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "uid": pod["metadata"]["uid"]},
            "target": target,
        }
        await self.api.call("POST", f"/api/v1/namespaces/{namespace}/pods/{name}/binding", binding)

    async def _say_unschedulable(self, pod: Document, why: str) -> None:
        namespace, name = key_of(pod)
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": why,
            "lastTransitionTime": now(),
        }
        body = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": {"conditions": [condition]}}
        await self.api.merge(f"/api/v1/namespaces/{namespace}/pods/{name}/status", body)
