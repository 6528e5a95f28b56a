"""Pods on their way to a node.

Between the answer to prioritize and the binding that the watch reports, kube-scheduler says nothing. A burst
of pods would all see the same empty queues and go to the same device. So each pod that was just ranked counts
on its best node at once: until the watch says where it really is, it is tried again, it is gone, or the
prediction is too old to be true.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prediction:
    """A pod expected on a node."""

    uid: str
    node: str
    tenant: str
    slots: int
    cpus: float
    ends_s: float


class Predictions:
    """Predictions in force, oldest first.

    Args:
        lasting_s: how long one is good for.
    """

    def __init__(self, lasting_s: float) -> None:
        self._lasting_s = lasting_s
        self._by_uid: dict[str, Prediction] = {}
        self._order: deque[Prediction] = deque()

    def __len__(self) -> int:
        return len(self._by_uid)

    def __contains__(self, uid: object) -> bool:
        return uid in self._by_uid

    def get(self, uid: str) -> Prediction | None:
        """What is expected of a pod."""
        return self._by_uid.get(uid)

    def make(self, uid: str, node: str, tenant: str, slots: int, cpus: float, now_s: float) -> Prediction:
        """Expect a pod; the caller has ended what was expected of it before."""
        prediction = Prediction(uid, node, tenant, slots, cpus, now_s + self._lasting_s)
        self._by_uid[uid] = prediction
        self._order.append(prediction)
        return prediction

    def end(self, uid: str) -> Prediction | None:
        """Expect a pod no longer; returns what was expected."""
        return self._by_uid.pop(uid, None)

    def expired(self, now_s: float) -> Iterator[Prediction]:
        """End and give those that are too old."""
        while self._order and self._order[0].ends_s <= now_s:
            oldest = self._order.popleft()
            if self._by_uid.get(oldest.uid) is oldest:
                del self._by_uid[oldest.uid]
                yield oldest
