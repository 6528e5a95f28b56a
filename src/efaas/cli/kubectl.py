"""``kubectl efaas``: sessions and devices of a cluster, for people.

kubectl finds the program by its name on PATH, ``kubectl-efaas``. It takes kubectl's own options for the
kubeconfig, the context and the namespace.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from efaas.cli.group import CommandGroup
from efaas.cluster.connection import (
    DEVICES,
    SYSTEM_NAMESPACE,
    Cluster,
    ClusterError,
    open_cluster,
    sessions_path,
)
from efaas.errors import EfaasError, InputError

Command = TypeVar("Command", bound=Callable[..., Any])
_EXTENDER_PORT = 8888
_SCHEDULER = "app.kubernetes.io/name=efaas-scheduler"


@dataclass(frozen=True)
class Target:
    """What the common options say."""

    cluster: Cluster
    system_namespace: str
    gateway: str


def _common(command: Command) -> Command:
    for option in (
        click.option(
            "--gateway", default="", metavar="URL", help="Where the gateway answers; found if not given."
        ),
        click.option(
            "--system-namespace",
            default=SYSTEM_NAMESPACE,
            show_default=True,
            help="Where EFaaS is installed.",
        ),
        click.option("--kubeconfig", help="Kubeconfig file, as kubectl takes it."),
        click.option("--context", help="Context of the kubeconfig."),
        click.option("-n", "--namespace", help="Namespace; that of the context if not given."),
    ):
        command = option(command)
    return command


def _target(options: dict[str, Any]) -> Target:
    cluster = open_cluster(options["kubeconfig"], options["context"], options["namespace"])
    return Target(cluster, options["system_namespace"], options["gateway"])


@click.group(
    cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="efaas", prog_name="kubectl efaas")
def main() -> None:
    """See and steer EFaaS sessions and QPU devices of a cluster."""


@main.command()
@_common
@click.option("-A", "--all-namespaces", is_flag=True, help="Sessions of all namespaces.")
@click.option("--once", is_flag=True, help="Print once and end; also when the output is no terminal.")
@click.option("--interval", default=2.0, show_default=True, type=click.FloatRange(0.5, 3600), help="Seconds.")
def top(all_namespaces: bool, once: bool, interval: float, **options: Any) -> None:
    """Show sessions and devices, live."""
    from efaas.cluster.tables import Table, devices_table, now_utc, sessions_table, text_of

    cluster = _target(options).cluster
    namespace = None if all_namespaces else cluster.namespace

    def tables() -> list[Table]:
        now = now_utc()
        sessions = cluster.items(sessions_path(namespace))
        return [
            sessions_table(sessions, with_namespace=all_namespaces, now=now),
            devices_table(cluster.items(DEVICES), now=now),
        ]

    if once or not sys.stdout.isatty():
        click.echo(
            "\n\n".join(text_of(table) if table.rows else f"{table.title}: none" for table in tables())
        )
        return
    from rich.live import Live

    with contextlib.suppress(KeyboardInterrupt), Live(screen=True, auto_refresh=False) as live:
        while True:
            live.update(_shown(tables()), refresh=True)
            time.sleep(interval)


def _shown(tables: list[Any]) -> Any:
    from rich.console import Group
    from rich.table import Table as RichTable

    drawn = []
    for table in tables:
        rich_table = RichTable(
            title=table.title, title_justify="left", box=None, pad_edge=False, header_style="bold"
        )
        for head in table.heads:
            left = head in table.left_aligned
            rich_table.add_column(head, justify="left" if left else "right", no_wrap=head != "WHY")
        for row in table.rows:
            rich_table.add_row(*row)
        drawn.append(rich_table)
    return Group(*drawn)


_SESSION = click.argument("session")


@main.command()
@_SESSION
@_common
def describe(session: str, **options: Any) -> None:
    """Tell everything about SESSION: where it is, why, what it cost, and what happened."""
    from efaas.cluster.describe import describe_session
    from efaas.cluster.tables import now_utc

    cluster = _target(options).cluster
    found = _find(cluster, session)
    events = cluster.items(
        f"/api/v1/namespaces/{cluster.namespace}/events",
        fieldSelector=f"involvedObject.kind=VQASession,involvedObject.name={session}",
    )
    click.echo(describe_session(found, events, now_utc()))


@main.command()
@click.argument("pod_or_session", metavar="POD|SESSION")
@_common
@click.option("--json", "as_json", is_flag=True, help="Print everything, as JSON.")
def why(pod_or_session: str, as_json: bool, **options: Any) -> None:
    """Explain where a session's POD may go and where not, with every term for every node."""
    from urllib.parse import urlencode
    from urllib.request import urlopen

    from efaas.cluster.explain import explained
    from efaas.cluster.forward import forwarded

    target = _target(options)
    cluster, pod = target.cluster, pod_or_session
    session = cluster.find(f"{sessions_path(cluster.namespace)}/{pod_or_session}")
    if session is not None:
        pod = ((session.get("status") or {}).get("runner") or {}).get("pod", "")
        if not pod:
            raise InputError("has no runner pod yet; kubectl efaas describe says why", place=pod_or_session)
    scheduler = _scheduler_pod(cluster, target.system_namespace)
    with forwarded(cluster, target.system_namespace, f"pod/{scheduler}", _EXTENDER_PORT) as address:
        query = urlencode({"pod": f"{cluster.namespace}/{pod}"})
        try:
            with urlopen(f"http://{address}/why?{query}", timeout=10) as response:
                answer = json.load(response)
        except OSError as error:
            body = error.read().decode(errors="replace").strip() if hasattr(error, "read") else str(error)
            raise EfaasError(body or "does not answer", place=scheduler) from None
    click.echo(json.dumps(answer, indent=1) if as_json else explained(answer), nl=as_json)


