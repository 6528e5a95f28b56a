"""Tables in the forms that other programs read: CSV and Parquet.

Parquet is written piece by piece as it is read, so that a long trajectory never stands in memory as a whole.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

CSV = "text/csv; charset=utf-8"
PARQUET = "application/vnd.apache.parquet"


def as_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Rows as CSV (RFC 4180); what a spreadsheet would take for a formula gets an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(column)) for column in columns])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return "" if value is None else value


def as_parquet(pieces: Iterable[Sequence[Mapping[str, Any]]], columns: Mapping[str, str]) -> Iterator[bytes]:
    """Pieces of rows as one Parquet file, yielded as it grows.

    Args:
        pieces: rows, some thousand at a time.
        columns: name and type (``int64``, ``double``, ``string``) of each column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"int64": pa.int64(), "double": pa.float64(), "string": pa.string()}
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    sink = _Drain()
    writer = pq.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, compression="zstd")
    try:
        for rows in pieces:
            arrays = {name: [row[name] for row in rows] for name in columns}
            writer.write_table(pa.table(arrays, schema=schema))
            yield sink.take()
    finally:
        writer.close()
    yield sink.take()


class _Drain(io.RawIOBase):
    """A file that only grows and whose new bytes can be taken away."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._length = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        chunk = bytes(data)
        self._chunks.append(chunk)
        self._length += len(chunk)
        return len(chunk)

    def tell(self) -> int:
        return self._length

    def take(self) -> bytes:
        taken = b"".join(self._chunks)
        self._chunks.clear()
        return taken
