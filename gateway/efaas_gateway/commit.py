"""One thread that writes: everything waiting goes into one transaction, and one sync of the disk.

A commit costs a sync, whether it holds one record or a thousand. While one commit is under way the next batch
gathers by itself, so a lone runner waits for one sync and five hundred runners share it (group commit); there
is no timer to tune.

Callers are coroutines. They hand over records (`append`) or a function over a connection (`transact`) and are
answered when the transaction that holds it is on disk. A database that is away fails the whole batch with
`StoreUnavailable`: nothing of it is in, and the writers say it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection

from efaas.errors import EfaasError
from efaas_gateway.store import Append, Store, StoreUnavailable
from efaas_gateway.store.derive import Derived
from efaas_gateway.store.journals import append_all
from efaas_gateway.turns import Turn

logger = logging.getLogger(__name__)

T = TypeVar("T")

_BATCH_RECORDS = 4000
_CROWD = 16
_GATHER_S = 0.005
_BATCH_BYTES = 32 * 1024 * 1024


@dataclass(slots=True)
class _Work:
    """What one caller wants in the next transaction."""

    future: asyncio.Future[Any]
    appends: Sequence[Append] = ()
    function: Callable[[Connection], Any] | None = None
    answer: Any = None
    fault: BaseException | None = None


class Committer:
    """Writes for all streams; made and used in one event loop.

    Args:
        store: the database.
        committed: hears in the event loop what functions changed, and which journals have new records.
        turn: taken for each transaction; None: nobody else writes.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        committed: Callable[[Derived, Sequence[int]], None],
        *,
        turn: Turn | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._committed = committed
        self._turn: contextlib.AbstractContextManager[None] = turn or contextlib.nullcontext()
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._wake = threading.Condition()
        self._waiting: deque[_Work] = deque()
        self._ending = False
        self.batches = 0
        self.records = 0
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)
        self._thread.start()

    def hand_in(self, appends: Sequence[Append]) -> asyncio.Future[EfaasError | None]:
        """As `append`, without waiting; records of one journal are taken in the order of the calls."""
        return self._hand_over(appends=appends)

    async def append(self, appends: Sequence[Append]) -> EfaasError | None:
        """Append records of one journal; returns when they are on disk.

        Returns:
            Why the first of them that was refused was refused, or None. Those before it are in.

        Raises:
            StoreUnavailable: the database did not take the batch; nothing of it is in.
        """
        return await self.hand_in(appends)

    async def transact(self, function: Callable[[Connection], T]) -> T:
        """Run a function inside a writing transaction; returns its answer when it is on disk.

        Raises:
            StoreUnavailable: as for `append`.
            EfaasError: what the function raised; it alone is undone.
        """
        answer: T = await self._hand_over(function=function)
        return answer

    def _hand_over(self, **what: Any) -> asyncio.Future[Any]:
        work = _Work(self._loop.create_future(), **what)
        with self._wake:
            if self._ending:
                raise StoreUnavailable("the gateway is ending; connect again", place="gateway")
            self._waiting.append(work)
            self._wake.notify()
        return work.future

    async def close(self) -> None:
        """Write what is waiting, then end."""
        with self._wake:
            self._ending = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join)

    # --- the thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        while batch := self._next_batch():
            derived, grown = Derived(), list[int]()
            try:
                derived, grown = self._commit(batch)
            except StoreUnavailable as error:
                logger.warning("%s", error)
                for work in batch:
                    work.fault = error
            except Exception as error:
                logger.exception("a batch of %d failed", len(batch))
                for work in batch:
                    work.fault = error
            self._loop.call_soon_threadsafe(self._settle, batch, derived, grown)
            if len(batch) > _CROWD:
                # Many write: a moment's wait makes fewer and larger commits, and nobody notices.
                time.sleep(_GATHER_S)

    def _next_batch(self) -> list[_Work]:
        with self._wake:
            while not self._waiting and not self._ending:
                self._wake.wait()
            batch: list[_Work] = []
            count = size = 0
            while self._waiting and count < _BATCH_RECORDS and size < _BATCH_BYTES:
                work = self._waiting.popleft()
                batch.append(work)
                count += max(1, len(work.appends))
                size += sum(len(append.body) for append in work.appends)
            return batch

    def _commit(self, batch: list[_Work]) -> tuple[Derived, list[int]]:
        now = self._clock()
        derived, grown = Derived(), list[int]()
        with self._turn, self._store.write() as connection:
            # Functions (open, replace, report) keep their place among the records of their journal: a stream
            # has never both under way.
            for work in batch:
                if work.function is not None:
                    self._call(connection, work, derived)
            owners = [work for work in batch if work.appends]
            flat = [append for work in owners for append in work.appends]
            if flat:
                appended = append_all(connection, flat, now)
                grown = appended.grown
                position = iter(appended.outcomes)
                for work in owners:
                    own = [next(position) for _ in work.appends]
                    work.answer = next((fault for fault in own if fault is not None), None)
                self.records += appended.records
        self.batches += 1
        return derived, grown

    @staticmethod
    def _call(connection: Connection, work: _Work, derived: Derived) -> None:
        assert work.function is not None
        try:
            with connection.begin_nested():
                work.answer = work.function(connection)
        except EfaasError as error:
            work.fault = error
            return
        if isinstance(work.answer, Derived):
            derived.charges += work.answer.charges
            derived.updates += work.answer.updates

    def _settle(self, batch: list[_Work], derived: Derived, grown: list[int]) -> None:
        if derived.charges or derived.updates or grown:
            self._committed(derived, grown)
        for work in batch:
            if work.future.done():
                continue
            if work.fault is not None:
                work.future.set_exception(work.fault)
            else:
                work.future.set_result(work.answer)
