"""A journal that the gateway keeps: the same promises as a folder's, on a disk that outlives this machine.

`GatewayJournal.append` returns when the record is on the gateway's disk. While the gateway is away, or slower
than `_PATIENCE_S`, it returns when the record is on *this* machine's disk instead (`efaas.journal.buffer`),
and a thread delivers it when the gateway is back. The buffer is bounded: when it is full, `append` waits, and
after `Limits.outage_s` gives up with `GatewayUnavailable`.

Nothing is lost: an operation leaves memory and buffer only when the gateway has acknowledged it. Nothing is
doubled: records are numbered, and after each new connection the gateway says how far it has come. What was
sent and not acknowledged is compared with that and sent again from there.

Another writer may take the journal over at any time; the gateway then refuses this one, and every call raises
`SessionEnded`. What the buffer holds by then was never seen by the other writer and is dropped.

One thread connects and hears the answers, gRPC's own thread sends; callers may come from any thread.
"""

from __future__ import annotations

import contextlib
import json
import queue
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from efaas.errors import EfaasError, InputError, SessionEnded
from efaas.journal.address import GatewayAddress
from efaas.journal.buffer import Buffer, Operation

if TYPE_CHECKING:
    from types import TracebackType


PROTOCOL = 1
MAX_RECORD_BYTES = 16 * 1024 * 1024

_PATIENCE_S = 0.5
"""How long a durable append waits for the gateway before it turns to this machine's disk."""

_BATCH_RECORDS = 256
_BATCH_BYTES = 4 * 1024 * 1024
_LONGEST_BACKOFF_S = 2.0
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.max_send_message_length", 64 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
)


