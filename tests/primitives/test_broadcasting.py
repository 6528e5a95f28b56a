"""Batches read every element of a broadcast PUB once, from a job that evaluates what the element asks for."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from efaas.primitives.broadcasting import MAX_JOBS, batches


@given(
    mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=4),
    st.integers(0, 2**31),
    st.integers(1, 5),
    st.integers(1, 5),
)
def test_every_element_is_read_once_and_gets_what_it_asks_for(shapes, seed, most_points, most_observables):
    parameters, observables = shapes.input_shapes
    index = np.random.default_rng(seed).integers(0, 3, size=observables).astype(np.intp)
    points = np.arange(np.prod(parameters, dtype=int)).reshape(parameters)
    point, which = (array.ravel() for array in np.broadcast_arrays(points, index))
    seen = []
    for batch in batches(parameters, index, most_points=most_points, most_observables=most_observables):
        assert len(batch.points) <= most_points
        assert len(batch.observables) <= most_observables
        for element, row, column in zip(batch.elements, batch.rows, batch.columns, strict=True):
            seen.append(int(element))
            assert batch.points[row] == point[element]
            assert batch.observables[column] == which[element]
    assert sorted(seen) == list(range(point.size))


def test_an_outer_product_is_one_job():
    [batch] = batches((5, 1), np.arange(3))
    assert batch.points == (0, 1, 2, 3, 4)
    assert batch.observables == (0, 1, 2)


def test_pairs_are_one_job_each_and_measure_nothing_else():
    found = batches((3,), np.arange(3))
    assert [(batch.points, batch.observables) for batch in found] == [((i,), (i,)) for i in range(3)]


def test_the_same_observable_for_all_points_is_one_job():
    [batch] = batches((4,), np.zeros(4, dtype=np.intp))
    assert batch.observables == (0,)


def test_no_pub_becomes_more_jobs_than_a_session_may_have():
    assert len(batches((1000,), np.arange(1000))) <= MAX_JOBS
