"""Live updates as server-sent events.

Each event is one change, with its number as ``id``; a client that reconnects with ``Last-Event-ID`` gets what
it missed. ``event: reset`` says that changes were missed and everything should be read anew.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse

from efaas_gateway.api.context import AskingUser, TooMany

router = APIRouter(tags=["live"])

MOST_LISTENERS = 500


@router.get(
    "/live",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def get_live(
    asking: AskingUser, last_event_id: Annotated[str, Header(max_length=40)] = ""
) -> StreamingResponse:
    """Changes as they happen, of what the user may see; the stream does not end by itself."""
    hub = asking.services.hub
    if hub.listeners >= MOST_LISTENERS:
        raise TooMany(f"{MOST_LISTENERS} look on already; try again later", place="live")
    seen = await asking.namespaces()
    after = int(last_event_id) if last_event_id.isascii() and last_event_id.isdigit() else None

    def wanted(body: dict[str, Any]) -> bool:
        namespace = body.get("namespace", "")
        return not namespace or seen is None or namespace in seen

    async def write() -> AsyncIterator[str]:
        yield ": connected\n\n"
        async for change in hub.follow(after, wanted):
            if change is None:
                yield ": still here\n\n"
                continue
            body = change.body
            if body.get("kind") == "device" and seen is not None:
                body = {name: value for name, value in body.items() if name != "sessions"}
            yield f"id: {change.number}\ndata: {json.dumps(body, allow_nan=False)}\n\n"
        yield "event: reset\ndata: {}\n\n"

    return StreamingResponse(
        write(),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
