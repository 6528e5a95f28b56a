"""Everything that the operator works with, on this machine: control plane, played nodes, gateway, proxy.

::

    with Operating(folder) as world:
        world.add_device("perth", snapshot="perth-7", slots=4)
        operator = world.start_operator()
        world.submit("chemistry", "h2", world.light(evaluations=3))
        world.wait_for_state("chemistry", "h2", "Completed")

kube-apiserver, etcd and kube-controller-manager are real, and so are the gateway, the QPU servers and the
runners: `tests.support.kubelet` runs their pods' commands. Only the operator goes through the proxy, so
faults hit it and nobody else.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support.cluster import ROOT, Api, Cluster, ClusterError, Process, free_port, wait_until
from tests.support.fault_proxy import QUIET, FaultProxy, Rates
from tests.support.kubelet import CONTROLLERS, FAST_NODE_LOSS, Image, Kubelet
from tests.support.rest import Document

SYSTEM = "efaas-system"
DEVICES = "/apis/efaas.dev/v1alpha1/qpudevices"
ALL_SESSIONS = "/apis/efaas.dev/v1alpha1/vqasessions"
FINAL = ("Completed", "Failed", "Cancelled", "Expired")
RUNNER, QPU, LIGHT = "efaas/runner:test", "efaas/qpu:test", "efaas/light:test"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "QISKIT_PARALLEL": "FALSE"}
TENANTS = ("chemistry", "finance", "physics")


def sessions_path(namespace: str) -> str:
    """Path of a namespace's sessions."""
    return f"/apis/efaas.dev/v1alpha1/namespaces/{namespace}/vqasessions"


