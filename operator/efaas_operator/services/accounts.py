"""What each namespace used lately, as the gateway knows it: the past in the order of admission.

The gateway sums what QPU servers and runners charged, over all devices and all lives of them; statuses of
sessions lag behind and vanish with their objects. While the gateway is away the last accounts hold; before
the first one is heard there are none, and the host goes by the statuses.

The host runs `listen` beside its other services, reads `use` when it decides, and calls `tell_weights` when
the ConfigMap with weights changes, so that all queues go by them.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efaas.accounts.client import AccountsClient, Endpoint
from efaas.accounts.message import Accounts, TenantAccount
from efaas_operator.configuration import Configuration

_LOG = logging.getLogger(__name__)

_ANSWER_S = 5.0
_AGAIN_S = 5.0


class AccountsService:
    """The accounts of all namespaces.

    Args:
        configuration: the operator's; without ``gateway.url`` nothing is heard, without ``gateway`` nothing
            is told.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._gateway = configuration.gateway
        self._token_file = Path(configuration.gateway_token_file)
        self._weights: dict[str, float] | None = None
        self._changed = asyncio.Event()
        self._client: AccountsClient | None = None
        if self._gateway is not None and self._gateway.url is not None:
            ca_file = self._gateway.ca_file
            self._client = AccountsClient(
                Endpoint(self._gateway.url.rstrip("/"), self._token_file, Path(ca_file) if ca_file else None)
            )

    @property
    def latest(self) -> Accounts | None:
        """What was heard last; None: nothing yet."""
        return self._client.latest if self._client is not None else None

    @property
    def age_s(self) -> float | None:
        """Wall seconds since then."""
        return self._client.age_s if self._client is not None else None

    def use(self, namespace: str) -> TenantAccount | None:
        """Decayed use of a namespace; None: the gateway has told nothing of anybody."""
        latest = self.latest
        if latest is None:
            return None
        return latest.tenants.get(namespace) or TenantAccount(tenant=namespace)

    async def listen(self) -> None:
        """Hear accounts and tell weights until cancelled."""
        async with asyncio.TaskGroup() as group:
            if self._client is not None:
                group.create_task(self._client.run())
            if self._gateway is not None:
                group.create_task(self._keep_telling())
            await asyncio.Event().wait()

    def tell_weights(self, weights: Mapping[str, float]) -> None:
        """Have the gateway know these weights; told again until it has taken them."""
        if dict(weights) != self._weights:
            self._weights = dict(weights)
            self._changed.set()

    async def _keep_telling(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            while not await self._tell(dict(self._weights or {})) and not self._changed.is_set():
                await asyncio.sleep(_AGAIN_S)

    async def _tell(self, weights: dict[str, float]) -> bool:
        import grpc
        import grpc.aio

        from efaas.api.wire import journal_pb2, journal_pb2_grpc

        assert self._gateway is not None
        reports = [
            json.dumps({"kind": "tenant", "name": name, "weight": weight}).encode()
            for name, weight in sorted(weights.items())
        ]
        try:
            async with self._channel() as channel:
                stub: Any = journal_pb2_grpc.GatewayStub(channel)  # type: ignore[no-untyped-call]
                token = self._token_file.read_text().strip()
                request = journal_pb2.ReportRequest(token=token, reports=reports)
                await stub.Report(request, timeout=_ANSWER_S)
        except (grpc.RpcError, OSError) as error:
            words = error.details() if isinstance(error, grpc.aio.AioRpcError) else error
            _LOG.warning("the gateway took no weights", extra={"reason": str(words)})
            return False
        return True

    def _channel(self) -> Any:
        import grpc
        import grpc.aio

        assert self._gateway is not None
        if self._gateway.ca_file is None:
            return grpc.aio.insecure_channel(self._gateway.stream)
        certificates = grpc.ssl_channel_credentials(Path(self._gateway.ca_file).read_bytes())
        return grpc.aio.secure_channel(self._gateway.stream, certificates)
