"""Writes of statuses: one key's seldom, all together below a rate."""

from __future__ import annotations

from efaas_operator.pace import WritePace
from hypothesis import given
from hypothesis import strategies as st


def test_one_key_waits_for_its_interval():
    pace = WritePace(1000, 2.0)
    assert pace.wait_s("a", 100.0) == 0
    pace.written("a", 100.0)
    assert pace.wait_s("a", 100.5) == 1.5
    assert pace.wait_s("a", 100.5, 30.0) == 29.5
    assert pace.wait_s("a", 102.0) == 0


def test_turns_are_kept_in_the_order_of_asking():
    pace = WritePace(10, 0.0)
    waits = [round(pace.wait_s(str(number), 0.0), 6) for number in range(4)]
    assert waits == [0.0, 0.1, 0.2, 0.3]
    assert round(pace.wait_s("3", 0.25), 6) == 0.05, "to ask again changes nothing"


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 0.05), st.booleans()), min_size=1, max_size=200))
def test_writes_that_can_wait_never_exceed_the_rate(asked):
    """Urgent ones do not wait, but those that do make room for them."""
    rate = 20.0
    pace, now_s, patient, urgent = WritePace(rate, 0.0), 0.0, [], 0
    for key, step_s, hurry in asked:
        now_s += step_s
        if hurry:
            pace.written(str(key), now_s)
            urgent += 1
        elif pace.wait_s(str(key), now_s) == 0:
            pace.written(str(key), now_s)
            patient.append(now_s)
    for first, start_s in enumerate(patient):
        within = [moment for moment in patient[first:] if moment < start_s + 1.0]
        assert len(within) <= rate + urgent + 1
