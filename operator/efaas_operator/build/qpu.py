"""A device's QPU pod, pinned to its node, with what it reads, where it keeps its log, and how it is found.

The pod is not of a StatefulSet: its node is part of the device's specification, and it must never be made
anew elsewhere before the operator has decided so. The volume with its log outlives it, so that results,
charges and calibrations do.

The server asks Kubernetes about the tokens that sessions show (TokenReview), so this pod, and only this one,
has a token for the API server.

A server reads its device once, when it starts. So what it reads has nothing in it that may change without a
new server (whether the device is cordoned, when a calibration was asked for, where it is), and the pod
carries a digest of what it was made of.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from efaas.api.names import DEVICE_LABEL
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
from efaas_operator.settings import GATEWAY_AUDIENCE, QPU_AUDIENCE, QPU_HASH_ANNOTATION, Settings

_DEVICE_FOLDER = "/etc/efaas"
_DATA_FOLDER = "/var/lib/efaas"
_TLS_FOLDER = "/etc/efaas-tls"
_TOKEN_FOLDER = "/var/run/secrets/efaas"


def qpu_name(device: str) -> str:
    """Name of a device's pod, Service, ConfigMap and volume claim."""
    return f"qpu-{device}"


def qpu_endpoint(device: str, settings: Settings) -> str:
    """``host:port`` of a device's stream."""
    return f"{qpu_host(device, settings)}:{settings.stream_port}"


def qpu_host(device: str, settings: Settings) -> str:
    """Name by which a device's server is found, and which its certificate has."""
    return f"{qpu_name(device)}.{settings.system_namespace}.svc"


def build_qpu_config(
    device: Mapping[str, Any], config_maps: Iterable[Mapping[str, Any]], settings: Settings
) -> Document:
    """The ConfigMap with the manifest that the QPU server reads.

    Args:
        device: the QPUDevice as the API server has it.
        config_maps: those it names (its model, its trace).
        settings: of the installation.
    """
    document = without_status(device)
    document["metadata"].pop("generation", None)
    document["spec"] = {key: value for key, value in device["spec"].items() if key not in ("cordon", "node")}
    if "calibration" in document["spec"]:
        calibration = dict(document["spec"]["calibration"])
        calibration.pop("requestedAt", None)
        document["spec"]["calibration"] = calibration
    documents = [document]
    for config_map in config_maps:
        metadata = config_map["metadata"]
        documents.append(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
                "data": dict(config_map.get("data", {})),
            }
        )
    text = "---\n".join(to_yaml(document) for document in documents)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(device, settings),
        "data": {"device.yaml": text},
    }


def build_qpu_claim(device: Mapping[str, Any], settings: Settings) -> Document:
    """The claim of the volume that the server's log is on."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _metadata(device, settings),
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": settings.qpu_storage}},
        },
    }


def build_qpu_service(device: Mapping[str, Any], settings: Settings) -> Document:
    """The headless Service by whose name runners find the server."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(device, settings),
        "spec": {
            "clusterIP": "None",
            "selector": {"app.kubernetes.io/name": "efaas-qpu", DEVICE_LABEL: device["metadata"]["name"]},
            "ports": [
                {"name": "grpc", "port": settings.stream_port, "appProtocol": "kubernetes.io/h2c"},
                {"name": "metrics", "port": settings.metrics_port},
            ],
        },
    }


