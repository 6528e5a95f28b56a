"""A watch against an API server that behaves badly on purpose."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from efaas_scheduler.connection import Connection
from efaas_scheduler.watch import Watch

Answer = Callable[[web.Request, web.StreamResponse], Awaitable[None]]


def thing(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


def event(kind: str, found: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": found}).encode() + b"\n"


class Story:
    """An API server that gives prepared answers, and a watch that tells what it understood."""

    def __init__(self) -> None:
        self.lists: list[Any] = []
        self.watches: list[Any] = []
        self.versions: list[str] = []
        self.told: list[tuple[str, Any]] = []
        self.done = asyncio.Event()
        self.watch = Watch("/things", self._listed, self._changed, relist_s=600.0)

    def _listed(self, objects: list[Any]) -> None:
        self.told.append(("list", [each["metadata"]["name"] for each in objects]))

    def _changed(self, kind: str, found: Any) -> None:
        self.told.append((kind, found["metadata"]["name"]))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            answer = self.lists.pop(0)
            return web.json_response(answer) if isinstance(answer, dict) else web.Response(status=answer)
        self.versions.append(request.query["resourceVersion"])
        if not self.watches:
            self.done.set()
            await asyncio.sleep(5)
        answer = self.watches.pop(0) if self.watches else []
        if isinstance(answer, int):
            return web.Response(status=answer)
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in answer:
            if piece is None:
                assert request.transport is not None
                request.transport.abort()
                break
            await response.write(piece)
        return response

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        application = web.Application()
        application.router.add_get("/things", self.handle)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        connection = Connection(f"http://127.0.0.1:{runner.addresses[0][1]}", None, "token")
        async with aiohttp.ClientSession() as http:
            task = asyncio.create_task(self.watch.run(http, connection))
            try:
                yield
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await runner.cleanup()


def page(*names: str, version: int = 10, token: str = "") -> dict[str, Any]:
    metadata = {"resourceVersion": str(version)} | ({"continue": token} if token else {})
    return {"metadata": metadata, "items": [thing(name, 1) for name in names]}


def told_by(lists: list[Any], watches: list[Any]) -> Story:
    async def run() -> Story:
        story = Story()
        story.lists, story.watches = lists, watches
        async with story.running():
            await asyncio.wait_for(story.done.wait(), 10)
        return story

    return asyncio.run(run())


def test_a_watch_starts_where_the_list_of_several_pages_ends():
    story = told_by([page("a", token="t"), page("b", version=12)], [])
    assert story.told == [("list", ["a", "b"])]
    assert story.versions == ["12"]
    assert story.watch.synced


def test_a_watch_that_ends_goes_on_from_the_last_event_or_bookmark():
    story = told_by(
        [page("a")],
        [
            [event("MODIFIED", thing("a", 11)), event("BOOKMARK", thing("", 15))],
            [event("DELETED", thing("a", 16))],
        ],
    )
    assert story.told == [("list", ["a"]), ("MODIFIED", "a"), ("DELETED", "a")]
    assert story.versions == ["10", "15", "16"]


def test_an_event_may_come_in_pieces():
    line = event("ADDED", thing("b", 11)) + event("ADDED", thing("c", 12))
    story = told_by([page()], [[line[:7], line[7:90], line[90:]]])
    assert story.told[1:] == [("ADDED", "b"), ("ADDED", "c")]


@pytest.mark.parametrize(
    "gone", [410, [event("ERROR", {"code": 410, "message": "too old"})]], ids=["status", "event"]
)
def test_a_version_that_is_too_old_is_answered_with_a_new_list(gone: Any):
    story = told_by([page("a"), page("b", version=50)], [gone])
    assert story.told == [("list", ["a"]), ("list", ["b"])]
    assert story.versions == ["10", "50"]


def test_a_broken_connection_goes_on_without_a_new_list():
    story = told_by([page("a")], [[event("ADDED", thing("b", 11)), None]])
    assert story.told[:2] == [("list", ["a"]), ("ADDED", "b")]
    assert story.versions == ["10", "11"]


@pytest.mark.parametrize("trouble", [500, 429, [b"no json\n"], [event("ERROR", {"code": 500})]])
def test_any_other_trouble_is_tried_again(trouble: Any):
    story = told_by([page("a")], [trouble])
    assert story.told == [("list", ["a"])]
    assert story.versions == ["10", "10"]
    assert story.watch.restarts == 1


def test_a_list_that_fails_is_tried_again_and_nothing_is_synced_before():
    story = told_by([503, page("a")], [])
    assert story.watch.lists == 1
    assert story.watch.restarts == 1


def test_everything_is_listed_anew_after_a_while():
    async def run() -> Story:
        story = Story()
        story.watch.relist_s = 0.0
        story.lists = [page("a"), page("b", version=20)] + [page("c", version=30)] * 50
        story.watches = [[], []]
        async with story.running():
            await asyncio.wait_for(story.done.wait(), 10)
        return story

    assert asyncio.run(run()).told[:3] == [("list", ["a"]), ("list", ["b"]), ("list", ["c"])]
