"""The process `efaas-gateway serve`, from its options to its end.

It ends on SIGTERM and SIGINT. With `--with-parent` it is a child of `efaas run --ui`: reports come in as JSON
lines on stdin, its addresses and cancels go out as JSON lines on stdout, and it ends when stdin closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from efaas.api.address import checked_address, host_and_port, is_loopback
from efaas.api.load import read_bounded
from efaas.errors import EfaasError, InputError
from efaas_gateway.access import Access, LocalAccess, User
from efaas_gateway.api.context import Canceller
from efaas_gateway.cluster import ApiServer, ClusterAccess
from efaas_gateway.follow import RunFollower
from efaas_gateway.serve import Gateway, Settings
from efaas_gateway.store import Store
from efaas_gateway.store.retention import Retention, prune_store
from efaas_gateway.tls import Tls

logger = logging.getLogger(__name__)

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_PRUNE_EVERY_S = 3600.0
_LINE_LIMIT = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Options:
    """What `efaas-gateway serve` is told."""

    store: str
    listen: str = "127.0.0.1:8080"
    stream_listen: str = "127.0.0.1:8081"
    token_file: Path | None = None
    kubernetes: str | None = None
    system_accounts: tuple[str, ...] = ()
    kubernetes_token_file: Path | None = None
    kubernetes_ca_file: Path | None = None
    half_life_s: float = 600.0
    keep_days: float | None = None
    keep_bytes: int | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    follow: Path | None = None
    with_parent: bool = False


class ParentCanceller:
    """Passes cancels to the parent process, one JSON line each."""

    async def cancel(self, user: User, namespace: str, name: str) -> None:
        """Tell the parent."""
        tell({"cancel": f"{namespace}/{name}", "by": user.name})


def tell(line: dict[str, object]) -> None:
    """Write a line for the parent; one that has gone is not told."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def access_for(options: Options) -> tuple[Access, Canceller | None]:
    """Who decides, and who carries cancels.

    Raises:
        InputError: neither a token nor a cluster is named, or the token cannot be read.
    """
    if options.kubernetes is not None:
        url, token, ca = options.kubernetes, options.kubernetes_token_file, options.kubernetes_ca_file
        if url == "in-cluster":
            host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
            if not host or not port:
                raise InputError("KUBERNETES_SERVICE_HOST is not set; give the URL", place="--kubernetes")
            url = f"https://{f'[{host}]' if ':' in host else host}:{port}"
            token, ca = token or _SERVICE_ACCOUNT / "token", ca or _SERVICE_ACCOUNT / "ca.crt"
        if not url.startswith(("https://", "http://")):
            raise InputError(f"{url!r} is no https://HOST:PORT", place="--kubernetes")
        access = ClusterAccess(ApiServer(url, token, ca), options.system_accounts)
        return access, access
    if options.token_file is None:
        raise InputError("give a --token-file, or --kubernetes", place="--token-file")
    try:
        token_text = read_bounded(options.token_file, 1 << 20, "this is no token").decode().strip()
    except UnicodeDecodeError:
        raise InputError("holds no token: it is not UTF-8 text", place=str(options.token_file)) from None
    if len(token_text) < 16:
        raise InputError("holds fewer than 16 characters", place=str(options.token_file))
    for place, address in (("--listen", options.listen), ("--stream-listen", options.stream_listen)):
        if not is_loopback(host_and_port(address)[0]):
            logger.warning("%s %s can be reached from other machines, by one secret", place, address)
    return LocalAccess(token_text), ParentCanceller() if options.with_parent else None


def tls_of(options: Options) -> Tls | None:
    """The certificate, if one is named.

    Raises:
        InputError: only one of the two files is named.
    """
    if options.tls_cert is None and options.tls_key is None:
        return None
    if options.tls_cert is None or options.tls_key is None:
        raise InputError("needs both --tls-cert and --tls-key", place="--tls-cert")
    return Tls(options.tls_cert, options.tls_key)


async def run(options: Options) -> int:
    """Serve until told to end; returns the exit code."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for place, address in (("--listen", options.listen), ("--stream-listen", options.stream_listen)):
        checked_address(address, place)
    if options.follow is not None and not options.follow.is_dir():
        raise InputError("is no folder of a run", place=str(options.follow))
    access, canceller = access_for(options)
    store = Store(options.store)
    gateway = Gateway(
        store,
        access,
        Settings(
            stream_listen=options.stream_listen,
            http_listen=options.listen,
            half_life_s=options.half_life_s,
            charge_devices=options.follow is not None,
            tls=tls_of(options),
            # Beside a run there is little to derive, and its cores have better to do.
            worker_process=not options.with_parent,
        ),
        canceller,
    )
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    tasks: list[asyncio.Task[None]] = []
    try:
        await gateway.start()
        logger.info(
            "%s: page and API on port %d, stream on %d", store.shown, gateway.http_port, gateway.stream_port
        )
        tell({"listening": {"http": gateway.http_port, "stream": gateway.stream_port}})
        follower = RunFollower(options.follow, gateway.committer) if options.follow else None
        if follower is not None:
            tasks.append(asyncio.create_task(follower.run()))
        if options.with_parent:
            tasks.append(asyncio.create_task(_hear_parent(gateway, ended)))
        rules = Retention(days=options.keep_days, tenant_bytes=options.keep_bytes)
        if not rules.is_empty:
            tasks.append(asyncio.create_task(_prune(store, rules)))
        await ended.wait()
        if follower is not None:
            # What the runners wrote last.
            await follower.look()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await gateway.close()
        if isinstance(canceller, ClusterAccess):
            await canceller.close()
        store.close()
    return 0


async def _hear_parent(gateway: Gateway, ended: asyncio.Event) -> None:
    reader = asyncio.StreamReader(limit=_LINE_LIMIT)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer
    )
    while line := await reader.readline():
        try:
            await gateway.service.take([line])
        except EfaasError as error:
            logger.warning("a report was not taken: %s", error)
    ended.set()


async def _prune(store: Store, rules: Retention) -> None:
    while True:
        try:
            pruned = await asyncio.to_thread(prune_store, store, rules)
            logger.info("%s", pruned.as_sentence())
        except EfaasError as error:
            logger.warning("%s", error)
        await asyncio.sleep(_PRUNE_EVERY_S)
