"""Streams that are lost, repeated, taken over or fenced off."""

from __future__ import annotations

import asyncio

import pytest
from efaas_qpu.authentication import SharedToken, token_from_file

from efaas.api.wire import qpu_pb2 as wire
from efaas.errors import InputError


def test_the_same_job_again_returns_the_kept_result_without_a_run(world):
    async def scenario():
        async with world.serve():
            client = await world.ready()
            job = world.submit()
            await client.send(job)
            first = await client.expect("result")
            await client.send(job, job)
            for _ in range(2):
                again = await client.expect("result")
                assert again.kept
                assert again.evaluations == first.evaluations
                assert (again.shots, again.qpu_s) == (first.shots, first.qpu_s)
            assert world.engine.executed == [job.submit.job_id]
            [session] = (await world.describe()).sessions
            assert (session.jobs_done, session.shots) == (1, 200)

    asyncio.run(scenario())


def test_a_job_submitted_while_it_runs_runs_once(world):
    async def scenario():
        async with world.serve():
            world.engine.gate = asyncio.Event()
            client = await world.ready()
            job = world.submit()
            await client.send(job, job, job)
            # Two answers to the repetitions: it has started.
            for _ in range(3):
                await client.expect("started")
            world.engine.gate.set()
            assert not (await client.expect("result")).kept
            await client.send(world.submit(1))
            assert (await client.expect("result")).job_id == world.submit(1).submit.job_id
            assert len(world.engine.executed) == 2

    asyncio.run(scenario())


def test_a_result_that_came_while_the_client_was_away_is_there_when_it_is_back(world):
    async def scenario():
        async with world.serve():
            world.engine.gate = asyncio.Event()
            client = await world.ready()
            job = world.submit()
            await client.send(job)
            await client.expect("started")
            await client.drop()
            while world.host.sessions["team/loop"].outlet is not None:
                await asyncio.sleep(0.001)
            assert (await world.describe()).sessions[0].state == "Running"
            world.engine.gate.set()
            while world.host.driver.jobs:
                await asyncio.sleep(0.001)
            assert (await world.describe()).sessions[0].state == "Closed"
            again = await world.ready()
            await again.send(job)
            assert (await again.expect("result")).kept
            assert len(world.engine.executed) == 1

    asyncio.run(scenario())


def test_a_client_that_is_back_in_time_gets_the_result_of_the_run_under_way(world):
    async def scenario():
        async with world.serve():
            world.engine.gate = asyncio.Event()
            client = await world.ready()
            await client.send(world.submit())
            await client.expect("started")
            await client.drop()
            again = await world.ready()
            await again.send(world.submit())
            await again.expect("started")
            world.engine.gate.set()
            assert not (await again.expect("result")).kept
            assert len(world.engine.executed) == 1

    asyncio.run(scenario())


def test_a_session_that_stays_away_loses_its_waiting_jobs(world):
    async def scenario():
        async with world.serve(limits=world.ServerLimits(absence_s=0.01)):
            world.engine.gate = asyncio.Event()
            client = await world.ready()
            await client.send(world.submit(0), world.submit(1))
            await client.expect("started")
            await client.drop()
            while world.host.sessions:
                await asyncio.sleep(0.001)
            world.engine.gate.set()
            while world.host.driver.jobs:
                await asyncio.sleep(0.001)
            assert world.engine.executed == [world.submit(0).submit.job_id]
            again = await world.ready()
            await again.send(world.submit(1))
            assert not (await again.expect("result")).kept

    asyncio.run(scenario())


def test_of_two_streams_of_one_session_the_newest_is_served(world):
    async def scenario():
        async with world.serve():
            old = await world.ready()
            new = await world.ready()
            error = await old.expect("error")
            assert error.code == wire.FENCED
            assert await old.read() is None
            await new.send(world.submit())
            await new.expect("result")

    asyncio.run(scenario())


