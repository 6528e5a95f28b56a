"""`efaas run --ui`: a gateway beside the run, and the address of its page.

The gateway (`efaas-gateway serve`) is a child like the others. It reads the runners' journals in the run
folder by itself; over a pipe it is told what is not in them: states, queue places, devices. Over its own pipe
it says where it listens and which session somebody wants cancelled. It keeps what it learned in
``gateway.db`` in the run folder; the secret of the address is in ``gateway.token``, for its user only.

A run does not depend on it: a gateway that cannot be started, or dies, costs the page and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from typing import Any

from efaas.api.quantities import seconds
from efaas.local.folder import RunFolder, finite
from efaas.local.intake import Plan
from efaas.local.processes import end
from efaas.local.progress import DeviceRecord, RunRecord, SessionRecord, State, number
from efaas.local.supervisor import Supervisor

_EVERY_S = 0.5
_GRACE_S = 5.0
_PROGRAM = (sys.executable, "-m", "efaas_gateway", "serve")


class Ui:
    """Starts the gateway, feeds it and hears its cancels.

    Args:
        folder: of the run.
        record: what is told.
        plan: what the documents say.
        supervisor: cancels sessions.
        say: shows a sentence to the person at the terminal.
    """

    def __init__(
        self,
        folder: RunFolder,
        record: RunRecord,
        plan: Plan,
        supervisor: Supervisor,
        say: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._record = record
        self._supervisor = supervisor
        self._say = say
        self._told: dict[str, str] = {}
        self._devices = {device.name: device for device in plan.documents.devices}
        self._limits = {
            session.key: json.loads(session.spec.limits.model_dump_json(by_alias=True, exclude_none=True))
            for session in plan.documents.sessions
        }

    async def run(self) -> None:
        """Until cancelled; then the gateway is told the last of it and ended."""
        if importlib.util.find_spec("efaas_gateway") is None:
            self._say("no page: the gateway is not installed; install efaas[gateway]")
            return
        process = await self._start()
        assert process.stdin is not None
        hearing = asyncio.create_task(self._hear(process))
        try:
            while process.returncode is None:
                await self._tell(process)
                await asyncio.sleep(_EVERY_S)
            self._say(f"the page has gone: see {self._folder.log('gateway')}")
        finally:
            with contextlib.suppress(OSError, ConnectionError):
                await self._tell(process)
                process.stdin.close()
                async with asyncio.timeout(_GRACE_S):
                    await process.wait()
            hearing.cancel()
            await end(process, _GRACE_S)

    async def _start(self) -> asyncio.subprocess.Process:
        token = self._folder.path / "gateway.token"
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(24))
        self._token = token.read_text().strip()
        with self._folder.log("gateway").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *_PROGRAM,
                *("--store", str(self._folder.path / "gateway.db")),
                *("--listen", "127.0.0.1:0", "--stream-listen", "127.0.0.1:0"),
                *("--token-file", str(token)),
                *("--follow", str(self._folder.path)),
                "--with-parent",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    async def _hear(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if "listening" in said:
                self._say(f"page: http://127.0.0.1:{said['listening']['http']}/#token={self._token}")
            elif isinstance(said.get("cancel"), str):
                self._say(f"{said['cancel']} is cancelled from the page")
                self._supervisor.cancel(said["cancel"], "cancelled from the page")

    async def _tell(self, process: asyncio.subprocess.Process) -> None:
        """Send what has changed since it was told last."""
        assert process.stdin is not None
        for report in self._reports():
            line = json.dumps(finite(report), separators=(",", ":"))
            key = f"{report['kind']} {report['name']}"
            if self._told.get(key) != line:
                self._told[key] = line
                process.stdin.write(line.encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await process.stdin.drain()

    def _reports(self) -> Iterator[dict[str, Any]]:
        for name, weight in self._record.weights.items():
            yield {"kind": "tenant", "name": name, "weight": weight}
        for session in self._record.sessions.values():
            yield self._session_report(session)
        for device in self._record.devices.values():
            yield self._device_report(device)

    def _session_report(self, session: SessionRecord) -> dict[str, Any]:
        report: dict[str, Any] = {
            "kind": "session",
            "name": session.key,
            "state": session.state.value,
            "reason": session.reason,
            "device": session.device,
            "queue_position": session.queue_position,
            "restarts": session.restarts,
            "limits": self._limits.get(session.key, {}),
        }
        if session.exact is not None:
            report["exact"] = session.exact
        noisy_best = number((session.noisy_best or {}).get("energy"))
        if noisy_best is not None:
            report["noisy_best"] = noisy_best
        if session.result:
            report["result"] = session.result
        return report

    def _device_report(self, device: DeviceRecord) -> dict[str, Any]:
        spec = self._devices[device.name].spec
        return {
            "kind": "device",
            "name": device.name,
            "condition": device.condition,
            "reason": device.reason,
            "snapshot": device.snapshot,
            "qubits": device.qubits,
            "slots": spec.slots,
            "clock_s": device.clock_s,
            "calibration_epoch": device.calibration_epoch,
            "calibration_age_s": device.calibration_age_s,
            "max_age_s": seconds(spec.calibration.max_age),
            "interval_s": seconds(spec.calibration.interval),
            "queue_depth": device.queue_depth,
            "busy_s": device.busy_s,
            "calibrating_s": device.calibrating_s,
            "duty_cycle": device.duty_cycle,
            **({"known_error": device.known_error} if device.known_error else {}),
            **({"true_error": device.true_error} if device.true_error else {}),
            "sessions": [
                {
                    "session": session.key,
                    "state": session.state.value,
                    "position": session.queue_position,
                    "reason": session.reason,
                }
                for session in self._record.sessions.values()
                if session.device == device.name
                and session.state in {State.RUNNING, State.QUEUED, State.PREPARING}
            ],
        }
