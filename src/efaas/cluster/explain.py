"""The scheduler's answer to *why*, as a table."""

from __future__ import annotations

from typing import Any

from efaas.cluster.tables import Table, text_of

HEADS = ("NODE", "DEVICE", "POINTS", "COST", "TTNS", "QUEUE", "CALIBRATION", "FIDELITY", "SLOTS", "WHY NOT")


def explained(answer: dict[str, Any]) -> str:
    """An answer of the extender's ``/why`` as text, best node first."""
    placed = f"on node {answer['node']}" if answer["node"] else "waits"
    tenant = answer["tenant"]
    head = (
        f"Pod {answer['pod']} {placed}; session {answer['session'] or 'not named'}; "
        f"namespace {tenant['name']} has {tenant['share']:.1%} of its dominant resource."
    )
    if "problem" in answer:
        return f"{head}\n{answer['problem']}\n"
    rows = tuple(_row(entry) for entry in answer["nodes"])
    return f"{head}\n{text_of(Table('', HEADS, rows, frozenset({'NODE', 'DEVICE', 'WHY NOT'})))}\n"


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    cost = entry.get("cost")
    terms = (
        (
            f"{cost['seconds']:.3f} s",
            f"{cost['ttnsSeconds']:.3f} s",
            f"{cost['queueSeconds'] * (1 + cost['overuse']):.3f} s",
            f"{cost['calibrationSeconds']:.3f} s",
            f"{cost['fidelity']:.4f}",
        )
        if cost
        else ("-",) * 5
    )
    slots = f"{entry['slots']['used']}/{entry['slots']['all']}"
    points = str(entry.get("points", "-"))
    return (entry["node"], entry["device"], points, *terms, slots, entry.get("refused", ""))
