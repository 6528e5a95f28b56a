"""The run folder: everything a run is, on disk, so that it can go on after anything.

::

    runs/20260314-150926-h2/
    ├── manifest.yaml            the documents as they are run: defaults and overrides filled in
    ├── run.json                 when and by which version it was started
    ├── devices/<name>/          device.yaml, token (mode 0600), address, data/ (the server's log)
    ├── sessions/<namespace>.<name>/
    │   ├── session.yaml         the VQASession
    │   ├── program.py           the user's program, if it has one
    │   ├── lease                epoch of the last runner that was started
    │   ├── journal/             what the runner asked and was told
    │   └── outcome.json         how it ended; a session that has it is not run again
    ├── logs/                    stderr of every process
    ├── history.jsonl            one line for each evaluation of every session
    ├── result.json              the machine-readable summary
    └── convergence.png

Only one `efaas run` may work in a folder; a lock that the kernel drops with the process keeps it so. Small
files are replaced as a whole (written beside, synced, renamed), so that ``kill -9`` leaves the old or the new
one.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from efaas.api.load import FILE_LIMIT_BYTES, Documents, load_documents
from efaas.api.meta import wire
from efaas.api.session import VQASession
from efaas.errors import InputError

_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class RunFolder:
    """Paths and small files of one run.

    Args:
        path: the folder; `create` and `open_existing` are the ways to get one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    @classmethod
    def create(cls, runs: Path, name: str, started: datetime) -> RunFolder:
        """Make a new folder ``<runs>/<time>-<name>`` and lock it.

        Raises:
            InputError: it cannot be made.
        """
        stem = f"{started:%Y%m%d-%H%M%S}-{re.sub(r'[^a-zA-Z0-9._-]+', '-', name).strip('-.') or 'run'}"
        for attempt in range(1, 1000):
            path = runs / (stem if attempt == 1 else f"{stem}-{attempt}")
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                if not runs.is_dir():
                    raise InputError("is not a folder; choose another --runs-dir", place=str(runs)) from None
                continue
            except OSError as error:
                raise InputError(
                    f"cannot be made: {error.strerror}; choose another --runs-dir", place=str(path)
                ) from None
            folder = cls(path)
            folder.lock()
            for part in ("devices", "sessions", "logs"):
                (path / part).mkdir()
            return folder
        raise InputError("a thousand runs of this name have started in this second", place=str(runs))

    @classmethod
    def open_existing(cls, run: str, runs: Path) -> RunFolder:
        """Find and lock the folder of an earlier run, given as a path or as a name in `runs`.

        Raises:
            InputError: there is none, or another `efaas run` works in it.
        """
        for path in (Path(run), runs / run):
            if (path / "manifest.yaml").is_file():
                folder = cls(path)
                folder.lock()
                return folder
        known = sorted((path.parent.name for path in runs.glob("*/manifest.yaml")), reverse=True)[:3]
        hint = f"the last ones are {', '.join(known)}" if known else f"{runs} holds none"
        raise InputError(f"is not a run that can go on; {hint}", place=f"--resume {run}")

    def lock(self) -> None:
        """Take the folder for this process.

        Raises:
            InputError: another process has it.
        """
        descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise InputError(
                f"is being run by process {holder or 'unknown'}; end that one first", place=str(self.path)
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock = descriptor

    def unlock(self) -> None:
        """Give the folder back; the end of the process does the same."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # --- parts --------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The run's name, as `--resume` takes it."""
        return self.path.name

    @property
    def history(self) -> Path:
        """One JSON line for each evaluation."""
        return self.path / "history.jsonl"

    @property
    def result(self) -> Path:
        """The summary."""
        return self.path / "result.json"

    @property
    def plot(self) -> Path:
        """The picture."""
        return self.path / "convergence.png"

    def device(self, name: str) -> Path:
        """Folder of a device."""
        return self.path / "devices" / name

    def session(self, key: str) -> Path:
        """Folder of a session, by its ``namespace/name``."""
        return self.path / "sessions" / key.replace("/", ".")

    def log(self, name: str) -> Path:
        """File that takes a process's stderr."""
        return self.path / "logs" / f"{name.replace('/', '.')}.log"

    # --- documents ----------------------------------------------------------------------------------

    def write_documents(self, documents: Documents, run: Mapping[str, Any]) -> None:
        """Write the manifest, what each process reads of it, and `run.json`."""
        config_maps = {key: _config_map(*key, data) for key, data in documents.config_maps.items()}
        for device in documents.devices:
            folder = self.device(device.name)
            folder.mkdir(exist_ok=True)
            wanted = device.spec.model.config_map
            extra = [body for (_, name), body in config_maps.items() if wanted and name == wanted.name]
            replace_file(folder / "device.yaml", _yaml([wire(device), *extra]))
            self._write_token(folder / "token")
        for session in documents.sessions:
            folder = self.session(session.key)
            folder.mkdir(exist_ok=True)
            (folder / "journal").mkdir(exist_ok=True)
            replace_file(folder / "session.yaml", _yaml([wire(session)]))
            self._write_program(session, documents, folder)
        write_json(self.path / "run.json", run)
        # Last: a folder with a manifest is a run that can be resumed.
        bodies = [*map(wire, documents.devices), *config_maps.values(), *map(wire, documents.sessions)]
        for index, text in reversed(list(enumerate(_chunks(bodies)))):
            replace_file(
                self.path / ("manifest.yaml" if index == 0 else f"manifest-{index + 1:03}.yaml"), text
            )

    def read_documents(self) -> Documents:
        """The documents as they are run.

        Raises:
            ManifestFaults: somebody has damaged the manifest.
        """
        return load_documents([self.path / "manifest.yaml", *sorted(self.path.glob("manifest-*.yaml"))])

    def read_run(self) -> dict[str, Any]:
        """What `run.json` holds; empty when it is damaged."""
        return read_json(self.path / "run.json") or {}

    @staticmethod
    def _write_token(path: Path) -> None:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32))

    @staticmethod
    def _write_program(session: VQASession, documents: Documents, folder: Path) -> None:
        program = session.spec.program
        if program is None or program.script is None:
            return
        data = documents.config_maps[session.metadata.namespace, program.script.name]
        replace_file(folder / "program.py", data[program.script.key])

    # --- leases and outcomes ------------------------------------------------------------------------

    def next_lease(self, key: str) -> int:
        """Take a new lease epoch for a session: higher than every earlier one, on disk before it is used."""
        path = self.session(key) / "lease"
        try:
            last = int(path.read_text())
        except (OSError, ValueError):
            last = 0
        replace_file(path, f"{last + 1}\n")
        return last + 1

    def write_outcome(self, key: str, outcome: Mapping[str, Any]) -> None:
        """Keep how a session ended."""
        write_json(self.session(key) / "outcome.json", outcome)

    def read_outcome(self, key: str) -> dict[str, Any] | None:
        """How a session ended in an earlier run of this folder; None when it did not."""
        return read_json(self.session(key) / "outcome.json")


def write_json(path: Path, value: Any) -> None:
    """Replace a file by a JSON document; not-a-number is written as null, which every reader knows."""
    replace_file(path, json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file; None when there is none or it cannot be read."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def finite(value: Any) -> Any:
    """The value with every float that is not finite replaced by None, as JSON has no word for them."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def replace_file(path: Path, text: str) -> None:
    """Replace a small file as a whole, on disk when this returns."""
    beside = path.with_name(f".{path.name}.new")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _config_map(namespace: str, name: str, data: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": dict(data),
    }


def _yaml(bodies: Sequence[Mapping[str, Any]]) -> str:
    text = yaml.dump_all(bodies, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=110)
    assert isinstance(text, str)
    return text


def _chunks(bodies: Sequence[Mapping[str, Any]]) -> list[str]:
    """YAML texts of the documents, each small enough to be read again."""
    chunks = [""]
    for body in bodies:
        text = "---\n" + _yaml([body])
        if chunks[-1] and len((chunks[-1] + text).encode()) > FILE_LIMIT_BYTES // 2:
            chunks.append("")
        chunks[-1] += text
    return chunks
