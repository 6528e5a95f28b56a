"""``kubectl efaas describe``: one session as a page of text, with why it waits and what happened to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from efaas.cluster.follow import outcome
from efaas.cluster.tables import age

Document = Mapping[str, Any]
_WIDTH = 14


def describe_session(session: Document, events: Sequence[Document], now: datetime) -> str:
    """The page.

    Args:
        session: the VQASession as the API server has it.
        events: Kubernetes events about it.
        now: the present moment.
    """
    return "\n".join(_lines(session, events, now))


def _lines(session: Document, events: Sequence[Document], now: datetime) -> Iterator[str]:
    metadata, spec, status = session["metadata"], session["spec"], session.get("status") or {}
    yield _row("Session", f"{metadata['namespace']}/{metadata['name']}")
    yield _row("What", _what(spec))
    state = status.get("state") or "Pending"
    yield _row("State", state + (f": {status['reason']}" if status.get("reason") else ""))
    if status.get("device"):
        yield _row("Device", status["device"])
    queue = status.get("queue") or {}
    if state == "Pending" and "position" in queue:
        start = queue.get("estimatedStart")
        yield _row("Queue", f"{queue['position']} before it" + (f", starts about {start}" if start else ""))
    progress = status.get("progress") or {}
    if progress:
        best = f", best {progress['bestValue']}" if progress.get("bestValue") is not None else ""
        ttns = progress.get("ttnsP50Milliseconds")
        shown = f", TTNS p50 {ttns / 1000:.3f} s" if ttns is not None else ""
        yield _row("Progress", f"{progress.get('iterations', 0)} iterations{best}{shown}")
    if status.get("usage") or status.get("result"):
        yield _row("Result", outcome(status))
    runner = status.get("runner") or {}
    if runner:
        yield _row("Runner", f"{runner.get('pod')}, lease epoch {runner.get('leaseEpoch', 0)}")
    limits = spec.get("limits") or {}
    if limits:
        yield _row("Limits", ", ".join(f"{name} {value}" for name, value in limits.items()))
    yield _row("Age", age(metadata.get("creationTimestamp"), now))
    if status.get("conditions"):
        yield "Conditions:"
        for condition in status["conditions"]:
            told = f"{condition['reason']}" + (
                f": {condition['message']}" if condition.get("message") else ""
            )
            since = age(condition.get("lastTransitionTime"), now)
            yield f"  {condition['type']:<10} {condition['status']:<8} {since:>5}  {told}"
    if events:
        yield "Events:"
        for event in sorted(events, key=_when):
            count = event.get("count") or (event.get("series") or {}).get("count") or 1
            times = f" (x{count})" if count > 1 else ""
            told = event.get("message") or event.get("note", "")
            yield f"  {age(_when(event), now):>5}  {event.get('reason', ''):<22} {told}{times}"


def _what(spec: Document) -> str:
    program = spec.get("program")
    if program:
        return f"image {program['image']}" if "image" in program else f"script {program['script']['name']}"
    parts = [
        next(iter(spec[part])) if isinstance(spec.get(part), Mapping) and spec[part] else "?"
        for part in ("problem", "ansatz", "optimizer")
    ]
    return ", ".join(parts)


def _when(event: Document) -> str:
    times = (event.get("lastTimestamp"), event.get("eventTime"), event["metadata"].get("creationTimestamp"))
    return next((time for time in times if time), "")


def _row(name: str, value: Any) -> str:
    return f"{name + ':':<{_WIDTH}}{value}"
