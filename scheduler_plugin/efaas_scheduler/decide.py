"""The extender's answers.

Each is a pure function of what is known, the request and the moment, but for two notes that it leaves: which
pod is expected where, and which pod was refused. The rules are the core's; this module only asks them for the
nodes that kube-scheduler names and puts the reasons in the place where they belong:

- `FailedNodes`: evicting pods could help (the slot is taken), or waiting will (the pod is held back).
- `FailedAndUnresolvableNodes`: everything else; kube-scheduler need not try preemption there.

Where very many nodes are open, filter answers with those of the least cost alone (`nodes_to_rank`). Above a
hundred nodes kube-scheduler itself looks at a sample unless it is told otherwise, the first that it meets;
this is the sample that is worth ranking: eleven costs are told apart by eleven points, and the bytes of
hundreds of names need not go back and forth.

Slots are kept by the extended resource: kube-scheduler names a node only if a slot is free, and it knows of
deletions before this process does. So a slot is counted here only where the node offers more of the resource
than the device has slots, which is so for a moment after slots were taken away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from efaas.api.names import SESSION_NAME_ANNOTATION
from efaas.core.fleet import Answer, Report, cheapest, points
from efaas.core.placement import Request
from efaas.core.precedence import Waiting, ahead, contested, overuse
from efaas_scheduler.reading import PodRecord
from efaas_scheduler.state import Known, RequestClass
from efaas_scheduler.wire import Pod

NO_DEVICE = "no QPU device on this node"
_MOST_REASONS = 100
"""Classes of requests whose reasons are kept."""
_MOST_CLASSES_AHEAD = 50
"""Classes of pods ahead that are looked at, the largest first: a request's time stays bounded."""
_KEPT_S = 0.05
RANK_ALL_UP_TO = 100
"""Open nodes up to which all of them are ranked, as kube-scheduler looks at all up to this number."""
_Reason = tuple[Report | None, float, str]
_EMPTY: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Filtered:
    """Answer of `filter_nodes`."""

    nodes: list[str]
    """Open ones, in the order of the request; the best of them if there are very many."""
    failed: dict[str, str]
    unresolvable: dict[str, str]
    held_by: tuple[str, ...] = ()
    """Tenants for whose pods slots were left free."""


