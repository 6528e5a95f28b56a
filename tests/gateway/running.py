"""What the gateway's tests run against: a PostgreSQL server of our own, and gateways in threads."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import threading
import uuid
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import psycopg
import pytest
from efaas_gateway.access import LocalAccess
from efaas_gateway.serve import Gateway, Settings
from efaas_gateway.store import Store


def _server_programs() -> Path:
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").is_file():
            return folder
    if (found := shutil.which("initdb")) is not None:
        return Path(found).parent
    pytest.fail("PostgreSQL's server programs are missing; install Debian's package postgresql")


class PostgresServer:
    """A server on a port of its own that can be stopped and started; as root it runs as `postgres`."""

    def __init__(self, folder: Path) -> None:
        self.programs = _server_programs()
        self.folder = folder
        self.data = folder / "data"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.as_user: list[str] = []
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(folder, account.pw_uid, account.pw_gid)
            # A program does this, and not the child of a fork: gRPC's threads make that a risk.
            self.as_user = [
                "setpriv",
                f"--reuid={account.pw_uid}",
                f"--regid={account.pw_gid}",
                "--clear-groups",
            ]
        self._run("initdb", "-D", self.data, "-A", "trust", "-U", "efaas", "--no-sync")
        self.start()

    def _run(self, program: str, *arguments: object) -> None:
        subprocess.run(
            [*self.as_user, str(self.programs / program), *map(str, arguments)],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.folder,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )

    def start(self) -> None:
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder} -c max_connections=60"
        self._run("pg_ctl", "-D", self.data, "-w", "-l", self.folder / "log", "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self.data, "-w", "-m", "immediate", "stop")

    def database(self) -> str:
        """URL of a new, empty database."""
        name = f"t{uuid.uuid4().hex[:12]}"
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="efaas", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return f"postgresql://efaas@127.0.0.1:{self.port}/{name}"


TOKEN = "a-token-for-tests-0123456789"


class RunningGateway:
    """A gateway in a thread of its own, on a port that stays the same when it is started again."""

    def __init__(self, location: str, **settings: Any) -> None:
        self.location = location
        self.settings = settings
        self.stream_port = self.http_port = 0
        self.start()

    def start(self) -> None:
        self.store = Store(self.location)
        self._loop = asyncio.new_event_loop()
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        ready.result(30)

    def _run(self, ready: Future[None]) -> None:
        async def serve() -> None:
            self._ended = asyncio.Event()
            try:
                self.gateway = Gateway(
                    self.store,
                    self.settings.get("access") or LocalAccess(TOKEN),
                    Settings(
                        stream_listen=f"127.0.0.1:{self.stream_port}",
                        http_listen=f"127.0.0.1:{self.http_port}",
                        **{
                            name: value
                            for name, value in self.settings.items()
                            if name not in ("access", "canceller")
                        },
                    ),
                    self.settings.get("canceller"),
                )
                await self.gateway.start()
                self.stream_port = self.gateway.stream_port
                self.http_port = self.gateway.http_port
            except BaseException as error:
                ready.set_exception(error)
                raise
            ready.set_result(None)
            await self._ended.wait()
            await self.gateway.close()

        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(serve())

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(30)
        self.store.close()

    def call(self, coroutine: Any) -> Any:
        """Run a coroutine in the gateway's event loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    def settle(self) -> None:
        """Return when everything that was journalled so far has been derived."""
        assert self.call(self.gateway.derivation.drain(20.0))

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.stream_port}"

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"
