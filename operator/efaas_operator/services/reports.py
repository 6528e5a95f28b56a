"""Tells the gateway where sessions are: state, reason, and the exact place in the queue.

What a status shows rounded and seldom, the gateway has exactly and within two seconds. Only what changed
since the gateway last took it is told, many sessions at a time; what it could not take is told again.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from efaas_operator.configuration import Gateway

_LOG = logging.getLogger(__name__)
_EVERY_S = 1.0
_AT_ONCE = 500
_ANSWER_S = 5.0

Report = dict[str, Any]


class GatewayReports:
    """Reports of all sessions.

    Args:
        gateway: where it is.
        token_file: the operator's token for it.
        sessions: what is to be told of each session, by key.
    """

    def __init__(
        self, gateway: Gateway, token_file: Path, sessions: Callable[[], Mapping[str, Report]]
    ) -> None:
        self._gateway = gateway
        self._token_file = token_file
        self._sessions = sessions
        self._taken: dict[str, Report] = {}
        self._said = ""

    async def run(self) -> None:
        """Tell until cancelled."""
        import grpc
        import grpc.aio

        from efaas.api.wire import journal_pb2, journal_pb2_grpc

        async with self._channel() as channel:
            stub: Any = journal_pb2_grpc.GatewayStub(channel)  # type: ignore[no-untyped-call]
            while True:
                await asyncio.sleep(_EVERY_S)
                now = self._sessions()
                for key in self._taken.keys() - now.keys():
                    del self._taken[key]
                news = [key for key, report in now.items() if self._taken.get(key) != report]
                try:
                    token = (await asyncio.to_thread(self._token_file.read_text)).strip()
                    for start in range(0, len(news), _AT_ONCE):
                        keys = news[start : start + _AT_ONCE]
                        bodies = [
                            json.dumps({"kind": "session", "name": key, **now[key]}).encode() for key in keys
                        ]
                        request = journal_pb2.ReportRequest(token=token, reports=bodies)
                        await stub.Report(request, timeout=_ANSWER_S)
                        self._taken.update({key: now[key] for key in keys})
                    self._say("")
                except (grpc.RpcError, OSError) as error:
                    words = error.details() if isinstance(error, grpc.aio.AioRpcError) else error
                    self._say(str(words))

    def _say(self, trouble: str) -> None:
        if trouble != self._said:
            _LOG.warning("reports to the gateway", extra={"trouble": trouble or "over"})
        self._said = trouble

    def _channel(self) -> Any:
        import grpc
        import grpc.aio

        if self._gateway.ca_file is None:
            return grpc.aio.insecure_channel(self._gateway.stream)
        certificates = grpc.ssl_channel_credentials(Path(self._gateway.ca_file).read_bytes())
        return grpc.aio.secure_channel(self._gateway.stream, certificates)
