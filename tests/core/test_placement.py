"""Placement: every rule refuses in words, every term of the score counts, and the best device is the best."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efaas.core.placement import (
    CircuitShape,
    DeviceView,
    Health,
    Request,
    expected_fidelity,
    place,
    refuse,
    score,
)

HOUR_S = 3600.0
DEVICE = DeviceView(name="a", qubits=5, slots=2, max_calibration_age_s=24 * HOUR_S, local_calibration_s=20.0)
REQUEST = Request(session="ns/s", tenant="ns", qubits=4)
SHAPE = CircuitShape(one_qubit_gates=10, two_qubit_gates=3, measured_qubits=4, execution_s=2.0)


@pytest.mark.parametrize(
    ("device", "request_changes", "reason", "waiting_helps"),
    [
        ({"qubits": 3}, {}, "3 qubits, 4 needed", False),
        ({}, {"match_labels": {"zone": "x"}}, "label zone is not set, x needed", False),
        ({"labels": {"zone": "y"}}, {"match_labels": {"zone": "x"}}, "label zone is y, x needed", False),
        ({"health": Health.DOWN}, {}, "down", True),
        ({"health": Health.DRAINING}, {}, "takes no new sessions", True),
        ({"cordoned": True}, {}, "takes no new sessions", True),
        ({"slots_used": 2}, {}, "all 2 slots taken", True),
        (
            {"calibration_age_s": 9 * HOUR_S, "calibrates_on_need": False},
            {"max_calibration_age_s": 6 * HOUR_S},
            "calibration 9 h old, limit 6 h",
            True,
        ),
        ({}, {"max_calibration_age_s": 10.0}, "a calibration takes 20 s, limit 10 s", False),
        (
            {"two_qubit_error": 0.1},
            {"min_fidelity": 0.9, "shape": SHAPE},
            "fidelity 0.729, 0.900 needed",
            False,
        ),
    ],
)
def test_each_rule_refuses_in_words(
    device: dict[str, object], request_changes: dict[str, object], reason: str, waiting_helps: bool
):
    refusal = refuse(replace(REQUEST, **request_changes), replace(DEVICE, **device))  # type: ignore[arg-type]
    assert refusal is not None
    assert (refusal.reason, refusal.waiting_helps) == (reason, waiting_helps)


def test_a_stale_device_that_calibrates_on_need_is_taken_and_pays_for_it():
    stale = replace(DEVICE, calibration_age_s=9 * HOUR_S)
    request = replace(REQUEST, max_calibration_age_s=6 * HOUR_S)
    assert refuse(request, stale) is None
    assert score(request, stale).calibration_s == 20.0


def test_fidelity_is_the_product_of_successes_aged_by_drift():
    device = replace(
        DEVICE,
        one_qubit_error=0.001,
        two_qubit_error=0.01,
        readout_error=0.02,
        two_qubit_drift_per_s=1e-5,
        calibration_age_s=1000.0,
    )
    assert expected_fidelity(device, SHAPE) == pytest.approx(0.999**10 * 0.98**3 * 0.98**4)


def test_fidelity_counts_as_the_shots_that_a_damped_signal_needs():
    device = replace(DEVICE, two_qubit_error=0.1)
    request = replace(REQUEST, shape=SHAPE)
    assert score(request, device).cost_s == pytest.approx(2.0 / 0.9**6)


def test_ttns_is_network_queue_and_calibration():
    device = replace(DEVICE, network_s=0.5, queue_s=3.0, calibration_left_s=7.0, health=Health.CALIBRATING)
    cold = score(replace(REQUEST, circuit="c"), device)
    assert cold.ttns_s == pytest.approx(0.5 + 3.0 + 7.0 + 20.0)


def test_a_warm_cache_saves_the_localised_calibration():
    device = replace(DEVICE, warm_circuits=frozenset({"c"}))
    assert score(replace(REQUEST, circuit="c"), device).calibration_s == 0.0
    assert score(replace(REQUEST, circuit="d"), device).calibration_s == 20.0


def test_a_tenant_above_its_share_expects_to_wait_longer():
    device = replace(DEVICE, queue_s=4.0, overuse={"ns": 0.5})
    assert score(REQUEST, device).cost_s == pytest.approx(4.0 + 2.0)
    assert score(replace(REQUEST, tenant="other"), device).cost_s == pytest.approx(4.0)


def test_when_nothing_fits_the_answer_names_each_device_and_why():
    answer = place(REQUEST, [replace(DEVICE, name="b", qubits=2), replace(DEVICE, health=Health.DOWN)])
    assert answer.best is None
    assert answer.reason == "NoDeviceFits: a: down; b: 2 qubits, 4 needed"
    assert place(REQUEST, []).reason == "NoDeviceFits: there are no devices"


views = st.builds(
    DeviceView,
    name=st.text("abcdef", min_size=1, max_size=4),
    qubits=st.integers(1, 10),
    health=st.sampled_from(Health),
    slots=st.integers(1, 3),
    slots_used=st.integers(0, 3),
    calibration_age_s=st.floats(0, 1e5),
    max_calibration_age_s=st.floats(1, 1e5),
    queue_s=st.floats(0, 100),
    network_s=st.floats(0, 1),
    local_calibration_s=st.floats(0, 50),
    two_qubit_error=st.floats(0, 1),
)


@given(st.lists(views, max_size=8, unique_by=lambda view: view.name), st.randoms(use_true_random=False))
def test_the_best_is_the_least_cost_whatever_the_order(devices: list[DeviceView], random: object):
    request = replace(REQUEST, shape=SHAPE)
    answer = place(request, devices)
    shuffled = list(devices)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert place(request, shuffled) == answer
    assert len(answer.scores) + len(answer.refusals) == len(devices)
    for each in answer.scores:
        assert math.isfinite(each.cost_s)
        assert answer.scores[0].cost_s <= each.cost_s
