"""Sessions through their whole life while everything around the operator fails, in its short form.

`python benchmarks/operator.py --faults` runs the same script with 200 sessions and more.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fault_run import FaultRun, Plan, Wanted, journal_faults, violations
from tests.support.operating import Operating


@pytest.mark.cluster
@pytest.mark.timeout(300)
def test_nothing_is_lost_and_nothing_is_done_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    story: list[str] = []
    with Operating(tmp_path / "world", seed=3) as world:
        world.start_operator()
        for name in ("one", "two"):
            world.add_device(name, slots=4, simulation={"noise": "None"})
        for name in ("one", "two"):
            world.wait_for_device(name)
        run = FaultRun(world, Plan(seed=3), story.append)
        run.run()
        found = violations(run, tmp_path)
        assert not found, "\n".join([*found, *story, *[each.tail(20) for each in world.operators[-2:]]])
    assert run.done["kill of the operator"] == 1
    assert sum(world.proxy.faults.values()) > 10, world.proxy.faults


def iteration(number: int, epoch: int, from_s: float = 0.0, to_s: float = 1.0) -> dict[str, object]:
    found = {"kind": "iteration", "evaluation": number, "epoch": epoch, "from_s": from_s, "to_s": to_s}
    return {**found, "iteration": number}


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([iteration(0, 1), iteration(1, 1)], ""),
        ([iteration(0, 1, 0, 1), iteration(1, 2, 2, 3)], ""),
        ([iteration(0, 1)], "not 2"),
        ([iteration(0, 1), iteration(0, 2), iteration(1, 2)], "each there once"),
        ([iteration(0, 2), iteration(1, 1)], "older runner wrote"),
        ([iteration(0, 1, 0, 5), iteration(1, 2, 4, 6)], "at the same time"),
    ],
    ids=["once", "two runners", "lost", "twice", "fenced off", "overlap"],
)
def test_a_journal_with_two_writers_is_seen(records: list[dict[str, object]], words: str):
    found = journal_faults(records, Wanted(("a", "b"), "Completed", 2, True))
    assert (not found) if not words else any(words in each for each in found), found
