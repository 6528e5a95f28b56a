"""What a writer has appended and the gateway has not acknowledged, kept on the writer's own disk.

The buffer is a small journal of operations in a folder. It is written to only while the gateway is slow or
away; when everything is acknowledged it is emptied. A writer that is started again on the same disk finds
what its forerunner could not deliver (`leftover`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efaas.errors import InputError
from efaas.journal.directory import DirectoryJournal, read_records


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing for the gateway to do: append a record, or replace all (``bodies``)."""

    generation: int
    sequence: int
    """Of the record; for a replacement the length after it."""
    body: bytes = b""
    bodies: tuple[bytes, ...] | None = None

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return len(self.body) + sum(map(len, self.bodies or ()))

    def as_record(self) -> dict[str, Any]:
        """JSON-ready."""
        record: dict[str, Any] = {"generation": self.generation, "sequence": self.sequence}
        if self.bodies is None:
            record["body"] = self.body.decode()
        else:
            record["bodies"] = [body.decode() for body in self.bodies]
        return record

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Operation:
        """What `as_record` made."""
        bodies = record.get("bodies")
        return cls(
            record["generation"],
            record["sequence"],
            record.get("body", "").encode(),
            None if bodies is None else tuple(body.encode() for body in bodies),
        )


class Buffer:
    """Operations on disk.

    Args:
        folder: of this writer alone; made when first needed.
        subject: whose journal it is; what another one has left is not touched.

    Attributes:
        leftover: operations that an earlier writer has left.
    """

    def __init__(self, folder: Path, subject: str) -> None:
        self._folder = folder
        self._subject = subject
        self._journal: DirectoryJournal | None = None
        self.written = 0
        """Operations that are on disk now."""
        self.leftover: list[Operation] = []
        for record in read_records(folder):
            if "subject" not in record:
                self.leftover.append(Operation.from_record(record))
            elif record["subject"] != subject:
                raise InputError(
                    f"holds what {record['subject']} could not deliver; give each journal its own folder",
                    place=str(folder),
                )

    def write(self, operations: Iterable[Operation]) -> None:
        """Put operations on disk; returns when they are there.

        Raises:
            OSError: the disk did not take them.
        """
        if self._journal is None:
            self._journal = DirectoryJournal(self._folder)
        if len(self._journal) == 0:
            self._journal.append({"subject": self._subject}, durable=False)
        for operation in operations:
            self._journal.append(operation.as_record(), durable=False)
            self.written += 1
        self._journal.flush()

    def empty(self) -> None:
        """Forget everything: it has been delivered."""
        if self._journal is None and not self.leftover:
            return
        if self._journal is None:
            self._journal = DirectoryJournal(self._folder)
        self._journal.replace(())
        self.written = 0
        self.leftover = []

    def close(self) -> None:
        """Give the folder back."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None
