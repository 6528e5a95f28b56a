"""Loops of programs run ahead in processes of their own, and futures speak every language they should."""

import asyncio
import json
import time

import numpy as np
import pytest
from qiskit.circuit.library import real_amplitudes

import efaas
from efaas.api.load import load_text
from efaas.client.results import Evaluation
from efaas.errors import InputError
from efaas.journal import read_records
from efaas.optimizers.nelder_mead import NelderMead
from efaas.optimizers.spsa import QnSpsa, Spsa
from efaas.runner.environment import QpuTarget, RunnerEnvironment
from efaas.runner.progress import Progress
from efaas.sdk import NextJob, Session
from efaas.sdk.workers import StepEnded, StepWorkers, dump

MANIFEST = """
apiVersion: efaas.dev/v1alpha1
kind: VQASession
metadata: {name: mine}
spec:
  program: {script: {name: code, key: main.py}}
  shots: 128
  seed: 9
"""
ZZ = [("ZZ", 1.0)]


def opened(folder, qpu):
    document = load_text(MANIFEST).sessions[0]
    environment = RunnerEnvironment(folder / "s.yaml", (QpuTarget("fake", "h:1"),), folder / "journal")
    return Session(environment, document, Progress(None, None), connect=qpu.connect)


def made():
    """Functions that no module has; test modules cannot be imported by other processes."""

    def doubled(value):
        return value * 2

    def sleeping(seconds):
        time.sleep(seconds)

    def failing(value):
        raise ValueError(f"no {value}")

    return doubled, sleeping, failing


doubled, sleeping, failing = made()


class TestWorkers:
    def test_a_step_gives_its_value_and_its_cpu_time(self):
        workers = StepWorkers(doubled, 1)
        value, cpu_s = workers.start(np.array([1.0, 2.0])).result(20)
        assert value.tolist() == [2.0, 4.0]
        assert 0 <= cpu_s < 1
        assert workers.is_ready
        workers.close()

    def test_a_step_that_nobody_wants_is_killed_and_its_worker_is_free_again(self):
        workers = StepWorkers(sleeping, 1)
        workers.start(0.0).result(20)
        begin = time.monotonic()
        step = workers.start(30.0)
        workers.abandon(step)
        with pytest.raises(StepEnded):
            step.result(10)
        assert workers.start(0.0).result(10)[0] is None
        assert time.monotonic() - begin < 10
        workers.close()

    def test_what_a_step_imports_is_imported_once(self):
        def imported(_):
            import sys

            before = "colorsys" in sys.modules
            import colorsys  # noqa: F401

            return before

        workers = StepWorkers(imported, 1)
        assert [workers.start(None).result(20)[0] for _ in range(2)] == [False, True]
        workers.close()

    def test_what_a_step_raises_is_said(self):
        workers = StepWorkers(failing, 1)
        with pytest.raises(StepEnded, match="no 3"):
            workers.start(3).result(20)
        workers.close()

    def test_a_function_without_a_name_travels_by_its_code(self):
        factor = 3
        workers = StepWorkers(lambda value: factor * value, 1)
        assert workers.start(5).result(20)[0] == 15
        workers.close()

    def test_what_cannot_travel_is_refused(self):
        generator = (number for number in range(3))
        with pytest.raises(InputError, match="prepare: cannot be sent"):
            dump(lambda: next(generator))


def essence(folder):
    return [
        {name: value for name, value in record.items() if name in ("number", "asked", "step")}
        for record in read_records(folder / "journal")
    ]


def minimized(folder, qpu, speculation, prepare=None):
    with opened(folder, qpu) as session:
        loop = session.minimize(
            NelderMead(np.array([0.1, 0.4])),
            "circuit",
            ZZ,
            iterations=10,
            prepare=prepare,
            speculation=speculation,
            workers=1,
        )
        return loop, session.outcome()


