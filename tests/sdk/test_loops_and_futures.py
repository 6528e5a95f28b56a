"""Loops of programs run ahead in processes of their own, and futures speak every language they should."""

import asyncio
import json
import time

import numpy as np
import pytest

import efaas
from efaas.api.load import load_text
from efaas.client.results import Evaluation
from efaas.errors import InputError
from efaas.journal import read_records
from efaas.optimizers.nelder_mead import NelderMead
from efaas.optimizers.spsa import QnSpsa
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
        with pytest.raises(InputError, match="optimizer: asks for fidelities"):
            session.minimize(QnSpsa(np.zeros(2), 1), "circuit", ZZ, iterations=1)


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
