"""Keeps the processes of a run going: a QPU server for each device, a runner for each session.

What sessions start on is started at once, spare devices when the sessions have had their first evaluations;
a runner waits by itself for the address of its server. From then on each is kept by a coroutine of its own:

- A **server** that ends is started again on its data folder, where its log has kept results, charges and
  clock.
- A **runner** lost to a signal, or one that asks for it (exit code 75), is started again from its journal
  with the next lease epoch, so that the one before is fenced off should it still live. A runner that fails
  ends its session.
- Restarts are bounded and wait longer each time; progress (a new evaluation) wipes the slate clean.
- A device whose server cannot be kept up is given up; its sessions move to the next device that fits, or
  fail.

The supervisor decides nothing about quantum jobs. It writes what it learns into the records of
`efaas.local.progress` and tells a `Listener` of changes. `stop` ends everything in order, runners first; what
is on disk then is what `--resume` goes on from.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from efaas.accounts.message import ACCOUNTS_VARIABLE
from efaas.local.folder import RunFolder, read_json, replace_file
from efaas.local.processes import Programs, ProgressPipe, end, last_line, start
from efaas.local.progress import FINAL, DeviceRecord, Evaluation, RunRecord, SessionRecord, State, text
from efaas.local.tenants import ACCOUNTS_FILE

EXIT_BAD_INPUT = 2
EXIT_TEMPORARY = 75
"""Exit code of a runner that should be started again (EX_TEMPFAIL)."""


@dataclass(frozen=True, slots=True)
class Timings:
    """How patient the supervisor is, in wall seconds; tests shorten them."""

    restarts: int = 5
    """Restarts of one process without progress in between before it is given up."""
    backoff_s: float = 0.2
    """Wait before the first restart; doubles with each further one."""
    longest_backoff_s: float = 5.0
    healthy_s: float = 30.0
    """A server that lived this long has earned its restarts back."""
    grace_s: float = 5.0
    """Between asking a process to end and ending it."""
    spare_s: float = 10.0
    """At most this long a server on which no session starts waits for the sessions' first evaluations."""
    address_poll_s: float = 0.02
    """Between two looks for a server's address file."""


DEFAULT_PROGRAMS = Programs()
DEFAULT_TIMINGS = Timings()


class Listener(Protocol):
    """Who wants to know, as it happens."""

    def session_changed(self, record: SessionRecord) -> None:
        """A session's state or reason is another one."""

    def device_changed(self, record: DeviceRecord) -> None:
        """A device's condition is another one."""

    def evaluated(self, record: SessionRecord, evaluation: Evaluation) -> None:
        """A session was told an evaluation."""

    def note(self, text: str) -> None:
        """Something a person should know, in one sentence."""


