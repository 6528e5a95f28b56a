"""Arms: what each policy's name means in settings of the core. There is no other implementation of any.

An arm changes settings of the devices' machines, or what loops ask for; never arrivals, classical times or
service times. Only EFaaS knows of calibration limits of sessions; SBQ, PF and PQ renew a calibration older
than τ in full; SR and Session-FIFO run on whatever the device has (field: neither calibrates inside).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from efaas.bench.records import RIVALS
from efaas.core.speculation import Mode


@dataclass(frozen=True, slots=True)
class Arm:
    """A policy with or without something."""

    name: str
    policy: str = "efaas"
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `QpuConfig` that differ."""
    routed: bool = True
    """Whether the core's router sends iterations away from a device that is stale or calibrates."""
    speculation: Mode = Mode.OFF
    tau_factor: float = 1.0
    """What the calibration limit is multiplied by."""


_ARMS = (
    Arm("efaas"),
    Arm("efaas-exact", speculation=Mode.EXACT),
    Arm("efaas-tolerant", settings={"slice_loops": True}, speculation=Mode.TOLERANT),
    *(Arm(name, name, routed=False) for name in RIVALS),
    Arm("efaas-no-slicing", settings={"slice_s": None}),
    Arm("efaas-no-gap-fitting", settings={"gap_fitting": False}),
    Arm("efaas-no-warm-caches", settings={"localised_calibration": False}),
    Arm("efaas-no-freshness-routing", routed=False),
    Arm("efaas-alpha-0", settings={"alpha": 0.0, "strict_classes": False}),
    Arm("efaas-beta-0", settings={"beta": 0.0}),
    Arm("efaas-gamma-0", settings={"gamma": 0.0}),
    Arm("efaas-alpha-beta-0", settings={"alpha": 0.0, "beta": 0.0, "strict_classes": False}),
    Arm("efaas-tau-half", tau_factor=0.5),
    Arm("efaas-tau-double", tau_factor=2.0),
)

ARMS: Mapping[str, Arm] = {arm.name: arm for arm in _ARMS}
"""All arms but the bounds, which are no policies (`efaas.bench.bounds`)."""
