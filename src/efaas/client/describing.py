"""Asks QPU servers how they are, for whoever decides where a session goes next.

One `Describe` a server and look, all at the same time, on the event loop that the streams of the process
share. What comes back is a `DeviceView`, the words in which `efaas.core.placement` thinks. Servers grow: a
field that this server does not have yet is 0 on the wire and counts as unknown, which never keeps a session
away from a device.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import grpc
import grpc.aio

from efaas.api.wire import qpu_pb2 as wire
from efaas.api.wire import qpu_pb2_grpc
from efaas.client.connection import shared_loop
from efaas.client.trust import Trust, open_channel
from efaas.core.placement import DeviceView, Health
from efaas.errors import QpuUnavailable

ANSWER_S = 1.0
"""Wall seconds that a server has for its answer."""

_SLOTS_UNKNOWN = 1_000_000

_HEALTH = {"Calibrating": Health.CALIBRATING, "Draining": Health.DRAINING}
"""A server whose Aer worker starts takes jobs and keeps them, so it counts as ready."""


@dataclass(frozen=True, slots=True)
class Description:
    """A device as its server described it."""

    view: DeviceView
    clock_s: float
    """The device's clock."""
    calibration_due_s: float
    """Device seconds until its next scheduled calibration; infinite on a device that does not drift."""
    at_s: float
    """Monotonic wall time of the answer."""


def description_from_wire(state: wire.DeviceState, name: str, at_s: float) -> Description:
    """Read a server's answer.

    Args:
        state: the answer.
        name: of the device, as the session's list has it.
        at_s: monotonic wall time at which it came.
    """
    view = DeviceView(
        name=name,
        qubits=state.qubits,
        health=_HEALTH.get(state.condition, Health.READY),
        cordoned=state.availability != wire.OPEN,
        slots=state.slots or _SLOTS_UNKNOWN,
        slots_used=state.slots_used,
        calibration_age_s=state.calibration_age_s,
        max_calibration_age_s=state.max_calibration_age_s or math.inf,
        calibration_left_s=state.calibration_left_s,
        queue_s=state.expected_wait_s,
        local_calibration_s=state.local_calibration_s,
        warm_circuits=frozenset(state.warm_circuits),
        one_qubit_error=state.one_qubit_error,
        two_qubit_error=state.two_qubit_error,
        readout_error=state.readout_error,
        one_qubit_drift_per_s=state.one_qubit_drift_per_s,
        two_qubit_drift_per_s=state.two_qubit_drift_per_s,
        readout_drift_per_s=state.readout_drift_per_s,
    )
    due_s = math.inf if state.frozen else state.calibration_due_s
    return Description(view, state.clock_s, due_s, at_s)


class Describer:
    """Asks several servers at once, for blocking callers; keeps one light channel to each address.

    Args:
        trusts: which certificates servers must show, by device name; those not named are spoken to plainly.
    """

    def __init__(self, trusts: Mapping[str, Trust] | None = None) -> None:
        self._trusts = dict(trusts or {})
        self._channels: dict[str, grpc.aio.Channel] = {}

    def ask(self, endpoints: Mapping[str, str]) -> dict[str, Description]:
        """Ask every server once.

        Args:
            endpoints: ``host:port`` by device name.

        Returns:
            The answers by device name; servers that gave none within `ANSWER_S` are left out.
        """
        return asyncio.run_coroutine_threadsafe(self._ask(endpoints), shared_loop()).result()

    def close(self) -> None:
        """Close all channels."""
        asyncio.run_coroutine_threadsafe(self._close(), shared_loop())

    async def _ask(self, endpoints: Mapping[str, str]) -> dict[str, Description]:
        for endpoint in set(self._channels) - set(endpoints.values()):
            await self._channels.pop(endpoint).close(None)
        answers = await asyncio.gather(*(self._ask_one(*item) for item in endpoints.items()))
        return {answer.view.name: answer for answer in answers if answer is not None}

    async def _ask_one(self, name: str, endpoint: str) -> Description | None:
        channel = self._channels.get(endpoint)
        if channel is None:
            try:
                channel = open_channel(
                    endpoint, self._trusts.get(name), (("grpc.use_local_subchannel_pool", 1),)
                )
            except QpuUnavailable:
                return None
            self._channels[endpoint] = channel
        stub = qpu_pb2_grpc.QpuStub(channel)  # type: ignore[no-untyped-call]
        try:
            state = await stub.Describe(wire.DescribeRequest(), timeout=ANSWER_S)
        except grpc.RpcError:
            return None
        return description_from_wire(state, name, time.monotonic())

    async def _close(self) -> None:
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close(None)
