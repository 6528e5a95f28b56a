"""Devices with their history, and the queue."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import Connection

from efaas_gateway.api.context import AskingUser, NamePath, NotFound
from efaas_gateway.api.models import Device, DeviceHistory, Devices, Queue
from efaas_gateway.store import queries

router = APIRouter(tags=["devices"])


@router.get("/devices", response_model=Devices)
async def list_devices(asking: AskingUser) -> dict[str, Any]:
    """Every device as it is now."""
    seen = await asking.namespaces()
    told = await asking.read(queries.list_devices)
    return {"items": [{**device, "waiting": asking.waiting(device, seen)} for device in told]}


@router.get("/devices/{name}", response_model=Device)
async def get_device(asking: AskingUser, name: NamePath) -> dict[str, Any]:
    """One device as it is now."""
    seen = await asking.namespaces()
    for device in await asking.read(queries.list_devices):
        if device["name"] == name:
            return {**device, "waiting": asking.waiting(device, seen)}
    raise NotFound("there is no such device", place=f"device {name}")


@router.get("/devices/{name}/history", response_model=DeviceHistory)
async def get_history(
    asking: AskingUser,
    name: NamePath,
    since: Annotated[float | None, Query(ge=0, le=1e12, allow_inf_nan=False)] = None,
    points: Annotated[int, Query(ge=2, le=20_000)] = 1000,
) -> dict[str, Any]:
    """A device over time (freshness, queue, known and true error) and its calibrations."""

    def ask(connection: Connection) -> dict[str, Any]:
        return {
            "states": queries.device_history(connection, name, since=since, points=points),
            "calibrations": queries.list_calibrations(connection, name, 1000),
        }

    return await asking.read(ask)


@router.get("/queue", response_model=Queue)
async def get_queue(asking: AskingUser) -> dict[str, Any]:
    """Who waits where, and why."""
    seen = await asking.namespaces()
    told = await asking.read(queries.list_devices)
    return {
        "items": [entry for device in told for entry in asking.waiting(device, seen) if entry["position"] > 0]
    }
