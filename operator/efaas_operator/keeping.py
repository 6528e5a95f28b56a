"""What the operator keeps of a session in its status (`record`), as text, and how it reads it back.

Everything else is read from the cluster; this is what nothing else remembers: the record of the session's
machine, and the core seconds of runners whose pods are gone.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field

from efaas.core.session import SessionRecord, SessionState
from efaas.core.session.record import Runner
from efaas.errors import InputError


@dataclass(slots=True)
class Kept:
    """What is kept of one session."""

    record: SessionRecord = field(default_factory=SessionRecord)
    cpu_before_s: float = 0.0
    """Requested cores times time held, of runners before the present one."""


def kept_to_text(kept: Kept) -> str:
    """As it is kept with the session's object; fields with their first values are left out."""
    return json.dumps(
        {"session": _changed(kept.record), "cpu": round(kept.cpu_before_s, 3)}, separators=(",", ":")
    )


def kept_from_text(text: str) -> Kept:
    """Read it back; empty text is a session that nobody has looked at yet.

    Raises:
        InputError: it is not one; somebody else has written it.
    """
    if not text:
        return Kept()
    try:
        document = json.loads(text)
        fields = dict(document["session"])
        if fields.get("runner") is not None:
            fields["runner"] = Runner(**fields["runner"])
        if fields.get("ending") is not None:
            state, reason, message = fields["ending"]
            fields["ending"] = (SessionState(state), reason, message)
        if "state" in fields:
            fields["state"] = SessionState(fields["state"])
        return Kept(SessionRecord(**fields), float(document["cpu"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"is no record of a session ({error}); delete the session and apply it anew",
            place="status.record",
        ) from None


_RUNNER_FIELDS = tuple(each.name for each in dataclasses.fields(Runner))
_FIRST = {each.name: getattr(SessionRecord(), each.name) for each in dataclasses.fields(SessionRecord)}


def _changed(record: SessionRecord) -> dict[str, object]:
    # Written for every look at every session: `dataclasses.asdict` took a fifth of the operator's time.
    values: dict[str, object] = {}
    for name, first in _FIRST.items():
        value = getattr(record, name)
        if value != first:
            values[name] = value
    runner = record.runner
    if runner is not None:
        values["runner"] = {name: getattr(runner, name) for name in _RUNNER_FIELDS}
    return values
