"""Keys to look at: each once, never twice at a time, again after a failure."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter

import pytest
from efaas_operator.metrics import Metrics
from efaas_operator.work import WorkQueue


def run(scenario):
    return asyncio.run(asyncio.wait_for(scenario(), 20))


async def working(queue: WorkQueue, until) -> None:
    task = asyncio.create_task(queue.run())
    while not until():
        await asyncio.sleep(0.005)
    await queue.idle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_key_that_waits_is_looked_at_once():
    async def scenario():
        looks = Counter()

        async def look(key):
            looks[key] += 1

        queue = WorkQueue("X", look, Metrics())
        for _ in range(100):
            queue.add("a")
            queue.add("b")
        await working(queue, lambda: len(looks) == 2)
        assert looks == {"a": 1, "b": 1}

    run(scenario)


def test_a_key_is_never_looked_at_twice_at_a_time_and_again_if_it_changed_meanwhile():
    async def scenario():
        busy, most, looks = Counter(), Counter(), Counter()
        started = asyncio.Event()

        async def look(key):
            busy[key] += 1
            most[key] = max(most[key], busy[key])
            started.set()
            await asyncio.sleep(0.02)
            looks[key] += 1
            busy[key] -= 1

        queue = WorkQueue("X", look, Metrics(), workers=4)
        queue.add("a")

        async def change():
            await started.wait()
            for _ in range(5):
                queue.add("a")

        changing = asyncio.create_task(change())
        await working(queue, lambda: looks["a"] == 2)
        await changing
        assert most["a"] == 1
        assert looks["a"] == 2

    run(scenario)


def test_a_look_that_fails_is_repeated_after_pauses_that_grow():
    async def scenario():
        metrics, moments = Metrics(), []

        async def look(key):
            moments.append(asyncio.get_running_loop().time())
            if len(moments) < 4:
                raise ValueError("not yet")

        queue = WorkQueue("X", look, metrics, first_pause_s=0.05)
        queue.add("a")
        await working(queue, lambda: len(moments) == 4)
        pauses = [after - before for before, after in itertools.pairwise(moments)]
        assert pauses[0] >= 0.05
        assert pauses[1] >= 0.1
        assert pauses[2] >= 0.2
        assert metrics.registry.get_sample_value("efaas_operator_reconcile_errors_total", {"kind": "X"}) == 3

    run(scenario)


def test_a_look_names_the_next_one_and_an_earlier_wish_counts():
    async def scenario():
        moments = []

        async def look(key):
            moments.append(key)
            return 3600.0 if len(moments) == 1 else None

        queue = WorkQueue("X", look, Metrics())
        queue.add("a")
        task = asyncio.create_task(queue.run())
        while not moments:
            await asyncio.sleep(0.005)
        await queue.idle()
        queue.add("a", 0.05)
        while len(moments) < 2:
            await asyncio.sleep(0.005)
        task.cancel()

    run(scenario)
