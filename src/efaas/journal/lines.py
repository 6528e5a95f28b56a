r"""The text of a journal: one checksummed line a record.

A line is ``{"seq":7,"record":{…}}\t0123456789abcdef\n``: JSON without spaces, a tab, the BLAKE2b digest (8
bytes, hex) of the JSON. A lease epoch is a line of its own, ``{"epoch":3}\t…\n``: it is in force from there
on.

Python writes a float as the shortest text that reads back to the same bits, so JSON keeps floats exactly;
NaN and infinities have no JSON and are refused. Records hold no line break (JSON escapes it), so a line
that was cut short by a crash can only be the last one, and a bad line before the last was damaged by
something else: that is an error for a person, never repaired silently.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from efaas.errors import InputError

MAX_RECORD_BYTES = 64 * 1024 * 1024
"""Longest line. A runner's record holds some hundred parameters; a kept result holds outcomes of every
shot."""


class JournalDamaged(InputError):
    """A line before the last one is not what was written; `place` names file and line."""

    code = "JournalDamaged"


@dataclass(frozen=True, slots=True)
class Line:
    """One line, read: either a numbered record or a lease epoch."""

    sequence: int | None
    record: dict[str, Any]
    epoch: int | None


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=8).hexdigest().encode()


def _line(value: dict[str, Any]) -> bytes:
    body = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    return b"%b\t%b\n" % (body, _checksum(body))


def record_line(sequence: int, record: Mapping[str, Any]) -> bytes:
    """Write a record as a line.

    Raises:
        InputError: the record has values that JSON cannot hold, or the line is longer than
            `MAX_RECORD_BYTES`.
    """
    try:
        line = _line({"seq": sequence, "record": dict(record)})
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"the record cannot be written as JSON: {error}", place=f"record {sequence}"
        ) from None
    if len(line) > MAX_RECORD_BYTES:
        raise InputError(
            f"the record takes {len(line)} bytes, more than the {MAX_RECORD_BYTES} that a line may have",
            place=f"record {sequence}",
        )
    return line


def epoch_line(epoch: int) -> bytes:
    """Write a lease epoch as a line."""
    return _line({"epoch": epoch})


def holds_more_than_one(line: bytes) -> bool:
    """Whether something follows a line's checksum: a lost line break, which a crash cannot do.

    A line that a crash cut short ends at the latest with its checksum, and its JSON holds no tab.
    """
    return len(line.partition(b"\t")[2]) > len(_checksum(b"")) + 1


def read_line(line: bytes) -> Line | None:
    """Read a line with its line break; None if it is torn or damaged."""
    body, tab, checksum = line.rpartition(b"\t")
    if not tab or checksum != _checksum(body) + b"\n":
        return None
    try:
        value = json.loads(body)
        if "epoch" in value:
            return Line(None, {}, int(value["epoch"]))
        return Line(int(value["seq"]), dict(value["record"]), None)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
