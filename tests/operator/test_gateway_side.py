"""What the operator asks the gateway and tells it: pages of progress, reports that the gateway takes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from aiohttp import web
from efaas_gateway.reports import read_report
from efaas_operator.configuration import Gateway
from efaas_operator.services.ports import Charged, Progress
from efaas_operator.services.progress import GatewayProgress
from efaas_operator.services.reports import GatewayReports

from efaas.api.wire import journal_pb2, journal_pb2_grpc


def run(scenario) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 30))


async def until(condition) -> None:
    while not condition():
        await asyncio.sleep(0.01)


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("secret\n")
    return path


def item(name: str, **changes: Any) -> dict[str, Any]:
    return {"namespace": "chemistry", "name": name, "iterations": 3, "best": -1.5, "ttns_s": 0.2, **changes}


def test_progress_is_read_page_by_page_and_who_got_on_is_told(token: Path):
    pages = {
        "": {"items": [item("a"), item("odd", iterations="many")], "next": "x"},
        "x": {"items": [item("b", best=None, ttns_s=float(10**16))], "next": None},
    }
    asked, moved = [], []

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.headers["Authorization"], request.query.get("state")))
        return web.json_response(pages[request.query.get("cursor", "")])

    async def scenario() -> None:
        app = web.Application()
        app.router.add_get("/api/v1/sessions", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        progress = GatewayProgress(url, token, None, 0.02, moved.append)
        task = asyncio.create_task(progress.run())
        await until(lambda: len(asked) >= 6)
        assert progress.known("chemistry/a") == Progress(3, -1.5, 0.2)
        assert progress.known("chemistry/b") == Progress(3, None, None)
        assert progress.known("chemistry/odd") is None
        assert moved == ["chemistry/a", "chemistry/b"], "told once, although asked again and again"
        assert set(asked) == {("Bearer secret", "Running")}
        pages[""]["items"][0]["iterations"] = 4
        await until(lambda: len(moved) == 3)
        task.cancel()
        await runner.cleanup()

    run(scenario)


def test_charges_of_a_session_are_asked_for_since_it_began(token: Path):
    asked: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(dict(request.query))
        if request.query["tenant"] == "away":
            raise web.HTTPServiceUnavailable
        rows = [
            {"session": "chemistry/a", "shots": 4096, "qpu_s": 1.5, "cpu_s": 9.0},
            {"session": "chemistry/b", "shots": 1, "qpu_s": 0.1, "cpu_s": 9.0},
        ]
        return web.json_response({"items": rows})

    async def scenario() -> None:
        app = web.Application()
        app.router.add_get("/api/v1/usage", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        progress = GatewayProgress(url, token, None, 1.0, lambda key: None)
        assert await progress.charged("chemistry/a", 1.8e9) == Charged(4096, 1.5)
        assert await progress.charged("chemistry/c", 1.8e9) is None
        assert await progress.charged("away/a", 1.8e9) is None
        assert asked[0] == {"by": "session", "tenant": "chemistry", "start": "1800000000.0"}
        await runner.cleanup()

    run(scenario)


class Taking(journal_pb2_grpc.GatewayServicer):
    """Takes reports as the gateway reads them; refuses while told to."""

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.away = False
        self.refused = 0

    async def Report(self, request, context):  # noqa: N802
        if self.away:
            self.refused += 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "back soon")
        assert request.token == "secret"
        self.taken += [read_report(body) for body in request.reports]
        return journal_pb2.ReportReply(taken=len(request.reports))


def test_only_what_changed_is_reported_and_again_until_it_is_taken(token: Path, monkeypatch):
    monkeypatch.setattr("efaas_operator.services.reports._EVERY_S", 0.05)
    waits = {"state": "Pending", "reason": "WaitingForSlot: all taken", "device": "", "queue_position": 12}
    now: dict[str, dict[str, Any]] = {"chemistry/a": waits, "chemistry/b": {**waits, "queue_position": 13}}

    async def scenario() -> None:
        taking = Taking()
        server = grpc.aio.server()
        journal_pb2_grpc.add_GatewayServicer_to_server(taking, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        reports = GatewayReports(Gateway(stream=f"127.0.0.1:{port}"), token, lambda: now)
        task = asyncio.create_task(reports.run())
        await until(lambda: len(taking.taken) == 2)
        assert [(each.name, each.queue_position) for each in taking.taken] == [
            ("chemistry/a", 12),
            ("chemistry/b", 13),
        ]
        taking.away = True
        now["chemistry/a"] = {"state": "Placed", "reason": "Placed", "device": "perth", "queue_position": 0}
        await until(lambda: taking.refused >= 2)
        taking.away = False
        await until(lambda: len(taking.taken) == 3)
        assert (taking.taken[2].name, taking.taken[2].device) == ("chemistry/a", "perth")
        task.cancel()
        await server.stop(None)

    run(scenario)
