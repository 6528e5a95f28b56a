"""Everything that the gateway remembers, in one database.

`Store` opens the database, brings its schema up to date and hands out connections. The modules beside it are
functions over a connection, so that one transaction can hold several of them:

- `journals`: open, fence, append, read, compact
- `derive`: what a journal record says about sessions, usage, calibrations
- `reports`: what is told beside the journals (states, devices, events)
- `queries`: what the API reads
- `retention`, `backup`: what is dropped, and what is kept elsewhere

SQLite is the embedded default: write-ahead log, ``synchronous=FULL``, one writer. PostgreSQL is taken by URL.
"""

from efaas_gateway.store.database import Store, StoreUnavailable
from efaas_gateway.store.journals import Append, Fenced, JournalHead, OutOfOrder

__all__ = ["Append", "Fenced", "JournalHead", "OutOfOrder", "Store", "StoreUnavailable"]
