"""How a runner tells how it gets on: one JSON object a line for programs, a readable line for people.

Events go to the pipe of ``EFAAS_PROGRESS_FD``, if there is one; lines for people go to stderr, which a
supervisor keeps as the session's log. Nobody has to listen: a closed pipe ends the telling, never the run.

Events, all times in seconds (``device`` seconds on the device's clock):

- ``state``: ``state`` (Preparing, Queued, Running, Completed, Failed, Expired), ``reason``, ``device``
- ``moved``: ``source``, ``target`` (devices), ``reason``: iterations go to another device from now on
- ``queued``: ``position``, ``estimated_start_s`` (device seconds from now), ``reason``
- ``iteration``: ``iteration``, ``evaluation``, ``energy``, ``std_error``, ``best``, ``ttns_s``,
  ``ttns_device_s``, ``round_trip_s``, ``qpu_s`` and ``shots`` (of the session so far), ``device``,
  ``calibration_age_s``, ``calibration_epoch``, ``elapsed_s``, ``route`` (why it did not
  run on the session's own device; empty if it did)
- ``finished``: ``result``
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from typing import Any, TextIO

LINE_LIMIT_BYTES = 1 << 20
"""Longest line that is written; a result that would be longer leaves its parameters out (its file has
them)."""


class Progress:
    """Tells of one session; usable from several threads.

    Args:
        descriptor: of the pipe for events; None: nobody listens.
        log: for lines that people read, such as stderr; None: nobody reads.
    """

    def __init__(self, descriptor: int | None = None, log: TextIO | None = None) -> None:
        self._descriptor = descriptor
        self._log = log
        self._lock = threading.Lock()
        self._state = ""

    def state(self, state: str, reason: str = "", device: str = "") -> None:
        """The session is in this state now."""
        self._state = state
        self._send({"event": "state", "state": state, "reason": reason, "device": device})
        self.say(f"{state}{f' on {device}' if device else ''}{f': {reason}' if reason else ''}")

    def queued(self, position: int, estimated_start_s: float, reason: str) -> None:
        """A job waits on the device."""
        self._state = "Queued"
        self._send(
            {
                "event": "queued",
                "position": position,
                "estimated_start_s": estimated_start_s,
                "reason": reason,
            }
        )

    def started(self, device: str) -> None:
        """A job runs on the device; told only if the last that was told is that it waits."""
        if self._state == "Queued":
            self._state = "Running"
            self._send({"event": "state", "state": "Running", "reason": "", "device": device})

    def moved(self, source: str, target: str, reason: str) -> None:
        """Iterations go to another device from now on."""
        self._send({"event": "moved", "source": source, "target": target, "reason": reason})
        self.say(f"moved from {source} to {target}: {reason}")

    def iteration(self, fields: Mapping[str, Any], *, again: bool = False) -> None:
        """The session was told the answers to an evaluation; `again`: it is read back from the journal."""
        self._state = "Running"
        self._send({"event": "iteration", **fields})
        if again:
            return
        energy, error = fields.get("energy"), fields.get("std_error")
        value = "" if energy is None else f"energy {energy:.6f}" + (f" ± {error:.6f}" if error else "")
        self.say(
            f"iteration {fields['iteration']}, evaluation {fields['evaluation']}: {value or 'no energy'}"
        )

    def finished(self, result: Mapping[str, Any]) -> None:
        """The session has its result."""
        self._send({"event": "finished", "result": dict(result)})

    def say(self, text: str) -> None:
        """Write a line for people."""
        if self._log is None:
            return
        try:
            self._log.write(f"{time.strftime('%H:%M:%S')} {text}\n")
            self._log.flush()
        except (OSError, ValueError):  # the reader has gone
            self._log = None

    def _send(self, event: dict[str, Any]) -> None:
        if self._descriptor is None:
            return
        line = json.dumps(event).encode() + b"\n"
        if len(line) > LINE_LIMIT_BYTES and isinstance(event.get("result"), dict):
            event = {**event, "result": {**event["result"], "parameters": None}}
            line = json.dumps(event).encode() + b"\n"
        view = memoryview(line)
        with self._lock:
            try:
                while view:
                    view = view[os.write(self._descriptor, view) :]
            except OSError:
                self._descriptor = None
