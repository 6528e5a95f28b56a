"""Routing: home first, away when home cannot, back when it is worth it, and never to and fro."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from efaas.core.placement import DeviceView, Health, Request
from efaas.core.routing import Router

HOME = DeviceView(name="home", qubits=5, slots=4, max_calibration_age_s=3600.0, local_calibration_s=20.0)
OTHER = replace(HOME, name="other")
THIRD = replace(HOME, name="third")
REQUEST = Request(session="ns/s", tenant="ns", qubits=4, circuit="c")


def test_home_is_used_while_it_is_usable_even_if_another_is_a_little_better():
    router = Router("home")
    route = router.route(0.0, REQUEST, [replace(HOME, queue_s=5.0), OTHER])
    assert (route.device, route.moved) == ("home", False)


def test_a_calibrating_home_sends_the_iteration_to_the_warm_device_first():
    router = Router("home")
    calibrating = replace(HOME, health=Health.CALIBRATING, calibration_left_s=100.0)
    warm = replace(THIRD, warm_circuits=frozenset({"c"}))
    route = router.route(0.0, REQUEST, [calibrating, OTHER, warm])
    assert (route.device, route.reason, route.moved) == ("third", "home is calibrating", True)


def test_past_limit_draining_down_and_gone_each_make_the_session_leave():
    cases = {
        "home is past the calibration age limit": [
            replace(HOME, calibration_age_s=4000.0, local_calibration_s=400.0)
        ],
        "home: takes no new sessions": [replace(HOME, health=Health.DRAINING)],
        "home: down": [replace(HOME, health=Health.DOWN)],
        "home is gone": [],
    }
    for reason, home in cases.items():
        route = Router("home").route(0.0, REQUEST, [*home, OTHER])
        assert (route.device, route.reason) == ("other", reason)


def test_a_home_that_is_cheap_to_renew_is_not_left_for_that():
    stale = replace(HOME, calibration_age_s=4000.0)  # 20 s of calibration are good for an hour
    route = Router("home").route(0.0, REQUEST, [stale, OTHER])
    assert (route.device, route.reason, route.moved) == ("home", "own device", False)
    impatient = Router("home", renewal_share=0.001)
    assert impatient.route(0.0, REQUEST, [stale, OTHER]).device == "other"
    helpless = replace(stale, calibrates_on_need=False)
    assert Router("home").route(0.0, REQUEST, [helpless, OTHER]).device == "other"


def test_renewing_the_home_is_no_reason_to_stay_away():
    router = Router("home")
    router.route(0.0, REQUEST, [replace(HOME, health=Health.CALIBRATING), OTHER])
    stale = replace(HOME, calibration_age_s=4000.0)
    assert router.route(40.0, REQUEST, [stale, OTHER]).device == "home"


def test_it_returns_after_the_dwell_time_and_only_for_a_gain():
    router = Router("home", gain_s=1.0, dwell_s=30.0)
    router.route(0.0, REQUEST, [replace(HOME, health=Health.DOWN), OTHER])
    warm_home = replace(HOME, warm_circuits=frozenset({"c"}))
    assert router.route(10.0, REQUEST, [warm_home, OTHER]).device == "other", "still resting"
    equal = replace(OTHER, warm_circuits=frozenset({"c"}))
    assert router.route(40.0, REQUEST, [warm_home, equal]).device == "other", "nothing to gain"
    back = router.route(50.0, REQUEST, [warm_home, OTHER])
    assert (back.device, back.reason, back.moved) == ("home", "home is usable again", True)


def test_with_no_device_usable_at_once_it_waits_at_home():
    route = Router("home").route(0.0, REQUEST, [replace(HOME, health=Health.CALIBRATING)])
    assert (route.device, route.moved) == ("home", False)
    assert route.reason == "home is calibrating; no other device can take it"


def test_with_no_device_at_all_the_reason_says_so():
    route = Router("home").route(0.0, REQUEST, [replace(HOME, health=Health.DOWN)])
    assert route.device is None
    assert route.reason == "NoDeviceFits: home: down"


def test_its_own_slot_does_not_count_against_it():
    full = replace(HOME, slots=1, slots_used=1)
    assert Router("home").route(0.0, REQUEST, [full, OTHER]).device == "home"


health = st.sampled_from([Health.READY, Health.READY, Health.READY, Health.CALIBRATING, Health.DOWN])
moments = st.lists(
    st.tuples(st.floats(0.1, 20.0), health, health, st.floats(0, 60), st.floats(0, 60), st.floats(0, 7200)),
    max_size=60,
)


@given(moments)
def test_moves_are_bounded_by_time_and_by_devices_becoming_unusable(
    moments: list[tuple[float, Health, Health, float, float, float]],
):
    router = Router("home", gain_s=1.0, dwell_s=30.0)
    now_s, moves, forced = 0.0, 0, 0
    for step_s, home_health, other_health, home_queue_s, other_queue_s, age_s in moments:
        now_s += step_s
        devices = [
            replace(HOME, health=home_health, queue_s=home_queue_s, calibration_age_s=age_s),
            replace(OTHER, health=other_health, queue_s=other_queue_s),
        ]
        current = next(device for device in devices if device.name == router.current)
        must_leave = current.health is not Health.READY or current.calibration_age_s > 3600.0
        route = router.route(now_s, REQUEST, devices)
        moves += route.moved
        forced += route.moved and must_leave
        assert route.device in {"home", "other", None}
    assert moves - forced <= 1 + now_s / 30.0
