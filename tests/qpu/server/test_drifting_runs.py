"""Whole runs on a drifting device: host, machine, log and drift in this process, on a clock of the test.

The engine is the real one without its process, or a fake that notes what it is asked. At time scale 0 the
device clock goes with the test's wall while the device idles, so everything replays.
"""

from __future__ import annotations

import asyncio
import functools
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from efaas_qpu.configuration import drifting_device, machine_for
from efaas_qpu.engine.engine import Engine
from efaas_qpu.engine.messages import Configuration, Evaluation, Execute, Executed, Prepared
from efaas_qpu.host import QpuHost
from efaas_qpu.ledger import DurableLedger
from efaas_qpu.limits import ServerLimits
from efaas_qpu.requests import decode
from efaas_qpu.serve import read_device, read_trace
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit, qpy
from qiskit.circuit import Parameter

from efaas.api.wire import qpu_pb2 as wire
from efaas.core.identity import circuit_digest, job_id, observable_digest
from efaas.journal import DirectoryJournal

LIMITS = ServerLimits(drain_s=1.0)
DEVICE = """\
apiVersion: efaas.dev/v1alpha1
kind: QPUDevice
metadata: {name: lima}
spec:
  model: {snapshot: manila-5}
  simulation: {seed: %d}
  calibration: {drift: %s, interval: 8h, duration: 150s, maxAge: 48h}
"""


class RealEngine:
    """The engine in this process."""

    def __init__(self, snapshot: Any) -> None:
        self.engine = Engine(Configuration(snapshot, snapshot, True, "Auto"))
        self.programs: dict[str, Any] = {}
        self.told = 0
        self.requests: list[Execute] = []

    async def prepare(self, handle: str, program: Any) -> Prepared:
        self.programs[handle] = program
        return self.engine.prepare(handle, program)

    async def prepare_as(self, handle: str, known_as: str) -> Prepared:
        return await self.prepare(handle, self.programs[known_as])

    async def prepare_observable(self, handle: str, terms: Any) -> int:
        return self.engine.prepare_observable(handle, terms)

    async def set_known_device(self, snapshot: Any, *, for_layout: bool = False) -> None:
        self.told += 1
        self.engine.set_known_device(snapshot, for_layout)

    async def set_true_device(self, snapshot: Any, over_rotations: Any) -> None:
        self.told += 1
        self.engine.set_true_device(snapshot, over_rotations)

    async def execute(self, request: Execute) -> Executed:
        self.requests.append(request)
        return self.engine.execute(request)


class Outlet:
    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}

    def send(self, message: wire.ServerMessage) -> None:
        kind = message.WhichOneof("message")
        if kind in ("result", "error"):
            self.answers[getattr(message, kind).job_id] = getattr(message, kind)

    def end(self, last_word: wire.ServerMessage | None) -> None:
        pass


