"""Asks the QPU servers, gently, how they are: for the live table and for the report.

One `Describe` a second to each server that listens. A server that does not answer keeps its last known
values; whether it lives is the supervisor's business.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from efaas.local.folder import RunFolder
from efaas.local.progress import DeviceRecord, RunRecord, State

INTERVAL_S = 1.0
"""Between two questions to one server."""

_ANSWER_S = 2.0


class Monitor:
    """Polls the servers of a run into its records.

    Args:
        folder: where the servers' tokens are.
        record: the run; devices and sessions in it are brought up to date.
    """

    def __init__(self, folder: RunFolder, record: RunRecord) -> None:
        self._folder = folder
        self._record = record
        self._channels: dict[str, tuple[str, Any]] = {}

    async def run(self, interval_s: float = INTERVAL_S) -> None:
        """Ask again and again until cancelled."""
        try:
            while True:
                await self.ask()
                await asyncio.sleep(interval_s)
        finally:
            await self.close()

    async def ask(self) -> None:
        """Ask every server once, all at the same time."""
        await asyncio.gather(
            *(self._ask(device) for device in self._record.devices.values() if device.endpoint)
        )

    async def close(self) -> None:
        """Close all channels."""
        channels, self._channels = self._channels, {}
        for _, channel in channels.values():
            await channel.close()

    async def _ask(self, device: DeviceRecord) -> None:
        # Children are forked while gRPC's threads run; its fork handlers would only complain about that.
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
        import grpc
        import grpc.aio

        from efaas.api.wire import qpu_pb2, qpu_pb2_grpc

        endpoint, channel = self._channels.get(device.name, ("", None))
        if endpoint != device.endpoint:
            if channel is not None:
                await channel.close()
            channel = grpc.aio.insecure_channel(device.endpoint)
            self._channels[device.name] = (device.endpoint, channel)
        try:
            stub = qpu_pb2_grpc.QpuStub(channel)  # type: ignore[no-untyped-call]
            state = await stub.Describe(qpu_pb2.DescribeRequest(), timeout=_ANSWER_S)
        except grpc.RpcError:
            return
        if device.endpoint:  # it may have ended since
            take_description(self._record, device, state)


def take_description(record: RunRecord, device: DeviceRecord, state: Any) -> None:
    """Bring a device's record, and those of its sessions, up to a `DeviceState` of its server."""
    if not device.failed and device.condition != "Restarting":
        device.condition = state.condition or device.condition
    device.calibration_epoch = state.calibration_epoch
    device.calibration_age_s = state.calibration_age_s
    device.clock_s = state.clock_s
    device.queue_depth = state.queue_depth
    device.known_error = state.two_qubit_error
    device.true_error = state.true_two_qubit_error
    device.busy_s = state.busy_s
    device.calibrating_s = state.calibrating_s
    device.duty_cycle = state.duty_cycle
    device.cold_starts, device.cold_start_s = state.cold_starts, state.cold_start_s
    device.warm_starts, device.warm_start_s = state.warm_starts, state.warm_start_s
    device.prepared_ahead = state.prepared_ahead
    for charge in (*state.charges, *state.sessions):
        charged_s = max(charge.qpu_s, device.charged_s.get(charge.session, 0.0))
        device.charged_s[charge.session] = charged_s
    for told in state.sessions:
        session = record.sessions.get(told.session)
        if session is None or session.state.ended or session.device != device.name:
            continue
        session.queue_position = told.position
        session.qpu_s = max(session.qpu_s, told.qpu_s)
        if session.state in {State.RUNNING, State.QUEUED}:
            session.reason = told.reason if told.position else ""