def _scheduler_pod(cluster: Cluster, namespace: str) -> str:
    pods = cluster.items(f"/api/v1/namespaces/{namespace}/pods", labelSelector=_SCHEDULER)
    ready = [
        pod["metadata"]["name"]
        for pod in pods
        if any(
            each["type"] == "Ready" and each["status"] == "True"
            for each in pod["status"].get("conditions", ())
        )
    ]
    if not ready:
        raise InputError(f"no scheduler pod ({_SCHEDULER}) is ready", place=namespace)
    # All of them watch the same things; the one that decides also knows what it expects to happen next.
    lease = cluster.find(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/efaas-scheduler")
    holder = str(((lease or {}).get("spec") or {}).get("holderIdentity", ""))
    chosen: str = next((name for name in ready if holder.startswith(name)), ready[0])
    return chosen


@main.command()
@_SESSION
@_common
@click.option("-f", "--follow", "following", is_flag=True, help="Go on until the session ends.")
def logs(session: str, following: bool, **options: Any) -> None:
    """Print what SESSION's runner says."""
    from efaas.cli.submit import EXIT_OF, followed
    from efaas.cluster.follow import last_runner
    from efaas.cluster.submit import Submitted

    cluster = _target(options).cluster
    found = _find(cluster, session)
    if following:
        sys.exit(EXIT_OF.get(followed(cluster, Submitted(cluster.namespace, session)), 1))
    named = ((found.get("status") or {}).get("runner") or {}).get("pod")
    pod = named or last_runner(cluster, cluster.namespace, session)
    if not pod:
        raise InputError("has no runner", place=session)
    try:
        for line in cluster.lines(f"/api/v1/namespaces/{cluster.namespace}/pods/{pod}/log"):
            click.echo(line)
    except ClusterError as error:
        raise InputError(f"its pod {pod} has no log: {error.message}", place=session) from None


@main.command()
@_SESSION
@_common
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write a PNG picture.")
def plot(session: str, output: Path | None, **options: Any) -> None:
    """Draw how SESSION converged, in the terminal or as a picture."""
    import shutil

    from efaas.cluster.gateway import open_gateway
    from efaas.cluster.plots import MOST_POINTS, draw_picture, draw_text, record_of

    target = _target(options)
    path = f"/sessions/{target.cluster.namespace}/{session}"
    with open_gateway(target.cluster, target.system_namespace, target.gateway) as gateway:
        record = record_of(gateway.get(path), gateway.get(f"{path}/trajectory", {"points": MOST_POINTS}))
    if not record.history:
        raise InputError("has no evaluation yet", place=session)
    if output is not None:
        draw_picture(record, output)
        click.echo(f"{output} written")
        return
    size = shutil.get_terminal_size((100, 30))
    color = sys.stdout.isatty()
    click.echo(draw_text(record, min(size.columns, 140), min(size.lines - 2, 32), color=color))


@main.command()
@click.argument("sessions", nargs=-1, metavar="SESSION...")
@_common
@click.option("--all", "everything", is_flag=True, help="All sessions of the namespace that have not ended.")
def cancel(sessions: tuple[str, ...], everything: bool, **options: Any) -> None:
    """Cancel SESSIONs: their runners end, their jobs leave the queues, their usage is kept."""
    from efaas.cluster.follow import FINAL

    if bool(sessions) == everything:
        raise click.UsageError("name sessions, or give --all")
    cluster = _target(options).cluster
    path = sessions_path(cluster.namespace)
    if everything:
        open_ones = [
            each for each in cluster.items(path) if (each.get("status") or {}).get("state") not in FINAL
        ]
        sessions = tuple(each["metadata"]["name"] for each in open_ones)
    for name in sessions:
        _find(cluster, name)
        cluster.call("DELETE", f"{path}/{name}")
        click.echo(f"vqasession {cluster.namespace}/{name} cancelled")


@main.command()
@_common
@click.option("-A", "--all-namespaces", is_flag=True, help="Sessions of all namespaces.")
@click.option(
    "--by", type=click.Choice(["namespace", "session", "device"]), default="namespace", show_default=True
)
@click.option("--history", is_flag=True, help="Ask the gateway, which also knows sessions that are gone.")
@click.option("--csv", "as_csv", is_flag=True, help="With --history: print CSV.")
def usage(all_namespaces: bool, by: str, history: bool, as_csv: bool, **options: Any) -> None:
    """Sum up what sessions used."""
    from efaas.cluster.tables import text_of, usage_table

    target = _target(options)
    namespace = None if all_namespaces else target.cluster.namespace
    if not history:
        sessions = target.cluster.items(sessions_path(namespace))
        click.echo(text_of(usage_table(sessions, by=by)))
        return
    from efaas.cluster.gateway import open_gateway

    query = {"by": {"namespace": "tenant"}.get(by, by), "format": "csv" if as_csv else "json"}
    if namespace is not None:
        query["tenant"] = namespace
    with open_gateway(target.cluster, target.system_namespace, target.gateway) as gateway:
        if as_csv:
            click.echo(gateway.read("/usage", query).decode(), nl=False)
            return
        items = gateway.get("/usage", query)["items"]
    for item in items:
        who = item.get("session") or item.get("device") or item.get("tenant") or "-"
        click.echo(
            f"{who:<40} {item['qpu_s']:>12.3f} QPU s {item['cpu_s']:>12.1f} CPU s {item['shots']:>14,} shots"
        )


@main.command()
@click.argument("device")
@_common
def calibrate(device: str, **options: Any) -> None:
    """Ask for a calibration of DEVICE; it begins when what runs has ended."""
    from efaas.cluster.tables import now_utc

    cluster = _target(options).cluster
    path = f"{DEVICES}/{device}"
    if cluster.find(path) is None:
        raise InputError("there is no such QPUDevice; kubectl get qpu lists them", place=device)
    moment = now_utc().strftime("%Y-%m-%dT%H:%M:%SZ")
    cluster.call(
        "PATCH",
        path,
        {"spec": {"calibration": {"requestedAt": moment}}},
        content_type="application/merge-patch+json",
    )
    click.echo(f"calibration of {device} asked for")


def _find(cluster: Cluster, session: str) -> dict[str, Any]:
    found = cluster.find(f"{sessions_path(cluster.namespace)}/{session}")
    if found is None:
        raise InputError(
            f"there is no such VQASession in namespace {cluster.namespace}; kubectl get vqa -A lists all",
            place=session,
        )
    return found


if __name__ == "__main__":
    main()
