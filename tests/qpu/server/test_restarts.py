"""A server that was killed goes on from its log."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from efaas_qpu import device_server
from efaas_qpu.limits import ServerLimits
from efaas_qpu.serve import Options

from efaas.api.device import QPUDevice
from efaas.api.wire import qpu_pb2 as wire
from efaas.errors import InputError
from efaas.journal import DirectoryJournal
from efaas.journal.remote import GatewayUnavailable


def test_completed_jobs_are_returned_again_and_not_charged_again(world):
    async def scenario():
        jobs = [world.submit(number) for number in range(5)]
        async with world.serve():
            client = await world.ready()
            await client.send(*jobs)
            before = [await client.expect("result") for _ in jobs]
            clock_s = (await world.describe()).clock_s
        async with world.serve():
            client = await world.ready()
            await client.send(*jobs)
            after = [await client.expect("result") for _ in jobs]
            assert world.engine.executed == []
            assert all(result.kept for result in after)
            assert [result.evaluations for result in after] == [result.evaluations for result in before]
            state = await world.describe()
            assert (state.sessions[0].jobs_done, state.sessions[0].shots) == (5, 1000)
            assert state.sessions[0].qpu_s == pytest.approx(1000 * world.SHOT_S)
            assert state.busy_s == pytest.approx(1000 * world.SHOT_S)
            assert state.clock_s >= clock_s - 1.0

    asyncio.run(scenario())


def test_a_job_that_was_running_runs_again_and_is_charged_once(world):
    async def scenario():
        async with world.serve():
            world.engine.gate = asyncio.Event()
            client = await world.ready()
            await client.send(world.submit())
            await client.expect("started")
        async with world.serve():
            client = await world.ready()
            await client.send(world.submit())
            assert not (await client.expect("result")).kept
            assert (await world.describe()).sessions[0].shots == 200

    asyncio.run(scenario())


def test_acknowledged_results_are_not_kept(world):
    async def scenario():
        async with world.serve():
            client = await world.ready()
            await client.send(world.submit())
            await client.expect("result")
            await client.send(world.acknowledge(world.submit()), world.submit(1))
            await client.expect("result")
            assert list(world.host.ledger.state.kept) == [world.submit(1).submit.job_id]
        async with world.serve():
            assert list(world.host.ledger.state.kept) == [world.submit(1).submit.job_id]
            # Said again all the same, it runs again and is not charged again.
            client = await world.ready()
            await client.send(world.submit())
            assert not (await client.expect("result")).kept
            assert (await world.describe()).sessions[0].shots == 400

    asyncio.run(scenario())


def test_lease_epochs_are_remembered(world):
    async def scenario():
        async with world.serve():
            await world.greeted(lease_epoch=5)
        async with world.serve():
            client = await world.raw()
            await client.send(world.hello(lease_epoch=4))
            assert (await client.expect("error")).code == wire.FENCED
            await world.greeted(lease_epoch=5)

    asyncio.run(scenario())


def test_a_torn_last_record_is_one_event_less(world):
    async def scenario():
        async with world.serve():
            client = await world.ready()
            await client.send(world.submit(0))
            await client.expect("result")
            await client.send(world.submit(1))
            await client.expect("result")
        [path] = (world.data / "log").glob("*.jsonl")
        path.write_bytes(path.read_bytes()[:-10])
        async with world.serve():
            client = await world.ready()
            await client.send(world.submit(0), world.submit(1))
            assert (await client.expect("result")).kept
            assert not (await client.expect("result")).kept
            assert (await world.describe()).sessions[0].shots == 400

    asyncio.run(scenario())


def test_a_log_with_a_damaged_middle_is_for_a_person(world):
    async def scenario():
        async with world.serve():
            client = await world.ready()
            for number in range(3):
                await client.send(world.submit(number))
                await client.expect("result")
        [path] = (world.data / "log").glob("*.jsonl")
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
        with pytest.raises(InputError, match="damaged"):
            async with world.serve():
                pass

    asyncio.run(scenario())


def test_the_log_stays_bounded(world):
    async def scenario():
        limits = world.ServerLimits(log_bytes=20_000)
        async with world.serve(limits=limits):
            client = await world.ready()
            for number in range(120):
                await client.send(world.submit(number))
                result = await client.expect("result")
                await client.send(wire.ClientMessage(acknowledge=wire.Acknowledge(job_id=result.job_id)))
            assert world.host.ledger.compactions >= 2
            [path] = (world.data / "log").glob("*.jsonl")
            assert path.stat().st_size < 3 * limits.log_bytes
        async with world.serve(limits=limits):
            await world.ready()
            assert (await world.describe()).sessions[0].jobs_done == 120

    asyncio.run(scenario())


def test_a_server_waits_for_the_gateway_that_keeps_its_log_and_reads_all_of_it_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    log = DirectoryJournal(tmp_path / "log")
    log.append({"clock_s": 5.0, "sessions": {"team/loop": [7, 4, "uid"]}})
    log.close()
    away = [GatewayUnavailable("it is away"), GatewayUnavailable("it is away")]
    opened: list[DirectoryJournal] = []

    def open_when_it_is_back(folder: Path, kind: str, name: str, lease_epoch: int | None) -> DirectoryJournal:
        assert (kind, name, lease_epoch) == ("device", "manila", None)
        if away:
            raise away.pop()
        opened.append(DirectoryJournal(folder))
        return opened[-1]

    monkeypatch.setattr(device_server, "open_journal", open_when_it_is_back)
    monkeypatch.setattr(device_server, "_GATEWAY_AGAIN_S", 0.001)
    device = QPUDevice.model_validate(
        {"metadata": {"name": "manila"}, "spec": {"model": {"snapshot": "manila-5"}}}
    )
    options = Options(tmp_path / "device.yaml", tmp_path)
    ledger = asyncio.run(device_server._read_log(options, device, ServerLimits()))
    try:
        assert not away
        assert ledger.state.sessions["team/loop"].lease_epoch == 4
    finally:
        ledger.close()
