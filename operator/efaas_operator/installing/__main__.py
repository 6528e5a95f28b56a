"""``python -m efaas_operator.installing``: devices, remove, certificates, check."""

from __future__ import annotations

import base64
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import yaml
from pydantic import ValidationError

from efaas.api.names import QPU_LABEL
from efaas.errors import EfaasError, InputError
from efaas.kubernetes.connection import connect
from efaas_operator import paths
from efaas_operator.installing.certificates import (
    Authority,
    pair_of,
    renewed_authority,
    renewed_server,
    secret_data,
)
from efaas_operator.installing.cluster import Cluster, Refused, segment, wait_for
from efaas_operator.installing.devices import RELEASE_LABEL, Wanted, wanted_devices

_PATH = click.Path(path_type=Path, dir_okay=False)
_KUBECONFIG = click.option(
    "--kubeconfig", type=_PATH, help="How to reach the API server; as a pod without it."
)
_TIMEOUT = click.option(
    "--timeout", "timeout_s", type=float, default=120.0, show_default=True, help="Seconds."
)
_LONGEST_LEASE_S = 60.0


class _Group(click.Group):
    """A group in which every error raised on purpose ends as a sentence and exit code 1."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except EfaasError as error:
            click.echo(f"error: {error}", err=True)
            context.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """What the chart's jobs do."""


@main.command()
@click.option("--file", "file", type=_PATH, required=True, help="YAML: perNode, list.")
@click.option("--release", required=True, help="Release of the chart.")
@_TIMEOUT
@_KUBECONFIG
def devices(file: Path, release: str, timeout_s: float, kubeconfig: Path | None) -> None:
    """Make a release's devices what its values say; those that it no longer names go."""
    cluster = Cluster(connect(kubeconfig))
    try:
        wanted = Wanted.model_validate(yaml.safe_load(file.read_text()) or {})
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise InputError(f"cannot be used: {error}", place=str(file)) from None
    wait_for("kind QPUDevice at the API server", lambda: cluster.get(paths.DEVICES) is not None, timeout_s)
    nodes = cluster.get(f"{paths.NODES}?labelSelector={segment(QPU_LABEL)}") or {"items": []}
    documents = wanted_devices(wanted, [node["metadata"]["name"] for node in nodes["items"]], release)
    for document in documents:
        name = document["metadata"]["name"]
        present = cluster.get(paths.device(name))
        if present is not None and present["metadata"].get("labels", {}).get(RELEASE_LABEL) != release:
            click.echo(f"device {name}: somebody else's, left as it is")
            continue
        cluster.apply(paths.device(name), document)
        click.echo(f"device {name}: {document['spec'].get('node') or 'on a free node'}")
    kept = {document["metadata"]["name"] for document in documents}
    for name in _of_release(cluster, release):
        if name not in kept:
            cluster.delete(paths.device(name))
            click.echo(f"device {name}: deleted, the values no longer name it")
    if not documents:
        click.echo(f"no devices: label nodes with {QPU_LABEL}= and upgrade, or apply a QPUDevice")


@main.command()
@click.option("--release", required=True, help="Release of the chart.")
@click.option("--namespace", required=True, help="Namespace of the installation.")
@click.option("--secret", "secrets", multiple=True, help="Secret that `certificates` made; deleted.")
@click.option("--config-map", "config_maps", multiple=True, help="ConfigMap that it made; deleted.")
@_TIMEOUT
@_KUBECONFIG
def remove(
    release: str,
    namespace: str,
    secrets: tuple[str, ...],
    config_maps: tuple[str, ...],
    timeout_s: float,
    kubeconfig: Path | None,
) -> None:
    """Delete a release's devices, wait until the operator has let them go, then delete certificates."""
    cluster = Cluster(connect(kubeconfig))
    for name in _of_release(cluster, release):
        cluster.delete(paths.device(name))
    wait_for("devices to be gone", lambda: not _of_release(cluster, release), timeout_s)
    for what, path in (("devices", paths.DEVICES), ("sessions", paths.SESSIONS)):
        left = (cluster.get(path) or {"items": []})["items"]
        if left:
            click.echo(f"{len(left)} {what} were not made by this release and stay, without an operator")
    for name in secrets:
        cluster.delete(paths.core(namespace, "secrets", name))
    for name in config_maps:
        cluster.delete(paths.core(namespace, "configmaps", name))


