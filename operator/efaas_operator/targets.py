"""Which QPU servers a session is told of: its own device's first, then those that can stand in for it.

Frozen devices of the same model are twins: they give the same counts, so a session that turns to one goes on
as if nothing had happened. A few are enough; a session that is told of hundreds would ask hundreds how they
are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from efaas.core.identity import digest

_MOST_TARGETS = 8


def targets(devices: Iterable[Mapping[str, Any]], own_name: str) -> list[dict[str, str]]:
    """Entries of ``EFAAS_QPUS`` for a session; none while its own device has no endpoint.

    Args:
        devices: all QPUDevices as the API server has them.
        own_name: name of the session's own one.
    """
    known = {device["metadata"]["name"]: device for device in devices}
    own = known.get(own_name)
    if own is None or not _endpoint(own):
        return []
    twins = twins_text(own)
    others = sorted(
        (
            other
            for name, other in known.items()
            if name != own_name
            and _endpoint(other)
            and (other.get("status") or {}).get("state") in ("Ready", "Calibrating")
        ),
        key=lambda other: (not twins or twins_text(other) != twins, other["metadata"]["name"]),
    )
    return [_target(each) for each in [own, *others[: _MOST_TARGETS - 1]]]


def twins_text(device: Mapping[str, Any]) -> str:
    """What a frozen device's counts follow from: those with the same text are twins; empty: it drifts."""
    spec = device["spec"]
    if (spec.get("calibration") or {}).get("drift", "Frozen") != "Frozen":
        return ""
    simulation = spec.get("simulation") or {}
    model = spec["model"].get("snapshot") or str(spec["model"].get("configMap"))
    return digest(model, simulation.get("noise", "Device"), simulation.get("method", "Auto"))


def _target(device: Mapping[str, Any]) -> dict[str, str]:
    target = {"device": device["metadata"]["name"], "endpoint": _endpoint(device)}
    twins = twins_text(device)
    return target | ({"twins": twins} if twins else {})


def _endpoint(device: Mapping[str, Any]) -> str:
    return str((device.get("status") or {}).get("endpoint") or "")
