"""The command line ``efaas-operator``."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import click

from efaas.errors import EfaasError

_PATH = click.Path(path_type=Path, dir_okay=False)
_BAD_INPUT = 2
"""Exit code where another try with the same files can only fail again."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="efaas", prog_name="efaas-operator")
def main() -> None:
    """Carry sessions and devices of a cluster from their documents to pods, and back to their status."""


@main.command()
@click.option("--config", type=_PATH, required=True, help="Configuration file, YAML.")
@click.option("--kubeconfig", type=_PATH, help="How to reach the API server; as a pod if not given.")
@click.option("--address-file", type=_PATH, help="Written when probes are served: JSON with host and port.")
def serve(config: Path, kubeconfig: Path | None, address_file: Path | None) -> None:
    """Work, or stand by for whoever does, until SIGTERM."""
    from efaas.kubernetes.connection import connect
    from efaas.kubernetes.log import start_logging
    from efaas_operator.configuration import load_configuration
    from efaas_operator.process import serve as run

    try:
        configuration = load_configuration(config)
        connection = connect(kubeconfig)
    except EfaasError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(_BAD_INPUT)
    start_logging(configuration.log_level)
    for name in ("kopf.objects", "kopf.activities"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("kopf._core").setLevel(logging.ERROR)  # it warns that signals are not its own
    try:
        sys.exit(asyncio.run(run(configuration, connection, address_file)))
    except OSError as error:
        raise click.ClickException(f"cannot listen on {configuration.listen}: {error.strerror}") from None


if __name__ == "__main__":
    main()
