"""A program run again is answered from its journal, asks the QPU for the rest, and may ask nothing else."""

import concurrent.futures
import time

import numpy as np
import pytest

from efaas.api.load import load_text
from efaas.errors import (
    CircuitError,
    InputError,
    JobFailed,
    ParameterError,
    ProgramNotDeterministic,
    SessionEnded,
)
from efaas.journal import read_records
from efaas.runner.environment import QpuTarget, RunnerEnvironment
from efaas.runner.progress import Progress
from efaas.runner.waiting import LimitReached
from efaas.sdk import Session

MANIFEST = """
apiVersion: efaas.dev/v1alpha1
kind: VQASession
metadata: {{name: mine}}
spec:
  program: {{script: {{name: code, key: main.py}}}}
  shots: 128
  seed: 9
  limits: {limits}
"""
ZZ = [("ZZ", 1.0)]


class Recorder(Progress):
    def __init__(self):
        super().__init__(None, None)
        self.events = []

    def _send(self, event):
        self.events.append(event)


def opened(tmp_path, qpu, progress=None, limits="{}", **options):
    document = load_text(MANIFEST.format(limits=limits)).sessions[0]
    environment = RunnerEnvironment(tmp_path / "s.yaml", (QpuTarget("fake", "h:1"),), tmp_path / "journal")
    return Session(environment, document, progress or Progress(None, None), connect=qpu.connect, **options)


def program(session, points=5, shots=None):
    """A small descent whose next point depends on the energy."""
    point, energies = np.array([0.3, 0.1]), []
    for _ in range(points):
        energy = session.energy("circuit", point, ZZ, shots)
        session.report(energy)
        energies.append(energy)
        point = point + 0.1 * energy
    session.finish(energy=energies[-1], parameters=point)
    return energies


def test_a_program_killed_after_any_record_goes_on_to_the_same_numbers(tmp_path, make_qpu):
    qpu = make_qpu()
    with opened(tmp_path / "whole", qpu) as session:
        expected = program(session)
        outcome = session.outcome()
    lines = (tmp_path / "whole" / "journal" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    for kept in range(len(lines) + 1):
        folder = tmp_path / str(kept)
        (folder / "journal").mkdir(parents=True)
        (folder / "journal" / "journal.jsonl").write_bytes(b"".join(lines[:kept]))
        other = make_qpu()
        with opened(folder, other) as session:
            assert program(session) == expected
            assert session.outcome() == outcome
            assert session.summary()["shots"] == 5 * 128
        assert len(other.submitted) == 5 - min(5, max(0, kept - 1))


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda s: s.submit("other", [0.1], ZZ), r"submit 1: asks for another circuit than"),
        (lambda s: s.submit("circuit", [0.2], ZZ), r"submit 1: asks for other parameters than"),
        (lambda s: s.submit("circuit", [0.1], ["ZZ", "XX"]), r"submit 1: asks for other observables than"),
        (lambda s: s.submit("circuit", [0.1], ZZ, 7), r"number of shots than .* \(shots 128 before, 7 now\)"),
        (
            lambda s: s.submit("circuit", [[0.1], [0.2]], ZZ),
            r"another number of points and other parameters than .* \(points 1 before, 2 now\)",
        ),
    ],
)
def test_another_question_at_the_same_number_is_refused_and_said_how(tmp_path, qpu, ask, words):
    with opened(tmp_path, qpu) as session:
        session.submit("circuit", [0.0], ZZ).result()
        session.submit("circuit", [0.1], ZZ).result()
    with opened(tmp_path, qpu) as session:
        session.submit("circuit", [0.0], ZZ).result()
        with pytest.raises(ProgramNotDeterministic, match=words):
            ask(session)


def test_a_result_is_on_disk_before_the_program_sees_it_and_acknowledged_after(tmp_path, qpu):
    with opened(tmp_path, qpu) as session:
        future = session.submit("circuit", [0.0], ZZ)
        future.result()
        records = list(read_records(tmp_path / "journal"))
        assert records[-1]["jobs"][0]["id"] == future.id
        assert qpu.acknowledged == {future.id}


