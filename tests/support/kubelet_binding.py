"""Where a pod may run: what kube-scheduler would say, as far as our pods ask for it.

Tests that are about the operator need pods bound, not kube-scheduler's processes beside all the others. It
takes into account requests (extended resources among them), the node selector, required node affinity,
taints, cordoned and silent nodes; of the nodes that fit, it takes the one with most room for the scarcest
resource.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

_UNITS = {
    "m": Decimal("0.001"), "": Decimal(1), "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40),
}  # fmt: skip


def quantity(text: Any) -> Decimal:
    """A quantity as Kubernetes writes it."""
    written = str(text)
    number = written.rstrip("mkMGTKi")
    return Decimal(number) * _UNITS[written[len(number) :]]


def requests(pod: Mapping[str, Any]) -> dict[str, Decimal]:
    """What a pod asks for in all."""
    total: Counter[str] = Counter({"pods": Decimal(1)})  # type: ignore[dict-item]
    for container in pod["spec"]["containers"]:
        resources = container.get("resources") or {}
        for name, value in {**(resources.get("limits") or {}), **(resources.get("requests") or {})}.items():
            total[name] += quantity(value)  # type: ignore[assignment]
    return dict(total)  # type: ignore[arg-type]


def lacking(
    wanted: Mapping[str, Decimal], node: Mapping[str, Any], used: Mapping[str, Decimal]
) -> tuple[str, Decimal, Decimal, Decimal] | None:
    """The first resource that a node has too little of: its name, and what is requested, used, and there."""
    allocatable = node["status"].get("allocatable") or {}
    for name, amount in wanted.items():
        there = quantity(allocatable.get(name, 0))
        if amount and used.get(name, Decimal(0)) + amount > there:
            return name, amount, used.get(name, Decimal(0)), there
    return None


def choose(
    pod: Mapping[str, Any],
    nodes: Iterable[Mapping[str, Any]],
    used: Mapping[str, Mapping[str, Decimal]],
) -> tuple[str | None, str]:
    """The node for a pod, or None and why not, in kube-scheduler's words.

    Args:
        pod: without a node.
        nodes: all of them.
        used: by node, what the pods on it asked for.
    """
    wanted, reasons, fitting = requests(pod), Counter[str](), []
    count = 0
    for node in nodes:
        count += 1
        name = node["metadata"]["name"]
        reason = _refusal(pod, node)
        if reason is None:
            missing = lacking(wanted, node, used.get(name, {}))
            reason = f"Insufficient {missing[0]}" if missing else None
        if reason is None:
            allocatable = node["status"]["allocatable"]
            room = min(
                (quantity(allocatable[each]) - used.get(name, {}).get(each, Decimal(0)) - amount)
                / max(quantity(allocatable[each]), Decimal(1))
                for each, amount in wanted.items()
                if amount
            )
            fitting.append((-room, name))
        else:
            reasons[reason] += 1
    if fitting:
        return min(fitting)[1], ""
    words = ", ".join(f"{number} {reason}" for reason, number in sorted(reasons.items()))
    return None, f"0/{count} nodes are available: {words}."


def _refusal(pod: Mapping[str, Any], node: Mapping[str, Any]) -> str | None:
    spec, labels = pod["spec"], node["metadata"].get("labels") or {}
    if node["spec"].get("unschedulable"):
        return "node(s) were unschedulable"
    for taint in node["spec"].get("taints") or ():
        if taint["effect"] == "PreferNoSchedule":
            continue
        if not any(_tolerates(each, taint) for each in spec.get("tolerations") or ()):
            return f"node(s) had untolerated taint(s) {{{taint['key']}: {taint.get('value', '')}}}"
    conditions = {each["type"]: each["status"] for each in node["status"].get("conditions") or ()}
    if conditions.get("Ready") != "True":
        return "node(s) were not ready"
    selected = all(labels.get(key) == value for key, value in (spec.get("nodeSelector") or {}).items())
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    terms = (affinity or {}).get("nodeSelectorTerms") or ()
    if not selected or (terms and not any(_matches(term, node) for term in terms)):
        return "node(s) didn't match Pod's node affinity/selector"
    return None


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and toleration.get("value", "") == taint.get("value", "")


def _matches(term: Mapping[str, Any], node: Mapping[str, Any]) -> bool:
    labels = node["metadata"].get("labels") or {}
    fields = {"metadata.name": node["metadata"]["name"]}
    return all(_holds(each, labels) for each in term.get("matchExpressions") or ()) and all(
        _holds(each, fields) for each in term.get("matchFields") or ()
    )


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    raise ValueError(f"operator {expression['operator']} is not played")