def test_a_loop_that_runs_ahead_asks_the_same_to_the_bit_and_resumes_without_preparing(tmp_path, make_qpu):
    off, _ = minimized(tmp_path / "off", make_qpu(), "Off", doubled)
    exact, outcome = minimized(tmp_path / "exact", make_qpu(), "Exact", doubled)
    assert exact.point.tolist() == off.point.tolist()
    assert essence(tmp_path / "exact") == essence(tmp_path / "off")
    assert outcome["speculation"]["mode"] == "Exact"
    prepared = []
    idle = make_qpu()
    again, _ = minimized(tmp_path / "off", idle, "Off", prepared.append)
    assert again.point.tolist() == off.point.tolist()
    assert (prepared, idle.submitted) == ([], [])


def test_a_loop_of_ones_own_with_jobs_of_its_own(tmp_path, qpu):
    seen = []

    def decide(result):
        seen.append(float(result.values[0, 0]))
        return len(seen) if len(seen) < 4 else None

    def prepare(number):
        return NextJob("circuit", [0.1 * number], ZZ, shots=64)

    with opened(tmp_path, qpu) as session:
        loop = session.loop(
            0, decide, prepare, predict=lambda number: [number + 1], speculation="Exact", workers=1
        )
    assert loop.evaluations == 4
    assert loop.point == 3
    assert [message.shots for message in qpu.submitted if message.kind == 0] == [64] * 4


def test_a_wrong_mode_and_fidelities_are_refused(tmp_path, qpu):
    with opened(tmp_path, qpu) as session:
        with pytest.raises(InputError, match="speculation: 'exact' is not Off, Exact or Tolerant"):
            session.loop(0, lambda _: None, doubled, speculation="exact")
        with pytest.raises(InputError, match="circuit: is no Qiskit circuit, but qn_spsa asks"):
            session.minimize(QnSpsa(np.zeros(2), 1), "circuit", ZZ, iterations=1)
        with pytest.raises(InputError, match="outline: is of use to `prepare` alone"):
            session.minimize(Spsa(np.zeros(2), 1), "circuit", ZZ, iterations=1, outline=doubled)


def natural(folder, qpu, speculation, iterations=6):
    circuit = real_amplitudes(2, reps=1)
    with opened(folder, qpu) as session:
        loop = session.minimize(
            QnSpsa(np.array([0.1, 0.4, -0.3, 0.2]), 3),
            circuit,
            ZZ,
            iterations=iterations,
            speculation=speculation,
            workers=1,
        )
        return loop, session.outcome()


