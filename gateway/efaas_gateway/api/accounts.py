"""The accounts of all tenants as server-sent events, for those who admit and place sessions.

Only the system's own service accounts hear it (locally: whoever has the secret): what tenants used is nobody
else's business. The same numbers go to QPU servers over the gRPC stream.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from efaas.accounts.message import ACCOUNTS_EVERY_S
from efaas_gateway.api.context import AskingUser, TooMany

router = APIRouter(tags=["accounts"])

MOST_LISTENERS = 100
_listeners: set[object] = set()


@router.get(
    "/accounts",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def get_accounts(asking: AskingUser) -> StreamingResponse:
    """Every second an event ``accounts``: the half-life, and of each tenant weight and decayed use."""
    services = asking.services
    await services.access.writer(asking.user.token, "report", "")
    if len(_listeners) >= MOST_LISTENERS:
        raise TooMany(f"{MOST_LISTENERS} listen already; try again later", place="accounts")

    async def write() -> AsyncIterator[str]:
        me = object()
        _listeners.add(me)
        try:
            while True:
                message = {
                    "half_life_s": services.accounts.half_life_s,
                    "accounts": [
                        {
                            "tenant": account.tenant,
                            "weight": account.weight,
                            "cpu_s": account.cpu_s,
                            "qpu_s": account.qpu_s,
                        }
                        for account in services.accounts.all()
                    ],
                }
                yield f"event: accounts\ndata: {json.dumps(message, allow_nan=False)}\n\n"
                await asyncio.sleep(ACCOUNTS_EVERY_S)
        finally:
            _listeners.discard(me)

    return StreamingResponse(
        write(),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
