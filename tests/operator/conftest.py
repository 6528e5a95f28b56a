"""A control plane with an operator, whose pods' statuses the test writes."""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from tests.support import objects
from tests.support.cluster import Api, ApiError, Cluster, Process, wait_until

SYSTEM = "efaas-system"
DEVICES = "/apis/efaas.dev/v1alpha1/qpudevices"
Document = dict[str, Any]


class Played:
    """Kubelet and scheduler by hand, and an operator that can be killed.

    Args:
        cluster: the control plane.
        namespace: where sessions are.
    """

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.operators: list[Process] = []
        self.sessions = f"/apis/efaas.dev/v1alpha1/namespaces/{namespace}/vqasessions"
        self.pods = f"/api/v1/namespaces/{namespace}/pods"

    @property
    def api(self) -> Api:
        return self.cluster.api

    def start_operator(self, **changes: Any) -> Process:
        """Start one more replica, and wait for its probes."""
        number = len(self.operators)
        folder = self.cluster.folder / f"operators-{self.namespace}"
        folder.mkdir(exist_ok=True)
        config, address = folder / f"{number}.yaml", folder / f"{number}.json"
        pace = {
            "statusInterval": "100ms",
            "fullPass": "10s",
            "repairInterval": "1s",
            **changes.pop("pace", {}),
        }
        document = {
            "images": {"runner": "efaas/runner:1", "qpu": "efaas/qpu:1"},
            "listen": "127.0.0.1:0",
            "attendDevices": False,
            "election": {"lease": f"lease-{self.namespace}", "duration": "4s", "renew": "500ms"},
            "pace": pace,
            **changes,
        }
        config.write_text(yaml.safe_dump(document))
        address.unlink(missing_ok=True)
        process = self.cluster.start(
            f"operator-{self.namespace}-{number}",
            [
                *(sys.executable, "-m", "efaas_operator.cli", "serve", "--config", str(config)),
                *("--kubeconfig", str(self.cluster.kubeconfig), "--address-file", str(address)),
            ],
        )
        self.operators.append(process)
        wait_until("operator listens", lambda: address.is_file() and address.read_text())
        process.address = json.loads(address.read_text())  # type: ignore[attr-defined]
        return process

    def page(self, process: Process, path: str) -> tuple[int, str]:
        """A page of an operator's HTTP server."""
        address = process.address  # type: ignore[attr-defined]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{address['port']}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def close(self) -> None:
        for process in self.operators:
            if process.running:
                process.kill()

    # --- devices and sessions ---------------------------------------------------------------------

    def add_device(self, name: str, *, slots: int = 4, **changes: Any) -> None:
        """A device on a node of its own, with a status as its server would give it."""
        node = f"node-{name}"
        if self.api.find(f"/api/v1/nodes/{node}") is None:
            self.cluster.create_node(node)
        document = objects.device(name, node, slots=slots, **changes)
        status = document.pop("status") | {"endpoint": f"{name}.example:8470"}
        del document["metadata"]["uid"]
        self.api.create(DEVICES, document)
        self.set_device(name, **status)

    def set_device(self, name: str, **status: Any) -> None:
        self.api.patch(f"{DEVICES}/{name}/status", {"status": status})

    def submit(self, name: str, **changes: Any) -> Document:
        document = objects.session(name, self.namespace)
        document["spec"] |= changes
        return self.api.create(self.sessions, document)

    def status(self, name: str) -> Document:
        return self.api.get(f"{self.sessions}/{name}").get("status") or {}

    def wait_for_state(self, name: str, *states: str) -> Document:
        """The status once it is in one of these states."""

        def there() -> Document | None:
            found = self.status(name)
            return found if found.get("state") in states else None

        return wait_until(f"{name} to be {' or '.join(states)}", there)

    def wait_for_reason(self, name: str, reason: str) -> Document:
        def there() -> Document | None:
            found = self.status(name)
            return found if str(found.get("reason", "")).startswith(reason) else None

        return wait_until(f"{name} to say {reason}", there)

    def events(self, name: str) -> list[str]:
        """Reasons of the events about a session, oldest first."""
        found = self.api.get(f"/api/v1/namespaces/{self.namespace}/events")["items"]
        about = [each for each in found if each["involvedObject"]["name"] == name]
        about.sort(key=lambda each: int(each["metadata"]["resourceVersion"]))
        return [each["reason"] for each in about]

    # --- scheduler and kubelet --------------------------------------------------------------------

    def pod(self, name: str, epoch: int = 1) -> Document | None:
        return self.api.find(f"{self.pods}/{name}-r{epoch}")

    def released(self, name: str, epoch: int = 1) -> Document:
        """The runner's pod once its gate is off."""

        def there() -> Document | None:
            pod = self.pod(name, epoch)
            return pod if pod is not None and not pod["spec"].get("schedulingGates") else None

        return wait_until(f"{name}-r{epoch} to be released", there)

    def bind(self, name: str, device: str, epoch: int = 1) -> None:
        """What kube-scheduler does."""
        self.released(name, epoch)
        body = {
            "metadata": {"name": f"{name}-r{epoch}"},
            "target": {"kind": "Node", "name": f"node-{device}"},
        }
        self.api.create(f"{self.pods}/{name}-r{epoch}/binding", body)

    def assignment(self, name: str, epoch: int = 1) -> Document:
        """What the runner is told, once it is."""
        path = f"/api/v1/namespaces/{self.namespace}/configmaps/{name}-r{epoch}"
        return wait_until(f"assignment of {name}-r{epoch}", lambda: self.api.find(path))

    def run(self, name: str, epoch: int = 1) -> None:
        """The kubelet starts the container; the assignment is waited for, as it does."""
        self.assignment(name, epoch)
        self.set_pod(name, epoch, phase="Running", startTime=objects.rfc3339(time.time()))

    def end(self, name: str, epoch: int = 1, *, code: int = 0, message: str = "", **status: Any) -> None:
        """The container ends."""
        terminated = {
            "exitCode": code,
            "reason": "Completed" if code == 0 else "Error",
            "message": message,
            "finishedAt": objects.rfc3339(time.time()),
        }
        self.set_pod(
            name,
            epoch,
            phase="Succeeded" if code == 0 else "Failed",
            containerStatuses=[container({"terminated": terminated})],
            **status,
        )

    def set_pod(self, name: str, epoch: int = 1, **status: Any) -> None:
        self.api.patch(f"{self.pods}/{name}-r{epoch}/status", {"status": status})

    def collect_deleted(self, name: str, epoch: int = 1) -> None:
        """The kubelet lets a deleted pod go, once it was asked to."""

        def asked() -> bool:
            pod = self.pod(name, epoch)
            return pod is None or bool(pod["metadata"].get("deletionTimestamp"))

        wait_until(f"{name}-r{epoch} to be stopped", asked)
        try:
            self.api.call("DELETE", f"{self.pods}/{name}-r{epoch}", {"gracePeriodSeconds": 0})
        except ApiError as error:
            if error.status != 404:
                raise


