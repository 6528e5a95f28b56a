"""The worker behind the appends: derives what came, a batch at a time, and tells what changed.

It runs in a process of its own (`efaas-gateway serve`), so that working out a batch takes no time from those
who wait for their records, or in a thread (small gateways, tests). Both speak over a pipe. The worker may be
killed at any time: its cursors are in the database, the gateway starts another one, and sums the accounts
anew, because a batch may have been written whose charges were not told.

It also brings SQLite's write-ahead log back into the database file, which would otherwise fall to an append.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

from efaas_gateway.store import Store, StoreUnavailable
from efaas_gateway.store.derive import Derived
from efaas_gateway.store.pending import BATCH_RECORDS, read_pending, work_out, write_pending
from efaas_gateway.turns import Turn

logger = logging.getLogger(__name__)

_PACE_S = 0.05
"""Wall seconds between two batches: records of one journal that come meanwhile share the work of one."""

_CROWDED_PACE_S = 0.3
"""The same while very many records come: each batch costs something for each of its journals."""

_CROWD_RECORDS = 200
_AGAIN_S = 0.5
_CHECKPOINT_BYTES = 16 * 1024 * 1024


class Deriver:
    """Derives batches of one store.

    Args:
        store: opened for this alone.
        turn: taken for each writing transaction.
        charge_devices: see `efaas_gateway.store.derive`.
        clock: seconds since 1970.
    """

    def __init__(
        self, store: Store, turn: Turn, *, charge_devices: bool, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._turn = turn
        self._charge_devices = charge_devices
        self._clock = clock

    def step(self, journals: set[int] | None, *, live: bool) -> tuple[Derived, set[int], int]:
        """Derive one batch.

        Args:
            journals: those that may have new records; None: all.
            live: whether anybody hears of changes.

        Returns:
            What changed, journals that have more, and how many records there were.

        Raises:
            StoreUnavailable: the database is away; nothing was done.
        """
        with self._store.read() as connection:
            batch = read_pending(connection, journals, self._clock())
        if not batch.cursors:
            return Derived(), set(), 0
        rows = work_out(batch, charge_devices=self._charge_devices, live=live)
        with self._turn, self._store.write() as connection:
            written = write_pending(connection, batch, rows)
        if not written:
            return Derived(), set(batch.cursors) | batch.left, 0
        return rows.derived, batch.left, len(batch.records)

    def checkpoint(self) -> None:
        """Bring SQLite's log into its file if it has grown; writers go on meanwhile."""
        path = self._store.path
        if path is None:
            return
        with contextlib.suppress(OSError, StoreUnavailable):
            if path.with_name(path.name + "-wal").stat().st_size > _CHECKPOINT_BYTES:
                with self._store.engine.connect() as connection:
                    connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")


def work(pipe: Pipe, location: str, turn: Path, charge_devices: bool, parent: int = 0) -> None:
    """Derive until the pipe ends: the body of the worker."""
    if parent:
        # Whoever ends the gateway at a terminal ends this one by its pipe.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.getppid() != parent:
            return
    try:
        store = Store(location, migrate=False, durable=False)
    except StoreUnavailable as error:
        logger.warning("%s", error)
        return
    held = Turn(turn)
    deriver = Deriver(store, held, charge_devices=charge_devices)
    try:
        _serve(pipe, deriver)
    except (EOFError, OSError):
        pass  # the gateway has ended
    finally:
        held.close()
        store.close()


def _serve(pipe: Pipe, deriver: Deriver) -> None:
    # None: everything; so it begins.
    journals: set[int] | None = None
    pending, live, drains = True, False, list[int]()
    not_before_s = 0.0
    while True:
        while pipe.poll(_wait_s(not_before_s) if pending or drains else None):
            kind, value, *more = pipe.recv()
            if kind == "grown":
                pipe.send(("seen", None))
                if journals is not None:
                    journals.update(value)
                live, pending = more[0], True
            elif kind == "drain":
                drains.append(value)
                not_before_s = 0.0
            elif kind == "end":
                return
        try:
            derived, journals, count = deriver.step(journals, live=live)
        except StoreUnavailable as error:
            pipe.send(("fault", str(error)))
            not_before_s, drains = time.monotonic() + _AGAIN_S, []
            continue
        if count:
            pipe.send(("derived", derived, 0 if live else count))
            deriver.checkpoint()
        pending = bool(journals)
        if not pending:
            for number in drains:
                pipe.send(("drained", number))
            drains = []
        hurry = count >= BATCH_RECORDS or drains
        pace_s = _CROWDED_PACE_S if count > _CROWD_RECORDS else _PACE_S
        not_before_s = 0.0 if hurry else time.monotonic() + pace_s


def _wait_s(not_before_s: float) -> float:
    return max(0.0, not_before_s - time.monotonic())