class Decider:
    """Answers requests from what is known.

    Args:
        known: state; changed only by `expect` and `refused`.
        hold_limit_s: how long a free slot is kept for somebody served less who does not come.
        nodes_to_rank: of more than `RANK_ALL_UP_TO` open nodes so many are answered; 0: all.
    """

    def __init__(self, known: Known, *, hold_limit_s: float = 15.0, nodes_to_rank: int = 11) -> None:
        self.known = known
        self._hold_limit_s = hold_limit_s
        self._nodes_to_rank = nodes_to_rank
        self._held_since_s: dict[str, float] = {}
        self._kept: tuple[Request, int, float, Answer] | None = None
        self._reasons: dict[RequestClass, dict[int, _Reason]] = {}

    # --- filter -----------------------------------------------------------------------------------

    def filter_nodes(self, pod: Pod, names: Sequence[str], now_s: float) -> Filtered:
        """Which of the nodes may take the pod, and why not the others."""
        known = self.known
        known.refresh(now_s)
        uid = pod.metadata.uid
        # Asked again: whatever was expected of the last attempt did not come true.
        known.expect_no_more(uid)
        request = self.request(pod, now_s)
        if request is None:
            session = (pod.metadata.annotations or _EMPTY).get(SESSION_NAME_ANNOTATION, "")
            known.refused[uid] = now_s
            return Filtered([], {}, dict.fromkeys(names, f"VQASession {session} is not known yet"))
        fleet = known.fleet
        rows = fleet.rows_of(names)
        present = rows >= 0
        answer = self._answer(request, now_s)
        full = self._full()
        open_rows = answer.fits & ~full
        open_ = present & open_rows[rows]
        held, held_by = self._held(pod, request, answer, rows, open_, now_s)
        chosen = open_ & ~held
        indices = np.flatnonzero(chosen)
        nodes = [names[index] for index in indices.tolist()]
        if self._nodes_to_rank and len(nodes) > RANK_ALL_UP_TO:
            best = cheapest(nodes, answer.cost_s[rows[indices]], self._nodes_to_rank)
            nodes = [nodes[index] for index in sorted(best)]
        failed: dict[str, str] = {}
        unresolvable: dict[str, str] = {}
        if len(indices) < len(names):
            kept_for = f"slot kept for namespace {held_by[0]}, which was served less" if held_by else ""
            reasons = self._reasons_of(RequestClass.of(request))
            fits = answer.fits
            for index in np.flatnonzero(~chosen).tolist():
                name, row = names[index], int(rows[index])
                if row < 0:
                    unresolvable[name] = NO_DEVICE
                elif not fits[row]:
                    text = reasons.get(row)
                    if text is None or text[0] is not fleet.report_of(row) or now_s >= text[1]:
                        text = reasons[row] = self._reason(request, row, now_s)
                    unresolvable[name] = text[2]
                elif held[index]:
                    failed[name] = kept_for
                else:
                    failed[name] = f"all {fleet.slots_of(row)} slots taken"
        if nodes:
            known.refused.pop(uid, None)
            if not held_by:
                self._held_since_s.pop(uid, None)
            if len(nodes) == 1:
                # kube-scheduler does not ask for priorities where there is no choice.
                known.expect(uid, pod.metadata.namespace, nodes[0], now_s)
        else:
            known.refused[uid] = now_s
        return Filtered(nodes, failed, unresolvable, held_by)

    def request(self, pod: Pod, now_s: float) -> Request | None:
        """What the pod asks for, with its tenant's standing; None if its session is not known."""
        tenant = pod.metadata.namespace
        session = (pod.metadata.annotations or _EMPTY).get(SESSION_NAME_ANNOTATION)
        request = self.known.request_of(
            tenant, f"{tenant}/{session}" if session else None, pod.spec.node_selector or _EMPTY, pod.key
        )
        if request is None:
            return None
        return replace(request, overuse=self._overuse(tenant, now_s))

    def _answer(self, request: Request, now_s: float) -> Answer:
        """What the request would find everywhere, slots apart.

        kube-scheduler asks twice for each pod within milliseconds: while nothing has changed, the second time
        is answered from the first.
        """
        fleet, kept = self.known.fleet, self._kept
        if kept is not None:
            asked, version, when_s, answer = kept
            if version == fleet.version and 0 <= now_s - when_s < _KEPT_S and asked == request:
                return answer
        answer = fleet.answer(request, now_s, ignore_slots=True)
        self._kept = (request, fleet.version, now_s, answer)
        return answer

    def _overuse(self, tenant: str, now_s: float) -> float:
        standings = self.known.standings
        active = {*standings.holding(), *self.known.waiting, tenant}
        if len(active) == 1:
            return 0.0
        return overuse(tenant, {name: standings.share(name, now_s) for name in active}, list(active))

    def _full(self) -> npt.NDArray[np.bool_]:
        """Devices with fewer slots than their node offers, all of them taken."""
        fleet = self.known.fleet
        full = np.zeros(fleet.capacity, dtype=np.bool_)
        for node in self.known.short_of_slots:
            row = fleet.rows[node]
            report = fleet.report(node)
            full[row] = report is not None and report.view.slots_used >= report.view.slots
        return full

    def _reasons_of(self, kind: RequestClass) -> dict[int, _Reason]:
        """Reasons kept for a class of requests, by row.

        Ages in words change slowly, and a cluster of thousands is refused thousands of times a second: so a
        text is kept for some seconds while the device's report is the same.
        """
        reasons = self._reasons.get(kind)
        if reasons is None:
            if len(self._reasons) >= _MOST_REASONS:
                self._reasons.clear()
            reasons = self._reasons[kind] = {}
        return reasons

    def _reason(self, request: Request, row: int, now_s: float) -> _Reason:
        """Why a device refuses, with the report and the moment that the text is good for."""
        fleet = self.known.fleet
        refusal = fleet.refusal(request, row, now_s, ignore_slots=True)
        # The columns refused and the definition does not: only rounding at the very limit does that.
        text = "at the limit of what is asked for" if refusal is None else refusal.reason
        # Ends are spread, so that no single request has to write them all anew.
        return fleet.report_of(row), now_s + 5.0 + row % 64 / 8, text

    def _held(
        self,
        pod: Pod,
        request: Request,
        answer: Answer,
        rows: npt.NDArray[np.intp],
        open_: npt.NDArray[np.bool_],
        now_s: float,
    ) -> tuple[npt.NDArray[np.bool_], tuple[str, ...]]:
        """Nodes that are left to tenants served less, and those tenants."""
        nobody = np.zeros(len(rows), dtype=np.bool_)
        known = self.known
        tenant, uid = pod.metadata.namespace, pod.metadata.uid
        others = [name for name in known.waiting if name != tenant]
        if not others or not open_.any():
            return nobody, ()
        shares = {name: known.standings.share(name, now_s) for name in (*others, tenant)}
        first = ahead(tenant, shares, {name: known.waiting[name].total() for name in others})
        if not first:
            return nobody, ()
        free = known.fleet.slots_left()
        # kube-scheduler offers these, so each has a slot, whatever the watch has shown so far.
        offered = rows[open_]
        free[offered] = np.maximum(free[offered], 1)
        counts: dict[RequestClass, int] = {}
        for name in first:
            for kind, count in known.waiting[name].items():
                counts[kind] = counts.get(kind, 0) + count
        if sum(counts.values()) < int(free[offered].min(initial=0)):
            return nobody, ()
        own = RequestClass.of(request)
        most = sorted(counts, key=lambda kind: -counts[kind])[:_MOST_CLASSES_AHEAD]
        waiting = []
        for kind in most:
            fits = answer.fits
            if kind != own:
                fits = known.fleet.answer(known.requests[kind], now_s, ignore_slots=True).fits
            waiting.append(Waiting("", counts[kind], fits))
        held = open_ & contested(free, waiting)[rows]
        if not held.any():
            return nobody, ()
        since_s = self._held_since_s.setdefault(uid, now_s)
        moved_s = max(known.last_bound_s.get(name, since_s) for name in first)
        if now_s - max(since_s, moved_s) > self._hold_limit_s:
            # Nobody came: what is ahead cannot use the slot for a reason that is not known here.
            self._held_since_s[uid] = now_s
            return nobody, ()
        if len(self._held_since_s) > 2 * len(known.pods) + 1000:
            self._held_since_s = {uid: t for uid, t in self._held_since_s.items() if uid in known.pods}
        return held, tuple(first)

    def next_release_s(self, now_s: float) -> float | None:
        """When the first hold ends that still keeps a refused pod; None if there is none."""
        ends = [
            since_s + self._hold_limit_s
            for uid, since_s in self._held_since_s.items()
            if uid in self.known.refused
        ]
        return max(now_s, min(ends)) if ends else None

    # --- prioritize -------------------------------------------------------------------------------

    def prioritize(self, pod: Pod, names: Sequence[str], now_s: float) -> list[int]:
        """Points from 0 to 10 for each node in the order of the request; expects the pod on the best."""
        known = self.known
        known.refresh(now_s)
        known.expect_no_more(pod.metadata.uid)
        request = self.request(pod, now_s)
        result = np.zeros(len(names), dtype=np.int64)
        if request is None:
            return result.tolist()
        rows = known.fleet.rows_of(names)
        answer = self._answer(request, now_s)
        open_ = np.flatnonzero((rows >= 0) & answer.fits[rows])
        if len(open_):
            costs = answer.cost_s[rows[open_]]
            result[open_] = points(costs)
            least = open_[result[open_] == result.max()]
            best = min(names[index] for index in least.tolist())
            known.expect(pod.metadata.uid, pod.metadata.namespace, best, now_s)
        return result.tolist()

    # --- preempt ----------------------------------------------------------------------------------

    def preemptable(self, pod: Pod, names: Sequence[str], now_s: float) -> list[str]:
        """Nodes on which evicting pods would make room: those that the hard rules leave."""
        known = self.known
        known.refresh(now_s)
        request = self.request(pod, now_s)
        if request is None:
            return []
        rows = known.fleet.rows_of(names)
        fits = known.fleet.answer(request, now_s, ignore_slots=True).fits
        return [name for name, row in zip(names, rows.tolist(), strict=True) if row >= 0 and fits[row]]

    # --- why --------------------------------------------------------------------------------------

    def why(self, pod_key: str, now_s: float) -> dict[str, Any] | None:
        """Every term for every node that holds a device, best first; None if the pod is not known.

        A pod that is placed is judged as if it were not: its own place is no reason against its node.
        """
        known = self.known
        record = known.pod(pod_key)
        if record is None:
            return None
        known.refresh(now_s)
        with known.without(record):
            return self._why(record, now_s)

    def _why(self, record: PodRecord, now_s: float) -> dict[str, Any]:
        known, tenant = self.known, record.tenant
        request = known.request_of(tenant, record.session, record.node_selector, record.key)
        answer: dict[str, Any] = {
            "pod": record.key,
            "session": record.session,
            "node": record.node or None,
            "tenant": {"name": tenant, "share": known.standings.share(tenant, now_s)},
            "waiting": {name: classes.total() for name, classes in sorted(known.waiting.items())},
        }
        if request is None:
            return answer | {"problem": f"VQASession {record.session} is not known", "nodes": []}
        request = replace(request, overuse=self._overuse(tenant, now_s))
        fleet = known.fleet
        judged = fleet.answer(request, now_s, ignore_slots=True)
        nodes = []
        for key, row in fleet.rows.items():
            report = fleet.report(key)
            assert report is not None
            entry: dict[str, Any] = {"node": key, "device": report.view.name}
            entry["slots"] = {"all": report.view.slots, "used": report.view.slots_used}
            refusal = fleet.refusal(request, row, now_s)
            if refusal is not None:
                entry["refused"] = refusal.reason
                entry["waitingHelps"] = refusal.waiting_helps
            if judged.fits[row]:
                score = fleet.score(request, row, now_s)
                entry["cost"] = {
                    "seconds": score.cost_s,
                    "ttnsSeconds": score.ttns_s,
                    "networkSeconds": score.network_s,
                    "queueSeconds": score.queue_s,
                    "overuse": score.overuse,
                    "calibrationSeconds": score.calibration_s,
                    "executionSeconds": score.execution_s,
                    "fidelity": score.fidelity,
                    "warm": score.warm,
                }
            nodes.append(entry)
        fitting = [entry for entry in nodes if "refused" not in entry]
        for entry, score_ in zip(
            fitting, points([entry["cost"]["seconds"] for entry in fitting]).tolist(), strict=True
        ):
            entry["points"] = score_
        nodes.sort(
            key=lambda entry: ("refused" in entry, entry.get("cost", {}).get("seconds", 0.0), entry["node"])
        )
        return answer | {"qubits": request.qubits, "nodes": nodes}
