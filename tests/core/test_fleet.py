"""The fleet's columns and the scalar rules are the same placement, and points never lie about an order."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efaas.core.fleet import Fleet, Report, at, cheapest, points
from efaas.core.placement import CircuitShape, DeviceView, Health, Request, refuse, score

LABELS = st.dictionaries(st.sampled_from(["zone", "tier"]), st.sampled_from(["x", "y"]), max_size=2)
ERRORS = st.floats(0, 0.2)
DRIFTS = st.floats(0, 1e-5)

views = st.builds(
    DeviceView,
    name=st.just("device"),
    qubits=st.integers(1, 10),
    connected_qubits=st.none() | st.integers(1, 10),
    labels=LABELS,
    node_labels=LABELS,
    health=st.sampled_from(Health),
    cordoned=st.booleans(),
    slots=st.integers(1, 3),
    slots_used=st.integers(0, 3),
    calibration_age_s=st.floats(0, 1e5),
    max_calibration_age_s=st.floats(1, 1e5) | st.just(math.inf),
    calibration_left_s=st.floats(0, 300),
    queue_s=st.floats(0, 100),
    network_s=st.floats(0, 1),
    local_calibration_s=st.floats(0, 50),
    calibrates_on_need=st.booleans(),
    warm_circuits=st.sets(st.sampled_from("cd"), max_size=2).map(frozenset),
    one_qubit_error=ERRORS,
    two_qubit_error=ERRORS,
    readout_error=ERRORS,
    one_qubit_drift_per_s=DRIFTS,
    two_qubit_drift_per_s=DRIFTS,
    readout_drift_per_s=DRIFTS,
    overuse=st.dictionaries(st.sampled_from(["t", "u"]), st.floats(-1, 3), max_size=2),
)
reports = st.builds(Report, view=views, at_s=st.floats(0, 1000), pace=st.floats(0.1, 10))
requests = st.builds(
    Request,
    session=st.just("t/s"),
    tenant=st.just("t"),
    qubits=st.integers(1, 10),
    match_labels=LABELS,
    node_selector=LABELS,
    max_calibration_age_s=st.none() | st.floats(1, 1e5),
    calibration_patience_s=st.floats(0, 400) | st.just(math.inf),
    min_fidelity=st.just(0.0) | st.floats(0, 1),
    circuit=st.none() | st.sampled_from("cd"),
    shape=st.builds(
        CircuitShape, st.integers(0, 50), st.integers(0, 30), st.integers(0, 10), st.floats(0, 10)
    ),
    overuse=st.floats(0, 2),
)


@given(st.lists(reports, min_size=1, max_size=20), requests, st.floats(0, 5000), st.booleans(), st.data())
def test_columns_and_scalar_rules_agree_on_every_device(
    given_reports: list[Report], request: Request, now_s: float, ignore_slots: bool, data: st.DataObject
):
    fleet = Fleet()
    for number, report in enumerate(given_reports):
        fleet.put(f"node-{number}", report)
    gone = data.draw(st.sets(st.integers(0, len(given_reports) - 1), max_size=3))
    for number in gone:
        fleet.remove(f"node-{number}")
    kept = [number for number in range(len(given_reports)) if number not in gone]
    answer = fleet.answer(request, now_s, ignore_slots=ignore_slots)
    rows = fleet.rows_of([f"node-{number}" for number in range(len(given_reports))])
    for number, row in enumerate(rows.tolist()):
        if number in gone:
            assert row == -1
            continue
        view = at(given_reports[number], now_s)
        if ignore_slots:
            view = DeviceView(**{**_fields(view), "slots_used": 0})
        assert bool(answer.fits[row]) == (refuse(request, view) is None)
        assert answer.cost_s[row] == pytest.approx(score(request, view).cost_s, rel=1e-12, abs=1e-9)
    assert int(answer.fits.sum()) == sum(bool(answer.fits[rows[number]]) for number in kept)


def _fields(view: DeviceView) -> dict[str, Any]:
    return {name: getattr(view, name) for name in view.__dataclass_fields__}


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60))
def test_points_keep_the_order_and_the_best_alone_has_ten(costs_s: list[float]):
    given_points = points(costs_s).tolist()
    grains = [round(cost * 1e6) for cost in costs_s]
    best = min(grains)
    for mine, my_points in zip(grains, given_points, strict=True):
        assert 0 <= my_points <= 10
        assert (my_points == 10) == (mine == best)
        for other, other_points in zip(grains, given_points, strict=True):
            if mine == other:
                assert my_points == other_points
            elif mine < other:
                assert my_points >= other_points


@given(st.sets(st.integers(0, 10**9), min_size=1, max_size=11))
def test_up_to_eleven_different_costs_have_different_points(grains: set[int]):
    costs_s = [grain / 1e6 for grain in sorted(grains)]
    assert points(costs_s).tolist() == [10 - rank for rank in range(len(costs_s))]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 50))
def test_the_cheapest_are_those_that_sorting_all_would_put_first(grains: list[int], count: int):
    keys = [f"n{(7 * number) % 41:02}" for number in range(len(grains))]
    costs_s = np.array(grains) / 1e6
    found = cheapest(keys, costs_s, count)
    order = sorted(range(len(keys)), key=lambda index: (grains[index], keys[index]))
    assert found == order[:count]


def test_rounding_noise_is_no_difference_and_a_microsecond_is_one():
    assert points([0.1 + 0.2, 0.3]).tolist() == [10, 10]
    assert points([0.300001, 0.3]).tolist() == [9, 10]


def test_rows_are_used_again_and_the_fleet_grows():
    fleet = Fleet()
    view = DeviceView(name="d", qubits=5)
    for number in range(100):
        fleet.put(f"n{number}", Report(view))
    for number in range(0, 100, 2):
        fleet.remove(f"n{number}")
    for number in range(100, 150):
        fleet.put(f"n{number}", Report(view))
    assert len(fleet) == 100
    assert fleet.slots() == 100
    assert len(set(fleet.rows.values())) == 100
    assert max(fleet.rows.values()) < 100
