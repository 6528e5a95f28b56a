"""What records say is derived behind the appends: each once, whoever is killed, and before records go."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from efaas_gateway.store import Append, Store
from efaas_gateway.store.journals import JournalHead, append_all
from efaas_gateway.store.pending import derive_pending, read_pending, work_out, write_pending
from efaas_gateway.store.tables import evaluations, sessions, usage
from sqlalchemy import func, select

from efaas.journal.remote import GatewayJournal
from tests.gateway.running import TOKEN, RunningGateway
from tests.gateway.test_store_journals import iteration, opened
from tests.support.cluster import wait_until


def append_only(store: Store, head: JournalHead, first: int, count: int) -> None:
    appends = [
        Append(head.id, 1, head.writer, number, iteration(number, -1.0))
        for number in range(first, first + count)
    ]
    with store.write() as connection:
        append_all(connection, appends, 2.0)


def derived(store: Store) -> tuple[int, int]:
    """Rows of the trajectory, and how many the session counts."""
    with store.read() as connection:
        rows = connection.execute(select(func.count()).select_from(evaluations)).scalar_one()
        return rows, connection.execute(select(sessions.c.evaluations)).scalar_one()


def test_batches_go_on_where_the_last_one_ended(store: Store) -> None:
    head = opened(store)
    append_only(store, head, 0, 25)
    sizes = []
    while True:
        with store.read() as connection:
            batch = read_pending(connection, None, 3.0, limit=10)
        if not batch.cursors:
            break
        sizes.append(len(batch.records))
        assert batch.left == ({head.id} if sum(sizes) < 25 else set())
        rows = work_out(batch, charge_devices=False, live=False)
        assert rows.derived.updates == []
        with store.write() as connection:
            assert write_pending(connection, batch, rows)
    assert sizes == [10, 10, 5]
    assert derived(store) == (25, 25)


def test_a_batch_that_somebody_else_has_written_is_not_written_again(store: Store) -> None:
    head = opened(store)
    append_only(store, head, 0, 5)
    with store.read() as connection:
        batch = read_pending(connection, [head.id], 3.0)
    rows = work_out(batch, charge_devices=False, live=True)
    with store.write() as connection:
        assert len(derive_pending(connection, now=3.0).updates) >= 5
    with store.write() as connection:
        assert not write_pending(connection, batch, rows)
    assert derived(store) == (5, 5)


def test_a_worker_that_is_killed_is_followed_by_one_that_counts_nothing_twice(tmp_path: Path) -> None:
    gateway = RunningGateway(str(tmp_path / "gateway.db"), worker_process=True)
    try:
        with GatewayJournal(
            gateway.endpoint, "session", "red/one", buffer=tmp_path / "b", lease_epoch=1, token=TOKEN
        ) as journal:
            for number in range(60):
                journal.append(json.loads(iteration(number, -1.0)), durable=number % 20 == 19)
                if number == 30:
                    gateway.settle()
                if number in (31, 45):
                    wait_until("a worker", lambda: gateway.gateway.derivation._worker.is_alive())
                    worker = gateway.gateway.derivation._worker
                    os.kill(worker.pid, signal.SIGKILL)
                    worker.join(20)
            journal.flush()
        gateway.settle()
        assert derived(gateway.store) == (60, 60)
        with gateway.store.read() as connection:
            used_s = connection.execute(select(func.sum(usage.c.cpu_s))).scalar_one()
        # The accounts in memory agree with what is stored, but for a moment's decay.
        (account,) = gateway.gateway.accounts.all()
        assert account.cpu_s == pytest.approx(used_s, rel=0.1)
    finally:
        gateway.stop()


def test_records_are_derived_before_they_are_replaced(sqlite_gateway: RunningGateway, tmp_path: Path) -> None:
    with GatewayJournal(
        sqlite_gateway.endpoint, "device", "lagos", buffer=tmp_path / "b", lease_epoch=None, token=TOKEN
    ) as log:
        log.append({"clock_s": 1.0, "bookings": [["k", "red/one", 2.0, 10, "iteration"]]}, durable=False)
        log.replace([{"state": {"clock_s": 1.0}}])
        log.append({"clock_s": 2.0, "bookings": [["l", "red/one", 3.0, 10, "iteration"]]})
        sqlite_gateway.settle()
        with sqlite_gateway.store.read() as connection:
            charged = connection.execute(select(usage.c.key, usage.c.qpu_s).order_by(usage.c.key)).all()
        assert charged == [("k", 2.0), ("l", 3.0)]
