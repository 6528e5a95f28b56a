"""Journals in the store: order, idempotence, fencing, durability, on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from efaas_gateway.store import Append, Fenced, OutOfOrder, Store
from efaas_gateway.store.journals import JournalHead, append_all, open_journal, read_journal, replace_all
from efaas_gateway.store.pending import derive_pending
from efaas_gateway.store.tables import evaluations, metadata, sessions, usage
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import inspect, select

from efaas.errors import EfaasError


def opened(store: Store, name: str = "quantum/h2", epoch: int | None = 1, writer: str = "a") -> JournalHead:
    with store.write() as connection:
        return open_journal(
            connection, "session", name, tenant="quantum", lease_epoch=epoch, writer=writer, now=1.0
        )


def append(store: Store, head: JournalHead, *items: tuple[int, bytes]) -> list[EfaasError | None]:
    with store.write() as connection:
        appended = append_all(
            connection,
            [Append(head.id, head.lease_epoch, head.writer, sequence, body) for sequence, body in items],
            2.0,
        )
        derive_pending(connection, now=2.0)
    return appended.outcomes


def bodies(store: Store, head: JournalHead) -> list[bytes]:
    with store.read() as connection:
        return [body for _, body in read_journal(connection, head.id)]


def test_what_was_appended_comes_back_in_order_and_to_the_bit(store: Store) -> None:
    head = opened(store)
    written = [json.dumps({"n": n, "x": 0.1 * n}).encode() for n in range(600)]
    assert append(store, head, *enumerate(written)) == [None] * 600
    assert bodies(store, head) == written
    assert opened(store, writer="b", epoch=2).length == 600


def test_the_same_record_again_changes_nothing(store: Store) -> None:
    head = opened(store)
    append(store, head, (0, b"{}"), (1, b'{"a":1}'))
    assert append(store, head, (1, b'{"a":1}'), (2, b'{"b":2}'), (2, b'{"b":2}')) == [None] * 3
    assert bodies(store, head) == [b"{}", b'{"a":1}', b'{"b":2}']


def test_other_content_or_another_order_is_refused_and_harms_nobody_else(store: Store) -> None:
    head, other = opened(store), opened(store, "quantum/lih")
    append(store, head, (0, b"{}"))
    with store.write() as connection:
        appended = append_all(
            connection,
            [
                Append(head.id, 1, "a", 0, b'{"x":1}'),
                Append(head.id, 1, "a", 5, b"{}"),
                Append(other.id, 1, "a", 0, b'{"fine":1}'),
            ],
            2.0,
        )
    outcomes = appended.outcomes
    assert [type(outcome) for outcome in outcomes] == [OutOfOrder, OutOfOrder, type(None)]
    assert "other content" in str(outcomes[0])
    assert "the next one is 1" in str(outcomes[1])
    assert (bodies(store, head), bodies(store, other)) == ([b"{}"], [b'{"fine":1}'])


def test_a_runner_that_was_declared_dead_and_comes_back_is_fenced(store: Store) -> None:
    old = opened(store, epoch=1, writer="old")
    append(store, old, (0, b"{}"))
    new = opened(store, epoch=2, writer="new")
    assert new.length == 1
    assert isinstance(append(store, old, (1, b'{"late":1}'))[0], Fenced)
    with pytest.raises(Fenced, match="lease epoch 2 has taken over, this one has 1"):
        opened(store, epoch=1, writer="old")
    assert append(store, new, (1, b'{"new":1}')) == [None]
    assert bodies(store, new) == [b"{}", b'{"new":1}']


def test_taking_over_without_an_epoch_fences_whoever_was_there(store: Store) -> None:
    first, second = opened(store, epoch=None, writer="x"), opened(store, epoch=None, writer="y")
    assert (first.lease_epoch, second.lease_epoch) == (1, 2)
    assert isinstance(append(store, first, (0, b"{}"))[0], Fenced)


def test_two_writers_of_one_session_never_both_succeed(store: Store) -> None:
    """Both take the journal over and append, again and again, at the same time: one line of owners."""
    wins: list[tuple[int, bytes]] = []
    gate = threading.Barrier(2)
    faults: list[BaseException] = []

    def compete(writer: str) -> None:
        try:
            gate.wait()
            for attempt in range(15):
                head = opened(store, epoch=None, writer=f"{writer}{attempt}")
                body = json.dumps({"by": writer, "attempt": attempt}).encode()
                if append(store, head, (head.length, body)) == [None]:
                    wins.append((head.length, body))
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=compete, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert len({sequence for sequence, _ in wins}) == len(wins)
    assert [body for _, body in sorted(wins)] == bodies(store, opened(store, epoch=None))


def test_all_records_can_be_replaced_once(store: Store) -> None:
    head = opened(store)
    append(store, head, (0, b"{}"), (1, b'{"a":1}'))
    for _ in range(2):  # the second time because the answer to the first was lost
        with store.write() as connection:
            assert replace_all(connection, head.id, 1, "a", 1, [b'{"all":1}'], 3.0) == 1
    assert bodies(store, head) == [b'{"all":1}']
    with store.write() as connection, pytest.raises(OutOfOrder):
        replace_all(connection, head.id, 1, "a", 5, [], 3.0)


def iteration(number: int, energy: float, device: str = "lagos", **more: Any) -> bytes:
    return json.dumps(
        {
            "kind": "iteration", "iteration": number, "evaluation": number,
            "energy": energy, "std_error": 0.01, "cpu_s": 0.5, "elapsed_s": 2.0 * number, "iteration_s": 2.0,
            "jobs": [{
                "id": f"{number}-x", "device": device, "shots": 100, "qpu_s": 0.25, "ttns_s": 0.2,
                "calibration_epoch": 1, "calibration_age_s": 5.0,
                "timing": {"wall_queue_s": 0.1, "wall_calibration_s": 0.0, "wall_execution_s": 0.3,
                           "round_trip_s": 0.5, "server_s": 0.4},
            }],
            **more,
        }
    ).encode()  # fmt: skip


def test_a_trajectory_and_its_sums_follow_from_the_records(store: Store) -> None:
    head = opened(store)
    append(store, head, (0, b'{"kind":"session"}'), (1, iteration(0, -0.5)), (2, iteration(1, -1.0)))
    append(store, head, (2, iteration(1, -1.0)), (3, iteration(2, -0.8, "perth")))
    with store.read() as connection:
        rows = connection.execute(select(evaluations).order_by(evaluations.c.evaluation)).mappings().all()
        row = connection.execute(select(sessions)).mappings().one()
        charged = connection.execute(select(usage.c.key, usage.c.cpu_s, usage.c.qpu_s)).all()
    assert [(r["energy"], r["best"], r["cpu_s"], r["queue_s"]) for r in rows] == [
        (-0.5, -0.5, 1.5, 0.1),
        (-1.0, -1.0, 1.5, 0.1),
        (-0.8, -1.0, 1.5, 0.1),
    ]
    assert (row["iterations"], row["evaluations"], row["shots"], row["qpu_s"]) == (3, 3, 300, 0.75)
    assert (row["best"], row["energy"], row["device"]) == (-1.0, -0.8, "perth")
    # QPU seconds are the devices' to charge.
    assert charged == [(f"quantum/h2#{n}", 0.5, 0.0) for n in range(3)]


def test_a_record_that_makes_no_sense_is_kept_and_derives_nothing(store: Store) -> None:
    head = opened(store)
    odd = [
        b"[1,2]",
        b'{"kind":"iteration","evaluation":3,"jobs":7}',
        b'{"kind":"iteration","evaluation":0,"jobs":[{"timing":3,"shots":"x","qpu_s":1e999}],"energy":"low"}',
    ]
    assert append(store, head, *enumerate(odd)) == [None] * 3
    assert bodies(store, head) == odd


def test_the_schema_is_what_the_tables_say(store: Store) -> None:
    found = inspect(store.engine)
    for table in metadata.sorted_tables:
        assert {column["name"] for column in found.get_columns(table.name)} == set(table.columns.keys())
        assert set(found.get_pk_constraint(table.name)["constrained_columns"]) == set(
            table.primary_key.columns.keys()
        )
        assert {index["name"] for index in found.get_indexes(table.name)} >= {
            index.name for index in table.indexes
        }


def test_a_second_opening_finds_everything_and_migrates_nothing(store: Store, location: str) -> None:
    head = opened(store)
    append(store, head, (0, b"{}"))
    again = Store(location, migrate=False)
    assert bodies(again, head) == [b"{}"]
    again.close()


@settings(max_examples=40)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["open", "next", "repeat", "gap", "other"])),
        max_size=30,
    )
)
def test_any_order_of_events_keeps_one_line_of_records(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str]]
) -> None:
    """Against a list as the model: only the owner's next record gets in, each once."""
    store = Store(tmp_path_factory.mktemp("model") / "gateway.db")
    heads: dict[str, JournalHead] = {}
    owner, model = "", []
    for number, (writer, step) in enumerate(steps):
        if step == "open":
            heads[writer] = opened(store, epoch=None, writer=writer)
            owner = writer
            assert heads[writer].length == len(model)
        elif writer in heads:
            new = json.dumps({"n": number}).encode()
            sequence = {"next": len(model), "repeat": len(model) - 1, "gap": len(model) + 1, "other": 0}[step]
            body = model[-1] if step == "repeat" and model else new
            outcome = append(store, heads[writer], (sequence, body))[0]
            allowed = writer == owner and (
                sequence == len(model) or (0 <= sequence < len(model) and model[sequence] == body)
            )
            assert (outcome is None) == allowed
            if allowed and sequence == len(model):
                model.append(body)
    assert bodies(store, opened(store, epoch=None)) == model
    store.close()
