"""Speculative jobs over a real port: free of charge when wrong, charged once when right."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from efaas.client.exchange import SessionIdentity, submit_message
from efaas.client.stream import QpuStream
from efaas.core.qpu.messages import JobKind
from efaas.errors import JobFailed

PROGRAM = "2 qubits: a b"
TERMS = [("ZZ", 1.0), ("XI", 0.5)]


class Guesser:
    """A client that submits the same evaluation as a guess and for real."""

    def __init__(self, stream: QpuStream, circuit: str, observable: str) -> None:
        self.stream, self.circuit, self.observable = stream, circuit, observable

    def submit(self, kind: JobKind, evaluation: int = 1, point: float = 0.5):
        message = submit_message(
            "team/loop",
            self.circuit,
            np.array([point, 0.25]),
            100,
            evaluation=evaluation,
            observables=[self.observable],
            kind=kind,
        )
        return self.stream.submit(message)


async def guesser(world) -> Guesser:
    stream = QpuStream(f"127.0.0.1:{world.port}", SessionIdentity("team/loop", seed=7), patience_s=5.0)
    await stream.connect()
    circuit = await stream.register_circuit(PROGRAM)
    return Guesser(stream, circuit.handle, await stream.register_observable(TERMS))


def charged_shots(world) -> int:
    return sum(booking.shots for booking in world.bookings if booking.session == "team/loop")


def test_a_wrong_guess_that_is_complete_costs_nothing(world, runner):
    async def story():
        async with world.serve():
            client = await guesser(world)
            guess = client.submit(JobKind.SPECULATIVE)
            result = await asyncio.wait_for(guess, 5.0)
            assert (result.shots, result.qpu_s) == (0, 0.0)
            assert client.stream.cancel(guess.id)
            await asyncio.wait_for(client.submit(JobKind.LOOP, 2, 0.75), 5.0)
            assert guess.id not in world.host.driver.jobs
            assert charged_shots(world) == 200
            await client.stream.close()

    runner.run(story())


def test_a_wrong_guess_that_runs_is_dropped_and_costs_nothing(world, runner):
    async def story():
        async with world.serve():
            client = await guesser(world)
            world.engine.gate = asyncio.Event()
            guess = client.submit(JobKind.SPECULATIVE)
            await asyncio.wait_for(world.engine.entered.wait(), 5.0)
            client.stream.cancel(guess.id)
            real = client.submit(JobKind.LOOP, 1, 0.75)
            async with asyncio.timeout(5.0):
                while not world.host.driver.jobs[guess.id].cancelled:
                    await asyncio.sleep(0.002)
            world.engine.gate.set()
            with pytest.raises(JobFailed):
                await asyncio.wait_for(guess, 5.0)
            await asyncio.wait_for(real, 5.0)
            assert charged_shots(world) == 200
            await client.stream.close()

    runner.run(story())


@pytest.mark.parametrize("when", ["running", "complete"])
def test_a_right_guess_is_claimed_under_its_id_and_charged_once(world, runner, when):
    async def story():
        async with world.serve():
            client = await guesser(world)
            if when == "running":
                world.engine.gate = asyncio.Event()
            guess = client.submit(JobKind.SPECULATIVE)
            if when == "running":
                await asyncio.wait_for(world.engine.entered.wait(), 5.0)
            else:
                await asyncio.wait_for(guess, 5.0)
            real = client.submit(JobKind.LOOP)
            assert real.id == guess.id
            if when == "running":
                world.engine.gate.set()
                with pytest.raises(JobFailed, match="claimed"):
                    await asyncio.wait_for(guess, 5.0)
            result = await asyncio.wait_for(real, 5.0)
            assert result.shots == 200
            assert charged_shots(world) == 200
            assert world.engine.executed == [real.id]
            await client.stream.close()

    runner.run(story())


def test_a_claim_that_crosses_the_result_of_the_guess_waits_for_the_charged_one(world, runner):
    async def story():
        async with world.serve():
            client = await guesser(world)
            for evaluation in range(20):
                client.submit(JobKind.SPECULATIVE, evaluation)
                for _ in range(evaluation):
                    await asyncio.sleep(0)
                result = await asyncio.wait_for(client.submit(JobKind.LOOP, evaluation), 5.0)
                assert result.shots == 200
            assert charged_shots(world) == 20 * 200
            await client.stream.close()

    runner.run(story())


def test_a_guess_that_was_taken_back_can_be_wanted_after_all(world, runner):
    async def story():
        async with world.serve():
            client = await guesser(world)
            for evaluation in range(10):
                guess = client.submit(JobKind.SPECULATIVE, evaluation)
                for _ in range(evaluation):
                    await asyncio.sleep(0)
                client.stream.cancel(guess.id)
                result = await asyncio.wait_for(client.submit(JobKind.LOOP, evaluation), 5.0)
                assert result.shots == 200
            assert charged_shots(world) == 10 * 200
            await client.stream.close()

    runner.run(story())
