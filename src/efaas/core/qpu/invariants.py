"""What always holds for a machine between two events. Tests check it after each event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from efaas.core.qpu.jobs import InvariantError
from efaas.core.qpu.lifecycle import FINAL, JobState

if TYPE_CHECKING:
    from efaas.core.qpu.machine import QpuMachine


def validate(machine: QpuMachine) -> None:
    """Check everything.

    Raises:
        InvariantError: something does not hold.
    """

    def hold(truth: bool, law: str) -> None:
        if not truth:
            raise InvariantError(law)

    hold(machine.held is None or machine.calibrating is None, "one thing holds the device at a time")
    queued = list(machine.policy.order())
    waiting = [job for job in machine.jobs.values() if job.state is JobState.WAITING]
    held_back = [job for job in machine.jobs.values() if job.state is JobState.HELD]
    hold(len(queued) == len({job.id for job in queued}), "each job is in a queue once")
    hold({job.id for job in queued} == {job.id for job in waiting}, "the policy queues just the waiting jobs")
    hold(machine.waiting == len(waiting) + len(held_back), "waiting jobs are counted right")
    ready = {job.id for _, _, job in machine.not_ready if job.state is JobState.HELD}
    hold(ready == {job.id for job in held_back}, "jobs that are held back come back")
    hold(
        set(machine.started) == {job.id for job in waiting if job.started},
        "jobs that can go on at a block are known",
    )
    pending_ns = 0
    for job in machine.jobs.values():
        hold(job.state not in FINAL, f"{job.id}: final jobs are forgotten")
        hold(
            (job.state in (JobState.RUNNING, JobState.STOPPING)) == (job is machine.held),
            f"{job.id}: who runs holds the device, and nobody else",
        )
        hold(0 <= job.next_block <= job.job.blocks, f"{job.id}: cells done are cells of the job")
        hold(job.session.closed or job.session.jobs.get(job.id) is job, f"{job.id}: its session knows it")
        pending_ns += job.shots_ns + job.turn_ns
    accounts = machine.accounts
    hold(
        accounts.billed_ns + accounts.unbilled_ns + pending_ns == accounts.busy_ns,
        "billed, unbilled and pending time add up to the busy time",
    )
    for session in machine.sessions.values():
        own = [job for job in machine.jobs.values() if job.session is session]
        hold(len(own) == len(session.jobs), f"{session.name}: it knows its jobs")
        hold(
            session.promised_shots == sum(job.job.shots for job in own),
            f"{session.name}: promised shots are those of its jobs",
        )
    if machine.held is None and machine.calibrating is None:
        reserved = machine.idle is not None and machine.idle.reserved_for is not None
        hold(not waiting or reserved, "the device idles while work waits only where a gap is reserved")
        hold(machine.idle is not None, "idleness was said")
