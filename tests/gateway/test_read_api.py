"""The read API: what it answers, to whom, and that nothing sent to it is answered with a fault of ours."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
import schemathesis
from efaas_gateway.access import LocalAccess, User
from efaas_gateway.accounts import Accounts
from efaas_gateway.api import build_app
from efaas_gateway.api.context import RateLimiter
from efaas_gateway.hub import Hub
from efaas_gateway.store import Append, Store
from efaas_gateway.store.journals import append_all, open_journal
from efaas_gateway.store.pending import derive_pending
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from efaas.journal.remote import GatewayJournal
from tests.gateway.running import TOKEN, RunningGateway
from tests.gateway.test_accounts_and_reports import report
from tests.gateway.test_store_journals import iteration

ENDLESS = ["/api/v1/live", "/api/v1/accounts"]


def fill(store: Store, name: str, evaluations: int, at: float = 100.0) -> None:
    """A session with a trajectory, as its runner would have journalled it."""
    with store.write() as connection:
        head = open_journal(
            connection, "session", name, tenant=name.partition("/")[0], lease_epoch=1, writer="w", now=at
        )
        for number in range(evaluations):
            appends = [Append(head.id, 1, "w", number, iteration(number, -1.0 + 1.0 / (1 + number)))]
            append_all(connection, appends, at + number)
        derive_pending(connection, now=at)


class Cancels:
    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []

    async def cancel(self, user: User, namespace: str, name: str) -> None:
        self.asked.append((user.name, namespace, name))


@pytest.fixture
def running(location: str) -> Iterator[RunningGateway]:
    gateway = RunningGateway(location, canceller=Cancels(), requests_per_s=10_000.0)
    yield gateway
    gateway.stop()


@pytest.fixture
def http(running: RunningGateway) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=f"{running.address}/api/v1", headers={"Authorization": f"Bearer {TOKEN}"}
    ) as client:
        yield client


def test_sessions_are_listed_in_pages_with_filters(running: RunningGateway, http: httpx.Client) -> None:
    for number in range(7):
        fill(running.store, f"red/s{number}", 1, at=float(number))
    fill(running.store, "blue/other", 1)
    report(running, {"kind": "session", "name": "red/s3", "state": "Queued", "reason": "behind 2 loops"})
    seen, cursor = [], ""
    while True:
        page = http.get("/sessions", params={"namespace": "red", "limit": 3, "cursor": cursor}).json()
        assert page["total"] == 7
        seen += [item["name"] for item in page["items"]]
        if page["next"] is None:
            break
        cursor = page["next"]
    assert seen == [f"s{number}" for number in reversed(range(7))]
    queued = http.get("/sessions", params={"state": ["Queued", "Pending"]}).json()
    assert [(item["name"], item["reason"]) for item in queued["items"]] == [("s3", "behind 2 loops")]
    assert queued["states"] == {"": 7, "Queued": 1}
    assert http.get("/sessions", params={"q": "lue/o"}).json()["items"][0]["name"] == "other"
    assert http.get("/sessions", params={"q": "%"}).json()["total"] == 0


def test_a_trajectory_is_thinned_out_to_real_evaluations_with_both_ends(
    running: RunningGateway, http: httpx.Client
) -> None:
    fill(running.store, "red/long", 230)
    whole = http.get("/sessions/red/long/trajectory").json()
    thin = http.get("/sessions/red/long/trajectory", params={"points": 20}).json()
    assert (whole["total"], thin["total"]) == (230, 230)
    numbers = thin["columns"]["evaluation"]
    assert numbers[0] == 0
    assert numbers[-1] == 229
    assert len(numbers) <= 20
    assert thin["columns"]["energy"] == [whole["columns"]["energy"][number] for number in numbers]
    later = http.get("/sessions/red/long/trajectory", params={"after": 227}).json()
    assert later["columns"]["evaluation"] == [228, 229]


def test_a_trajectory_is_exported_whole_as_parquet(running: RunningGateway, http: httpx.Client) -> None:
    fill(running.store, "red/long", 230)
    answer = http.get("/sessions/red/long/trajectory.parquet")
    table = pq.read_table(io.BytesIO(answer.content))
    assert table.num_rows == 230
    assert table["energy"].to_pylist() == [-1.0 + 1.0 / (1 + number) for number in range(230)]
    assert table["device"].to_pylist()[0] == "lagos"


def test_usage_is_summed_by_whom_and_when(
    running: RunningGateway, http: httpx.Client, tmp_path: Path
) -> None:
    with GatewayJournal(
        running.endpoint, "device", "lagos", buffer=tmp_path / "b", lease_epoch=None, token=TOKEN
    ) as log:
        for number, (session, qpu_s) in enumerate([("red/a", 1.0), ("red/b", 2.0), ("blue/c", 4.0)]):
            log.append({"clock_s": 1.0, "bookings": [[f"k{number}", session, qpu_s, 10, "iteration"]]})
    running.settle()
    tenants = {row["tenant"]: row["qpu_s"] for row in http.get("/usage").json()["items"]}
    assert tenants == {"red": 3.0, "blue": 4.0}
    sessions = http.get("/usage", params={"by": "session", "tenant": "red"}).json()["items"]
    assert {row["session"]: row["qpu_s"] for row in sessions} == {"red/a": 1.0, "red/b": 2.0}
    steps = http.get("/usage", params={"by": "device", "bucket_s": 3600}).json()["items"]
    assert [(row["device"], row["qpu_s"]) for row in steps] == [("lagos", 7.0)]
    assert steps[0]["at"] % 3600 == 0
    assert http.get("/usage", params={"end": 10.0}).json()["items"] == []
    table = list(csv.reader(io.StringIO(http.get("/usage", params={"format": "csv"}).text)))
    assert table[0] == ["tenant", "cpu_s", "qpu_s", "shots", "charges"]
    assert table[2] == ["red", "0.0", "3.0", "20", "2"]
    parquet = http.get("/usage", params={"format": "parquet"}).content
    assert pq.read_table(io.BytesIO(parquet))["qpu_s"].to_pylist() == [4.0, 3.0]
    shares = {row["tenant"]: row for row in http.get("/shares").json()["items"]}
    assert shares["red"]["share"] == pytest.approx(3 / 7, rel=0.01)
    assert shares["red"]["deserved"] == 0.5


def test_a_spreadsheet_takes_no_name_for_a_formula() -> None:
    from efaas_gateway.api.export import as_csv

    assert as_csv([{"a": "=1+1", "b": -1.0}], ["a", "b"]) == "a,b\r\n'=1+1,-1.0\r\n"


def test_devices_queue_events_and_results(running: RunningGateway, http: httpx.Client) -> None:
    fill(running.store, "red/a", 2)
    waiting = {"session": "red/a", "state": "Queued", "position": 1, "reason": "behind a loop"}
    report(
        running,
        {"kind": "device", "name": "lagos", "condition": "Ready", "qubits": 7, "calibration_epoch": 1,
         "clock_s": 5.0, "calibration_age_s": 5.0, "sessions": [waiting]},
        {"kind": "event", "session": "red/a", "device": "lagos", "reason": "Placed", "message": "least TTNS"},
    )  # fmt: skip
    assert http.get("/devices").json()["items"][0]["qubits"] == 7
    assert http.get("/devices/lagos").json()["waiting"][0]["reason"] == "behind a loop"
    assert http.get("/queue").json()["items"][0]["session"] == "red/a"
    history = http.get("/devices/lagos/history").json()
    assert (history["states"][0]["calibration_age_s"], history["calibrations"][0]["epoch"]) == (5.0, 1)
    assert http.get("/sessions/red/a/events").json()["items"][0]["message"] == "least TTNS"
    assert http.get("/sessions/red/a").json()["waiting"][0]["position"] == 1
    assert http.get("/sessions/red/a/result").status_code == 404
    report(running, {"kind": "session", "name": "red/a", "state": "Completed", "result": {"energy": -1.1}})
    assert http.get("/sessions/red/a/result").json() == {"energy": -1.1}


def test_cancel_is_passed_on_as_the_user(running: RunningGateway, http: httpx.Client) -> None:
    fill(running.store, "red/a", 1)
    assert http.post("/sessions/red/a/cancel").status_code == 202
    assert running.settings["canceller"].asked == [("local", "red", "a")]
    assert http.post("/sessions/red/none/cancel").status_code == 404


def test_live_updates_come_as_they_happen_and_again_after_a_lost_connection(
    running: RunningGateway, http: httpx.Client
) -> None:
    def first(last: str, kind: str) -> tuple[str, dict[str, Any]]:
        with http.stream("GET", "/live", headers={"Last-Event-ID": last}, timeout=20) as stream:
            number = ""
            for line in stream.iter_lines():
                if line.startswith(": connected") and not last:
                    threading.Timer(0.05, fill, (running.store, "red/live", 0)).start()
                    threading.Timer(
                        0.1, report, (running, {"kind": "session", "name": "red/live", "state": "Running"})
                    ).start()
                number = line[4:] if line.startswith("id: ") else number
                if line.startswith("data: ") and json.loads(line[6:]).get("kind") == kind:
                    return number, json.loads(line[6:])
        raise AssertionError("ended")

    number, event = first("", "event")
    assert event["reason"] == "Running"
    assert first(number, "session")[1]["state"] == "Running"
    with http.stream("GET", "/live", headers={"Last-Event-ID": "999999"}, timeout=20) as stream:
        assert "event: reset" in list(stream.iter_lines())


@pytest.mark.parametrize(
    ("path", "status", "place"),
    [
        ("/sessions?limit=0", 422, "query.limit"),
        ("/sessions?cursor=nonsense", 400, "query.cursor"),
        ("/sessions/red/none", 404, "red/none"),
        ("/sessions/red/..%2f..", 404, ""),
        ("/devices/none", 404, "device none"),
        ("/usage?start=5&end=2", 400, "query.end"),
        ("/usage?start=nan", 422, "query.start"),
        ("/nothing", 404, ""),
    ],
)
def test_errors_are_problems_with_their_place(
    sqlite_gateway: RunningGateway, path: str, status: int, place: str
) -> None:
    answer = httpx.get(f"{sqlite_gateway.address}/api/v1{path}", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["place"] == place


def test_without_a_token_there_is_nothing_and_too_many_requests_are_refused(location: str) -> None:
    gateway = RunningGateway(location, requests_per_s=2.0)
    try:
        answer = httpx.get(f"{gateway.address}/api/v1/sessions")
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="efaas"')
        assert (
            httpx.get(f"{gateway.address}/api/v1/live", headers={"Authorization": "Bearer x"}).status_code
            == 401
        )
        with httpx.Client(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            codes = [client.get(f"{gateway.address}/api/v1/queue").status_code for _ in range(12)]
        assert codes[:8] == [200] * 8
        assert 429 in codes
        large = httpx.post(f"{gateway.address}/api/v1/sessions/a/b/cancel", content=b"x" * 100_000)
        assert large.status_code == 413
    finally:
        gateway.stop()


def test_a_bucket_fills_again_with_time() -> None:
    from efaas_gateway.api.context import TooMany

    now = [0.0]
    limiter = RateLimiter(2.0, 3.0, clock=lambda: now[0])
    for _ in range(3):
        limiter.take("a")
    with pytest.raises(TooMany):
        limiter.take("a")
    limiter.take("b")
    now[0] += 0.5
    limiter.take("a")
    with pytest.raises(TooMany):
        limiter.take("a")


# --- fuzzing ----------------------------------------------------------------------------------------


class _NoCancel:
    async def cancel(self, user: User, namespace: str, name: str) -> None:
        del user, namespace, name


def test_nothing_that_is_sent_is_answered_with_a_fault_of_ours(tmp_path: Path) -> None:
    """Every operation of the API's own document; streams of events are left out, for they do not end."""
    store = Store(tmp_path / "gateway.db")
    fill(store, "red/a", 5)
    app = build_app(
        store, LocalAccess(TOKEN), Accounts(clock=lambda: 1000.0), Hub(), _NoCancel(), RateLimiter(1e9, 1e9)
    )
    schema = schemathesis.openapi.from_asgi("/openapi.json", app).exclude(path=ENDLESS)
    seen: dict[str, set[int]] = {}

    def try_out(operation: Any) -> None:
        modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]

        @settings(max_examples=20, suppress_health_check=list(HealthCheck), deadline=None, database=None)
        @given(case=st.one_of([operation.as_strategy(generation_mode=mode) for mode in modes]))
        def try_case(case: schemathesis.Case) -> None:
            answer = case.call(headers={"Authorization": f"Bearer {TOKEN}"})
            seen.setdefault(operation.label, set()).add(answer.status_code)
            assert answer.status_code < 500, answer.text
            case.validate_response(
                answer,
                checks=[
                    schemathesis.checks.not_a_server_error,
                    schemathesis.specs.openapi.checks.response_schema_conformance,
                    schemathesis.specs.openapi.checks.content_type_conformance,
                ],
            )

        try_case()

    for result in schema.get_all_operations():
        try_out(result.ok())
    assert len(seen) == len([path for path in app.openapi()["paths"] if path not in ENDLESS])
    assert all(200 in codes for label, codes in seen.items() if "{" not in label), seen
    store.close()


def test_a_database_that_is_away_is_said_and_forgotten_when_it_is_back(postgres: Any) -> None:
    gateway = RunningGateway(postgres.database())
    try:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        url = f"{gateway.address}/api/v1/sessions"
        assert httpx.get(url, headers=headers).status_code == 200
        postgres.stop()
        answer = httpx.get(url, headers=headers, timeout=30)
        assert answer.status_code == 503
        assert answer.json()["retry"] is True
        assert "database" in answer.json()["detail"]
        postgres.start()
        deadline = time.monotonic() + 20
        while httpx.get(url, headers=headers, timeout=30).status_code != 200:
            assert time.monotonic() < deadline
            asyncio.run(asyncio.sleep(0.05))
    finally:
        gateway.stop()
