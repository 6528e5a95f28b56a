"""What is there, as events for a session's machine, and what runners leave when they end.

Everything is read from the present state of objects, never from what changed: to read the same pod again
gives the same events, which the machine takes twice without harm. So an operator that was away misses
nothing.

How a runner ended is read from its pod's status, which the kubelet writes: the runner's own word counts only
as its exit code (`efaas.runner.main` lists them), its last lines, for the message, and the summary of its
result, a JSON object that it leaves as its termination message.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from efaas.api.names import ADMISSION_GATE
from efaas.api.reading import cpus, timestamp
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
from efaas.errors import ManifestError
from efaas_operator.settings import LEASE_EPOCH_ANNOTATION

_EXIT_FAILED = 1
_EXIT_BAD_INPUT = 2
_EXIT_EXPIRED = 3
_EXIT_RESUMABLE = 75
_MESSAGE_LIMIT = 1024
_LARGEST = 1e15

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
        case code if code == _EXIT_EXPIRED:
            return RunnerEnded(now_s, epoch, Outcome.EXPIRED, "LimitReached", words)
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
    """Why the runner ended, in its own words: of its summary, or its last lines, which a kubelet keeps."""
    summary = _summary(status)
    if summary:
        return str(summary.get("reason", ""))[:_MESSAGE_LIMIT]
    return str(_terminated(status).get("message", "")).strip()[-_MESSAGE_LIMIT:]


def _summary(status: Mapping[str, Any]) -> dict[str, Any]:
    """What the runner left of its result; empty if it left nothing that can be read."""
    text = str(_terminated(status).get("message", "")).strip()
    if not text.startswith("{"):
        return {}
    try:
        summary = json.loads(text)
    except ValueError:
        return {}
    return summary if isinstance(summary, dict) else {}


def result_of(pod: Mapping[str, Any]) -> dict[str, Any]:
    """A runner's result in brief; empty while there is none.

    Returns:
        ``energy``, ``std_error``, ``exact``, ``best`` as finite numbers where they are given; ``iterations``
        and ``shots`` as counts.
    """
    summary = _summary(pod.get("status") or {})
    result: dict[str, Any] = {}
    for name in ("energy", "std_error", "exact", "best", "ttns_p50_s"):
        value = summary.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST:
            result[name] = float(value)
    for name in ("iterations", "shots"):
        value = summary.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST:
            result[name] = value
    return result


def held_s(pod: Mapping[str, Any], now_s: float) -> float:
    """Core seconds that a pod has had: requested cores times the time for which its node kept them for it.

    From the kubelet's start time (or the scheduler's binding, while the kubelet has not spoken) to the end of
    its last container, as the kubelet says; a pod that is not bound has had nothing.
    """
    if not pod["spec"].get("nodeName"):
        return 0.0
    status = pod.get("status") or {}
    began = [
        condition.get("lastTransitionTime")
        for condition in status.get("conditions") or ()
        if condition["type"] == "PodScheduled" and condition["status"] == "True"
    ]
    start = status.get("startTime") or (began[0] if began else None)
    if start is None:
        return 0.0
    ended = []
    if status.get("phase") in ("Succeeded", "Failed"):
        for container in status.get("containerStatuses") or ():
            finished = ((container.get("state") or {}).get("terminated") or {}).get("finishedAt")
            if finished:
                ended.append(timestamp(finished))
    cores = sum(
        cpus((each.get("resources") or {}).get("requests", {}).get("cpu", "0"))
        for each in pod["spec"]["containers"]
    )
    try:
        return max(0.0, (max(ended) if ended else now_s) - timestamp(start)) * cores
    except ManifestError:
        return 0.0


def epoch_of(pod: Mapping[str, Any]) -> int:
    """Lease epoch of a runner pod; 0 if it does not say."""
    text = (pod["metadata"].get("annotations") or {}).get(LEASE_EPOCH_ANNOTATION, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def ended(pod: Mapping[str, Any]) -> bool:
    """Whether its kubelet said that it is over."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def gated(pod: Mapping[str, Any]) -> bool:
    """Whether admission still holds it."""
    gates = pod["spec"].get("schedulingGates") or ()
    return any(gate["name"] == ADMISSION_GATE for gate in gates)


def belongs(document: Mapping[str, Any], owner: Mapping[str, Any]) -> bool:
    """Whether an object is owned by exactly this one, not by an earlier one of its name."""
    uid = owner["metadata"]["uid"]
    return any(each["uid"] == uid for each in document["metadata"].get("ownerReferences") or ())
