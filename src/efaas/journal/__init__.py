"""Append-only records on disk that survive a kill at any moment.

What was appended is on disk when `append` returns, and comes back from `records` in order and to the bit.
The runner keeps its iterations here, the QPU server its results and charges, a user's program the answers
to its submits.

`DirectoryJournal` keeps a journal in a folder; `Journal` is what callers may rely on, so that another
keeper of records (the gateway's store, a list in a test) can take its place. `open_journal` opens the one or
the other, as the environment says; `read_records` reads a folder without owning it.
"""

from efaas.journal.directory import DirectoryJournal, read_records
from efaas.journal.lines import JournalDamaged
from efaas.journal.opening import open_journal
from efaas.journal.protocol import Journal

__all__ = ["DirectoryJournal", "Journal", "JournalDamaged", "open_journal", "read_records"]
