"""Sessions that have the same circuit are told by their specifications, and find warm devices by it."""

from __future__ import annotations

from typing import Any

import pytest

from efaas.api.reading import read_device, read_session
from efaas.api.session import VQASessionSpec
from efaas.api.shapes import circuit_key
from efaas.core.placement import place
from tests.support.objects import device, session

CHAIN = {"isingChain": {"sites": 4}}
SU2 = {"efficientSU2": {"repetitions": 2}}


def key(problem: Any = CHAIN, ansatz: Any = SU2, **further: Any) -> str | None:
    spec = {"problem": problem, "ansatz": ansatz, "optimizer": {"spsa": {}}, **further}
    return circuit_key(VQASessionSpec.model_validate(spec))


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({"optimizer": {"adam": {}}, "shots": 17}, True),
        ({"problem": {"isingChain": {"sites": 4, "field": "2"}}}, True),  # another observable
        ({"ansatz": {"efficientSU2": {}}}, True),  # two repetitions are the default
        ({"problem": {"isingChain": {"sites": 5}}}, False),
        ({"ansatz": {"efficientSU2": {"repetitions": 3}}}, False),
        ({"ansatz": {"realAmplitudes": {"repetitions": 2}}}, False),
    ],
)
def test_what_makes_the_circuit_makes_the_key(other: dict[str, Any], same: bool):
    assert (key(**other) == key()) is same


def test_of_qaoa_the_problem_is_part_of_the_circuit():
    graphs = [{"maxCut": {"edges": [{"nodes": [0, 1]}, {"nodes": last}]}} for last in ([1, 2], [0, 2])]
    first, second = (key(graph, {"qaoa": {}}) for graph in graphs)
    assert first != second


def test_a_program_has_none():
    spec = VQASessionSpec.model_validate({"program": {"image": "mine:1"}})
    assert circuit_key(spec) is None


def test_a_session_goes_where_its_caches_are_warm():
    request = read_session(session("one")).request
    assert request.circuit is not None
    warm = [{"circuit": request.circuit, "epoch": 3}]
    views = [
        read_device(device(name, name, now_s=0.0, status=status), 0.0).report.view
        for name, status in (("a", {}), ("b", {"warmCircuits": warm}), ("c", {}))
    ]
    placement = place(request, views)
    assert placement.best == "b"
    assert [score.warm for score in placement.scores] == [True, False, False]