class GatewayUnavailable(EfaasError):
    """The gateway is away for longer than the buffer and the patience last; worth a retry."""

    code = "GatewayUnavailable"
    retry = True


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is held for a gateway that is away."""

    buffer_bytes: int = 64 * 1024 * 1024
    """Bytes of records that are not acknowledged."""
    buffer_records: int = 20_000
    connect_s: float = 60.0
    """Wall seconds that opening waits for the gateway."""
    outage_s: float = 300.0
    """Wall seconds that an append waits for room in a full buffer."""


DEFAULT_LIMITS = Limits()


class GatewayJournal:
    """The journal of a session or a device, kept by the gateway; see the module's text.

    Args:
        endpoint: ``host:port`` of the gateway's stream, or all about reaching it.
        kind: ``session`` or ``device``.
        name: ``namespace/name`` of the session, or the device's name.
        lease_epoch: of this writer; None: one above the newest.
        buffer: folder on this machine's disk, of this journal alone.
        token: admits to the gateway, or a function that gives it, for tokens that are renewed; empty: what
            the address says.
        limits: how much is held while the gateway is away.

    Attributes:
        lease_epoch: under which this writer owns the journal.

    Raises:
        SessionEnded: a newer lease epoch is known, or a living writer has this one.
        GatewayUnavailable: it could not be reached.
        InputError: the gateway refuses for another reason.
    """

    def __init__(
        self,
        endpoint: str | GatewayAddress,
        kind: str,
        name: str,
        *,
        buffer: str | Path,
        lease_epoch: int | None = 0,
        token: str | Callable[[], str] = "",
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        from efaas.api.wire import journal_pb2, journal_pb2_grpc

        self._wire: Any = journal_pb2
        address = endpoint if isinstance(endpoint, GatewayAddress) else GatewayAddress(endpoint)
        self._place = f"{kind} {name} at {address.endpoint}"
        self._subject = journal_pb2.Subject(kind=kind, name=name)
        self._token = token if callable(token) else (lambda: token) if token else address.token
        self._limits = limits
        self._writer = secrets.token_hex(12)
        self._asked_epoch = lease_epoch
        self.lease_epoch = lease_epoch or 0
        self._buffer = Buffer(Path(buffer), f"{kind} {name}")
        self._changed = threading.Condition()
        self._pending: deque[Operation] = deque()
        self._pending_bytes = 0
        self._acknowledged = (-1, 0)  # generation, length
        self._generation = 0
        self._length = 0
        self._opened = False
        self._connected = False
        self._fault: EfaasError | None = None
        self._closing = False
        self._last_error = "no answer"
        self._outbox: queue.SimpleQueue[Any] | None = None
        self._sent = 0
        """Of the operations that are pending, how many have gone out on the present connection."""
        self._channel = address.channel(_CHANNEL_OPTIONS)
        self._stub: Any = journal_pb2_grpc.GatewayStub(self._channel)  # type: ignore[no-untyped-call]
        self._thread = threading.Thread(target=self._keep_connected, name=f"journal {name}", daemon=True)
        self._thread.start()
        try:
            self._wait_until_opened()
        except BaseException:
            self._give_up()
            raise

    def _wait_until_opened(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._opened or self._fault, self._limits.connect_s)
            self._must_be_ours()
            if not self._opened:
                raise GatewayUnavailable(
                    f"did not answer within {self._limits.connect_s:g} s ({self._last_error}); "
                    "is the gateway running?",
                    place=self._place,
                )

    # --- what callers do ------------------------------------------------------------------------------

    def append(self, record: Mapping[str, Any], *, durable: bool = True, sequence: int | None = None) -> int:
        """Add a record and return its sequence number; see `Journal.append`.

        Raises:
            InputError: the record is not JSON, is too large, or does not agree with `sequence`.
            SessionEnded: another writer has taken the journal over.
            GatewayUnavailable: the gateway is away and the buffer is full.
            OSError: the gateway is away and this machine's disk did not take the record.
        """
        body = _body(record, self._place)
        with self._changed:
            self._must_be_ours()
            if sequence is not None and sequence != self._length:
                return self._again(body, sequence, durable)
            self._wait_for_room(len(body))
            number = self._length
            if sequence is not None and sequence != number:
                return self._again(body, sequence, durable)
            operation = Operation(self._generation, number, body)
            self._length += 1
            self._add(operation)
            if durable:
                self._make_durable()
            return number

    def _again(self, body: bytes, sequence: int, durable: bool) -> int:
        if not 0 <= sequence < self._length:
            raise InputError(
                f"record {sequence} is out of order; the next one is {self._length}", place=self._place
            )
        known = self._body_of(sequence)
        if known != body:
            raise InputError(f"record {sequence} is there already with other content", place=self._place)
        if durable:
            self._make_durable()
        return sequence

    def _body_of(self, sequence: int) -> bytes:
        for operation in self._pending:
            if operation.bodies is None and operation.sequence == sequence:
                return operation.body
        for number, body in self._read(sequence):
            if number == sequence:
                return body
        raise InputError(f"record {sequence} is not kept any more", place=self._place)

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the records that are in the journal now, oldest first.

        Raises:
            GatewayUnavailable: the gateway could not be asked.
        """
        with self._changed:
            self._must_be_ours()
            pending = list(self._pending)
            acknowledged = self._acknowledged[1]
        replaced = next((index for index, op in enumerate(pending) if op.bodies is not None), None)
        if replaced is None:
            for number, body in self._read(0):
                if number < acknowledged:
                    yield json.loads(body)
        for operation in pending[replaced or 0 :]:
            for body in (operation.body,) if operation.bodies is None else operation.bodies:
                yield json.loads(body)

    def _read(self, start: int) -> Iterator[tuple[int, bytes]]:
        import grpc

        request = self._wire.ReadRequest(subject=self._subject, start=start, token=self._token())
        until = time.monotonic() + self._limits.connect_s
        while True:
            try:
                for chunk in self._stub.Read(request, wait_for_ready=True, timeout=self._limits.connect_s):
                    for index, body in enumerate(chunk.records):
                        request.start = chunk.sequence + index + 1
                        yield chunk.sequence + index, body
                return
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > until:
                    raise GatewayUnavailable(
                        f"could not be read: {error.details()}", place=self._place
                    ) from None
                time.sleep(0.2)

    def flush(self) -> None:
        """Return when everything appended is on a disk: the gateway's, or this machine's for delivery."""
        with self._changed:
            self._must_be_ours()
            self._make_durable()

    def delivered(self, timeout_s: float) -> bool:
        """Wait until the gateway has everything; False if it took longer."""
        with self._changed:
            self._changed.wait_for(lambda: not self._pending or self._fault, timeout_s)
            self._must_be_ours()
            return not self._pending

    def replace(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Put these records in place of all others at once and number them from 0."""
        bodies = tuple(_body(record, self._place) for record in records)
        with self._changed:
            self._must_be_ours()
            self._generation += 1
            self._length = len(bodies)
            # What was appended before and is on its way keeps its place before this; what has not been sent
            # has become moot, and would only be written to be dropped.
            self._add(Operation(self._generation, len(bodies), bodies=bodies))
            self._make_durable()

    def __len__(self) -> int:
        return self._length

    def close(self) -> None:
        """Deliver what can be delivered within a few seconds, keep the rest in the buffer, and disconnect."""
        with self._changed:
            if self._closing:
                return
            try:
                if self._fault is None and self._opened:
                    self._changed.wait_for(lambda: not self._pending or self._fault, 5.0)
                    if self._pending and self._fault is None:
                        self._spill()
            finally:
                self._closing = True
        self._give_up()

    def __enter__(self) -> GatewayJournal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- under the lock -------------------------------------------------------------------------------

    def _must_be_ours(self) -> None:
        if self._fault is not None:
            raise self._fault
        if self._closing:
            raise InputError("the journal is closed", place=self._place)

    def _add(self, operation: Operation) -> None:
        self._pending.append(operation)
        self._pending_bytes += operation.size
        self._send_more()

    def _wait_for_room(self, size: int) -> None:
        def is_room() -> bool:
            return (
                self._fault is not None
                or not self._pending
                or (
                    self._pending_bytes + size <= self._limits.buffer_bytes
                    and len(self._pending) < self._limits.buffer_records
                )
            )

        if not self._changed.wait_for(is_room, self._limits.outage_s):
            raise GatewayUnavailable(
                f"is away, and {len(self._pending)} records wait in the full buffer ({self._last_error})",
                place=self._place,
            )
        self._must_be_ours()

    def _make_durable(self) -> None:
        """Return when what is pending is on the gateway's disk or on ours."""
        target = (self._generation, self._length)
        if self._connected:
            self._changed.wait_for(
                lambda: self._acknowledged >= target or self._fault or not self._connected, _PATIENCE_S
            )
        self._must_be_ours()
        if self._acknowledged < target:
            self._spill()

    def _spill(self) -> None:
        unwritten = list(self._pending)[self._buffer.written :]
        if unwritten:
            self._buffer.write(unwritten)

    def _acknowledge(self, generation: int, length: int) -> None:
        done = (generation, length)
        if done <= self._acknowledged:
            return
        self._acknowledged = done
        dropped = 0
        while self._pending:
            first = self._pending[0]
            end = (first.generation, first.sequence + (0 if first.bodies is not None else 1))
            if end > done:
                break
            self._pending.popleft()
            self._pending_bytes -= first.size
            dropped += 1
        self._sent = max(0, self._sent - dropped)
        if self._buffer.written:
            if not self._pending:
                self._buffer.empty()
            else:
                self._buffer.written = max(0, self._buffer.written - dropped) or 0
                if self._buffer.written == 0:
                    self._buffer.empty()
        self._changed.notify_all()

    def _send_more(self) -> None:
        """Put what has not gone out yet into the connection's outbox, many records in one message."""
        if self._outbox is None or not self._connected:
            return
        unsent = [self._pending[index] for index in range(self._sent, len(self._pending))]
        index = 0
        while index < len(unsent):
            operation = unsent[index]
            if operation.bodies is not None:
                message = self._wire.JournalRequest(
                    replace=self._wire.Replace(generation=operation.generation, records=operation.bodies)
                )
                index += 1
            else:
                batch: list[bytes] = []
                size = 0
                while (
                    index < len(unsent)
                    and unsent[index].bodies is None
                    and len(batch) < _BATCH_RECORDS
                    and size < _BATCH_BYTES
                ):
                    batch.append(unsent[index].body)
                    size += len(unsent[index].body)
                    index += 1
                message = self._wire.JournalRequest(
                    append=self._wire.Append(sequence=operation.sequence, records=batch)
                )
            self._outbox.put(message)
        self._sent = len(self._pending)

    # --- the thread -----------------------------------------------------------------------------------

    def _keep_connected(self) -> None:
        import grpc

        backoff_s = 0.05
        while not self._closing and self._fault is None:
            began = time.monotonic()
            try:
                self._one_connection()
            except grpc.RpcError as error:
                self._last_error = f"{error.code().name.lower()}: {error.details()}"
            except OSError as error:
                # Emptying the buffer failed: the records are delivered, the copies stay.
                self._last_error = str(error)
            except Exception as error:
                self._fail(EfaasError(f"the journal's connection failed: {error!r}", place=self._place))
            with self._changed:
                self._connected, self._outbox = False, None
                self._changed.notify_all()
                if time.monotonic() - began > 5.0:
                    backoff_s = 0.05
                self._changed.wait_for(lambda: self._closing or self._fault, backoff_s)
            backoff_s = min(2 * backoff_s, _LONGEST_BACKOFF_S)

    def _one_connection(self) -> None:
        outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        outbox.put(
            self._wire.JournalRequest(
                open=self._wire.Open(
                    protocol=PROTOCOL,
                    subject=self._subject,
                    lease_epoch=self.lease_epoch,
                    next_epoch=self._asked_epoch is None and not self._opened,
                    writer=self._writer,
                    token=self._token(),
                )
            )
        )
        call = self._stub.Journal(iter(outbox.get, None))
        self._call = call
        try:
            for reply in call:
                kind = reply.WhichOneof("message")
                with self._changed:
                    if self._closing:
                        return
                    if kind == "opened":
                        self._take_opened(reply.opened)
                        self._connected, self._outbox, self._sent = True, outbox, 0
                        self._acknowledge(reply.opened.generation, reply.opened.length)
                        self._send_more()
                        self._changed.notify_all()
                    elif kind == "acknowledged":
                        self._acknowledge(reply.acknowledged.generation, reply.acknowledged.length)
                    elif kind == "refused":
                        if not reply.refused.retry:
                            self._fail(self._refusal(reply.refused))
                        self._last_error = reply.refused.message
                        return
        finally:
            outbox.put(None)
            call.cancel()

    def _take_opened(self, opened: Any) -> None:
        """Hold the gateway's state against ours: the first time we learn, later we must agree."""
        there = (opened.generation, opened.length)
        if not self._opened:
            self.lease_epoch = opened.lease_epoch
            self._generation, self._length = there
            self._acknowledged = (-1, 0)
            self._take_leftover(opened)
            self._opened = True
        elif there < self._acknowledged or there > (self._generation, self._length):
            self._fail(
                InputError(
                    f"the gateway has {opened.length} records where it acknowledged {self._acknowledged[1]}; "
                    "its database was put back to an earlier state, start the session's runner again",
                    place=self._place,
                )
            )

    def _take_leftover(self, opened: Any) -> None:
        """Deliver what an earlier writer left on this disk, unless somebody has gone another way since."""
        leftover = [
            operation
            for operation in self._buffer.leftover
            if operation.generation == opened.generation or operation.bodies is not None
        ]
        if not leftover:
            return
        known = {op.sequence: op.body for op in leftover if op.bodies is None and op.sequence < opened.length}
        here = dict(self._read(min(known))) if known else {}
        if all(here.get(sequence) == body for sequence, body in known.items()):
            for operation in self._buffer.leftover:
                if operation.bodies is not None and operation.generation == self._generation + 1:
                    self._generation, self._length = operation.generation, operation.sequence
                elif operation.bodies is None and (
                    (operation.generation, operation.sequence) == (self._generation, self._length)
                ):
                    self._length += 1
                else:
                    continue
                self._pending.append(operation)
        self._pending_bytes = sum(operation.size for operation in self._pending)
        # They are on disk, in this order, until all of them are delivered.
        self._buffer.written = len(self._pending)
        if not self._pending:
            self._buffer.empty()

    def _fail(self, error: EfaasError) -> None:
        with self._changed:
            if self._fault is None:
                self._fault = error
            self._changed.notify_all()

    def _refusal(self, refused: Any) -> EfaasError:
        place = refused.place or self._place
        if refused.code == self._wire.FENCED:
            with contextlib.suppress(OSError):
                self._buffer.empty()
            return SessionEnded(refused.message, place=place)
        return InputError(refused.message, place=place)

    def _give_up(self) -> None:
        with self._changed:
            self._closing = True
            outbox, call = self._outbox, getattr(self, "_call", None)
            self._changed.notify_all()
        if outbox is not None:
            outbox.put(None)
        if call is not None:
            call.cancel()
        self._thread.join(5.0)
        self._channel.close()
        self._buffer.close()


def _body(record: Mapping[str, Any], place: str) -> bytes:
    try:
        body = json.dumps(dict(record), separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"the record cannot be written as JSON: {error}", place=place) from None
    if len(body) > MAX_RECORD_BYTES:
        raise InputError(
            f"the record takes {len(body)} bytes, more than the {MAX_RECORD_BYTES} allowed", place=place
        )
    return body
