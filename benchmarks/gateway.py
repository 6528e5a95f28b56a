"""Figures of the gateway, each beside its reference, measured in the same run; the last lines judge them.

1. **Journal stream**: wall time of a durable append to a gateway process on loopback (SQLite), interleaved
   with a sync of a file of the same size alone. What the stream adds is the difference of the two medians.
2. **Load**: many sessions at once, each appending at a steady rate on a stream of its own; append latency,
   what was lost or doubled (every journal is read back and compared), sessions against latency as they grow.
3. **Page**: wall time until the overview of a store with many sessions shows its rows, in headless Chromium,
   and of the API request behind it, as sessions grow.

The load comes from another process on the same machine and shares its cores with the gateway; what it takes
of them is printed (`benchmarks/frames.py` says how it is kept small).

    python benchmarks/gateway.py [stream|load|page] [--sessions 500] [--rate 10] [--seconds 20] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TOKEN = "a-token-for-benchmarks-0123"


class GatewayProcess:
    """`efaas-gateway serve` on a new SQLite file."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "gateway.db"
        (folder / "token").write_text(TOKEN)
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "efaas_gateway", "serve", "--store", str(self.store),
                "--token-file", str(folder / "token"), "--listen", "127.0.0.1:0",
                "--stream-listen", "127.0.0.1:0",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        ports = json.loads(self.process.stdout.readline())["listening"]
        self.stream, self.http = f"127.0.0.1:{ports['stream']}", f"http://127.0.0.1:{ports['http']}"

    def cpu_s(self) -> tuple[float, float]:
        """Processor seconds that the acknowledging process and the deriving one have used."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        pids = [
            int(pid) for path in children.parent.parent.glob("*/children") for pid in path.read_text().split()
        ]
        return _cpu_s(self.process.pid), sum(_cpu_s(pid) for pid in pids)

    def close(self) -> None:
        """End it as told."""
        self.process.terminate()
        self.process.communicate(timeout=60)


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def record(number: int, parameters: int = 16) -> dict[str, Any]:
    """An iteration as a runner journals it: about 1 kB."""
    point = [0.1 * number + 0.01 * index for index in range(parameters)]
    return {
        "kind": "iteration", "iteration": number, "evaluation": number,
        "asked": {"points": [point], "overlaps": []},
        "told": {"values": [-1.0 + 1.0 / (number + 1)], "std_errors": [0.01], "overlaps": []},
        "energy": -1.0 + 1.0 / (number + 1), "std_error": 0.01, "iterations_done": number + 1,
        "cpu_s": 0.001, "elapsed_s": 0.1 * number, "iteration_s": 0.1,
        "jobs": [{
            "id": f"{number}-0123456789abcdef0123456789abcdef", "evaluation": number, "device": "lagos",
            "calibration_epoch": 1, "calibration_age_s": 0.1 * number, "shots": 4096, "qpu_s": 1.0,
            "kept": False, "ttns_s": 0.001, "ttns_device_s": 0.001,
            "timing": {"queue_s": 0.0, "wall_queue_s": 0.0, "wall_calibration_s": 0.0,
                       "wall_execution_s": 0.01, "server_s": 0.02, "round_trip_s": 0.021},
        }],
    }  # fmt: skip


def quantiles(samples: list[float]) -> dict[str, float]:
    """Milliseconds."""
    ordered = sorted(samples)
    pick = lambda part: 1e3 * ordered[min(len(ordered) - 1, int(part * len(ordered)))]  # noqa: E731
    return {"p50": pick(0.5), "p90": pick(0.9), "p99": pick(0.99), "max": 1e3 * ordered[-1]}


# --- 1: one runner ----------------------------------------------------------------------------------


def measure_stream(appends: int) -> dict[str, Any]:
    from efaas.journal import DirectoryJournal
    from efaas.journal.remote import GatewayJournal

    with tempfile.TemporaryDirectory(dir=".", prefix=".gateway-bench-") as name:
        folder = Path(name)
        gateway = GatewayProcess(folder)
        remote = GatewayJournal(
            gateway.stream, "session", "bench/one", buffer=folder / "buffer", lease_epoch=1, token=TOKEN
        )
        local = DirectoryJournal(folder / "journal")
        alone = os.open(folder / "alone", os.O_RDWR | os.O_CREAT | os.O_APPEND)
        samples: dict[str, list[float]] = {"stream": [], "directory": [], "sync alone": []}

        def sync(body: dict[str, Any]) -> None:
            os.write(alone, json.dumps(body).encode())
            os.fdatasync(alone)

        steps = {"stream": remote.append, "directory": local.append, "sync alone": sync}
        for number in range(appends + 20):
            body = record(number)
            for kind, step in steps.items():
                # An iteration has a pause between its appends, as a runner's job takes its time.
                began = time.perf_counter()
                step(body)
                if number >= 20:
                    samples[kind].append(time.perf_counter() - began)
        os.close(alone)
        spilled = (folder / "buffer" / "journal.jsonl").exists()
        remote.close()
        local.close()
        gateway.close()
    result: dict[str, Any] = {kind: quantiles(values) for kind, values in samples.items()}
    differences = [a - b for a, b in zip(samples["stream"], samples["sync alone"], strict=True)]
    result["added to a sync, p50 (ms)"] = 1e3 * statistics.median(differences)
    result["turned to its own disk"] = spilled
    result["n"] = appends
    return result


# --- 2: many runners --------------------------------------------------------------------------------


def _load(endpoint: str, first: int, count: int, rate: float, seconds: float, out: Any) -> None:
    """All sessions, in one process; see `benchmarks.frames`."""
    out.put(asyncio.run(_run_load(endpoint, first, count, rate, seconds)))


async def _run_load(
    endpoint: str, first: int, count: int, rate: float, seconds: float
) -> tuple[list[float], int, int, float]:
    from frames import Writer

    total = int(rate * seconds)
    bodies = [json.dumps(record(number), separators=(",", ":")).encode() for number in range(total)]
    loop = asyncio.get_running_loop()
    writers = []
    for index in range(count):
        name = f"bench{index % 10}/s{first + index}"
        writer = Writer(loop.time)
        host, _, port = endpoint.rpartition(":")
        await loop.create_connection(lambda writer=writer: writer, host, int(port))  # type: ignore[misc]
        writers.append(writer)
        writer.open(name, f"writer-{first + index}", TOKEN)
    await asyncio.wait_for(asyncio.gather(*(writer.opened for writer in writers)), 120.0)
    cpu_s = time.process_time()
    began = loop.time() + 0.5
    late = 0
    # Sessions are spread evenly over each interval, as independent ones are.
    for number in range(total):
        for index, writer in enumerate(writers):
            pause = began + (number + index / count) / rate - loop.time()
            if pause > 0.001:
                await asyncio.sleep(pause)
            late += pause < -0.1
            writer.append(number, bodies[number])
        await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.gather(*(writer.has(total) for writer in writers)), 120.0)
    for writer in writers:
        writer.close()
    latencies = [value for writer in writers for value in writer.latencies]
    return latencies, count * total, late, time.process_time() - cpu_s


def measure_load(sessions: int, rate: float, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=".", prefix=".gateway-bench-") as name:
        folder = Path(name)
        gateway = GatewayProcess(folder)
        # What starting cost is not the appends'; the deriving process starts a moment later than the other.
        time.sleep(3.0)
        started_s, derive_started_s = gateway.cpu_s()
        context = multiprocessing.get_context("spawn")
        out = context.Queue()
        processes = [context.Process(target=_load, args=(gateway.stream, 0, sessions, rate, seconds, out))]
        for process in processes:
            process.start()
        answers = [out.get(timeout=300 + 10 * seconds) for _ in processes]
        for process in processes:
            process.join()
        behind_s = _derived(gateway, sessions * int(rate * seconds))
        cpu_s, deriving_s = gateway.cpu_s()
        gateway.close()
        lost, doubled = _check(gateway.store, sessions, int(rate * seconds))
    latencies = [value for answer in answers for value in answer[0]]
    return {
        "sessions": sessions,
        "updates a second, each": rate,
        "seconds": seconds,
        "sent": sum(answer[1] for answer in answers),
        "acknowledged": len(latencies),
        "sent late": sum(answer[2] for answer in answers),
        "append (ms)": quantiles(latencies),
        "processor time of acknowledging, each append (ms)": 1e3
        * (cpu_s - started_s)
        / max(1, len(latencies)),
        "processor time of deriving, each append (ms)": 1e3
        * (deriving_s - derive_started_s)
        / max(1, len(latencies)),
        "derived after the last acknowledgement (s)": behind_s,
        "processor time of the load, each append (ms)": 1e3
        * sum(answer[3] for answer in answers)
        / max(1, len(latencies)),
        "lost": lost,
        "doubled or changed": doubled,
    }


def _derived(gateway: GatewayProcess, total: int) -> float:
    """Wait until everything is derived; wall seconds."""
    import sqlite3

    began = time.perf_counter()
    while time.perf_counter() - began < 120.0:
        with sqlite3.connect(gateway.store) as connection:
            found = connection.execute("SELECT count(*) FROM evaluations").fetchone()[0]
        connection.close()
        if found == total:
            return time.perf_counter() - began
        time.sleep(0.1)
    raise RuntimeError(f"{found} of {total} evaluations were derived within two minutes")


def _check(store: Path, sessions: int, total: int) -> tuple[int, int]:
    """Read every journal back: what is missing, and what is not what was sent."""
    import sqlite3

    expected = [json.dumps(record(number), separators=(",", ":")).encode() for number in range(total)]
    with sqlite3.connect(store) as connection:
        keys = [row[0] for row in connection.execute("SELECT id FROM journals")]
        lost, wrong = (sessions - len(keys)) * total, 0
        for key in keys:
            found = dict(
                connection.execute("SELECT sequence, body FROM journal_records WHERE journal = ?", (key,))
            )
            lost += sum(number not in found for number in range(total))
            wrong += sum(number >= total or bytes(body) != expected[number] for number, body in found.items())
    return lost, wrong


# --- 3: the page ------------------------------------------------------------------------------------


def measure_page(sessions: int) -> dict[str, Any]:
    import httpx
    from efaas_gateway.store import Append, Store
    from efaas_gateway.store.journals import append_all, open_journal
    from efaas_gateway.store.pending import derive_pending
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory(dir=".", prefix=".gateway-bench-") as name:
        folder = Path(name)
        store = Store(folder / "gateway.db")
        with store.write() as connection:
            for index in range(sessions):
                head = open_journal(
                    connection, "session", f"bench{index % 10}/s{index}", tenant=f"bench{index % 10}",
                    lease_epoch=1, writer="benchmark", now=float(index),
                )  # fmt: skip
                appends = [
                    Append(head.id, 1, "benchmark", n, json.dumps(record(n)).encode()) for n in range(5)
                ]
                append_all(connection, appends, float(index))
            derive_pending(connection, now=float(sessions))
        store.close()
        gateway = GatewayProcess(folder)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with httpx.Client(headers=headers) as client:
            requests = []
            for _ in range(10):
                began = time.perf_counter()
                client.get(f"{gateway.http}/api/v1/sessions?limit=200").raise_for_status()
                requests.append(time.perf_counter() - began)
        opened = []
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium") or "/usr/bin/chromium",
                args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"],
            )
            for _ in range(7):
                context = browser.new_context()
                page = context.new_page()
                began = time.perf_counter()
                page.goto(f"{gateway.http}/#token={TOKEN}", wait_until="commit")
                page.wait_for_selector(".sessions tbody tr:nth-child(50)")
                opened.append(time.perf_counter() - began)
                context.close()
            browser.close()
        gateway.close()
    return {"sessions": sessions, "page (ms)": quantiles(opened), "request (ms)": quantiles(requests), "n": 7}


def verdicts(result: dict[str, Any]) -> list[str]:
    """One line for each figure that has a target."""

    def line(name: str, value: float, unit: str, target: float) -> str:
        reached = "reached" if value <= target else "not reached"
        return f"{name}: {value:.3g} {unit} (<= {target:g} {unit}, {reached})"

    lines = []
    if "stream" in result:
        lines.append(line("append added, p50", result["stream"]["added to a sync, p50 (ms)"], "ms", 2.0))
    for load in result.get("load", ())[-1:]:
        name = f"{load['sessions']} sessions x {load['updates a second, each']:g}/s"
        lines.append(line(f"{name}, append p99", load["append (ms)"]["p99"], "ms", 100.0))
        lines.append(line(f"{name}, records lost", load["lost"], "records", 0))
        lines.append(line(f"{name}, records doubled or changed", load["doubled or changed"], "records", 0))
        costs = [f"{load[f'processor time of {what}, each append (ms)']:.3f}" for what in _COSTS]
        lines.append(
            f"processor time an append (ms): {', '.join(map(' '.join, zip(_COSTS, costs, strict=True)))}"
        )
    lines.extend(
        line(f"page with {page['sessions']} sessions, p50", page["page (ms)"]["p50"], "ms", 1000.0)
        for page in result.get("page", ())[-1:]
    )
    return lines


_COSTS = ("acknowledging", "deriving", "the load")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("which", nargs="*", default=[], help="stream, load, page; all if none is named")
    parser.add_argument("--appends", type=int, default=300)
    parser.add_argument("--sessions", type=int, default=500)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    which = options.which or ["stream", "load", "page"]
    result: dict[str, Any] = {"cores": os.cpu_count(), "load average before": os.getloadavg()[0]}
    if "stream" in which:
        result["stream"] = measure_stream(options.appends)
    if "load" in which:
        steps = sorted({max(1, options.sessions // 5), options.sessions})
        result["load"] = [measure_load(step, options.rate, options.seconds) for step in steps]
    if "page" in which:
        result["page"] = [measure_page(count) for count in (100, 1000)]
    result["load average after"] = os.getloadavg()[0]
    text = json.dumps(result, indent=2)
    print(text)
    print("\n".join(verdicts(result)))
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
