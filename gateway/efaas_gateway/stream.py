"""The gRPC service: journals, reports, accounts; see `journal.proto`.

A journal's stream reads ahead of the disk: records are handed to the `Committer` as they come and
acknowledged in order as they are committed, so a writer may send its next record without waiting. How much
may be under way for one stream is bounded; a writer that sends faster is slowed down by gRPC's own flow
control.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from efaas.accounts.message import ACCOUNTS_EVERY_S
from efaas.api.wire import journal_pb2 as wire
from efaas.api.wire import journal_pb2_grpc
from efaas.errors import EfaasError, InputError
from efaas_gateway.access import Access, Forbidden, Unauthenticated
from efaas_gateway.accounts import Accounts
from efaas_gateway.commit import Committer
from efaas_gateway.reports import TenantReport, read_report, take_report
from efaas_gateway.store import Append, Fenced, JournalHead, OutOfOrder, Store, StoreUnavailable
from efaas_gateway.store.derive import Derived
from efaas_gateway.store.journals import open_journal, read_journal, replace_all
from efaas_gateway.store.pending import derive_pending
from efaas_gateway.store.tables import journals

logger = logging.getLogger(__name__)

PROTOCOL = 1
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_UNDER_WAY = 64
_CHUNK_BYTES = 1024 * 1024
_MAX_NAME = 400

_CODES: dict[type[EfaasError], int] = {
    Fenced: wire.FENCED,
    OutOfOrder: wire.OUT_OF_ORDER,
    Unauthenticated: wire.UNAUTHENTICATED,
    Forbidden: wire.UNAUTHENTICATED,
    StoreUnavailable: wire.STORE_UNAVAILABLE,
}


class GatewayService(journal_pb2_grpc.GatewayServicer):
    """Serves writers.

    Args:
        store: to read from.
        committer: to write with.
        access: who may write.
        accounts: what tenants used.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        committer: Committer,
        access: Access,
        accounts: Accounts,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._committer = committer
        self._access = access
        self._accounts = accounts
        self._clock = clock
        # Writers whose streams are open here, by journal: (epoch, writer).
        self._living: dict[tuple[str, str], dict[tuple[int, str], int]] = {}

    # --- journals -------------------------------------------------------------------------------------

    async def Journal(  # noqa: N802
        self, requests: AsyncIterator[wire.JournalRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[wire.JournalReply]:
        """One journal's stream."""
        del context
        head: JournalHead | None = None
        try:
            head, opened = await self._open(requests)
            yield wire.JournalReply(opened=opened)
            async for reply in self._appended(requests, head):
                yield reply
        except EfaasError as error:
            yield wire.JournalReply(refused=_refusal(error))
        finally:
            if head is not None:
                self._left(head)

    async def _open(self, requests: AsyncIterator[wire.JournalRequest]) -> tuple[JournalHead, wire.Opened]:
        first = await anext(aiter(requests), None)
        if first is None or first.WhichOneof("message") != "open":
            raise InputError("the first message must be Open", place="open")
        told = first.open
        if told.protocol != PROTOCOL:
            raise InputError(f"speaks version {told.protocol}, the gateway speaks {PROTOCOL}", place="open")
        kind, name = _subject(told.subject)
        if not 8 <= len(told.writer) <= 64:
            raise InputError("the writer's id must have 8 to 64 characters", place="open.writer")
        # In a cluster a session's epoch comes from its VQASession: whoever asks for "the next one" has none.
        await self._access.writer(told.token, kind, name, -1 if told.next_epoch else told.lease_epoch)

        def take(connection: Any) -> JournalHead:
            return open_journal(
                connection,
                kind,  # type: ignore[arg-type]
                name,
                tenant=name.partition("/")[0] if kind == "session" else "",
                lease_epoch=None if told.next_epoch else told.lease_epoch,
                writer=told.writer,
                now=self._clock(),
                may_take=lambda epoch, writer: (epoch, writer) not in self._living.get((kind, name), {}),
            )

        head = await self._committer.transact(take)
        living = self._living.setdefault((kind, name), {})
        owner = (head.lease_epoch, head.writer)
        living[owner] = living.get(owner, 0) + 1
        return head, wire.Opened(
            lease_epoch=head.lease_epoch,
            generation=head.generation,
            first=head.first,
            length=head.length,
        )

    def _left(self, head: JournalHead) -> None:
        key, owner = (head.kind, head.name), (head.lease_epoch, head.writer)
        living = self._living[key]
        living[owner] -= 1
        if not living[owner]:
            del living[owner]
        if not living:
            del self._living[key]

    async def _appended(
        self, requests: AsyncIterator[wire.JournalRequest], head: JournalHead
    ) -> AsyncIterator[wire.JournalReply]:
        """Hand records over as they come; yield acknowledgements in order."""
        under_way: asyncio.Queue[_UnderWay | None] = asyncio.Queue(_UNDER_WAY)
        reading = asyncio.create_task(self._read(requests, head, under_way))
        try:
            while (item := await under_way.get()) is not None:
                fault = await item.committed
                under_way.task_done()
                if fault is not None:
                    raise fault
                # One acknowledgement stands for all before it.
                if not (under_way.qsize() and _is_done(under_way)):
                    yield wire.JournalReply(
                        acknowledged=wire.Acknowledged(generation=item.generation, length=item.length)
                    )
            await reading
        finally:
            reading.cancel()
            while not under_way.empty():
                left = under_way.get_nowait()
                if left is not None:
                    left.committed.add_done_callback(_heard)

    async def _read(
        self,
        requests: AsyncIterator[wire.JournalRequest],
        head: JournalHead,
        under_way: asyncio.Queue[_UnderWay | None],
    ) -> None:
        generation = head.generation
        try:
            async for request in requests:
                kind = request.WhichOneof("message")
                if kind == "append":
                    first, bodies = request.append.sequence, request.append.records
                    if not bodies:
                        continue
                    committed = self._committer.hand_in(
                        [
                            Append(head.id, head.lease_epoch, head.writer, first + index, body)
                            for index, body in enumerate(bodies)
                        ]
                    )
                    length = first + len(bodies)
                elif kind == "replace":
                    # What was appended before must be in, or refused, first.
                    await under_way.join()
                    generation, length = request.replace.generation, len(request.replace.records)
                    committed = asyncio.ensure_future(self._replace(head, request.replace))
                else:
                    raise InputError("only Append and Replace may follow Open", place="stream")
                await under_way.put(_UnderWay(committed, generation, length))
        except EfaasError as error:
            refused: asyncio.Future[EfaasError | None] = asyncio.get_running_loop().create_future()
            refused.set_result(error)
            await under_way.put(_UnderWay(refused, generation, 0))
        await under_way.put(None)

    async def _replace(self, head: JournalHead, told: wire.Replace) -> EfaasError | None:
        def replace(connection: Any) -> Derived:
            # What the records that go say must be known before they are gone.
            derived = derive_pending(connection, [head.id], now=self._clock())
            replace_all(
                connection,
                head.id,
                head.lease_epoch,
                head.writer,
                told.generation,
                told.records,
                self._clock(),
            )
            return derived

        await self._committer.transact(replace)
        return None

    # --- reading, reports, accounts -------------------------------------------------------------------

    async def Read(  # noqa: N802
        self, request: wire.ReadRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[wire.Records]:
        """A journal's records."""
        try:
            kind, name = _subject(request.subject)
            await self._access.writer(request.token, kind, name)
            start = request.start
            while True:
                chunk = await asyncio.to_thread(self._chunk, kind, name, start)
                if not chunk:
                    return
                yield wire.Records(sequence=chunk[0][0], records=[body for _, body in chunk])
                start = chunk[-1][0] + 1
        except EfaasError as error:
            await context.abort(_status(error), str(error))

    def _chunk(self, kind: str, name: str, start: int) -> list[tuple[int, bytes]]:
        with self._store.read() as connection:
            journal = connection.execute(
                journals.select()
                .with_only_columns(journals.c.id)
                .where(journals.c.kind == kind, journals.c.name == name)
            ).scalar()
            chunk: list[tuple[int, bytes]] = []
            size = 0
            if journal is not None:
                for sequence, body in read_journal(connection, journal, start):
                    chunk.append((sequence, body))
                    size += len(body)
                    if size >= _CHUNK_BYTES:
                        break
            return chunk

    async def Report(  # noqa: N802
        self, request: wire.ReportRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> wire.ReportReply:
        """States, events and weights."""
        try:
            await self._access.writer(request.token, "report", "")
            if len(request.reports) > 10_000:
                raise InputError("more than 10000 in one request", place="reports")
            await self.take(list(request.reports))
        except EfaasError as error:
            await context.abort(_status(error), str(error))
        return wire.ReportReply(taken=len(request.reports))

    async def take(self, bodies: list[bytes]) -> None:
        """Write reports.

        Raises:
            InputError: one is not a report; then none is written.
            StoreUnavailable: the database did not take them.
        """
        reports = [read_report(body) for body in bodies]

        def write(connection: Any) -> Derived:
            derived = Derived()
            for report in reports:
                derived.updates += take_report(connection, report, self._clock()).updates
            return derived

        await self._committer.transact(write)
        for report in reports:
            if isinstance(report, TenantReport):
                self._accounts.set_weight(report.name, report.weight)

    async def Accounts(  # noqa: N802
        self, request: wire.AccountsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[wire.TenantAccounts]:
        """What each tenant used, again and again."""
        try:
            await self._access.writer(request.token, "report", request.device)
        except EfaasError as error:
            await context.abort(_status(error), str(error))
        while True:
            yield wire.TenantAccounts(
                half_life_s=self._accounts.half_life_s,
                accounts=[
                    wire.TenantAccount(
                        tenant=account.tenant,
                        weight=account.weight,
                        cpu_s=account.cpu_s,
                        qpu_s=account.qpu_s,
                        elsewhere_cpu_s=account.elsewhere_cpu_s,
                        elsewhere_qpu_s=account.elsewhere_qpu_s,
                    )
                    for account in self._accounts.all(request.device)
                ],
            )
            await asyncio.sleep(ACCOUNTS_EVERY_S)


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """Records that are being committed, and how far the journal is then."""

    committed: asyncio.Future[EfaasError | None]
    generation: int
    length: int


def _is_done(under_way: asyncio.Queue[_UnderWay | None]) -> bool:
    following = under_way._queue[0]  # type: ignore[attr-defined]
    if following is None or not following.committed.done():
        return False
    return following.committed.exception() is None and following.committed.result() is None


def _heard(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


def _subject(subject: wire.Subject) -> tuple[str, str]:
    if subject.kind not in ("session", "device"):
        raise InputError("must be session or device", place="subject.kind")
    namespace, slash, name = subject.name.partition("/")
    whole = bool(namespace and slash and name) if subject.kind == "session" else bool(namespace) and not slash
    if not whole or len(subject.name) > _MAX_NAME or not subject.name.isprintable():
        wanted = "namespace/name" if subject.kind == "session" else "a device's name"
        raise InputError(f"must be {wanted}", place="subject.name")
    return subject.kind, subject.name


def _refusal(error: EfaasError) -> wire.Refused:
    code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), None)
    if code is None:
        code = wire.BAD_MESSAGE if isinstance(error, InputError) else wire.INTERNAL
    return wire.Refused(code=code, message=error.message, place=error.place, retry=error.retry)  # type: ignore[arg-type]


def _status(error: EfaasError) -> grpc.StatusCode:
    if isinstance(error, Unauthenticated):
        return grpc.StatusCode.UNAUTHENTICATED
    if isinstance(error, Forbidden):
        return grpc.StatusCode.PERMISSION_DENIED
    return grpc.StatusCode.UNAVAILABLE if error.retry else grpc.StatusCode.INVALID_ARGUMENT


def make_server() -> grpc.aio.Server:
    """A gRPC server with our limits."""
    return grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 5000),
        ]
    )
