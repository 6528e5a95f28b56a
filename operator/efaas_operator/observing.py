"""What a session's machine is told in one look, from what is there now; no input or output."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from efaas.api.quantities import seconds
from efaas.api.session import Limits
from efaas.core.session import Policy, SessionRecord, SessionState
from efaas.core.session.messages import (
    Deleted,
    Event,
    Granted,
    MoveAsked,
    Refused,
    Reported,
    RunnerTroubled,
    Tick,
    Wanted,
)
from efaas_operator.reading import gated, result_of, runner_events
from efaas_operator.services.ports import Charged


def policy_of(spec: Mapping[str, Any]) -> Policy:
    """Limits and waits as the specification has them."""
    limits = Limits.model_validate(spec.get("limits") or {}, extra="ignore")
    ttl = spec.get("ttlSecondsAfterFinished")
    return Policy(
        max_duration_s=None if limits.duration is None else seconds(limits.duration),
        max_idle_s=None if limits.idle is None else seconds(limits.idle),
        max_shots=limits.shots,
        max_qpu_s=None if limits.qpu_time is None else seconds(limits.qpu_time),
        ttl_s=None if ttl is None else float(ttl),
    )


def observe(
    session: Mapping[str, Any],
    record: SessionRecord,
    pod: Mapping[str, Any] | None,
    *,
    devices: Mapping[str, str],
    silent_nodes: Collection[str],
    leaving: Mapping[str, str],
    charged: Charged | None,
    iterations: int,
    missing_script: str,
    now_s: float,
) -> list[Event]:
    """Everything that is known now about a session, as events; told again it changes nothing.

    Args:
        session: the VQASession as the API server has it.
        record: of its machine.
        pod: of its present runner; None if there is none.
        devices: device by node.
        silent_nodes: nodes that nobody hears of.
        leaving: devices that sessions are to leave, with the reason.
        charged: what QPU servers charged it for.
        iterations: done, as the gateway knows.
        missing_script: what of its script is missing.
        now_s: wall seconds.
    """
    spec = session["spec"]
    events: list[Event] = [Wanted(now_s, bool(spec.get("suspend")), policy_of(spec))]
    iterations = max(iterations, result_of(pod).get("iterations", 0) if pod is not None else 0)
    if charged is not None or iterations > record.iterations:
        known = charged or Charged(record.shots, record.qpu_s, record.active_s)
        events.append(Reported(now_s, iterations, known.shots, known.qpu_s, known.last_job_s))
    if session["metadata"].get("deletionTimestamp"):
        events.append(Deleted(now_s))
    runner = record.runner
    released = pod is not None and runner is not None and runner.usable and not gated(pod)
    if released and record.state is SessionState.PENDING:
        events.append(Granted(now_s))  # its gate was taken off before the operator was killed
    events += runner_events(pod, record, devices, silent_nodes, now_s)
    if missing_script and runner is not None:
        events.append(Refused(now_s, "ConfigMapMissing", missing_script))
        if pod is None or (pod.get("status") or {}).get("phase", "Pending") == "Pending":
            events.append(RunnerTroubled(now_s, runner.epoch, "ConfigMapMissing", missing_script))
    if record.device and record.device in leaving:
        events.append(MoveAsked(now_s, record.device, leaving[record.device]))
    events.append(Tick(now_s))
    return events
