"""What a record makes of the events that a runner, or anybody on the pipe, tells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efaas.local.progress import RunRecord, SessionRecord, State, percentile


def iteration(number: int, energy: float = -1.0, **more: Any) -> dict[str, Any]:
    return {"event": "iteration", "iteration": number, "evaluation": number, "energy": energy, **more}


def record() -> SessionRecord:
    return SessionRecord("default/a", 2, ("left",), device="left")


def test_an_evaluation_is_taken_once() -> None:
    session = record()
    assert session.apply(iteration(0, -1.0, shots=100)) is not None
    assert session.apply(iteration(0, -5.0, shots=900)) is None
    assert (session.energy, session.shots, len(session.history)) == (-1.0, 100, 1)


def test_a_waiting_job_shows_its_position_until_its_result_is_there() -> None:
    session = record()
    session.apply({"event": "queued", "position": 2, "reason": "an active loop runs"})
    assert (session.state, session.queue_position, session.reason) == (State.QUEUED, 2, "an active loop runs")
    session.apply(iteration(0))
    assert (session.state, session.queue_position, session.reason) == (State.RUNNING, 0, "")


def test_the_end_brings_the_final_evaluation() -> None:
    session = record()
    session.apply(iteration(0, -1.0, std_error=0.1, shots=100, qpu_s=1.0))
    session.apply(
        {"event": "finished", "result": {"energy": -1.2, "std_error": 0.01, "shots": 900, "qpu_s": 7.0}}
    )
    assert (session.energy, session.std_error, session.shots, session.qpu_s) == (-1.2, 0.01, 900, 7.0)


@pytest.mark.parametrize("state", ["Interrupted", "Suspended", "Wonderful", "", None, 3])
def test_states_that_are_not_the_runners_to_say_are_left_out(state: object) -> None:
    session = record()
    session.apply({"event": "state", "state": state})
    assert session.state is State.PENDING


@given(
    st.dictionaries(
        st.sampled_from(
            ["event", "state", "reason", "iteration", "evaluation", "energy", "shots", "result", "position"]
        ),
        st.one_of(
            st.sampled_from(["state", "queued", "iteration", "finished", "Running", "Completed"]),
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()),
            st.dictionaries(st.text(), st.floats()),
        ),
    )
)
def test_no_event_breaks_a_record(event: dict[str, Any]) -> None:
    session = record()
    session.apply(event)
    session.evaluations()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.floats(0, 100))
def test_percentiles_are_numpys(samples: list[float], percent: float) -> None:
    assert percentile(samples, percent) == pytest.approx(np.percentile(samples, percent), rel=1e-9, abs=1e-6)


@pytest.mark.parametrize(
    ("states", "bad_input", "interrupted", "code"),
    [
        ([State.COMPLETED], False, False, 0),
        ([State.COMPLETED, State.SUSPENDED], False, False, 0),
        ([State.COMPLETED, State.FAILED], False, False, 1),
        ([State.EXPIRED], False, False, 1),
        ([State.COMPLETED, State.FAILED], True, False, 2),
        ([State.INTERRUPTED], False, True, 130),
    ],
)
def test_exit_codes(states: list[State], bad_input: bool, interrupted: bool, code: int) -> None:
    sessions = {
        f"default/{index}": SessionRecord(f"default/{index}", 1, ("q",), state=state)
        for index, state in enumerate(states)
    }
    next(reversed(sessions.values())).bad_input = bad_input
    assert RunRecord("r", "runs/r", "", sessions, {}, interrupted=interrupted).exit_code() == code
