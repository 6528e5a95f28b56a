"""A container's probes, asked at its pod's own address."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
import grpc.aio

_SERVING = b"\x08\x01"
"""HealthCheckResponse with status SERVING."""


class Probe:
    """One of startup, readiness, liveness.

    Args:
        document: as the pod has it.
        address: of the pod.
    """

    def __init__(self, document: Mapping[str, Any], address: str) -> None:
        self.period_s = float(document.get("periodSeconds", 10))
        self.failures = int(document.get("failureThreshold", 3))
        self._timeout_s = max(float(document.get("timeoutSeconds", 1)), 3.0)
        self._document, self._address = document, address

    @classmethod
    def of(cls, document: Mapping[str, Any] | None, address: str) -> Probe | None:
        """None where there is nothing to ask, or by a program in the container, which is not played."""
        if document is None or not ({"grpc", "httpGet"} & document.keys()):
            return None
        return cls(document, address)

    async def passes(self) -> bool:
        """Ask until it passes, or has failed too often."""
        for _ in range(self.failures):
            if await self.once():
                return True
            await asyncio.sleep(self.period_s)
        return False

    async def once(self) -> bool:
        """Whether it passes now."""
        try:
            if "grpc" in self._document:
                return await self._grpc(int(self._document["grpc"]["port"]))
            return await self._http(self._document["httpGet"])
        except (TimeoutError, grpc.aio.AioRpcError, aiohttp.ClientError, OSError):
            return False

    async def _grpc(self, port: int) -> bool:
        async with grpc.aio.insecure_channel(f"{self._address}:{port}") as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            return bytes(await check(b"", timeout=self._timeout_s)) == _SERVING

    async def _http(self, target: Mapping[str, Any]) -> bool:
        timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        url = f"http://{self._address}:{target['port']}{target.get('path', '/')}"
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
            return answer.status < 400
