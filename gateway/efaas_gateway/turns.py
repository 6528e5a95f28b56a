"""Who writes now: the appends that writers wait for, or the derivation behind them.

Both write to one database. SQLite lets one write at a time and has the other one sleep and try again, for up
to a tenth of a second; PostgreSQL lets both, and may find them waiting for each other's rows. So they take
turns, by the lock of a file that both have open: whoever waits goes on the moment the other is done, and a
process that dies gives its turn back.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType


class Turn:
    """One party's hold on the lock; used by one thread.

    Args:
        path: of the file; made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._descriptor)
