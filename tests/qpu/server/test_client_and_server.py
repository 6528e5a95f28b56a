"""`QpuStream` against a server: what a caller sees when streams and servers come and go."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from efaas_qpu.authentication import SharedToken
from efaas_qpu.listening import listen

from efaas.client import QpuStream, SessionIdentity, submit_message
from efaas.core.identity import circuit_digest
from efaas.errors import CircuitError, InputError, JobFailed, QpuUnavailable, SessionEnded

PROGRAM = "2 qubits: a b"
TERMS = [("ZZ", 1.0)]


def job(evaluation: int, observable: str = "", **fields):
    handles = [observable] if observable else []
    return submit_message(
        "team/loop",
        circuit_digest(PROGRAM),
        [0.25, 0.5],
        100,
        evaluation=evaluation,
        observables=handles,
        **fields,
    )


def stream(world, session: str = "team/loop", patience_s: float = 5.0, **identity) -> QpuStream:
    return QpuStream(f"127.0.0.1:{world.port}", SessionIdentity(session, **identity), patience_s=patience_s)


def test_jobs_run_and_registrations_cost_nothing_the_second_time(world):
    async def scenario():
        async with world.serve(), stream(world) as qpu:
            assert (qpu.device.device, qpu.device.qubits, qpu.device.block_shots) == ("fake-5", 5, 256)
            info = await qpu.register_circuit(PROGRAM)
            assert info.parameters == ("a", "b")
            assert await qpu.register_circuit(PROGRAM) is info
            observable = await qpu.register_observable(TERMS)
            result = await qpu.submit(job(0, observable))
            assert result.values.tolist() == [[0.75]]
            assert result.device == "fake-5"
            assert result.timing.round_trip_s > result.timing.server_s > 0
            qpu.acknowledge(result.job_id)
            assert world.engine.prepared == [info.handle]

    asyncio.run(scenario())


def test_a_lost_connection_costs_time_only(world):
    async def scenario():
        async with world.serve(), stream(world) as qpu:
            await qpu.register_circuit(PROGRAM)
            observable = await qpu.register_observable(TERMS)
            world.engine.gate = asyncio.Event()
            waiting = [qpu.submit(job(number, observable)) for number in range(3)]
            await world.engine.entered.wait()
            # The server loses every connection, and comes back at the same address.
            await world.server.stop(grace=None)
            world.server, _, _ = await listen(world.host, f"127.0.0.1:{world.port}")
            world.engine.gate.set()
            results = [await waiter for waiter in waiting]
            assert [result.job_id for result in results] == [
                job(number, observable).job_id for number in range(3)
            ]
            assert len(world.engine.executed) == 3
            assert qpu.reconnects == 1

    asyncio.run(scenario())


def test_a_killed_server_that_comes_back_is_told_everything_again(world):
    async def scenario():
        async with contextlib.AsyncExitStack() as stack:
            async with world.serve():
                port = world.port
                qpu = await stack.enter_async_context(stream(world))
                await qpu.register_circuit(PROGRAM)
                observable = await qpu.register_observable(TERMS)
                first = await qpu.submit(job(0, observable))
                world.engine.gate = asyncio.Event()
                second = qpu.submit(job(1, observable))
                await world.engine.entered.wait()
            async with world.serve(port=port):
                assert (await second).values.tolist() == [[0.75]]
                again = await qpu.submit(job(0, observable))
                assert again.kept
                assert again.values.tolist() == first.values.tolist()
                assert world.engine.executed == [job(1, observable).job_id]
                await qpu.close()

    asyncio.run(scenario())


def test_refusals_are_the_errors_of_the_tree(world):
    async def scenario():
        async with world.serve(), stream(world) as qpu:
            with pytest.raises(CircuitError):
                await qpu.register_circuit("nonsense")
            with pytest.raises(InputError):
                await qpu.register_observable([("Q", 1.0)])
            with pytest.raises(InputError, match="register it first"):
                await qpu.submit(job(0))
            await qpu.register_circuit(PROGRAM)
            assert (await qpu.submit(job(0))).evaluations[0].counts_by_bitstring() == {"00": 99, "11": 1}

    asyncio.run(scenario())


def test_a_cancelled_job_fails_and_can_be_asked_for_again(world):
    async def scenario():
        async with world.serve(), stream(world) as qpu:
            await qpu.register_circuit(PROGRAM)
            world.engine.gate = asyncio.Event()
            running, waiting = qpu.submit(job(0)), qpu.submit(job(1))
            await world.engine.entered.wait()
            assert qpu.cancel(job(1).job_id)
            assert not qpu.cancel(job(1).job_id)
            with pytest.raises(JobFailed, match="cancel"):
                await waiting
            world.engine.gate.set()
            await running
            assert not qpu.cancel(job(0).job_id)
            await qpu.submit(job(1))

    asyncio.run(scenario())


def test_callers_hear_how_a_job_gets_on(world):
    async def scenario():
        async with world.serve(), stream(world) as qpu:
            await qpu.register_circuit(PROGRAM)
            world.engine.gate = asyncio.Event()
            heard = []
            first = qpu.submit(job(0), on_started=lambda: heard.append("started 0"))
            second = qpu.submit(job(1), on_queued=lambda *said: heard.append(f"queued behind {said[0]}"))
            while len(heard) < 2:
                await asyncio.sleep(0.005)
            world.engine.gate.set()
            await first
            await second
            assert set(heard[:2]) == {"started 0", "queued behind 1"}

    asyncio.run(scenario())


def test_the_wrong_token_and_an_old_lease_are_told_at_once(world):
    async def scenario():
        async with world.serve(authenticator=SharedToken("sesame")):
            with pytest.raises(InputError, match="token"):
                await stream(world, token="guess").connect()
            async with stream(world, token="sesame", lease_epoch=4):
                old = stream(world, token="sesame", lease_epoch=3)
                with pytest.raises(SessionEnded, match="lease epoch"):
                    await old.connect()

    asyncio.run(scenario())


def test_a_fenced_client_hears_of_it(world):
    async def scenario():
        async with world.serve():
            old = stream(world, lease_epoch=1)
            await old.connect()
            await old.register_circuit(PROGRAM)
            world.engine.gate = asyncio.Event()
            waiting = old.submit(job(0))
            await world.engine.entered.wait()
            async with stream(world, lease_epoch=2):
                with pytest.raises(SessionEnded):
                    await waiting
                with pytest.raises(SessionEnded):
                    old.submit(job(1))
            await old.close()

    asyncio.run(scenario())


def test_without_a_server_patience_ends(world):
    async def scenario():
        async with world.serve():
            pass
        qpu = stream(world, patience_s=0.2)
        with pytest.raises(QpuUnavailable, match="no connection for"):
            await qpu.connect()
        await qpu.close()

    asyncio.run(scenario())


def test_closing_tells_who_still_waits(world):
    async def scenario():
        async with world.serve():
            qpu = stream(world)
            await qpu.connect()
            await qpu.register_circuit(PROGRAM)
            world.engine.gate = asyncio.Event()
            waiting = qpu.submit(job(0))
            await world.engine.entered.wait()
            await qpu.close()
            with pytest.raises(SessionEnded):
                await waiting
            with pytest.raises(SessionEnded):
                await qpu.register_circuit(PROGRAM)
            await qpu.close()

    asyncio.run(scenario())