def build_qpu_pod(device: Mapping[str, Any], node: str, settings: Settings) -> Document:
    """The pod of the QPU server.

    Args:
        device: the QPUDevice as the API server has it.
        node: where it runs: `spec.node`, or what was chosen for it.
        settings: of the installation.
    """
    name = qpu_name(device["metadata"]["name"])
    probe = {"grpc": {"port": settings.health_port}}
    arguments = [
        f"--device={_DEVICE_FOLDER}/device.yaml",
        f"--data={_DATA_FOLDER}",
        f"--listen=0.0.0.0:{settings.stream_port}",
        f"--health-listen=0.0.0.0:{settings.health_port}",
        f"--metrics-listen=0.0.0.0:{settings.metrics_port}",
        "--kubernetes=in-cluster",
        f"--audience={QPU_AUDIENCE}",
        f"--keeper-account={settings.system_namespace}:{settings.operator_service_account}",
    ]
    environment: list[Document] = [{"name": "HOME", "value": "/tmp"}]
    mounts: list[Document] = [
        {"name": "device", "mountPath": _DEVICE_FOLDER, "readOnly": True},
        {"name": "data", "mountPath": _DATA_FOLDER},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    volumes: list[Document] = [
        {"name": "device", "configMap": {"name": name}},
        {"name": "data", "persistentVolumeClaim": {"claimName": name}},
        scratch("tmp", "512Mi"),
    ]
    if settings.qpu_tls_secret:
        arguments += [f"--tls-cert={_TLS_FOLDER}/tls.crt", f"--tls-key={_TLS_FOLDER}/tls.key"]
        mounts.append({"name": "tls", "mountPath": _TLS_FOLDER, "readOnly": True})
        volumes.append({"name": "tls", "secret": {"secretName": settings.qpu_tls_secret}})
    if settings.gateway:
        # The log is kept at the gateway then; the volume holds what could not be delivered yet.
        environment += [
            {"name": "EFAAS_GATEWAY", "value": settings.gateway},
            {"name": "EFAAS_GATEWAY_TOKEN_FILE", "value": f"{_TOKEN_FOLDER}/{GATEWAY_AUDIENCE}"},
        ]
        if settings.qpu_tls_secret:
            environment.append({"name": "EFAAS_GATEWAY_CA_FILE", "value": f"{_TLS_FOLDER}/ca.crt"})
        token = {
            "audience": GATEWAY_AUDIENCE,
            "expirationSeconds": settings.token_s,
            "path": GATEWAY_AUDIENCE,
        }
        mounts.append({"name": "tokens", "mountPath": _TOKEN_FOLDER, "readOnly": True})
        volumes.append({"name": "tokens", "projected": {"sources": [{"serviceAccountToken": token}]}})
    container = {
        "name": "qpu",
        "image": settings.qpu_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["efaas-qpu", "serve"],
        "args": arguments,
        "env": environment,
        "ports": [
            {"name": "grpc", "containerPort": settings.stream_port},
            {"name": "health", "containerPort": settings.health_port},
            {"name": "metrics", "containerPort": settings.metrics_port},
        ],
        "resources": settings.qpu.document(),
        "securityContext": container_security(),
        # Aer's import takes most of a second on a free core, far longer on a crowded one.
        "startupProbe": {**probe, "periodSeconds": 1, "failureThreshold": 120},
        "readinessProbe": {**probe, "periodSeconds": 5},
        "livenessProbe": {**probe, "periodSeconds": 10, "failureThreshold": 6},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata(device, settings),
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": settings.stop_s,
            "serviceAccountName": settings.qpu_service_account,
            "automountServiceAccountToken": True,
            "enableServiceLinks": False,
            "securityContext": pod_security(settings),
            "tolerations": tolerations(settings),
            "containers": [container],
            "volumes": volumes,
        },
    }


def with_digest(pod: Mapping[str, Any], config: Mapping[str, Any]) -> Document:
    """The pod with the digest of what it is made of.

    Args:
        pod: of `build_qpu_pod`.
        config: of `build_qpu_config`, which its server reads when it starts.
    """
    text = json.dumps([pod["spec"], config["data"]], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    metadata = {**pod["metadata"], "annotations": {QPU_HASH_ANNOTATION: digest}}
    return {**pod, "metadata": metadata}


def _metadata(device: Mapping[str, Any], settings: Settings) -> Document:
    name = device["metadata"]["name"]
    return {
        "name": qpu_name(name),
        "namespace": settings.system_namespace,
        "labels": labels("efaas-qpu") | {DEVICE_LABEL: name},
        "ownerReferences": [owner_reference(device)],
    }
