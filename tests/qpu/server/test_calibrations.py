"""Calibrations through the stream's service: what is told to whom, what is kept, and who may ask."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from efaas_qpu.authentication import SharedToken
from efaas_qpu.configuration import Offer

from efaas.api.wire import qpu_pb2 as wire
from efaas.core.qpu.config import CalibrationConfig, QpuConfig
from efaas.devices import load_snapshot
from efaas.devices.drifting import DriftingDevice


def drifting(seed: int = 3) -> DriftingDevice:
    return DriftingDevice.modelled(load_snapshot("manila-5"), seed, full_calibration_s=100.0)


CONFIG = QpuConfig(
    slice_cost_s=0.0,
    calibration=CalibrationConfig(
        frozen=False,
        duration_s=100.0,
        interval_s=1e6,
        max_age_s=1e6,
        local_fixed_s=2.0,
        local_per_qubit_s=19.6,
    ),
)


async def calibrate(world):
    answer = await world.ask("Calibrate", wire.CalibrateRequest(), wire.CalibrateAnswer)
    while (await world.describe()).calibration_epoch <= answer.epoch:
        await asyncio.sleep(0.002)
    return answer.epoch + 1


async def result_of(client, job):
    await client.send(job)
    return await client.expect("result")


def test_a_full_calibration_gives_new_submits_new_plans_and_waiting_jobs_keep_theirs(world):
    async def scenario():
        async with world.serve(config=CONFIG, drifting=drifting()):
            client = await world.ready()
            handle = world.submit().submit.circuit
            assert (await result_of(client, world.submit(0))).calibration_epoch == 1
            world.engine.gate = asyncio.Event()
            await client.send(world.submit(1), world.submit(2))
            await client.expect("started")
            await world.ask("Calibrate", wire.CalibrateRequest(), wire.CalibrateAnswer)
            world.engine.gate.set()
            while world.engine.prepared[-1] != f"{handle}@2":
                await asyncio.sleep(0.002)
            while (await world.describe()).warm_circuits != [handle]:
                await asyncio.sleep(0.002)
            for _ in (1, 2):
                await client.expect("result")
            await result_of(client, world.submit(3))
            assert world.engine.plans == [handle, handle, handle, f"{handle}@2"]
            known = world.host.living.drifting.known
            assert [told[1] for told in world.engine.told if told[0] == "layout"] == [known]
            state = await world.describe()
            assert (state.prepared_ahead, state.cold_starts, state.warm_starts) == (1, 1, 4)

    asyncio.run(scenario())


def test_a_local_calibration_tells_what_it_found_and_keeps_the_layout(world):
    async def scenario():
        async with world.serve(config=CONFIG, drifting=drifting()):
            client = await world.ready(max_calibration_age_s=330.0)
            await result_of(client, world.submit(0, shots=80_000))
            await result_of(client, world.submit(1, shots=84_950))
            await asyncio.sleep(0.2)  # 329.9 s old now, and a little
            result = await result_of(client, world.submit(2))
            assert result.calibration_epoch == 2
            assert result.timing.calibration_s == pytest.approx(2.0 + 2 * 19.6)
            assert {kind for kind, _ in world.engine.told} == {"known", "true"}
            assert len(set(world.engine.plans)) == 1
            history = await world.ask("Calibrations", wire.CalibrationsRequest(), wire.CalibrationHistory)
            [past] = history.calibrations
            assert (past.id, past.scope, list(past.qubits), past.session) == (2, "local", [0, 1], "team/loop")
            assert past.busy_s == pytest.approx(41.2)
            assert 0 < past.one_qubit_error < past.two_qubit_error < past.readout_error < 0.2

    asyncio.run(scenario())


def test_a_restarted_server_is_the_same_device_true_and_known(world):
    async def scenario():
        device, again = drifting(), drifting()
        async with world.serve(config=CONFIG, drifting=device):
            client = await world.ready(max_calibration_age_s=330.0)
            await calibrate(world)
            await result_of(client, world.submit(0, shots=80_000))
            await result_of(client, world.submit(1, shots=90_000))
            await result_of(client, world.submit(2))
            assert [epoch.scope.value for epoch in world.host.ledger.state.epochs] == ["full", "local"]
            plan, before = world.host.living.plan("c"), await world.describe()
            layout = next(told[1] for told in world.engine.told if told[0] == "layout")
            world.host.driver.commit(everything=True)
        async with world.serve(config=CONFIG, drifting=again):
            assert world.host.living.plan("c") == plan == "c@2"
            assert again.known == device.known != load_snapshot("manila-5")
            moment = world.host.living.true_moment(world.host.driver.clock.now_s() + 7200)
            assert again.true_state(moment) == device.true_state(moment)
            client = await world.ready()
            assert world.engine.told[0] == ("layout", layout)
            assert world.engine.told[1] == ("known", device.known)
            after = await world.describe()
            assert after.calibration_epoch == before.calibration_epoch
            assert after.two_qubit_error == before.two_qubit_error
            history = await world.ask("Calibrations", wire.CalibrationsRequest(), wire.CalibrationHistory)
            assert [past.id for past in history.calibrations] == [2, 3]
            newest = await world.ask(
                "Calibrations", wire.CalibrationsRequest(limit=1), wire.CalibrationHistory
            )
            assert [past.id for past in newest.calibrations] == [3]

    asyncio.run(scenario())


def test_a_frozen_device_is_told_nothing_and_keeps_its_plans_through_calibrations(world):
    async def scenario():
        async with world.serve(config=QpuConfig(slice_cost_s=0.0)):
            client = await world.ready()
            await result_of(client, world.submit(0))
            assert await calibrate(world) == 2
            result = await result_of(client, world.submit(1))
            assert result.calibration_epoch == 2
            assert world.engine.told == []
            assert world.engine.plans == [world.submit().submit.circuit] * 2
            assert len(world.engine.prepared) == 1
            assert (await world.describe()).frozen

    asyncio.run(scenario())


def test_describe_says_all_that_placement_asks(world):
    async def scenario():
        offer = Offer(
            slots=3, labels={"zone": "a"}, max_age_s=5000.0, local_fixed_s=2.0, local_per_qubit_s=19.6
        )
        async with world.serve(config=CONFIG, drifting=drifting(), offer=offer):
            await world.ready()
            state = await world.describe()
            assert (state.slots, state.slots_used, dict(state.labels)) == (3, 1, {"zone": "a"})
            assert state.max_calibration_age_s == 5000.0
            assert state.local_calibration_s == pytest.approx(2.0 + 4 * 19.6)
            assert state.expected_wait_s == 0
            assert state.calibration_due_s == pytest.approx(1e6, rel=0.01)
            assert 0 < state.one_qubit_error < state.two_qubit_error < state.readout_error
            assert state.two_qubit_drift_per_s == pytest.approx(0.124**2 / 5 / 86400)
            assert state.warm_circuits == [world.submit().submit.circuit]
            assert state.warm_circuit_count == 1

    asyncio.run(scenario())


def test_only_who_has_the_token_calibrates_and_cordons(world):
    async def scenario():
        async with world.serve(authenticator=SharedToken("secret")):
            for method, request, answer in (
                ("Calibrations", wire.CalibrationsRequest(), wire.CalibrationHistory),
                ("Calibrate", wire.CalibrateRequest(), wire.CalibrateAnswer),
                ("Cordon", wire.CordonRequest(availability=wire.DRAINED), wire.CordonAnswer),
            ):
                for token in ("", "wrong"):
                    with pytest.raises(grpc.aio.AioRpcError) as refused:
                        await world.ask(method, request, answer, token)
                    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
                await world.ask(method, request, answer, "secret")
            assert world.host.availability == wire.DRAINED

    asyncio.run(scenario())


def test_a_cordoned_device_serves_who_is_there_and_a_drained_one_nobody(world):
    async def cordon(availability):
        request = wire.CordonRequest(availability=availability)
        return (await world.ask("Cordon", request, wire.CordonAnswer)).availability

    async def scenario():
        async with world.serve():
            old = await world.ready()
            await result_of(old, world.submit(0))
            assert await cordon(wire.CORDONED) == wire.CORDONED
            new = await world.ready("team/new", session_seed=1)
            await new.send(world.submit(session="team/new"))
            assert (await new.expect("error")).code == wire.DRAINING
            await result_of(old, world.submit(1))
            assert await cordon(wire.DRAINED) == wire.DRAINED
            assert (await world.describe()).condition == "Draining"
            await old.send(world.submit(2))
            error = await old.expect("error")
            assert (error.code, error.retry) == (wire.DRAINING, True)
            assert await cordon(wire.OPEN) == wire.OPEN
            await result_of(old, world.submit(2))
            with pytest.raises(grpc.aio.AioRpcError, match="7 is no Availability"):
                await cordon(7)

    asyncio.run(scenario())
