"""Where energies come from: Aer on a drifting device, in a process of its own, each value kept on disk.

`efaas` reaches a simulated QPU by a process only, so this speaks JSON lines with ``python -m
efaas_qpu.energies``. An answer is a function of its request (the shots' randomness is part of it), so
answers are kept by the digest of the request and never asked for again: a sweep over policies pays for each
trajectory once.
"""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from efaas.core.identity import digest
from efaas.errors import EfaasError

Points = NDArray[np.float64]

VERSION = 1
"""Of the meaning of answers; part of every key, so that a change forgets what is kept."""


class EnergiesFailed(EfaasError):
    """The process that computes energies refused a request or died."""

    code = "EnergiesFailed"


class EnergyCache:
    """Answers by the digest of their requests, in one SQLite file; usable from several threads.

    Args:
        path: of the file; made with its folder if it is not there.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, check_same_thread=False, timeout=60.0)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=OFF")  # what is lost is computed again
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT) WITHOUT ROWID"
        )
        self._lock = threading.Lock()
        self._unsaved = 0

    def get(self, key: str) -> dict[str, Any] | None:
        """The answer that is kept, if any."""
        with self._lock:
            row = self._connection.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, key: str, answer: Mapping[str, Any]) -> None:
        """Keep an answer."""
        with self._lock:
            self._connection.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, json.dumps(answer))
            )
            self._unsaved += 1
            if self._unsaved >= 500:
                self._connection.commit()
                self._unsaved = 0

    def close(self) -> None:
        """Write what is not yet written."""
        with self._lock:
            self._connection.commit()
            self._connection.close()


@dataclass(frozen=True, slots=True)
class Circuit:
    """An ansatz and an observable, as the process takes them."""

    program: str | bytes
    terms: tuple[tuple[str, float], ...]

    @property
    def handle(self) -> str:
        """Digest of both."""
        return digest(self.program, *(part for term in self.terms for part in term))


class EnergySource:
    """One process that computes, behind a cache.

    Args:
        cache: of answers.
        snapshot: name of the device model.
    """

    def __init__(self, cache: EnergyCache, snapshot: str) -> None:
        self._cache = cache
        self._snapshot = snapshot
        self._process: subprocess.Popen[str] | None = None
        self._told: set[str] = set()
        self.computed = 0
        """Answers that were not kept."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.close()
            self._process.stdout.close()
            self._process.wait()
            self._process = None

    def ask(self, circuit: Circuit, op: str, **request: Any) -> dict[str, Any]:
        """The answer to a request about a circuit; see `efaas_qpu.energies` for what may be asked.

        Raises:
            EnergiesFailed: the request was refused, or the process died.
        """
        body = {"op": op, "circuit": circuit.handle, "snapshot": self._snapshot, **request}
        key = digest("energies", VERSION, json.dumps(body, sort_keys=True))
        kept = self._cache.get(key)
        if kept is not None:
            return kept
        self._tell(circuit)
        answer = self._send(body)
        self.computed += 1
        self._cache.put(key, answer)
        return answer

    def bases(self, circuit: Circuit) -> int:
        """Number of measurement bases of a circuit's observable."""
        key = digest("bases", VERSION, circuit.handle)
        kept = self._cache.get(key)
        if kept is None:
            kept = self._tell(circuit, again=True)
            self._cache.put(key, kept)
        return int(kept["bases"])

    def _tell(self, circuit: Circuit, *, again: bool = False) -> dict[str, Any]:
        if circuit.handle in self._told and not again:
            return {}
        binary = isinstance(circuit.program, bytes)
        program = circuit.program if isinstance(circuit.program, bytes) else circuit.program.encode()
        answer = self._send(
            {
                "op": "circuit",
                "handle": circuit.handle,
                "program": base64.b64encode(program).decode(),
                "binary": binary,
                "terms": circuit.terms,
            }
        )
        self._told.add(circuit.handle)
        return answer

    def _send(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if self._process is None:
            # Its own group of threads would only get into the way of the others on the machine.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "efaas_qpu.energies"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(body) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise EnergiesFailed(
                f"the process that computes energies ended with code {process.wait()}; install efaas[qpu]"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EnergiesFailed(f"energies of circuit {body.get('circuit', '')}: {answer['error']}")
        return answer
