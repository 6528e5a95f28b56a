"""A journal that the gateway keeps: the promises of a journal, over restarts, takeovers and outages."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from efaas_gateway.store.journals import read_journal

from efaas.errors import InputError, SessionEnded
from efaas.journal import Journal
from efaas.journal.remote import GatewayJournal, GatewayUnavailable, Limits
from tests.gateway.running import TOKEN, RunningGateway


def journal(gateway: RunningGateway, buffer: Path, epoch: int | None = 1, **more: Any) -> GatewayJournal:
    options: dict[str, Any] = {"token": TOKEN, "limits": Limits(connect_s=10.0), **more}
    return GatewayJournal(
        gateway.endpoint, "session", "quantum/h2", buffer=buffer, lease_epoch=epoch, **options
    )


def test_it_keeps_what_a_journal_promises(gateway: RunningGateway, tmp_path: Path) -> None:
    with journal(gateway, tmp_path / "buffer") as opened:
        promised: Journal = opened
        written = [{"n": n, "x": 0.1 * n, "text": "ψ"} for n in range(50)]
        assert [promised.append(record, durable=n % 7 == 0) for n, record in enumerate(written)] == list(
            range(50)
        )
        promised.flush()
        assert list(promised.records()) == written
        assert len(promised) == 50
        assert promised.append(written[3], sequence=3) == 3
        with pytest.raises(InputError, match="other content"):
            promised.append({"other": 1}, sequence=3)
        with pytest.raises(InputError, match="the next one is 50"):
            promised.append({}, sequence=51)
        with pytest.raises(InputError, match="cannot be written as JSON"):
            promised.append({"x": float("nan")})
    with pytest.raises(InputError, match="closed"):
        opened.append({})
    with journal(gateway, tmp_path / "elsewhere", epoch=2) as again:
        assert list(again.records()) == written
        again.replace([{"all": 1}])
        assert (list(again.records()), len(again), again.append({"more": 2})) == ([{"all": 1}], 1, 1)
    with journal(gateway, tmp_path / "third", epoch=3) as last:
        assert list(last.records()) == [{"all": 1}, {"more": 2}]


def test_an_acknowledged_record_is_in_the_database(gateway: RunningGateway, tmp_path: Path) -> None:
    with journal(gateway, tmp_path / "buffer") as opened:
        opened.append({"a": 1})
        with gateway.store.read() as connection:
            assert [body for _, body in read_journal(connection, 1)] == [b'{"a":1}']


def test_a_runner_that_was_declared_dead_is_refused(sqlite_gateway: RunningGateway, tmp_path: Path) -> None:
    old = journal(sqlite_gateway, tmp_path / "old")
    old.append({"a": 1})
    with pytest.raises(SessionEnded, match="another writer with lease epoch 1 has it open"):
        journal(sqlite_gateway, tmp_path / "twin")
    with journal(sqlite_gateway, tmp_path / "new", epoch=2) as new:
        with pytest.raises(SessionEnded, match="is fenced"):
            old.append({"late": 1})
        with pytest.raises(SessionEnded):
            old.flush()
        new.append({"b": 2})
        assert list(new.records()) == [{"a": 1}, {"b": 2}]
    old.close()
    with pytest.raises(SessionEnded, match="lease epoch 2 has taken over"):
        journal(sqlite_gateway, tmp_path / "late")


def test_the_runner_goes_on_while_the_gateway_is_restarted(gateway: RunningGateway, tmp_path: Path) -> None:
    with journal(gateway, tmp_path / "buffer") as opened:
        for n in range(20):
            opened.append({"n": n})
        gateway.stop()
        for n in range(20, 60):
            opened.append({"n": n})
        assert (tmp_path / "buffer" / "journal.jsonl").stat().st_size > 0
        gateway.start()
        assert opened.delivered(20.0)
        opened.append({"n": 60})
        assert [record["n"] for record in opened.records()] == list(range(61))
        assert (tmp_path / "buffer" / "journal.jsonl").read_bytes().count(b"body") == 0


def test_nothing_is_lost_or_doubled_when_it_is_restarted_again_and_again(
    sqlite_gateway: RunningGateway, tmp_path: Path
) -> None:
    ended, grown = threading.Event(), threading.Condition()

    with journal(sqlite_gateway, tmp_path / "buffer") as opened:

        def written(more: int) -> None:
            with grown:
                until = len(opened) + more
                assert grown.wait_for(lambda: len(opened) >= until, 30.0)

        def restart() -> None:
            for _ in range(3):
                written(20)
                sqlite_gateway.stop()
                written(20)
                sqlite_gateway.start()
            ended.set()

        thread = threading.Thread(target=restart)
        thread.start()
        n = 0
        while not ended.is_set():
            assert opened.append({"n": n}, durable=n % 5 == 0) == n
            n += 1
            with grown:
                grown.notify_all()
            ended.wait(0.002)  # a runner's pace
        thread.join()
        assert opened.delivered(20.0)
        assert [record["n"] for record in opened.records()] == list(range(n))


def test_what_a_killed_runner_could_not_deliver_is_delivered_by_the_next_on_that_disk(
    sqlite_gateway: RunningGateway, tmp_path: Path
) -> None:
    first = journal(sqlite_gateway, tmp_path / "buffer")
    first.append({"n": 0})
    sqlite_gateway.stop()
    first.append({"n": 1})
    first.append({"n": 2})
    first._give_up()  # as a kill: nothing is tidied up
    sqlite_gateway.start()
    with journal(sqlite_gateway, tmp_path / "buffer", epoch=2) as second:
        assert len(second) == 3
        assert second.append({"n": 3}) == 3
        assert [record["n"] for record in second.records()] == [0, 1, 2, 3]


def test_what_was_left_on_a_disk_is_dropped_when_another_runner_went_another_way(
    sqlite_gateway: RunningGateway, tmp_path: Path
) -> None:
    first = journal(sqlite_gateway, tmp_path / "buffer")
    first.append({"n": 0})
    sqlite_gateway.stop()
    for n in (1, 2, 3):
        first.append({"n": n})
    first._give_up()
    sqlite_gateway.start()
    with journal(sqlite_gateway, tmp_path / "elsewhere", epoch=2) as other:
        other.append({"other": 1})
    with journal(sqlite_gateway, tmp_path / "buffer", epoch=3) as back:
        assert list(back.records()) == [{"n": 0}, {"other": 1}]
        assert back.append({"next": 1}) == 2


def test_the_buffer_is_bounded(sqlite_gateway: RunningGateway, tmp_path: Path) -> None:
    limits = Limits(buffer_records=5, outage_s=0.2)
    opened = journal(sqlite_gateway, tmp_path / "buffer", limits=limits)
    sqlite_gateway.stop()
    for n in range(5):
        opened.append({"n": n})
    with pytest.raises(GatewayUnavailable, match="5 records wait in the full buffer") as caught:
        opened.append({"n": 5})
    assert caught.value.retry
    sqlite_gateway.start()
    assert opened.delivered(20.0)
    assert opened.append({"n": 5}) == 5
    opened.close()


def test_replacing_while_the_gateway_is_away_takes_place_when_it_is_back(
    sqlite_gateway: RunningGateway, tmp_path: Path
) -> None:
    with journal(sqlite_gateway, tmp_path / "buffer", epoch=None) as opened:
        opened.append({"n": 0})
        sqlite_gateway.stop()
        opened.append({"n": 1})
        opened.replace([{"state": 1}])
        opened.append({"n": 2})
        assert list(opened.records()) == [{"state": 1}, {"n": 2}]
        sqlite_gateway.start()
        assert opened.delivered(20.0)
        assert list(opened.records()) == [{"state": 1}, {"n": 2}]


def test_a_wrong_token_or_no_gateway_is_said_in_a_sentence(
    sqlite_gateway: RunningGateway, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="the token is not the one of this gateway"):
        journal(sqlite_gateway, tmp_path / "a", token="wrong")
    with pytest.raises(GatewayUnavailable, match="is the gateway running"):
        GatewayJournal(
            "127.0.0.1:1", "session", "quantum/h2", buffer=tmp_path / "b", limits=Limits(connect_s=0.3)
        )
