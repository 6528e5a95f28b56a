"""Opens the database, keeps its schema up to date, and says in a sentence when it is gone.

``Store("runs/x/gateway.db")`` or a path makes or opens SQLite; a URL (``postgresql://user@host/name``) opens
PostgreSQL through psycopg.

**Durability** is the database's: a commit returns when its log is on disk (SQLite in WAL mode with
``synchronous=FULL``; PostgreSQL with ``synchronous_commit`` left on, which is asserted when it is opened).

**Faults** of the database (gone, full, locked for long) become `StoreUnavailable`: retryable, with the
database's own words. What was not committed has not happened.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from efaas.errors import EfaasError, InputError

_BUSY_S = 30.0
"""How long a writer waits for another one (a backup, a second command) before it gives up."""


class StoreUnavailable(EfaasError):
    """The database did not take or give what was asked; nothing was half done, and a retry can help."""

    code = "StoreUnavailable"
    retry = True


class Store:
    """The gateway's database.

    Args:
        location: a path or ``sqlite:///path`` for SQLite, ``postgresql://…`` for PostgreSQL.
        migrate: bring the schema up to date; otherwise one that is not is refused.
        durable: a commit is on disk when it returns. Without, SQLite may lose the last commits when the power
            fails, in order and as a whole; for what can be derived anew.

    Raises:
        InputError: the location is of another kind, or its schema is newer than this program.
        StoreUnavailable: the database cannot be reached.
    """

    def __init__(self, location: str | Path, *, migrate: bool = True, durable: bool = True) -> None:
        self.location = str(location)
        self.url = _url(self.location)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite and self.url.database:
            path = Path(self.url.database)
            if not path.parent.is_dir():
                raise InputError("its folder does not exist; make it first", place=str(path))
            if path.exists() and not path.is_file():
                raise InputError("is no file; name one for the database", place=str(path))
        self.engine = _engine(self.url, self.is_sqlite, durable)
        try:
            from efaas_gateway.store.schema import require_schema

            with _translated():
                require_schema(self.engine, migrate=migrate)
                if not self.is_sqlite:
                    self._must_be_durable()
        except BaseException:
            self.engine.dispose()
            raise

    def _must_be_durable(self) -> None:
        with self.engine.connect() as connection:
            setting = connection.execute(text("SHOW synchronous_commit")).scalar_one()
        if setting == "off":
            raise InputError(
                "synchronous_commit is off, so a commit may be lost; turn it on for this database",
                place=self.shown,
            )

    @property
    def shown(self) -> str:
        """The location without a password."""
        return self.url.render_as_string(hide_password=True)

    @property
    def path(self) -> Path | None:
        """The file of a SQLite database."""
        return Path(self.url.database) if self.is_sqlite and self.url.database else None

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write; committed at the end of the block, undone by an exception.

        Raises:
            StoreUnavailable: the database did not take it.
        """
        with _translated(), self.engine.connect() as connection:
            if self.is_sqlite:
                # Take the write lock now: a transaction that read first could not be upgraded.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that reads one consistent state.

        Raises:
            StoreUnavailable: the database did not give it.
        """
        with _translated(), self.engine.connect() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN")
            else:
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn the database's faults into `StoreUnavailable`; mistakes of ours stay what they are."""
    try:
        yield
    except DBAPIError as error:
        if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
            raise InputError("is no SQLite database; name another file", place="store") from None
        if isinstance(error, sqlalchemy.exc.OperationalError | sqlalchemy.exc.InternalError) or (
            error.connection_invalidated or isinstance(error, sqlalchemy.exc.InterfaceError)
        ):
            words = " ".join(str(error.orig).split()) or type(error.orig).__name__
            raise StoreUnavailable(f"the database answers: {words}", place="store") from error
        raise
    except SQLAlchemyError as error:
        if isinstance(error, sqlalchemy.exc.TimeoutError):
            raise StoreUnavailable(
                "all connections to the database are in use; try again", place="store"
            ) from error
        raise


def _url(location: str) -> sqlalchemy.URL:
    if "://" not in location:
        return sqlalchemy.URL.create("sqlite", database=str(Path(location).absolute()))
    try:
        url = sqlalchemy.make_url(location)
    except SQLAlchemyError:
        raise InputError("is no database URL", place="store") from None
    backend = url.get_backend_name()
    if backend == "sqlite":
        return url.set(drivername="sqlite")
    if backend == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    raise InputError(f"{backend} is not supported; use SQLite or PostgreSQL", place="store")


def _engine(url: sqlalchemy.URL, is_sqlite: bool, durable: bool) -> Engine:
    if not is_sqlite:
        return sqlalchemy.create_engine(
            url,
            pool_size=8,
            max_overflow=8,
            pool_timeout=10,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 5},
        )
    engine = sqlalchemy.create_engine(
        url,
        poolclass=QueuePool,
        pool_size=8,
        max_overflow=8,
        pool_timeout=10,
        connect_args={"timeout": _BUSY_S, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _: Any) -> None:
        # Transactions begin when we say so (`write`, `read`), not when the driver guesses.
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            f"synchronous={'FULL' if durable else 'NORMAL'}",
            "foreign_keys=ON",
            "cache_size=-65536",
            # The worker behind the appends does it sooner (`efaas_gateway.derivation`).
            "wal_autocheckpoint=16000",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return engine
