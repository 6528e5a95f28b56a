"""Runs a session whose problem, ansatz and optimizer are declared in its document."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from efaas.journal import open_journal
from efaas.runner.environment import RunnerEnvironment
from efaas.runner.journalled import last_device
from efaas.runner.limits import Limits
from efaas.runner.main import EXIT_EXPIRED, Interrupted, closing, dispatcher_for
from efaas.runner.progress import Progress
from efaas.runner.result import leave_summary, problem_document, session_result, write_json
from efaas.runner.waiting import LimitReached

if TYPE_CHECKING:
    from efaas.api.session import VQASession
    from efaas.runner.jobs import Connect


def run_declared(
    environment: RunnerEnvironment, session: VQASession, progress: Progress, connect: Connect | None = None
) -> int:
    """Run the loop from wherever the journal says it is; returns the exit code.

    Args:
        environment: of the runner.
        session: with problem, ansatz and optimizer.
        progress: hears how it gets on.
        connect: makes connections; tests bring their own.

    Raises:
        EfaasError: whatever ended it before it was done, limits excepted.
    """
    journal = open_journal(environment.journal, "session", session.key, environment.lease_epoch)
    options: dict[str, Any] = {"begin_at": last_device(journal.records())}
    if connect is not None:
        options["connect"] = connect
    dispatcher = dispatcher_for(environment, session, progress, **options)
    over = True
    try:
        from efaas.core.speculation import Mode
        from efaas.optimizers.stopping import StoppingRule
        from efaas.runner.loop import VariationalLoop
        from efaas.runner.prepare import prepare
        from efaas.runner.trajectory import Trajectory

        progress.state("Preparing", "building circuits", dispatcher.device)
        prepared = prepare(session.spec)
        dispatcher.prepare(prepared.program, prepared.terms)
        rule = StoppingRule.from_spec(session.spec.stop)
        trajectory = Trajectory(prepared.identity, prepared.make_optimizer, journal, rule, progress)
        loop = VariationalLoop(
            prepared,
            trajectory,
            dispatcher,
            rule,
            Limits.from_spec(session.spec.limits),
            speculation=Mode(session.spec.speculation.value),
            twins=environment.twins_of,
        )
        progress.state("Preparing", "waiting for the QPU", dispatcher.device)
        status, reason, code = "Completed", "", 0
        try:
            loop.run()
        except LimitReached as limit:
            status, reason, code = "Expired", limit.message, EXIT_EXPIRED
        outcome = loop.outcome()
        if not reason:
            reason = outcome["stopped_by"]
        result = session_result(
            session.key, status, reason, outcome, trajectory.account.summary(), prepared.exact()
        )
        if outcome["parameters"] is not None:
            starts = [outcome["parameters"], prepared.initial.tolist()]
            write_json(
                environment.folder / "problem.json",
                problem_document(prepared.program, prepared.terms, starts, prepared.readout_mitigation),
            )
        write_json(environment.folder / "result.json", result)
        leave_summary(environment.termination_message, result)
        progress.finished(result)
        progress.state(status, reason, dispatcher.device)
        return code
    except Interrupted:
        over = False
        raise
    finally:
        closing(functools.partial(dispatcher.close, over=over), journal.close)
