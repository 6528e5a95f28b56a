"""QPU servers as pods of a cluster with EFaaS installed, for ``efaas bench --cluster``.

The pods are the benchmark's own: the operator's have one policy for all, keep their sessions in VQASessions
and take only tokens of runners' pods, while here each policy is played by the same client as in the live half
of the benchmark. Image and command are those that the installation gives its own devices; what differs is the
manifest, with the policy and the time scale. The servers listen on their pods' loopback alone, so nothing in
the cluster reaches them: the way in is a forwarded port, for which one needs the right to forward.

Namespace and pods are made for one policy and deleted after it.
"""

from __future__ import annotations

import contextlib
import json
import time
from types import TracebackType
from typing import Any, Self

import yaml

from efaas.bench.live_servers import ServerFailed, manifest
from efaas.bench.live_trace import DEVICES
from efaas.cluster.connection import SYSTEM_NAMESPACE, Cluster, ClusterError
from efaas.cluster.forward import forwarded
from efaas.errors import InputError

NAMESPACE = "efaas-bench"
"""Of the benchmark's pods."""
START_S = 180.0
"""Wall seconds until the pods must be ready."""

_STREAM_PORT, _HEALTH_PORT = 9000, 9002
_USER = 65532
_OPERATOR_CONFIG = "efaas-operator"

Document = dict[str, Any]


class ClusterServers:
    """Three pods with QPU servers of one policy; a context manager that deletes them.

    Args:
        cluster: with EFaaS installed.
        snapshot: device model.
        policy: of their queues.
        time_scale: wall seconds of a device second.
        system_namespace: of the installation.

    Raises:
        InputError: on entering, EFaaS is not installed there.
        ServerFailed: on entering, a pod is not ready in time.
        ClusterError: on entering, the API server refused.
    """

    def __init__(
        self,
        cluster: Cluster,
        snapshot: str,
        policy: str,
        time_scale: float,
        system_namespace: str = SYSTEM_NAMESPACE,
    ) -> None:
        self._cluster, self._system = cluster, system_namespace
        self._snapshot, self._policy, self._time_scale = snapshot, policy, time_scale
        self._ways = contextlib.ExitStack()
        self.endpoints: dict[str, str] = {}

    def __enter__(self) -> Self:
        image = installed_image(self._cluster, self._system)
        try:
            self._make_namespace()
            for device in DEVICES:
                self._make(device, image)
            for device in DEVICES:
                self._await(device)
                way = forwarded(self._cluster, NAMESPACE, f"pod/{self._name(device)}", _STREAM_PORT)
                self.endpoints[device] = self._ways.enter_context(way)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Delete the pods and their manifests; the namespace stays for the next policy."""
        self._ways.close()
        for device in DEVICES:
            for kind in ("pods", "configmaps"):
                with contextlib.suppress(ClusterError):
                    self._cluster.call(
                        "DELETE", f"{_path(kind)}/{self._name(device)}", query={"gracePeriodSeconds": "0"}
                    )

    def _name(self, device: str) -> str:
        return f"{device}-{self._policy}"

    def _make_namespace(self) -> None:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        self._create("/api/v1/namespaces", body)

    def _make(self, device: str, image: str) -> None:
        name = self._name(device)
        text = manifest(device, self._snapshot, self._policy, self._time_scale)
        config = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name},
            "data": {"device.yaml": text},
        }
        self._create(_path("configmaps"), config)
        self._create(_path("pods"), pod(name, image))

    def _create(self, path: str, body: Document) -> None:
        try:
            self._cluster.call("POST", path, body)
        except ClusterError as error:
            if error.status != 409 or not path.endswith("namespaces"):
                raise

    def _await(self, device: str) -> None:
        name = self._name(device)
        deadline = time.monotonic() + START_S
        while True:
            found = self._cluster.find(f"{_path('pods')}/{name}") or {}
            status = found.get("status", {})
            conditions = {each["type"]: each["status"] for each in status.get("conditions", ())}
            if conditions.get("Ready") == "True":
                return
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"the pod {NAMESPACE}/{name} is not ready after {START_S:.0f} s: {_why(status)}"
                )
            time.sleep(0.5)


def installed_image(cluster: Cluster, system_namespace: str) -> str:
    """The image of the QPU servers of an installation, as its operator was told.

    Raises:
        InputError: EFaaS is not installed there.
    """
    found = cluster.find(f"/api/v1/namespaces/{system_namespace}/configmaps/{_OPERATOR_CONFIG}")
    if found is None:
        raise InputError(
            f"there is no ConfigMap {_OPERATOR_CONFIG}; install EFaaS with its chart first",
            place=system_namespace,
        )
    document = yaml.safe_load(found["data"]["operator.yaml"])
    return str(document["images"]["qpu"])


def pod(name: str, image: str) -> Document:
    """The pod of one server, with no rights in the cluster and no way in but a forwarded port.

    Args:
        name: of the pod and of the ConfigMap with its manifest.
        image: of QPU servers.
    """
    probe = {"grpc": {"port": _HEALTH_PORT}}
    container = {
        "name": "qpu",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["efaas-qpu", "serve"],
        "args": [
            "--device=/device/device.yaml",
            "--data=/data",
            f"--listen=127.0.0.1:{_STREAM_PORT}",
            f"--health-listen=0.0.0.0:{_HEALTH_PORT}",
        ],
        "env": [{"name": "HOME", "value": "/tmp"}],
        "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "startupProbe": {**probe, "periodSeconds": 1, "failureThreshold": 120},
        "readinessProbe": {**probe, "periodSeconds": 5},
        "volumeMounts": [
            {"name": "device", "mountPath": "/device", "readOnly": True},
            {"name": "data", "mountPath": "/data"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": "efaas-bench"}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 5,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _USER,
                "runAsGroup": _USER,
                "fsGroup": _USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [
                {"name": "device", "configMap": {"name": name}},
                {"name": "data", "emptyDir": {"sizeLimit": "512Mi"}},
                {"name": "tmp", "emptyDir": {"sizeLimit": "512Mi"}},
            ],
        },
    }


def _path(kind: str) -> str:
    return f"/api/v1/namespaces/{NAMESPACE}/{kind}"


def _why(status: Document) -> str:
    """What Kubernetes says of a pod that does not come up."""
    for container in status.get("containerStatuses", ()):
        for state in container.get("state", {}).values():
            if state.get("reason"):
                return f"{state['reason']} {state.get('message', '')}".strip()
    for condition in status.get("conditions", ()):
        if condition.get("status") == "False" and condition.get("message"):
            return str(condition["message"])
    return json.dumps(status.get("phase", "unknown"))
