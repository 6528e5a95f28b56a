"""A proxy in front of the API server that does to a client what networks and busy servers do.

Every request draws its fate from one seeded generator: a refusal (409 for changes, 429 with Retry-After, 500,
503), a slow answer, or a connection that is cut *after* the server has done what was asked, so that the
client does not know. Watches also end early, end with 410 Gone, or stay open and say nothing any more.
The rates can be changed at any time; with none of them the proxy only counts, which is how a benchmark learns
how many writes a client makes.

::

    with FaultProxy(cluster, seed=7, rates=Rates()) as proxy:
        start_operator(kubeconfig=proxy.kubeconfig)
        proxy.rates = QUIET
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
import subprocess
import threading
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from tests.support.cluster import Cluster, free_port

_LAST_WORDS_S = 0.25
_WRITES = {"POST", "PUT", "PATCH", "DELETE"}
_HOP_BY_HOP = {"transfer-encoding", "connection", "content-length", "content-encoding", "host", "keep-alive"}


@dataclass(frozen=True)
class Rates:
    """Probability of each fault, per request or per watch."""

    conflict: float = 0.02
    """409 on a change."""
    too_many: float = 0.02
    """429 with Retry-After: 1."""
    internal: float = 0.02
    """500."""
    unavailable: float = 0.02
    """503."""
    slow: float = 0.05
    """An answer that takes up to `slow_s` longer."""
    cut: float = 0.02
    """No answer, though the request was carried out."""
    drop_watch: float = 0.25
    """A watch that ends after up to `watch_s`."""
    stall_watch: float = 0.1
    """A watch that says nothing any more after up to `watch_s`, and is closed after `stall_s`."""
    gone_watch: float = 0.1
    """A watch that ends with 410 Gone after up to `watch_s`."""
    slow_s: float = 2.0
    watch_s: float = 10.0
    stall_s: float = 15.0


QUIET = Rates(**{each.name: 0.0 for each in fields(Rates)})
"""No faults: the proxy only counts."""

_REFUSALS = (
    ("conflict", 409, "Conflict", "the object has been modified; please apply to the latest version"),
    ("too_many", 429, "TooManyRequests", "too many requests, please try again later"),
    ("internal", 500, "InternalError", "etcdserver: request timed out"),
    ("unavailable", 503, "ServiceUnavailable", "the server is currently unable to handle the request"),
)


class FaultProxy:
    """An HTTPS server that passes requests on to a cluster's API server, most of them.

    Args:
        cluster: whose API server is behind it.
        seed: of the faults.
        rates: how often each of them happens.
    """

    def __init__(self, cluster: Cluster, *, seed: int = 0, rates: Rates = QUIET) -> None:
        self.rates = rates
        self.requests: Counter[tuple[str, str]] = Counter()
        """Requests that reached the API server, by verb and resource (``sessions/status``)."""
        self.faults: Counter[str] = Counter()
        """Faults so far, by name."""
        self._cluster = cluster
        self._chance = random.Random(seed)
        self._folder = cluster.folder / f"proxy-{free_port()}"
        self._folder.mkdir()
        self._port = free_port()
        self.kubeconfig = self._folder / "kubeconfig"
        """For clients that are to come this way."""
        self.server = f"https://127.0.0.1:{self._port}"
        self._up: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._ended: asyncio.Event
        self._upstream: aiohttp.ClientSession

    def __enter__(self) -> FaultProxy:
        self._make_certificate()
        document = yaml.safe_load(self._cluster.kubeconfig.read_text())
        document["clusters"][0]["cluster"] = {
            "server": self.server,
            "certificate-authority": str(self.certificate),
        }
        self.kubeconfig.write_text(yaml.safe_dump(document))
        self.kubeconfig.chmod(0o600)
        self._thread.start()
        self._up.result(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(30)

    @property
    def certificate(self) -> Path:
        """The proxy's own, which its clients trust."""
        return self._folder / "proxy.crt"

    @property
    def writes(self) -> int:
        """Requests so far that changed something or tried to."""
        return sum(count for (verb, _), count in self.requests.items() if verb in _WRITES)

    # --- the thread -------------------------------------------------------------------------------

    def _make_certificate(self) -> None:
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        command += ["-subj", "/CN=fault-proxy", "-addext", "subjectAltName=IP:127.0.0.1"]
        command += ["-keyout", str(self._folder / "proxy.key"), "-out", str(self.certificate)]
        subprocess.run(command, check=True, capture_output=True)

    async def _live(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        behind = ssl.create_default_context(cafile=str(self._cluster.ca_file))
        front = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        front.load_cert_chain(self.certificate, self._folder / "proxy.key")
        application = web.Application(client_max_size=2**26)
        application.router.add_route("*", "/{path:.*}", self._pass)
        connector = aiohttp.TCPConnector(ssl=behind, limit=0)
        unlimited = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(
            connector=connector, timeout=unlimited, auto_decompress=True, read_bufsize=2**22
        ) as self._upstream:
            runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
            await runner.setup()
            try:
                await web.TCPSite(runner, "127.0.0.1", self._port, ssl_context=front).start()
                self._up.set_result(None)
                await self._ended.wait()
            except BaseException as error:
                if not self._up.done():
                    self._up.set_exception(error)
                raise
            finally:
                await runner.cleanup()
        # TLS connections end a moment after they are closed; a loop gone by then would leave them open.
        await asyncio.sleep(_LAST_WORDS_S)

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        watch = request.query.get("watch") in ("1", "true")
        refusal = self._refusal(request.method)
        if refusal is not None:
            return refusal
        if self._happens("slow"):
            await asyncio.sleep(self._chance.uniform(0, self.rates.slow_s))
        try:
            body = await request.read()
        except ConnectionResetError:
            return web.Response(status=499)  # its client is gone: killed, or tired of waiting
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        headers.pop("Accept-Encoding", None)
        self.requests[request.method if not watch else "WATCH", resource_of(request.path)] += 1
        target = self._cluster.server + request.raw_path
        try:
            async with self._upstream.request(
                request.method, target, data=body or None, headers=headers, allow_redirects=False
            ) as answer:
                if watch and answer.status == 200:
                    return await self._pass_watch(request, answer)
                content = await answer.read()
        except aiohttp.ClientError as error:
            return web.Response(status=502, text=str(error))
        if self._happens("cut") and request.transport is not None:
            request.transport.abort()
            return web.Response(status=502)  # which nobody gets
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
        return web.Response(status=answer.status, body=content, headers=kept)

    async def _pass_watch(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        fate = next(
            (each for each in ("drop_watch", "stall_watch", "gone_watch") if self._happens(each)), None
        )
        end = asyncio.timeout(self._chance.uniform(0.2, max(0.3, self.rates.watch_s)) if fate else None)
        try:
            async with end:
                async for line in answer.content:
                    await response.write(line)
                fate = None  # it ended by itself
        except TimeoutError:
            pass
        except (aiohttp.ClientError, OSError):
            return response
        if fate == "stall_watch":
            await asyncio.sleep(self.rates.stall_s)
        with contextlib.suppress(OSError):
            if fate == "gone_watch":
                gone = status_document(410, "Expired", "too old resource version: 1 (2)")
                await response.write(json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n")
            if fate == "drop_watch" and request.transport is not None:
                request.transport.abort()
        return response

    def _refusal(self, method: str) -> web.Response | None:
        for name, status, reason, message in _REFUSALS:
            if (name != "conflict" or method in ("PUT", "PATCH")) and self._happens(name):
                document = status_document(status, reason, message)
                headers = {"Retry-After": "1"} if status in (429, 503) else {}
                return web.json_response(document, status=status, headers=headers)
        return None

    def _happens(self, name: str) -> bool:
        happens = self._chance.random() < float(getattr(self.rates, name))
        self.faults[name] += happens
        return happens


def status_document(code: int, reason: str, message: str) -> dict[str, Any]:
    """An error as the API server words it."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "reason": reason,
        "message": message,
        "code": code,
    }


def resource_of(path: str) -> str:
    """What a path is about: ``pods``, ``vqasessions/status``."""
    parts = path.strip("/").split("/")
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    if len(rest) >= 3 and rest[0] == "namespaces":
        rest = rest[2:]
    return "/".join([rest[0], *rest[2:3]]) if rest else "/".join(parts)
