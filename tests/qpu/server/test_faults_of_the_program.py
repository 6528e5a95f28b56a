"""Faults of the server's own program and of its disk: contained, told, and never promised over."""

from __future__ import annotations

import asyncio

import pytest
from efaas_qpu.entries import Entry

from efaas.api.wire import qpu_pb2 as wire


def test_a_job_that_the_machine_fails_on_ends_that_job_only(world, monkeypatch):
    async def scenario():
        async with world.serve():
            client = await world.ready()
            machine = world.host.driver._machine
            handle = machine.handle
            monkeypatch.setattr(machine, "handle", lambda event: 1 / 0)
            await client.send(world.submit())
            error = await client.expect("error")
            assert (error.code, error.job_id, error.retry) == (
                wire.INTERNAL,
                world.submit().submit.job_id,
                False,
            )
            monkeypatch.setattr(machine, "handle", handle)
            await client.send(world.submit())
            await client.expect("result")

    asyncio.run(scenario())


def test_without_its_log_the_server_promises_nothing(world, monkeypatch):
    async def scenario():
        async with world.serve():
            client = await world.ready()
            journal = world.host.ledger._journal

            def full(*args, **kwargs):
                raise OSError(28, "no space left on device")

            monkeypatch.setattr(journal, "append", full)
            await client.send(world.submit())
            # The job runs, but nobody is told of a result that a restart would not know.
            while world.host.ledger.fault is None:
                await asyncio.sleep(0.001)
            monkeypatch.undo()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.call.read(), 0.05)
            # Nor is anything after it: `efaas-qpu serve` ends on a fault.
            with pytest.raises(OSError, match="no space"):
                world.host.ledger.commit(Entry(0.0))
        async with world.serve():
            client = await world.ready()
            await client.send(world.submit())
            assert not (await client.expect("result")).kept
            assert (await world.describe()).sessions[0].shots == 200

    asyncio.run(scenario())
