"""Who connects is answered in time, whatever happens below."""

from __future__ import annotations

import asyncio

import pytest

import efaas.client.stream as stream_module
from efaas.client.exchange import SessionIdentity
from efaas.client.stream import QpuStream
from efaas.errors import QpuUnavailable


def _connect(stream: QpuStream) -> None:
    async def connect() -> None:
        try:
            await stream.connect()
        finally:
            await stream.close()

    asyncio.run(connect())


def test_a_connection_that_breaks_in_an_unforeseen_way_is_unavailable(monkeypatch):
    async def broken(self: QpuStream, deadline_s: float) -> tuple[bool, str]:
        raise RuntimeError("batch failed")

    monkeypatch.setattr(QpuStream, "_one_connection", broken)
    with pytest.raises(QpuUnavailable, match="batch failed"):
        _connect(QpuStream("127.0.0.1:1", SessionIdentity("a/b")))


def test_a_call_that_does_not_end_is_given_up(monkeypatch):
    async def hanging(self: QpuStream, deadline_s: float) -> tuple[bool, str]:
        await asyncio.Event().wait()
        return False, ""

    monkeypatch.setattr(stream_module, "_MARGIN_S", 0.05)
    monkeypatch.setattr(QpuStream, "_one_connection", hanging)
    with pytest.raises(QpuUnavailable, match=r"no answer for 0\.1 s"):
        _connect(QpuStream("127.0.0.1:1", SessionIdentity("a/b"), patience_s=0.1))
