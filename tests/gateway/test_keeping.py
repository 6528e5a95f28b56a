"""What is dropped and what is kept; backup, restore, a full disk, a journal taken elsewhere."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from efaas_gateway.store import Store, StoreUnavailable
from efaas_gateway.store.backup import export_journal, read_backup, write_backup
from efaas_gateway.store.retention import Retention, prune_store
from efaas_gateway.store.tables import device_states, events, journals, metadata, records, sessions, usage
from sqlalchemy import func, insert, select, update

from efaas.errors import InputError
from efaas.journal import DirectoryJournal, read_records
from efaas.journal.remote import GatewayJournal, Limits
from tests.gateway.running import TOKEN, RunningGateway
from tests.gateway.test_journal_stream import journal
from tests.gateway.test_read_api import fill
from tests.gateway.test_store_journals import iteration

DAY_S = 86_400.0


def end(store: Store, name: str, at: float, state: str = "Completed") -> None:
    with store.write() as connection:
        connection.execute(
            update(sessions).where(sessions.c.name == name).values(state=state, ended_at=at, result='{"e":1}')
        )


def count(store: Store, table: Any) -> int:
    with store.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def contents(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    with store.read() as connection:
        return {
            table.name: sorted((tuple(map(repr, row)) for row in connection.execute(select(table))), key=str)
            for table in metadata.sorted_tables
        }


def test_old_sessions_go_and_what_they_are_charged_for_stays(store: Store) -> None:
    for name in ("red/old", "red/new", "red/running"):
        fill(store, name, 5)
    end(store, "old", 100.0)
    end(store, "new", 99 * DAY_S)
    charged = count(store, usage)
    pruned = prune_store(store, Retention(days=30), now=100 * DAY_S)
    assert pruned.sessions == 1
    with store.read() as connection:
        left = set(connection.execute(select(sessions.c.name)).scalars())
        assert connection.execute(select(func.count()).select_from(records)).scalar_one() == 10
    assert left == {"new", "running"}
    assert count(store, usage) == charged == 15


def test_compaction_keeps_result_trajectory_and_usage(store: Store) -> None:
    fill(store, "red/done", 5)
    fill(store, "red/interrupted", 5)
    end(store, "done", 100.0)
    end(store, "interrupted", 100.0, "Interrupted")
    before = {name: rows for name, rows in contents(store).items() if name in ("evaluations", "usage")}
    pruned = prune_store(store, Retention(compact_after_days=1), now=10 * DAY_S)
    assert pruned.journals == 1
    assert {name: rows for name, rows in contents(store).items() if name in before} == before
    with store.read() as connection:
        row = connection.execute(
            select(journals.c.first, journals.c.length, journals.c.bytes).where(journals.c.name == "red/done")
        ).one()
        assert tuple(row) == (5, 5, 0)
        result = connection.execute(select(sessions.c.result).where(sessions.c.name == "done")).scalar_one()
    assert result == '{"e":1}'
    # What may go on keeps its records.
    assert count(store, records) == 5


def test_each_tenant_is_kept_within_its_bytes_oldest_first(store: Store) -> None:
    for tenant in ("red", "blue"):
        for number in range(4):
            fill(store, f"{tenant}/s{tenant}{number}", 3)
            end(store, f"s{tenant}{number}", 100.0 + number)
    fill(store, "green/running", 3)
    with store.read() as connection:
        one = int(connection.execute(select(func.max(journals.c.bytes))).scalar_one())
    prune_store(store, Retention(tenant_bytes=2 * one), now=1000.0)
    with store.read() as connection:
        kept = set(connection.execute(select(journals.c.name).where(journals.c.bytes > 0)).scalars())
    assert kept == {"red/sred2", "red/sred3", "blue/sblue2", "blue/sblue3", "green/running"}


def test_device_states_are_thinned_after_a_day(store: Store) -> None:
    with store.write() as connection:
        connection.execute(
            insert(device_states),
            [{"device": "lagos", "at": float(at), "condition": ""} for at in range(0, 600, 10)],
        )
        connection.execute(
            insert(events).values(at=5.0, namespace="", session="", device="", reason="X", message="")
        )
    prune_store(store, Retention(days=1000), now=10 * DAY_S)
    with store.read() as connection:
        left = connection.execute(select(device_states.c.at).order_by(device_states.c.at)).scalars().all()
    assert left == [60.0 * minute for minute in range(10)]
    assert count(store, events) == 1


def test_a_backup_restores_everything_also_into_the_other_database(
    store: Store, tmp_path: Path, postgres: Any
) -> None:
    fill(store, "red/a", 30)
    fill(store, "blue/b", 3)
    end(store, "b", 5.0)
    rows = write_backup(store, tmp_path / "backup.gz")
    other = Store(postgres.database() if store.is_sqlite else tmp_path / "other.db")
    assert read_backup(other, tmp_path / "backup.gz") == rows
    assert contents(other) == contents(store)
    # New rows get new numbers.
    fill(other, "green/c", 2)
    with pytest.raises(InputError, match="not empty"):
        read_backup(other, tmp_path / "backup.gz")
    with pytest.raises(InputError, match="is there already"):
        write_backup(store, tmp_path / "backup.gz")
    other.close()


@pytest.mark.parametrize("damage", ["cut", "not-gzip", "row-lost"])
def test_a_damaged_backup_restores_nothing(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path / "a.db")
    fill(store, "red/a", 30)
    file = tmp_path / "backup.gz"
    write_backup(store, file)
    store.close()
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-200])
    elif damage == "not-gzip":
        file.write_bytes(b"hello")
    else:
        lines = gzip.decompress(file.read_bytes()).splitlines(keepends=True)
        file.write_bytes(gzip.compress(b"".join(lines[:10] + lines[11:])))
    empty = Store(tmp_path / "b.db")
    with pytest.raises(InputError):
        read_backup(empty, file)
    assert count(empty, sessions) == 0
    empty.close()


def test_a_session_goes_on_from_its_journal_on_another_machine(store: Store, tmp_path: Path) -> None:
    fill(store, "red/a", 4)
    assert export_journal(store, "red/a", tmp_path / "journal") == 4
    assert list(read_records(tmp_path / "journal")) == [
        json.loads(iteration(n, -1.0 + 1.0 / (1 + n))) for n in range(4)
    ]
    with DirectoryJournal(tmp_path / "journal", lease_epoch=2) as resumed:
        assert resumed.append({"next": 1}) == 4
    with pytest.raises(InputError, match="holds a journal already"):
        export_journal(store, "red/a", tmp_path / "journal")


def test_a_full_disk_is_said_and_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """SQLite's own limit on its pages stands for the disk: it fails in the same way (SQLITE_FULL)."""
    gateway = RunningGateway(str(tmp_path / "gateway.db"))
    try:
        with journal(gateway, tmp_path / "buffer") as opened:
            opened.append({"n": 0})
            limit = _limit_pages(gateway, 1)
            # The gateway refuses; the records wait on the writer's disk.
            for n in range(1, 5):
                opened.append({"n": n, "text": "x" * 20_000})
            with pytest.raises(StoreUnavailable, match="full"), gateway.store.write() as connection:
                connection.execute(insert(device_states).values(device="x" * 100_000, at=1.0, condition=""))
            _limit_pages(gateway, limit)
            assert opened.delivered(20.0)
            assert [record["n"] for record in opened.records()] == [0, 1, 2, 3, 4]
    finally:
        gateway.stop()


