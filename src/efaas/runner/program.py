"""Runs the user's own program as a session, in this process.

The program sees what it would see from ``python program.py``: its name is ``__main__``, its folder is where
imports are looked for first, its arguments are those of the manifest. Its session is opened before it
begins, so that the QPU is connected while it imports what it needs. How it ends decides how the session
ends: an exception or an exit code other than 0 is a failure whose reason is the last line on stderr,
everything else is completion.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from efaas.errors import EfaasError, InputError, JobFailed, QpuUnavailable
from efaas.runner.environment import RunnerEnvironment
from efaas.runner.main import EXIT_EXPIRED, EXIT_FAILED, EXIT_RESUMABLE, Interrupted, describe, stand_down
from efaas.runner.progress import Progress
from efaas.runner.result import leave_summary, session_result, write_json

if TYPE_CHECKING:
    from efaas.api.session import VQASession
    from efaas.runner.jobs import Connect
    from efaas.sdk.session import Session


def run_program(
    environment: RunnerEnvironment, session: VQASession, progress: Progress, connect: Connect | None = None
) -> int:
    """Run the program from its beginning; what it asked before is answered from its journal.

    Args:
        environment: of the runner; `program` names the script.
        session: with a program.
        progress: hears how it gets on.
        connect: makes connections; tests bring their own.

    Returns:
        The exit code.

    Raises:
        InputError: there is no such script.
        SessionEnded: another runner has taken the session over.
        Interrupted: a signal ended it.
    """
    from efaas.sdk.current import adopt
    from efaas.sdk.session import Session

    assert session.spec.program is not None
    script = environment.program
    if script is None or not script.is_file():
        raise InputError(
            "names no file; start the session with `efaas run`" if script is None else f"{script} is no file",
            place="EFAAS_PROGRAM",
        )
    handle = Session(environment, session, progress, connect=connect, on_limit=_interrupt_program)
    adopt(handle)
    try:
        progress.state("Preparing", "the program starts", handle.device)
        status, reason, code = _run(script, session.spec.program.arguments, handle)
        if code == EXIT_RESUMABLE:
            progress.say(f"{reason}; start the runner again to go on from its journal")
            return code
        result = session_result(session.key, status, reason, handle.outcome(), handle.summary(), None)
        handle.close()
        write_json(environment.folder / "result.json", result)
        leave_summary(environment.termination_message, result)
        progress.finished(result)
        progress.state(status, reason, handle.device)
        return code
    except Interrupted:
        handle.close(over=False)
        raise
    finally:
        adopt(None)
        handle.close()


def _interrupt_program() -> None:
    """End the program wherever it is; called from the session's watch when a limit is reached."""
    os.kill(os.getpid(), signal.SIGTERM)


def _run(script: Path, arguments: tuple[str, ...], handle: Session) -> tuple[str, str, int]:
    """Status, reason and exit code of the program."""
    before = sys.argv, sys.path[:], sys.stderr
    last_line = _LastLine(sys.stderr)
    sys.argv, sys.path[:0], sys.stderr = [str(script), *arguments], [str(script.parent)], last_line
    try:
        runpy.run_path(str(script), run_name="__main__")
        return _completed(handle)
    except Interrupted:
        if handle.limit is None:
            raise
        stand_down()
        return "Expired", handle.limit.message, EXIT_EXPIRED
    except SystemExit as leaving:
        if leaving.code in (None, 0):
            return _completed(handle)
        if isinstance(leaving.code, str):
            print(leaving.code, file=sys.stderr)  # noqa: T201
        return "Failed", last_line.text or f"the program ended with exit code {leaving.code}", EXIT_FAILED
    except BaseException as error:
        if handle.limit is not None:
            return "Expired", handle.limit.message, EXIT_EXPIRED
        if isinstance(error, QpuUnavailable) or (isinstance(error, JobFailed) and error.retry):
            return "", str(error), EXIT_RESUMABLE
        _print_traceback(error)
        return "Failed", str(error) if isinstance(error, EfaasError) else describe(error), EXIT_FAILED
    finally:
        sys.argv, sys.path[:], sys.stderr = before


def _completed(handle: Session) -> tuple[str, str, int]:
    if handle.limit is not None:
        return "Expired", handle.limit.message, EXIT_EXPIRED
    return "Completed", "the program ended", 0


def _print_traceback(error: BaseException) -> None:
    """The traceback as Python would print it, beginning at the program's own frames."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__") in (
        __name__,
        "runpy",
        "_frozen_runpy",
    ):
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace or error.__traceback__, file=sys.stderr)


class _LastLine:
    """stderr that remembers the last line that says something."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begun = ""
        self.text = ""

    def write(self, text: str) -> int:
        """Pass it on, and remember."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in [*lines, self._begun]:
            if line.strip():
                self.text = line.strip()[:500]
        self._begun = self._begun[-4096:]
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