@pytest.mark.parametrize("speculation", ["Exact", "Tolerant"])
def test_qn_spsa_measures_its_fidelities_and_resumes(tmp_path, make_qpu, speculation):
    off, _ = natural(tmp_path / "off", make_qpu(), "Off")
    qpu = make_qpu()
    loop, outcome = natural(tmp_path / "ahead", qpu, speculation)
    # The fake gives no running estimates, so there is nothing that Tolerant could step on.
    assert loop.point.tolist() == off.point.tolist()
    assert essence(tmp_path / "ahead") == essence(tmp_path / "off")
    assert outcome["speculation"]["mode"] == speculation
    real = [message for message in qpu.submitted if message.kind == 0]
    assert sorted({(message.parameter_sets, len(message.observables)) for message in real}) == [
        (2, 1),
        (4, 0),
    ]
    lines = (tmp_path / "ahead" / "journal" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    for kept in (1, 4, 7, len(lines)):
        folder = tmp_path / str(kept)
        (folder / "journal").mkdir(parents=True)
        (folder / "journal" / "journal.jsonl").write_bytes(b"".join(lines[:kept]))
        again, _ = natural(folder, make_qpu(), speculation)
        assert again.point.tolist() == off.point.tolist()


def outlined(folder, qpu, speculation):
    given = []

    def outline(line):
        return float(line.slope @ [1.0, 3.7] + line.points[0] @ [0.3, 2.1])

    def prepare(points, known):
        given.append(known)
        return NextJob(parameters=points if known is None else points + 1e-3 * known)

    with opened(folder, qpu) as session:
        loop = session.minimize(
            Spsa(np.array([0.1, 0.4]), 3, learning_rate=0.2),
            "circuit",
            ZZ,
            iterations=12,
            prepare=prepare,
            outline=outline,
            speculation=speculation,
            workers=1,
        )
    return loop, given


def test_what_spsa_knows_of_its_next_points_is_worked_on_ahead_and_changes_nothing(tmp_path, make_qpu):
    off, given = outlined(tmp_path / "off", make_qpu(), "Off")
    assert given[0] is None
    assert len(set(given[1:])) == 11
    for speculation in ("Exact", "Tolerant"):
        ahead, again = outlined(tmp_path / speculation, make_qpu(), speculation)
        assert again == given
        assert ahead.point.tolist() == off.point.tolist()
        assert essence(tmp_path / speculation) == essence(tmp_path / "off")
        assert ahead.speculation["speculative_jobs"] == 0


def test_an_outline_is_a_hit_once_its_workers_run(tmp_path, make_qpu):
    qpu = make_qpu()

    def outline(line):
        return float(line.slope.sum())

    def prepare(points, known):
        if not session.outcome()["speculation"]["evaluations"]:
            time.sleep(0.05)  # the workers start

    with opened(tmp_path, qpu) as session:
        loop = session.minimize(
            Spsa(np.array([0.1, 0.4]), 3, learning_rate=0.2),
            "circuit",
            ZZ,
            iterations=100,
            prepare=prepare,
            outline=outline,
            speculation="Exact",
            workers=1,
        )
    report = loop.speculation
    assert report["evaluations"] > 0
    assert report["hits"] == report["evaluations"]


def held(session, qpu):
    qpu.hold = True
    future = session.submit("circuit", [0.0], ZZ)
    deadline = time.monotonic() + 5
    while not qpu.submitted and time.monotonic() < deadline:
        time.sleep(0.005)
    return future


def estimate(value):
    nothing = np.empty((0, 0), np.uint8)
    return (Evaluation(np.array([value]), np.array([0.1]), nothing, np.empty(0, np.uint64)),)


def test_running_estimates_are_there_for_who_asks_listens_or_iterates(tmp_path, qpu):
    with opened(tmp_path, qpu) as session:
        future = held(session, qpu)
        assert future.partial() is None
        heard = []
        future.add_partial_callback(lambda running: heard.append(running.shots))

        async def iterate():
            seen = []
            async for running in future.partials():
                seen.append((running.shots, running.values[0, 0]))
                if len(seen) == 1:
                    future.take_partial(64, estimate(2.0))
                else:
                    qpu.connections[0].answer(future.id)
            return seen

        future.take_partial(32, estimate(1.0))
        assert asyncio.run(iterate()) == [(32, 1.0), (64, 2.0)]
        assert heard == [32, 64]
        assert future.partial().std_errors.tolist() == [[0.1]]


def test_a_future_can_be_awaited_waited_for_and_followed_by_a_step(tmp_path, qpu):
    with opened(tmp_path, qpu) as session:
        futures = [session.submit("circuit", [number / 10], ZZ) for number in range(3)]
        assert set(efaas.as_completed(futures, timeout=5)) == set(futures)
        assert efaas.wait(futures, timeout=5).not_done == set()

        async def awaited():
            return await futures[0]

        assert asyncio.run(awaited()) is futures[0].result()
        energy = futures[1].then(lambda result: float(result.values[0, 0])).then(lambda value: -value)
        assert energy.result(5) == -futures[1].result().values[0, 0]
        broken = futures[2].then(lambda _: 1 / 0)
        assert isinstance(broken.exception(5), ZeroDivisionError)


def test_nothing_that_was_guessed_is_in_the_journal(tmp_path, qpu):
    minimized(tmp_path, qpu, "Exact", doubled)
    text = json.dumps(list(read_records(tmp_path / "journal")))
    guessed = {message.job_id for message in qpu.submitted if message.kind == 2} - {
        message.job_id for message in qpu.submitted if message.kind == 0
    }
    assert all(name not in text for name in guessed)
