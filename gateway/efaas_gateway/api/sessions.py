"""Sessions: list, detail, trajectory, events, result, cancel."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import Connection

from efaas.errors import InputError
from efaas_gateway.api import export
from efaas_gateway.api.context import Asking, AskingUser, NamePath, NamespacePath, NotFound
from efaas_gateway.api.models import Cancelled, Events, SessionDetail, SessionPage, Trajectory
from efaas_gateway.store import queries
from efaas_gateway.store.tables import evaluations

router = APIRouter(tags=["sessions"])

_TEXT = r"^[^\x00]*$"
Serial = Annotated[int, Query(ge=0, le=2**53)]


@router.get("/sessions", response_model=SessionPage)
async def list_sessions(
    asking: AskingUser,
    namespace: Annotated[str, Query(max_length=253, pattern=_TEXT)] = "",
    state: Annotated[
        list[Annotated[str, Query(max_length=32, pattern=_TEXT)]] | None, Query(max_length=16)
    ] = None,
    device: Annotated[str, Query(max_length=253, pattern=_TEXT)] = "",
    q: Annotated[str, Query(max_length=253, pattern=_TEXT, description="Text in namespace/name")] = "",
    cursor: Annotated[str, Query(max_length=200, pattern=_TEXT)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Sessions that the user may see, newest first."""
    after = _read_cursor(cursor)
    seen = await _seen(asking, namespace)

    def ask(connection: Connection) -> dict[str, Any]:
        items, total, following = queries.list_sessions(
            connection, seen, states=state or (), device=device, name_contains=q, after=after, limit=limit
        )
        return {
            "items": items,
            "total": total,
            "states": queries.count_states(connection, seen),
            "next": _cursor(following) if following else None,
        }

    return await asking.read(ask)


async def _seen(asking: Asking, namespace: str) -> frozenset[str] | None:
    """What may be seen of a namespace, or of all if it is empty."""
    if namespace:
        await asking.must("get", namespace)
        return frozenset({namespace})
    return await asking.namespaces()


@router.get("/sessions/{namespace}/{name}", response_model=SessionDetail)
async def get_session(asking: AskingUser, namespace: NamespacePath, name: NamePath) -> dict[str, Any]:
    """One session."""
    found = await _find(asking, namespace, name)
    told = await asking.read(queries.list_devices)
    key = f"{namespace}/{name}"
    places = [entry for device in told for entry in asking.waiting(device, frozenset({namespace}))]
    return {**found, "waiting": [entry for entry in places if entry["session"] == key]}


async def _find(asking: Asking, namespace: str, name: str) -> dict[str, Any]:
    await asking.must("get", namespace)
    found = await asking.read(lambda connection: queries.find_session(connection, namespace, name))
    if found is None:
        raise NotFound("there is no such session", place=f"{namespace}/{name}")
    return found


@router.get("/sessions/{namespace}/{name}/trajectory", response_model=Trajectory)
async def get_trajectory(
    asking: AskingUser,
    namespace: NamespacePath,
    name: NamePath,
    points: Annotated[int, Query(ge=2, le=20_000)] = 1000,
    after: Annotated[Serial | None, Query(description="Only evaluations with a higher number")] = None,
) -> dict[str, Any]:
    """A session's evaluations, evenly thinned out to `points`."""
    found = await _find(asking, namespace, name)
    rows, total = await asking.read(
        lambda connection: queries.trajectory(connection, found["id"], points=points, after=after)
    )
    names = [column.name for column in evaluations.columns if column.name != "session"]
    return {
        "total": total,
        "columns": {name: [getattr(row, name) for row in rows] for name in names},
    }


@router.get(
    "/sessions/{namespace}/{name}/trajectory.parquet",
    response_class=Response,
    responses={200: {"content": {export.PARQUET: {"schema": {"type": "string", "format": "binary"}}}}},
)
async def export_trajectory(
    asking: AskingUser, namespace: NamespacePath, name: NamePath
) -> StreamingResponse:
    """Every evaluation of a session, as Parquet."""
    found = await _find(asking, namespace, name)
    kinds = {"device": "string", "evaluation": "int64", "iteration": "int64", "shots": "int64"}
    kinds |= {"calibration_epoch": "int64"}
    columns = {
        column.name: kinds.get(column.name, "double")
        for column in evaluations.columns
        if column.name != "session"
    }

    def write() -> Iterator[bytes]:
        with asking.services.store.read() as connection:
            pieces = (
                [row._asdict() for row in rows] for rows in queries.all_evaluations(connection, found["id"])
            )
            yield from export.as_parquet(pieces, columns)

    return StreamingResponse(
        write(),
        media_type=export.PARQUET,
        headers={"Content-Disposition": f'attachment; filename="{namespace}.{name}.parquet"'},
    )


@router.get("/sessions/{namespace}/{name}/events", response_model=Events)
async def get_events(
    asking: AskingUser,
    namespace: NamespacePath,
    name: NamePath,
    before: Serial | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """What happened to a session, newest first: states, placements, moves."""
    await _find(asking, namespace, name)
    items = await asking.read(
        lambda connection: queries.list_events(
            connection, None, session=(namespace, name), before=before, limit=limit
        )
    )
    return {"items": items}


@router.get("/events", response_model=Events, tags=["sessions"])
async def list_events(
    asking: AskingUser,
    device: Annotated[str, Query(max_length=253, pattern=_TEXT)] = "",
    before: Serial | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """What happened to sessions and devices, newest first."""
    seen = await asking.namespaces()
    items = await asking.read(
        lambda connection: queries.list_events(connection, seen, device=device, before=before, limit=limit)
    )
    return {"items": items}


@router.get("/sessions/{namespace}/{name}/result", response_model=dict[str, Any])
async def get_result(asking: AskingUser, namespace: NamespacePath, name: NamePath) -> dict[str, Any]:
    """How a session ended; 404 until it has."""
    found = await _find(asking, namespace, name)
    if found["result"] is None:
        raise NotFound("the session has no result yet", place=f"{namespace}/{name}")
    result: dict[str, Any] = found["result"]
    return result


@router.post("/sessions/{namespace}/{name}/cancel", response_model=Cancelled, status_code=202)
async def cancel(asking: AskingUser, namespace: NamespacePath, name: NamePath) -> dict[str, Any]:
    """Cancel a session, as this user."""
    await asking.must("delete", namespace)
    await _find(asking, namespace, name)
    canceller = asking.services.canceller
    if canceller is None:
        raise InputError("nobody runs sessions behind this gateway", place="cancel")
    await canceller.cancel(asking.user, namespace, name)
    return {"namespace": namespace, "name": name, "by": asking.user.name}


def _cursor(following: tuple[float, int]) -> str:
    return base64.urlsafe_b64encode(json.dumps(following).encode()).decode()


def _read_cursor(cursor: str) -> tuple[float, int] | None:
    if not cursor:
        return None
    try:
        at, number = json.loads(base64.b64decode(cursor, altchars=b"-_", validate=True))
        if isinstance(at, float) and abs(at) < 1e12 and isinstance(number, int) and 0 <= number < 2**53:
            return at, number
    except (ValueError, TypeError, binascii.Error, RecursionError):
        pass
    raise InputError("is not one that this API gave", place="query.cursor")
