"""What is there, as events for a session's machine; and the machine's record as text.

Everything is read from the present state of objects, never from what changed: to read the same pod again
gives the same events, which the machine takes twice without harm. So an operator that was away misses
nothing.

How a runner ended is read from its pod's status, which the kubelet writes: the runner's own word counts only
as its exit code (`efaas.runner.main` lists them) and its last lines, for the message.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from typing import Any

from efaas.core.session import SessionRecord, SessionState
from efaas.core.session.messages import (
    Event,
    Outcome,
    RunnerEnded,
    RunnerLost,
    RunnerPlaced,
    RunnerStarted,
    RunnerTroubled,
)
from efaas.core.session.record import Runner
from efaas.errors import InputError
from efaas_operator.settings import LEASE_EPOCH_ANNOTATION

_EXIT_FAILED = 1
_EXIT_BAD_INPUT = 2
_EXIT_RESUMABLE = 75
_MESSAGE_LIMIT = 1024

_TROUBLES = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)
"""Why a container waits that a person can mend; the others (ContainerCreating) pass by themselves."""

_NOBODYS_FAULT = frozenset(
    {
        "Evicted",
        "NodeAffinity",
        "NodeShutdown",
        "Preempting",
        "Shutdown",
        "TaintToleration",
        "Terminated",
        "UnexpectedAdmissionError",
    }
)
"""Reasons of a failed pod that its node gave; and every ``OutOf…``, of which each resource has its own."""


def runner_events(
    pod: Mapping[str, Any] | None,
    record: SessionRecord,
    devices: Mapping[str, str],
    silent_nodes: Collection[str],
    now_s: float,
) -> list[Event]:
    """What the pod of a session's present runner tells.

    Args:
        pod: the pod as the API server has it; None if it is not there.
        record: of the session's machine.
        devices: device by node.
        silent_nodes: nodes that nobody hears of: what their pods' statuses say is not known to be true.
        now_s: wall seconds.
    """
    runner = record.runner
    if runner is None:
        return []
    epoch = runner.epoch
    if pod is None:
        if record.state is SessionState.PENDING and runner.usable:
            return []  # it was not made yet, or never released: `recall` makes it
        return [RunnerEnded(now_s, epoch, Outcome.STOPPED, "PodDeleted", "its pod was deleted")]
    if (pod["metadata"].get("annotations") or {}).get(LEASE_EPOCH_ANNOTATION) != str(epoch):
        return []
    status = pod.get("status") or {}
    phase = status.get("phase", "Pending")
    if phase == "Succeeded":
        return [RunnerEnded(now_s, epoch, Outcome.COMPLETED, "Completed", _last_words(status))]
    if phase == "Failed":
        return [_failure(status, epoch, now_s)]
    node = pod["spec"].get("nodeName")
    if node is None:
        return [
            RunnerTroubled(now_s, epoch, "Unschedulable", str(condition.get("message", ""))[:_MESSAGE_LIMIT])
            for condition in status.get("conditions") or ()
            if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable"
        ]
    if node in silent_nodes:
        return [RunnerLost(now_s, epoch, f"its node {node} is silent")]
    device = devices.get(node, node)
    if phase == "Running":
        return [RunnerStarted(now_s, epoch, device)]
    events: list[Event] = [RunnerPlaced(now_s, epoch, device)]
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason, message = waiting.get("reason", ""), str(waiting.get("message", ""))
        # The ConfigMap of the pod's own name is the operator's to write: no trouble of the user's.
        if reason in _TROUBLES and f'"{pod["metadata"]["name"]}" not found' not in message:
            events.append(RunnerTroubled(now_s, epoch, reason, message[:_MESSAGE_LIMIT]))
    return events


def _failure(status: Mapping[str, Any], epoch: int, now_s: float) -> RunnerEnded:
    reason, message = str(status.get("reason", "")), str(status.get("message", ""))[:_MESSAGE_LIMIT]
    if reason.startswith("OutOf"):
        # The resource's name is part of that reason and no word that a condition could hold.
        return RunnerEnded(now_s, epoch, Outcome.STOPPED, "RefusedByNode", f"{reason}: {message}")
    if reason in _NOBODYS_FAULT:
        return RunnerEnded(now_s, epoch, Outcome.STOPPED, reason, message)
    ended = _terminated(status)
    words = _last_words(status) or message
    match ended.get("exitCode"):
        case _ if ended.get("reason") == "OOMKilled":
            message = "its runner used more memory than its limit"
            return RunnerEnded(now_s, epoch, Outcome.CRASHED, "OOMKilled", message)
        case code if code == _EXIT_BAD_INPUT:
            return RunnerEnded(now_s, epoch, Outcome.FAILED, "BadInput", words)
        case code if code == _EXIT_FAILED:
            return RunnerEnded(now_s, epoch, Outcome.FAILED, "RunnerFailed", words)
        case code if code == _EXIT_RESUMABLE:
            return RunnerEnded(now_s, epoch, Outcome.CRASHED, "Interrupted", words)
        case None:
            return RunnerEnded(now_s, epoch, Outcome.CRASHED, reason or "RunnerDied", words)
        case code:
            text = f"its runner ended with exit code {code}" + (f": {words}" if words else "")
            return RunnerEnded(now_s, epoch, Outcome.CRASHED, "RunnerDied", text[:_MESSAGE_LIMIT])


def _terminated(status: Mapping[str, Any]) -> Mapping[str, Any]:
    for container in status.get("containerStatuses") or ():
        if container.get("name") == "runner":
            terminated = (container.get("state") or {}).get("terminated") or {}
            return dict(terminated)
    return {}


def _last_words(status: Mapping[str, Any]) -> str:
    """The end of what the runner said: a kubelet keeps its last lines."""
    return str(_terminated(status).get("message", "")).strip()[-_MESSAGE_LIMIT:]


def record_to_text(record: SessionRecord) -> str:
    """A record as it is kept with the session's object."""
    return json.dumps(dataclasses.asdict(record), separators=(",", ":"))


def record_from_text(text: str) -> SessionRecord:
    """Read a record back.

    Raises:
        InputError: it is not one; somebody else has written it.
    """
    try:
        fields = json.loads(text)
        if fields["runner"] is not None:
            fields["runner"] = Runner(**fields["runner"])
        if fields["ending"] is not None:
            state, reason, message = fields["ending"]
            fields["ending"] = (SessionState(state), reason, message)
        return SessionRecord(**fields | {"state": SessionState(fields["state"])})
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"is no record of a session ({error}); delete the session and apply it anew"
        ) from None