def test_results_that_come_out_of_order_are_replayed_by_number(tmp_path, make_qpu):
    qpu = make_qpu()
    qpu.hold = True
    with opened(tmp_path, qpu) as session:
        futures = [session.submit("circuit", [number / 10], ZZ) for number in range(4)]
        wait_until(lambda: len(qpu.submitted) == 4)
        for number in (2, 0):
            qpu.connections[0].answer(futures[number].id)
        concurrent.futures.wait([futures[0], futures[2]])
        first = [futures[number].result().values[0, 0] for number in (0, 2)]
        assert not futures[1].done()
    other = make_qpu()
    with opened(tmp_path, other) as session:
        values = [session.submit("circuit", [number / 10], ZZ).result().values[0, 0] for number in range(4)]
        assert [values[0], values[2]] == first
    assert [message.evaluation for message in other.submitted] == [1, 3]


def test_outcomes_come_back_from_the_journal_to_the_bit(tmp_path, make_qpu):
    with opened(tmp_path, make_qpu()) as session:
        first = session.submit("circuit", [0.5]).result()
    with opened(tmp_path, make_qpu()) as session:
        again = session.submit("circuit", [0.5]).result()
    assert again.evaluations[0].counts_by_bitstring() == first.evaluations[0].counts_by_bitstring()
    assert again.timing == first.timing
    assert (again.shots, again.qpu_s, again.device) == (first.shots, first.qpu_s, first.device)


def test_the_future_speaks_like_concurrent_futures(tmp_path, qpu):
    qpu.hold = True
    with opened(tmp_path, qpu) as session:
        future = session.submit("circuit", [0.0], ZZ)
        called = []
        future.add_done_callback(called.append)
        assert not future.done()
        with pytest.raises(concurrent.futures.TimeoutError):
            future.result(timeout=0.01)
        wait_until(lambda: qpu.submitted)
        assert future.cancel() is True
        with pytest.raises(JobFailed):
            future.result(timeout=5)
        assert isinstance(future.exception(), JobFailed)
        assert future.cancel() is False
        assert called == [future]


def test_what_is_on_its_way_fails_when_the_session_closes(tmp_path, qpu):
    qpu.hold = True
    session = opened(tmp_path, qpu)
    future = session.submit("circuit", [0.0], ZZ)
    session.close()
    session.close()
    with pytest.raises(SessionEnded):
        future.result(timeout=5)
    with pytest.raises(SessionEnded):
        session.submit("circuit", [0.0], ZZ)


def test_every_evaluation_is_told_once_and_reports_carry_the_energy(tmp_path, qpu):
    progress = Recorder()
    with opened(tmp_path, qpu, progress) as session:
        session.submit("circuit", [[0.1], [0.2]], ZZ).result()
        value = session.energy("circuit", [0.0], ZZ)
        session.report(value, 0.5)
        session.energy("circuit", [0.3], ZZ)
    told = [event for event in progress.events if event["event"] == "iteration"]
    assert [(event["evaluation"], event["iteration"], event["energy"]) for event in told] == [
        (0, 0, None),
        (1, 0, value),
        (2, 1, None),
    ]
    assert told[1]["std_error"] == 0.5
    assert told[-1]["shots"] == 4 * 128
    assert told[-1]["best"] == value


def test_the_last_reported_value_is_the_result_of_a_program_that_says_no_more(tmp_path, qpu):
    with opened(tmp_path, qpu) as session:
        session.report(-1.5)
        session.report(-2.5, 0.25)
        outcome = session.outcome()
    assert (outcome["energy"], outcome["std_error"], outcome["iterations"]) == (-2.5, 0.25, 2)
    assert outcome["final_evaluation"] is False


def test_a_changed_seed_needs_a_new_journal(tmp_path, qpu):
    opened(tmp_path, qpu).close()
    document = load_text(MANIFEST.format(limits="{}").replace("seed: 9", "seed: 8")).sessions[0]
    environment = RunnerEnvironment(tmp_path / "s.yaml", (QpuTarget("fake", "h:1"),), tmp_path / "journal")
    with pytest.raises(InputError, match="begun by another session"):
        Session(environment, document, Progress(None, None), connect=qpu.connect)


