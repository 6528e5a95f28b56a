"""Streams of clients: bytes in, requests to the host, messages out.

The handler is thin: read, `decode` (which bounds and checks), call the host, answer a refusal. It takes raw
    bytes from
gRPC, so that bytes which are no message get an answer of the protocol rather than a broken stream. A fault
of the program in handling one message ends that stream with INTERNAL and nothing else.

Messages of one stream are handled in order; while a circuit is prepared, later messages of that stream
wait, and results still go out. What goes out is queued for the client up to a bound; a client that does not
read loses its stream, not its results.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from efaas.api.wire import qpu_pb2 as wire
from efaas_qpu.authentication import LONGEST_TOKEN
from efaas_qpu.description import calibrations, describe
from efaas_qpu.host import QpuHost
from efaas_qpu.requests import (
    Acknowledge,
    Cancel,
    Circuit,
    Close,
    Hello,
    Observable,
    Refused,
    Request,
    Submission,
    decode,
    decode_fence,
    session_name,
)
from efaas_qpu.sessions import Session

logger = logging.getLogger(__name__)

SERVICE = "efaas.qpu.v1alpha1.Qpu"

Asked = TypeVar("Asked", bound=Message)
Checked = TypeVar("Checked")

_FLUSH_S = 1.0
"""Wall seconds that a client has to read what it was sent before its stream ends."""


class StreamOutlet:
    """The outgoing half of a stream; see `efaas_qpu.sessions.Outlet`."""

    def __init__(self, host: QpuHost, handler: asyncio.Task[Any]) -> None:
        self._host = host
        self._handler = handler
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._filled = asyncio.Event()
        self.is_ended = False
        """Whether the host ended the stream; its handler was cancelled for that."""

    def send(self, message: wire.ServerMessage) -> None:
        """Queue a message; past the bounds of what may wait the stream is ended."""
        if self.is_ended:
            return
        self._queue(message)
        limits = self._host.limits
        if self._waiting_bytes > limits.waiting_bytes or len(self._waiting) > limits.waiting_messages:
            logger.warning("a client does not read; its stream is dropped")
            self._waiting.clear()
            self._waiting_bytes = 0
            self.end(None)

    def _queue(self, message: wire.ServerMessage) -> None:
        if message.HasField("error"):
            code = wire.ErrorCode.Name(message.error.code)
            self._host.metrics.stream_errors.labels(code).inc()
        data = message.SerializeToString()
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        self._filled.set()

    def end(self, last_word: wire.ServerMessage | None) -> None:
        """End the stream after what is queued and `last_word`."""
        if self.is_ended:
            return
        if last_word is not None:
            self._queue(last_word)
        self.is_ended = True
        self._handler.cancel()

    async def write_all(self, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        """Write what is queued, for ever."""
        while True:
            while self._waiting:
                data = self._waiting[0]
                await context.write(data)
                # Only now: a flush waits for the deque to run empty.
                self._waiting.popleft()
                self._waiting_bytes -= len(data)
            self._filled.clear()
            await self._filled.wait()

    async def flush(self, writer: asyncio.Task[None]) -> None:
        """Wait until what is queued is written, the writer fails, or the client takes too long."""
        deadline = asyncio.get_running_loop().time() + _FLUSH_S
        while self._waiting and not writer.done() and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.002)


class QpuService:
    """The gRPC service; see the module's text."""

    def __init__(self, host: QpuHost) -> None:
        self._host = host
        self._streams = 0

    def handlers(self) -> grpc.GenericRpcHandler[Any, Any]:
        """What a gRPC server registers."""
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            # Raw bytes both ways: see the module's text.
            "Session": grpc.stream_stream_rpc_method_handler(self.session),
            "Describe": grpc.unary_unary_rpc_method_handler(self.describe),
            "Calibrations": grpc.unary_unary_rpc_method_handler(self.calibrations),
            "Calibrate": grpc.unary_unary_rpc_method_handler(self.calibrate),
            "Cordon": grpc.unary_unary_rpc_method_handler(self.cordon),
            "Fence": grpc.unary_unary_rpc_method_handler(self.fence),
            "CloseSession": grpc.unary_unary_rpc_method_handler(self.close_session),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def describe(self, request: bytes, context: Any) -> bytes:
        """The device as it is now; of sessions only to who may hear of them."""
        try:
            asked = wire.DescribeRequest.FromString(request)
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "this is no DescribeRequest")
            raise AssertionError("abort raises") from None
        everything = self._host.tells_everyone
        token = _bearer(context)
        if not everything and token:
            with contextlib.suppress(Refused):
                await self._host.admit_keeper(token)
                everything = True
        return describe(self._host, asked.sessions, everything=everything).SerializeToString()

    async def calibrations(self, request: bytes, context: Any) -> bytes:
        """What past calibrations found."""
        asked = await self._from_keeper(wire.CalibrationsRequest, request, context)
        return calibrations(self._host, asked.limit).SerializeToString()

    async def calibrate(self, request: bytes, context: Any) -> bytes:
        """Ask for a full calibration."""
        await self._from_keeper(wire.CalibrateRequest, request, context)
        answer = wire.CalibrateAnswer(epoch=self._host.living.epoch)
        self._host.calibrate()
        return answer.SerializeToString()

    async def cordon(self, request: bytes, context: Any) -> bytes:
        """Close the device to new sessions or to all work, or open it."""
        asked = await self._from_keeper(wire.CordonRequest, request, context)
        if asked.availability not in wire.Availability.values():
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"{asked.availability} is no Availability; give 0, 1 or 2"
            )
        self._host.cordon(asked.availability)
        return wire.CordonAnswer(availability=self._host.availability).SerializeToString()

    async def fence(self, request: bytes, context: Any) -> bytes:
        """Shut a runner out; answered when that is on disk."""
        asked = await self._checked(decode_fence, wire.FenceRequest, request, context)
        least = self._host.fence(asked.session, asked.lease_epoch, asked.uid)
        await asyncio.to_thread(self._host.ledger.flush)
        return wire.FenceAnswer(least_epoch=least).SerializeToString()

    async def close_session(self, request: bytes, context: Any) -> bytes:
        """A session is over."""

        def checked(asked: wire.CloseSessionRequest) -> str:
            return session_name(asked.session)

        name = await self._checked(checked, wire.CloseSessionRequest, request, context)
        return wire.CloseSessionAnswer(jobs=self._host.end_session(name)).SerializeToString()

    async def _checked(
        self, check: Callable[[Asked], Checked], kind: type[Asked], request: bytes, context: Any
    ) -> Checked:
        """A request of who keeps the device, with values that can be; anything else ends the call."""
        asked = await self._from_keeper(kind, request, context)
        try:
            return check(asked)
        except Refused as refusal:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{refusal.place}: {refusal.message}")
            raise AssertionError("abort raises") from None

    async def _from_keeper(self, kind: type[Asked], request: bytes, context: Any) -> Asked:
        """Decode a request of who keeps the device; anything else ends the call."""
        try:
            await self._host.admit_keeper(_bearer(context))
            return kind.FromString(request)
        except Refused as refusal:
            unavailable = grpc.StatusCode.UNAVAILABLE
            code = unavailable if refusal.retry else grpc.StatusCode.UNAUTHENTICATED
            await context.abort(code, refusal.message)
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"this is no {kind.__name__}")
        raise AssertionError("abort raises")

    async def session(self, requests: Any, context: Any) -> None:  # noqa: ARG002
        """One client's stream, from hello to its end."""
        host = self._host
        handler = asyncio.current_task()
        assert handler is not None
        if self._streams >= host.limits.streams:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"{host.limits.streams} streams are open already"
            )
        self._streams += 1
        host.metrics.streams.inc()
        outlet = StreamOutlet(host, handler)
        writer = asyncio.create_task(outlet.write_all(context))
        session: Session | None = None
        try:
            session = await self._greet(context, outlet)
            while await self._handle_next(context, session, outlet):
                pass
        except Refused as refusal:
            outlet.send(refusal.to_wire())
        except asyncio.CancelledError:
            if not outlet.is_ended:
                raise
            # Ended by the host: the cancellation was its way to interrupt the reading, and is over.
            handler.uncancel()
        except Exception:
            logger.exception("a stream ended by a fault of the server")
            error = wire.Error(code=wire.INTERNAL, message="the server failed on this message", retry=True)
            outlet.send(wire.ServerMessage(error=error))
        finally:
            if session is not None:
                host.leave(session, outlet)
            self._streams -= 1
            host.metrics.streams.dec()
            with contextlib.suppress(asyncio.CancelledError):
                await outlet.flush(writer)
            writer.cancel()
            await asyncio.wait({writer})
            if not writer.cancelled():
                writer.exception()  # the client is gone; nobody needs to hear of it

    async def _greet(self, context: Any, outlet: StreamOutlet) -> Session:
        try:
            data = await asyncio.wait_for(context.read(), self._host.limits.hello_s)
        except TimeoutError:
            raise Refused(wire.BAD_MESSAGE, "no hello came in time", place="hello", retry=True) from None
        if not isinstance(data, bytes):
            raise Refused(wire.BAD_MESSAGE, "the stream ended before hello", place="hello", retry=True)
        hello = decode(data, None, self._host.limits)
        assert isinstance(hello, Hello)
        return await self._host.open(hello, outlet)

    async def _handle_next(self, context: Any, session: Session, outlet: StreamOutlet) -> bool:
        """Handle one message; whether the stream goes on."""
        data = await context.read()
        if not isinstance(data, bytes):  # grpc.aio.EOF
            return False
        try:
            request = decode(data, session.name, self._host.limits)
        except Refused as refusal:
            return _go_on(refusal, outlet)
        try:
            return await self._carry_out(request, session)
        except Refused as refusal:
            return _go_on(refusal, outlet)
        except Exception:
            # A job that this program fails on must not be sent again and again over new streams. If it is the
            # log that failed, another server may do better.
            if not isinstance(request, Submission) or self._host.ledger.fault is not None:
                raise
            logger.exception("job %s ended by a fault of the server", request.job_id)
            return _go_on(
                Refused(wire.INTERNAL, "the server failed on this job; see its log", job_id=request.job_id),
                outlet,
            )

    async def _carry_out(self, request: Request, session: Session) -> bool:
        host = self._host
        match request:
            case Submission():
                host.submit(session, request)
            case Acknowledge(job_id):
                host.acknowledge(session, job_id)
            case Cancel(job_id):
                host.cancel(session, job_id)
            case Circuit():
                await host.register_circuit(session, request)
            case Observable():
                await host.register_observable(session, request)
            case Close():
                host.close_session(session)
                return False
            case Hello():
                raise AssertionError("decode lets one hello through")
        return True


def _bearer(context: Any) -> str:
    """The token of a call's metadata; empty if it has none."""
    token = ""
    for name, value in context.invocation_metadata() or ():
        if name == "authorization" and str(value).startswith("Bearer "):
            token = str(value).removeprefix("Bearer ").strip()
    return token[:LONGEST_TOKEN]


def _go_on(refusal: Refused, outlet: StreamOutlet) -> bool:
    """Answer a refusal that concerns a job or a registration; the stream goes on.

    Raises:
        Refused: it concerns the stream, which ends.
    """
    if refusal.ends_stream:
        raise refusal
    outlet.send(refusal.to_wire())
    return True
