"""Many sessions through their whole life while all around the operator fails; and what must hold after.

`FaultRun` draws a script from one seed: which sessions are submitted when, which are deleted, suspended, or
fail by themselves; when the operator is killed, a runner is evicted, deleted or runs out of memory, a node
falls silent, a kubelet is started anew. All the while the proxy breaks the operator's requests and watches.
Then the faults end, and every session must get where it belongs.

`violations` looks at what is left, by other means than the operator's own: the statuses in the API server,
the journals in the gateway's store, the charges in the QPU servers, the processes of the nodes.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from efaas.api.wire import qpu_pb2, qpu_pb2_grpc
from efaas.errors import InputError
from efaas.journal import DirectoryJournal
from tests.support.cluster import ApiError, wait_until
from tests.support.fault_proxy import QUIET, Rates
from tests.support.operating import ALL_SESSIONS, FINAL, SYSTEM, Operating, sessions_path

Key = tuple[str, str]


@dataclass(frozen=True)
class Plan:
    """How much is done to the operator.

    Args:
        sessions: in all.
        seed: of everything that is drawn.
        submit_s: over which they are submitted.
        real: how many of them have the project's own runner; the others the light one.
        kills: of the operator.
        losses: nodes that fall silent, one after the other.
        silence_s: how long each of them stays so.
        accidents: of runner pods.
        rates: of the proxy's faults.
        within_s: in which everything must be over, from the last submission.
    """

    sessions: int = 12
    seed: int = 1
    submit_s: float = 6.0
    real: int = 1
    kills: int = 1
    losses: int = 1
    silence_s: float = 12.0
    accidents: int = 3
    rates: Rates = field(default_factory=Rates)
    within_s: float = 90.0


@dataclass
class Wanted:
    """What is to become of one session."""

    key: Key
    final: str
    """``gone`` for one that is deleted on its way."""
    evaluations: int
    light: bool


@dataclass
class FaultRun:
    """One run.

    Args:
        world: with devices that are ready.
        plan: what to do.
        say: takes lines of the story.
    """

    world: Operating
    plan: Plan
    say: Callable[[str], None] = lambda _: None
    wanted: dict[Key, Wanted] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    """What was done, by name."""

    def run(self) -> None:
        """Carry the script out and wait until every session is where it belongs, or time is up."""
        chance = random.Random(self.plan.seed)
        script = sorted(self._script(chance), key=lambda step: step[0])
        self.began = time.monotonic()
        self.world.proxy.rates = self.plan.rates
        for moment, name, act in script:
            time.sleep(max(0.0, self.began + moment - time.monotonic()))
            if act():
                self.done[name] += 1
                self._tell(name)
        last = time.monotonic()
        self._tell("the last step of the script; waiting")
        self._wait(last + self.plan.within_s)
        self.world.proxy.rates = QUIET
        self._tell(f"over; faults {dict(self.world.proxy.faults)}")

    def _wait(self, end: float) -> None:
        told = ""
        while time.monotonic() < end:
            states = self.world.states()
            left = {
                key: states.get(key, "gone")
                for key, wanted in self.wanted.items()
                if not self._over(wanted, states)
            }
            if not left:
                return
            line = f"{len(left)} left: {dict(Counter(left.values()))}"
            if line != told:
                told = line
                self._tell(line)
            if self.world.operators and not self.world.operators[-1].running:
                # A leader that lost its Lease ends; a cluster would start it again.
                self.done["restart after its own end"] += 1
                self.world.start_operator(self.world.proxy.rates)
            time.sleep(0.5)

    @staticmethod
    def _over(wanted: Wanted, states: dict[Key, str]) -> bool:
        state = states.get(wanted.key, "gone")
        return state == "gone" if wanted.final == "gone" else state in FINAL

    def _tell(self, words: str) -> None:
        self.say(f"{time.monotonic() - self.began:6.1f} s  {words}")

    # --- the script -------------------------------------------------------------------------------

    def _script(self, chance: random.Random) -> Iterable[tuple[float, str, Callable[[], bool]]]:
        plan = self.plan
        for number in range(plan.sessions):
            at = chance.uniform(0, plan.submit_s)
            yield from self._session(chance, number, at)
        span = plan.submit_s + 10.0 + 0.1 * plan.sessions
        for _ in range(plan.kills):
            yield chance.uniform(1.0, span), "kill of the operator", self._kill
        for number in range(plan.losses):
            at = span * (number + chance.uniform(0.2, 0.6)) / plan.losses
            node = f"node-{chance.randrange(len(self.world.kubelet.nodes))}"
            yield at, f"silence of {node}", lambda node=node: self._silence(node)
            yield at + plan.silence_s, f"return of {node}", lambda node=node: self._restore(node)
        for _ in range(plan.accidents):
            name = chance.choice(["eviction", "memory", "deletion", "kubelet"])
            at, draw = chance.uniform(2.0, span), chance.random()
            yield at, f"accident: {name}", lambda name=name, draw=draw: self._accident(name, draw)

    def _session(
        self, chance: random.Random, number: int, at: float
    ) -> Iterable[tuple[float, str, Callable[[], bool]]]:
        world, namespace, name = self.world, chance.choice(self.world.tenants), f"s{number:04}"
        evaluations, think_s = chance.randint(2, 5), chance.uniform(0.05, 0.5)
        fate = chance.random()
        light = number >= self.plan.real
        final = "Failed" if light and fate < 0.05 else "gone" if fate < 0.15 else "Completed"
        if light:
            spec = world.light(evaluations, think_s, 1 if final == "Failed" else 0, seed=number)
        else:
            spec = world.declared(evaluations, seed=number)
        key = (namespace, name)

        def submit() -> bool:
            world.submit(namespace, name, spec)
            self.wanted[key] = Wanted(key, final, evaluations, light)
            return True

        yield at, "submission", submit
        if final == "gone":
            yield at + chance.uniform(0.1, 15.0), "deletion", lambda: self._delete(key)
        elif 0.15 <= fate < 0.25:
            pause = at + chance.uniform(0.5, 8.0)
            yield pause, "suspension", lambda: self._suspend(key, True)
            yield pause + chance.uniform(0.5, 6.0), "resumption", lambda: self._suspend(key, False)

    def _delete(self, key: Key) -> bool:
        self.world.api.delete(f"{sessions_path(key[0])}/{key[1]}")
        return True

    def _suspend(self, key: Key, suspend: bool) -> bool:
        change = {"spec": {"suspend": suspend}}
        self.world.api.patch(f"{sessions_path(key[0])}/{key[1]}", change)
        return True

    def _kill(self) -> bool:
        self.world.kill_operators()
        self.world.start_operator(self.plan.rates)
        return True

    def _silence(self, node: str) -> bool:
        self.world.kubelet.silence(node)
        return True

    def _restore(self, node: str) -> bool:
        self.world.kubelet.restore(node)
        return True

    def _accident(self, name: str, draw: float) -> bool:
        """Something happens to one of the runners that run now, or to a node; nothing where none runs."""
        kubelet = self.world.kubelet
        if name == "kubelet":
            node = sorted(kubelet.nodes)[int(draw * len(kubelet.nodes))]
            if kubelet.nodes[node].silent:
                return False
            kubelet.restart(node)
            return True
        running = sorted(key for key in kubelet.running() if key[0] in self.world.tenants)
        if not running:
            return False
        namespace, pod = running[int(draw * len(running))]
        try:
            match name:
                case "eviction":
                    kubelet.evict(namespace, pod)
                case "memory":
                    kubelet.kill_for_memory(namespace, pod)
                case "deletion":
                    self.world.api.delete(f"/api/v1/namespaces/{namespace}/pods/{pod}")
        except (LookupError, ApiError):
            return False
        return True


# --- what must hold afterwards --------------------------------------------------------------------


def violations(run: FaultRun, folder: Path) -> list[str]:
    """Everything that is not as it must be, in sentences; journals are written into `folder`."""
    found = []
    sessions = {
        (each["metadata"]["namespace"], each["metadata"]["name"]): each
        for each in run.world.api.items(ALL_SESSIONS)
    }
    for key, wanted in run.wanted.items():
        session = sessions.get(key)
        state = "gone" if session is None else (session.get("status") or {}).get("state", "")
        if state != wanted.final:
            status = (session or {}).get("status") or {}
            found.append(
                f"{'/'.join(key)} is {state or 'unknown'}, not {wanted.final}: {status.get('reason')}"
            )
    found += [f"{'/'.join(key)} was never submitted" for key in sessions.keys() - run.wanted.keys()]
    found += _journal_violations(run, folder)
    found += _charge_violations(run, sessions)
    found += _orphans(run, sessions)
    return found


def _journal_violations(run: FaultRun, folder: Path) -> list[str]:
    """One writer at a time: epochs only rise, no evaluation twice, nobody writes after a newer one began."""
    from efaas_gateway.store import Store
    from efaas_gateway.store.backup import export_journal

    found = []
    store = Store(str(run.world.store), migrate=False)
    try:
        for key, wanted in run.wanted.items():
            name = "/".join(key)
            target = folder / name.replace("/", ".")
            if wanted.final == "gone":
                continue
            try:
                export_journal(store, name, target)
            except InputError as error:
                found.append(f"{name}: {error}")
                continue
            journal = DirectoryJournal(target, 1_000_000)
            records = list(journal.records())
            journal.close()
            found += [f"{name}: {words}" for words in journal_faults(records, wanted)]
    finally:
        store.close()
    return found


def journal_faults(records: list[dict[str, Any]], wanted: Wanted) -> list[str]:
    """What is wrong with one session's journal."""
    iterations = [record for record in records if record["kind"] == "iteration"]
    found = []
    numbers = [record["evaluation"] for record in iterations]
    if sorted(set(numbers)) != numbers:
        found.append(f"iterations {numbers} are not each there once and in order")
    if wanted.light:
        if numbers != list(range(wanted.evaluations)):
            found.append(f"has iterations {numbers}, not {wanted.evaluations}")
        epochs = [record["epoch"] for record in records if "epoch" in record]
        if epochs != sorted(epochs):
            found.append(f"an older runner wrote after a newer one: epochs {epochs}")
        for before, after in itertools.pairwise(iterations):
            if before["epoch"] != after["epoch"] and before["to_s"] > after["from_s"]:
                found.append(f"epochs {before['epoch']} and {after['epoch']} ran at the same time")
    return found


