"""The figures in a session's status: its runner, what it used, how far it is, what came of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from efaas.core.session import SessionRecord, SessionState
from efaas_operator.build.common import Document
from efaas_operator.build.conditions import rfc3339


def build_session_figures(
    record: SessionRecord,
    previous: Mapping[str, Any],
    pod: Mapping[str, Any] | None,
    now_s: float,
    *,
    cpu_s: float = 0.0,
    best: float | None = None,
    ttns_p50_s: float | None = None,
    result: Mapping[str, Any] | None = None,
    location: str = "",
) -> Document:
    """The fields of a status beside those of `build_session_status`.

    Args:
        record: of the session's machine.
        previous: status as it is now.
        pod: of the present runner, if it is there.
        now_s: wall seconds since 1970.
        cpu_s: requested cores times the time for which they were held.
        best: lowest energy found so far.
        ttns_p50_s: median time to next shot, wall seconds.
        result: what its runner left (energy, std_error, exact, best, iterations, shots).
        location: where history and result are kept.
    """
    result = result or {}
    figures: Document = {"runner": _runner(record, pod)}
    usage = {
        # What devices charged; the runner's own word only where no device was ever heard of.
        "shots": record.shots or result.get("shots", 0),
        "qpuMilliseconds": round(record.qpu_s * 1000),
        "cpuMilliseconds": round(cpu_s * 1000),
    }
    if any(usage.values()):
        before = previous.get("usage") or {}
        figures["usage"] = {name: max(value, before.get(name, 0)) for name, value in usage.items()}
    lowest = best if best is not None else result.get("best", result.get("energy"))
    if record.iterations or lowest is not None:
        figures["progress"] = {"iterations": record.iterations}
        if lowest is not None and math.isfinite(lowest):
            figures["progress"]["bestValue"] = number(lowest)
        if ttns_p50_s is not None:
            figures["progress"]["ttnsP50Milliseconds"] = round(ttns_p50_s * 1000)
    if result.get("energy") is not None:
        names = (("energy", "energy"), ("std_error", "stdError"), ("exact", "exact"))
        figures["result"] = {there: number(result[here]) for here, there in names if here in result}
        if location:
            figures["result"]["location"] = location[:256]
    if previous.get("startedAt"):
        figures["startedAt"] = previous["startedAt"]
    elif record.state is SessionState.RUNNING:
        figures["startedAt"] = rfc3339(now_s)
    return figures


def number(value: float) -> str:
    """A finite number as the API writes it: the API has no floats."""
    return f"{value:.9g}"


def _runner(record: SessionRecord, pod: Mapping[str, Any] | None) -> Document | None:
    """The one runner that QPU servers and gateway admit; none while it is being fenced off."""
    runner = record.runner
    if runner is None or pod is None or runner.fence_asked_s is not None:
        return None
    return {
        "uid": pod["metadata"]["uid"],
        "pod": pod["metadata"]["name"],
        "leaseEpoch": runner.epoch,
        "restarts": record.restarts,
    }
