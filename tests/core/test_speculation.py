"""Speculation: only the truth is used, nothing runs twice, and it stops when it does not pay."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efaas.core.speculation import (
    AbandonPrepare,
    AwaitPrepared,
    CancelAhead,
    CandidatesFound,
    Decision,
    EvaluationSubmitted,
    Event,
    NextPointDecided,
    PrepareAhead,
    PrepareFailed,
    PrepareFinished,
    PrepareNow,
    ResultCameEarly,
    ShotsWasted,
    Speculator,
    SubmitAhead,
    UsePrepared,
    within_tolerance,
)


def feed(speculator: Speculator, *events: Event) -> list[Decision]:
    return [decision for event in events for decision in speculator.handle(event)]


def test_a_prepared_candidate_that_comes_true_is_used_and_masks_its_whole_step():
    speculator = Speculator(workers=1)
    feed(speculator, EvaluationSubmitted(0.0, 0))
    assert feed(speculator, CandidatesFound(0.1, (b"a", b"b"))) == [PrepareAhead(b"a")]
    assert feed(speculator, PrepareFinished(1.1, b"a", 0.9)) == [PrepareAhead(b"b")]
    assert feed(speculator, NextPointDecided(1.5, b"a")) == [AbandonPrepare(b"b"), UsePrepared(b"a", 1.0)]
    assert feed(speculator, PrepareFinished(2.1, b"b", 0.8)) == []
    report = speculator.report
    assert (report.hits, report.evaluations, report.masked_s, report.wasted_cpu_s) == (1, 1, 1.0, 0.8)


def test_a_candidate_still_running_is_awaited_and_masks_what_ran_before_the_result():
    speculator = Speculator(workers=1)
    feed(speculator, EvaluationSubmitted(0.0, 0), CandidatesFound(0.0, (b"a",)))
    assert feed(speculator, NextPointDecided(0.6, b"a")) == [AwaitPrepared(b"a")]
    (decision,) = feed(speculator, PrepareFinished(1.0, b"a", 1.0))
    assert decision == UsePrepared(b"a", 0.6)


@pytest.mark.parametrize("known", [(), (b"a",), (b"a", b"b")])
def test_a_point_nobody_prepared_is_prepared_in_the_loop(known: tuple[bytes, ...]):
    speculator = Speculator(workers=1)
    feed(speculator, EvaluationSubmitted(0.0, 0), CandidatesFound(0.0, known))
    assert feed(speculator, NextPointDecided(1.0, b"b"))[-1] == PrepareNow(b"b")
    assert speculator.report.hits == 0


def test_a_step_that_failed_ahead_is_done_again_in_the_loop_where_its_error_belongs():
    speculator = Speculator(workers=1)
    feed(speculator, EvaluationSubmitted(0.0, 0), CandidatesFound(0.0, (b"a",)))
    feed(speculator, PrepareFailed(0.5, b"a", 0.5))
    assert feed(speculator, NextPointDecided(1.0, b"a")) == [PrepareNow(b"a")]


def test_idle_qpus_get_prepared_candidates_and_lose_the_wrong_ones():
    speculator = Speculator(workers=2, speculative_jobs=2)
    feed(speculator, EvaluationSubmitted(0.0, 7), CandidatesFound(0.0, (b"a", b"b", b"c")))
    assert SubmitAhead(b"a", 8) in feed(speculator, PrepareFinished(0.1, b"a", 0.1))
    assert feed(speculator, PrepareFinished(0.1, b"b", 0.1)) == [SubmitAhead(b"b", 8)]
    assert feed(speculator, PrepareFinished(0.2, b"c", 0.1)) == [], "two at once is the limit"
    decisions = feed(speculator, NextPointDecided(1.0, b"b"))
    assert decisions == [CancelAhead(b"a", 8), UsePrepared(b"b", pytest.approx(0.1))]
    assert speculator.report.speculative_hits == 1


def test_speculation_pauses_when_a_window_has_not_paid_and_probes_again():
    speculator = Speculator(workers=1, window=3, probe_every=2)
    for evaluation in range(3):
        assert speculator.wants_candidates
        feed(speculator, EvaluationSubmitted(0.0, evaluation), CandidatesFound(0.0, (b"wrong",), cost_s=0.01))
        feed(speculator, NextPointDecided(1.0, b"right"), PrepareFinished(1.0, b"wrong", 0.5))
    assert not speculator.wants_candidates
    for evaluation in range(3, 5):
        feed(speculator, EvaluationSubmitted(0.0, evaluation))
        assert feed(speculator, NextPointDecided(1.0, b"right")) == [PrepareNow(b"right")]
    assert speculator.wants_candidates
    assert speculator.report.paused_evaluations == 2


def test_an_end_that_was_never_a_beginning_is_refused():
    with pytest.raises(ValueError, match="was not running"):
        Speculator().handle(PrepareFinished(0.0, b"a", 0.1))


def test_tolerance_is_counted_in_standard_errors_of_every_value():
    assert within_tolerance([1.0, 2.0], [1.1, 1.9], [0.1, 0.1], k=1.001)
    assert not within_tolerance([1.0, 2.0], [1.1, 1.7], [0.1, 0.1], k=2.0)


points = st.sampled_from([b"a", b"b", b"c", b"d"])
rounds = st.lists(
    st.tuples(st.lists(points, max_size=4), points, st.lists(st.booleans(), max_size=8)), max_size=12
)


@given(rounds, st.integers(0, 3), st.integers(0, 2))
def test_whatever_happens_the_decided_point_is_what_runs_next(
    rounds: Iterable[tuple[list[bytes], bytes, list[bool]]], workers: int, jobs: int
):
    """A host that ends steps at arbitrary moments: each round ends with exactly the decided point, once."""
    speculator = Speculator(workers=workers, speculative_jobs=jobs, window=4, probe_every=2)
    running: list[bytes] = []
    now_s = 0.0

    def carry_out(decisions: list[Decision]) -> list[bytes]:
        used = []
        for decision in decisions:
            match decision:
                case PrepareAhead(point):
                    assert point not in running
                    running.append(point)
                    assert len(running) <= workers
                case UsePrepared(point) | PrepareNow(point):
                    used.append(point)
        return used

    for evaluation, (candidates, truth, ends) in enumerate(rounds):
        now_s += 1.0
        used = carry_out(speculator.handle(EvaluationSubmitted(now_s, evaluation)))
        used += carry_out(speculator.handle(CandidatesFound(now_s, tuple(candidates))))
        for succeeds in ends:
            if running:
                point = running.pop(0)
                kind = PrepareFinished if succeeds else PrepareFailed
                used += carry_out(speculator.handle(kind(now_s, point, 0.1)))
        assert used == [], "nothing is used before it is decided"
        decisions = speculator.handle(NextPointDecided(now_s, truth))
        used = carry_out(decisions)
        while AwaitPrepared(truth) in decisions and not used:
            point = running.pop(0)
            used += carry_out(speculator.handle(PrepareFinished(now_s, point, 0.1)))
        assert used == [truth]
    assert speculator.report.hits <= speculator.report.evaluations


def informed(now_s: float, *points: bytes) -> CandidatesFound:
    return CandidatesFound(now_s, points, informed=True)


def test_an_estimate_takes_the_worker_from_a_guess_and_a_newer_one_may_give_it_back():
    speculator = Speculator(workers=1)
    feed(speculator, EvaluationSubmitted(0.0, 0), CandidatesFound(0.0, (b"a", b"b")))
    assert feed(speculator, informed(0.1, b"b")) == [AbandonPrepare(b"a")]
    assert feed(speculator, PrepareFailed(0.11, b"a", 0.1)) == [PrepareAhead(b"b")]
    assert feed(speculator, informed(0.2, b"a")) == [AbandonPrepare(b"b")]
    assert feed(speculator, PrepareFailed(0.21, b"b", 0.1)) == [PrepareAhead(b"a")]
    assert feed(speculator, NextPointDecided(0.3, b"a")) == [AwaitPrepared(b"a")]
    assert speculator.report.wasted_cpu_s == pytest.approx(0.2)


def test_an_estimate_that_agrees_with_what_runs_changes_nothing():
    speculator = Speculator(workers=1)
    feed(speculator, EvaluationSubmitted(0.0, 0), CandidatesFound(0.0, (b"a", b"b")))
    assert feed(speculator, informed(0.1, b"a")) == []


def test_an_estimate_takes_the_qpu_from_a_guess():
    speculator = Speculator(workers=2, speculative_jobs=1)
    feed(speculator, EvaluationSubmitted(0.0, 3), CandidatesFound(0.0, (b"a", b"b")))
    assert SubmitAhead(b"a", 4) in feed(speculator, PrepareFinished(0.1, b"a", 0.1))
    feed(speculator, PrepareFinished(0.2, b"b", 0.1))
    assert feed(speculator, informed(0.3, b"b")) == [CancelAhead(b"a", 4), SubmitAhead(b"b", 4)]


def test_a_second_guess_is_not_started_when_it_would_be_late():
    speculator = Speculator(workers=1)
    feed(speculator, EvaluationSubmitted(0.0, 0), CandidatesFound(0.0, (b"a",)))
    feed(speculator, PrepareFinished(0.7, b"a", 0.7), NextPointDecided(1.0, b"a"))
    feed(speculator, EvaluationSubmitted(1.0, 1), CandidatesFound(1.0, (b"b", b"c")))
    assert feed(speculator, PrepareFinished(1.7, b"b", 0.7)) == [], "c would be ready 0.4 s after the result"


def test_results_that_come_early_are_a_gain_and_late_looks_a_cost():
    speculator = Speculator(workers=1, window=1, probe_every=2)
    for early in (True, False):
        feed(speculator, EvaluationSubmitted(0.0, 0))
        if early:
            feed(speculator, ResultCameEarly(0.5, 0.2))
        feed(speculator, NextPointDecided(1.0, b"x", late_s=0.1))
        assert speculator.wants_candidates is early
    assert speculator.report.masked_qpu_s == 0.2
    feed(speculator, ShotsWasted(1.0, 7))
    assert speculator.report.wasted_shots == 7