def test_an_older_lease_epoch_is_refused_and_a_newer_one_takes_over(world):
    async def scenario():
        async with world.serve():
            owner = await world.ready(lease_epoch=3)
            late = await world.raw()
            await late.send(world.hello(lease_epoch=2))
            error = await late.expect("error")
            assert (error.code, error.place) == (wire.FENCED, "hello.lease_epoch")
            assert await late.read() is None
            await owner.send(world.submit())
            await owner.expect("result")
            heir = await world.ready(lease_epoch=4)
            assert (await owner.expect("error")).code == wire.FENCED
            await heir.send(world.submit())
            assert (await heir.expect("result")).kept

    asyncio.run(scenario())


def test_a_session_keeps_its_seed(world):
    async def scenario():
        async with world.serve():
            client = await world.greeted(session_seed=7)
            await client.drop()
            other = await world.raw()
            await other.send(world.hello(session_seed=8))
            assert (await other.expect("error")).place == "hello.session_seed"

    asyncio.run(scenario())


def test_only_the_token_opens_the_door(world):
    async def scenario():
        async with world.serve(authenticator=SharedToken("sesame")):
            for token in ("", "sesam", "sesame ", "sesamé"):
                client = await world.raw()
                await client.send(world.hello(token=token))
                assert (await client.expect("error")).code == wire.UNAUTHENTICATED
                assert await client.read() is None
            assert not world.host.sessions
            client = await world.ready(token="sesame")
            await client.send(world.submit())
            await client.expect("result")

    asyncio.run(scenario())


def test_a_wrong_token_cannot_fence_an_owner_off(world):
    async def scenario():
        async with world.serve(authenticator=SharedToken("sesame")):
            owner = await world.ready(token="sesame")
            thief = await world.raw()
            await thief.send(world.hello(token="guess", lease_epoch=99))
            assert (await thief.expect("error")).code == wire.UNAUTHENTICATED
            await owner.send(world.submit())
            await owner.expect("result")

    asyncio.run(scenario())


def test_a_token_file_is_for_its_owner_alone(tmp_path):
    path = tmp_path / "token"
    with pytest.raises(InputError, match="cannot be read"):
        token_from_file(path)
    path.write_text("sesame\n")
    path.chmod(0o640)
    with pytest.raises(InputError, match="mode 640"):
        token_from_file(path)
    path.chmod(0o600)
    assert asyncio.run(token_from_file(path).session("a/b", 0, "sesame")) == ""
    path.write_text(" \n")
    with pytest.raises(InputError, match="no token"):
        token_from_file(path)


def test_sessions_cannot_touch_each_others_jobs(world):
    async def scenario():
        async with world.serve():
            mine = await world.ready()
            job = world.submit()
            await mine.send(job)
            await mine.expect("result")
            other = await world.ready("team/other")
            # Neither an acknowledge nor a cancel reaches it, and its id is no key to its result.
            await other.send(world.acknowledge(job), world.cancel(job), job)
            assert (await other.expect("error")).place == "submit.job_id"
            await mine.send(job)
            assert (await mine.expect("result")).kept

    asyncio.run(scenario())


def test_close_ends_the_stream_and_keeps_results(world):
    async def scenario():
        async with world.serve():
            client = await world.ready()
            await client.send(world.submit())
            await client.expect("result")
            await client.send(world.close())
            assert await client.read() is None
            assert not world.host.sessions
            again = await world.ready()
            await again.send(world.submit())
            assert (await again.expect("result")).kept

    asyncio.run(scenario())


def test_a_draining_server_sends_everyone_away(world):
    async def scenario():
        async with world.serve():
            client = await world.ready()
            draining = asyncio.create_task(world.host.drain())
            error = await client.expect("error")
            assert (error.code, error.retry) == (wire.DRAINING, True)
            assert await client.read() is None
            await draining
            late = await world.raw()
            await late.send(world.hello())
            assert (await late.expect("error")).code == wire.DRAINING

    asyncio.run(scenario())


def test_a_drain_lets_the_running_job_end(world):
    async def scenario():
        async with world.serve(limits=world.ServerLimits(drain_s=5)):
            world.engine.gate = asyncio.Event()
            client = await world.ready()
            await client.send(world.submit())
            await client.expect("started")
            draining = asyncio.create_task(world.host.drain())
            await asyncio.sleep(0)
            world.engine.gate.set()
            await client.expect("result")
            assert (await client.expect("error")).code == wire.DRAINING
            await draining

    asyncio.run(scenario())