class Operating:
    """A cluster for the operator.

    Args:
        folder: for everything that is written.
        seed: of the proxy's faults.
        nodes: number of nodes that may hold a QPU.
        images: on top of the usual three.
        gateway: whether one runs.
        settings: of the operator's configuration file, on top of the usual ones.
        tenants: namespaces for sessions.
        audit: whether the API server writes down who changed what.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seed: int = 0,
        nodes: int = 2,
        images: Mapping[str, Image] | None = None,
        gateway: bool = True,
        settings: Mapping[str, Any] | None = None,
        tenants: Sequence[str] = TENANTS,
        audit: bool = False,
    ) -> None:
        self.cluster = Cluster(folder, service_accounts=True, audit=audit)
        self.tenants = tuple(tenants)
        self.operators: list[Process] = []
        light = Image([sys.executable, str(ROOT / "tests" / "support" / "light_runner.py")], ONE_THREAD)
        self.images = {
            RUNNER: Image((), ONE_THREAD),
            QPU: Image((), ONE_THREAD),
            LIGHT: light,
            **(images or {}),
        }
        self.gateway_process: Process | None = None
        self._seed, self._nodes, self._with_gateway = seed, nodes, gateway
        self._settings = dict(settings or {})
        self._stack = contextlib.ExitStack()
        self.kubelet: Kubelet
        self.proxy: FaultProxy

    def __enter__(self) -> Operating:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.cluster)
            self.cluster.apply_crds()
            self.cluster.start_controller_manager(*CONTROLLERS, flags=FAST_NODE_LOSS)
            for name in (SYSTEM, *self.tenants):
                self.cluster.create_namespace(name)
            for name in ("efaas-qpu", "efaas-operator", "efaas-gateway"):
                self._create_account(name)
            if self._with_gateway:
                self._start_gateway()
            self.kubelet = stack.enter_context(Kubelet(self.cluster, self.images))
            for number in range(self._nodes):
                self.kubelet.add_node(f"node-{number}", labels={"efaas.dev/qpu": ""})
            self.proxy = stack.enter_context(FaultProxy(self.cluster, seed=self._seed))
            for name in self.tenants:
                account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
                wait_until(f"service account of {name}", lambda account=account: self.api.find(account))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_operators()
        self._stack.close()

    @property
    def api(self) -> Api:
        """Client of the API server, past the proxy."""
        return self.cluster.api

    # --- the operator -----------------------------------------------------------------------------

    def start_operator(self, rates: Rates = QUIET, *, direct: bool = False, **settings: Any) -> Process:
        """Start one more operator, which may have to wait for its turn.

        Args:
            rates: of the proxy's faults.
            direct: past the proxy.
            settings: of its configuration file.
        """
        self.proxy.rates = rates
        number = len(self.operators)
        address = self.cluster.folder / f"operator-{number}.address"
        config = self.cluster.folder / f"operator-{number}.yaml"
        config.write_text(yaml.safe_dump(self._configuration() | self._settings | settings))
        process = self.cluster.start(
            f"operator-{number}",
            [
                *(sys.executable, "-m", "efaas_operator.cli", "serve", f"--config={config}"),
                *(f"--kubeconfig={self._kubeconfig(direct)}", f"--address-file={address}"),
            ],
            ONE_THREAD,
        )
        self.operators.append(process)
        return process

    def _kubeconfig(self, direct: bool) -> Path:
        """The operator comes as its own service account, so that others see what it did."""
        document = yaml.safe_load((self.cluster if direct else self.proxy).kubeconfig.read_text())
        document["users"][0]["user"] = {"token": self.token("efaas-operator", "")}
        path = self.cluster.folder / f"operator-{'direct' if direct else 'proxied'}.kubeconfig"
        path.write_text(yaml.safe_dump(document))
        path.chmod(0o600)
        return path

    def kill_operators(self) -> None:
        """End all operators as a crash would."""
        for process in self.operators:
            process.kill()

    def _configuration(self) -> Document:
        document: Document = {
            "images": {"runner": RUNNER, "qpu": QPU},
            "systemNamespace": SYSTEM,
            "runner": {"cpu": "100m", "memory": "256Mi"},
            "qpu": {"cpu": "100m", "memory": "512Mi"},
            "listen": "127.0.0.1:0",
            "qpuTokenFile": str(self._token("efaas-operator", "efaas-qpu")),
            "election": {"duration": "6s", "renew": "2s"},
            "pace": {"fullPass": "15s", "progressInterval": "2s"},
        }
        if self._with_gateway:
            document["gateway"] = {"stream": self.gateway_stream, "url": self.gateway_url}
            document["gatewayTokenFile"] = str(self._token("efaas-operator", "efaas-gateway"))
        return document

    # --- devices ----------------------------------------------------------------------------------

    def add_device(self, name: str, *, snapshot: str = "manila-5", **spec: Any) -> None:
        """Create a QPUDevice; the operator makes it work."""
        document = {
            "apiVersion": "efaas.dev/v1alpha1",
            "kind": "QPUDevice",
            "metadata": {"name": name},
            "spec": {"model": {"snapshot": snapshot}, **spec},
        }
        self.api.create(DEVICES, document)

    def wait_for_device(self, name: str, state: str = "Ready", within_s: float = 60.0) -> Document:
        """Wait until a device's status says so."""

        def look() -> Document | None:
            found = self.api.get(f"{DEVICES}/{name}")
            return found if (found.get("status") or {}).get("state") == state else None

        found: Document = wait_until(f"{state} device {name}", look, within_s=within_s)
        return found

    # --- sessions ---------------------------------------------------------------------------------

    def submit(self, namespace: str, name: str, spec: Mapping[str, Any]) -> Document:
        """Create a session."""
        return self.api.create(
            sessions_path(namespace),
            {
                "apiVersion": "efaas.dev/v1alpha1",
                "kind": "VQASession",
                "metadata": {"name": name, "namespace": namespace},
                "spec": dict(spec),
            },
        )

    @staticmethod
    def light(evaluations: int = 3, think_s: float = 0.1, exit_code: int = 0, **spec: Any) -> Document:
        """Specification of a session whose runner is `tests.support.light_runner`."""
        arguments = [str(evaluations), str(think_s), str(exit_code)]
        return {
            "program": {"image": LIGHT, "arguments": arguments},
            "shots": 100,
            "seed": 7,
            "device": {"qubits": 2},
            **spec,
        }

    @staticmethod
    def declared(iterations: int = 3, **spec: Any) -> Document:
        """Specification of a small session for the real runner."""
        return {
            "problem": {"isingChain": {"sites": 2}},
            "ansatz": {"realAmplitudes": {"repetitions": 1}},
            "optimizer": {"spsa": {}},
            "stop": {"maxIterations": iterations},
            "shots": 100,
            "seed": 7,
            **spec,
        }

    def session(self, namespace: str, name: str) -> Document | None:
        """A session as it is now."""
        return self.api.find(f"{sessions_path(namespace)}/{name}")

    def states(self) -> dict[tuple[str, str], str]:
        """State of every session."""
        return {
            (each["metadata"]["namespace"], each["metadata"]["name"]): (each.get("status") or {}).get(
                "state", ""
            )
            for each in self.api.items(ALL_SESSIONS)
        }

    def wait_for_state(self, namespace: str, name: str, *states: str, within_s: float = 60.0) -> Document:
        """Wait until a session's state is one of these."""

        def look() -> Document | None:
            found = self.session(namespace, name)
            status = (found or {}).get("status") or {}
            if status.get("state") in states:
                return found
            self._seen = status.get("state"), status.get("reason")
            return None

        try:
            found: Document = wait_until(f"{'/'.join(states)} {name}", look, within_s=within_s)
        except AssertionError as error:
            raise AssertionError(f"{error} {self._seen}\n{self.operators[-1].tail(30)}") from None
        return found

    def runner_pods(self, namespaces: Iterable[str] = ()) -> list[Document]:
        """Runner pods that are there."""
        pods = self.api.items("/api/v1/pods", labelSelector="app.kubernetes.io/name=efaas-runner")
        wanted = set(namespaces)
        return [pod for pod in pods if not wanted or pod["metadata"]["namespace"] in wanted]

    # --- parts ------------------------------------------------------------------------------------

    def _create_account(self, name: str) -> None:
        self.api.create(f"/api/v1/namespaces/{SYSTEM}/serviceaccounts", {"metadata": {"name": name}})
        # What a chart would bind more narrowly: here it only matters that nobody is refused what it needs.
        self.api.create(
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            {
                "metadata": {"name": f"{name}-may"},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": "cluster-admin",
                },
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": SYSTEM}],
            },
        )

    def _token(self, account: str, audience: str) -> Path:
        path = self.cluster.folder / f"{account}-{audience or 'kubernetes'}.token"
        if not path.exists():
            request = {"spec": {"audiences": [audience] if audience else [], "expirationSeconds": 7200}}
            collection = f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/{account}/token"
            path.write_text(self.api.create(collection, request)["status"]["token"])
            path.chmod(0o600)
        return path

    def token(self, account: str, audience: str) -> str:
        """A token of one of our service accounts."""
        return self._token(account, audience).read_text()

    @property
    def store(self) -> Path:
        """The gateway's database."""
        return self.cluster.folder / "gateway.db"

    def _start_gateway(self) -> None:
        http, stream = free_port(), free_port()
        self.gateway_url, self.gateway_stream = f"http://127.0.0.1:{http}", f"127.0.0.1:{stream}"
        accounts = [f"--system-account={SYSTEM}:{name}" for name in ("efaas-qpu", "efaas-operator")]
        process = self.cluster.start(
            "gateway",
            [
                *(sys.executable, "-m", "efaas_gateway", "serve", f"--store={self.store}"),
                *(f"--listen=127.0.0.1:{http}", f"--stream-listen=127.0.0.1:{stream}"),
                *(f"--kubernetes={self.cluster.server}", *accounts),
                f"--kubernetes-token-file={self._token('efaas-gateway', '')}",
                f"--kubernetes-ca-file={self.cluster.ca_file}",
            ],
        )
        self.gateway_process = process

        def listens() -> bool:
            if not process.running:
                raise ClusterError(f"the gateway ended while it started:\n{process.tail()}")
            with socket.create_connection(("127.0.0.1", stream), timeout=2):
                return True

        wait_until("gateway", listens)


def elapsed(since_s: float) -> str:
    """For lines of a log: seconds since a monotonic moment."""
    return f"{time.monotonic() - since_s:6.1f} s"
