"""Calls to an API server that refuses, hesitates and breaks off."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiohttp import web
from efaas_operator.kubernetes import (
    AlreadyExists,
    Conflict,
    Forbidden,
    Invalid,
    KubernetesApi,
    NotFound,
    Unavailable,
)
from efaas_operator.metrics import Metrics

from efaas.kubernetes.connection import Connection


class Server:
    """Answers with what it is given, one after the other; the last one for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[web.Request] = []
        self.moments: list[float] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.asked.append(request)
        self.moments.append(time.monotonic())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer == "drop":
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        status, body, headers = answer
        return web.json_response(body, status=status, headers=headers)


def call(server: Server, use, **options: Any):
    metrics = Metrics()

    async def scenario():
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", server.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        connection = Connection(f"http://127.0.0.1:{runner.addresses[0][1]}", None, token="secret")
        try:
            async with KubernetesApi(connection, metrics, **options) as api:
                return await use(api)
        finally:
            await runner.cleanup()

    try:
        return asyncio.run(asyncio.wait_for(scenario(), 30)), metrics
    except Exception as error:
        error.metrics = metrics  # type: ignore[attr-defined]
        raise


GOOD = (200, {"kind": "Pod", "metadata": {"name": "a"}}, {})


@pytest.mark.parametrize("trouble", ["drop", (500, {}, {}), (503, {"message": "later"}, {}), (429, {}, {})])
def test_what_may_pass_is_tried_again(trouble):
    server = Server(trouble, trouble, GOOD)
    found, metrics = call(server, lambda api: api.get("/api/v1/namespaces/x/pods/a"))
    assert found["metadata"]["name"] == "a"
    assert server.asked[0].headers["Authorization"] == "Bearer secret"
    code = "0" if trouble == "drop" else str(trouble[0])
    labels = {"verb": "get", "code": code}
    assert metrics.registry.get_sample_value("efaas_operator_api_calls_total", labels) >= 1


def test_the_server_s_wish_to_be_left_alone_is_honoured():
    server = Server((429, {}, {"Retry-After": "1"}), GOOD)
    call(server, lambda api: api.get("/x"))
    assert server.moments[1] - server.moments[0] >= 1.0


def test_it_gives_up_in_time():
    server = Server((503, {"message": "etcd is away"}, {}))
    with pytest.raises(Unavailable, match="etcd is away"):
        call(server, lambda api: api.get("/x"), patience_s=0.5)
    with pytest.raises(Unavailable):
        call(Server((429, {}, {"Retry-After": "3600"})), lambda api: api.get("/x"), patience_s=0.5)


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (404, "NotFound", NotFound),
        (409, "Conflict", Conflict),
        (409, "AlreadyExists", AlreadyExists),
        (403, "Forbidden", Forbidden),
        (422, "Invalid", Invalid),
    ],
)
def test_refusals_are_told_apart_and_not_repeated(status, reason, kind):
    server = Server((status, {"reason": reason, "message": "no"}, {}))
    with pytest.raises(kind) as caught:
        call(server, lambda api: api.create("/x", {}))
    assert (caught.value.status, caught.value.reason) == (status, reason)
    assert caught.value.place == "/x"
    assert len(server.asked) == 1


def test_a_list_is_read_page_by_page_and_its_items_say_what_they_are():
    def page(name: str, token: str) -> tuple[int, dict[str, Any], dict[str, str]]:
        metadata = {"resourceVersion": "7", "continue": token}
        items = [{"metadata": {"name": name}}]
        return 200, {"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items}, {}

    server = Server(page("a", "more"), page("b", ""))
    (found, version), _ = call(server, lambda api: api.list_all("/api/v1/pods", {"labelSelector": "x=y"}))
    assert [(each["kind"], each["metadata"]["name"]) for each in found] == [("Pod", "a"), ("Pod", "b")]
    assert version == "7"
    assert [request.query.get("continue") for request in server.asked] == [None, "more"]
    assert {request.query["labelSelector"] for request in server.asked} == {"x=y"}


def test_what_is_not_there_need_not_be_deleted():
    found, _ = call(Server((404, {}, {})), lambda api: api.delete("/x", uid="1"))
    assert found is False