@main.command()
@click.option("--namespace", required=True, help="Namespace of the Secrets.")
@click.option("--authority", required=True, help="Secret with the authority; ConfigMap of whom to trust.")
@click.option(
    "--server", "servers", multiple=True, metavar="SECRET=HOST,…", help="Secret of a server, with its names."
)
@click.option("--days", type=int, required=True, help="Life of a server's certificate.")
@click.option("--authority-days", type=int, required=True, help="Life of the authority's.")
@_KUBECONFIG
def certificates(
    namespace: str,
    authority: str,
    servers: tuple[str, ...],
    days: int,
    authority_days: int,
    kubeconfig: Path | None,
) -> None:
    """Fill Secrets with certificates, and renew those of which two thirds of their life are over.

    Whom to trust is no secret: a ConfigMap tells it to those who come from outside.
    """
    cluster = Cluster(connect(kubeconfig))
    now = datetime.now(UTC)

    def data_of(name: str) -> dict[str, str]:
        secret = cluster.get(paths.core(namespace, "secrets", name))
        return dict((secret or {}).get("data") or {})

    def write(name: str, data: dict[str, str]) -> None:
        document = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "efaas"}},
            "data": data,
        }
        cluster.apply(paths.core(namespace, "secrets", name), document)

    data = data_of(authority)
    new = renewed_authority(data, now, timedelta(days=authority_days))
    if new is not None:
        data = secret_data(new.pair, new.bundle)
        write(authority, data)
        click.echo(f"secret {authority}: a new authority")
    pair = pair_of(data)
    if pair is None:
        raise InputError("holds no usable authority; delete it and upgrade", place=f"secret {authority}")
    trusted = Authority(pair, base64.b64decode(data["ca.crt"]))
    public = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": authority, "labels": {"app.kubernetes.io/part-of": "efaas"}},
        "data": {"ca.crt": trusted.bundle.decode()},
    }
    cluster.apply(paths.core(namespace, "configmaps", authority), public)
    for server in servers:
        name, _, hosts = server.partition("=")
        changed = renewed_server(data_of(name), trusted, hosts.split(","), now, timedelta(days=days))
        if changed is not None:
            write(name, changed)
        click.echo(f"secret {name}: {'renewed' if changed is not None else 'good'}")


@main.command()
@click.option("--namespace", required=True, help="Namespace of the installation.")
@_TIMEOUT
@_KUBECONFIG
def check(namespace: str, timeout_s: float, kubeconfig: Path | None) -> None:
    """See that the installation works: leaders are there, and the devices are up."""
    cluster = Cluster(connect(kubeconfig))
    for name in ("efaas-operator", "efaas-scheduler"):
        wait_for(f"leader of {name}", lambda name=name: _led(cluster, namespace, name), timeout_s)  # type: ignore[misc]
        click.echo(f"{name}: has a leader")
    wait_for("all devices to be up", lambda: not _not_up(cluster), timeout_s)
    found = (cluster.get(paths.DEVICES) or {"items": []})["items"]
    click.echo(f"{len(found)} devices are up")


def _led(cluster: Cluster, namespace: str, name: str) -> bool:
    try:
        lease: dict[str, Any] = cluster.get(paths.lease(namespace, name)) or {}
    except Refused:
        return False
    spec = lease.get("spec", {})
    if not spec.get("holderIdentity") or not spec.get("renewTime"):
        return False
    age = datetime.now(UTC) - datetime.fromisoformat(spec["renewTime"])
    return age.total_seconds() < _LONGEST_LEASE_S


def _not_up(cluster: Cluster) -> list[str]:
    found = (cluster.get(paths.DEVICES) or {"items": []})["items"]
    return [
        item["metadata"]["name"]
        for item in found
        if not any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in item.get("status", {}).get("conditions", ())
        )
    ]


def _of_release(cluster: Cluster, release: str) -> list[str]:
    selector = segment(f"{RELEASE_LABEL}={release}")
    found = cluster.get(f"{paths.DEVICES}?labelSelector={selector}") or {"items": []}
    return [item["metadata"]["name"] for item in found["items"]]


if __name__ == "__main__":
    sys.exit(main())
