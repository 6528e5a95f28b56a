"""Backup and restore by one command each, and a session's journal as a folder.

A backup is a gzipped text: a header, then one JSON line a row, table by table, read in one consistent state,
and a last line with the number of rows. It does not depend on the database: what SQLite wrote, PostgreSQL
takes, and the other way round. It is written beside its name and renamed when it is complete and on disk; a
restore reads it to its end before anything is committed.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, LargeBinary, Table, func, insert, select, text

from efaas.errors import InputError
from efaas.journal import DirectoryJournal, read_records
from efaas_gateway.store.database import Store
from efaas_gateway.store.journals import read_journal
from efaas_gateway.store.schema import newest
from efaas_gateway.store.tables import journals, metadata, sessions

_FORMAT = 1
_CHUNK = 500
_LINE_LIMIT = 64 * 1024 * 1024


def write_backup(store: Store, file: Path) -> int:
    """Write everything, as it is at one moment; returns the number of rows.

    Raises:
        InputError: the file is there already, or its folder is not.
        StoreUnavailable: the database is away.
    """
    if file.exists():
        raise InputError("is there already; choose another name", place=str(file))
    if not file.parent.is_dir():
        raise InputError("its folder does not exist", place=str(file))
    beside = file.with_name(f".{file.name}.new")
    rows = 0
    try:
        with beside.open("wb") as raw:
            with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=3) as packed, store.read() as connection:
                packed.write(_line({"efaas-gateway": _FORMAT, "schema": newest()}))
                for table in metadata.sorted_tables:
                    packed.write(_line({"table": table.name}))
                    for row in connection.execution_options(yield_per=_CHUNK).execute(select(table)):
                        packed.write(_line([_out(value) for value in row]))
                        rows += 1
                packed.write(_line({"rows": rows}))
            raw.flush()
            os.fsync(raw.fileno())
        beside.rename(file)
    finally:
        beside.unlink(missing_ok=True)
    return rows


def read_backup(store: Store, file: Path) -> int:
    """Fill an empty database; returns the number of rows.

    Raises:
        InputError: the database is not empty, or the file is not a whole backup.
        StoreUnavailable: the database is away.
    """
    tables = {table.name: table for table in metadata.sorted_tables}
    rows = 0
    try:
        with gzip.open(file, "rb") as packed, store.write() as connection:
            if connection.execute(select(func.count()).select_from(journals)).scalar_one():
                raise InputError("the database is not empty; restore into a new one", place=store.shown)
            header = json.loads(packed.readline(_LINE_LIMIT))
            if not isinstance(header, dict) or header.get("efaas-gateway") != _FORMAT:
                raise InputError("is not a backup of this gateway's", place=str(file))
            if header.get("schema") != newest():
                raise InputError(
                    f"has schema {header.get('schema')}, this gateway has {newest()}; "
                    "use the version that wrote it",
                    place=str(file),
                )
            for table, chunk in _chunks(packed, tables, str(file)):
                if table is None:
                    if chunk[0] != rows:
                        raise InputError(f"says {chunk[0]} rows and holds {rows}", place=str(file))
                    break
                connection.execute(insert(table), [_in(table, row) for row in chunk])
                rows += len(chunk)
            else:
                raise InputError("ends too early: it is not whole", place=str(file))
            _set_serials(connection)
    except (EOFError, gzip.BadGzipFile, json.JSONDecodeError, OSError) as error:
        raise InputError(f"cannot be read as a backup: {error}", place=str(file)) from None
    return rows


def _chunks(packed: Any, tables: dict[str, Table], place: str) -> Iterator[tuple[Table | None, list[Any]]]:
    """(table, rows) again and again; at the end (None, [number of rows])."""
    table: Table | None = None
    chunk: list[Any] = []
    while line := packed.readline(_LINE_LIMIT):
        value = json.loads(line)
        if isinstance(value, list) and table is not None:
            chunk.append(value)
            if len(chunk) < _CHUNK:
                continue
        if chunk and table is not None:
            yield table, chunk
            chunk = []
        if isinstance(value, dict) and "rows" in value:
            yield None, [value["rows"]]
        elif isinstance(value, dict):
            if value.get("table") not in tables:
                raise InputError(f"holds a table {value.get('table')!r} that is not known", place=place)
            table = tables[value["table"]]


def _set_serials(connection: Connection) -> None:
    """Let PostgreSQL number new rows after those that came in with their numbers."""
    if connection.dialect.name != "postgresql":
        return
    for table in metadata.sorted_tables:
        if "id" in table.columns:
            connection.execute(
                text(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), "
                    f'(SELECT COALESCE(MAX(id), 0) + 1 FROM "{table.name}"), false)'
                )
            )


def export_journal(store: Store, key: str, folder: Path) -> int:
    """Write a session's journal into a folder, where a runner goes on from it; returns the number of records.

    Raises:
        InputError: there is no such session, its journal was compacted, or the folder holds one.
    """
    namespace, _, name = key.partition("/")
    with store.read() as connection:
        row = connection.execute(
            select(journals.c.id, journals.c.first, journals.c.lease_epoch)
            .join(sessions, journals.c.session == sessions.c.id)
            .where(sessions.c.namespace == namespace, sessions.c.name == name)
        ).first()
        if row is None:
            raise InputError("there is no such session", place=key)
        if row.first:
            raise InputError("its journal was compacted; only result and trajectory are kept", place=key)
        if any(read_records(folder)):
            raise InputError("holds a journal already", place=str(folder))
        with DirectoryJournal(folder, lease_epoch=row.lease_epoch) as target:
            count = 0
            for _, body in read_journal(connection, row.id):
                target.append(json.loads(body), durable=False)
                count += 1
            target.flush()
    return count


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _out(value: Any) -> Any:
    return {"b": base64.b64encode(value).decode()} if isinstance(value, bytes | memoryview) else value


def _in(table: Table, row: list[Any]) -> dict[str, Any]:
    return {
        column.name: base64.b64decode(value["b"])
        if isinstance(column.type, LargeBinary) and isinstance(value, dict)
        else value
        for column, value in zip(table.columns, row, strict=True)
    }
