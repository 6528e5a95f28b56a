"""QPU servers as processes, one for each device, for the live benchmark."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from efaas.bench.live_trace import DEVICES, SLICE_COST_S
from efaas.errors import EfaasError

START_S = 90.0
"""Wall seconds until a server must listen."""


class ServerFailed(EfaasError):
    """A QPU server of the benchmark did not come up."""

    code = "ServerFailed"


def manifest(device: str, snapshot: str, policy: str, time_scale: float) -> str:
    """The QPUDevice that a server of the benchmark serves, as YAML.

    Args:
        device: its name.
        snapshot: device model.
        policy: of its queue.
        time_scale: wall seconds of a device second.
    """
    return (
        "apiVersion: efaas.dev/v1alpha1\nkind: QPUDevice\n"
        f"metadata: {{name: {device}}}\nspec:\n"
        f"  model: {{snapshot: {snapshot}}}\n"
        f"  simulation: {{timeScale: '{time_scale:g}'}}\n"
        "  calibration: {drift: Frozen}\n"
        f"  queue: {{policy: {policy}, sliceCost: {1000 * SLICE_COST_S:g}ms}}\n"
    )


class Servers:
    """Three QPU servers with one policy; a context manager that ends them.

    Args:
        folder: for their manifests, data and logs.
        snapshot: device model.
        policy: of their queues.
        time_scale: wall seconds of a device second.

    Raises:
        ServerFailed: on entering, one does not listen in time.
    """

    def __init__(self, folder: Path, snapshot: str, policy: str, time_scale: float) -> None:
        self._folder, self._snapshot, self._policy, self._time_scale = folder, snapshot, policy, time_scale
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.endpoints: dict[str, str] = {}

    def __enter__(self) -> Self:
        try:
            for device in DEVICES:
                self._start(device)
            for device in DEVICES:
                self.endpoints[device] = self._await(device)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End them."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()
        self._processes.clear()

    def _start(self, device: str) -> None:
        folder = self._folder / self._policy / device
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "device.yaml"
        path.write_text(manifest(device, self._snapshot, self._policy, self._time_scale))
        (folder / "address").unlink(missing_ok=True)
        command = [sys.executable, "-m", "efaas_qpu", "serve", "--device", str(path), "--with-parent"]
        command += ["--data", str(folder / "data"), "--address-file", str(folder / "address")]
        with (folder / "log").open("wb") as log:
            self._processes[device] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)

    def _await(self, device: str) -> str:
        folder, process = self._folder / self._policy / device, self._processes[device]
        deadline = time.monotonic() + START_S
        while not (folder / "address").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                last = (folder / "log").read_text(errors="replace").strip().splitlines()[-1:]
                raise ServerFailed(f"the QPU server of {device} does not listen: {' '.join(last)}")
            time.sleep(0.02)
        endpoint: str = json.loads((folder / "address").read_text())["endpoint"]
        return endpoint
