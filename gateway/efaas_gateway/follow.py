"""Follows a run folder of `efaas run`: what runners journal there is taken into the store as it comes.

Runners on one machine keep their journals in folders, which needs no other process to be alive. The gateway
reads along and never writes there. A record is taken once: the store knows how far it has come.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from efaas.errors import EfaasError
from efaas.journal.lines import read_line
from efaas_gateway.commit import Committer
from efaas_gateway.store import Append, JournalHead
from efaas_gateway.store.journals import open_journal

logger = logging.getLogger(__name__)

_EVERY_S = 0.25
_BATCH = 500
_READ_BYTES = 8 * 1024 * 1024


@dataclass(slots=True)
class _Tail:
    """One runner's journal, read up to a place."""

    key: str
    path: Path
    head: JournalHead | None = None
    length: int = 0
    inode: int = 0
    offset: int = 0
    rest: bytes = field(default=b"", repr=False)

    def read(self) -> list[tuple[int, bytes]]:
        """New records since the last call; a torn last line is left for the next one."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return []
        with file:
            status = os.fstat(file.fileno())
            if status.st_ino != self.inode or status.st_size < self.offset:
                self.inode, self.offset, self.rest = status.st_ino, 0, b""
            file.seek(self.offset)
            data = file.read(_READ_BYTES)
        self.offset += len(data)
        lines = (self.rest + data).split(b"\n")
        self.rest = lines.pop()
        read = [read_line(line + b"\n") for line in lines]
        return [
            (line.sequence, json.dumps(line.record, separators=(",", ":")).encode())
            for line in read
            if line is not None and line.sequence is not None
        ]


class RunFollower:
    """Takes the journals of a run folder into the store.

    Args:
        folder: of the run.
        committer: writes.
    """

    def __init__(self, folder: Path, committer: Committer) -> None:
        self._folder = folder
        self._committer = committer
        self._writer = secrets.token_hex(12)
        self._tails: dict[Path, _Tail] = {}

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                await self.look()
            except EfaasError as error:
                logger.warning("%s", error)
            await asyncio.sleep(_EVERY_S)

    async def look(self) -> None:
        """Take what is new, once."""
        await asyncio.to_thread(self._find)
        for tail in self._tails.values():
            await self._take(tail)

    def _find(self) -> None:
        for path in (self._folder / "sessions").glob("*/session.yaml"):
            if path not in self._tails and (key := _key(path)):
                self._tails[path] = _Tail(key, path.parent / "journal" / "journal.jsonl")

    async def _take(self, tail: _Tail) -> None:
        if tail.head is None:
            tail.head = await self._committer.transact(
                lambda connection: open_journal(
                    connection,
                    "session",
                    tail.key,
                    tenant=tail.key.partition("/")[0],
                    lease_epoch=None,
                    writer=self._writer,
                    now=time.time(),
                )
            )
            tail.length = tail.head.length
        head = tail.head
        while records := await asyncio.to_thread(tail.read):
            fresh = [item for item in records if item[0] >= tail.length]
            for start in range(0, len(fresh), _BATCH):
                appends = [
                    Append(head.id, head.lease_epoch, head.writer, sequence, body)
                    for sequence, body in fresh[start : start + _BATCH]
                ]
                try:
                    fault = await self._committer.append(appends)
                except EfaasError:
                    tail.inode = 0  # read it again from the start; what is in already is passed over
                    raise
                if fault is not None:
                    raise fault
                tail.length = appends[-1].sequence + 1


def _key(path: Path) -> str:
    try:
        document: Any = yaml.safe_load(path.read_text())
        metadata = document["metadata"]
        return f"{metadata.get('namespace', 'default')}/{metadata['name']}"
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return ""
