"""Placement goes to fresh calibrations, and no iteration runs on a stale one."""

from __future__ import annotations

import pytest

from e2e.support.devices import bring
from e2e.support.kubectl import MEDIUM_S, Kubectl, wait_until
from e2e.support.sessions import loop, trajectory

TIME_SCALE = "0.02"
# Named so that a tie, which goes by name, would go to the stale one.
DEVICES = {
    "a-stale": {"drift": "Model", "interval": "48h", "duration": "10s", "maxAge": "48h"},
    "b-fresh": {"drift": "Model", "interval": "10m", "duration": "10s", "maxAge": "48h"},
}
LIMIT_S = 720.0


@pytest.fixture(scope="module", autouse=True)
def _devices(kubectl: Kubectl):
    model = {"model": {"snapshot": "manila-5"}, "simulation": {"timeScale": TIME_SCALE, "seed": 3}}
    bring(kubectl, {name: {**model, "calibration": calibration} for name, calibration in DEVICES.items()})


def _age_s(kubectl: Kubectl, name: str) -> int:
    calibration = kubectl.get("qpudevice", name)["status"].get("calibration") or {}
    return int(calibration.get("ageSeconds", 0))


def test_sessions_are_placed_where_calibration_is_fresh(kubectl: Kubectl):
    wait_until("one device to be stale", lambda: _age_s(kubectl, "a-stale") > LIMIT_S, MEDIUM_S)
    assert _age_s(kubectl, "b-fresh") < LIMIT_S
    names = [f"picky-{at}" for at in range(3)]
    kubectl.apply([loop(name, 10, device={"maxCalibrationAge": f"{LIMIT_S:g}s"}) for name in names])
    for name in names:
        kubectl.wait_for_state(name, "Completed")
        assert set(trajectory(kubectl, name)["device"]) == {"b-fresh"}


@pytest.mark.parametrize("labels", [{}, {"efaas.dev/device": "a-stale"}], ids=["free to move", "bound"])
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
        assert {device for device, _ in answers} == {"a-stale"}
