"""When a session's first shot was, and what happened before it, as somebody sees it who watches.

Times of objects have whole seconds, so changes are timed when the API server tells them, on the clock of this
machine, which nodes of kind share. The runner's own steps come from its log, which kubelets stamp.
"""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from e2e.support.kubectl import MEDIUM_S, Kubectl, wait_until
from e2e.support.sessions import trajectory
from efaas.cluster.connection import open_cluster

PARTS = ("admission", "scheduling", "pod start", "import", "first job")


@dataclass
class Timeline:
    """Moments of one session, in seconds since the epoch."""

    applied: float
    released: float = 0.0
    """Its pod is there without a gate."""
    placed: float = 0.0
    started: float = 0.0
    """Its container runs, as its kubelet says."""
    imported: float = 0.0
    """The first line of its log: Python is up."""
    first_shot: float = 0.0
    """The first evaluation is in its journal."""

    @property
    def total_s(self) -> float:
        """From `kubectl apply` to the first shot's result."""
        return self.first_shot - self.applied

    def parts_s(self) -> dict[str, float]:
        """How long each part took."""
        moments = (
            self.applied,
            self.released,
            self.placed,
            self.started,
            self.imported,
            self.first_shot,
        )
        spans = [later - earlier for earlier, later in itertools.pairwise(moments)]
        return dict(zip(PARTS, spans, strict=True))


@dataclass
class _Watch:
    """What a watch of the pods told, by session."""

    released: dict[str, float] = field(default_factory=dict)
    placed: dict[str, float] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)
    pods: dict[str, str] = field(default_factory=dict)

    def note(self, pod: dict[str, Any]) -> None:
        """Keep the first moment of each step."""
        session = pod["metadata"].get("labels", {}).get("efaas.dev/session-name")
        if session is None:
            return
        now = time.time()
        self.pods[session] = pod["metadata"]["name"]
        if not pod["spec"].get("schedulingGates"):
            self.released.setdefault(session, now)
        if pod["spec"].get("nodeName"):
            self.placed.setdefault(session, now)
        states = [each.get("state", {}) for each in pod.get("status", {}).get("containerStatuses", ())]
        if any("running" in state or "terminated" in state for state in states):
            self.started.setdefault(session, now)


class Observer:
    """Watches the pods of a namespace while sessions are applied.

    Args:
        kubectl: the cluster.
        namespace: of the sessions.
    """

    def __init__(self, kubectl: Kubectl, namespace: str = "default") -> None:
        self._kubectl = kubectl
        self._namespace = namespace
        self._watch = _Watch()
        self._cluster = open_cluster(str(kubectl.kubeconfig), None, namespace)
        threading.Thread(target=self._follow, daemon=True).start()
        time.sleep(1.0)  # The watch begins; there is nothing to see of that.

    def _follow(self) -> None:
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        for _, pod in self._cluster.watch(path, within_s=300.0):
            self._watch.note(pod)

    def of(self, name: str, applied: float) -> Timeline:
        """A session's timeline, once its first evaluation is there."""
        wait_until(
            f"{name}'s first shot",
            lambda: trajectory(self._kubectl, name, self._namespace)["evaluation"],
            MEDIUM_S,
        )
        first_shot = float(trajectory(self._kubectl, name, self._namespace)["at"][0])
        log = self._kubectl(
            "logs", self._watch.pods[name], "-n", self._namespace, "--timestamps", "--limit-bytes=2000"
        )
        return Timeline(
            applied,
            self._watch.released[name],
            self._watch.placed[name],
            self._watch.started[name],
            _stamp(log.partition(" ")[0]),
            first_shot,
        )


def _stamp(text: str) -> float:
    """A time stamp with nanoseconds, which `datetime` does not read."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")
