"""What the API reads: each function is one question to one consistent state of the database.

Answers are plain rows. Lists are bounded and paged by keys, never by offsets, so a page costs the same
however far down it is. ``namespaces`` restricts an answer to what the asker may see; None means everything.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, and_, func, literal, or_, select

from efaas_gateway.store.tables import (
    calibrations,
    device_states,
    devices,
    evaluations,
    events,
    journals,
    sessions,
    tenants,
    usage,
)

Namespaces = Collection[str] | None
By = Literal["tenant", "session", "device"]

_LISTED = [column for column in sessions.columns if column.name not in ("id", "limits", "result")]


def _seen(column: ColumnElement[str], namespaces: Namespaces) -> list[ColumnElement[bool]]:
    return [] if namespaces is None else [column.in_(list(namespaces))]


def known_namespaces(connection: Connection) -> list[str]:
    """Namespaces of all sessions."""
    return list(connection.execute(select(sessions.c.namespace).distinct()).scalars())


def list_sessions(
    connection: Connection,
    namespaces: Namespaces,
    *,
    states: Sequence[str] = (),
    device: str = "",
    name_contains: str = "",
    after: tuple[float, int] | None = None,
    limit: int = 100,
) -> tuple[list[dict[str, Any]], int, tuple[float, int] | None]:
    """Sessions, newest first.

    Args:
        connection: to read from.
        namespaces: that may be seen.
        states: only these.
        device: only those on it.
        name_contains: only those whose ``namespace/name`` holds this text.
        after: (created_at, id) of the last one of the page before.
        limit: length of the page.

    Returns:
        The page, the number of sessions over all pages, and where the next page begins.
    """
    wanted = _seen(sessions.c.namespace, namespaces)
    if states:
        wanted.append(sessions.c.state.in_(list(states)))
    if device:
        wanted.append(sessions.c.device == device)
    if name_contains:
        whole = sessions.c.namespace + "/" + sessions.c.name
        wanted.append(whole.contains(name_contains, autoescape=True))
    total = connection.execute(select(func.count()).select_from(sessions).where(*wanted)).scalar_one()
    if after is not None:
        wanted.append(
            or_(
                sessions.c.created_at < after[0],
                and_(sessions.c.created_at == after[0], sessions.c.id < after[1]),
            )
        )
    rows = (
        connection.execute(
            select(sessions.c.id, *_LISTED)
            .where(*wanted)
            .order_by(sessions.c.created_at.desc(), sessions.c.id.desc())
            .limit(limit + 1)
        )
        .mappings()
        .all()
    )
    page = [dict(row) for row in rows[:limit]]
    following = (page[-1]["created_at"], page[-1]["id"]) if len(rows) > limit else None
    return page, total, following


def count_states(connection: Connection, namespaces: Namespaces) -> dict[str, int]:
    """Number of sessions in each state."""
    rows = connection.execute(
        select(sessions.c.state, func.count())
        .where(*_seen(sessions.c.namespace, namespaces))
        .group_by(sessions.c.state)
    )
    return {row[0]: row[1] for row in rows}


def find_session(connection: Connection, namespace: str, name: str) -> dict[str, Any] | None:
    """One session with its limits, result and journal; None if there is none."""
    row = (
        connection.execute(
            select(
                sessions,
                journals.c.length.label("records"),
                journals.c.bytes.label("journal_bytes"),
                journals.c.lease_epoch,
            )
            .select_from(sessions.outerjoin(journals, journals.c.session == sessions.c.id))
            .where(sessions.c.namespace == namespace, sessions.c.name == name)
        )
        .mappings()
        .first()
    )
    if row is None:
        return None
    found = dict(row)
    found["limits"] = json.loads(found["limits"] or "{}")
    found["result"] = json.loads(found["result"]) if found["result"] else None
    return found


def trajectory(
    connection: Connection, session: int, *, points: int, after: int | None = None
) -> tuple[list[Row[Any]], int]:
    """Evaluations of a session, thinned out evenly when there are more than `points`.

    What is left are evaluations as they were, never averages; the first and the last one are among them.

    Returns:
        The rows, and how many there are in all (after `after`).
    """
    wanted = [evaluations.c.session == session]
    if after is not None:
        wanted.append(evaluations.c.evaluation > after)
    total = connection.execute(select(func.count()).select_from(evaluations).where(*wanted)).scalar_one()
    columns: list[Any] = [column for column in evaluations.columns if column.name != "session"]
    if total <= points:
        query = select(*columns).where(*wanted)
    else:
        stride = -(-(total - 1) // max(1, points - 1))
        number = (func.row_number().over(order_by=evaluations.c.evaluation) - 1).label("row")
        numbered = select(*columns, number).where(*wanted).subquery()
        query = select(*[numbered.c[column.name] for column in columns]).where(
            or_(numbered.c.row % stride == 0, numbered.c.row == total - 1)
        )
        columns = [numbered.c[column.name] for column in columns]
    order = next(column for column in columns if column.name == "evaluation")
    return list(connection.execute(query.order_by(order)).all()), total


def all_evaluations(connection: Connection, session: int, chunk: int = 5000) -> Iterator[list[Row[Any]]]:
    """Every evaluation of a session, in pieces."""
    last = -1
    columns = [column for column in evaluations.columns if column.name != "session"]
    while True:
        rows = connection.execute(
            select(*columns)
            .where(evaluations.c.session == session, evaluations.c.evaluation > last)
            .order_by(evaluations.c.evaluation)
            .limit(chunk)
        ).all()
        if rows:
            yield list(rows)
            last = rows[-1].evaluation
        if len(rows) < chunk:
            return


def list_events(
    connection: Connection,
    namespaces: Namespaces,
    *,
    session: tuple[str, str] | None = None,
    device: str = "",
    before: int | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """Events, newest first; those of no session belong to everybody."""
    wanted: list[ColumnElement[bool]] = []
    if namespaces is not None:
        wanted.append(events.c.namespace.in_([*namespaces, ""]))
    if session is not None:
        wanted += [events.c.namespace == session[0], events.c.session == session[1]]
    if device:
        wanted.append(events.c.device == device)
    if before is not None:
        wanted.append(events.c.id < before)
    rows = connection.execute(select(events).where(*wanted).order_by(events.c.id.desc()).limit(limit))
    return [dict(row) for row in rows.mappings()]


def list_devices(connection: Connection) -> list[dict[str, Any]]:
    """Every device as it was last told of, by name."""
    rows = connection.execute(select(devices).order_by(devices.c.name)).mappings()
    return [{**json.loads(row["state"]), "updated_at": row["updated_at"]} for row in rows]


def device_history(
    connection: Connection, device: str, *, since: float | None, points: int
) -> list[dict[str, Any]]:
    """States of a device, thinned out evenly to about `points`, oldest first."""
    wanted = [device_states.c.device == device]
    if since is not None:
        wanted.append(device_states.c.at >= since)
    total = connection.execute(select(func.count()).select_from(device_states).where(*wanted)).scalar_one()
    stride = max(1, -(-total // points))
    number = (func.row_number().over(order_by=device_states.c.at.desc()) - 1).label("row")
    numbered = select(device_states, number).where(*wanted).subquery()
    columns = [numbered.c[column.name] for column in device_states.columns if column.name != "device"]
    rows = connection.execute(select(*columns).where(numbered.c.row % stride == 0).order_by(numbered.c.at))
    return [dict(row) for row in rows.mappings()]


def list_calibrations(connection: Connection, device: str, limit: int) -> list[dict[str, Any]]:
    """Calibrations of a device, newest first."""
    rows = connection.execute(
        select(calibrations.c.epoch, calibrations.c.clock_s, calibrations.c.at, calibrations.c.detail)
        .where(calibrations.c.device == device)
        .order_by(calibrations.c.clock_s.desc(), calibrations.c.epoch.desc())
        .limit(limit)
    )
    return [{**json.loads(row.detail), **row._asdict()} for row in rows]


def sum_usage(
    connection: Connection,
    namespaces: Namespaces,
    *,
    by: By,
    start: float | None = None,
    end: float | None = None,
    bucket_s: float | None = None,
    tenant: str = "",
    limit: int = 1000,
) -> list[dict[str, Any]]:
    """Usage summed by tenant, session or device and, if asked, in steps of time.

    Args:
        connection: to read from.
        namespaces: tenants that may be seen.
        by: what is summed over.
        start: seconds since 1970, included.
        end: seconds since 1970, not included.
        bucket_s: length of a step.
        tenant: only this one.
        limit: most rows.

    Returns:
        Rows with ``tenant`` (unless by device), ``session`` or ``device``, ``at`` (start of the step), sums.
    """
    wanted = [*_seen(usage.c.tenant, namespaces)]
    if start is not None:
        wanted.append(usage.c.at >= start)
    if end is not None:
        wanted.append(usage.c.at < end)
    if tenant:
        wanted.append(usage.c.tenant == tenant)
    keys: dict[str, Any] = {
        "tenant": {"tenant": usage.c.tenant},
        "session": {"tenant": usage.c.tenant, "session": usage.c.session},
        "device": {"device": usage.c.device},
    }[by]
    if bucket_s:
        keys["at"] = (func.floor(usage.c.at / bucket_s) * literal(bucket_s)).label("at")
    labels = [column.label(name) for name, column in keys.items()]
    rows = connection.execute(
        select(
            *labels,
            func.sum(usage.c.cpu_s).label("cpu_s"),
            func.sum(usage.c.qpu_s).label("qpu_s"),
            func.sum(usage.c.shots).label("shots"),
            func.count().label("charges"),
        )
        .where(*wanted)
        .group_by(*labels)
        .order_by(*labels)
        .limit(limit)
    )
    return [{**dict(row), "shots": int(row["shots"])} for row in rows.mappings()]


def tenant_weights(connection: Connection) -> dict[str, float]:
    """Weights that were told."""
    rows = connection.execute(select(tenants.c.name, tenants.c.weight))
    return {row[0]: row[1] for row in rows}