class Inside:
    """A server's host without its network."""

    def __init__(self, document: Path, data: Path, make_engine: Callable[[Any], Any] = RealEngine) -> None:
        device, snapshot = read_device(document)
        self.journal = DirectoryJournal(data / "log")
        self.ledger = DurableLedger(self.journal, LIMITS)
        self.drifting = drifting_device(device, snapshot, read_trace(document, device, snapshot))
        self.engine = make_engine(snapshot)
        self.wall_s = 0.0
        self.host = QpuHost(
            device=device.name,
            snapshot=snapshot.name,
            qubits=snapshot.num_qubits,
            machine=machine_for(device, self.ledger.state, snapshot.num_qubits),
            drifting=self.drifting,
            engine=self.engine,
            ledger=self.ledger,
            limits=LIMITS,
            wall=lambda: self.wall_s,
        )
        self.outlet = Outlet()
        self.sessions: dict[str, Any] = {}

    async def open(self, session: str, programs: list[bytes], terms: Any, limit_s: float = 0.0) -> None:
        hello = wire.Hello(
            protocol=1, session=session, tenant="team", session_seed=7, max_calibration_age_s=limit_s
        )
        message = wire.ClientMessage(hello=hello)
        opened = await self.host.open(decode(message.SerializeToString(), None, LIMITS), self.outlet)
        self.sessions[session] = opened
        for program in programs:
            circuit = wire.RegisterCircuit(handle=circuit_digest(program), qpy=program)
            await self.host.register_circuit(opened, self._decoded(session, circuit=circuit))
        handle = observable_digest(terms)
        observable = wire.RegisterObservable(
            handle=handle, terms=[wire.PauliTerm(pauli=p, coefficient=c) for p, c in terms]
        )
        await self.host.register_observable(opened, self._decoded(session, observable=observable))

    @staticmethod
    def _decoded(session: str, **message: Any) -> Any:
        return decode(wire.ClientMessage(**message).SerializeToString(), session, LIMITS)

    def submit(
        self, session: str, number: int, program: bytes, terms: Any, point: list[float], shots: int
    ) -> str:
        handles = [observable_digest(terms)]
        values = np.array([point], dtype=float).reshape(1, -1)
        name = job_id(
            session, number, circuit_digest(program), handles, values, shots, readout_mitigation=True
        )
        submit = wire.Submit(
            job_id=name,
            evaluation=number,
            circuit=circuit_digest(program),
            observables=handles,
            parameter_sets=1,
            parameters=point,
            shots=shots,
            readout_mitigation=True,
        )
        self.host.submit(self.sessions[session], self._decoded(session, submit=submit))
        return name

    async def settled(self) -> None:
        """Wait until nothing runs and nothing is prepared."""
        while self.host.driver.hold is not None or self.host.driver.queue_depth:
            await asyncio.sleep(0)
        if self.host._preparing is not None:
            await asyncio.wait({self.host._preparing})

    async def end(self) -> None:
        await self.host.drain()
        self.journal.close()


def written(circuit: QuantumCircuit) -> bytes:
    buffer = io.BytesIO()
    qpy.dump(circuit, buffer)
    return buffer.getvalue()


@functools.cache  # a parameter has an identity of its own, and that is in the bytes
def bell() -> bytes:
    circuit = QuantumCircuit(2)
    circuit.ry(Parameter("a"), 0)
    circuit.cx(0, 1)
    return written(circuit)


ZZ = (("ZZ", 1.0), ("XX", 0.5))


def document(folder: Path, drift: str = "Model", seed: int = 5) -> Path:
    path = folder / "device.yaml"
    path.write_text(DEVICE % (seed, drift))
    return path


async def history(path: Path, data: Path, *, restart_after: int = -1) -> list[Any]:
    """What ten iterations give whose classical steps take up to five hours."""
    told = []
    inside = Inside(path, data)
    await inside.open("team/loop", [bell()], ZZ, limit_s=7200.0)
    for number in range(10):
        inside.wall_s += (20.0, 3000.0, 18_000.0)[number % 3]
        name = inside.submit("team/loop", number, bell(), ZZ, [0.3 * number], 2000)
        await inside.settled()
        result = inside.outlet.answers[name]
        told.append(
            (
                list(result.evaluations[0].values),
                result.calibration_epoch,
                result.calibration_age_s,
                inside.engine.requests[-1].circuit,
                inside.host.driver.clock.now_s(),
            )
        )
        if number == restart_after:
            await inside.end()
            inside = Inside(path, data)
            await inside.open("team/loop", [bell()], ZZ, limit_s=7200.0)
    scopes = {past.scope.value for past in inside.ledger.state.history}
    assert scopes == {"full", "local"}
    await inside.end()
    return told


