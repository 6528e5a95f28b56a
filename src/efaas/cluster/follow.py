"""A session followed to its end: what happens to it as lines, and what its program prints.

`story` is pure: from one state of the object to the next, the lines that a person wants to read. `follow`
watches the object and its runner's log and hands the lines to whoever shows them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from efaas.api.meta import GROUP
from efaas.cluster.connection import Cluster, ClusterError, Document, sessions_path
from efaas.errors import InputError

FINAL = frozenset({"Completed", "Failed", "Cancelled", "Expired"})
_PAUSE_S = 1.0
_LAST_LINES_S = 5.0


@dataclass
class Seen:
    """What was told of a session so far."""

    told: dict[str, Any] = field(default_factory=dict)


def story(status: Mapping[str, Any], seen: Seen) -> Iterator[str]:
    """Lines for what is new in a session's status; `seen` is brought up to date.

    Args:
        status: of the VQASession, as the API server has it.
        seen: what was told before.
    """
    state = status.get("state") or "Pending"
    why = _why(status)
    where = status.get("device", "")
    now = {"state": state, "why": why, "device": where}
    if any(seen.told.get(key) != value for key, value in now.items()):
        on = f" on {where}" if where and state in ("Placed", "Running") else ""
        yield f"{state}{on}" + (f": {why}" if why else "")
    queue = status.get("queue") or {}
    position = queue.get("position")
    if state == "Pending" and position is not None and position != seen.told.get("position"):
        start = queue.get("estimatedStart")
        yield f"{position} before it" + (f", expected to start at {start}" if start else "")
    runner = status.get("runner") or {}
    restarts = runner.get("restarts", 0)
    if restarts > seen.told.get("restarts", 0):
        yield f"runner {runner.get('pod', '')} goes on from the journal (restart {restarts})"
    seen.told = {**now, "position": position, "restarts": restarts}


def outcome(status: Mapping[str, Any]) -> str:
    """How a session ended, in a line."""
    result, usage = status.get("result") or {}, status.get("usage") or {}
    parts = [str(status.get("state", ""))]
    if result.get("energy") is not None:
        error = f" ± {result['stdError']}" if result.get("stdError") is not None else ""
        parts.append(f"energy {result['energy']}{error}")
    if result.get("exact") is not None:
        parts.append(f"exact {result['exact']}")
    if usage:
        parts.append(
            f"{usage.get('shots', 0)} shots, {usage.get('qpuMilliseconds', 0) / 1000:.3f} s on QPUs, "
            f"{usage.get('cpuMilliseconds', 0) / 1000:.1f} s of cores"
        )
    return "; ".join(parts)


def _why(status: Mapping[str, Any]) -> str:
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    state = status.get("state")
    if state in FINAL:
        told = conditions.get("Completed", {})
        return str(told.get("message") or status.get("reason", "")) if state != "Completed" else ""
    for kind in ("Admitted", "Placed", "Running"):
        told = conditions.get(kind)
        if told is not None and told["status"] != "True":
            reason, message = told.get("reason", ""), told.get("message", "")
            return f"{reason}: {message}" if message else str(reason)
    return ""


def follow(
    cluster: Cluster, namespace: str, name: str, tell: Callable[[str], None], show: Callable[[str], None]
) -> Document:
    """Follow a session to its end; returns its status.

    Args:
        cluster: where it is.
        namespace: of the session.
        name: of the session.
        tell: takes lines about the session.
        show: takes lines of its runner's log.

    Raises:
        InputError: there is no such session, or it was deleted.
        ClusterError: the API server refuses.
    """
    seen, logs = Seen(), _Logs(cluster, namespace, show)
    path = f"{sessions_path(namespace)}/{name}"
    while True:
        found = cluster.find(path)
        while found is not None:
            status: Document = found.get("status") or {}
            for line in story(status, seen):
                tell(line)
            logs.read((status.get("runner") or {}).get("pod", ""))
            if status.get("state") in FINAL:
                # A short session may be over before anybody saw its runner in the status.
                logs.read(last_runner(cluster, namespace, name))
                logs.finish()
                return status
            found = _next(cluster, namespace, name, found)
        if cluster.find(path) is None:
            raise InputError("was deleted", place=f"VQASession {namespace}/{name}")


def _next(cluster: Cluster, namespace: str, name: str, found: Document) -> Document | None:
    """The next state of a session; None where it has to be read anew."""
    version = found["metadata"]["resourceVersion"]
    try:
        for kind, changed in cluster.watch(sessions_path(namespace), name=name, version=version):
            return None if kind == "DELETED" else changed
    except ClusterError as error:
        if not error.retry and error.status != 410:
            raise
        time.sleep(_PAUSE_S)
    return None


class _Logs:
    """Reads the log of each runner in turn, in a thread of its own."""

    def __init__(self, cluster: Cluster, namespace: str, show: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._show = show
        self._pod = ""
        self._thread: threading.Thread | None = None

    def read(self, pod: str) -> None:
        """Read this pod's log from now on."""
        if not pod or pod == self._pod:
            return
        self._pod = pod
        self._thread = threading.Thread(target=self._follow, args=(pod,), daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait a moment for the last lines."""
        if self._thread is not None:
            self._thread.join(_LAST_LINES_S)

    def _follow(self, pod: str) -> None:
        since = ""
        while self._pod == pod:
            # Asked first, as what has ended has said all. A pod without a node has an empty log, not none.
            ended = self._has_ended(pod)
            try:
                for line in log_lines(self._cluster, self._namespace, pod, since):
                    since, _, text = line.partition(" ")
                    self._show(text)
            except ClusterError:
                pass  # Its container has not started yet, or the way broke.
            if ended:
                return
            time.sleep(_PAUSE_S)

    def _has_ended(self, pod: str) -> bool:
        try:
            found = self._cluster.find(f"/api/v1/namespaces/{self._namespace}/pods/{pod}")
        except ClusterError:
            return False
        return found is None or found.get("status", {}).get("phase") in ("Succeeded", "Failed")


def last_runner(cluster: Cluster, namespace: str, name: str) -> str:
    """A session's newest runner pod, as the status of one that is over names none; empty: there is none."""
    selector = f"{GROUP}/session-name={name}"
    pods = [
        pod["metadata"]
        for pod in cluster.items(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)
    ]
    newest = max(pods, key=lambda each: int(each["annotations"][f"{GROUP}/lease-epoch"]), default=None)
    return str(newest["name"]) if newest else ""


def log_lines(cluster: Cluster, namespace: str, pod: str, since: str = "") -> Iterator[str]:
    """Lines of a pod's log as they come, each after its time.

    Args:
        cluster: where.
        namespace: of the pod.
        pod: name.
        since: time of the last line that was read; that one is left out.
    """
    query = {"follow": "true", "timestamps": "true", **({"sinceTime": since} if since else {})}
    for line in cluster.lines(f"/api/v1/namespaces/{namespace}/pods/{pod}/log", query):
        if not since or line.partition(" ")[0] > since:
            yield line
