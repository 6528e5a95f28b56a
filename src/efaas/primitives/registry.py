"""Which local sessions run on this machine, so that `Session.from_id` finds them again.

One file a session, readable by its owner alone because it holds the server's token, in
``$XDG_STATE_HOME/efaas/sessions`` (``~/.local/state/efaas/sessions`` if that is not set). A file whose server
is gone (its interpreter was killed) is removed when it is met.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from efaas.errors import InputError
from efaas.local.folder import read_json

_ID = re.compile(r"[0-9a-f-]{1,64}")
_FIELDS = ("session_id", "endpoint", "token", "pid", "document", "seed", "created", "max_time_s")


@dataclass(frozen=True, slots=True)
class Entry:
    """A running local session."""

    session_id: str
    endpoint: str
    """``host:port`` of its server."""
    token: str
    pid: int
    """Process id of the server."""
    document: str
    """The QPUDevice, as YAML."""
    seed: int
    created: str
    """RFC 3339."""
    max_time_s: float | None


def folder() -> Path:
    """Where the files are."""
    base = os.environ.get("XDG_STATE_HOME", "")
    root = Path(base) if base.startswith("/") else Path.home() / ".local" / "state"
    return root / "efaas" / "sessions"


def path_of(session_id: str) -> Path:
    """File of a session.

    Raises:
        InputError: this is no session id.
    """
    if not _ID.fullmatch(session_id):
        raise InputError(f"{session_id[:80]!r} is no id of a local session", place="session_id")
    return folder() / f"{session_id}.json"


def write(entry: Entry) -> None:
    """Add or replace a session."""
    path = path_of(entry.session_id)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(entry), file)
    os.replace(new, path)


def read(session_id: str) -> Entry:
    """A session that runs.

    Raises:
        InputError: none of this id does, or it is closed; the text lists those that do.
    """
    path = path_of(session_id)
    if is_closed(session_id):
        raise InputError(f"the session {session_id} is closed; open a new one", place="session_id")
    values = read_json(path)
    if values is not None and all(name in values for name in _FIELDS) and _lives(values["pid"]):
        return Entry(**{name: values[name] for name in _FIELDS})
    if values is not None:
        remove(session_id)
    running = ", ".join(running_ids()) or "none"
    raise InputError(f"no local session {session_id!r} runs; running: {running}", place="session_id")


def remove(session_id: str) -> None:
    """Forget a session."""
    for path in (path_of(session_id), _marker(session_id)):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def is_known(session_id: str) -> bool:
    """Whether the session has a file."""
    return path_of(session_id).exists()


def mark_closed(session_id: str) -> None:
    """Tell the process that holds the session that it takes no more jobs; nothing if it is gone."""
    if is_known(session_id):
        with contextlib.suppress(OSError):
            _marker(session_id).touch(mode=0o600)


def is_closed(session_id: str) -> bool:
    """Whether `mark_closed` was called for it."""
    return _marker(session_id).exists()


def _marker(session_id: str) -> Path:
    return path_of(session_id).with_suffix(".closed")


def running_ids() -> list[str]:
    """Ids of the sessions whose server runs."""
    ids = []
    for path in sorted(folder().glob("*.json")):
        values = read_json(path)
        if values is not None and _lives(values.get("pid")):
            ids.append(path.stem)
    return ids


def _lives(pid: object) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