def container(state: Mapping[str, Any]) -> Document:
    """Status of the runner's container."""
    return {
        "name": "runner",
        "image": "efaas/runner:1",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": dict(state),
    }


RESULT = json.dumps(
    {
        "status": "Completed",
        "reason": "the energy moved less than 0.001",
        "energy": -1.125,
        "std_error": 0.002,
        "exact": -1.137,
        "iterations": 21,
        "shots": 8192,
        "best": -1.13,
    }
)


@pytest.fixture(scope="package")
def operated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane without nodes' programs."""
    with Cluster(tmp_path_factory.mktemp("operated")) as cluster:
        cluster.apply_crds()
        cluster.create_namespace(SYSTEM)
        yield cluster


@pytest.fixture(scope="module")
def shared_operator(operated: Cluster) -> Iterator[Process]:
    """An operator that goes on from test to test of a module, and none beside it."""
    played = Played(operated, "default")
    yield played.start_operator()
    played.close()


@pytest.fixture
def played(operated: Cluster) -> Iterator[Played]:
    """A namespace of its own; devices are the test's own too."""
    with operated.fresh_namespace() as namespace:
        played = Played(operated, namespace)
        yield played
        played.close()
        for session in operated.api.get(played.sessions)["items"]:
            path = f"{played.sessions}/{session['metadata']['name']}"
            operated.api.patch(path, {"metadata": {"finalizers": None}})
            operated.api.delete(path)
        for device in operated.api.get(DEVICES)["items"]:
            operated.api.delete(f"{DEVICES}/{device['metadata']['name']}")
