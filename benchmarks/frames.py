"""Writers of journals that cost next to nothing, so that a load of hundreds leaves the cores to the gateway.

A gRPC client in Python needs 0.2 ms of processor time for each message and its answer; five thousand a second
would be the whole of one core. In a cluster that time is spent on the runners' nodes. Here it would be taken
from the gateway, so these writers speak gRPC's frames (HTTP/2, RFC 9113) themselves: one connection for each
session, one stream on it.
Everything that the gateway answers is read and checked as far as it matters: acknowledgements and refusals.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable

from efaas.api.wire import journal_pb2 as wire

_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_LARGE = 2**30


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _header(name: str, value: str) -> bytes:
    """Literal, never indexed (RFC 7541, 6.2.3)."""
    return b"\x10" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


_HEAD = b"".join(
    _header(name, value)
    for name, value in (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/efaas.journal.v1alpha1.Gateway/Journal"),
        (":authority", "gateway"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    )
)


class Writer(asyncio.Protocol):
    """One session's journal over one connection.

    Args:
        clock: seconds.

    Attributes:
        latencies: wall seconds from sending a record to its acknowledgement.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._transport: asyncio.Transport
        self._rest = b""
        self._message = b""
        self._sent: deque[float] = deque()
        self._has = 0
        self._until = 0
        self._window = self._connection_window = 65_535
        self._unacknowledged = 0
        self._waiting: deque[bytes] = deque()
        self.latencies: list[float] = []
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self._done: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say what HTTP/2 wants said first."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(
            _PREFACE
            + _frame(_SETTINGS, 0, 0, struct.pack(">HI", 4, _LARGE))
            + _frame(_WINDOW, 0, 0, struct.pack(">I", _LARGE))
            + _frame(_HEADERS, 4, 1, _HEAD)
        )

    def open(self, name: str, writer: str, token: str) -> None:
        """Open the journal."""
        subject = wire.Subject(kind="session", name=name)
        message = wire.Open(protocol=1, subject=subject, lease_epoch=1, writer=writer, token=token)
        self._send(wire.JournalRequest(open=message).SerializeToString())

    def append(self, sequence: int, body: bytes) -> None:
        """Send a record."""
        request = wire.JournalRequest(append=wire.Append(sequence=sequence, records=[body]))
        self._sent.append(self._clock())
        self._send(request.SerializeToString())

    def has(self, length: int) -> asyncio.Future[None]:
        """Done when so many records are acknowledged."""
        self._until = length
        if self._has >= length and not self._done.done():
            self._done.set_result(None)
        return self._done

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    def _send(self, message: bytes) -> None:
        self._waiting.append(b"\0" + struct.pack(">I", len(message)) + message)
        self._flush()

    def _flush(self) -> None:
        while self._waiting and len(self._waiting[0]) <= min(self._window, self._connection_window):
            data = self._waiting.popleft()
            self._window -= len(data)
            self._connection_window -= len(data)
            self._transport.write(_frame(_DATA, 0, 1, data))

    def data_received(self, data: bytes) -> None:
        """Take frames."""
        data = self._rest + data
        at = 0
        while len(data) - at >= 9:
            size = int.from_bytes(data[at : at + 3])
            if len(data) - at < 9 + size:
                break
            kind, flags = data[at + 3], data[at + 4]
            stream = int.from_bytes(data[at + 5 : at + 9])
            self._take(kind, flags, stream, data[at + 9 : at + 9 + size])
            at += 9 + size
        self._rest = data[at:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _DATA:
            self._message += payload
            while len(self._message) >= 5:
                size = 5 + int.from_bytes(self._message[1:5])
                if len(self._message) < size:
                    break
                self._hear(wire.JournalReply.FromString(self._message[5:size]))
                self._message = self._message[size:]
        elif kind == _WINDOW:
            more = int.from_bytes(payload)
            if stream:
                self._window += more
            else:
                self._connection_window += more
            self._flush()
        elif kind == _SETTINGS and not flags & 1:
            for start in range(0, len(payload), 6):
                name, value = struct.unpack(">HI", payload[start : start + 6])
                if name == 4:  # the window that each stream begins with
                    self._window += value - 65_535
            self._transport.write(_frame(_SETTINGS, 1, 0, b""))
            self._flush()
        elif kind == _PING and not flags & 1:
            self._transport.write(_frame(_PING, 1, 0, payload))
        elif kind in (_RESET, _GOAWAY):
            self._fail(f"the gateway gave the stream up: frame {kind} {payload!r}")

    def _hear(self, reply: wire.JournalReply) -> None:
        kind = reply.WhichOneof("message")
        if kind == "acknowledged":
            now = self._clock()
            while self._has < reply.acknowledged.length:
                self.latencies.append(now - self._sent.popleft())
                self._has += 1
            if self._until and self._has >= self._until and not self._done.done():
                self._done.set_result(None)
        elif kind == "opened":
            self.opened.set_result(None)
        else:
            self._fail(f"refused: {reply}")

    def connection_lost(self, error: Exception | None) -> None:
        """A connection that ends too early is a fault."""
        if self._has < self._until:
            self._fail(f"the connection was lost: {error}")

    def _fail(self, words: str) -> None:
        for future in (self.opened, self._done):
            if not future.done():
                future.set_exception(RuntimeError(words))
