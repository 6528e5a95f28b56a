"""A journal in a folder: ``journal.jsonl``, and lock files beside it.

**Durability.** `append` writes one line and returns after fdatasync; `replace` writes a new file, syncs it,
renames it over the old one and syncs the folder. A crash at any byte leaves a prefix of the records: on
opening, a torn or damaged last line is cut off (`cut_bytes` says how much). A damaged line before the last
is an error.

**One writer.** Two locks (flock, so the kernel frees them when a process dies, however it dies):

- ``writer-<epoch>.lock`` is held as long as a journal is open: nobody else opens it with the same lease
  epoch.
- ``lock`` is held for the length of one append. Under it a writer looks whether the file is still the one,
  with the very size, that it left. If not, a newer writer has opened it, and the older one is fenced: every
  later append raises `SessionEnded`. So a runner that was thought dead can wake up at any time and cannot
  write between the records of its successor.

Opening with a lease epoch above the file's writes that epoch into it, which is what fences the older writer;
opening with a lower one is refused.

All methods may be called from several threads.
"""

from __future__ import annotations

import fcntl
import os
import threading
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from efaas.errors import InputError, SessionEnded
from efaas.journal.lines import (
    MAX_RECORD_BYTES,
    JournalDamaged,
    epoch_line,
    holds_more_than_one,
    read_line,
    record_line,
)

FILE_NAME = "journal.jsonl"


class _Contents:
    """What a reading of the file found: where each record's line starts, the epoch, where sound lines end."""

    def __init__(self) -> None:
        self.starts = array("Q")
        self.epoch = 0
        self.end = 0


def _scan(path: Path, file: BinaryIO) -> _Contents:
    contents = _Contents()
    size = os.fstat(file.fileno()).st_size
    number = 0
    while line := file.readline(MAX_RECORD_BYTES + 1):
        number += 1
        read = read_line(line)
        if read is None or (read.sequence is not None and read.sequence != len(contents.starts)):
            if contents.end + len(line) < size or holds_more_than_one(line):
                raise JournalDamaged(
                    "the line is damaged and others follow it; restore the file from a copy, or cut it off "
                    "before this line to go on from there",
                    place=f"{path}:{number}",
                )
            break
        if read.sequence is not None:
            contents.starts.append(contents.end)
        elif read.epoch is not None:
            contents.epoch = max(contents.epoch, read.epoch)
        contents.end += len(line)
    return contents


