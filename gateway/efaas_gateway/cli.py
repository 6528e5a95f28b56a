"""The command line of the gateway: ``serve``, ``migrate``, ``backup``, ``restore``, ``prune``, ``journal``.

Errors are one sentence on stderr; exit code 2 for bad input, 1 for everything else.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click

from efaas.errors import EfaasError, InputError


class _Group(click.Group):
    """A group in which every error raised on purpose ends as a sentence and an exit code."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except EfaasError as error:
            click.echo(f"error: {error}", err=True)
            context.exit(2 if isinstance(error, InputError) else 1)


_DAYS = click.FloatRange(min=0, max=100_000)
_BYTES = click.IntRange(min=0)

_STORE = click.option(
    "--store",
    required=True,
    envvar="EFAAS_STORE",
    metavar="WHERE",
    help="SQLite file, or postgresql://user@host/name.",
)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Keep journals, results and usage of EFaaS, and show them."""


@main.command()
@_STORE
@click.option("--listen", default="127.0.0.1:8080", show_default=True, help="Address of API and page.")
@click.option(
    "--stream-listen", default="127.0.0.1:8081", show_default=True, help="Address of the writers' stream."
)
@click.option("--token-file", type=click.Path(path_type=Path), help="File with the secret that admits.")
@click.option(
    "--kubernetes",
    metavar="URL",
    help="Let this API server decide who may do what; `in-cluster` finds it.",
)
@click.option(
    "--system-account",
    "system_accounts",
    multiple=True,
    metavar="NAMESPACE:NAME",
    help="Service account that may write devices' journals and reports.",
)
@click.option("--kubernetes-token-file", type=click.Path(path_type=Path), help="The gateway's own token.")
@click.option("--kubernetes-ca-file", type=click.Path(path_type=Path), help="The API server's CA.")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate chain of both addresses, PEM.")
@click.option(
    "--tls-key", type=click.Path(path_type=Path), help="Its key; both are read anew when they change."
)
@click.option(
    "--half-life",
    "half_life_s",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    help="Seconds.",
)
@click.option("--keep-days", type=_DAYS, help="Delete what ended longer ago, once an hour.")
@click.option("--keep-bytes", type=_BYTES, help="Journal bytes kept for each tenant; the oldest go first.")
@click.option("--follow", type=click.Path(path_type=Path), help="Run folder of `efaas run` to read along.")
@click.option(
    "--with-parent",
    is_flag=True,
    help="Take reports as JSON lines on stdin, tell of cancels on stdout, end when stdin closes.",
)
def serve(**options: Any) -> None:
    """Serve writers and readers until told to end."""
    from efaas_gateway.process import Options, run

    sys.exit(asyncio.run(run(Options(**options))))


@main.command()
@_STORE
def migrate(store: str) -> None:
    """Bring a database's schema up to date."""
    from efaas_gateway.store import Store
    from efaas_gateway.store.schema import newest

    Store(store).close()
    click.echo(f"schema {newest()}")


@main.command()
@_STORE
@click.argument("file", type=click.Path(path_type=Path))
def backup(store: str, file: Path) -> None:
    """Write everything into FILE, as it is at one moment; the gateway may go on serving."""
    from efaas_gateway.store import Store
    from efaas_gateway.store.backup import write_backup

    opened = Store(store, migrate=False)
    click.echo(f"{write_backup(opened, file)} rows in {file}")
    opened.close()


@main.command()
@_STORE
@click.argument("file", type=click.Path(path_type=Path))
def restore(store: str, file: Path) -> None:
    """Fill an empty database from a backup; SQLite and PostgreSQL take each other's."""
    from efaas_gateway.store import Store
    from efaas_gateway.store.backup import read_backup

    opened = Store(store)
    click.echo(f"{read_backup(opened, file)} rows from {file}")
    opened.close()


@main.command()
@_STORE
@click.option("--days", type=_DAYS, help="Delete sessions that ended longer ago, and old events and states.")
@click.option(
    "--tenant-bytes", type=_BYTES, help="Journal bytes kept for each tenant; oldest ended go first."
)
@click.option(
    "--compact-after", type=_DAYS, metavar="DAYS", help="Drop journals of sessions ended this long."
)
def prune(store: str, days: float | None, tenant_bytes: int | None, compact_after: float | None) -> None:
    """Delete what is old or too much; usage, results and running sessions stay."""
    from efaas_gateway.store import Store
    from efaas_gateway.store.retention import Retention, prune_store

    opened = Store(store, migrate=False)
    rules = Retention(days=days, tenant_bytes=tenant_bytes, compact_after_days=compact_after)
    click.echo(prune_store(opened, rules).as_sentence())
    opened.close()


@main.command()
@_STORE
@click.argument("session", metavar="NAMESPACE/NAME")
@click.argument("folder", type=click.Path(path_type=Path))
def journal(store: str, session: str, folder: Path) -> None:
    """Write a session's journal into FOLDER, as `efaas run --resume` reads it."""
    from efaas_gateway.store import Store
    from efaas_gateway.store.backup import export_journal

    opened = Store(store, migrate=False)
    click.echo(f"{export_journal(opened, session, folder)} records in {folder}")
    opened.close()