def test_a_limit_ends_what_runs_and_what_comes(tmp_path, qpu):
    reached = []
    with opened(tmp_path, qpu, limits="{shots: 200}", on_limit=lambda: reached.append(1)) as session:
        session.submit("circuit", [0.0], ZZ).result()
        qpu.hold = True
        session.submit("circuit", [0.0], ZZ)
        wait_until(lambda: len(qpu.submitted) == 2)
        qpu.connections[0].answer(qpu.submitted[1].job_id)
        waiting = session.submit("circuit", [0.0], ZZ)
        with pytest.raises(LimitReached, match=r"256 shots are used, its limit spec.limits.shots is 200"):
            waiting.result(timeout=5)
        with pytest.raises(LimitReached):
            session.submit("circuit", [0.0], ZZ)
        wait_until(lambda: reached)


def test_an_idle_program_reaches_its_limit(tmp_path, qpu):
    with opened(tmp_path, qpu, limits="{idle: 100ms}") as session:
        wait_until(lambda: session.limit is not None)
        assert "spec.limits.idle is 0.1 s" in session.limit.message


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "error", "words"),
        [
            (("circuit", [float("nan")], ZZ), ParameterError, r"parameters\[0\]\[0\]: is not finite"),
            (("circuit", [[[0.1]]], ZZ), InputError, "has 3 dimensions"),
            (("circuit", np.empty((0, 2)), ZZ), ParameterError, "hold no point"),
            (("circuit", ["a"], ZZ), InputError, "not an array of numbers"),
            (("circuit", [0.1], [("ZA", 1.0)]), InputError, "not a string of I, X, Y and Z"),
            (("circuit", [0.1], [("ZZ", 1.0), ("Z", 1.0)]), InputError, "qubits"),
            (("circuit", [0.1], [("ZZ", 1j)]), InputError, "not a finite real number"),
            (("circuit", [0.1], []), InputError, "is an empty list"),
            (("circuit", [0.1], 3), InputError, "is a int"),
            (("circuit", [0.1], ZZ, 0), InputError, "shots: is 0"),
            ((3, [0.1], ZZ), CircuitError, "is a int"),
        ],
    )
    def test_a_bad_argument_is_said_before_anything_is_sent(self, tmp_path, qpu, arguments, error, words):
        with opened(tmp_path, qpu) as session:
            with pytest.raises(error, match=words):
                session.submit(*arguments)
            assert qpu.submitted == []
            session.submit("circuit", [0.0], ZZ).result()
            assert qpu.submitted[0].evaluation == 0  # a refused submit takes no number

    def test_qiskit_circuits_and_operators_are_taken(self, tmp_path, qpu):
        from qiskit import QuantumCircuit
        from qiskit.circuit import Parameter
        from qiskit.quantum_info import SparsePauliOp

        circuit = QuantumCircuit(2)
        circuit.ry(Parameter("a"), 0)
        circuit.cx(0, 1)
        operator = SparsePauliOp(["ZZ", "XI"], [1.0, 0.5])
        with opened(tmp_path, qpu) as session:
            assert session.submit(circuit, [[0.1], [0.2]], [operator, "XX"]).result().values.shape == (2, 2)
            assert session.energy(circuit, [[0.1], [0.2], [0.3]], operator).shape == (3,)
            before = len(qpu.connections[0].circuits)
            assert isinstance(session.energy(circuit, [0.1], operator), float)
            assert len(qpu.connections[0].circuits) == before  # written the same way again
            circuit.x(0)  # changed in place: another circuit
            session.energy(circuit, [0.1], operator)
            assert len(qpu.connections[0].circuits) == before + 1
            session.submit(circuit, [0.1]).result()  # measured on all qubits
            with pytest.raises(ParameterError, match="have 2 numbers a point, the circuit has 1"):
                session.submit(circuit, [0.1, 0.2], operator)
            with pytest.raises(InputError, match="strings of 3 qubits, the circuit has 2"):
                session.submit(circuit, [0.1], "ZZZ")

    def test_a_circuit_that_measures_in_its_middle_has_no_expectation_value(self, tmp_path, qpu):
        from qiskit import QuantumCircuit

        circuit = QuantumCircuit(1, 1)
        circuit.measure(0, 0)
        circuit.x(0)
        with opened(tmp_path, qpu) as session, pytest.raises(CircuitError, match="measures in its middle"):
            session.submit(circuit, None, "Z")


def wait_until(condition, limit_s=5.0):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
