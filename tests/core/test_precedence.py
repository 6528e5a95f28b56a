"""Who leaves a slot to whom, checked against a search over all ways to give slots away."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from efaas.core.precedence import Standing, Waiting, ahead, contested, overuse


def test_a_share_is_the_larger_of_two_divided_by_the_weight():
    assert Standing(cpus=2, slots=1).share(cpus=8, slots=10) == 0.25
    assert Standing(cpus=2, slots=5, weight=2).share(cpus=8, slots=10) == 0.25


def test_ahead_are_those_served_less_and_waiting():
    shares = {"a": 0.5, "b": 0.1, "c": 0.3, "d": 0.0, "e": 0.5}
    assert ahead("a", shares, {"b": 1, "c": 2, "d": 0, "e": 4}) == ["b", "c"]


@given(st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1), min_size=1))
def test_two_tenants_never_wait_for_each_other(shares: dict[str, float]):
    waiting = dict.fromkeys(shares, 1)
    for one, other in itertools.combinations(shares, 2):
        assert not (one in ahead(other, shares, waiting) and other in ahead(one, shares, waiting))


def test_overuse_is_what_exceeds_an_equal_part():
    assert overuse("a", {"a": 0.6, "b": 0.2}, ["a", "b"]) == 0.6 * 2 / 0.8 - 1
    assert overuse("b", {"a": 0.6, "b": 0.2}, ["a", "b"]) == 0.0
    assert overuse("a", {}, ["a"]) == 0.0


def can_all_be_served(free: list[int], classes: list[tuple[int, list[bool]]]) -> bool:
    """By search: whether every pod of every class can have a slot."""
    pods = [fits for count, fits in classes for _ in range(count)]

    def serve(index: int, left: tuple[int, ...]) -> bool:
        if index == len(pods):
            return True
        return any(
            fits and left[device] and serve(index + 1, tuple(n - (d == device) for d, n in enumerate(left)))
            for device, fits in enumerate(pods[index])
        )

    return serve(0, tuple(free))


@given(
    st.integers(1, 3).flatmap(
        lambda devices: st.tuples(
            st.lists(st.integers(1, 3), min_size=devices, max_size=devices),
            st.tuples(st.integers(1, 4), st.lists(st.booleans(), min_size=devices, max_size=devices)),
        )
    )
)
def test_with_one_class_ahead_a_slot_is_contested_exactly_if_taking_it_leaves_one_out(
    case: tuple[list[int], tuple[int, list[bool]]],
):
    free, (count, fits) = case
    taken = contested(np.array(free), [Waiting("t", count, np.array(fits))])
    for device in range(len(free)):
        left = [n - (d == device) for d, n in enumerate(free)]
        # Those who could not be served anyway do not keep slots that they cannot use.
        assert taken[device] == (fits[device] and not can_all_be_served(left, [(count, fits)]))


@given(
    st.lists(st.integers(1, 2), min_size=3, max_size=3),
    st.lists(
        st.tuples(st.integers(1, 2), st.lists(st.booleans(), min_size=3, max_size=3)), min_size=1, max_size=3
    ),
)
def test_a_slot_that_nobody_ahead_could_use_is_never_contested(
    free: list[int], classes: list[tuple[int, list[bool]]]
):
    taken = contested(np.array(free), [Waiting("t", count, np.array(fits)) for count, fits in classes])
    for device in range(3):
        if not any(fits[device] for _, fits in classes):
            assert not taken[device]
