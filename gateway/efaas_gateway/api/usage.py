"""Usage by tenant, session, device and time, as JSON, CSV or Parquet; shares against what is deserved."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from efaas.errors import InputError
from efaas_gateway.api import export
from efaas_gateway.api.context import AskingUser
from efaas_gateway.api.models import Shares, Usage
from efaas_gateway.store import queries

router = APIRouter(tags=["usage"])

_COLUMNS = {
    "tenant": "string",
    "session": "string",
    "device": "string",
    "at": "double",
    "cpu_s": "double",
    "qpu_s": "double",
    "shots": "int64",
    "charges": "int64",
}
_ROWS = 50_000

Moment = Annotated[float | None, Query(ge=0, le=1e12, allow_inf_nan=False)]


@router.get(
    "/usage",
    response_model=Usage,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}, export.PARQUET: {}}}},
)
async def get_usage(
    asking: AskingUser,
    by: queries.By = "tenant",
    start: Moment = None,
    end: Moment = None,
    bucket_s: Annotated[float | None, Query(ge=1, le=1e9, allow_inf_nan=False)] = None,
    tenant: Annotated[str, Query(max_length=253, pattern=r"^[^\x00]*$")] = "",
    format: Annotated[Literal["json", "csv", "parquet"], Query()] = "json",  # noqa: A002
) -> Any:
    """What was charged: CPU seconds, device seconds and shots."""
    if start is not None and end is not None and end <= start:
        raise InputError("must be after start", place="query.end")
    seen = await asking.namespaces()
    rows = await asking.read(
        lambda connection: queries.sum_usage(
            connection, seen, by=by, start=start, end=end, bucket_s=bucket_s, tenant=tenant, limit=_ROWS + 1
        )
    )
    if len(rows) > _ROWS:
        raise InputError(f"has more than {_ROWS} rows; ask for a shorter time or longer steps", place="query")
    if format == "json":
        return {"items": rows}
    name = f'attachment; filename="usage-by-{by}.{format}"'
    kept = {column: kind for column, kind in _COLUMNS.items() if not rows or column in rows[0]}
    if format == "csv":
        return Response(
            export.as_csv(rows, list(kept)), media_type=export.CSV, headers={"Content-Disposition": name}
        )
    return Response(
        b"".join(export.as_parquet([rows], kept)),
        media_type=export.PARQUET,
        headers={"Content-Disposition": name},
    )


@router.get("/shares", response_model=Shares)
async def get_shares(asking: AskingUser) -> dict[str, Any]:
    """What each tenant had lately of all QPU time, and what its weight entitles it to."""
    seen = await asking.namespaces()
    accounts = [
        account for account in asking.services.accounts.all() if account.cpu_s > 1e-6 or account.qpu_s > 1e-6
    ]
    total = sum(account.qpu_s for account in accounts)
    weights = sum(account.weight for account in accounts)
    items: dict[str, dict[str, Any]] = {}
    for account in accounts:
        name = account.tenant if seen is None or account.tenant in seen else ""
        row = items.setdefault(
            name, {"tenant": name, "weight": 0.0, "cpu_s": 0.0, "qpu_s": 0.0, "share": 0.0, "deserved": 0.0}
        )
        row["weight"] += account.weight
        row["cpu_s"] += account.cpu_s
        row["qpu_s"] += account.qpu_s
        row["share"] = min(1.0, row["qpu_s"] / total) if total > 0 else 0.0
        row["deserved"] = min(1.0, row["weight"] / weights)
    return {"half_life_s": asking.services.accounts.half_life_s, "items": list(items.values())}
