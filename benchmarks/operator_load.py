"""What the operator bears: many sessions at once, and (`--faults`) a long run with everything failing.

**Scale**: 100, 500 and 2,000 sessions are applied at once to a real API server with kube-controller-manager,
QPU servers and a gateway, all on this machine. Runner pods are played by the test kubelet without processes
(they run for a second and say that they are done), so what is measured is the operator and what it asks of
the API server:

- the time from the first request until every session has a first condition;
- writes per session's life, from its creation to its end and deletion, as the API server's audit log has
  them under the operator's service account: statuses, pods, ConfigMaps, finalizers, deletions and events.
  Writes of progress would come on top (played runners make none); those about devices and leases are printed
  apart;
- the largest memory of the operator's process.

A new operator is started for each size, so that its memory is that size's own.

**Faults**: the script of `tests/support/fault_run.py` with 200 sessions.

    python benchmarks/operator.py [--sessions 100 500 2000] [--faults] [--seed 1]

The last lines are ``name: value (target, reached or not)``; the exit code is 0 whether or not they were
reached. `operator.py` beside this file starts it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.cluster import Process, wait_until  # noqa: E402
from tests.support.fault_run import FaultRun, Plan, violations  # noqa: E402
from tests.support.kubelet import Image, Play  # noqa: E402
from tests.support.operating import (  # noqa: E402
    ALL_SESSIONS,
    FINAL,
    SYSTEM,
    Operating,
    elapsed,
    sessions_path,
)

FIRST_CONDITION_S = 60.0
WRITES = 12.0
MEMORY_MIB = 300.0
PLAYED = "efaas/played:test"
DEVICES, SLOTS = 3, 60
_SESSION_RESOURCES = {"vqasessions", "pods", "configmaps", "events"}
_OWN = f"system:serviceaccount:{SYSTEM}:efaas-operator"


def say(words: str) -> None:
    print(words, flush=True)


# --- scale ----------------------------------------------------------------------------------------


class Watching:
    """When each session was first seen with a condition, and in a final state; by a list a second."""

    def __init__(self, world: Operating) -> None:
        self.first: dict[str, float] = {}
        self.final: dict[str, float] = {}
        self._world = world
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Watch no more."""
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.is_set():
            for session in self._world.api.items(ALL_SESSIONS):
                status = session.get("status") or {}
                name, now_s = session["metadata"]["name"], time.monotonic()
                if status.get("conditions"):
                    self.first.setdefault(name, now_s)
                if status.get("state") in FINAL:
                    self.final.setdefault(name, now_s)
            self._ended.wait(1.0)


@dataclass
class Size:
    """What was measured with one number of sessions."""

    sessions: int
    applied_s: float
    first_s: float
    done_s: float
    writes: float
    by_resource: Counter[str]
    other_writes: int
    memory_mib: float
    cpu_s: float
    missing: int


def measure(world: Operating, sessions: int) -> Size:
    """Apply so many sessions at once and see them through to their deletion."""
    # The lease of an installation, not the short one of tests: a machine at its limit renews late.
    election = {"duration": "10s", "renew": "2s"}
    operator = world.start_operator(direct=True, election=election)
    for number in range(DEVICES):
        world.wait_for_device(f"qpu-{number}", within_s=120)
    audited = world.cluster.audit_file.stat().st_size
    names = [f"load-{sessions}-{number:04}" for number in range(sessions)]
    spec = {"program": {"image": PLAYED}, "device": {"qubits": 2}, "shots": 100, "seed": 1}
    watching = Watching(world)
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: world.submit(tenant_of(world, name), name, spec), names))
    applied_s = time.monotonic() - began
    patience_s = 60.0 + 0.2 * sessions
    wait(lambda: len(watching.first) == sessions, patience_s)
    first_s = max(watching.first.values(), default=began) - began
    say(
        f"    {len(watching.first)} of {sessions} have a condition after {first_s:.1f} s "
        f"(applied in {applied_s:.1f} s); operator {peak_mib(operator):.0f} MiB"
    )
    wait(lambda: len(watching.final) == sessions, patience_s)
    if len(watching.final) < sessions:
        say(f"    states: {dict(Counter(world.states().values()))}")
    done_s = max(watching.final.values(), default=began) - began
    missing = 2 * sessions - len(watching.first) - len(watching.final)
    watching.close()
    time.sleep(3.0)
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(lambda name: world.api.delete(f"{sessions_path(tenant_of(world, name))}/{name}"), names)
        )
    wait(lambda: not world.api.items(ALL_SESSIONS, limit=1), patience_s)
    time.sleep(2.0)
    by_resource = writes(world, audited)
    ours = Counter(
        {
            name: count
            for name, count in by_resource.items()
            if re.split("[/ ]", name)[0] in _SESSION_RESOURCES
        }
    )
    size = Size(
        sessions,
        applied_s,
        first_s,
        done_s,
        ours.total() / sessions,
        ours,
        by_resource.total() - ours.total(),
        peak_mib(operator),
        cpu_s(operator),
        missing,
    )
    operator.stop()
    return size


def wait(condition: Callable[[], bool], within_s: float) -> None:
    """Wait as long as it makes sense; what is missing then is seen in the figures."""
    try:
        wait_until("end", condition, within_s=within_s, every_s=0.5)
    except AssertionError:
        say(f"    (gave up waiting after {within_s:.0f} s)")


