"""A device with a time scale: holds, slices, running estimates, lateness, calibrations."""

from __future__ import annotations

import asyncio

import pytest

from efaas.api.wire import qpu_pb2 as wire
from efaas.core.qpu.config import CalibrationConfig, QpuConfig

SCALE = 0.01
"""One device second is 10 ms; a shot of the fake engine is 1 ms, so 1000 shots take 10 ms of wall time."""


def sliced(**settings) -> QpuConfig:
    return QpuConfig(slice_cost_s=0.0, slice_s=0.256, slice_loops=True, **settings)


def test_a_job_holds_the_device_for_its_device_time(world):
    async def scenario():
        async with world.serve(time_scale=SCALE, config=QpuConfig(slice_cost_s=0.0)):
            client = await world.ready()
            await client.send(world.submit(shots=1000))
            result = await client.expect("result")
            # Two bases of 1000 shots: 2 device seconds, 20 ms.
            assert result.timing.wall_execution_s >= 2.0 * SCALE
            assert result.timing.execution_s >= 2.0
            assert not result.timing.late
            assert result.qpu_s == pytest.approx(result.timing.execution_s)
            assert (await world.describe()).busy_s == pytest.approx(result.timing.execution_s)

    asyncio.run(scenario())


def test_slices_bring_running_estimates_of_whole_rows(world):
    async def scenario():
        async with world.serve(time_scale=SCALE, config=sliced()):
            client = await world.ready()
            await client.send(world.submit(shots=1024, kind=wire.BATCH))
            partials = []
            while True:
                message = await client.read()
                if message.HasField("partial"):
                    partials.append(message.partial)
                if message.HasField("result"):
                    break
            # A slice is one cell of 256 shots; a row of the two bases is two of them.
            assert [partial.shots for partial in partials] == [256, 256, 512, 512, 768, 768]
            assert all(list(partial.evaluations[0].values) == [0.75] for partial in partials)
            assert message.result.timing.slices == 8
            assert len(world.engine.executed) == 1

    asyncio.run(scenario())


def test_a_slow_simulation_stretches_the_hold_and_is_flagged(world):
    async def scenario():
        async with world.serve(time_scale=SCALE):
            world.engine.gate = asyncio.Event()
            client = await world.ready()
            await client.send(world.submit(shots=10))
            await client.expect("started")
            world.engine.gate.set()
            result = await client.expect("result")
            assert result.timing.late
            # 20 ms and more of wall time is 2 device seconds and more, where 0.02 were expected.
            assert result.timing.execution_s >= 1.9

    asyncio.run(scenario())


def test_a_running_job_is_cut_short_by_a_cancel(world):
    async def scenario():
        async with world.serve(time_scale=1.0, config=QpuConfig(slice_s=None, slice_cost_s=0.0)):
            client = await world.ready()
            job = world.submit(shots=30_000)
            await client.send(job)
            await client.expect("started")
            await client.send(world.cancel(job), world.submit(1, shots=1))
            assert (await client.expect("error")).code == wire.CANCELLED
            # 60 s were planned; the next job has the device at once.
            await client.expect("result")

    asyncio.run(scenario())


def test_a_calibration_that_is_due_comes_first_and_is_remembered(world):
    config = QpuConfig(
        slice_cost_s=0.0,
        calibration=CalibrationConfig(frozen=True, duration_s=1.0, local_fixed_s=0.5, local_per_qubit_s=0.1),
    )

    async def scenario():
        async with world.serve(time_scale=SCALE, config=config):
            client = await world.ready(max_calibration_age_s=1.5)
            while (await world.describe()).calibration_age_s < 2.0:
                await asyncio.sleep(0.005)
            await client.send(world.submit())
            result = await client.expect("result")
            assert result.calibration_epoch >= 1
            assert result.calibration_age_s <= 1.5
            assert result.timing.calibration_s > 0
            assert result.timing.wall_calibration_s > 0
            assert result.timing.wall_queue_s >= result.timing.wall_calibration_s
            before = await world.describe()
            assert before.calibrating_s > 0
        async with world.serve(time_scale=SCALE, config=config):
            after = await world.describe()
            assert after.calibration_epoch == before.calibration_epoch
            assert after.calibrating_s == pytest.approx(before.calibrating_s)
            assert after.clock_s > 2.0

    asyncio.run(scenario())


def test_the_clock_goes_on_where_it_stopped(world):
    async def scenario():
        async with world.serve():
            client = await world.ready()
            for number in range(3):
                await client.send(world.submit(number, shots=100_000))
                await client.expect("result")
            before = (await world.describe()).clock_s
            assert before >= 600.0
        async with world.serve():
            assert (await world.describe()).clock_s >= 600.0

    asyncio.run(scenario())
