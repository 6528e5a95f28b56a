"""What every journal promises, wherever it keeps its records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol


class Journal(Protocol):
    """Records in the order in which they were appended, numbered from 0."""

    def append(self, record: Mapping[str, Any], *, durable: bool = True, sequence: int | None = None) -> int:
        """Add a record and return its sequence number.

        Args:
            record: JSON-ready values; floats come back exactly, NaN and infinities are refused.
            durable: return only when the record is on disk. Otherwise it is written, and is on disk after
                the next durable append or `flush`.
            sequence: the number that the record must get. The same number again with the same content is
                accepted and changes nothing; with other content, or out of order, it is refused.

        Raises:
            InputError: the record is not JSON, is too large, or does not agree with `sequence`.
            SessionEnded: a writer with a newer lease epoch owns the journal.
        """
        ...

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the records that are in the journal now, oldest first."""
        ...

    def flush(self) -> None:
        """Return when everything appended is on disk."""
        ...

    def replace(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Put these records in place of all others, all at once, and number them from 0 (compaction)."""
        ...

    def __len__(self) -> int: ...

    def close(self) -> None:
        """Flush and give the journal up; appending afterwards is an error."""
        ...
