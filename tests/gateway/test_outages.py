"""The real process `efaas-gateway serve`, taken away from its writers: for tens of seconds, or its disk."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from efaas.journal.remote import GatewayJournal, Limits
from tests.gateway.running import TOKEN
from tests.gateway.test_store_journals import iteration
from tests.support.processes import wait_until

OUTAGE_S = float(os.environ.get("EFAAS_TEST_OUTAGE_S", "3"))
"""How long the gateway is away; 60 is what is promised, and takes as long."""

WRITERS = 3


class GatewayProcess:
    """A gateway in a process of its own that comes back on the same ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {"http": 0, "stream": 0}
        (folder / "token").write_text(TOKEN)
        self.start()

    def start(self) -> None:
        command = [
            sys.executable, "-m", "efaas_gateway", "serve", "--store", str(self.folder / "gateway.db"),
            "--token-file", str(self.folder / "token"), "--listen", f"127.0.0.1:{self.ports['http']}",
            "--stream-listen", f"127.0.0.1:{self.ports['stream']}",
        ]  # fmt: skip
        with (self.folder / "gateway.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        self.ports = json.loads(self.process.stdout.readline())["listening"]

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        self.process.communicate(timeout=60)
        return self.process.returncode

    def journal(self, name: str, **limits: Any) -> GatewayJournal:
        return GatewayJournal(
            f"127.0.0.1:{self.ports['stream']}", "session", name, buffer=self.folder / name.replace("/", "."),
            lease_epoch=1, token=TOKEN, limits=Limits(connect_s=60.0, **limits),
        )  # fmt: skip

    def get(self, path: str) -> httpx.Response:
        return httpx.get(
            f"http://127.0.0.1:{self.ports['http']}/api/v1{path}",
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=60,
        )

    def evaluations(self, name: str, length: int) -> list[int]:
        """Numbers of all evaluations, once there are as many as wanted: they are derived behind."""

        def derived() -> Any:
            answer = self.get(f"/sessions/{name}/trajectory?points=20000").json()
            return answer["total"] >= length and answer

        return list(wait_until(f"{length} evaluations", derived, within_s=60)["columns"]["evaluation"])


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    running = GatewayProcess(tmp_path)
    yield running
    if running.process.poll() is None:
        assert running.end() == 0


def write(journal: GatewayJournal, ended: threading.Event, written: list[int]) -> None:
    number = 0
    while not ended.wait(0.02):
        journal.append(json.loads(iteration(number, -1.0 / (1 + number))), durable=number % 3 == 0)
        number += 1
    written.append(number)


@pytest.mark.timeout(60 + 2 * OUTAGE_S)
def test_an_outage_of_tens_of_seconds_loses_and_doubles_nothing(gateway: GatewayProcess) -> None:
    journals = [gateway.journal(f"red/s{index}") for index in range(WRITERS)]
    ended, counts = threading.Event(), [list[int]() for _ in journals]
    threads = [
        threading.Thread(target=write, args=(journal, ended, count))
        for journal, count in zip(journals, counts, strict=True)
    ]
    for thread in threads:
        thread.start()
    wait_until("records of each", lambda: min(len(journal) for journal in journals) >= 5)
    gateway.end(signal.SIGKILL)
    before = [len(journal) for journal in journals]
    # The runners go on at their pace all the while.
    assert not ended.wait(OUTAGE_S)
    during = [len(journal) for journal in journals]
    assert all(after > first for first, after in zip(before, during, strict=True))
    gateway.start()
    ended.set()
    for thread in threads:
        thread.join()
    for index, (journal, (count,)) in enumerate(zip(journals, counts, strict=True)):
        assert journal.delivered(120.0)
        assert [record["evaluation"] for record in journal.records()] == list(range(count))
        # What is shown is what was journalled, each evaluation once.
        assert gateway.evaluations(f"red/s{index}", count) == list(range(count))
        session = gateway.get(f"/sessions/red/s{index}").json()
        assert session["evaluations"] == count
        journal.close()


def test_a_disk_that_takes_no_more_is_said_and_loses_nothing(gateway: GatewayProcess) -> None:
    """The kernel refuses the gateway's writes past a file size, as a full disk refuses them."""
    with gateway.journal("red/a") as journal:
        for number in range(10):
            journal.append({"n": number, "text": "x" * 1000})
        log = gateway.folder / "gateway.db-wal"
        _, hard = resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (log.stat().st_size + 8192, hard))
        for number in range(10, 60):
            journal.append({"n": number, "text": "x" * 1000}, durable=number == 59)
        assert not journal.delivered(0.5)
        # It goes on answering, and says in its log why it takes nothing.
        assert gateway.get("/sessions/red/a").status_code == 200
        assert "the database answers" in (gateway.folder / "gateway.log").read_text()
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        assert journal.delivered(60.0)
        assert [record["n"] for record in journal.records()] == list(range(60))
    assert gateway.end() == 0
