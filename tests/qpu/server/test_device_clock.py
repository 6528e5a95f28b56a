"""The device clock, on a wall clock that only the test moves."""

from __future__ import annotations

import pytest
from efaas_qpu.clock import DeviceClock
from hypothesis import given
from hypothesis import strategies as st


class Wall:
    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


def test_at_scale_zero_idle_time_passes_with_the_wall_and_held_time_by_the_job():
    wall = Wall()
    clock = DeviceClock(0, start_s=50.0, wall=wall)
    wall.s += 2
    assert clock.now_s() == 52.0
    assert clock.wall_until(55.0) == 3.0
    clock.hold()
    wall.s += 100  # a slow simulation
    assert clock.now_s() == 52.0
    assert clock.wall_until(55.0) is None
    clock.release(0.5)
    assert clock.now_s() == 52.5
    wall.s += 1
    assert clock.now_s() == 53.5


def test_at_a_scale_above_zero_the_wall_alone_counts():
    wall = Wall()
    clock = DeviceClock(0.1, start_s=50.0, wall=wall)
    wall.s += 2
    assert clock.now_s() == pytest.approx(70.0)
    assert clock.wall_until(75.0) == pytest.approx(0.5)
    clock.hold()
    wall.s += 1
    assert clock.now_s() == pytest.approx(80.0)
    clock.release(3.0)
    assert clock.now_s() == pytest.approx(80.0)


def test_a_device_is_held_once_at_a_time():
    clock = DeviceClock(0)
    with pytest.raises(ValueError, match="not held"):
        clock.release(1.0)
    clock.hold()
    with pytest.raises(ValueError, match="already"):
        clock.hold()


@given(
    st.sampled_from([0, 0.01, 1, 3]),
    st.lists(st.tuples(st.sampled_from(["hold", "release", "wait"]), st.floats(0, 1e4)), max_size=30),
)
def test_the_clock_never_goes_back(scale, moves):
    wall = Wall()
    clock, held, last = DeviceClock(scale, start_s=3.0, wall=wall), False, 3.0
    for move, amount in moves:
        if move == "hold" and not held:
            clock.hold()
            held = True
        elif move == "release" and held:
            clock.release(amount)
            held = False
        else:
            wall.s += amount
        assert clock.now_s() >= last
        last = clock.now_s()
