"""The QPU server of a local session: a process of its own that ends with whoever started it.

The server watches its standard input: when the interpreter ends, however it does, that closes and the server
ends. What survives a session on disk is the folder it was given; without one, nothing does.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from efaas.errors import QpuUnavailable
from efaas.local.folder import read_json
from efaas.local.processes import Programs, last_line

START_S = 60.0
"""Wall seconds in which a server must listen."""

_GRACE_S = 5.0


class LocalServer:
    """A running `efaas-qpu serve`.

    Args:
        document: the QPUDevice, as YAML.
        folder: for the server's log and data; a temporary one, removed at the end, if None.
    """

    def __init__(self, document: str, folder: Path | None = None) -> None:
        self._temporary = folder is None
        self.folder = Path(tempfile.mkdtemp(prefix="efaas-session-")) if folder is None else folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self.token = secrets.token_urlsafe(32)
        self.token_file = self.folder / "token"
        self.address_file = self.folder / "address.json"
        self._log = self.folder / "server.log"
        self._lock = threading.Lock()
        self._stopped = False
        self.address_file.unlink(missing_ok=True)
        _write_private(self.token_file, self.token)
        (self.folder / "device.yaml").write_text(document, encoding="utf-8")
        command = [
            *Programs().server,
            *("--device", str(self.folder / "device.yaml")),
            *("--data", str(self.folder / "data")),
            *("--address-file", str(self.address_file)),
            *("--token-file", str(self.token_file)),
            "--with-parent",
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    def endpoint(self) -> str:
        """Where it listens, ``host:port``; waits until it does.

        Raises:
            QpuUnavailable: it has ended, or does not listen in time; the text gives its last word.
        """
        deadline_s = time.monotonic() + START_S
        pause_s = 0.005
        while True:
            address = read_json(self.address_file)
            if address is not None and "endpoint" in address:
                return str(address["endpoint"])
            if self._stopped or self._process.poll() is not None:
                word = last_line(self._log) or "it said nothing"
                raise QpuUnavailable(f"the QPU server has ended: {word}", place="local session")
            if time.monotonic() > deadline_s:
                raise QpuUnavailable(
                    f"the QPU server did not listen within {START_S:g} s", place="local session"
                )
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.05)

    def is_running(self) -> bool:
        """Whether the process is there."""
        return not self._stopped and self._process.poll() is None

    def stop(self) -> None:
        """End the server and remove a temporary folder; stopping twice does nothing."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)
        self._signal(signal.SIGKILL)  # and whatever of its group is left
        self._process.wait()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
