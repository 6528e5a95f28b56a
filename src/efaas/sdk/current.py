"""The session that this program runs as: one for each process."""

from __future__ import annotations

import sys
import threading

from efaas.runner.environment import RunnerEnvironment
from efaas.runner.progress import Progress
from efaas.sdk.session import Session

_current: Session | None = None
_lock = threading.Lock()


def session() -> Session:
    """The session this program runs as, the same each time.

    Raises:
        InputError: the program was not started as a session; `efaas run` starts it as one.
        SessionEnded: another runner has taken the session over.
    """
    global _current
    with _lock:
        if _current is None:
            environment = RunnerEnvironment.read()
            _current = Session(
                environment, environment.load_session(), Progress(environment.progress_fd, sys.stderr)
            )
        return _current


def adopt(made: Session | None) -> None:
    """Make this what `session()` returns; a runner does so before the program that it hosts begins."""
    global _current
    with _lock:
        _current = made
