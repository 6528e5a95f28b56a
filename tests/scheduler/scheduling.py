"""A control plane with kube-scheduler and the extender, and what tests do with it."""

from __future__ import annotations

import contextlib
import json
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from efaas_scheduler.profile import scheduler_configuration

from efaas.api.names import CALIBRATION_EPOCH_ANNOTATION, SESSION_RESOURCE
from tests.support import objects
from tests.support.cluster import Api, Cluster, Process, free_port, wait_until

DEVICES = "/apis/efaas.dev/v1alpha1/qpudevices"
SETTINGS: dict[str, Any] = {
    "predictionTime": "5s",
    "holdLimit": "8s",
    "recheckInterval": "5s",
    "stalenessLimit": "60s",
}


class Scheduling:
    """Cluster, kwok, extender and kube-scheduler."""

    def __init__(self, folder: Path, settings: Mapping[str, Any] = SETTINGS) -> None:
        self.cluster = Cluster(folder)
        self.port = free_port()
        self.settings = folder / "extender.yaml"
        folder.mkdir(parents=True, exist_ok=True)
        self.settings.write_text(yaml.safe_dump({"listen": f"127.0.0.1:{self.port}", **settings}))
        self.extender: Process

    def __enter__(self) -> Scheduling:
        self.cluster.__enter__()
        try:
            self.cluster.apply_crds()
            self.cluster.start_kwok()
            self.extender = self.start_extender()
            self.cluster.start_scheduler(
                scheduler_configuration(self.url, requests_per_second=5000, backoff_s=(1, 2))
            )
        except BaseException:
            self.cluster.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.close()

    @property
    def api(self) -> Api:
        return self.cluster.api

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start_extender(self) -> Process:
        process = self.cluster.start("extender", self._command(self.settings))
        self.wait_ready()
        return process

    @contextlib.contextmanager
    def another_extender(self, **settings: Any) -> Iterator[str]:
        """One more extender, with settings of its own, that kube-scheduler does not know; yields its URL."""
        port = free_port()
        file = self.settings.with_name(f"extender-{port}.yaml")
        file.write_text(yaml.safe_dump({"listen": f"127.0.0.1:{port}", **SETTINGS, **settings}))
        process = self.cluster.start(f"extender-{port}", self._command(file))
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until("ready extender", lambda: self.read("/readyz", url)[0] == 200)
            yield url
        finally:
            process.stop()

    def _command(self, settings: Path) -> list[str]:
        serve = [sys.executable, "-m", "efaas_scheduler", "serve"]
        return [*serve, f"--config={settings}", f"--kubeconfig={self.cluster.kubeconfig}"]

    def wait_ready(self) -> None:
        wait_until("ready extender", lambda: self.read("/readyz")[0] == 200)

    def read(self, path: str, url: str = "", body: Mapping[str, Any] | None = None) -> tuple[int, str]:
        """Status and text of a page; of an answer, if there is a body to post."""
        data = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            request = urllib.request.Request((url or self.url) + path, data=data, headers=headers)
            with urllib.request.urlopen(request, timeout=5) as response:
                return response.status, response.read().decode()
        except ConnectionRefusedError:
            return 0, ""
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def why(self, namespace: str, pod: str) -> dict[str, Any]:
        status, text = self.read(f"/why?pod={namespace}/{pod}")
        assert status == 200, text
        answer: dict[str, Any] = json.loads(text)
        return answer

    # --- devices ----------------------------------------------------------------------------------

    def add_device(self, name: str, *, slots: int = 4, cpus: int = 32, **changes: Any) -> str:
        """A node with a device; returns the node's name."""
        node = f"node-{name}"
        self.cluster.create_node(
            node,
            labels={"efaas.dev/qpu": ""},
            resources={SESSION_RESOURCE: str(slots), "cpu": str(cpus)},
        )
        self.write_device(objects.device(name, node, slots=slots, **changes))
        return node

    def write_device(self, document: dict[str, Any]) -> None:
        """Create or replace a device with its status."""
        name = document["metadata"]["name"]
        body = {**document, "metadata": {"name": name, "labels": document["metadata"]["labels"]}}
        if self.api.find(f"{DEVICES}/{name}") is None:
            self.api.create(DEVICES, body)
        self.api.patch(f"{DEVICES}/{name}/status", {"status": document["status"]})

    def report(self, name: str, status: Mapping[str, Any], epoch: int | None = None) -> None:
        """A device reports something, and the operator writes the news on its node."""
        self.api.patch(f"{DEVICES}/{name}/status", {"status": status})
        if epoch is not None:
            self.api.patch(
                f"/api/v1/nodes/node-{name}",
                {"metadata": {"annotations": {CALIBRATION_EPOCH_ANNOTATION: str(epoch)}}},
            )

    def remove_devices(self) -> None:
        for each in self.api.items(DEVICES):
            self.api.delete(f"{DEVICES}/{each['metadata']['name']}")
        for each in self.api.items("/api/v1/nodes"):
            self.api.delete(f"/api/v1/nodes/{each['metadata']['name']}")

    # --- sessions and pods ------------------------------------------------------------------------

    def submit(
        self, namespace: str, name: str, requirements: Mapping[str, Any] | None = None, **pod: Any
    ) -> None:
        """A session and its runner pod."""
        self.api.create(
            f"/apis/efaas.dev/v1alpha1/namespaces/{namespace}/vqasessions",
            objects.session(name, namespace, requirements=requirements),
        )
        self.api.create(
            f"/api/v1/namespaces/{namespace}/pods",
            objects.runner_pod(name, namespace, session_name=name, **pod),
        )

    def pods(self, namespace: str) -> dict[str, dict[str, Any]]:
        listed = self.api.items(f"/api/v1/namespaces/{namespace}/pods")
        return {pod["metadata"]["name"]: pod for pod in listed}

    def placed(self, namespace: str) -> dict[str, str]:
        """Node of each pod that has one."""
        return {
            name: pod["spec"]["nodeName"]
            for name, pod in self.pods(namespace).items()
            if pod["spec"].get("nodeName")
        }

    def wait_placed(self, namespace: str, count: int, within_s: float = 30.0) -> dict[str, str]:
        def enough() -> dict[str, str] | None:
            placed = self.placed(namespace)
            return placed if len(placed) >= count else None

        placed: dict[str, str] = wait_until(f"{count} placed pods", enough, within_s=within_s)
        return placed

    def wait_refused(self, namespace: str, pod: str, text: str, within_s: float = 20.0) -> str:
        """Wait until a pod's condition says why it is not placed; returns the whole message."""

        def message() -> str | None:
            conditions = self.pods(namespace)[pod]["status"].get("conditions", [])
            found = next((each["message"] for each in conditions if each["type"] == "PodScheduled"), "")
            return found if text in found else None

        words: str = wait_until(f"reason {text!r} on {pod}", message, within_s=within_s)
        return words

    def finish(self, namespace: str, names: Sequence[str]) -> None:
        for name in names:
            self.api.delete(f"/api/v1/namespaces/{namespace}/pods/{name}", gracePeriodSeconds=0)

    def per_node(self, *namespaces: str) -> Counter[str]:
        return Counter(node for namespace in namespaces for node in self.placed(namespace).values())
