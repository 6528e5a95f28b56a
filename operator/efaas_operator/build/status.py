"""A session's status, as kubectl shows it, from what the core decided.

Conditions are made in the order of a session's life: Admitted, Placed, Running, Completed. The first that
does not hold says why, in the words of the session's machine; those after it wait for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from efaas.core.admission import Waiting
from efaas.core.session import SessionRecord, SessionState
from efaas.core.session.messages import FINAL
from efaas_operator.build.common import Document
from efaas_operator.build.conditions import Condition, build_conditions, rfc3339

_LIFE = (
    ("Admitted", (SessionState.ADMITTED, SessionState.PLACED, SessionState.RUNNING)),
    ("Placed", (SessionState.PLACED, SessionState.RUNNING)),
    ("Running", (SessionState.RUNNING,)),
    ("Completed", (SessionState.COMPLETED,)),
)
_REASON_LIMIT = 256
_MESSAGE_LIMIT = 32_768
_POSITION_GRAIN = 10
"""Positions above this are rounded down to its multiples: they would change with every release."""


def build_session_status(
    record: SessionRecord,
    previous: Mapping[str, Any],
    generation: int,
    now_s: float,
    waiting: Waiting | None = None,
) -> Document:
    """The fields of a status that the session's life says; progress and usage are left to their writers.

    Args:
        record: of the session's machine.
        previous: status as it is now.
        generation: of the specification that this is about.
        now_s: wall seconds since 1970.
        waiting: what admission told, while it waits for a slot.
    """
    status: Document = {
        "observedGeneration": generation,
        "state": record.state.value,
        "reason": _brief(record),
        # A session that is over holds no device, but a person still wants to know where it ran.
        "device": previous.get("device", "") if record.state in FINAL else record.device,
        "conditions": build_conditions(
            _conditions(record), previous.get("conditions", ()), generation, now_s, _MESSAGE_LIMIT
        ),
    }
    if waiting is not None and waiting.position is not None and record.state is SessionState.PENDING:
        status["queue"] = {"position": _rounded(waiting.position)}
        if waiting.start_s is not None:
            status["queue"]["estimatedStart"] = rfc3339(waiting.start_s)
    else:
        status["queue"] = None
    if record.finished_s is not None:
        status["finishedAt"] = rfc3339(record.finished_s)
    return status


def _conditions(record: SessionRecord) -> list[Condition]:
    conditions = []
    first_missing = ""
    for type_, states in _LIFE:
        holds = record.state in states
        if record.state in FINAL:
            own = type_ == "Completed"
            reason = record.reason if own else record.state.value
            message = record.message if own else "the session is over"
        elif holds:
            reason, message = type_, record.message if record.reason == type_ else ""
        elif not first_missing:
            reason, message = record.reason, record.message
        else:
            reason, message = f"Not{first_missing}", ""
        if not holds and not first_missing:
            first_missing = type_
        conditions.append(Condition(type_, "True" if holds else "False", reason, message))
    return conditions


def _brief(record: SessionRecord) -> str:
    """For the table that kubectl prints: the word, and the sentence as far as there is room."""
    if not record.message or record.state is SessionState.RUNNING:
        return record.reason[:_REASON_LIMIT]
    text = f"{record.reason}: {record.message}"
    return text if len(text) <= _REASON_LIMIT else text[: _REASON_LIMIT - 1] + "…"


def _rounded(position: int) -> int:
    return position if position <= _POSITION_GRAIN else position // _POSITION_GRAIN * _POSITION_GRAIN