def charges(world: Operating, keys: Iterable[Key]) -> dict[str, dict[Key, tuple[int, float]]]:
    """Shots and device seconds that each device has charged each session, as its server says."""
    token = world.token("efaas-operator", "efaas-qpu")
    found: dict[str, dict[Key, tuple[int, float]]] = {}
    asked = qpu_pb2.DescribeRequest(sessions=["/".join(key) for key in keys])
    for pod in world.api.items(
        f"/api/v1/namespaces/{SYSTEM}/pods", labelSelector="app.kubernetes.io/name=efaas-qpu"
    ):
        address = f"{pod['status']['podIP']}:8470"
        with grpc.insecure_channel(address) as channel:
            state = qpu_pb2_grpc.QpuStub(channel).Describe(
                asked, metadata=[("authorization", f"Bearer {token}")], timeout=20, wait_for_ready=True
            )
        sums: dict[Key, tuple[int, float]] = {}
        for charge in state.charges:
            namespace, _, name = charge.session.partition("/")
            shots, qpu_s = sums.get((namespace, name), (0, 0.0))
            sums[namespace, name] = shots + charge.shots, qpu_s + charge.qpu_s
        found[state.device] = sums
    return found


def _charge_violations(run: FaultRun, sessions: dict[Key, Any]) -> list[str]:
    """Devices' charges are what the statuses say, and no evaluation of a session was charged twice."""
    kept = [key for key, wanted in run.wanted.items() if wanted.final != "gone" and key in sessions]

    def differences() -> list[str]:
        by_device = charges(run.world, kept)
        found = []
        for key in kept:
            shots = sum(device.get(key, (0, 0.0))[0] for device in by_device.values())
            qpu_ms = 1000 * sum(device.get(key, (0, 0.0))[1] for device in by_device.values())
            session = run.world.session(*key)
            usage = ((session or {}).get("status") or {}).get("usage") or {}
            if usage.get("shots", 0) != shots or abs(usage.get("qpuMilliseconds", 0) - qpu_ms) > 1.0:
                found.append(
                    f"{'/'.join(key)}: charged {shots} shots, {qpu_ms:.1f} ms; its status says {usage}"
                )
        return found

    end = time.monotonic() + 15.0
    found = differences()
    while found and time.monotonic() < end:  # statuses follow at a bounded pace
        time.sleep(1.0)
        found = differences()
    return found


def _orphans(run: FaultRun, sessions: dict[Key, Any]) -> list[str]:
    """No runner without its session's need, and nothing at all once the sessions are deleted."""
    world = run.world
    found = []
    running = [key for key in world.kubelet.running() if key[0] in world.tenants]
    if running:
        found.append(f"still run although all sessions are over: {running}")
    for namespace, name in sessions:
        world.api.delete(f"{sessions_path(namespace)}/{name}")

    def left() -> list[str]:
        labelled = [
            f"{kind} {each['metadata']['namespace']}/{each['metadata']['name']}"
            for kind in ("pods", "configmaps")
            for each in world.api.items(
                f"/api/v1/{kind}", labelSelector="app.kubernetes.io/name=efaas-runner"
            )
        ]
        return labelled + [f"session {'/'.join(key)}" for key in world.states()]

    try:
        wait_until("all to be gone", lambda: not left(), within_s=60.0, every_s=0.5)
    except AssertionError:
        found.append(f"left after all sessions were deleted: {left()[:20]}")
    return found