def read_records(folder: str | Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a journal that somebody else may be writing; a torn last line is left out.

    Args:
        folder: the journal's folder; one without a journal has no records.

    Raises:
        JournalDamaged: a line before the last is not what was written.
    """
    path = Path(folder) / FILE_NAME
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        contents = _scan(path, file)
        file.seek(0)
        while file.tell() < contents.end:
            read = read_line(file.readline())
            if read is not None and read.sequence is not None:
                yield read.record


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class DirectoryJournal:
    """The journal in a folder, opened for writing; see the module's text.

    Args:
        folder: made if missing.
        lease_epoch: of the writer; not below the newest one that has opened the journal.

    Attributes:
        path: the file that holds the records.
        cut_bytes: length of the torn or damaged last line that was cut off on opening.

    Raises:
        SessionEnded: a newer lease epoch is known, or a living writer has this one.
        JournalDamaged: a line before the last is not what was written.
    """

    def __init__(self, folder: str | Path, lease_epoch: int = 0) -> None:
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self.path = self._folder / FILE_NAME
        self.lease_epoch = lease_epoch
        self._thread_lock = threading.RLock()
        self._fault: str | None = None
        self._unsynced = False
        self._file = -1
        self._mutex = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._ownership = -1
        try:
            with self._locked():
                self._open()
        except BaseException:
            self._give_up()
            raise

    def _open(self) -> None:
        (self._folder / f"{FILE_NAME}.new").unlink(missing_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with open(os.dup(self._file), "rb") as file:
            contents = _scan(self.path, file)
        if contents.epoch > self.lease_epoch:
            raise SessionEnded(
                f"a runner with lease epoch {contents.epoch} has taken over, this one has {self.lease_epoch}",
                place=str(self.path),
            )
        self._own()
        self._starts, self._end = contents.starts, contents.end
        self.cut_bytes = os.fstat(self._file).st_size - contents.end
        os.ftruncate(self._file, contents.end)
        if self.lease_epoch > contents.epoch:
            _write_all(self._file, line := epoch_line(self.lease_epoch))
            self._end += len(line)
        os.fdatasync(self._file)
        _sync_folder(self._folder)

    def _own(self) -> None:
        """Hold the lock of this lease epoch for as long as the journal is open."""
        name = f"writer-{self.lease_epoch}.lock"
        self._ownership = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._ownership, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SessionEnded(
                f"another writer with lease epoch {self.lease_epoch} has it open; end that one first",
                place=str(self.path),
            ) from None
        for other in self._folder.glob("writer-*.lock"):
            if other.name != name:
                other.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._thread_lock:
            if self._mutex < 0:
                raise InputError("the journal is closed", place=str(self.path))
            fcntl.flock(self._mutex, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._mutex, fcntl.LOCK_UN)

    def _must_be_ours(self) -> None:
        if self._fault is not None:
            raise SessionEnded(self._fault, place=str(self.path))
        try:
            now = os.stat(self.path)
            mine = os.fstat(self._file)
            untouched = (now.st_dev, now.st_ino, now.st_size) == (mine.st_dev, mine.st_ino, self._end)
        except FileNotFoundError:
            untouched = False
        if not untouched:
            self._fault = (
                f"another writer has taken the journal over; "
                f"this one, with lease epoch {self.lease_epoch}, is fenced"
            )
            raise SessionEnded(self._fault, place=str(self.path))

    def append(self, record: Mapping[str, Any], *, durable: bool = True, sequence: int | None = None) -> int:
        """Add a record and return its sequence number; see `Journal.append`.

        Raises:
            InputError: the record is not JSON, is too large, or does not agree with `sequence`.
            SessionEnded: the journal was taken over by another writer, or an earlier write failed.
            OSError: the disk did not take it; the journal is as it was before, or takes nothing more.
        """
        with self._locked():
            self._must_be_ours()
            if sequence is not None and sequence != len(self._starts):
                return self._again(record, sequence, durable)
            number = len(self._starts)
            line = record_line(number, record)
            try:
                _write_all(self._file, line)
            except OSError:
                self._take_back()
                raise
            self._starts.append(self._end)
            self._end += len(line)
            self._unsynced = True
            if durable:
                self._sync()
            return number

    def _again(self, record: Mapping[str, Any], sequence: int, durable: bool) -> int:
        if not 0 <= sequence < len(self._starts):
            raise InputError(
                f"record {sequence} is out of order; the next one is {len(self._starts)}",
                place=str(self.path),
            )
        if record_line(sequence, record) != self._line(sequence):
            raise InputError(f"record {sequence} is there already with other content", place=str(self.path))
        if durable:
            self._sync()
        return sequence

    def _take_back(self) -> None:
        """Cut off what a failed write left, so that a later append does not land behind half a line."""
        try:
            os.ftruncate(self._file, self._end)
        except OSError as error:
            self._fault = f"a write failed and could not be taken back ({error}); open the journal again"

    def _sync(self) -> None:
        if not self._unsynced:
            return
        try:
            os.fdatasync(self._file)
        except OSError as error:
            # After a failed sync the kernel may drop the pages and report success next time; only a new
            # reading of the file tells what is there.
            self._fault = f"the disk did not take a record ({error}); open the journal again"
            raise
        self._unsynced = False

    def _line(self, sequence: int) -> bytes:
        start = self._starts[sequence]
        # An epoch's line may stand between two records; it is cut off by the first line break.
        end = self._starts[sequence + 1] if sequence + 1 < len(self._starts) else self._end
        return os.pread(self._file, end - start, start).partition(b"\n")[0] + b"\n"

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the records that are in the journal now, oldest first.

        Records appended meanwhile are left out; after a `replace` the iteration raises RuntimeError.
        """
        starts = self._starts
        for sequence in range(len(starts)):
            with self._thread_lock:
                if self._starts is not starts:
                    raise RuntimeError("the records were replaced while they were read")
                read = read_line(self._line(sequence))
            if read is None or read.sequence != sequence:
                raise JournalDamaged(
                    "the line has changed since it was written", place=f"{self.path} record {sequence}"
                )
            yield read.record

    def __len__(self) -> int:
        return len(self._starts)

    def flush(self) -> None:
        """Return when everything appended is on disk."""
        with self._locked():
            self._must_be_ours()
            self._sync()

    def replace(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Put these records in place of all others at once and number them from 0.

        A crash leaves either the old records or the new ones. The records may come from `records` of this
        journal.
        """
        with self._locked():
            self._must_be_ours()
            new = self._folder / f"{FILE_NAME}.new"
            starts, end = array("Q"), 0
            file = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                line = epoch_line(self.lease_epoch)
                _write_all(file, line)
                end += len(line)
                for number, record in enumerate(records):
                    _write_all(file, line := record_line(number, record))
                    starts.append(end)
                    end += len(line)
                os.fsync(file)
                os.rename(new, self.path)
            except BaseException:
                os.close(file)
                new.unlink(missing_ok=True)
                raise
            os.close(self._file)
            self._file, self._starts, self._end, self._unsynced = file, starts, end, False
            _sync_folder(self._folder)

    def _give_up(self) -> None:
        for descriptor in (self._file, self._ownership, self._mutex):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._ownership = self._mutex = -1

    def close(self) -> None:
        """Flush and let another writer in; closing twice does nothing."""
        with self._thread_lock:
            if self._mutex < 0:
                return
            try:
                if self._fault is None:
                    self._sync()
            finally:
                self._give_up()

    def __enter__(self) -> DirectoryJournal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
