"""Sessions on this machine: how they begin, are found again, end, and leave nothing behind."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from qiskit import QuantumCircuit

import efaas
from efaas.errors import InputError, JobFailed, SessionEnded
from efaas.primitives import Backend, EstimatorV2, SamplerV2, Session, registry
from efaas.primitives.session import session_for

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


def bell():
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    return circuit


def sampled(session, shots=64):
    circuit = bell()
    circuit.measure_all()
    return SamplerV2(mode=session).run([circuit], shots=shots).result(60)[0].data.meas


def until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_the_public_names_are_the_primitives():
    assert (efaas.Session, efaas.EstimatorV2, efaas.SamplerV2) == (Session, EstimatorV2, SamplerV2)


class TestLife:
    def test_it_says_how_it_stands_until_it_is_closed(self, state):
        session = Session("manila-5", max_time="1h", noise=False, seed=3)
        assert session.status() == "Pending"
        with session:
            sampled(session)
            assert session.status() == "In progress, accepting new jobs"
            details = session.details()
            assert details["id"] == session.session_id
            assert details["backend_name"] == session.backend().name == "manila-5"
            assert details["usage_time"] == session.usage() > 0
            assert (details["shots"], details["max_time"], details["accepting_jobs"]) == (64, 3600.0, True)
            server = session._server
            folder = server.folder
            entry = registry.path_of(session.session_id)
            assert entry.parent == state / "efaas" / "sessions"
            assert stat.S_IMODE(entry.stat().st_mode) == 0o600
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert session.status() == "Closed"
        assert not is_alive(server.pid)
        assert not folder.exists()
        assert not entry.exists()
        with pytest.raises(SessionEnded, match="closed; open a new one"):
            sampled(session)

    def test_jobs_on_their_way_finish_after_close(self):
        with Session("manila-5", noise=False) as session:
            job = EstimatorV2(mode=session).run([(bell(), "ZZ")])
        assert session.status() == "In progress, not accepting new jobs"
        assert job.result(60)[0].data.evs == 1.0
        until(lambda: session.status() == "Closed")

    def test_cancel_drops_what_is_on_its_way(self):
        session = Session(Backend("manila-5", time_scale=1.0), seed=1)
        estimator = EstimatorV2(mode=session, options={"default_shots": 1_000_000})  # minutes of device time
        jobs = [estimator.run([(bell(), "ZZ")]) for _ in range(3)]
        until(lambda: jobs[0].status() == "RUNNING", 60)
        assert jobs[2].status() == "QUEUED"
        with pytest.raises(TimeoutError):
            jobs[2].result(timeout=0.05)
        session.cancel()
        for job in jobs:
            with pytest.raises((JobFailed, SessionEnded)):
                job.result(60)
        assert jobs[2].status() == "CANCELLED"
        assert jobs[2].cancelled()
        until(lambda: session.status() == "Closed")

    def test_one_job_is_cancelled_by_itself(self):
        with Session(Backend("manila-5", time_scale=1.0), seed=1) as session:
            estimator = EstimatorV2(mode=session)
            slow = estimator.run([(bell(), "ZZ")], precision=1e-3)
            assert slow.cancel()
            slow.wait_for_final_state(60)
            assert slow.cancelled()
            assert estimator.run([(bell(), "ZZ")], precision=0.1).result(60)[0].data.evs > 0.5

    def test_max_time_ends_it(self):
        session = Session("manila-5", max_time=0.2)
        until(lambda: session.status() == "Closed")
        with pytest.raises(SessionEnded):
            sampled(session)


class TestFoundAgain:
    def test_by_its_id_from_another_process(self, ideal):
        sampled(ideal)
        script = (
            "import sys\n"
            "from efaas import EstimatorV2, Session\n"
            "from qiskit import QuantumCircuit\n"
            "session = Session.from_id(sys.argv[1])\n"
            "circuit = QuantumCircuit(1); circuit.x(0)\n"
            "job = EstimatorV2(mode=session).run([(circuit, 'Z')])\n"
            "print(session.backend().name, job.result()[0].data.evs)\n"
        )
        finished = subprocess.run(
            [sys.executable, "-c", script, ideal.session_id],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert finished.stdout.split() == ["manila-5", "-1.0"], finished.stderr[-2000:]
        assert ideal.accepts_jobs  # it ended there without closing

    def test_two_attached_sessions_draw_their_own_shots(self, ideal):
        first, second = Session.from_id(ideal.session_id), Session.from_id(ideal.session_id)
        arrays = [sampled(session, 256).array for session in (ideal, first, second)]
        assert not np.array_equal(arrays[0], arrays[1])
        assert not np.array_equal(arrays[1], arrays[2])

    def test_closing_an_attached_one_closes_the_session(self):
        with Session("manila-5", noise=False) as session:
            sampled(session)
            with Session.from_id(session.session_id) as attached:
                sampled(attached)
            until(lambda: not session.accepts_jobs)
            with pytest.raises(SessionEnded):
                sampled(session)
            with pytest.raises(InputError, match="is closed"):
                Session.from_id(session.session_id)

    def test_none_of_that_id(self, ideal):
        sampled(ideal)
        with pytest.raises(InputError, match=f"no local session 'abc' runs; running: .*{ideal.session_id}"):
            Session.from_id("abc")
        with pytest.raises(InputError, match="is no id"):
            Session.from_id("../../etc/passwd")

    def test_a_file_whose_server_is_gone_is_removed(self, state):
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        registry.write(registry.Entry("dead", "127.0.0.1:1", "t", ended.pid, "", 0, "2026-01-01", None))
        with pytest.raises(InputError, match="no local session"):
            Session.from_id("dead")
        assert not registry.path_of("dead").exists()


class TestSeed:
    def test_the_same_seed_gives_the_same_program_the_same_shots(self):
        arrays = []
        for seed in (5, 5):
            with Session("manila-5", noise=False, seed=seed) as session:
                arrays.append([sampled(session).array.tolist() for _ in range(2)])
        assert arrays[0] == arrays[1]
        assert arrays[0][0] != arrays[0][1]


class TestFolder:
    def test_a_program_that_is_run_again_is_answered_from_its_journal(self, tmp_path):
        values = []
        for _ in range(2):
            with Session("manila-5", folder=tmp_path / "kept", seed=2) as session:
                values.append([sampled(session).array.tolist() for _ in range(2)])
        assert values[0] == values[1]
        log = (tmp_path / "kept" / "journal").glob("*")
        assert sum(path.read_text().count('"kind":"submit"') for path in log) == 2


class TestInterpreter:
    def test_a_killed_program_takes_its_server_along(self, tmp_path):
        script = (
            "import json, time\n"
            "from efaas import Session\n"
            "session = Session('manila-5')\n"
            "session._endpoint()\n"
            "print(json.dumps([session._server.pid, str(session._server.folder)]), flush=True)\n"
            "time.sleep(60)\n"
        )
        program = subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},  # nobody is left to remove its folder
        )
        pid, _ = json.loads(program.stdout.readline())
        assert is_alive(pid)
        program.kill()
        program.wait()
        program.stdout.close()
        until(lambda: not is_alive(pid))

    def test_a_program_that_forgets_to_close_leaves_nothing(self):
        script = (
            "import json\n"
            "from efaas import Session\n"
            "session = Session('manila-5')\n"
            "session._endpoint()\n"
            "print(json.dumps([session._server.pid, str(session._server.folder)]), flush=True)\n"
        )
        finished = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
        )
        pid, folder = json.loads(finished.stdout)
        assert not is_alive(pid)
        assert not Path(folder).exists()


class TestModes:
    def test_the_session_around_is_used(self, ideal):
        with ideal_again(ideal):
            assert EstimatorV2().session is ideal
            assert SamplerV2().session is ideal

    def test_one_of_mode_session_and_backend(self, ideal):
        assert session_for(None, session=ideal) is ideal
        with pytest.raises(InputError, match="give one of"):
            session_for(ideal, backend="manila-5")

    def test_what_is_no_backend_is_refused(self):
        with pytest.raises(InputError, match="did you mean manila-5"):
            Session("manilla-5")
        with pytest.raises(InputError, match="is a int"):
            Session(5)
        with pytest.raises(InputError, match="max_time"):
            Session("manila-5", max_time="soon")


class ideal_again:  # noqa: N801
    """Enter a session without closing it at the end."""

    def __init__(self, session):
        self.session = session

    def __enter__(self):
        from efaas.primitives.session import _current

        self.token = _current.set(self.session)

    def __exit__(self, *_):
        from efaas.primitives.session import _current

        _current.reset(self.token)
