"""A runner from its start to its exit code.

======= =====================================================================================
exit    meaning
======= =====================================================================================
0       completed
1       failed
2       bad input: one sentence on stderr, the same as reason of the state Failed
3       expired: a limit of the session ended it
75      interrupted, or no QPU could be reached: start it again and it goes on from its journal
======= =====================================================================================

SIGTERM and SIGINT end it at once, wherever it is: the journal is consistent at every moment, so there is
nothing to tidy up but the connection. The first iteration should come soon after the command, so nothing is
imported before it is needed, and the QPU is connected (waiting for its address, gRPC's import, the hello)
while Qiskit builds circuits.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

from efaas.errors import EfaasError, InputError, JobFailed, QpuUnavailable
from efaas.runner.environment import RunnerEnvironment
from efaas.runner.progress import Progress

if TYPE_CHECKING:
    from efaas.api.session import VQASession
    from efaas.runner.dispatch import Dispatcher

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_EXPIRED = 3
EXIT_RESUMABLE = 75

LONGEST_PATIENCE_S = 120.0
"""Wall seconds that the only QPU of a session is waited for before the runner ends as resumable."""

_GRACE_S = 2.0
"""Wall seconds that tidying up after a signal may take before the process ends anyway."""


class Interrupted(BaseException):
    """SIGTERM or SIGINT arrived; not an `Exception`, so that no user's program catches it by accident."""


_watchdogs: list[threading.Timer] = []


def stand_down() -> None:
    """Let the process live on after `Interrupted`: what it was raised for has been seen to."""
    while _watchdogs:
        _watchdogs.pop().cancel()


def _interrupt(number: int, frame: FrameType | None) -> None:
    del frame
    # A second signal ends the process at once, and so does a program that does not let go.
    signal.signal(number, signal.SIG_DFL)
    watchdog = threading.Timer(_GRACE_S, os._exit, (EXIT_RESUMABLE,))
    watchdog.daemon = True
    watchdog.start()
    _watchdogs.append(watchdog)
    raise Interrupted(signal.Signals(number).name)


def main(variables: Mapping[str, str] = os.environ) -> int:
    """Run the session that the environment names; returns the exit code."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    progress = Progress(log=sys.stderr)
    environment = None
    try:
        environment = RunnerEnvironment.read(variables)
        progress = Progress(environment.progress_fd, sys.stderr)
        progress.state("Preparing", "reading the session")
        return run_session(environment, environment.load_session(), progress)
    except Interrupted as signalled:
        progress.say(f"{signalled}: ended; the journal holds what was done")
        return EXIT_RESUMABLE
    except BaseException as error:
        code = report(error, progress)
        if environment is not None and code != EXIT_RESUMABLE:
            from efaas.runner.result import leave_summary

            reason = str(error) if isinstance(error, EfaasError) else describe(error)
            leave_summary(environment.termination_message, {"status": "Failed", "reason": reason})
        return code


def run_session(environment: RunnerEnvironment, session: VQASession, progress: Progress) -> int:
    """Run a session, by its program or by its declared problem."""
    if session.spec.program is not None:
        from efaas.runner.program import run_program

        return run_program(environment, session, progress)
    from efaas.runner.declared import run_declared

    return run_declared(environment, session, progress)


def dispatcher_for(
    environment: RunnerEnvironment, session: VQASession, progress: Progress, **options: Any
) -> Dispatcher:
    """A dispatcher with what the session says about itself; it begins to connect at once."""
    from efaas.api.quantities import seconds
    from efaas.runner.dispatch import Dispatcher

    age = session.spec.device.max_calibration_age
    age_s = None if age is None else seconds(age)
    if len(environment.qpus) == 1:
        options.setdefault("patience_s", LONGEST_PATIENCE_S)  # there is no other to turn to
    elif "connect" not in options:
        from efaas.runner.routes import LateDescriber, Routes

        options["routes"] = Routes(
            session.key, environment.qpus, LateDescriber(environment.qpus), max_calibration_age_s=age_s
        )
    return Dispatcher(
        session.key,
        environment.qpus,
        progress,
        lease_epoch=environment.lease_epoch,
        seed=session.spec.seed,
        weight=session.spec.weight,
        max_calibration_age_s=age_s or 0.0,
        **options,
    )


def report(error: BaseException, progress: Progress) -> int:
    """Tell of an error that ends the runner; returns its exit code."""
    if isinstance(error, QpuUnavailable) or (isinstance(error, JobFailed) and error.retry):
        progress.say(f"{error}; start the runner again to go on from its journal")
        return EXIT_RESUMABLE
    if not isinstance(error, EfaasError):
        traceback.print_exception(error, file=sys.stderr)
    reason = str(error) if isinstance(error, EfaasError) else describe(error)
    progress.state("Failed", reason)
    print(f"error: {reason}", file=sys.stderr, flush=True)  # noqa: T201
    return EXIT_BAD_INPUT if isinstance(error, InputError) else EXIT_FAILED


def describe(error: BaseException) -> str:
    """The last line of an error's traceback."""
    return traceback.format_exception_only(error)[-1].strip()


def closing(*what: Callable[[], None]) -> None:
    """Call these one after the other whatever becomes of each."""
    for close in what:
        try:
            close()
        except (EfaasError, OSError):
            continue
