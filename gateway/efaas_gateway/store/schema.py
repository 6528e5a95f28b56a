"""Brings a database's schema to this program's, with Alembic.

The steps are in `migrations/versions`, numbered. They run inside one transaction each; PostgreSQL takes an
advisory lock first, so that several gateways that start at once migrate one after the other.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, text

from efaas.errors import InputError

_LOCK = 0x45466161  # "EFaa", an arbitrary number that only we use


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    if connection is not None:
        config.attributes["connection"] = connection
    return config


def newest() -> str:
    """The revision that this program works with."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def require_schema(engine: Engine, *, migrate: bool = True) -> None:
    """Migrate, or see that nothing is to be migrated.

    Raises:
        InputError: the schema is newer than this program, or older and `migrate` is false.
    """
    with engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
        if found == newest():
            return
        if not migrate:
            raise InputError(
                f"its schema is {found or 'empty'}, this program needs {newest()}; "
                "run `efaas-gateway migrate`",
                place="store",
            )
        connection.rollback()
        try:
            if engine.dialect.name == "postgresql":
                with connection.begin():
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
                    command.upgrade(_config(connection), "head")
            else:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                command.upgrade(_config(connection), "head")
                connection.commit()
        except CommandError as error:
            raise InputError(
                f"its schema {found} is not known here ({error}); use the newer gateway that wrote it",
                place="store",
            ) from None
