"""Conditions of a status, the same for sessions and devices.

A time stamp is taken over from the condition before as long as its status is the same, so that a status made
twice is the same status. A reason is one word, or the API server would refuse the whole status.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from efaas_operator.build.common import Document

_REASON_LIMIT = 256
_NO_WORD = re.compile("[^A-Za-z0-9_,:]")


class Condition(NamedTuple):
    """What is to be said of one type."""

    type: str
    status: str
    """``True``, ``False`` or ``Unknown``."""
    reason: str
    """Becomes one word."""
    message: str


def build_conditions(
    wanted: Iterable[Condition],
    previous: Iterable[Mapping[str, Any]],
    generation: int,
    now_s: float,
    message_limit: int,
) -> list[Document]:
    """Conditions as a status holds them.

    Args:
        wanted: in the order in which they are shown.
        previous: those of the status as it is now.
        generation: of the specification that they are about.
        now_s: wall seconds since 1970.
        message_limit: characters of a message that are kept.
    """
    before = {condition["type"]: condition for condition in previous}
    conditions = []
    for type_, status, reason, message in wanted:
        old = before.get(type_)
        since = old["lastTransitionTime"] if old and old["status"] == status else rfc3339(now_s)
        conditions.append(
            {
                "type": type_,
                "status": status,
                "reason": word(reason),
                "message": message[:message_limit],
                "observedGeneration": generation,
                "lastTransitionTime": since,
            }
        )
    return conditions


def word(reason: str) -> str:
    """A reason as a condition may hold it."""
    return _NO_WORD.sub("", reason)[:_REASON_LIMIT].lstrip(",:_0123456789").rstrip(",:") or "Unknown"


def rfc3339(moment_s: float) -> str:
    """A wall time as the API writes it, in whole seconds."""
    return datetime.fromtimestamp(int(moment_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
