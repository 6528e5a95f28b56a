"""One pod on a played node, from its binding until nothing is left of it.

The order is a kubelet's: admission (``OutOf…``), image, volumes, variables, container, probes, restarts; a
deletion is obeyed wherever the pod is, with SIGTERM, its grace period, SIGKILL, and the last delete request
that makes the object go. Statuses are written as a whole from what is known here, and not at all while the
node is silent: then the API server keeps what it last heard, which may long be untrue.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.kubelet_api import TROUBLE, Key
from tests.support.kubelet_binding import lacking, requests
from tests.support.kubelet_containers import Container, Exit, Image, PlayedContainer, ProcessContainer
from tests.support.kubelet_layout import Layout, Missing, write
from tests.support.kubelet_probes import Probe
from tests.support.rest import ApiError, Document

if TYPE_CHECKING:
    from tests.support.kubelet import Node

_RETRY_S = 0.5
_OWN_CONDITIONS = ("Initialized", "PodReadyToStartContainers", "ContainersReady", "Ready")
_LONGEST_BACKOFF_S = 10.0
_REAL = Image()


def now() -> str:
    """The wall time as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class PodLife:
    """A pod that is bound to a node.

    Args:
        node: where it runs.
        pod: as it is now.
        address: its own.
    """

    def __init__(self, node: Node, pod: Document, address: str) -> None:
        self.node, self.pod, self.address = node, pod, address
        self.kubelet = node.kubelet
        self.key: Key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
        self.uid: str = pod["metadata"]["uid"]
        self.path = f"/api/v1/namespaces/{self.key[0]}/pods/{self.key[1]}"
        self.folder: Path = self.kubelet.folder / "pods" / f"{self.key[1]}-{self.uid[:8]}"
        self.log = self.folder / "log"
        self.layout = Layout(
            self.folder,
            self.kubelet.folder / "claims",
            pod,
            address,
            self.kubelet.resolve,
            self.kubelet.server,
        )
        self.container: Container | None = None
        self.holds = True
        """Whether it counts against the node's resources."""
        self.gone = False
        """Whether its object is not there any more."""
        self._spec: Document = pod["spec"]["containers"][0]
        self._state: Document = {"waiting": {"reason": "ContainerCreating"}}
        self._last_state: Document = {}
        self._restarts = 0
        self._ready = False
        self._started_at = now()
        self._phase, self._reason, self._message = "Pending", "", ""
        self._stop = asyncio.Event()
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()
        self._helpers: list[asyncio.Task[None]] = []
        self._working: asyncio.Task[None] | None = None

    # --- what the node tells ----------------------------------------------------------------------

    def observe(self, pod: Document | None) -> None:
        """The object as it is now; None: it is gone."""
        if pod is None:
            self.gone = True
            self._stop.set()
            if self.container is not None:
                self.container.signal(signal.SIGKILL)
            return
        self.pod = pod
        if pod["metadata"].get("deletionTimestamp"):
            self._stop.set()

    def look_again(self) -> None:
        """Something that it may wait for, or has mounted, has changed."""
        self._wake.set()

    def fail(self, reason: str, message: str) -> None:
        """The node ends it (eviction)."""
        self._phase, self._reason, self._message = "Failed", reason, message
        if self.container is not None:
            self.container.signal(signal.SIGKILL)
        elif self._working is not None:
            self._working.cancel()

    # --- its life ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Lead it through its life; returns when nothing is left to do."""
        work = asyncio.create_task(self._work())
        stop = asyncio.create_task(self._stop.wait())
        try:
            self._working = work
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            if self.container is not None:
                await self._end_container(self.container)
            elif not work.done():
                work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
            if self._reason:
                await self._report()
            self.holds = False
            self.kubelet.binder_wanted.set()
            await stop
            if not self.gone:
                await self._let_go()
        finally:
            for task in (work, stop, *self._helpers):
                task.cancel()
            if self.container is not None:
                self.container.signal(signal.SIGKILL)
                await self.container.wait()
            self.layout.remove()

    async def _work(self) -> None:
        if self.pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return
        await self.node.heard()
        missing = lacking(requests(self.pod), self.node.document(), self.node.used(self))
        if missing is not None:
            name, amount, used, there = missing
            self._phase, self._reason = "Failed", f"OutOf{name}"
            self._message = (
                f"Pod was rejected: Node didn't have enough resource: {name}, requested: {amount}, "
                f"used: {used}, capacity: {there}"
            )
            self._state = {}
            await self._report()
            return
        await self._report()
        self.layout.make()
        await self._prepare("volumes", self._lay_out)
        self._helpers.append(asyncio.create_task(self._keep_volumes()))
        wait_s = 0.5
        while True:
            await self._prepare("image", self._pull)
            began = time.monotonic()
            ended = await self._run_once()
            if not await self._again(ended):
                return
            if time.monotonic() - began > 10 * _LONGEST_BACKOFF_S:
                wait_s = 0.5
            wait_s = min(2 * wait_s, _LONGEST_BACKOFF_S)
            self._last_state, self._ready = self._state, False
            self._state = {
                "waiting": {
                    "reason": "CrashLoopBackOff",
                    "message": f"back-off {wait_s:g}s restarting failed container={self._spec['name']}",
                }
            }
            await self._report()
            await asyncio.sleep(wait_s)
            self._restarts += 1

    async def _run_once(self) -> Exit:
        variables: dict[str, str] = {}

        async def read() -> None:
            variables.update(self.layout.environment(self._config_map))

        await self._prepare("variables", read)
        self.layout.termination.unlink(missing_ok=True)
        try:
            self.container = await self._start(variables)
        except OSError as error:
            self._state = {"waiting": {"reason": "RunContainerError", "message": str(error)}}
            await self._report()
            ended = Exit(128, "StartError")
        else:
            self._phase = "Running"
            started = now()
            self._state = {"running": {"startedAt": started}}
            probing = asyncio.create_task(self._probe(self.container))
            await self._report()
            try:
                ended = await self.container.wait()
            finally:
                probing.cancel()
        policy = self._spec.get("terminationMessagePolicy", "File")
        self._ready = False
        self._state = {
            "terminated": {
                "exitCode": ended.code,
                "reason": ended.reason or ("Completed" if ended.code == 0 else "Error"),
                "message": self.layout.last_words(self.log, policy, ended.code),
                "startedAt": started if self._phase == "Running" else None,
                "finishedAt": now(),
            }
        }
        self.container = None
        return ended

    async def _start(self, variables: dict[str, str]) -> Container:
        image = self.kubelet.images[self._spec["image"]]
        if image.play is not None:
            return PlayedContainer(image.play, self.layout.termination)
        # Paths of the specification are the container's; an image's own command is one of this machine.
        command = self._spec.get("command")
        words = self.layout.command(list(command)) if command else list(image.entrypoint)
        words += self.layout.command(list(self._spec.get("args") or ()))
        environment = {
            **self.kubelet.service_variables,
            "HOSTNAME": self.key[1],
            **image.environment,
            **variables,
        }
        return await ProcessContainer.start(words, environment, self.folder, self.log)

    async def _again(self, ended: Exit) -> bool:
        """Whether the container is started again; else the pod has ended, and its phase says how."""
        policy = self.pod["spec"].get("restartPolicy", "Always")
        if self._reason or self._stop.is_set():
            self._phase = "Failed" if self._reason or ended.code else "Succeeded"
            return False
        if policy == "Always" or (policy == "OnFailure" and ended.code):
            return True
        self._phase = "Failed" if ended.code else "Succeeded"
        self.holds = False
        await self._report()
        return False

    async def _end_container(self, container: Container) -> None:
        """SIGTERM, the grace period, SIGKILL."""
        grace_s = self.pod["metadata"].get("deletionGracePeriodSeconds", 30)
        ending = asyncio.ensure_future(container.wait())
        if not self.gone and grace_s:
            container.signal(signal.SIGTERM)
            await asyncio.wait({ending}, timeout=grace_s)
        container.signal(signal.SIGKILL)
        await ending

    async def _let_go(self) -> None:
        """Write the last status and the delete request that removes the object."""
        if self._phase not in ("Succeeded", "Failed"):
            terminated = self._state.get("terminated")
            self._phase = "Succeeded" if terminated and terminated["exitCode"] == 0 else "Failed"
            if terminated is None:
                self._state = {}
        await self._report()
        while not self.gone:
            await self.node.heard()
            try:
                options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
                await self.kubelet.api.call("DELETE", self.path, options)
                return
            except ApiError as error:
                if error.status in (404, 409):
                    return
            except TROUBLE:
                pass
            await asyncio.sleep(_RETRY_S)

    # --- what has to be there before it starts ----------------------------------------------------

    async def _prepare(self, what: str, step: Callable[[], object]) -> None:
        """Do a step again and again until nothing is missing, with the kubelet's words meanwhile."""
        told = ""
        while True:
            self._wake.clear()
            await self.node.heard()
            try:
                await step()  # type: ignore[misc]
                return
            except Missing as missing:
                if str(missing) != told:
                    told = str(missing)
                    await self._tell(what, told)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), 2.0)
            except (ApiError, *TROUBLE) as error:
                if isinstance(error, ApiError) and error.status == 404:
                    return  # the pod itself is gone, which the watch will tell
                await asyncio.sleep(_RETRY_S)

    async def _tell(self, what: str, words: str) -> None:
        """Say what is missing as kubelets do: volumes by events only, all else in the status."""
        if what == "volumes":
            await self.kubelet.post_event(
                self.pod, "Warning", "FailedMount", f"MountVolume.SetUp failed: {words}"
            )
            return
        reason = "ImagePullBackOff" if what == "image" else "CreateContainerConfigError"
        self._state = {"waiting": {"reason": reason, "message": words}}
        await self._report()

    async def _pull(self) -> None:
        image = self._spec["image"]
        if image not in self.kubelet.images:
            raise Missing(
                f'Back-off pulling image "{image}": ErrImagePull: failed to pull and unpack image "{image}": '
                "not found"
            )

    async def _lay_out(self) -> None:
        for volume in self.pod["spec"].get("volumes") or ():
            folder = self.layout.volumes[volume["name"]]
            if "configMap" in volume:
                source = volume["configMap"]
                self.layout.write_config_map(source, self._config_map(source["name"]), folder)
            for source in (volume.get("projected") or {}).get("sources") or ():
                if "configMap" in source:
                    found = self._config_map(source["configMap"]["name"])
                    self.layout.write_config_map(source["configMap"], found, folder)
                elif "downwardAPI" in source:
                    for item in source["downwardAPI"]["items"]:
                        write(folder / item["path"], self.layout.field(item["fieldRef"]["fieldPath"]))
                elif "serviceAccountToken" in source and not self._played:
                    wanted = source["serviceAccountToken"]
                    if not (folder / wanted["path"]).exists():
                        await self._write_token(wanted, folder / wanted["path"])

    async def _write_token(self, wanted: Document, path: Path) -> None:
        account = self.pod["spec"].get("serviceAccountName", "default")
        request = {
            "spec": {
                "audiences": [wanted["audience"]] if wanted.get("audience") else [],
                "expirationSeconds": wanted.get("expirationSeconds", 3600),
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": self.key[1],
                    "uid": self.uid,
                },
            }
        }
        collection = f"/api/v1/namespaces/{self.key[0]}/serviceaccounts/{account}/token"
        answer = await self.kubelet.api.call("POST", collection, request)
        write(path, answer["status"]["token"])
        path.chmod(0o600)

    async def _keep_volumes(self) -> None:
        """Renew tokens after four fifths of their life, and ConfigMaps when they change."""
        lives = [
            source["serviceAccountToken"].get("expirationSeconds", 3600)
            for volume in self.pod["spec"].get("volumes") or ()
            for source in (volume.get("projected") or {}).get("sources") or ()
            if "serviceAccountToken" in source
        ]
        due_s = time.monotonic() + 0.8 * min(lives, default=3600)
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), max(0.1, due_s - time.monotonic()))
            self._wake.clear()
            if time.monotonic() >= due_s:
                due_s = time.monotonic() + 0.8 * min(lives, default=3600)
                for volume in self.pod["spec"].get("volumes") or ():
                    for source in (volume.get("projected") or {}).get("sources") or ():
                        if "serviceAccountToken" in source:
                            (
                                self.layout.volumes[volume["name"]] / source["serviceAccountToken"]["path"]
                            ).unlink(missing_ok=True)
            with contextlib.suppress(Missing, ApiError, *TROUBLE):
                await self._lay_out()

    def _config_map(self, name: str) -> Document | None:
        return self.kubelet.config_maps.objects.get((self.key[0], name))

    @property
    def _played(self) -> bool:
        """Whether nobody will read its files."""
        return self.kubelet.images.get(self._spec["image"], _REAL).play is not None

    # --- what it says -----------------------------------------------------------------------------

    async def _probe(self, container: Container) -> None:
        startup, readiness, liveness = (
            Probe.of(self._spec.get(f"{kind}Probe"), self.address)
            for kind in ("startup", "readiness", "liveness")
        )
        for probe, needed in ((startup, True), (liveness, False), (readiness, False)):
            if probe is not None and needed and not await probe.passes():
                container.signal(signal.SIGKILL)
                return
        if readiness is None:
            self._ready = True
            await self._report()
            return
        failures = 0
        while True:
            ready = await readiness.once()
            if ready != self._ready:
                self._ready = ready
                await self._report()
            if liveness is not None:
                failures = 0 if ready or await liveness.once() else failures + 1
                if failures >= liveness.failures:
                    container.signal(signal.SIGKILL)
                    return
            await asyncio.sleep(readiness.period_s)

    async def _report(self) -> None:
        """Write the status, unless the object is gone; waits while the node is silent."""
        async with self._writing:
            while not self.gone:
                await self.node.heard()
                body = {"metadata": {"uid": self.uid}, "status": self._status()}
                try:
                    await self.kubelet.api.merge(f"{self.path}/status", body)
                    return
                except ApiError as error:
                    if error.status in (404, 409):
                        return
                except TROUBLE:
                    pass
                await asyncio.sleep(_RETRY_S)

    def _status(self) -> Document:
        before = self.pod.get("status", {}).get("conditions") or []
        others = [each for each in before if each["type"] not in _OWN_CONDITIONS]
        ended = self._phase in ("Succeeded", "Failed")
        values = {
            "PodReadyToStartContainers": self._phase == "Running",
            "Initialized": True,
            "Ready": self._ready and not ended,
            "ContainersReady": self._ready and not ended,
        }
        reason = {"reason": "PodCompleted"} if ended else {"reason": "ContainersNotReady"}
        own = [
            {
                "type": type_,
                "status": "True" if holds else "False",
                "lastTransitionTime": now(),
                **({} if holds else reason),
            }
            for type_, holds in values.items()
        ]
        if self._reason:
            own = [each for each in own if each["type"] in ("Ready", "ContainersReady")]
        status: Document = {
            "phase": self._phase,
            "conditions": others + own,
            "hostIP": self.address,
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "startTime": self._started_at,
            "reason": self._reason or None,
            "message": self._message or None,
        }
        if self._state or self._restarts:
            status["containerStatuses"] = [
                {
                    "name": self._spec["name"],
                    "image": self._spec["image"],
                    "imageID": "",
                    "ready": self._ready and not ended,
                    "started": "running" in self._state,
                    "restartCount": self._restarts,
                    "state": self._state,
                    "lastState": self._last_state,
                }
            ]
        return status