def test_a_drifting_run_replays_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    path = document(tmp_path)

    async def scenario() -> None:
        first = await history(path, tmp_path / "a")
        assert await history(path, tmp_path / "b") == first
        # The machine forgets that the session is a loop, and with that when it calibrates next; the device
        # is the same, with what a localised calibration found before the restart.
        restarted = await history(path, tmp_path / "c", restart_after=3)
        assert [each[:4] for each in restarted[:5]] == [each[:4] for each in first[:5]]
        assert first[4][1] == 2
        assert len({epoch for _, epoch, _, _, _ in first}) > 3
        assert len({plan for *_, plan, _ in first}) > 1
        other = await history(document(tmp_path, seed=6), tmp_path / "d")
        assert [each[0] for each in other] != [each[0] for each in first]
        assert [each[1:3] for each in other] == [each[1:3] for each in first]

    asyncio.run(scenario())


def test_a_frozen_device_gives_the_very_shots_of_the_engine_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        inside = Inside(document(tmp_path, "Frozen"), tmp_path)
        await inside.open("team/loop", [bell()], ZZ, limit_s=7200.0)
        alone = RealEngine(read_device(document(tmp_path, "Frozen"))[1])
        handle = (await alone.prepare(circuit_digest(bell()), bell())).handle
        await alone.prepare_observable(observable_digest(ZZ), ZZ)
        for number in range(6):
            inside.wall_s += 5000.0
            name = inside.submit("team/loop", number, bell(), ZZ, [0.3 * number], 2000)
            await inside.settled()
            if number == 3:
                inside.host.calibrate()
                await inside.settled()
            request = inside.engine.requests[-1]
            assert request.circuit == handle
            expected = (await alone.execute(request)).evaluations[0].values
            assert list(inside.outlet.answers[name].evaluations[0].values) == expected.tolist()
        assert inside.engine.told == 0
        assert {past.scope.value for past in inside.ledger.state.history} == {"full", "local"}
        await inside.end()

    asyncio.run(scenario())


def test_a_trace_drives_the_device_and_only_calibrations_know(tmp_path: Path) -> None:
    """|0⟩ is read as ⟨Z⟩ = 1 - 2u with the day's u, and undone with the values known."""
    days = {
        "t1Us": [100, 100, 100, 100],
        "t2Us": [80, 80, 80, 80],
        "probMeas1Prep0": [0.01, 0.03, 0.06, 0.06],
        "probMeas0Prep1": [0.03, 0.04, 0.02, 0.02],
    }
    trace = {"format": "efaas.dev/drift-trace/v1", "name": "t", "days": [0, 1, 2, 8], "qubits": [days] * 5}
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "days"},
        "data": {"t": json.dumps(trace)},
    }
    path = tmp_path / "device.yaml"
    text = (DEVICE % (1, "Trace, trace: {name: days, key: t}")).replace("8h", "720h").replace("48h", "720h")
    path.write_text(f"{text}\n---\n{json.dumps(config_map)}")
    nothing, z = written(QuantumCircuit(1)), (("Z", 1.0),)

    async def scenario() -> None:
        inside = Inside(path, tmp_path)
        await inside.open("team/loop", [nothing], z)

        async def measured(number: int, within: float) -> Any:
            name = inside.submit("team/loop", number, nothing, z, [], 200_000)
            await inside.settled()
            return pytest.approx(inside.outlet.answers[name].evaluations[0].values[0], abs=within)

        # Between calibrations the threshold drifts as in the model, which adds a hundredth or so.
        assert await measured(0, 0.006) == 1.0
        inside.wall_s += 86_400.0 - inside.host.driver.clock.now_s()
        assert await measured(1, 0.025) == (1 - 2 * 0.03 - 0.02) / 0.96
        inside.wall_s += 2 * 86_400.0 - inside.host.driver.clock.now_s()
        assert await measured(2, 0.025) == (1 - 2 * 0.06 - 0.02) / 0.96
        inside.host.calibrate()
        await inside.settled()
        assert inside.drifting.known.qubits[0].prob_meas1_prep0 == pytest.approx(0.06)
        assert await measured(3, 0.006) == 1.0
        await inside.end()

    asyncio.run(scenario())


# --- no job on a calibration older than its limit ---------------------------------------------------------

