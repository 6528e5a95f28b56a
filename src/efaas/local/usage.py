"""Who got what: the time of devices, the use of sessions, the shares of tenants.

The time of a device comes from the log that its server keeps (`efaas.local.accounts`): billed + unbilled +
pending is exactly the time for which the device was held, and `audit` names each device for which it is not.

CPU seconds, and who waited how long, are what the sessions' runners told.

**Shares.** A tenant is a namespace. Its dominant share is the larger of its two uses, each over the capacity
behind it: device seconds over those of all devices, CPU seconds over those of the `CPUS_PER_DEVICE` CPUs that
the fair queue puts behind each device. Its deserved share is its weight over the weights of all tenants. A
tenant that wanted less than it deserves leaves the rest to others, so used shares above the deserved one are
no injustice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from efaas.core.qpu.config import QpuConfig
from efaas.core.uses import NS, Uses
from efaas.local.progress import RunRecord, SessionRecord, number, percentile

CPUS_PER_DEVICE = QpuConfig().cpu_capacity


def session_uses(record: RunRecord, key: str) -> dict[str, float]:
    """Device seconds charged to a session on all devices, by what for."""
    sums: dict[str, float] = {}
    for device in record.devices.values():
        for what, (ns, _) in device.uses.of(key).items():
            sums[what] = sums.get(what, 0.0) + ns / NS
    return sums


def device_accounts(uses: Uses) -> dict[str, Any]:
    """The account of one device for the summary."""
    nobody = uses.of(None)
    return {
        "held_ns": uses.held_ns,
        "billed_ns": uses.billed_ns,
        "unbilled_ns": uses.unbilled_ns,
        "pending_ns": uses.pending_ns,
        "unbilled_s": {what: ns / NS for what, (ns, _) in sorted(nobody.items())},
        "wasted_shots": nobody.get("speculation", (0, 0))[1],
    }


def audit(record: RunRecord) -> list[str]:
    """Sentences about devices whose accounts do not add up; none when all is right.

    While a session of the run has not ended (it was interrupted, say) time may be pending.
    """
    ended = not record.interrupted
    faults = []
    for device in record.devices.values():
        pending_ns = device.uses.pending_ns
        if pending_ns < 0 or (ended and pending_ns and not device.restarts):
            faults.append(
                f"{device.name} was held for {device.uses.held_ns} ns, of which {device.uses.billed_ns} ns "
                f"are billed and {device.uses.unbilled_ns} ns unbilled; its log is wrong"
            )
    return faults


def tenants(record: RunRecord) -> list[dict[str, Any]]:
    """One account a tenant, in the order in which they first appear."""
    names = list(dict.fromkeys(key.partition("/")[0] for key in record.sessions))
    capacity_s = sum(device.clock_s for device in record.devices.values() if device.started)
    return [
        _tenant(
            name,
            [session for key, session in record.sessions.items() if key.partition("/")[0] == name],
            record,
            capacity_s,
            record.weights.get(name, 1.0) / sum(record.weights.get(each, 1.0) for each in names),
        )
        for name in names
    ]


def _tenant(
    name: str, sessions: Sequence[SessionRecord], record: RunRecord, capacity_s: float, deserved: float
) -> dict[str, Any]:
    uses = [session_uses(record, session.key) for session in sessions]
    qpu_s = sum(sum(use.values()) for use in uses)
    cpu_s = sum(number(session.result.get("cpu_s")) or 0.0 for session in sessions)
    shares = {"qpu": _share(qpu_s, capacity_s), "cpu": _share(cpu_s, capacity_s * CPUS_PER_DEVICE)}
    dominant = max(shares, key=lambda resource: shares[resource])
    loops = [session for session in sessions if not session.batch]
    batches = [session for session in sessions if session.batch]
    return {
        "tenant": name,
        "weight": record.weights.get(name, 1.0),
        "sessions": len(sessions),
        "shots": sum(session.shots for session in sessions),
        "qpu_s": qpu_s,
        "qpu_calibration_s": sum(use.get("calibration", 0.0) for use in uses),
        "cpu_s": cpu_s,
        "wall_s": sum(_wall_s(session) for session in sessions),
        "dominant_resource": dominant,
        "dominant_share": shares[dominant],
        "deserved_share": deserved,
        "ttns_s": _spread(loops, "ttns_s"),
        "ttns_device_s": _spread(loops, "ttns_device_s"),
        "batch_wait_device_s": _spread(batches, "ttns_device_s"),
    }


def _share(used: float, capacity: float) -> float:
    return used / capacity if capacity > 0 else 0.0


def _wall_s(session: SessionRecord) -> float:
    return number(session.result.get("elapsed_s")) or max(session.samples("elapsed_s"), default=0.0)


def _spread(sessions: Iterable[SessionRecord], name: str) -> dict[str, float | int | None]:
    samples = [sample for session in sessions for sample in session.samples(name)]
    return {"p50": percentile(samples, 50), "p95": percentile(samples, 95), "n": len(samples)}


def session_usage(record: RunRecord, session: SessionRecord) -> Mapping[str, float | int | None]:
    """The use of one session for the summary; see `docs/cli.md`."""
    uses = session_uses(record, session.key)
    return {
        "shots": session.shots,
        "qpu_s": session.qpu_s,
        "charged_s": sum(uses.values()),
        "iterations_s": uses.get("iteration", 0.0),
        "slice_cost_s": uses.get("slice-cost", 0.0),
        "calibration_s": uses.get("calibration", 0.0),
        "cpu_s": number(session.result.get("cpu_s")),
        "wall_s": number(session.result.get("elapsed_s"))
        or (session.samples("elapsed_s")[-1] if session.samples("elapsed_s") else None),
    }
