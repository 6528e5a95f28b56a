"""Everything the extender knows, kept up to date by what the watches report.

Sans IO: `handle` takes an event with the moment it came, `Known` is changed, and the decisions read it.
Indices follow each event, so that a decision never walks over all objects:

- the fleet: one row for each node with a device, with the slots and queue that its pods and the pods on their
  way make;
- waiting pods by tenant and by what they ask for;
- pods by session, so that a session that appears or changes reaches its pods.

A **wake** is wanted when something changed that kube-scheduler does not watch (devices, sessions) or saw
before this process did, while refused pods wait: `wake_wanted` tells the host, which touches a Node.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from efaas.core.fleet import Fleet, Report
from efaas.core.placement import Request
from efaas.errors import ManifestError
from efaas_scheduler.predictions import Prediction, Predictions
from efaas_scheduler.reading import (
    DeviceRecord,
    NodeRecord,
    PodRecord,
    SessionRecord,
    read_device,
    read_node,
    read_pod,
    read_session,
    with_use,
)
from efaas_scheduler.standing import Standings

_LOG = logging.getLogger(__name__)
_MOST_CLASSES = 10_000
_UNSEEN_S = 60.0


class Kind(StrEnum):
    """What is watched."""

    DEVICE = "QPUDevice"
    SESSION = "VQASession"
    NODE = "Node"
    POD = "Pod"


class Change(StrEnum):
    """What happened to an object."""

    PUT = "Put"
    GONE = "Gone"


@dataclass(frozen=True, slots=True)
class RequestClass:
    """What decides where a pod may go, whoever asks; equal ones fit the same devices."""

    qubits: int
    match_labels: tuple[tuple[str, str], ...]
    node_selector: tuple[tuple[str, str], ...]
    max_calibration_age_s: float | None
    min_fidelity: float
    gates: tuple[int, int, int]
    """Single-qubit gates, two-qubit gates and readouts, where a least fidelity is asked for."""

    @classmethod
    def of(cls, request: Request) -> RequestClass:
        """The class of a request."""
        shape = request.shape
        return cls(
            request.qubits,
            tuple(sorted(request.match_labels.items())),
            tuple(sorted(request.node_selector.items())),
            request.max_calibration_age_s,
            request.min_fidelity,
            (shape.one_qubit_gates, shape.two_qubit_gates, shape.measured_qubits)
            if request.min_fidelity > 0
            else (0, 0, 0),
        )


class Known:
    """State of the cluster as far as placement is concerned.

    Args:
        standings: tenants' shares.
        prediction_time_s: how long a pod on its way is expected.
        calibration_patience_s: goes into every request.
    """

    def __init__(
        self,
        standings: Standings,
        *,
        prediction_time_s: float = 10.0,
        calibration_patience_s: float = math.inf,
    ) -> None:
        self.fleet = Fleet()
        self.standings = standings
        self.predictions = Predictions(prediction_time_s)
        self.pods: dict[str, PodRecord] = {}
        self.sessions: dict[str, SessionRecord] = {}
        self.nodes: dict[str, NodeRecord] = {}
        self.devices: dict[str, DeviceRecord] = {}
        self.waiting: defaultdict[str, Counter[RequestClass]] = defaultdict(Counter)
        """Waiting pods by tenant and class; gated pods and pods on their way are not among them."""
        self.requests: dict[RequestClass, Request] = {}
        self.refused: dict[str, float] = {}
        """Pods (by UID) whose last filter left no node, and when that was."""
        self.last_bound_s: dict[str, float] = {}
        """When a pod of each tenant was last bound."""
        self.short_of_slots: set[str] = set()
        """Nodes that offer more of the extended resource than their device has slots."""
        self.wake_wanted = False
        self._patience_s = calibration_patience_s
        self._uid_of: dict[str, str] = {}
        self._class_of: dict[str, tuple[str, RequestClass]] = {}
        self._pods_of_session: defaultdict[str, set[str]] = defaultdict(set)
        self._devices_of: defaultdict[str, set[str]] = defaultdict(set)
        self._bound: defaultdict[str, list[float]] = defaultdict(lambda: [0, 0])
        self._generations: dict[str, tuple[str, int]] = {}
        self._faults: dict[tuple[Kind, str], str] = {}
        self._capacity_changed = True
        self._swept_s = 0.0

    # --- events -----------------------------------------------------------------------------------

    def handle(self, kind: Kind, change: Change, document: Mapping[str, Any], now_s: float) -> None:
        """Take one event.

        An object that cannot be understood counts as gone and is logged once for each different reason.
        """
        metadata = document["metadata"]
        name = metadata["name"]
        key = f"{metadata['namespace']}/{name}" if metadata.get("namespace") else name
        try:
            if change is Change.GONE:
                self._drop(kind, key)
            else:
                self._put(kind, key, document, now_s)
            self._faults.pop((kind, key), None)
        except (ManifestError, KeyError, TypeError, ValueError) as error:
            text = str(error) or repr(error)
            if self._faults.get((kind, key)) != text:
                self._faults[kind, key] = text
                _LOG.warning("object not understood", extra={"object": f"{kind} {key}", "error": text})
            self._drop(kind, key)

    def replace(self, kind: Kind, documents: Iterable[Mapping[str, Any]], now_s: float) -> int:
        """Take a whole list: what is not in it is gone. Returns how many objects there are."""
        seen = set()
        count = 0
        for document in documents:
            metadata = document["metadata"]
            seen.add(
                f"{metadata['namespace']}/{metadata['name']}"
                if metadata.get("namespace")
                else metadata["name"]
            )
            self.handle(kind, Change.PUT, document, now_s)
            count += 1
        objects: dict[Kind, Mapping[str, Any]] = {
            Kind.DEVICE: self.devices,
            Kind.SESSION: self.sessions,
            Kind.NODE: self.nodes,
            Kind.POD: self._uid_of,
        }
        for key in [key for key in objects[kind] if key not in seen]:
            self._drop(kind, key)
        return count

    def _put(self, kind: Kind, key: str, document: Mapping[str, Any], now_s: float) -> None:
        if kind is Kind.POD:
            self._put_pod(read_pod(document), now_s)
        elif kind is Kind.NODE:
            self._put_node(read_node(document))
        elif kind is Kind.DEVICE:
            self._put_device(read_device(document, now_s))
        else:
            self._put_session(key, document, now_s)

    def _drop(self, kind: Kind, key: str) -> None:
        if kind is Kind.POD:
            uid = self._uid_of.get(key)
            if uid is not None:
                self._drop_pod(uid)
        elif kind is Kind.NODE:
            if self.nodes.pop(key, None) is not None:
                self._show(key)
                self._capacity_changed = True
        elif kind is Kind.DEVICE:
            device = self.devices.pop(key, None)
            if device is not None:
                self._devices_of[device.node].discard(key)
                self._show(device.node)
                self._capacity_changed = True
        elif self.sessions.pop(key, None) is not None:
            self._generations.pop(key, None)
            self.standings.forget(key)
            self._reclassify(key)

    # --- devices and nodes ------------------------------------------------------------------------

    def _put_device(self, device: DeviceRecord) -> None:
        before = self.devices.get(device.name)
        if before is not None and before.node != device.node:
            self._devices_of[before.node].discard(device.name)
            self._show(before.node)
        self.devices[device.name] = device
        self._devices_of[device.node].add(device.name)
        self._show(device.node)
        if before is None or _open_to(before) != _open_to(device):
            self._capacity_changed = True
            self._changed()

    def _put_node(self, node: NodeRecord) -> None:
        before = self.nodes.get(node.name)
        if before != node:
            self.nodes[node.name] = node
            self._show(node.name)
            self._capacity_changed = True

    def device_on(self, node: str) -> DeviceRecord | None:
        """The device of a node; the one of the lowest name if there are several."""
        names = self._devices_of.get(node)
        return self.devices[min(names)] if names else None

    def _show(self, node: str) -> None:
        """Bring a node's row of the fleet up to date."""
        device = self.device_on(node)
        self.short_of_slots.discard(node)
        if device is None or not node:
            self.fleet.remove(node)
            return
        record = self.nodes.get(node)
        if record is not None and record.slots > device.report.view.slots:
            self.short_of_slots.add(node)
        used = int(self._bound[node][0]) if node in self._bound else 0
        more = max(0, used - device.active_sessions)
        view = device.report.view
        self.fleet.put(
            node,
            Report(
                replace(
                    view,
                    slots_used=used,
                    queue_s=view.queue_s + more * device.wait_per_session_s,
                    node_labels={} if record is None else record.labels,
                ),
                device.report.at_s,
                device.report.pace,
            ),
        )

    # --- sessions ---------------------------------------------------------------------------------

    def _put_session(self, key: str, document: Mapping[str, Any], now_s: float) -> None:
        metadata = document["metadata"]
        generation = (metadata.get("uid", ""), metadata.get("generation", 0))
        known = self.sessions.get(key)
        # Statuses change often, specs hardly ever, and specs can be long.
        same = known is not None and self._generations.get(key) == generation
        session = with_use(known, document) if known is not None and same else read_session(document)
        self.sessions[key] = session
        self._generations[key] = generation
        self.standings.count_use(
            key, session.tenant, session.cpu_s, session.qpu_s, now_s, session.finished_at_s
        )
        if not same:
            self._reclassify(key)
            self._changed()

    def _reclassify(self, session: str) -> None:
        for uid in self._pods_of_session.get(session, ()):
            self._unwait(uid)
            self._wait(self.pods[uid])

    def request_of(
        self, tenant: str, session: str | None, node_selector: Mapping[str, str], pod: str = ""
    ) -> Request | None:
        """What a pod asks for; None if the session that it names is not known."""
        if session is None:
            return Request(
                session=pod,
                tenant=tenant,
                qubits=1,
                node_selector=node_selector,
                calibration_patience_s=self._patience_s,
            )
        record = self.sessions.get(session)
        if record is None:
            return None
        return replace(record.request, node_selector=node_selector, calibration_patience_s=self._patience_s)

    # --- pods -------------------------------------------------------------------------------------

    def pod(self, key: str) -> PodRecord | None:
        """A pod by ``namespace/name``."""
        uid = self._uid_of.get(key)
        return None if uid is None else self.pods[uid]

    def _put_pod(self, pod: PodRecord, now_s: float) -> None:
        uid = self._uid_of.get(pod.key)
        if uid is not None and uid != pod.uid:
            self._drop_pod(uid)
        before = self.pods.get(pod.uid)
        if before == pod:
            return
        if before is not None:
            self._release(before)
            self._pods_of_session[before.session or ""].discard(pod.uid)
        self.pods[pod.uid] = pod
        self._uid_of[pod.key] = pod.uid
        self._pods_of_session[pod.session or ""].add(pod.uid)
        if pod.node:
            self.refused.pop(pod.uid, None)
            self.expect_no_more(pod.uid)
            if before is None or not before.node:
                self.last_bound_s[pod.tenant] = now_s
            if not pod.ended:
                self._take(pod.node, pod.tenant, pod.cpus, pod.slots)
        else:
            self._wait(pod)

    def _drop_pod(self, uid: str) -> None:
        pod = self.pods.pop(uid)
        self._uid_of.pop(pod.key, None)
        self.refused.pop(uid, None)
        self.expect_no_more(uid)
        self._release(pod)
        of_session = self._pods_of_session[pod.session or ""]
        of_session.discard(uid)
        if not of_session:
            del self._pods_of_session[pod.session or ""]

    def _release(self, pod: PodRecord) -> None:
        """Undo what `_put_pod` counted."""
        if pod.node:
            if not pod.ended:
                self._take(pod.node, pod.tenant, -pod.cpus, -pod.slots)
        else:
            self._unwait(pod.uid)

    def _wait(self, pod: PodRecord) -> None:
        if pod.node or pod.gated or pod.ended or not pod.slots or pod.uid in self.predictions:
            return
        request = self.request_of(pod.tenant, pod.session, pod.node_selector, pod.key)
        if request is not None:
            kind = RequestClass.of(request)
            self._class_of[pod.uid] = (pod.tenant, kind)
            self.waiting[pod.tenant][kind] += 1
            self.requests.setdefault(kind, request)

    def _unwait(self, uid: str) -> None:
        waited = self._class_of.pop(uid, None)
        if waited is not None:
            tenant, kind = waited
            classes = self.waiting[tenant]
            classes[kind] -= 1
            if not classes[kind]:
                del classes[kind]
            if not classes:
                del self.waiting[tenant]

    def _take(self, node: str, tenant: str, cpus: float, slots: int) -> None:
        bound = self._bound[node]
        bound[0] += slots
        bound[1] += cpus
        if not bound[0] and abs(bound[1]) < 1e-9:
            del self._bound[node]
        self.standings.hold(tenant, cpus, slots)
        self._show(node)

    # --- pods on their way ------------------------------------------------------------------------

    def expect(self, uid: str, tenant: str, node: str, now_s: float) -> None:
        """A pod was ranked and is expected on a node; it may be so new that no watch has shown it yet."""
        self.expect_no_more(uid)
        pod = self.pods.get(uid)
        if pod is not None and pod.node:
            return
        slots, cpus = (1, 0.0) if pod is None else (pod.slots, pod.cpus)
        self._unwait(uid)
        self.predictions.make(uid, node, tenant, slots, cpus, now_s)
        self._take(node, tenant, cpus, slots)

    def expect_no_more(self, uid: str) -> None:
        """A pod is tried again, bound or gone."""
        prediction = self.predictions.end(uid)
        if prediction is not None:
            self._undo(prediction)

    def refresh(self, now_s: float) -> None:
        """Bring up to date what depends on time, and what is counted only when it is read."""
        for prediction in self.predictions.expired(now_s):
            self._undo(prediction)
        if self.refused and now_s - self._swept_s > _UNSEEN_S:
            # A pod that was asked about and never shown by the watch was deleted in between.
            self._swept_s = now_s
            self.refused = {
                uid: when_s
                for uid, when_s in self.refused.items()
                if uid in self.pods or now_s - when_s < _UNSEEN_S
            }
        if self._capacity_changed:
            self._capacity_changed = False
            nodes = (self.nodes.get(device.node) for device in self.devices.values() if device.node)
            self.standings.set_capacity(
                sum(node.cpus for node in nodes if node is not None), float(self.fleet.slots())
            )
            if len(self.requests) > _MOST_CLASSES:
                waiting = {kind for classes in self.waiting.values() for kind in classes}
                self.requests = {kind: self.requests[kind] for kind in waiting}

    @contextlib.contextmanager
    def without(self, pod: PodRecord) -> Iterator[None]:
        """Everything as it would be if the pod had not been placed yet."""
        prediction = self.predictions.get(pod.uid)
        node = pod.node if pod.node and not pod.ended else ""
        cpus, slots = pod.cpus, pod.slots
        if prediction is not None:
            node, cpus, slots = prediction.node, prediction.cpus, prediction.slots
        if node:
            self._take(node, pod.tenant, -cpus, -slots)
        try:
            yield
        finally:
            if node:
                self._take(node, pod.tenant, cpus, slots)

    def _undo(self, prediction: Prediction) -> None:
        self._take(prediction.node, prediction.tenant, -prediction.cpus, -prediction.slots)
        pod = self.pods.get(prediction.uid)
        if pod is not None and not pod.node:
            self._wait(pod)

    def _changed(self) -> None:
        if self.refused:
            self.wake_wanted = True


def _open_to(device: DeviceRecord) -> tuple[object, ...]:
    """What of a device can let in a pod that was refused before."""
    view = device.report.view
    return (
        device.node,
        view.qubits,
        view.connected_qubits,
        tuple(sorted(view.labels.items())),
        view.health,
        view.cordoned,
        view.slots,
        view.calibrates_on_need,
        view.local_calibration_s,
        view.calibration_left_s > 0,
        device.epoch,
    )
