"""What came of a run, as one JSON document: `result.json`, and what `efaas run --json` prints.

A pure function of the run's records. Names are stable; `docs/cli.md` describes each. Energies are in the unit
of the problem (Hartree for molecules), times in seconds, `device` seconds on the devices' own clocks.
"""

from __future__ import annotations

from typing import Any

from efaas.local.progress import DeviceRecord, RunRecord, SessionRecord, integer, number, percentile
from efaas.local.usage import device_accounts, session_usage, tenants

SCHEMA = "efaas.dev/run-result/v1"


def summarize(record: RunRecord) -> dict[str, Any]:
    """The run's summary; see `docs/cli.md` for its fields."""
    code = record.exit_code()
    return {
        "schema": SCHEMA,
        "run": record.name,
        "folder": record.folder,
        "started": record.started,
        "wall_s": round(record.wall_s, 3),
        "outcome": {0: "Completed", 130: "Interrupted"}.get(code, "Failed"),
        "exit_code": code,
        "qdc": duty_cycle(record),
        "sessions": [_session(session, record) for session in record.sessions.values()],
        "tenants": tenants(record),
        "devices": [_device(device) for device in record.devices.values() if device.started],
    }


def duty_cycle(record: RunRecord) -> float | None:
    """Device seconds of shots ÷ (number of devices · horizon); the horizon is the longest device clock."""
    used = [device for device in record.devices.values() if device.clock_s > 0]
    if not used:
        return None
    horizon_s = max(device.clock_s for device in used)
    return sum(device.busy_s for device in used) / (len(used) * horizon_s)


def _session(session: SessionRecord, record: RunRecord) -> dict[str, Any]:
    evaluations = session.evaluations()
    summary = {
        "session": session.key,
        "state": session.state.value,
        "reason": session.reason,
        "device": session.device,
        "iterations": session.iterations,
        "evaluations": len(evaluations),
        "energy": session.energy,
        "std_error": session.std_error,
        "best_seen": session.best,
        "exact": session.exact,
        "error": _difference(session.energy, session.exact),
        "noisy_best": _noisy_best(session),
        "parameters": session.result.get("parameters"),
        "cut": session.result.get("cut"),
        "ttns_s": _spread(session.samples("ttns_s")),
        "ttns_device_s": _spread(session.samples("ttns_device_s")),
        "round_trip_s": _spread(session.samples("round_trip_s")),
        "moves": session.moves(),
        "speculation": session.result.get("speculation"),
        "usage": session_usage(record, session),
        "runner_restarts": session.restarts,
        "lease_epoch": session.lease_epoch,
    }
    if record.interrupted and not session.result:
        # The last estimate is not the result of the session.
        summary["parameters"] = None
    return summary


def _noisy_best(session: SessionRecord) -> dict[str, Any] | None:
    """The energy held against the best one that the ansatz can have under the device's noise."""
    if session.noisy_best is None:
        return None
    best = number(session.noisy_best.get("energy"))
    difference = _difference(session.energy, best)
    in_errors = difference / session.std_error if difference is not None and session.std_error else None
    return {
        "energy": best,
        "difference": difference,
        "difference_std_errors": in_errors,
        "evaluations": integer(session.noisy_best.get("evaluations")),
        "seconds": number(session.noisy_best.get("seconds")),
        "reason": session.noisy_best.get("reason", ""),
    }


def _device(device: DeviceRecord) -> dict[str, Any]:
    return {
        "device": device.name,
        "snapshot": device.snapshot,
        "qubits": device.qubits,
        "condition": device.condition,
        "reason": device.reason,
        "qdc": device.busy_s / device.clock_s if device.clock_s > 0 else None,
        "qdc_since_first_job": device.duty_cycle,
        "busy_s": device.busy_s,
        "calibrating_s": device.calibrating_s,
        "clock_s": device.clock_s,
        "calibration_epoch": device.calibration_epoch,
        "calibration_age_s": device.calibration_age_s,
        "cold_starts": device.cold_starts,
        "cold_start_s": device.cold_start_s,
        "warm_starts": device.warm_starts,
        "warm_start_s": device.warm_start_s,
        "prepared_ahead": device.prepared_ahead,
        "server_restarts": device.restarts,
        "usage": device_accounts(device.uses),
    }


def _spread(samples: list[float]) -> dict[str, float | int | None]:
    return {"p50": percentile(samples, 50), "p95": percentile(samples, 95), "n": len(samples)}


def _difference(left: float | None, right: float | None) -> float | None:
    return left - right if left is not None and right is not None else None
