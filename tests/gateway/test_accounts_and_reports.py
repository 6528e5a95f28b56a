"""What is told beside the journals, and what queues hear back."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import grpc
import pytest
from efaas_gateway.accounts import Accounts
from efaas_gateway.store import Store
from efaas_gateway.store.derive import Charge
from efaas_gateway.store.tables import calibrations, device_states, events, sessions, usage
from sqlalchemy import select

from efaas.api.wire import journal_pb2 as wire
from efaas.api.wire import journal_pb2_grpc
from efaas.journal.remote import GatewayJournal
from tests.gateway.running import TOKEN, RunningGateway


def report(gateway: RunningGateway, *reports: dict[str, Any], token: str = TOKEN) -> None:
    with grpc.insecure_channel(gateway.endpoint) as channel:
        stub: Any = journal_pb2_grpc.GatewayStub(channel)
        stub.Report(
            wire.ReportRequest(token=token, reports=[json.dumps(item).encode() for item in reports]),
            timeout=10,
        )


def accounts(gateway: RunningGateway, device: str = "") -> dict[str, wire.TenantAccount]:
    with grpc.insecure_channel(gateway.endpoint) as channel:
        stub: Any = journal_pb2_grpc.GatewayStub(channel)
        told = next(stub.Accounts(wire.AccountsRequest(token=TOKEN, device=device), timeout=10))
        return {account.tenant: account for account in told.accounts}


def booking(key: str, session: str | None, qpu_s: float) -> list[Any]:
    return [key, session, qpu_s, 100, "iteration"]


def test_a_device_journal_charges_tenants_and_keeps_results_until_they_are_acknowledged(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    with GatewayJournal(
        gateway.endpoint, "device", "lagos", buffer=tmp_path / "b", lease_epoch=None, token=TOKEN
    ) as log:
        entry = {
            "clock_s": 5.0,
            "bookings": [booking("1-a/iteration", "red/one", 2.0), booking("cal", None, 9.0)],
            "results": [["1-a", "red/one", False, "AAEC"]],
            "calibration": [{"id": 2, "finishedS": 4.5, "scope": "Full"}, 1.5, None, "scheduled"],
        }
        log.append(entry)
        log.append({"clock_s": 6.0, "bookings": [booking("1-a/iteration", "red/one", 2.0)], "freed": ["1-a"]})
        gateway.settle()
        with gateway.store.read() as connection:
            charged = connection.execute(select(usage.c.tenant, usage.c.qpu_s)).all()
            epochs = connection.execute(
                select(calibrations.c.epoch, calibrations.c.clock_s, calibrations.c.detail)
            ).all()
        # A charge that is said twice counts once; what nobody is charged for has no tenant.
        assert sorted(charged) == [("", 9.0), ("red", 2.0)]
        assert [(*row[:2], json.loads(row[2])) for row in epochs] == [
            (2, 4.5, {"scope": "Full", "busy_s": 1.5, "reason": "scheduled"})
        ]
    # A new server of the device reads everything back.
    with GatewayJournal(
        gateway.endpoint, "device", "lagos", buffer=tmp_path / "c", lease_epoch=None, token=TOKEN
    ) as log:
        assert next(iter(log.records())) == entry


def test_queues_hear_what_their_tenants_used_elsewhere(
    sqlite_gateway: RunningGateway, tmp_path: Path
) -> None:
    for device, qpu_s in (("lagos", 3.0), ("perth", 5.0)):
        with GatewayJournal(
            sqlite_gateway.endpoint, "device", device, buffer=tmp_path / device, lease_epoch=None, token=TOKEN
        ) as log:
            log.append({"clock_s": 1.0, "bookings": [booking(f"{device}/x", "red/one", qpu_s)]})
    report(sqlite_gateway, {"kind": "tenant", "name": "red", "weight": 3})
    sqlite_gateway.settle()
    everywhere, lagos = accounts(sqlite_gateway)["red"], accounts(sqlite_gateway, "lagos")["red"]
    assert everywhere.weight == 3.0
    assert everywhere.qpu_s == pytest.approx(8.0, rel=0.05)
    assert lagos.elsewhere_qpu_s == pytest.approx(5.0, rel=0.05)
    # After a restart they are summed anew from the store.
    sqlite_gateway.stop()
    sqlite_gateway.start()
    again = accounts(sqlite_gateway, "lagos")["red"]
    assert (again.weight, again.qpu_s) == (3.0, pytest.approx(8.0, rel=0.05))
    assert again.elsewhere_qpu_s == pytest.approx(5.0, rel=0.05)


def test_use_decays_with_the_half_life_by_the_closed_form() -> None:
    now = [1000.0]
    ledger = Accounts(600.0, clock=lambda: now[0])
    ledger.add([Charge("red", "red/one", "lagos", 1.0, 8.0)])
    now[0] += 600.0
    ledger.add([Charge("red", "red/one", "perth", 0.0, 1.0)])
    now[0] += 300.0
    account = ledger.all("perth")[0]
    assert account.qpu_s == pytest.approx(8.0 * 2**-1.5 + 2**-0.5)
    assert account.elsewhere_qpu_s == pytest.approx(8.0 * 2**-1.5)
    assert account.cpu_s == pytest.approx(2**-1.5)
    assert ledger.shares() == {"red": pytest.approx(account.qpu_s)}


def test_reports_change_what_they_name_and_leave_the_rest(gateway: RunningGateway) -> None:
    report(gateway, {"kind": "session", "name": "red/one", "state": "Queued", "reason": "behind 2 loops"})
    report(gateway, {"kind": "session", "name": "red/one", "exact": -1.5, "queue_position": 2})
    report(gateway, {"kind": "session", "name": "red/one", "state": "Completed", "reason": ""})
    with gateway.store.read() as connection:
        row = connection.execute(select(sessions)).mappings().one()
        happened = connection.execute(select(events.c.reason, events.c.message)).all()
    assert (row["state"], row["exact"], row["queue_position"]) == ("Completed", -1.5, 2)
    assert row["ended_at"] is not None
    assert happened == [("Queued", "behind 2 loops"), ("Completed", "")]


def test_a_device_report_makes_history_and_notes_calibrations(gateway: RunningGateway) -> None:
    state = {"kind": "device", "name": "lagos", "condition": "Ready", "clock_s": 10.0}
    for epoch, age_s, error in ((1, 10.0, 0.01), (2, 1.0, 0.005), (2, 2.0, 0.006)):
        report(
            gateway,
            {**state, "calibration_epoch": epoch, "calibration_age_s": age_s, "true_error": error},
        )
    with gateway.store.read() as connection:
        assert connection.execute(select(calibrations.c.epoch, calibrations.c.clock_s)).all() == [
            (1, 0.0),
            (2, 9.0),
        ]
        assert connection.execute(
            select(device_states.c.true_error).order_by(device_states.c.at)
        ).scalars().all() == [0.01, 0.005, 0.006]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "report"),
        (b'{"kind":"session"}', "report.session.name"),
        (b'{"kind":"session","name":"red/one","energy":1e400}', "report.session.energy"),
        (b'{"kind":"other"}', "report"),
        (b'{"kind":"device","name":"../x"}', "report.device.name"),
        (b'{"kind":"tenant","name":"red","weight":0}', "report.tenant.weight"),
    ],
)
def test_what_is_no_report_is_refused_with_its_place(
    sqlite_gateway: RunningGateway, body: bytes, words: str
) -> None:
    with grpc.insecure_channel(sqlite_gateway.endpoint) as channel:
        stub: Any = journal_pb2_grpc.GatewayStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Report(wire.ReportRequest(token=TOKEN, reports=[body]), timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().startswith(words)


def test_without_the_token_nothing_is_taken(sqlite_gateway: RunningGateway) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        report(sqlite_gateway, {"kind": "tenant", "name": "red", "weight": 3}, token="guess")
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_an_infinite_decay_never_makes_an_account_not_a_number(store: Store) -> None:
    now = [0.0]
    ledger = Accounts(1.0, clock=lambda: now[0])
    ledger.add([Charge("red", "red/one", "lagos", 1.0, 1.0)])
    now[0] = 1e9
    account = ledger.all()[0]
    assert math.isfinite(account.qpu_s)
    assert account.qpu_s == 0.0
