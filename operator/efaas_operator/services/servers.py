"""Calls to QPU servers: by pod IP, with the operator's own token, over TLS where the installation has it.

A channel is kept to each server as long as its address and the certificates stay the same. No answer is never
an error here: servers come and go with their pods, and whoever asks goes by that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio

from efaas.api.wire import qpu_pb2 as wire
from efaas.api.wire import qpu_pb2_grpc

_LOG = logging.getLogger(__name__)

_ANSWER_S = 2.0
_LARGEST_ANSWER = 16 << 20

Answer = TypeVar("Answer")


class Silence(Exception):
    """A server did not answer, or refused; the text says why."""


class QpuServers:
    """All servers.

    Args:
        token_file: the operator's token for them; read for each call, because kubelets renew it.
        ca_file: certificates that theirs are signed by; None: streams are plain.
        host_of: name in the certificate of a device's server.
        port: of their streams.
    """

    def __init__(
        self, token_file: Path, ca_file: Path | None, host_of: Callable[[str], str], port: int
    ) -> None:
        self._token_file, self._ca_file = token_file, ca_file
        self._host_of, self._port = host_of, port
        self._channels: dict[str, tuple[str, bytes, grpc.aio.Channel]] = {}

    async def describe(self, device: str, address: str, sessions: Iterable[str]) -> wire.DeviceState:
        """How a device is.

        Args:
            device: its name.
            address: IP of its pod.
            sessions: whose charges are wanted in any case.

        Raises:
            Silence: no answer.
        """
        request = wire.DescribeRequest(sessions=sessions)
        state: wire.DeviceState = await self._call(device, address, "Describe", request)
        return state

    async def calibrate(self, device: str, address: str) -> None:
        """Ask for a full calibration; raises as `describe`."""
        await self._call(device, address, "Calibrate", wire.CalibrateRequest())

    async def cordon(self, device: str, address: str, availability: wire.Availability) -> None:
        """Open a device or close it to new sessions; raises as `describe`."""
        await self._call(device, address, "Cordon", wire.CordonRequest(availability=availability))

    async def fence(self, device: str, address: str, session: str, lease_epoch: int, uid: str) -> None:
        """Have a session's epochs up to this one refused; raises as `describe`."""
        request = wire.FenceRequest(session=session, lease_epoch=lease_epoch, uid=uid)
        await self._call(device, address, "Fence", request)

    async def close_session(self, device: str, address: str, session: str) -> None:
        """Take a session's jobs off the queue; raises as `describe`."""
        await self._call(device, address, "CloseSession", wire.CloseSessionRequest(session=session))

    async def forget(self, device: str) -> None:
        """A device is gone, or its server is at another address."""
        kept = self._channels.pop(device, None)
        if kept is not None:
            await kept[2].close(None)

    async def close(self) -> None:
        """Close all channels."""
        for device in list(self._channels):
            await self.forget(device)

    async def _call(self, device: str, address: str, method: str, request: Any) -> Any:
        try:
            channel = await self._channel(device, address)
            token = self._token_file.read_text().strip()
            stub = qpu_pb2_grpc.QpuStub(channel)  # type: ignore[no-untyped-call]
            call = getattr(stub, method)
            return await call(request, timeout=_ANSWER_S, metadata=(("authorization", f"Bearer {token}"),))
        except OSError as error:
            _LOG.error("no token or certificate for QPU servers", extra={"error": str(error)})
            raise Silence(f"the operator's own file cannot be read: {error}") from None
        except grpc.aio.AioRpcError as error:
            raise Silence(f"{error.code().name}: {error.details()}"[:300]) from None
        except grpc.aio.UsageError as error:  # the channel was closed meanwhile
            raise Silence(str(error)) from None

    async def _channel(self, device: str, address: str) -> grpc.aio.Channel:
        certificates = self._ca_file.read_bytes() if self._ca_file is not None else b""
        kept = self._channels.get(device)
        if kept is not None and kept[:2] == (address, certificates):
            return kept[2]
        await self.forget(device)
        host = f"[{address}]" if ":" in address else address
        options: list[tuple[str, str | int]] = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", _LARGEST_ANSWER),
            ("grpc.enable_retries", 0),
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ]
        if certificates:
            options.append(("grpc.ssl_target_name_override", self._host_of(device)))
            credentials = grpc.ssl_channel_credentials(certificates)
            channel = grpc.aio.secure_channel(f"{host}:{self._port}", credentials, options=options)
        else:
            channel = grpc.aio.insecure_channel(f"{host}:{self._port}", options=options)
        self._channels[device] = (address, certificates, channel)
        return channel
