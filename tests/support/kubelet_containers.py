"""What runs in a played pod: the pod's real command as a process, or nothing but time."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.support.processes import end_with_parent


@dataclass(frozen=True)
class Play:
    """A container that does nothing for a while and ends; for loads that no two cores could run."""

    seconds: float
    exit_code: int = 0
    message: str = ""


@dataclass(frozen=True)
class Image:
    """What a node has of an image.

    Args:
        entrypoint: run by pods that name no command.
        environment: variables of every container of it.
        play: instead of a process.
    """

    entrypoint: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    play: Play | None = None


@dataclass(frozen=True)
class Exit:
    """How a container ended."""

    code: int
    reason: str = ""


class Container(Protocol):
    """One run of a pod's container."""

    async def wait(self) -> Exit: ...

    def signal(self, number: int) -> None: ...

    def kill_for_memory(self) -> None:
        """As the kernel does when the limit is reached."""


class ProcessContainer:
    """A process of this machine that ends with the thread that started it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._out_of_memory = False

    @classmethod
    async def start(
        cls, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path
    ) -> ProcessContainer:
        """Start it.

        Raises:
            OSError: there is no such program.
        """
        path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
        variables = {"PATH": path, "LANG": "C.UTF-8", **environment}
        with log.open("ab") as sink:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                cwd=folder,
                env=variables,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> Exit:
        code = await self._process.wait()
        if self._out_of_memory:
            return Exit(137, "OOMKilled")
        return Exit(128 - code if code < 0 else code)

    def signal(self, number: int) -> None:
        if self._process.returncode is not None:
            return
        if number == signal.SIGKILL:
            # Its children with it, as a container's would go.
            os.killpg(self._process.pid, number)
        else:
            self._process.send_signal(number)

    def kill_for_memory(self) -> None:
        self._out_of_memory = True
        self.signal(signal.SIGKILL)


class PlayedContainer:
    """Only time passes."""

    def __init__(self, play: Play, termination: Path) -> None:
        self._play, self._termination = play, termination
        self._ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._timer = asyncio.get_running_loop().call_later(play.seconds, self._end)

    async def wait(self) -> Exit:
        return await asyncio.shield(self._ended)

    def signal(self, number: int) -> None:
        self._timer.cancel()
        if not self._ended.done():
            self._ended.set_result(Exit(128 + number))

    def kill_for_memory(self) -> None:
        self._timer.cancel()
        if not self._ended.done():
            self._ended.set_result(Exit(137, "OOMKilled"))

    def _end(self) -> None:
        if self._play.message:
            self._termination.parent.mkdir(parents=True, exist_ok=True)
            self._termination.write_text(self._play.message)
        if not self._ended.done():
            self._ended.set_result(Exit(self._play.exit_code))