class Derivation:
    """The worker as the gateway sees it; made and used in one event loop.

    Args:
        location: of the store.
        derived: hears in the event loop what changed, and how many records changed something unseen.
        restarted: awaited before a worker is started in place of one that died.
        in_process: whether the worker gets a process of its own.
        charge_devices: see `efaas_gateway.store.derive`.
    """

    def __init__(
        self,
        location: str,
        derived: Callable[[Derived, int], None],
        restarted: Callable[[], Any],
        *,
        in_process: bool,
        charge_devices: bool,
    ) -> None:
        self._location = location
        self._derived = derived
        self._restarted = restarted
        self._in_process = in_process
        self._charge_devices = charge_devices
        self._folder = tempfile.TemporaryDirectory(prefix="efaas-gateway-")
        self.turn_file = Path(self._folder.name) / "turn"
        self._loop = asyncio.get_running_loop()
        self._drains: dict[int, asyncio.Future[None]] = {}
        self._number = 0
        self._live = False
        self._closing = threading.Event()
        # Journals that the worker has not been told of: it is told of more when it has seen the last ones.
        self._unsaid: set[int] = set()
        self._is_unseen = False
        self._lock = threading.Lock()
        self._pipe: Pipe | None = None
        self._worker: Any = None
        self._keeper = threading.Thread(target=self._keep, name="derivation keeper", daemon=True)
        self._keeper.start()

    def grown(self, journals: Iterable[int], *, live: bool) -> None:
        """Say which journals have new records, and whether anybody looks on."""
        self._unsaid.update(journals)
        self._live = live
        if not self._is_unseen:
            self._say()

    def _say(self) -> None:
        self._is_unseen = True
        told, self._unsaid = self._unsaid, set()
        self._send(("grown", told, self._live))

    def _seen(self) -> None:
        self._is_unseen = False
        if self._unsaid:
            self._say()

    async def drain(self, timeout_s: float = 10.0) -> bool:
        """Wait until everything that was committed is derived; False if it took longer."""
        self._number += 1
        number, drained = self._number, self._loop.create_future()
        self._drains[number] = drained
        try:
            async with asyncio.timeout(timeout_s):
                while not drained.done():
                    # Said again: a worker that is just being started anew does not know of it.
                    self._send(("drain", number))
                    await asyncio.wait({drained}, timeout=0.5)
        except TimeoutError:
            return False
        finally:
            self._drains.pop(number, None)
        return True

    async def close(self) -> None:
        """End the worker; what it has not derived is derived after the next start."""
        self._closing.set()
        self._send(("end", None))
        await asyncio.to_thread(self._keeper.join, 10.0)
        self._folder.cleanup()

    def _send(self, message: tuple[Any, ...]) -> None:
        with self._lock:
            if self._pipe is not None:
                with contextlib.suppress(OSError, ValueError):
                    self._pipe.send(message)

    # --- the keeper's thread ---------------------------------------------------------------------------

    def _keep(self) -> None:
        first = True
        while not self._closing.is_set():
            began = time.monotonic()
            if not first:
                logger.warning("the derivation ended and is started anew")
                asyncio.run_coroutine_threadsafe(self._restarted(), self._loop).exception(30)
            first = False
            ours, its = multiprocessing.Pipe()
            self._start(its)
            with self._lock:
                self._pipe = ours
            # A new worker begins with everything that is pending, so what was not said need not be.
            self._loop.call_soon_threadsafe(self._seen)
            if self._closing.is_set():
                self._send(("end", None))
            self._hear(ours)
            with self._lock:
                self._pipe = None
            ours.close()
            self._worker.join(10.0)
            while not self._closing.is_set() and time.monotonic() - began < 1.0:
                time.sleep(0.05)

    def _start(self, its: Pipe) -> None:
        arguments = (its, self._location, self.turn_file, self._charge_devices)
        if self._in_process:
            context = multiprocessing.get_context("spawn")
            self._worker = context.Process(
                target=work, args=(*arguments, os.getpid()), name="derivation", daemon=True
            )
            self._worker.start()
            its.close()
        else:
            self._worker = threading.Thread(
                target=_work_and_close, args=arguments, name="derivation", daemon=True
            )
            self._worker.start()

    def _hear(self, pipe: Pipe) -> None:
        while True:
            try:
                kind, value, *more = pipe.recv()
            except (EOFError, OSError):
                return
            if kind == "derived":
                self._loop.call_soon_threadsafe(self._derived, value, *more)
            elif kind == "seen":
                self._loop.call_soon_threadsafe(self._seen)
            elif kind == "drained":
                self._loop.call_soon_threadsafe(self._settle, value)
            elif kind == "fault":
                logger.warning("%s", value)

    def _settle(self, number: int) -> None:
        drained = self._drains.get(number)
        if drained is not None and not drained.done():
            drained.set_result(None)


def _work_and_close(pipe: Pipe, *arguments: Any) -> None:
    try:
        work(pipe, *arguments)
    finally:
        pipe.close()