def _limit_pages(gateway: RunningGateway, pages: int) -> int:
    """Set the most pages of every connection; below what is used it is that. Returns the one before."""
    pool = gateway.store.engine.pool
    held = [gateway.store.engine.connect() for _ in range(8)]
    before = [connection.exec_driver_sql("PRAGMA max_page_count").scalar_one() for connection in held]
    for connection in held:
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        connection.close()
    assert pool is not None
    return int(before[0])


def test_a_database_that_goes_away_and_comes_back_loses_nothing(postgres: Any, tmp_path: Path) -> None:
    gateway = RunningGateway(postgres.database())
    try:
        # However slow this machine is just now: only the order of things is asserted.
        with journal(gateway, tmp_path / "buffer", limits=Limits(connect_s=120.0)) as opened:
            for n in range(5):
                opened.append({"n": n})
            assert opened.delivered(120.0)
            postgres.stop()
            for n in range(5, 12):
                opened.append({"n": n})
            postgres.start()
            assert opened.delivered(120.0)
            assert [record["n"] for record in opened.records()] == list(range(12))
    finally:
        gateway.stop()


def test_a_gateway_killed_in_the_midst_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    """The real process, `kill -9` under load, on the same file again."""
    (tmp_path / "token").write_text(TOKEN)
    command = [
        sys.executable, "-m", "efaas_gateway", "serve", "--store", str(tmp_path / "gateway.db"),
        "--token-file", str(tmp_path / "token"), "--listen", "127.0.0.1:0",
    ]  # fmt: skip

    def start(port: int) -> tuple[subprocess.Popen[str], dict[str, int]]:
        process = subprocess.Popen(
            [*command, "--stream-listen", f"127.0.0.1:{port}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        return process, json.loads(process.stdout.readline())["listening"]

    process, ports = start(0)

    opened = GatewayJournal(
        f"127.0.0.1:{ports['stream']}", "session", "red/a", buffer=tmp_path / "b", lease_epoch=1,
        token=TOKEN, limits=Limits(connect_s=20.0),
    )  # fmt: skip
    try:
        for n in range(30):
            opened.append({"n": n})
        process.kill()
        process.communicate()
        for n in range(30, 40):
            opened.append({"n": n})
        process, ports = start(ports["stream"])
        assert opened.delivered(30.0)
        assert [record["n"] for record in opened.records()] == list(range(40))
        answer = httpx.get(
            f"http://127.0.0.1:{ports['http']}/api/v1/sessions/red/a",
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=20,
        )
        assert answer.json()["records"] == 40
    finally:
        opened.close()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode == 0