class Supervisor:
    """Runs the sessions of a folder to their end.

    Args:
        folder: the locked run folder, with all documents written.
        record: what is known so far; sessions in a final state or suspended are left alone.
        listener: is told of changes.
        programs: what to start.
        timings: how patient to be.
        session_ended: awaited beside the rest for each session that has come to its own end.
    """

    def __init__(
        self,
        folder: RunFolder,
        record: RunRecord,
        listener: Listener,
        *,
        slots: dict[str, int],
        programs: Programs = DEFAULT_PROGRAMS,
        timings: Timings = DEFAULT_TIMINGS,
        session_ended: Callable[[SessionRecord], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self.folder = folder
        self.record = record
        self._listener = listener
        self._programs = programs
        self._timings = timings
        self._session_ended = session_ended
        self._stop = asyncio.Event()
        # Sessions that hold a place on each device; the others wait for one.
        self._slots = {name: asyncio.Semaphore(slots.get(name, 8)) for name in record.devices}
        # Set when a device is given up, so that its runners are moved.
        self._given_up = {name: asyncio.Event() for name in record.devices}
        # Set when somebody cancels a session; with the reason.
        self._cancelled = {key: asyncio.Event() for key in record.sessions}
        self._cancel_reasons: dict[str, str] = {}

    def stop(self) -> None:
        """End the run in order; what is not done stays resumable."""
        self._stop.set()

    def cancel(self, key: str, reason: str) -> None:
        """End one session for good; one that has ended, or is not known, is left alone."""
        record = self.record.sessions.get(key)
        if record is not None and not record.state.ended:
            self._cancel_reasons[key] = reason
            self._cancelled[key].set()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    async def run(self, before_servers_end: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        """Run until every session has ended or `stop` is called; no child is left behind.

        Args:
            before_servers_end: awaited when all sessions have ended and the servers still answer.
        """
        waiting = [record for record in self.record.sessions.values() if not record.state.ended]
        kept = [record for record in self.record.sessions.values() if record.state in FINAL]
        async with asyncio.TaskGroup() as group:
            own = {record.devices[0] for record in waiting}
            servers = [
                group.create_task(
                    self._keep_server(device) if device.name in own else self._keep_spare(device)
                )
                for device in self._needed(waiting)
            ]
            sessions = [group.create_task(self._keep_session(record, group)) for record in waiting]
            for record in kept:
                group.create_task(self._after_its_end(record))
            if sessions:
                await asyncio.wait(sessions)
                if before_servers_end is not None and not self.stopping:
                    await before_servers_end()
            for server in servers:
                server.cancel()

    def _needed(self, sessions: list[SessionRecord]) -> list[DeviceRecord]:
        """Devices that some session may run on; the others are not started."""
        wanted = {name for record in sessions for name in record.devices}
        return [device for name, device in self.record.devices.items() if name in wanted]

    async def _keep_spare(self, device: DeviceRecord) -> None:
        """Start the server of a device on which no session starts, once the sessions have had theirs."""
        started = time.monotonic()
        while time.monotonic() - started < self._timings.spare_s:
            if all(record.history or record.state.ended for record in self.record.sessions.values()):
                break
            if any(other.failed for other in self.record.devices.values()):
                break
            await asyncio.sleep(0.1)
        await self._keep_server(device)

    # --- servers ------------------------------------------------------------------------------------

    async def _keep_server(self, device: DeviceRecord) -> None:
        folder = self.folder.device(device.name)
        log = self.folder.log(f"qpu-{device.name}")
        (folder / "data").mkdir(exist_ok=True)
        command = (
            *self._programs.server,
            *("--device", str(folder / "device.yaml")),
            *("--data", str(folder / "data")),
            *("--address-file", str(folder / "address.json")),
            *("--token-file", str(folder / "token")),
            "--with-parent",
        )
        lost = 0
        while True:
            for stale in ("address.json", "address"):
                (folder / stale).unlink(missing_ok=True)
            started = time.monotonic()
            device.started = True
            process = await start(command, log, {ACCOUNTS_VARIABLE: str(folder / ACCOUNTS_FILE)})
            address = asyncio.create_task(self._address(device))
            try:
                code = await process.wait()
            finally:
                address.cancel()
                device.endpoint, device.condition = "", "Stopped"
                await end(process, self._timings.grace_s)
            if time.monotonic() - started > self._timings.healthy_s:
                lost = 0
            lost += 1
            why = describe_exit(code, last_line(log))
            if code == EXIT_BAD_INPUT or lost > self._timings.restarts:
                device.failed, device.condition, device.reason = True, "Failed", why
                self._listener.device_changed(device)
                self._given_up[device.name].set()
                return
            device.restarts += 1
            device.condition, device.reason = "Restarting", f"its server {why}"
            self._listener.device_changed(device)
            await asyncio.sleep(self._backoff(lost))

    async def _address(self, device: DeviceRecord) -> None:
        """Wait for the address that a server writes once it listens, and hand it to the runners."""
        folder = self.folder.device(device.name)
        while True:
            endpoint = text((read_json(folder / "address.json") or {}).get("endpoint"))
            if endpoint:
                replace_file(folder / "address", endpoint + "\n")
                device.endpoint, device.condition, device.reason = endpoint, "Ready", ""
                self._listener.device_changed(device)
                return
            await asyncio.sleep(self._timings.address_poll_s)

    # --- sessions -----------------------------------------------------------------------------------

    async def _keep_session(self, record: SessionRecord, group: asyncio.TaskGroup) -> None:
        slot = self._slots[record.devices[0]]
        stopped = asyncio.create_task(self._stop.wait())
        cancelled = asyncio.create_task(self._cancelled[record.key].wait())
        acquired = asyncio.create_task(slot.acquire())
        try:
            await asyncio.sleep(0)  # a free slot is taken at once
            if not acquired.done():
                self._change(record, State.PENDING, f"waits for a free slot on {record.devices[0]}")
            await asyncio.wait({stopped, cancelled, acquired}, return_when=asyncio.FIRST_COMPLETED)
            if not self._is_to_end(record):
                await self._run_to_its_end(record)
        finally:
            stopped.cancel()
            cancelled.cancel()
            if acquired.done() and not acquired.cancelled():
                slot.release()
            acquired.cancel()
        if self._cancelled[record.key].is_set() and record.state not in FINAL:
            self._end(record, State.CANCELLED, self._cancel_reasons[record.key])
        elif self.stopping and record.state not in FINAL:
            self._change(record, State.INTERRUPTED, "")
        if record.state in FINAL:
            group.create_task(self._after_its_end(record))

    def _is_to_end(self, record: SessionRecord) -> bool:
        return self.stopping or self._cancelled[record.key].is_set()

    async def _after_its_end(self, record: SessionRecord) -> None:
        """What is owed to a session that has ended, unless the run is to end."""
        if self._session_ended is None or self.stopping:
            return
        owed = asyncio.create_task(self._session_ended(record))
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({owed, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            owed.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await owed

    async def _run_to_its_end(self, record: SessionRecord) -> None:
        lost = 0
        while not self._is_to_end(record):
            devices = [name for name in record.devices if not self.record.devices[name].failed]
            if not devices:
                reasons = "; ".join(
                    f"{name}: its server {self.record.devices[name].reason}" for name in record.devices
                )
                self._end(record, State.FAILED, f"no device is left ({reasons})")
                return
            evaluations = len(record.history)
            code = await self._run_once(record, devices)
            if record.state in FINAL or self._is_to_end(record):
                return
            if len(record.history) > evaluations:
                lost = 0
            why = describe_exit(code, last_line(self.folder.log(record.key)))
            if self.record.devices[devices[0]].failed:
                if len(devices) > 1:
                    self._listener.note(f"{record.shown} moves from {devices[0]} to {devices[1]}")
                continue
            if code != EXIT_TEMPORARY and code >= 0:
                record.bad_input = code == EXIT_BAD_INPUT
                self._end(record, State.FAILED, record.reason if record.state is State.FAILED else why)
                return
            lost += 1
            if lost > self._timings.restarts:
                self._end(record, State.FAILED, f"its runner {why}, {lost} times in a row")
                return
            record.restarts += 1
            self._change(record, State.PREPARING, f"restarting: its runner {why}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), self._backoff(lost))

    async def _run_once(self, record: SessionRecord, devices: list[str]) -> int:
        """One life of a runner; returns its exit code, negative for a signal."""
        folder = self.folder.session(record.key)
        record.lease_epoch = self.folder.next_lease(record.key)
        record.device = devices[0]
        record.noisy = self.record.devices[devices[0]].noisy
        self._change(record, State.PREPARING, record.reason or "starting")
        pipe = ProgressPipe()
        environment = {
            "EFAAS_SESSION_FILE": str(folder / "session.yaml"),
            "EFAAS_QPUS": json.dumps([self._qpu(name) for name in devices]),
            "EFAAS_JOURNAL": str(folder / "journal"),
            "EFAAS_LEASE_EPOCH": str(record.lease_epoch),
            "EFAAS_PROGRESS_FD": str(pipe.child_end),
        }
        if (folder / "program.py").is_file():
            environment["EFAAS_PROGRAM"] = str(folder / "program.py")
        process = await start(
            self._programs.runner, self.folder.log(record.key), environment, (pipe.child_end,)
        )
        pipe.close_child_end()
        listening = asyncio.create_task(self._listen(record, pipe))
        exited = asyncio.create_task(process.wait())
        stopped = asyncio.create_task(self._stop.wait())
        cancelled = asyncio.create_task(self._cancelled[record.key].wait())
        given_up = asyncio.create_task(self._given_up[devices[0]].wait())
        try:
            await asyncio.wait({exited, stopped, cancelled, given_up}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked_to_end = process.returncode is None
            await end(process, self._timings.grace_s)
            for task in (exited, stopped, cancelled, given_up):
                task.cancel()
            # What the runner said last is still in the pipe; a grandchild may keep the pipe open for ever.
            await asyncio.wait({listening}, timeout=1.0)
            listening.cancel()
        code = process.returncode
        assert code is not None
        self._settle(record, code, asked_to_end)
        return code

    def _qpu(self, name: str) -> dict[str, str]:
        folder = self.folder.device(name)
        return {
            "device": name,
            "endpoint": self.record.devices[name].endpoint,
            "addressFile": str(folder / "address"),
            "tokenFile": str(folder / "token"),
            "twins": self.record.devices[name].twins,
        }

    async def _listen(self, record: SessionRecord, pipe: ProgressPipe) -> None:
        async for event in pipe.events():
            if event.get("event") == "moved":
                source, target = text(event.get("source")), text(event.get("target"))
                self._listener.note(
                    f"{record.shown} moves from {source} to {target}: {text(event.get('reason'))}"
                )
            before = (record.state, record.reason)
            evaluation = record.apply(event)
            if evaluation is not None:
                self._listener.evaluated(record, evaluation)
            if (record.state, record.reason) != before and record.state not in FINAL:
                self._listener.session_changed(record)

    def _settle(self, record: SessionRecord, code: int, asked_to_end: bool) -> None:
        """Hold what the runner said against how it ended: only both together end a session."""
        if asked_to_end and not (code == 0 and record.result):
            # How it ended says nothing then.
            record.state = State.RUNNING
        elif code == 0:
            state = record.state if record.state in FINAL else State.COMPLETED
            if state is State.COMPLETED and not record.result:
                self._end(record, State.FAILED, "its runner ended without a result")
            else:
                self._end(record, state, record.reason if state is record.state else "")
        elif code == 1 and record.state is State.EXPIRED:
            self._end(record, State.EXPIRED, record.reason)
        elif record.state in FINAL:
            # Said before the runner was lost: the journal decides when it is started again.
            if code < 0 or code == EXIT_TEMPORARY:
                record.state = State.PREPARING
            elif record.state is State.COMPLETED:
                record.state, record.reason = State.RUNNING, ""
            else:
                record.bad_input = code == EXIT_BAD_INPUT
                self._end(record, record.state, record.reason)

    def _change(self, record: SessionRecord, state: State, reason: str) -> None:
        if (record.state, record.reason) != (state, reason):
            record.state, record.reason = state, reason
            self._listener.session_changed(record)

    def _end(self, record: SessionRecord, state: State, reason: str) -> None:
        record.state, record.reason, record.queue_position = state, reason, 0
        self.folder.write_outcome(
            record.key,
            {
                "state": state.value,
                "reason": reason,
                "badInput": record.bad_input,
                "device": record.device,
                "result": record.result,
            },
        )
        self._listener.session_changed(record)

    def _backoff(self, lost: int) -> float:
        return min(self._timings.backoff_s * 2.0 ** (lost - 1), self._timings.longest_backoff_s)


def describe_exit(code: int, said: str) -> str:
    """How a process ended, as the end of a sentence that begins with it."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"was ended by {name}"
    return f"ended with code {code}" + (f": {said}" if said else "")
