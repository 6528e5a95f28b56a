"""Probes and metrics over HTTP.

``/healthz`` fails when the process is stuck: its event loop, or, of the leader, its workers. ``/readyz`` says
whether this replica does what it is for: the leader knows the cluster and is in touch with the API server, a
standby has looked at the Lease lately. ``/metrics`` is for Prometheus.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from efaas_operator.metrics import Metrics

Trouble = Callable[[], str]


class Probes:
    """The HTTP server.

    Args:
        host: to listen on; empty for all.
        port: to listen on; 0 for any.
        metrics: to serve.
        stuck: why the process should be started anew; empty if it need not.
        unready: why it does not do its work; empty if it does.
        before_metrics: brings gauges up to date.
    """

    def __init__(
        self,
        host: str,
        port: int,
        metrics: Metrics,
        stuck: Trouble,
        unready: Trouble,
        before_metrics: Callable[[], None],
    ) -> None:
        self._host = host
        self._port = port
        self._metrics = metrics
        self._stuck = stuck
        self._unready = unready
        self._before_metrics = before_metrics
        self._runner: web.AppRunner | None = None

    async def start(self) -> tuple[str, int]:
        """Listen; returns where."""
        app = web.Application(client_max_size=1024)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._page)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host or None, self._port).start()
        address = self._runner.addresses[0]
        return str(address[0]), int(address[1])

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, request: web.Request) -> web.Response:
        del request
        return _answer(self._stuck())

    async def _readyz(self, request: web.Request) -> web.Response:
        del request
        return _answer(self._unready())

    async def _page(self, request: web.Request) -> web.Response:
        del request
        self._before_metrics()
        page = self._metrics.page()
        return web.Response(body=page, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


def _answer(trouble: str) -> web.Response:
    return web.Response(status=503 if trouble else 200, text=f"{trouble or 'ok'}\n")
