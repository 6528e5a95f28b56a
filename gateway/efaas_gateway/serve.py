"""The process `efaas-gateway serve`: one store, the writers' stream and the readers' HTTP, in one event loop.

Order of things: open the store (migrating it), sum the accounts, listen, say where. On the way out nothing
that was acknowledged can be lost, so the stream is simply ended; what is under way is committed first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import grpc.aio
import uvicorn

from efaas.api.wire import journal_pb2_grpc
from efaas.errors import InputError
from efaas_gateway.access import Access
from efaas_gateway.accounts import HALF_LIFE_S, Accounts
from efaas_gateway.api import build_app
from efaas_gateway.api.context import Canceller, RateLimiter
from efaas_gateway.commit import Committer
from efaas_gateway.derivation import Derivation
from efaas_gateway.hub import Hub
from efaas_gateway.store import Store
from efaas_gateway.store.derive import Derived
from efaas_gateway.stream import GatewayService, make_server
from efaas_gateway.tls import Certificates, Tls
from efaas_gateway.turns import Turn

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """How a gateway serves."""

    stream_listen: str = "127.0.0.1:0"
    http_listen: str = "127.0.0.1:0"
    half_life_s: float = HALF_LIFE_S
    charge_devices: bool = False
    """Charge QPU seconds from runners' records, where no device journals come in."""
    tls: Tls | None = None
    """Certificate of both servers; None: nothing is encrypted."""
    worker_process: bool = False
    """Derive in a process of its own rather than in a thread."""
    requests_per_s: float = 50.0
    """Of one user, in the long run; four times as many at once."""
    clock: Callable[[], float] = field(default=time.time)


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs the gateway."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Gateway:
    """A running gateway; made, started and closed in one event loop.

    Args:
        store: the database; stays open.
        access: who may read, cancel and write.
        settings: how it serves.
        canceller: carries cancels to whoever runs the sessions; None: cancelling is refused.

    Attributes:
        stream_port: of the writers' stream, once started.
        http_port: of the API and the page, once started.
    """

    def __init__(
        self,
        store: Store,
        access: Access,
        settings: Settings | None = None,
        canceller: Canceller | None = None,
    ) -> None:
        self.store = store
        self.access = access
        self.settings = settings or Settings()
        self.hub = Hub()
        self.accounts = Accounts(self.settings.half_life_s, self.settings.clock)
        self.stream_port = 0
        self.http_port = 0
        self.canceller = canceller
        self._server: grpc.aio.Server | None = None
        self._http: uvicorn.Server | None = None
        self._http_task: asyncio.Task[None] | None = None
        self.certificates = Certificates(self.settings.tls) if self.settings.tls is not None else None
        self._looking: asyncio.Task[None] | None = None
        self.committer: Committer
        self.derivation: Derivation
        self.service: GatewayService

    async def start(self) -> None:
        """Listen.

        Raises:
            InputError: an address cannot be listened on.
            StoreUnavailable: the database is away.
        """
        await asyncio.to_thread(self._load_accounts)
        self.derivation = Derivation(
            self.store.location,
            self._derived,
            self._worker_restarted,
            in_process=self.settings.worker_process,
            charge_devices=self.settings.charge_devices,
        )
        self.committer = Committer(
            self.store,
            self._committed,
            turn=Turn(self.derivation.turn_file),
            clock=self.settings.clock,
        )
        self.service = GatewayService(
            self.store, self.committer, self.access, self.accounts, self.settings.clock
        )
        self._server = make_server()
        journal_pb2_grpc.add_GatewayServicer_to_server(self.service, self._server)  # type: ignore[no-untyped-call]
        try:
            self.stream_port = (
                self._server.add_insecure_port(self.settings.stream_listen)
                if self.certificates is None
                else self._server.add_secure_port(self.settings.stream_listen, self.certificates.for_stream())
            )
        except RuntimeError:
            raise InputError(
                f"cannot listen on {self.settings.stream_listen}; is another gateway running?",
                place="--stream-listen",
            ) from None
        await self._server.start()
        await self._start_http()

    async def _start_http(self) -> None:
        app = build_app(
            self.store,
            self.access,
            self.accounts,
            self.hub,
            self.canceller,
            RateLimiter(self.settings.requests_per_s, 4 * self.settings.requests_per_s),
        )
        host, _, port = self.settings.http_listen.rpartition(":")
        listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host.strip("[]"), int(port)))
        except (OSError, ValueError, OverflowError) as error:
            listening.close()
            raise InputError(
                f"cannot listen on {self.settings.http_listen}: {error}", place="--listen"
            ) from None
        self.http_port = listening.getsockname()[1]
        tls = self.settings.tls
        config = uvicorn.Config(
            app,
            ssl_certfile=tls.cert_file if tls is not None else None,
            ssl_keyfile=tls.key_file if tls is not None else None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
            limit_concurrency=1000,
            h11_max_incomplete_event_size=64 * 1024,
            lifespan="off",
        )
        config.load()
        if self.certificates is not None and config.ssl is not None:
            self.certificates.for_http(config.ssl)
            self._looking = asyncio.create_task(self.certificates.keep_looking())
        self._http = _Server(config)
        self._http_task = asyncio.create_task(self._http.serve([listening]))
        while not self._http.started and not self._http_task.done():
            await asyncio.sleep(0.005)

    def _load_accounts(self) -> None:
        with self.store.read() as connection:
            self.accounts.load(connection)

    async def _worker_restarted(self) -> None:
        await asyncio.to_thread(self._load_accounts)

    def _committed(self, derived: Derived, grown: Sequence[int]) -> None:
        self._derived(derived, 0)
        if grown:
            self.derivation.grown(grown, live=self.hub.is_watched)

    def _derived(self, derived: Derived, unseen: int) -> None:
        self.accounts.add(derived.charges)
        if unseen:
            self.hub.skip()
        if derived.updates:
            self.hub.publish(derived.updates)

    async def close(self) -> None:
        """End the stream, commit what is under way."""
        if self._looking is not None:
            self._looking.cancel()
        if self._http is not None and self._http_task is not None:
            self._http.should_exit = True
            await self._http_task
        if self._server is not None:
            await self._server.stop(grace=0.5)
        with contextlib.suppress(AttributeError):
            await self.committer.close()
            await self.derivation.drain()
            await self.derivation.close()
