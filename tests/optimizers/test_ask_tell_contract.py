"""What holds for every method: ask and tell, refusals, previews, and going on from a state to the bit."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efaas.errors import InputError, ParameterError
from efaas.optimizers import Tell, restore_optimizer

START = [0.7, -0.4, 1.1, 0.2]
# Expensive neither to run nor to restore, and past calibration, the first simplex and a reset.
OPTIONS = {
    "spsa": {"calibration_steps": 3, "last_average": 4},
    "rotosolve": {"reset_interval": 3},
    "scan": {"points": 23, "points_per_job": 2},
}


def make(bench, method, seed=5):
    return bench.make(method, START, seed, **OPTIONS.get(method, {}))


def as_bits(asked):
    return None if asked is None else (asked.iteration, asked.points.tobytes(), asked.overlaps.tobytes())


def trajectory(bench, optimizer, steps, noise_seed):
    random = np.random.default_rng(noise_seed)
    seen = []
    for _ in range(steps):
        if optimizer.finished is not None:
            break
        asked = optimizer.ask()
        seen.append(as_bits(asked))
        optimizer.tell(bench.answer(asked, noise=0.05, random=random))
        seen.append((optimizer.point.tobytes(), optimizer.iteration, optimizer.finished))
    return seen


def test_asking_twice_gives_the_same_points(bench, method):
    optimizer = make(bench, method)
    for _ in range(4):
        first = optimizer.ask()
        state = optimizer.state()
        assert as_bits(optimizer.ask()) == as_bits(first)
        assert optimizer.state() == state
        optimizer.tell(bench.answer(first))


@settings(max_examples=12)
@given(seed=st.integers(0, 2**64 - 1), noise_seed=st.integers(0, 99), cut=st.integers(0, 11))
def test_a_restored_optimizer_goes_on_to_the_bit(bench, method, seed, noise_seed, cut):
    steps = 12
    whole = make(bench, method, seed)
    expected = trajectory(bench, whole, steps, noise_seed)

    random = np.random.default_rng(noise_seed)
    optimizer = make(bench, method, seed)
    seen = []
    for step in range(steps):
        if step == cut:
            text = json.dumps(optimizer.state(), allow_nan=False)
            optimizer = restore_optimizer(json.loads(text))
            assert json.dumps(optimizer.state()) == text
        asked = optimizer.ask()
        seen.append(as_bits(asked))
        optimizer.tell(bench.answer(asked, noise=0.05, random=random))
        seen.append((optimizer.point.tobytes(), optimizer.iteration, optimizer.finished))
    assert seen == expected
    assert optimizer.state() == whole.state()


def test_a_state_taken_while_a_question_is_open_asks_it_again(bench, method):
    optimizer = make(bench, method)
    optimizer.tell(bench.answer(optimizer.ask()))
    asked = optimizer.ask()
    assert as_bits(restore_optimizer(json.loads(json.dumps(optimizer.state()))).ask()) == as_bits(asked)


def test_answers_that_do_not_fit_are_refused_and_change_nothing(bench, method):
    optimizer = make(bench, method)
    for _ in range(3):
        asked = optimizer.ask()
        good = bench.answer(asked)
        before, point = json.dumps(optimizer.state()), optimizer.point.copy()
        count = len(good.values)
        refused = [
            Tell(good.values[:-1], good.std_errors, good.overlaps),
            Tell(np.append(good.values, 0.0), good.std_errors, good.overlaps),
            Tell(good.values[:, np.newaxis], good.std_errors, good.overlaps),
            Tell(np.full(count, np.nan), good.std_errors, good.overlaps),
            Tell(np.full(count, -np.inf), good.std_errors, good.overlaps),
            Tell(np.full(count, 1e200), good.std_errors, good.overlaps),
            Tell(good.values * 1j, good.std_errors, good.overlaps),
            Tell(good.values, np.full(count, -0.1), good.overlaps),
            Tell(good.values, good.std_errors[:-1], good.overlaps),
            Tell(good.values, good.std_errors, np.append(good.overlaps, 0.5)),
        ]
        for answers in refused:
            with pytest.raises(ValueError, match=r"values|std_errors|overlaps"):
                optimizer.tell(answers)
            with pytest.raises(ValueError, match=r"values|std_errors|overlaps"):
                optimizer.preview(answers)
        assert json.dumps(optimizer.state()) == before
        assert np.array_equal(optimizer.point, point)
        assert as_bits(optimizer.ask()) == as_bits(asked)
        optimizer.tell(good)


@settings(max_examples=8)
@given(seed=st.integers(0, 2**32), noise_seed=st.integers(0, 99))
def test_a_preview_is_what_telling_leads_to_and_changes_nothing(bench, method, seed, noise_seed):
    optimizer = make(bench, method, seed)
    random = np.random.default_rng(noise_seed)
    for _ in range(10):
        asked = optimizer.ask()
        answers = bench.answer(asked, noise=0.1, random=random)
        other = bench.answer(asked, noise=1.0, random=random)
        before = json.dumps(optimizer.state())
        previewed = as_bits(optimizer.preview(answers))
        optimizer.preview(other)
        assert json.dumps(optimizer.state()) == before
        optimizer.tell(answers)
        assert previewed == (None if optimizer.finished is not None else as_bits(optimizer.ask()))


def test_previews_leave_the_trajectory_as_it_is(bench, method):
    plain = trajectory(bench, make(bench, method), 10, 3)
    speculated = make(bench, method)
    random = np.random.default_rng(3)
    seen = []
    for _ in range(10):
        asked = speculated.ask()
        speculated.preview(bench.answer(asked))
        seen.append(as_bits(asked))
        speculated.tell(bench.answer(asked, noise=0.05, random=random))
        seen.append((speculated.point.tobytes(), speculated.iteration, speculated.finished))
    assert seen == plain


def test_what_is_handed_out_cannot_be_written_to(bench, method):
    optimizer = make(bench, method)
    for _ in range(3):
        asked = optimizer.ask()
        for array in (asked.points, optimizer.point):
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0.0
        optimizer.tell(bench.answer(asked))


def test_answers_may_be_overwritten_after_they_were_told(bench, method):
    expected, optimizer = make(bench, method), make(bench, method)
    for _ in range(6):
        answers = bench.answer(expected.ask())
        expected.tell(answers)
        optimizer.ask()
        buffer = Tell(answers.values.copy(), answers.std_errors.copy(), answers.overlaps.copy())
        optimizer.tell(buffer)
        buffer.values[:] = np.nan
        buffer.overlaps[:] = np.nan
    assert optimizer.state() == expected.state()


def test_two_optimizers_do_not_disturb_each_other(bench, method):
    alone = trajectory(bench, make(bench, method), 6, 1)
    first, second = make(bench, method), make(bench, method, seed=99)
    random = np.random.default_rng(1)
    seen = []
    for _ in range(6):
        second.tell(bench.answer(second.ask()))
        asked = first.ask()
        seen.append(as_bits(asked))
        first.tell(bench.answer(asked, noise=0.05, random=random))
        seen.append((first.point.tobytes(), first.iteration, first.finished))
    assert seen == alone


def test_the_iteration_asked_for_is_the_number_of_complete_ones(bench, method):
    optimizer = make(bench, method)
    for _ in range(8):
        assert optimizer.ask().iteration == optimizer.iteration
        optimizer.tell(bench.answer(optimizer.ask()))


def test_one_parameter_is_enough(bench, method):
    optimizer = bench.make(method, [0.5], 1)
    for _ in range(5):
        asked = optimizer.ask()
        answers = bench.answer(asked, lambda p: float(np.cos(p[0]))) if not asked.overlaps.size else None
        if answers is None:
            values = np.cos(asked.points[:, 0])
            fidelities = np.cos((asked.overlaps[:, 0, 0] - asked.overlaps[:, 1, 0]) / 2) ** 2
            answers = Tell(values, np.zeros(values.size), fidelities)
        optimizer.tell(answers)
    assert np.all(np.isfinite(optimizer.point))


@pytest.mark.parametrize("value", [0.0, 1e100, -1e100, 1e-300])
def test_a_flat_or_huge_function_makes_no_point_that_is_not_finite(bench, method, value):
    optimizer = make(bench, method)
    for _ in range(30):
        if optimizer.finished is not None:
            break
        asked = optimizer.ask()
        count = len(asked.points)
        # Signs that alternate make the steepest slopes that are taken.
        values = value * np.where(np.arange(count) % 2, 1.0, -1.0) if value > 0 else np.full(count, value)
        optimizer.tell(Tell(values, np.zeros(count), np.ones(len(asked.overlaps))))
        assert np.all(np.isfinite(optimizer.point))


@pytest.mark.parametrize("initial", [[], [[0.0]], [np.nan], [np.inf, 0.0]])
def test_a_first_point_that_is_none_is_refused(bench, method, initial):
    with pytest.raises(ParameterError, match="initial point"):
        bench.make(method, initial)


def test_a_damaged_state_is_refused(bench, method):
    optimizer = make(bench, method)
    optimizer.tell(bench.answer(optimizer.ask()))
    state = optimizer.state()
    for key in state:
        with pytest.raises(InputError, match="optimizer state"):
            restore_optimizer({name: value for name, value in state.items() if name != key})
    for key, value in (("point", [float("nan")]), ("point", "x"), ("iteration", None), ("format", 99)):
        with pytest.raises(InputError, match="optimizer state"):
            restore_optimizer({**state, key: value})


def test_a_state_of_an_unknown_method_is_refused():
    with pytest.raises(InputError, match="no known method"):
        restore_optimizer({"method": "os.system"})
