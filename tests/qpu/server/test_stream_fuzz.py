"""No input ends the server: whatever a stream says, a healthy session works afterwards."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import grpc.aio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efaas.api.wire import qpu_pb2 as wire

numbers = st.one_of(st.sampled_from([0.0, -0.0, 1.0, -1.0]), st.floats(width=64))
digests = st.one_of(st.sampled_from(["0" * 32, "f" * 32]), st.text(max_size=40))
job_ids = st.one_of(digests.map(lambda text: f"0-{text}"), st.text(max_size=40))
uint64 = st.integers(0, 2**64 - 1)
uint32 = st.integers(0, 2**32 - 1)

messages = st.one_of(
    st.builds(
        lambda **fields: wire.ClientMessage(hello=wire.Hello(**fields)),
        protocol=st.one_of(st.just(1), uint32),
        session=st.one_of(st.sampled_from(["team/loop", "team/other"]), st.text(max_size=80)),
        tenant=st.one_of(st.just("team"), st.text(max_size=20)),
        lease_epoch=uint64,
        token=st.text(max_size=20),
        session_seed=uint64,
        weight=uint32,
        max_calibration_age_s=numbers,
    ),
    st.builds(
        lambda handle, program: wire.ClientMessage(
            circuit=wire.RegisterCircuit(handle=handle, openqasm3=program)
        ),
        digests,
        st.text(max_size=200),
    ),
    st.builds(
        lambda handle, program: wire.ClientMessage(circuit=wire.RegisterCircuit(handle=handle, qpy=program)),
        digests,
        st.binary(max_size=200),
    ),
    st.builds(
        lambda handle, terms: wire.ClientMessage(
            observable=wire.RegisterObservable(
                handle=handle,
                terms=[wire.PauliTerm(pauli=pauli, coefficient=value) for pauli, value in terms],
            )
        ),
        digests,
        st.lists(st.tuples(st.text("IXYZxq", max_size=6), numbers), max_size=4),
    ),
    st.builds(
        lambda **fields: wire.ClientMessage(submit=wire.Submit(**fields)),
        job_id=job_ids,
        evaluation=uint64,
        kind=st.integers(-5, 5),
        circuit=digests,
        observables=st.lists(digests, max_size=3),
        parameter_sets=uint32,
        parameters=st.lists(numbers, max_size=6),
        shots=uint64,
        readout_mitigation=st.booleans(),
        per_shot=st.booleans(),
        cpu_s=numbers,
    ),
    st.builds(lambda name: wire.ClientMessage(cancel=wire.Cancel(job_id=name)), job_ids),
    st.builds(lambda name: wire.ClientMessage(acknowledge=wire.Acknowledge(job_id=name)), job_ids),
    st.just(wire.ClientMessage(close=wire.Close())),
    st.just(wire.ClientMessage()),
)

raw = st.one_of(messages.map(lambda message: message.SerializeToString()), st.binary(max_size=300))


async def _say(world, greeted: bool, sequence: list[bytes]) -> None:
    """Say it all, then listen until the stream ends or has nothing more to say."""
    client = await (world.ready("team/fuzz") if greeted else world.raw())
    try:
        for data in sequence:
            await client.send_bytes(data)
        await client.call.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        pass  # the server has ended the stream already
    while await client.read() is not None:
        pass
    await client.drop()


@settings(max_examples=40)
@given(streams=st.lists(st.tuples(st.booleans(), st.lists(raw, max_size=6)), min_size=1, max_size=4))
def test_anything_may_be_said(make_world, runner, streams):
    async def scenario(folder: str):
        world = make_world(Path(folder))
        async with world.serve():
            for greeted, sequence in streams:
                await _say(world, greeted, sequence)
            assert await world.is_healthy()
        async with world.serve():
            assert await world.is_healthy()

    with tempfile.TemporaryDirectory() as folder:
        runner.run(scenario(folder))


actions = st.lists(
    st.sampled_from(
        ["submit", "batch", "guess", "cancel", "acknowledge", "drop", "takeover", "release", "fail", "close"]
    ),
    max_size=12,
)


@settings(max_examples=40)
@given(sequence=st.lists(st.tuples(actions, st.integers(0, 3)), min_size=1, max_size=3))
def test_jobs_in_every_order_are_charged_once(make_world, runner, sequence):
    """Whatever happens to streams and jobs, each job's completion is charged, and once."""

    async def act(world, client, action: str, job, number: int):
        match action:
            case "submit":
                await client.send(job)
            case "batch":
                await client.send(world.submit(number, kind=wire.BATCH))
            case "guess":
                await client.send(world.submit(number, kind=wire.SPECULATIVE))
            case "cancel":
                await client.send(world.cancel(job))
            case "acknowledge":
                await client.send(world.acknowledge(job))
            case "drop":
                await client.drop()
                return await world.ready()
            case "takeover":
                return await world.ready()
            case "close":
                await client.send(world.close())
                while await client.read() is not None:
                    pass
                return await world.ready()
            case "release":
                world.engine.gate.set()
            case "fail":
                world.engine.failures.append(world.WorkerFailed("killed", how="died"))
        return client

    async def scenario(folder: str):
        world = make_world(Path(folder))
        async with world.serve():
            world.engine.gate = asyncio.Event()
            client = await world.ready()
            for chunk, number in sequence:
                for action in chunk:
                    client = await act(world, client, action, world.submit(number), number)
            world.engine.gate.set()
            world.engine.failures.clear()
            client = await world.ready()
            jobs = [world.submit(number) for number in range(4)]
            await client.send(*jobs)
            got = set()
            while len(got) < len(jobs):
                message = await client.read()
                assert message is not None
                kind = message.WhichOneof("message")
                if kind == "result":
                    got.add(message.result.job_id)
                elif kind == "error":
                    # Cancelled or failed before; said again it must run.
                    again = [job for job in jobs if job.submit.job_id == message.error.job_id]
                    await client.send(*again)
            iterations = {f"{job.submit.job_id}/iteration": 200 for job in jobs}
            booked = {charge.key: charge.shots for charge in world.bookings}
            assert len(booked) == len(world.bookings), "a charge was booked twice"
            # What else was booked is for runs that were cancelled half-way.
            assert {key: booked[key] for key in iterations} == iterations
            [before] = (await world.describe()).sessions
            assert before.shots == sum(charge.shots for charge in world.bookings if charge.session)
            assert not [live for live in world.host.driver.jobs.values() if live.unclaimed is None]
        async with world.serve():
            client = await world.ready()
            await client.send(*jobs)
            for _ in jobs:
                await client.expect("result")
            [after] = (await world.describe()).sessions
            assert (after.shots, after.qpu_s) == (before.shots, before.qpu_s)

    with tempfile.TemporaryDirectory() as folder:
        runner.run(scenario(folder))


@pytest.mark.parametrize("data", [b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f", b"\x00", b"\x22\x02\x08\x01"])
def test_bytes_that_are_no_message_get_an_answer(world, data):
    async def scenario():
        async with world.serve():
            client = await world.greeted()
            await client.send_bytes(data)
            assert (await client.expect("error")).code == wire.BAD_MESSAGE
            assert await client.read() is None
            assert await world.is_healthy()

    asyncio.run(scenario())
