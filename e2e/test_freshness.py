"""Placement goes to fresh calibrations, and no iteration runs on a stale one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from e2e.support.devices import bring
from e2e.support.kubectl import MEDIUM_S, Kubectl, wait_until
from e2e.support.sessions import loop, trajectory

TIME_SCALE = "0.05"
# Named so that a tie, which goes by name, would go to the stale one.
STALE, FRESH = "a-stale", "b-fresh"
CALIBRATION = {"drift": "Model", "interval": "48h", "duration": "10s", "maxAge": "48h"}
LIMIT_S = 1200.0


@pytest.fixture(scope="module", autouse=True)
def _devices(kubectl: Kubectl):
    model = {"model": {"snapshot": "manila-5"}, "simulation": {"timeScale": TIME_SCALE, "seed": 3}}
    bring(kubectl, {name: {**model, "calibration": CALIBRATION} for name in (STALE, FRESH)})


def _calibration(kubectl: Kubectl, name: str) -> dict[str, Any]:
    found: dict[str, Any] = kubectl.get("qpudevice", name)["status"].get("calibration") or {}
    return found


def _warm(kubectl: Kubectl, round_: str, *devices: str) -> None:
    """Have the circuit run on devices, so that nowhere it is new and freshness alone decides."""
    for name in devices:
        kubectl.apply(loop(f"{round_}-{name}", 2, device={"matchLabels": {"efaas.dev/device": name}}))
    for name in devices:
        kubectl.wait_for_state(f"{round_}-{name}", "Completed")


def test_sessions_are_placed_where_calibration_is_fresh(kubectl: Kubectl):
    _warm(kubectl, "before", STALE, FRESH)

    def both_are_stale() -> bool:
        return all(_calibration(kubectl, name).get("ageSeconds", 0) > LIMIT_S for name in (STALE, FRESH))

    wait_until("both devices to be stale", both_are_stale, MEDIUM_S)
    epoch = _calibration(kubectl, FRESH)["epoch"]
    wish = {"spec": {"calibration": {"requestedAt": datetime.now(UTC).isoformat(timespec="seconds")}}}
    kubectl("patch", "qpudevice", FRESH, "--type=merge", "-p", json.dumps(wish))
    wait_until("a calibration", lambda: _calibration(kubectl, FRESH)["epoch"] > epoch, MEDIUM_S)
    _warm(kubectl, "after", FRESH)
    # One after the other: a queue on the fresh one would be a reason too.
    for name in ("picky-1", "picky-2", "picky-3"):
        assert (
            _calibration(kubectl, FRESH)["ageSeconds"] < LIMIT_S < _calibration(kubectl, STALE)["ageSeconds"]
        )
        kubectl.apply(loop(name, 2, device={"maxCalibrationAge": f"{LIMIT_S:g}s"}))
        kubectl.wait_for_state(name, "Completed")
        assert set(trajectory(kubectl, name)["device"]) == {FRESH}


@pytest.mark.parametrize("labels", [{}, {"efaas.dev/device": STALE}], ids=["free to move", "bound"])
def test_drift_past_the_limit_is_answered_before_the_next_iteration(kubectl: Kubectl, labels: dict[str, str]):
    limit_s = 100.0
    name = "bound" if labels else "free"
    kubectl.apply(loop(name, 150, device={"maxCalibrationAge": f"{limit_s:g}s", "matchLabels": labels}))
    kubectl.wait_for_state(name, "Completed")
    columns = trajectory(kubectl, name)
    assert len(columns["evaluation"]) > 150
    assert max(columns["calibration_age_s"]) <= limit_s
    # It would have grown stale: what came to its aid is another device or another calibration.
    answers = set(zip(columns["device"], columns["calibration_epoch"], strict=True))
    assert len(answers) > 1, answers
    if labels:
        assert {device for device, _ in answers} == {STALE}
