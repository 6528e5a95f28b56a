"""Placement goes to fresh calibrations, and no iteration runs on a stale one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from e2e.support.devices import bring
from e2e.support.kubectl import MEDIUM_S, Kubectl, wait_until
from e2e.support.sessions import loop, trajectory

TIME_SCALE = "0.05"
# Named so that a tie, which goes by name, would go to the stale one.
STALE, FRESH = DEVICES = ("a-stale", "b-fresh")
CALIBRATION = {"drift": "Model", "interval": "48h", "duration": "10s", "maxAge": "48h"}
LIMIT_S = 1200.0


@pytest.fixture(scope="module", autouse=True)
def _devices(kubectl: Kubectl):
    model = {"model": {"snapshot": "manila-5"}, "simulation": {"timeScale": TIME_SCALE, "seed": 3}}
    bring(kubectl, {name: {**model, "calibration": CALIBRATION} for name in DEVICES})


def _calibration(kubectl: Kubectl, name: str) -> dict[str, Any]:
    found: dict[str, Any] = kubectl.get("qpudevice", name)["status"].get("calibration") or {}
    return found


@pytest.fixture
def _warm(kubectl: Kubectl) -> Iterator[None]:
    """A session on each device keeps the circuit warm, so that it is new on neither and freshness decides.

    They take a calibration of any age, so none of them has its device calibrated.
    """
    names = [f"keeper-{name}" for name in DEVICES]
    kubectl.apply(
        [
            loop(keeper, 10_000, device={"matchLabels": {"efaas.dev/device": name}})
            for keeper, name in zip(names, DEVICES, strict=True)
        ]
    )
    for keeper in names:
        kubectl.wait_for_state(keeper, "Running")
    yield
    kubectl("delete", "vqa", *names, "--timeout=60s", timeout_s=70)


@pytest.mark.usefixtures("_warm")
def test_sessions_are_placed_where_calibration_is_fresh(kubectl: Kubectl):
    def both_are_stale_and_warm() -> bool:
        statuses = [kubectl.get("qpudevice", name)["status"] for name in DEVICES]
        return all(
            status["calibration"]["ageSeconds"] > LIMIT_S and status.get("warmCircuits")
            for status in statuses
        )

    wait_until("both devices to be stale", both_are_stale_and_warm, MEDIUM_S)
    epoch = _calibration(kubectl, FRESH)["epoch"]
    wish = {"spec": {"calibration": {"requestedAt": datetime.now(UTC).isoformat(timespec="seconds")}}}
    kubectl("patch", "qpudevice", FRESH, "--type=merge", "-p", json.dumps(wish))

    def fresh_and_warm() -> bool:
        status = kubectl.get("qpudevice", FRESH)["status"]
        return status["calibration"]["epoch"] > epoch and bool(status.get("warmCircuits"))

    wait_until("a calibration", fresh_and_warm, MEDIUM_S)
    # One after the other: a queue on the fresh one would be a reason too.
    for name in ("picky-1", "picky-2", "picky-3"):
        assert (
            _calibration(kubectl, FRESH)["ageSeconds"] < LIMIT_S < _calibration(kubectl, STALE)["ageSeconds"]
        )
        kubectl.apply(loop(name, 2, device={"maxCalibrationAge": f"{LIMIT_S:g}s"}))
        assert kubectl.wait_for_state(name, "Completed")["device"] == FRESH
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
