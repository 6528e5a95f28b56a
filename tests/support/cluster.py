"""A real Kubernetes control plane for tests, without containers.

`Cluster` starts etcd and kube-apiserver as processes of this machine, and on request kube-controller-manager,
kube-scheduler and kwok (which plays kubelets: nodes are Ready, pods run and end). Everything listens on
127.0.0.1 on ports of its own, keeps its files in one folder, and ends with the test, even a killed one.

::

    with Cluster(tmp_path) as cluster:
        cluster.apply_crds()
        cluster.start_kwok()
        cluster.start_scheduler(configuration)
        cluster.api.create("/api/v1/namespaces/default/pods", pod)

`Api` is a plain client of the REST interface: paths in, documents out, one connection a thread. Tests speak
to the API server as any client would, without a library whose caches could hide a fault.

The programs are looked for on PATH; where they are not, a machine's own setup script
(``../shared/kind/up``) is run if it is there, and otherwise the test fails and says what is missing.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import secrets
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support.processes import Process, free_port, wait_until
from tests.support.rest import Api, ApiError

__all__ = ["Api", "ApiError", "Cluster", "ClusterError", "Process", "free_port", "wait_until"]

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "kubectl")
SETUP = ROOT.parent / "shared" / "kind" / "up"
"""Makes the programs available on a machine that has it."""

Document = dict[str, Any]


class ClusterError(Exception):
    """The control plane cannot be started, or does not get ready."""


@functools.cache
def require_programs() -> None:
    """Make sure that the programs are there.

    Raises:
        ClusterError: some are missing, with their names.
    """
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing and SETUP.is_file():
        subprocess.run([str(SETUP)], check=True, stdout=subprocess.DEVNULL)
        missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        raise ClusterError(
            f"tests marked `cluster` need {', '.join(missing)} on PATH; install Kubernetes' server programs "
            "and kwok, or deselect these tests with EFAAS_WITHOUT_CLUSTER=1"
        )


class Cluster:
    """A control plane of its own.

    Args:
        folder: for data, certificates and logs; made if it is not there.
        service_accounts: whether pods need a service account, as in a real cluster. Those are made by
            kube-controller-manager, so without it pods would be refused.
        audit: whether the API server writes down who changed what, into `audit_file`.
    """

    def __init__(self, folder: Path, *, service_accounts: bool = False, audit: bool = False) -> None:
        require_programs()
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.token = secrets.token_hex(16)
        self.processes: dict[str, Process] = {}
        self.audit_file = self.folder / "audit.jsonl"
        self._service_accounts, self._audit = service_accounts, audit
        self._api: Api | None = None

    def __enter__(self) -> Cluster:
        try:
            self._start_store()
            self._start_api_server()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every program, last started first."""
        if self._api is not None:
            self._api.close()
        for name in reversed(list(self.processes)):
            with contextlib.suppress(OSError):
                # Nothing here is worth saving: etcd would take its time to end in order.
                self.processes[name].kill()

    @property
    def api(self) -> Api:
        """Client of the API server, once that runs."""
        if self._api is None:
            raise ClusterError("the cluster is not started: use it in a `with` statement")
        return self._api

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig file of the cluster's administrator."""
        return self.folder / "kubeconfig"

    @property
    def ca_file(self) -> Path:
        """Certificates that the API server's own one can be checked with."""
        return self.folder / "pki" / "apiserver.crt"

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> Process:
        """Start a program that ends with the cluster; its log is ``NAME.log`` in the folder."""
        process = Process(command, self.folder / f"{name}.log", environment)
        self.processes[name] = process
        return process

    def start_controller_manager(self, *controllers: str, flags: Sequence[str] = ()) -> Process:
        """Start kube-controller-manager.

        Args:
            controllers: which of its controllers to run; its usual ones if none is named.
            flags: more arguments.
        """
        port = free_port()
        process = self.start(
            "kube-controller-manager",
            [
                "kube-controller-manager",
                f"--kubeconfig={self.kubeconfig}",
                f"--service-account-private-key-file={self._key}",
                f"--root-ca-file={self.ca_file}",
                "--use-service-account-credentials=false",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                f"--secure-port={port}",
                f"--cert-dir={self.folder / 'controller-manager'}",
                f"--controllers={','.join(controllers) or '*'}",
                *flags,
            ],
        )
        wait_until("kube-controller-manager", lambda: self._answers(process, port, tls=True))
        if not controllers or "serviceaccount-controller" in controllers:
            path = "/api/v1/namespaces/default/serviceaccounts/default"
            wait_until("service account", lambda: self.api.find(path))
        return process

    def start_scheduler(self, configuration: Mapping[str, Any], name: str = "kube-scheduler") -> Process:
        """Start kube-scheduler; its configuration gets the kubeconfig and leaves out leader election."""
        document = {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "leaderElection": {"leaderElect": False},
            **configuration,
        }
        document["clientConnection"] = {
            **configuration.get("clientConnection", {}),
            "kubeconfig": str(self.kubeconfig),
        }
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document))
        port = free_port()
        process = self.start(
            name,
            [
                "kube-scheduler",
                f"--config={path}",
                "--bind-address=127.0.0.1",
                f"--secure-port={port}",
                f"--cert-dir={self.folder / name}",
                f"--authentication-kubeconfig={self.kubeconfig}",
                f"--authorization-kubeconfig={self.kubeconfig}",
            ],
        )
        wait_until(name, lambda: self._answers(process, port, tls=True))
        return process

    def start_kwok(self, *, pods: bool = True, lease_s: int = 40) -> Process:
        """Start kwok for all nodes: they stay Ready, and their pods run and end.

        Args:
            pods: whether pods are played too; else they stay as they were bound.
            lease_s: length of the nodes' leases, renewed after a quarter of it.
        """
        stages = [
            stage
            for stage in yaml.safe_load_all(Path(__file__).with_name("kwok-stages.yaml").read_text())
            if pods or stage["metadata"]["name"] != "pod-runs"
        ]
        config = self.folder / "kwok.yaml"
        config.write_text(yaml.safe_dump_all(stages))
        port = free_port()
        process = self.start(
            "kwok",
            [
                "kwok",
                f"--config={config}",
                f"--kubeconfig={self.kubeconfig}",
                "--manage-all-nodes",
                f"--server-address=127.0.0.1:{port}",
                f"--node-port={port}",
                f"--node-lease-duration-seconds={lease_s}",
            ],
        )
        wait_until("kwok", lambda: self._answers(process, port, tls=False))
        return process

    def apply_crds(self, folder: Path = ROOT / "crds") -> None:
        """Create the CustomResourceDefinitions of a folder and wait until they are served."""
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        for file in sorted(folder.glob("*.yaml")):
            document = yaml.safe_load(file.read_text())
            self.api.create(path, document)
            name = document["metadata"]["name"]

            def established(name: str = name) -> bool:
                conditions = self.api.get(f"{path}/{name}").get("status", {}).get("conditions") or []
                return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)

            wait_until(f"established {name}", established)
            version = document["spec"]["versions"][0]["name"]
            plural, group = document["spec"]["names"]["plural"], document["spec"]["group"]
            served = f"/apis/{group}/{version}/{plural}"

            def listed(served: str = served) -> Document | None:
                return self.api.find(served)

            wait_until(f"{plural} to be served", listed)

    def create_namespace(self, name: str) -> None:
        """Create a namespace."""
        self.api.create("/api/v1/namespaces", {"metadata": {"name": name}})

    def create_node(
        self,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        taints: Sequence[Mapping[str, str]] = (),
        resources: Mapping[str, str] | None = None,
    ) -> None:
        """Create a Ready node.

        Args:
            name: its name.
            labels: on top of its host name.
            annotations: as they are.
            taints: as in the spec.
            resources: capacity, on top of 32 CPUs, 256 GiB and 110 pods.
        """
        self.api.create(
            "/api/v1/nodes",
            {
                "metadata": {
                    "name": name,
                    "labels": {"kubernetes.io/hostname": name, **(labels or {})},
                    "annotations": {"kwok.x-k8s.io/node": "fake", **(annotations or {})},
                },
                "spec": {"taints": list(taints)},
            },
        )
        capacity = {"cpu": "32", "memory": "256Gi", "pods": "110", **(resources or {})}
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "kubelet is posting ready status",
            "lastHeartbeatTime": moment,
            "lastTransitionTime": moment,
        }
        status = {"capacity": capacity, "allocatable": capacity, "conditions": [ready]}
        self.api.patch(f"/api/v1/nodes/{name}/status", {"status": status})

    @contextlib.contextmanager
    def fresh_namespace(self, prefix: str = "test") -> Iterator[str]:
        """A namespace of a unique name."""
        name = f"{prefix}-{secrets.token_hex(4)}"
        self.create_namespace(name)
        yield name

    @property
    def _key(self) -> Path:
        return self.folder / "service-account.key"

    def _start_store(self) -> None:
        port, peer = free_port(), free_port()
        self._store = f"http://127.0.0.1:{port}"
        process = self.start(
            "etcd",
            [
                "etcd",
                "--unsafe-no-fsync",
                f"--data-dir={self.folder / 'etcd'}",
                f"--listen-client-urls={self._store}",
                f"--advertise-client-urls={self._store}",
                f"--listen-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-cluster=default=http://127.0.0.1:{peer}",
                "--log-level=warn",
            ],
        )
        wait_until("etcd", lambda: self._answers(process, port, tls=False, path="/health"))

    def _start_api_server(self) -> None:
        subprocess.run(["openssl", "genrsa", "-out", str(self._key), "2048"], check=True, capture_output=True)
        tokens = self.folder / "tokens.csv"
        tokens.write_text(f"{self.token},admin,admin,system:masters\n")
        port = free_port()
        self.server = f"https://127.0.0.1:{port}"
        # Nodes are tainted until kube-controller-manager has seen them Ready; alone, they would stay so.
        off = ["TaintNodesByCondition"] + ([] if self._service_accounts else ["ServiceAccount"])
        process = self.start(
            "kube-apiserver",
            [
                "kube-apiserver",
                f"--etcd-servers={self._store}",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                f"--secure-port={port}",
                f"--cert-dir={self.folder / 'pki'}",
                "--service-cluster-ip-range=10.96.0.0/16",
                f"--service-account-issuer={self.server}",
                f"--service-account-key-file={self._key}",
                f"--service-account-signing-key-file={self._key}",
                f"--token-auth-file={tokens}",
                "--authorization-mode=RBAC",
                f"--disable-admission-plugins={','.join(off)}",
                "--endpoint-reconciler-type=none",
                "--allow-privileged=true",
                *self._audit_flags(),
            ],
        )
        wait_until("kube-apiserver", lambda: self._answers(process, port, tls=True, path="/readyz"))
        self.kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "test",
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
                    "clusters": [
                        {
                            "name": "test",
                            "cluster": {"server": self.server, "certificate-authority": str(self.ca_file)},
                        }
                    ],
                    "users": [{"name": "admin", "user": {"token": self.token}}],
                }
            )
        )
        self.kubeconfig.chmod(0o600)
        self._api = Api(self.server, self.token, self.ca_file)
        wait_until("default namespace", lambda: self.api.find("/api/v1/namespaces/default"))

    def _audit_flags(self) -> list[str]:
        if not self._audit:
            return []
        written = {"level": "Metadata", "verbs": ["create", "update", "patch", "delete"]}
        policy = {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived", "ResponseStarted"],
            "rules": [written, {"level": "None"}],
        }
        file = self.folder / "audit-policy.yaml"
        file.write_text(yaml.safe_dump(policy))
        return [f"--audit-policy-file={file}", f"--audit-log-path={self.audit_file}"]

    def _answers(self, process: Process, port: int, *, tls: bool, path: str = "/healthz") -> bool:
        """Whether a program's health endpoint says 200; a program that ended is an error at once."""
        if not process.running:
            raise ClusterError(f"{process.command[0]} ended while it started:\n{process.tail()}")
        if tls:
            # Its certificate is its own and of this moment: only that it is well matters here.
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                "127.0.0.1", port, timeout=5, context=context
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
            return connection.getresponse().status == 200
        finally:
            connection.close()
