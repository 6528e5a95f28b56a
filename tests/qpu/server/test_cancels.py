"""Cancelled jobs, failed workers, speculative jobs."""

from __future__ import annotations

import asyncio

import pytest

from efaas.api.wire import qpu_pb2 as wire
from efaas.core.qpu.config import QpuConfig


def test_a_waiting_job_is_dropped(world):
    async def scenario():
        async with world.serve():
            world.engine.gate = asyncio.Event()
            client = await world.ready()
            running, waiting = world.submit(0), world.submit(1)
            await client.send(running, waiting, world.cancel(waiting))
            error = await client.expect("error")
            assert (error.code, error.job_id) == (wire.CANCELLED, waiting.submit.job_id)
            world.engine.gate.set()
            assert (await client.expect("result")).job_id == running.submit.job_id
            assert world.engine.executed == [running.submit.job_id]

    asyncio.run(scenario())


def test_a_running_job_is_dropped_at_the_end_of_its_slice(world):
    async def scenario():
        async with world.serve():
            world.engine.gate = asyncio.Event()
            client = await world.ready()
            job = world.submit()
            await client.send(job)
            await client.expect("started")
            await client.send(world.cancel(job), world.cancel(job))
            while not world.host.driver.jobs[job.submit.job_id].cancelled:
                await asyncio.sleep(0.001)
            world.engine.gate.set()
            error = await client.expect("error")
            assert (error.code, error.job_id) == (wire.CANCELLED, job.submit.job_id)
            assert not world.host.driver.jobs
            # The same submit again is a new run.
            await client.send(job)
            assert not (await client.expect("result")).kept

    asyncio.run(scenario())


def test_a_cancel_that_comes_late_changes_nothing(world):
    async def scenario():
        async with world.serve():
            client = await world.ready()
            job = world.submit()
            await client.send(job)
            await client.expect("result")
            await client.send(world.cancel(job), world.cancel(world.submit(9)), world.submit(1))
            assert (await client.expect("result")).job_id == world.submit(1).submit.job_id
            await client.send(job)
            assert (await client.expect("result")).kept

    asyncio.run(scenario())


def test_a_dead_worker_costs_one_retry(world):
    async def scenario():
        async with world.serve():
            world.engine.failures.append(world.WorkerFailed("the worker ended (signal 9)", how="died"))
            client = await world.ready()
            await client.send(world.submit())
            result = await client.expect("result")
            assert result.timing.attempts == 2
            assert result.shots == 200
            assert len(world.engine.executed) == 2

    asyncio.run(scenario())


def test_a_worker_that_dies_every_time_fails_the_job_only(world):
    async def scenario():
        async with world.serve():
            failure = world.WorkerFailed("the worker ended (signal 9)", how="died")
            world.engine.failures.extend([failure] * QpuConfig().max_failures)
            client = await world.ready()
            job = world.submit()
            await client.send(job)
            error = await client.expect("error")
            assert (error.code, error.job_id) == (wire.WORKER_FAILED, job.submit.job_id)
            assert "signal 9" in error.message
            await client.send(world.submit(1))
            await client.expect("result")

    asyncio.run(scenario())


def test_a_job_that_the_engine_refuses_is_not_tried_again(world):
    async def scenario():
        async with world.serve():
            world.engine.failures.append(world.ParameterError("does not fit", place="parameters"))
            client = await world.ready()
            await client.send(world.submit())
            error = await client.expect("error")
            assert (error.code, error.message, error.place) == (
                wire.BAD_PARAMETERS,
                "does not fit",
                "parameters",
            )
            assert len(world.engine.executed) == 1
            await client.send(world.submit(1))
            await client.expect("result")

    asyncio.run(scenario())


def test_a_fault_in_the_engine_is_no_fault_of_the_server(world):
    async def scenario():
        async with world.serve():
            world.engine.failures.append(ZeroDivisionError("a bug"))
            client = await world.ready()
            await client.send(world.submit())
            assert (await client.expect("result")).timing.attempts == 2

    asyncio.run(scenario())


def test_a_speculative_job_is_charged_when_it_is_claimed(world):
    async def scenario():
        async with world.serve():
            client = await world.ready()
            guess = world.submit(kind=wire.SPECULATIVE)
            await client.send(guess)
            first = await client.expect("result")
            assert (first.shots, first.qpu_s) == (0, 0.0)
            [session] = (await world.describe()).sessions
            assert session.shots == 0
            await client.send(world.submit())
            claimed = await client.expect("result")
            assert claimed.evaluations == first.evaluations
            assert (claimed.shots, claimed.qpu_s) == (200, pytest.approx(200 * world.SHOT_S))
            [session] = (await world.describe()).sessions
            assert session.shots == 200
            assert len(world.engine.executed) == 1

    asyncio.run(scenario())


def test_a_wrong_guess_is_forgotten(world):
    async def scenario():
        async with world.serve():
            client = await world.ready()
            guess = world.submit(kind=wire.SPECULATIVE)
            await client.send(guess)
            await client.expect("result")
            await client.send(world.cancel(guess), world.submit(1, parameters=(1.0, 1.0)))
            await client.expect("result")
            assert not world.host.driver.jobs
            [session] = (await world.describe()).sessions
            assert session.shots == 200

    asyncio.run(scenario())
