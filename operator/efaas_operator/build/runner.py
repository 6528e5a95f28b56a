"""A session's runner pod, and what it is told once it is known where it runs.

A pod's environment is fixed when it is made, but the device is known only when the scheduler has chosen a
node. So the pod takes it from a ConfigMap of its own name, the *assignment*, that does not exist yet: the
kubelet waits for it and starts the container when the operator has written it. It holds the session's
document, and the QPU servers with the session's own device first.

The pod has no token for Kubernetes' API. Two projected tokens, each good for one audience only, open the QPU
servers' streams and the gateway's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from efaas.api.names import ADMISSION_GATE, SCHEDULER_NAME, SESSION_NAME_ANNOTATION, SESSION_RESOURCE
from efaas_operator.build.common import (
    Document,
    container_security,
    labels,
    owner_reference,
    pod_security,
    scratch,
    to_yaml,
    tolerations,
    without_status,
)
from efaas_operator.settings import (
    GATEWAY_AUDIENCE,
    LEASE_EPOCH_ANNOTATION,
    QPU_AUDIENCE,
    SESSION_LABEL,
    Settings,
)

_SESSION_FOLDER = "/etc/efaas/session"
_CA_KEY = "ca.crt"
_CA_FILE = f"{_SESSION_FOLDER}/{_CA_KEY}"
_PROGRAM_FOLDER = "/etc/efaas/program"
_WORK_FOLDER = "/var/lib/efaas"
_TOKEN_FOLDER = "/var/run/secrets/efaas"
_TERMINATION_MESSAGE = "/dev/termination-log"
"""Where kubelets let a container leave its last words, also under a root file system that is read only."""


def runner_name(session: str, epoch: int) -> str:
    """Name of a runner pod: no two runners of a session share one."""
    return f"{session}-r{epoch}"


def build_runner_pod(session: Mapping[str, Any], epoch: int, settings: Settings) -> Document:
    """The gated pod of a session's runner.

    Args:
        session: the VQASession as the API server has it.
        epoch: lease epoch of the runner.
        settings: of the installation.
    """
    name = session["metadata"]["name"]
    pod_name = runner_name(name, epoch)
    program = session["spec"].get("program") or {}
    script = program.get("script")
    environment: list[Document] = [
        {"name": "EFAAS_SESSION_FILE", "value": f"{_SESSION_FOLDER}/session.yaml"},
        {"name": "EFAAS_QPUS", "valueFrom": {"configMapKeyRef": {"name": pod_name, "key": "qpus"}}},
        {"name": "EFAAS_JOURNAL", "value": f"{_WORK_FOLDER}/journal"},
        {"name": "EFAAS_LEASE_EPOCH", "value": str(epoch)},
    ]
    if settings.gateway:
        environment.append({"name": "EFAAS_GATEWAY", "value": settings.gateway})
        environment.append(
            {"name": "EFAAS_GATEWAY_TOKEN_FILE", "value": f"{_TOKEN_FOLDER}/{GATEWAY_AUDIENCE}"}
        )
        if settings.qpu_tls_secret:
            environment.append({"name": "EFAAS_GATEWAY_CA_FILE", "value": _CA_FILE})
    assigned = [_item("session.yaml")]
    if settings.qpu_tls_secret:
        assigned.append(_item(_CA_KEY))
    volumes: list[Document] = [
        {"name": "session", "configMap": {"name": pod_name, "items": assigned}},
        {"name": "tokens", "projected": {"sources": [_token(audience, settings) for audience in _AUDIENCES]}},
        scratch("work", "256Mi"),
        scratch("tmp", "256Mi"),
    ]
    mounts: list[Document] = [
        {"name": "session", "mountPath": _SESSION_FOLDER, "readOnly": True},
        {"name": "tokens", "mountPath": _TOKEN_FOLDER, "readOnly": True},
        {"name": "work", "mountPath": _WORK_FOLDER},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    container: Document = {
        "name": "runner",
        "image": program.get("image") or settings.runner_image,
        "imagePullPolicy": "IfNotPresent",
    }
    if program.get("image"):
        if program.get("command"):
            container["command"] = list(program["command"])
        if program.get("arguments"):
            container["args"] = list(program["arguments"])
    else:
        container["command"] = ["python", "-m", "efaas.runner"]
    if script:
        environment.append({"name": "EFAAS_PROGRAM", "value": f"{_PROGRAM_FOLDER}/{script['key']}"})
        volumes.append(
            {"name": "program", "configMap": {"name": script["name"], "items": [_item(script["key"])]}}
        )
        mounts.append({"name": "program", "mountPath": _PROGRAM_FOLDER, "readOnly": True})
    environment.append({"name": "EFAAS_TERMINATION_MESSAGE", "value": _TERMINATION_MESSAGE})
    environment.append({"name": "HOME", "value": "/tmp"})
    resources = settings.runner.document()
    resources["requests"][SESSION_RESOURCE] = resources["limits"][SESSION_RESOURCE] = "1"
    container |= {
        "env": environment,
        "resources": resources,
        "securityContext": container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name,
            "namespace": session["metadata"]["namespace"],
            "labels": labels("efaas-runner") | {SESSION_LABEL: name},
            "annotations": {SESSION_NAME_ANNOTATION: name, LEASE_EPOCH_ANNOTATION: str(epoch)},
            "ownerReferences": [owner_reference(session)],
        },
        "spec": {
            "schedulerName": SCHEDULER_NAME,
            "schedulingGates": [{"name": ADMISSION_GATE}],
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": settings.stop_s,
            "serviceAccountName": settings.runner_service_account,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": pod_security(settings),
            "tolerations": tolerations(settings),
            "containers": [container],
            "volumes": volumes,
        },
    }


def build_assignment(
    session: Mapping[str, Any], pod: Mapping[str, Any], devices: Sequence[Mapping[str, str]], ca: str = ""
) -> Document:
    """The ConfigMap that lets a placed runner start.

    Args:
        session: the VQASession as the API server has it.
        pod: its runner pod as the API server has it: the ConfigMap goes when the pod does.
        devices: ``device`` and ``endpoint`` of each QPU server, the session's own first.
        ca: certificates, PEM, that QPU servers' and the gateway's are checked with; empty: streams are plain.
    """
    common = {"tokenFile": f"{_TOKEN_FOLDER}/{QPU_AUDIENCE}"} | ({"caFile": _CA_FILE} if ca else {})
    qpus = [{**device, **common} for device in devices]
    metadata = pod["metadata"]
    owner = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": labels("efaas-runner") | {SESSION_LABEL: session["metadata"]["name"]},
            "ownerReferences": [owner_reference(owner)],
        },
        "immutable": True,
        "data": {"session.yaml": to_yaml(without_status(session)), "qpus": json.dumps(qpus)}
        | ({_CA_KEY: ca} if ca else {}),
    }


_AUDIENCES = (QPU_AUDIENCE, GATEWAY_AUDIENCE)


def _item(key: str) -> Document:
    return {"key": key, "path": key}


def _token(audience: str, settings: Settings) -> Document:
    return {
        "serviceAccountToken": {
            "audience": audience,
            "expirationSeconds": settings.token_s,
            "path": audience,
        }
    }