def tenant_of(world: Operating, name: str) -> str:
    """Namespace of a session."""
    return world.tenants[int(name[-4:]) % len(world.tenants)]


def writes(world: Operating, since_byte: int) -> Counter[str]:
    """The operator's writes by resource and verb, of the audit log from a byte on."""
    counts: Counter[str] = Counter()
    with world.cluster.audit_file.open("rb") as log:
        log.seek(since_byte)
        for line in log:
            entry = json.loads(line)
            if entry["user"]["username"] != _OWN:
                continue
            target = entry.get("objectRef") or {}
            name = "/".join(filter(None, (target.get("resource"), target.get("subresource"))))
            counts[f"{name} {entry['verb']}"] += 1
    return counts


def peak_mib(process: Process) -> float:
    """The most memory that a process has had."""
    if not process.running:
        raise SystemExit(f"the operator has ended:\n{process.tail()}")
    status = Path(f"/proc/{process.pid}/status").read_text()
    return float(status.partition("VmHWM:")[2].split()[0]) / 1024


def cpu_s(process: Process) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def show(size: Size) -> None:
    """Print what was measured with one number of sessions."""
    say(
        f"{size.sessions:5} sessions: applied in {size.applied_s:.1f} s, all have a first condition after "
        f"{size.first_s:.1f} s, all done after {size.done_s:.1f} s; {size.writes:.2f} writes a life, "
        f"{size.other_writes} others; operator {size.memory_mib:.0f} MiB, {size.cpu_s:.1f} s of processor"
        + (f"; {size.missing} MISSING" if size.missing else "")
    )


def scale(sizes: Sequence[int]) -> None:
    """Measure all sizes, and print the figures with their targets."""
    found: list[Size] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="efaas-operator-") as folder:
        images = {PLAYED: Image(play=Play(1.0, 0, json.dumps({"status": "Completed", "reason": "Done"})))}
        with Operating(Path(folder), nodes=DEVICES, images=images, audit=True) as world:
            for number in range(DEVICES):
                world.add_device(f"qpu-{number}", slots=SLOTS, simulation={"noise": "None"})
            for sessions in sizes:
                size = measure(world, sessions)
                found.append(size)
                show(size)
                for name, count in size.by_resource.most_common():
                    say(f"        {count / sessions:6.2f}  {name}")
            say(f"    ({elapsed(began).strip()} in all)")
    largest = found[-1]
    say(f"growth from {found[0].sessions} to {largest.sessions} sessions:")
    for name, values in (
        ("time to all first conditions, per session", [size.first_s / size.sessions for size in found]),
        ("processor time of the operator, per session", [size.cpu_s / size.sessions for size in found]),
        ("writes a life", [size.writes for size in found]),
        ("memory", [size.memory_mib for size in found]),
    ):
        say(
            f"    {name}: "
            + " -> ".join(f"{value:.3g}" for value in values)
            + f" ({values[-1] / values[0]:.2f}x)"
        )
    target(f"first conditions of {largest.sessions} sessions, s", largest.first_s, FIRST_CONDITION_S)
    target("API writes per session life", max(size.writes for size in found), WRITES)
    target("operator memory, MiB", max(size.memory_mib for size in found), MEMORY_MIB)
    target("sessions missing", float(sum(size.missing for size in found)), 0.0)


# --- faults ---------------------------------------------------------------------------------------


def faults(sessions: int, seed: int) -> None:
    """The long form of the fault run, and what was violated."""
    plan = Plan(
        sessions=sessions,
        seed=seed,
        submit_s=0.5 * sessions,
        real=max(1, sessions // 20),
        kills=max(2, sessions // 20),
        losses=max(1, sessions // 60),
        silence_s=25.0,
        accidents=sessions // 8,
        within_s=240.0,
    )
    with (
        tempfile.TemporaryDirectory(prefix="efaas-faults-") as folder,
        Operating(Path(folder) / "world", seed=seed, nodes=4) as world,
    ):
        world.start_operator()
        for name in ("one", "two", "three"):
            world.add_device(name, slots=4, simulation={"noise": "None"})
        for name in ("one", "two", "three"):
            world.wait_for_device(name, within_s=120)
        run = FaultRun(world, plan, say)
        run.run()
        found = violations(run, Path(folder) / "journals")
        faults_done: dict[str, Any] = dict(world.proxy.faults)
    for words in found:
        say(f"VIOLATED  {words}")
    say(f"done to it: {dict(run.done)}; by the proxy: {faults_done}")
    say(f"violations in {sessions} sessions: {len(found)} (0, {'reached' if not found else 'not reached'})")


def target(name: str, value: float, limit: float) -> None:
    """Print a line with a figure and its target."""
    say(f"{name}: {value:.1f} (<= {limit:g}, {'reached' if value <= limit else 'not reached'})")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, nargs="+", help="sizes; with --faults one (200)")
    parser.add_argument("--faults", action="store_true", help="the long run with faults instead")
    parser.add_argument("--seed", type=int, default=1, help="of the faults")
    chosen = parser.parse_args()
    if chosen.faults:
        faults((chosen.sessions or [200])[0], chosen.seed)
    else:
        scale(chosen.sessions or [100, 500, 2000])


if __name__ == "__main__":
    main()
