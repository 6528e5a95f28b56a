"""What a stream answers when things come in the wrong order, or are wrong themselves."""

from __future__ import annotations

import asyncio
import math

import pytest

from efaas.api.wire import qpu_pb2 as wire
from efaas.core.identity import circuit_digest


def test_a_loop_gets_its_results(world):
    async def scenario():
        async with world.serve():
            client = await world.greeted()
            await client.send(world.circuit(), world.observable())
            info = await client.expect("circuit")
            assert (list(info.parameters), info.qubits, list(info.layout)) == (["a", "b"], 2, [0, 1])
            assert (await client.expect("observable")).bases == 2
            for evaluation in range(3):
                job = world.submit(evaluation, parameters=(evaluation, 1.0))
                await client.send(job)
                result = await client.expect("result")
                assert result.job_id == job.submit.job_id
                assert [list(item.values) for item in result.evaluations] == [[evaluation + 1.0]]
                # Two bases of 100 shots each.
                assert (result.shots, result.qpu_s) == (200, pytest.approx(200 * world.SHOT_S))
                assert result.timing.server_s >= result.timing.wall_execution_s > 0
                assert not result.kept

    asyncio.run(scenario())


def test_outcomes_come_counted_or_shot_by_shot(world):
    async def scenario():
        async with world.serve():
            client = await world.ready()
            await client.send(world.submit(0, observables=()))
            counted = (await client.expect("result")).evaluations[0].outcomes
            assert (counted.bits, counted.outcomes, list(counted.counts)) == (2, b"\x00\x03", [99, 1])
            await client.send(world.submit(1, observables=(), per_shot=True))
            single = (await client.expect("result")).evaluations[0].outcomes
            assert (single.bits, len(single.outcomes), list(single.counts)) == (2, 100, [])

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("first", "place"),
    [
        ("circuit", "hello"),
        ("submit", "hello"),
        ("empty", "hello"),
        ("protocol", "hello.protocol"),
        ("session", "hello.session"),
        ("tenant", "hello.tenant"),
        ("age", "hello.max_calibration_age_s"),
    ],
)
def test_a_stream_begins_with_a_good_hello(world, first, place):
    message = {
        "circuit": world.circuit(),
        "submit": world.submit(),
        "empty": wire.ClientMessage(),
        "protocol": world.hello(protocol=2),
        "session": world.hello("no-namespace"),
        "tenant": world.hello(tenant="other"),
        "age": world.hello(max_calibration_age_s=math.nan),
    }[first]

    async def scenario():
        async with world.serve():
            client = await world.raw()
            await client.send(message)
            error = await client.expect("error")
            assert (error.code, error.place) == (wire.BAD_MESSAGE, place)
            assert await client.read() is None
            assert await world.is_healthy()

    asyncio.run(scenario())


def test_a_second_hello_ends_the_stream(world):
    async def scenario():
        async with world.serve():
            client = await world.greeted()
            await client.send(world.hello())
            assert (await client.expect("error")).code == wire.BAD_MESSAGE
            assert await client.read() is None

    asyncio.run(scenario())


def test_wrong_digests_are_refused_and_the_stream_goes_on(world):
    async def scenario():
        async with world.serve():
            client = await world.ready()
            wrong = "0" * 32
            await client.send(world.circuit(handle=wrong), world.observable(handle=wrong))
            error = await client.expect("error")
            assert (error.code, error.place, error.handle) == (wire.BAD_CIRCUIT, "circuit.handle", wrong)
            error = await client.expect("error")
            assert (error.code, error.place) == (wire.BAD_OBSERVABLE, "observable.handle")
            job = world.submit()
            job.submit.shots += 1
            await client.send(job)
            error = await client.expect("error")
            assert (error.code, error.place) == (wire.BAD_PARAMETERS, "submit.job_id")
            await client.send(world.submit())
            await client.expect("result")
            assert len(world.engine.executed) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("fields", "code", "place"),
    [
        ({"shots": 0}, wire.BAD_PARAMETERS, "submit.shots"),
        ({"shots": 10**9}, wire.BAD_PARAMETERS, "submit.shots"),
        ({"parameters": (1.0, math.nan)}, wire.BAD_PARAMETERS, "submit.parameters[1]"),
        ({"parameters": (1.0,)}, wire.BAD_PARAMETERS, "submit.parameters"),
        ({"parameters": (1.0, 2.0, 3.0), "parameter_sets": 2}, wire.BAD_PARAMETERS, "submit.parameters"),
        ({"parameter_sets": 0}, wire.BAD_PARAMETERS, "submit.parameter_sets"),
        ({"cpu_s": -1.0}, wire.BAD_PARAMETERS, "submit.cpu_s"),
        ({"program": "never registered"}, wire.UNKNOWN_HANDLE, "submit.circuit"),
        ({"observables": [[("YY", 1.0)]]}, wire.UNKNOWN_HANDLE, "submit.observables[0]"),
        ({"per_shot": True}, wire.BAD_PARAMETERS, "submit.per_shot"),
        ({"sets": 4000, "parameters": (0.0,) * 8000, "shots": 10**6}, wire.LIMIT_REACHED, "submit.shots"),
    ],
)
def test_a_bad_job_is_refused_with_its_place(world, fields, code, place):
    async def scenario():
        async with world.serve():
            client = await world.ready()
            job = world.submit(**fields)
            await client.send(job)
            error = await client.expect("error")
            assert (error.code, error.place, error.job_id) == (code, place, job.submit.job_id)
            await client.send(world.submit())
            await client.expect("result")

    asyncio.run(scenario())


def test_an_observable_must_fit_the_circuit(world):
    async def scenario():
        async with world.serve():
            client = await world.ready()
            await client.send(world.observable(("ZZZ", 1.0)))
            await client.expect("observable")
            await client.send(world.submit(observables=[[("ZZZ", 1.0)]]))
            error = await client.expect("error")
            assert (error.code, error.place) == (wire.BAD_OBSERVABLE, "submit.observables[0]")

    asyncio.run(scenario())


def test_a_circuit_that_the_engine_refuses_is_an_answer(world):
    async def scenario():
        async with world.serve():
            client = await world.greeted()
            await client.send(world.circuit("nonsense"))
            error = await client.expect("error")
            assert (error.code, error.handle) == (wire.BAD_CIRCUIT, circuit_digest("nonsense"))
            await client.send(world.circuit())
            await client.expect("circuit")

    asyncio.run(scenario())


def test_a_message_that_is_too_long_ends_its_stream_only(world):
    async def scenario():
        async with world.serve(limits=world.ServerLimits(message_bytes=10_000)):
            client = await world.greeted()
            await client.send_bytes(b"x" * 20_000)
            assert await client.read() is None
            assert await world.is_healthy()

    asyncio.run(scenario())


def test_a_stream_that_says_nothing_is_ended(world):
    async def scenario():
        async with world.serve(limits=world.ServerLimits(hello_s=0.05)):
            client = await world.raw()
            assert (await client.expect("error")).place == "hello"
            assert await client.read() is None

    asyncio.run(scenario())


def test_unfinished_jobs_of_a_session_are_bounded(world):
    async def scenario():
        async with world.serve(limits=world.ServerLimits(unfinished_jobs=2)):
            world.engine.gate = asyncio.Event()
            client = await world.ready()
            await client.send(*(world.submit(number) for number in range(3)))
            error = await client.expect("error")
            assert (error.code, error.retry) == (wire.LIMIT_REACHED, True)
            world.engine.gate.set()
            await client.expect("result")
            await client.expect("result")
            await client.send(world.submit(2))
            await client.expect("result")

    asyncio.run(scenario())
