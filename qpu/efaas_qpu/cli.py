"""The command line ``efaas-qpu``."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="efaas", prog_name="efaas-qpu")
def main() -> None:
    """Serve a simulated quantum processor."""


@main.command()
@click.option(
    "--device",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Manifest with one QPUDevice, and its ConfigMap if it has one.",
)
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for what survives a restart: results, charges, calibrations, the device clock.",
)
@click.option("--listen", default="127.0.0.1:0", show_default=True, help="HOST:PORT of the streams.")
@click.option(
    "--address-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Written when the server listens: JSON with device, endpoint, metrics, pid.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of mode 0600 with the token that sessions must show.",
)
@click.option(
    "--kubernetes",
    metavar="in-cluster|URL",
    help="Have Kubernetes' API server review the tokens that sessions show, instead of --token-file.",
)
@click.option(
    "--audience", default="efaas-qpu", show_default=True, help="Audience of tokens, with --kubernetes."
)
@click.option(
    "--kubernetes-token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The server's own token for Kubernetes; the pod's if not given.",
)
@click.option(
    "--kubernetes-ca-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Certificates that the API server's own is signed by; the pod's if not given.",
)
@click.option(
    "--keeper-account",
    default="",
    metavar="NAMESPACE:NAME",
    help="Service account that may calibrate, cordon and shut sessions out, with --kubernetes.",
)
@click.option(
    "--tls-cert",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Certificate chain of the server, PEM; streams are TLS then. Read anew when it is renewed.",
)
@click.option(
    "--tls-key", type=click.Path(path_type=Path, dir_okay=False), help="Private key of --tls-cert, PEM."
)
@click.option(
    "--health-listen", help="HOST:PORT of the health service alone, without TLS: kubelets' probes have none."
)
@click.option("--metrics-listen", help="HOST:PORT for Prometheus; none if not given.")
@click.option("--with-parent", is_flag=True, help="End when the process that started the server does.")
def serve(
    device: Path,
    data: Path,
    listen: str,
    address_file: Path | None,
    token_file: Path | None,
    kubernetes: str | None,
    audience: str,
    kubernetes_token_file: Path | None,
    kubernetes_ca_file: Path | None,
    keeper_account: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    health_listen: str | None,
    metrics_listen: str | None,
    with_parent: bool,
) -> None:
    """Serve one device until SIGTERM; then finish what runs, keep the rest, and end."""
    from efaas_qpu.serve import Options, run

    sys.exit(
        run(
            Options(
                device,
                data,
                listen,
                address_file,
                token_file,
                metrics_listen,
                with_parent,
                kubernetes,
                audience,
                kubernetes_token_file,
                kubernetes_ca_file,
                keeper_account,
                tls_cert,
                tls_key,
                health_listen,
            )
        )
    )


@main.command(
    "best-energy",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def best_energy(arguments: tuple[str, ...]) -> None:
    """Best energy that an ansatz can have under a device's noise."""
    from efaas_qpu.engine.reference import main as print_best_energy

    sys.exit(print_best_energy(list(arguments)))
