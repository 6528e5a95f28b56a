"""Programs that a test starts, and waiting for what they do.

A program ends with the test, even a killed one: the kernel sends it SIGKILL when the thread that started it
is gone.
"""

from __future__ import annotations

import ctypes
import http.client
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.rest import ApiError

START_LIMIT_S = 60.0
"""Longest wait for a program to be ready: both cores may be busy with other tests."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(
    what: str, condition: Callable[[], Any], *, within_s: float = START_LIMIT_S, every_s: float = 0.05
) -> Any:
    """Wait for a condition and return what it gives.

    Raises:
        AssertionError: it did not hold in time; names what was waited for and what the last try said.
    """
    end = time.monotonic() + within_s
    while True:
        value = None
        try:
            value = condition()
            trouble = repr(value)
        except (OSError, http.client.HTTPException, ApiError) as error:
            trouble = repr(error)
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"no {what} within {within_s:g} s; last seen: {trouble}")
        time.sleep(every_s)


_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Of a child process, before it becomes another program: die with the thread that made it."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A program started for a test; its output goes to a log file.

    Args:
        command: program and arguments.
        log: file for its standard output and error; later starts are appended.
        environment: variables on top of this process's own.
    """

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.command = list(command)
        self.log = log
        self._environment = {**os.environ, **(environment or {})}
        self._popen: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it (again, with the same arguments)."""
        with self.log.open("ab") as sink:
            sink.write(f"$ {shlex.join(self.command)}\n".encode())
            sink.flush()
            self._popen = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=self._environment,
                preexec_fn=end_with_parent,
            )

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._popen is not None
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._popen is not None and self._popen.poll() is None

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self.running:
            assert self._popen is not None
            self._popen.kill()
            self._popen.wait()

    def stop(self, within_s: float = 10.0) -> int:
        """Ask it to end, insist after a while; returns its exit code."""
        assert self._popen is not None
        if self.running:
            self._popen.terminate()
            try:
                self._popen.wait(within_s)
            except subprocess.TimeoutExpired:
                self.kill()
        return self._popen.wait()

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
