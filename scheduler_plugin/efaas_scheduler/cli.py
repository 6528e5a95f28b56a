"""The command line ``efaas-scheduler``."""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import click
import yaml

from efaas.cluster.explain import explained
from efaas.errors import EfaasError

_PATH = click.Path(path_type=Path, dir_okay=False)
_BAD_INPUT = 2
"""Exit code where another try with the same files can only fail again."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="efaas", prog_name="efaas-scheduler")
def main() -> None:
    """Tell kube-scheduler which QPU a session's pod should go to."""


@main.command()
@click.option("--config", type=_PATH, help="Configuration file, YAML; the defaults without one.")
@click.option("--kubeconfig", type=_PATH, help="How to reach the API server; as a pod if not given.")
@click.option("--address-file", type=_PATH, help="Written when the server listens: JSON with host and port.")
def serve(config: Path | None, kubeconfig: Path | None, address_file: Path | None) -> None:
    """Answer kube-scheduler until SIGTERM."""
    from efaas_scheduler.configuration import load_configuration
    from efaas_scheduler.connection import connect
    from efaas_scheduler.log import start_logging
    from efaas_scheduler.serve import Extender

    try:
        configuration = load_configuration(config)
        connection = connect(kubeconfig)
    except EfaasError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(_BAD_INPUT)
    start_logging(configuration.log_level)
    try:
        asyncio.run(Extender(configuration, connection).run(address_file))
    except OSError as error:
        raise click.ClickException(f"cannot listen on {configuration.listen}: {error.strerror}") from None


@main.command()
@click.option("--url", default="http://127.0.0.1:8888", show_default=True, help="Where the extender is.")
@click.option("--ca-file", help="CA of its certificate, for an https URL.")
@click.option("--lease-namespace", help="Elect a leader by a Lease in this namespace.")
def profile(url: str, ca_file: str | None, lease_namespace: str | None) -> None:
    """Print the KubeSchedulerConfiguration that goes with the extender."""
    from efaas_scheduler.profile import scheduler_configuration

    try:
        document = scheduler_configuration(url, ca_file=ca_file, lease_namespace=lease_namespace)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    click.echo(yaml.safe_dump(document, sort_keys=False), nl=False)


@main.command()
@click.argument("pod")
@click.option("-n", "--namespace", default="default", show_default=True, help="Namespace of the pod.")
@click.option("--url", default="http://127.0.0.1:8888", show_default=True, help="Where the extender is.")
@click.option("--json", "as_json", is_flag=True, help="Print everything, as JSON.")
def why(pod: str, namespace: str, url: str, as_json: bool) -> None:
    """Explain where POD may go and where not, and what each device would cost it."""
    key = pod if "/" in pod else f"{namespace}/{pod}"
    target = f"{url.rstrip('/')}/why?{urllib.parse.urlencode({'pod': key})}"
    if not target.startswith(("http://", "https://")):
        raise click.ClickException(f"{url!r} is not an http or https URL")
    try:
        with urllib.request.urlopen(target, timeout=10) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        raise click.ClickException(error.read().decode(errors="replace").strip()) from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise click.ClickException(f"the extender at {url} does not answer: {reason}; give --url") from None
    click.echo(json.dumps(answer, indent=1) if as_json else explained(answer), nl=as_json)


if __name__ == "__main__":
    sys.exit(main())
