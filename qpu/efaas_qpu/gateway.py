"""What a QPU server and the gateway tell each other beside the log: states there, tenants' accounts back.

The log itself is a journal that the gateway may keep (`efaas.journal.open_journal`). Here the server tells
how the device is, once a second, for the page and its history; and hears what each tenant used on other
devices, which the queue adds to its own newer use. While the gateway is away nothing is told, and the queue
goes on with the last accounts it heard.

On one machine `efaas run` keeps the accounts and writes them into a file (``EFAAS_ACCOUNTS_FILE``), which is
read whenever it is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc.aio

from efaas.accounts.message import ACCOUNTS_VARIABLE, read_accounts
from efaas.api.device import QPUDevice
from efaas.api.quantities import seconds
from efaas.api.wire import journal_pb2 as wire
from efaas.api.wire import journal_pb2_grpc
from efaas.core.qpu.messages import UsageReported
from efaas.errors import EfaasError
from efaas.journal.address import GatewayAddress
from efaas_qpu.description import describe
from efaas_qpu.host import QpuHost

logger = logging.getLogger(__name__)

_EVERY_S = 1.0
_PATIENCE_S = 5.0
_LOOK_S = 0.5


class GatewayLink:
    """Keeps a device in touch with the gateway.

    Args:
        host: of the device.
        device: its document.
        variables: the environment, see `efaas.journal.opening`.
    """

    def __init__(self, host: QpuHost, device: QPUDevice, variables: Mapping[str, str] = os.environ) -> None:
        self._host = host
        self._device = device
        self._address = GatewayAddress.from_environment(variables)
        self._accounts_file = variables.get(ACCOUNTS_VARIABLE, "")

    async def run(self) -> None:
        """Until cancelled; returns at once if neither a gateway nor a file is named."""
        if self._address is None:
            if self._accounts_file:
                await self._keep_reading(Path(self._accounts_file))
            return
        async with self._address.aio_channel() as channel:
            stub: Any = journal_pb2_grpc.GatewayStub(channel)  # type: ignore[no-untyped-call]
            await asyncio.gather(self._keep_telling(stub), self._keep_hearing(stub))

    def _token(self) -> str:
        assert self._address is not None
        try:
            return self._address.token()
        except OSError as error:
            logger.warning("the gateway's token cannot be read: %s", error)
            return ""

    async def _keep_telling(self, stub: Any) -> None:
        while True:
            request = wire.ReportRequest(token=self._token(), reports=[json.dumps(self.report()).encode()])
            try:
                await stub.Report(request, timeout=_PATIENCE_S)
            except grpc.aio.AioRpcError as error:
                logger.info("the gateway took no report: %s", error.details())
            await asyncio.sleep(_EVERY_S)

    async def _keep_hearing(self, stub: Any) -> None:
        while True:
            request = wire.AccountsRequest(token=self._token(), device=self._device.name)
            try:
                async for told in stub.Accounts(request):
                    self.hear(told)
            except grpc.aio.AioRpcError as error:
                logger.info("the gateway told no accounts: %s", error.details())
            await asyncio.sleep(_EVERY_S)

    def hear(self, told: wire.TenantAccounts) -> None:
        """Tell the queue what its tenants used elsewhere."""
        for account in told.accounts:
            self._feed(account.tenant, account.elsewhere_cpu_s, account.elsewhere_qpu_s, account.weight)

    async def _keep_reading(self, path: Path) -> None:
        seen = 0
        while True:
            with contextlib.suppress(FileNotFoundError):
                if (changed := path.stat().st_mtime_ns) != seen:
                    try:
                        for account in read_accounts(path.read_bytes()).tenants.values():
                            self._feed(account.tenant, account.cpu_s, account.qpu_s, account.weight)
                        seen = changed
                    except EfaasError as error:
                        logger.warning("%s: %s", path, error)
                        seen = changed
            await asyncio.sleep(_LOOK_S)

    def _feed(self, tenant: str, cpu_s: float, qpu_s: float, weight: float) -> None:
        now_s = self._host.driver.clock.now_s()
        self._host.driver.feed(UsageReported(now_s, tenant, cpu_s, qpu_s, weight if weight > 0 else None))

    def report(self) -> dict[str, Any]:
        """The device as it is now; see `efaas_gateway.reports.DeviceReport`."""
        state, spec = describe(self._host), self._device.spec
        return {
            "kind": "device",
            "name": self._device.name,
            "condition": state.condition,
            "snapshot": state.snapshot,
            "qubits": state.qubits,
            "slots": spec.slots,
            "clock_s": state.clock_s,
            "calibration_epoch": state.calibration_epoch,
            "calibration_age_s": state.calibration_age_s,
            "max_age_s": seconds(spec.calibration.max_age),
            "interval_s": seconds(spec.calibration.interval),
            "queue_depth": state.queue_depth,
            "busy_s": state.busy_s,
            "calibrating_s": state.calibrating_s,
            "duty_cycle": state.duty_cycle,
            "known_error": state.two_qubit_error,
            "true_error": state.true_two_qubit_error,
            "worker": state.worker,
            "sessions": [
                {
                    "session": told.session,
                    "state": told.state,
                    "position": told.position,
                    "reason": told.reason,
                    "estimated_start_s": told.estimated_start_s,
                }
                for told in state.sessions
            ],
        }
