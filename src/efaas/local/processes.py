"""The programs that a run consists of, and what it takes to start and end them well.

Every child gets a process group of its own, so that Ctrl-C reaches the supervisor alone, which then ends the
children in order. If the supervisor itself is killed, they end by themselves: QPU servers watch their parent,
other children are tied to it by `efaas.local.child`. What they say on stdout and stderr goes to a log file.

`Programs` holds the command lines; tests put small scripts in their place.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efaas.local.child import PARENT_VARIABLE

LINE_LIMIT_BYTES = 1 << 20
"""Longest progress line; longer ones are left out."""


@dataclass(frozen=True, slots=True)
class Programs:
    """Command lines of the children."""

    server: tuple[str, ...] = (sys.executable, "-m", "efaas_qpu", "serve")
    runner: tuple[str, ...] = (sys.executable, "-m", "efaas.local.child", "efaas.runner")
    best_energy: tuple[str, ...] = (sys.executable, "-m", "efaas.local.child", "efaas_qpu", "best-energy")


async def start(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    stdout: int | None = None,
) -> asyncio.subprocess.Process:
    """Start a child with its output appended to a log.

    Args:
        command: program and arguments.
        log: file for stderr, and for stdout unless `stdout` is given.
        environment: added to the supervisor's own.
        pass_fds: descriptors that the child keeps.
        stdout: as for `subprocess`.
    """
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output if stdout is None else stdout,
            stderr=output,
            env={
                **os.environ,
                "PYTHONUNBUFFERED": "1",
                PARENT_VARIABLE: str(os.getpid()),
                **(environment or {}),
            },
            pass_fds=tuple(pass_fds),
            start_new_session=True,
        )


async def end(process: asyncio.subprocess.Process, grace_s: float) -> None:
    """Ask a child to end, and end it if it has not within `grace_s` seconds; its group goes with it."""
    if process.returncode is None:
        _signal_group(process, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), grace_s)
    _signal_group(process, signal.SIGKILL)
    await process.wait()


def _signal_group(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass
    except PermissionError:  # macOS, for a group whose leader is a zombie
        pass


class ProgressPipe:
    """The pipe on which a runner tells how it gets on, one JSON object a line."""

    def __init__(self) -> None:
        self._read, self.child_end = os.pipe()
        os.set_blocking(self._read, False)

    def close_child_end(self) -> None:
        """To be called once the child has been started, so that its end is seen."""
        os.close(self.child_end)

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Events until the child closes its end; lines that are too long or no JSON object are left out."""
        reader = asyncio.StreamReader(limit=LINE_LIMIT_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(self._read, "rb", buffering=0)
        )
        try:
            while True:
                try:
                    line = await reader.readline()
                except ValueError:  # longer than the limit; the reader has dropped what it held
                    continue
                if not line:
                    return
                try:
                    event = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(event, dict):
                    yield event
        finally:
            transport.close()


def last_line(log: Path) -> str:
    """Last line of a log that says something, for why a process ended; empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 4096))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip()[:500] for line in reversed(lines) if line.strip()), "")
