"""A job's id names a computation, and its shots draw their randomness from it alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efaas.core.identity import BLOCK_SHOTS, ShotSource, block_seed, digest, job_id, shot_uniforms


@given(st.integers(0, 2**63 - 1), st.integers(0, 20), st.integers(0, 20))
def test_any_run_of_blocks_is_a_cut_of_the_whole(seed: int, first: int, length: int):
    whole = shot_uniforms(seed, "0-job", 3, 0, 41 * BLOCK_SHOTS)
    run = shot_uniforms(seed, "0-job", 3, first * BLOCK_SHOTS, length * BLOCK_SHOTS)
    assert np.array_equal(run, whole[first * BLOCK_SHOTS : (first + length) * BLOCK_SHOTS])


@given(
    st.lists(st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 9), st.integers(0, 9), st.integers(0, 999)))
)
def test_a_source_used_again_and_again_draws_what_a_fresh_generator_would(
    draws: list[tuple[int, int, int, int]],
):
    source = ShotSource()
    for seed, pair, block, shots in draws:
        again = source.uniforms(seed, "0-job", pair, block * BLOCK_SHOTS, shots)
        assert np.array_equal(again, shot_uniforms(seed, "0-job", pair, block * BLOCK_SHOTS, shots))


def test_runs_must_start_where_the_generator_steps():
    with pytest.raises(ValueError, match="multiple of 4"):
        shot_uniforms(0, "0-job", 0, 2, 10)


def test_seed_job_pair_and_block_each_change_the_randomness():
    streams = [
        tuple(shot_uniforms(seed, job, pair, 0, 4))
        for seed in (0, 1)
        for job in ("0-a", "1-a")
        for pair in (0, 1)
    ]
    assert len(set(streams)) == 8
    assert len({block_seed(0, "0-a", pair, block) for pair in range(3) for block in range(3)}) == 9


def test_uniforms_are_uniform():
    draws = shot_uniforms(7, "0-job", 0, 0, 100_000)
    counts = np.histogram(draws, bins=50, range=(0, 1))[0]
    chi_square = float(np.sum((counts - 2000) ** 2 / 2000))
    assert chi_square < 85.4, "99.9 % quantile of chi-square with 49 degrees of freedom"


@given(st.lists(st.text(max_size=5), max_size=4), st.lists(st.text(max_size=5), max_size=4))
def test_digests_collide_only_for_equal_sequences(left: list[str], right: list[str]):
    assert (digest(*left) == digest(*right)) == (left == right)


def test_every_part_of_a_job_changes_its_id():
    def ids(**changes: object) -> str:
        arguments: dict[str, object] = {
            "session": "default/h2",
            "evaluation": 3,
            "circuit": "c",
            "observables": ("o",),
            "parameters": np.array([[0.1, 0.2]]),
            "shots": 100,
            "readout_mitigation": False,
        }
        return job_id(**(arguments | changes))  # type: ignore[arg-type]

    variants = [
        ids(),
        ids(session="default/h3"),
        ids(evaluation=4),
        ids(circuit="d"),
        ids(observables=()),
        ids(observables=("o", "o")),
        ids(parameters=np.array([[0.1], [0.2]])),
        ids(parameters=np.array([[0.1, np.nextafter(0.2, 1)]])),
        ids(shots=101),
        ids(readout_mitigation=True),
    ]
    assert len(set(variants)) == len(variants)
    assert ids() == ids()
    assert ids().startswith("3-")
