"""``efaas submit``: send a script or a manifest to a cluster, and follow it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from efaas.cluster.connection import Cluster, open_cluster
from efaas.cluster.follow import follow, outcome
from efaas.cluster.submit import Submitted, Wishes, submit_manifest, submit_script
from efaas.errors import InputError

EXIT_OF = {"Completed": 0, "Failed": 1, "Expired": 1, "Cancelled": 1}
INTERRUPTED = 130


def submit(
    file: Path,
    *,
    kubeconfig: str | None,
    context: str | None,
    namespace: str | None,
    wishes: Wishes,
    detach: bool,
) -> None:
    """Send what is in the file, then follow it to its end and exit as it ended.

    Raises:
        EfaasError: the file or the wishes are no good, or the cluster refuses.
    """
    cluster = open_cluster(kubeconfig, context, namespace)
    if file.suffix in (".yaml", ".yml", ".json"):
        if wishes != Wishes():
            raise InputError("a manifest says these itself; leave the options out", place=str(file))
        sessions = submit_manifest(cluster, file)
    else:
        sessions = [submit_script(cluster, file, wishes)]
    for session in sessions:
        click.echo(f"vqasession {session.namespace}/{session.name} submitted")
    if detach:
        return
    states = [followed(cluster, session, with_name=len(sessions) > 1) for session in sessions]
    sys.exit(max(EXIT_OF.get(state, 1) for state in states))


def followed(cluster: Cluster, session: Submitted, *, with_name: bool = False) -> str:
    """Follow a session, its story on stderr and its log on stdout; returns its final state."""
    name = f"{session.name}: " if with_name else ""

    def tell(line: str) -> None:
        click.echo(click.style(f"{name}{line}", bold=True), err=True)

    def show(line: str) -> None:
        click.echo(f"{name}{line}")

    try:
        status: dict[str, Any] = follow(cluster, session.namespace, session.name, tell, show)
    except KeyboardInterrupt:
        where = f"-n {session.namespace} {session.name}"
        click.echo(
            f"\nit goes on; look: kubectl efaas logs -f {where}; end it: kubectl efaas cancel {where}",
            err=True,
        )
        sys.exit(INTERRUPTED)
    tell(outcome(status))
    return str(status.get("state", ""))
