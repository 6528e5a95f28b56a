"""What an installation chooses: images, namespaces, sizes and ports."""

from __future__ import annotations

from dataclasses import dataclass

from efaas.api.meta import GROUP

FINALIZER = f"{GROUP}/operator"
"""Keeps sessions and devices until the operator has let go of what belongs to them."""

LEASE_EPOCH_ANNOTATION = f"{GROUP}/lease-epoch"
"""On a runner pod: the epoch that it writes with."""

SESSION_LABEL = f"{GROUP}/session-name"
"""On a runner pod and its ConfigMap: name of the session, for selectors."""

POD_SELECTOR = "app.kubernetes.io/managed-by=efaas-operator"
"""Label selector of the operator's own pods."""

QPU_HASH_ANNOTATION = f"{GROUP}/made-of"
"""On a QPU pod: digest of its specification and of what its server reads; another one needs another pod."""

DRAIN_ANNOTATION = f"{GROUP}/drain"
"""On a QPUDevice: its sessions are moved elsewhere, and none comes; the value is the reason, in words."""

FORCE_DELETE_ANNOTATION = f"{GROUP}/force-delete"
"""On a QPUDevice that is being deleted, ``true``: its sessions are moved elsewhere rather than waited for."""

QPU_AUDIENCE = "efaas-qpu"
"""Audience of the tokens that QPU servers take."""

GATEWAY_AUDIENCE = "efaas-gateway"
"""Audience of the tokens that the gateway's writers' stream takes."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a container asks for and may have at most, as Kubernetes writes quantities."""

    cpu: str
    memory: str

    def document(self) -> dict[str, dict[str, str]]:
        """Requests equal to limits for memory; processor time may be used while it is free."""
        return {"requests": {"cpu": self.cpu, "memory": self.memory}, "limits": {"memory": self.memory}}


@dataclass(frozen=True, slots=True)
class Settings:
    """One installation."""

    runner_image: str
    """Image with `efaas[run]`."""
    qpu_image: str
    """Image with `efaas[qpu]`."""
    system_namespace: str = "efaas-system"
    """Where QPU pods are."""
    qpu_service_account: str = "efaas-qpu"
    runner_service_account: str = "default"
    """In each session's own namespace; its token opens QPU servers and the gateway, never Kubernetes."""
    gateway: str = ""
    """``host:port`` of the gateway's writers' stream; empty: journals stay in the pod."""
    runner: Resources = Resources("1", "1Gi")
    qpu: Resources = Resources("1", "2Gi")
    qpu_storage: str = "1Gi"
    """Size of the volume with a QPU server's log."""
    user: int = 65532
    """User and group id of all containers."""
    node_loss_s: int = 10
    """A pod on a node that is not ready or not reachable is given up after this."""
    stop_s: int = 30
    """What a pod has to end in order."""
    operator_service_account: str = "efaas-operator"
    """In the system's namespace; keeps all devices."""
    qpu_tls_secret: str = ""
    """Secret in the system's namespace with ``tls.crt``, ``tls.key`` and ``ca.crt`` of QPU servers; empty:
    their streams are plain."""
    stream_port: int = 8470
    health_port: int = 8471
    """Of a QPU server's health service alone: kubelets' probes know no TLS."""
    metrics_port: int = 9470
    token_s: int = 3600
    """Life of projected tokens; kubelets renew them."""