PLACES = ((0, 1), (0, 2), (1, 2), (2, 2), (1, 3))
"""First qubit and number of qubits of each circuit."""
PROGRAMS = {written(QuantumCircuit(size, name=f"at {first}")): (first, size) for first, size in PLACES}
QUBITS = {circuit_digest(program): tuple(range(at, at + size)) for program, (at, size) in PROGRAMS.items()}


class NotingEngine:
    """Lays circuits out where the test wants them; notes what a job finds."""

    def __init__(self, snapshot: Any) -> None:
        self.note: Callable[[Execute], None] = lambda request: None

    async def prepare(self, handle: str, program: Any) -> Prepared:
        qubits = QUBITS[handle.partition("@")[0]]
        return Prepared(handle, (), len(qubits), len(qubits), qubits, 1.0, 0.01, 0.0, "fake", qubits)

    async def prepare_as(self, handle: str, known_as: str) -> Prepared:
        return await self.prepare(handle, b"")

    async def prepare_observable(self, handle: str, terms: Any) -> int:
        return 1

    async def set_known_device(self, snapshot: Any, *, for_layout: bool = False) -> None:
        pass

    async def set_true_device(self, snapshot: Any, over_rotations: Any) -> None:
        pass

    async def execute(self, request: Execute) -> Executed:
        self.note(request)
        one = np.ones(1)
        return Executed((Evaluation(one, one, None, None, 0),), (), 0.0, 0.0, 0.0)


steps = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(0, len(PROGRAMS) - 1),
        st.sampled_from((0.0, 1.0, 50.0, 400.0, 3000.0, 40_000.0)),
        st.integers(1, 20_000),
        st.booleans(),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limits=st.tuples(*[st.sampled_from((160.0, 300.0, 1000.0, 7000.0, 0.0))] * 3), steps=steps)
def test_no_job_ever_starts_on_a_calibration_older_than_its_limit(
    runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory, limits: Any, steps: Any
) -> None:
    """Ages are those of the qubits and pairs that the drifting device says were measured."""
    folder = tmp_path_factory.mktemp("limits")
    limit_s = {f"team/s{number}": limit or 48 * 3600.0 for number, limit in enumerate(limits)}

    async def scenario() -> None:
        inside = Inside(document(folder), folder, NotingEngine)
        started: list[tuple[float, float]] = []

        def note(request: Execute) -> None:
            live = inside.host.driver.jobs[request.job_id]
            qubits = QUBITS[request.circuit.partition("@")[0]]
            age_s = inside.drifting.age_s(inside.host.driver.clock.now_s(), qubits)
            started.append((age_s, limit_s[live.job.session]))

        inside.engine.note = note
        programs = list(PROGRAMS)
        for session, limit in zip(limit_s, limits, strict=True):
            for terms in ([("Z", 1.0)],):
                await inside.open(session, programs, terms, limit)
            for terms in ([("ZZ", 1.0)], [("ZZZ", 1.0)]):
                handle = observable_digest(terms)
                message = wire.RegisterObservable(
                    handle=handle, terms=[wire.PauliTerm(pauli=p, coefficient=c) for p, c in terms]
                )
                decoded = inside._decoded(session, observable=message)
                await inside.host.register_observable(inside.sessions[session], decoded)
        names = []
        for number, (which, program, passed_s, shots, at_once) in enumerate(steps):
            inside.wall_s += passed_s
            text = programs[program]
            terms = [("Z" * PROGRAMS[text][1], 1.0)]
            names.append(inside.submit(f"team/s{which}", number, text, terms, [], shots))
            if not at_once:
                await inside.settled()
        await inside.settled()
        assert all(age_s <= limit + 1e-6 for age_s, limit in started)
        answers = [inside.outlet.answers[name] for name in names]
        results = [answer for answer in answers if isinstance(answer, wire.Result)]
        assert len(started) >= len(results)
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, wire.Result):
                session = f"team/s{steps[names.index(name)][0]}"
                assert answer.calibration_age_s <= limit_s[session] + 1e-6
            else:
                assert "runs longer than one is good for" in answer.message
        await inside.end()

    runner.run(scenario())
