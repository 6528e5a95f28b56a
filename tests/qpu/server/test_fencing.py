"""Who keeps the device shuts runners out, ends sessions, and hears what they were charged."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from efaas_qpu.authentication import NotAdmitted, SharedToken

from efaas.api.wire import qpu_pb2 as wire


class Keeper:
    """Everyone may speak for a session, whose object is ``uid``; only ``keeper`` keeps the device."""

    tells_everyone = False

    def __init__(self, uid: str = "") -> None:
        self.uid = uid

    async def session(self, name: str, lease_epoch: int, token: str) -> str:
        return self.uid

    async def keeper(self, token: str) -> None:
        if token == "away":
            raise NotAdmitted("Kubernetes is away", retry=True)
        if token != "keeper":
            raise NotAdmitted("no")


async def fence(world, epoch: int, session: str = "team/loop", uid: str = "", token: str = "keeper") -> int:
    request = wire.FenceRequest(session=session, lease_epoch=epoch, uid=uid)
    return (await world.ask("Fence", request, wire.FenceAnswer, token)).least_epoch


async def end(world, session: str = "team/loop", token: str = "keeper") -> int:
    request = wire.CloseSessionRequest(session=session)
    return (await world.ask("CloseSession", request, wire.CloseSessionAnswer, token)).jobs


def charges(state: wire.DeviceState) -> dict[str, wire.SessionCharge]:
    return {charge.session: charge for charge in state.charges}


async def refused(world, **fields) -> wire.Error:
    client = await world.raw()
    await client.send(world.hello(**fields))
    error = await client.expect("error")
    assert await client.read() is None
    return error


def test_a_fenced_runner_is_put_out_and_stays_out_also_after_a_restart(world):
    async def scenario():
        async with world.serve():
            runner = await world.ready(lease_epoch=3)
            world.engine.gate = asyncio.Event()
            await runner.send(world.submit(0), world.submit(1))
            await runner.expect("started")
            assert await fence(world, 3) == 4
            assert (await runner.expect("error")).code == wire.FENCED
            assert await runner.read() is None
            assert (await refused(world, lease_epoch=3)).code == wire.FENCED
            heir = await world.ready(lease_epoch=4)
            world.engine.gate.set()
            await heir.send(world.submit(0), world.submit(1))
            for _ in range(2):
                await heir.expect("result")
            assert len(world.engine.executed) == 2, "its jobs were the next runner's"
            assert await fence(world, 4) == 5
        async with world.serve():
            assert (await refused(world, lease_epoch=4)).code == wire.FENCED
            assert await fence(world, 1) == 5, "an older fence changes nothing"
            await (await world.ready(lease_epoch=5)).drop()

    asyncio.run(scenario())


def test_a_session_that_never_came_can_be_fenced(world):
    async def scenario():
        async with world.serve():
            assert await fence(world, 7) == 8
        async with world.serve():
            assert (await refused(world, lease_epoch=7)).code == wire.FENCED
            await (await world.ready(lease_epoch=8, session_seed=11)).drop()

    asyncio.run(scenario())


def test_the_end_of_a_session_empties_the_queue_and_keeps_what_it_used(world):
    async def scenario():
        async with world.serve():
            world.engine.gate = asyncio.Event()
            runner = await world.ready()
            other = await world.ready("team/other")
            await runner.send(world.submit(0), world.submit(1))
            await runner.expect("started")
            await other.send(world.submit(0, session="team/other"))
            await other.expect("queued")
            assert await end(world) == 2
            while (error := await runner.expect("error")).job_id:
                assert error.code == wire.CANCELLED
            assert (error.code, error.message) == (wire.FENCED, "the session is over")
            assert await runner.read() is None
            world.engine.gate.set()
            await other.expect("result")
            state = await world.describe()
            assert (state.queue_depth, [told.session for told in state.sessions]) == (0, ["team/other"])
            # The job that held the device when it was cancelled is charged for that.
            charge = charges(state)["team/loop"]
            assert (charge.jobs_done, charge.qpu_s) == (0, 200 * world.SHOT_S)
            assert await end(world) == 0
            assert await end(world, "team/nobody") == 0

    asyncio.run(scenario())


def test_another_session_of_the_same_name_begins_anew(world):
    async def scenario():
        keeper = Keeper("first")
        async with world.serve(authenticator=keeper):
            first = await world.ready(lease_epoch=5)
            await first.send(world.submit())
            assert not (await first.expect("result")).kept
            keeper.uid = "second"
            second = await world.ready(lease_epoch=1, session_seed=99)
            assert (await first.expect("error")).code == wire.FENCED
            await second.send(world.submit())
            result = await second.expect("result")
            assert (result.kept, result.shots) == (False, 200), "it pays for its own shots"
        assert len(world.bookings) == 2
        async with world.serve(authenticator=keeper):
            request = wire.DescribeRequest()
            state = await world.ask("Describe", request, wire.DeviceState, "keeper")
            charge = charges(state)["team/loop"]
            assert (charge.uid, charge.lease_epoch, charge.shots) == ("second", 1, 200)
            assert await fence(world, 1, uid="third") == 2, "a fence may be the first to tell of a new one"
            assert (
                charges(await world.ask("Describe", request, wire.DeviceState, "keeper"))["team/loop"].shots
                == 0
            )

    asyncio.run(scenario())


def test_only_the_keeper_shuts_out_and_hears_of_sessions(world):
    async def scenario():
        async with world.serve(authenticator=Keeper()):
            client = await world.ready()
            await client.send(world.submit())
            await client.expect("result")
            for token, code in (
                ("", grpc.StatusCode.UNAUTHENTICATED),
                ("guess", grpc.StatusCode.UNAUTHENTICATED),
                ("away", grpc.StatusCode.UNAVAILABLE),
            ):
                for call in (fence(world, 9, token=token), end(world, token=token)):
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await call
                    assert caught.value.code() is code
            for token in ("", "guess"):
                state = await world.ask("Describe", wire.DescribeRequest(), wire.DeviceState, token)
                assert state.device == "fake-5"
                assert (len(state.sessions), len(state.charges), len(state.warm)) == (0, 0, 0)
                assert (state.slots_used, state.warm_circuit_count) == (1, 1)
            state = await world.ask("Describe", wire.DescribeRequest(), wire.DeviceState, "keeper")
            assert [told.session for told in state.sessions] == ["team/loop"]
            [warm] = state.warm
            assert (warm.handle, list(warm.sessions)) == (state.warm_circuits[0], ["team/loop"])
            assert warm.epoch == state.calibration_epoch == 1
            assert charges(state)["team/loop"].last_job_at_s > 1.7e9

    asyncio.run(scenario())


def test_what_cannot_be_is_refused_with_its_place(world):
    async def scenario():
        async with world.serve(authenticator=SharedToken("keeper")):
            for call, place in (
                (fence(world, 1, session="loop"), "session"),
                (fence(world, 2**64 - 1), "lease_epoch"),
                (fence(world, 1, uid="a b"), "uid"),
                (end(world, session="../x"), "session"),
            ):
                with pytest.raises(grpc.aio.AioRpcError, match=f"{place}: ") as caught:
                    await call
                assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    asyncio.run(scenario())


def test_charges_of_sessions_long_gone_are_told_to_who_asks(world):
    async def scenario():
        async with world.serve():
            for number in range(515):
                world.host.fence(f"team/s{number}", 1, "")
            told = charges(await world.describe())
            assert "team/s0" not in told
            assert "team/s514" in told
            request = wire.DescribeRequest(sessions=["team/s0", "team/nobody"])
            told = charges(await world.ask("Describe", request, wire.DeviceState))
            assert told["team/s0"].lease_epoch == 2
            assert "team/nobody" not in told

    asyncio.run(scenario())
