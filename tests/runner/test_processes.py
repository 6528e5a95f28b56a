"""`python -m efaas.runner` as its supervisor sees it: exit codes, states on the pipe, files, signals."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading

import pytest

from efaas.runner import main
from efaas.runner.dispatch import Dispatcher

SESSION = """
apiVersion: efaas.dev/v1alpha1
kind: VQASession
metadata: {name: small}
spec:
  problem: {hamiltonian: "ZZ + 0.5 XI"}
  ansatz: {realAmplitudes: {repetitions: 1}}
  optimizer: {OPTIMIZER}
  stop: {maxIterations: 5}
  limits: {LIMITS}
  shots: 100
"""
PROGRAM_SESSION = """
apiVersion: efaas.dev/v1alpha1
kind: VQASession
metadata: {name: small}
spec:
  program: {script: {name: code, key: main.py}, arguments: [one, two]}
  limits: {LIMITS}
"""

# Runs the runner's main with the fake QPU in place of a server.
START = """
import importlib.util, os
spec = importlib.util.spec_from_file_location("fake_qpu", {fake!r})
fake = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fake)
qpu = fake.FakeQpu()
qpu.hold = {hold}
from efaas.runner import dispatch, main
dispatch.Dispatcher.__init__.__kwdefaults__["connect"] = qpu.connect
os._exit(main.main())
"""


class Outcome:
    """What a supervisor sees of a runner that has ended."""

    def __init__(self, folder, code, events, stderr):
        self.folder, self.code, self.events, self.stderr = folder, code, events, stderr

    @property
    def states(self):
        return [(event["state"], event["reason"]) for event in self.events if event["event"] == "state"]

    def result(self):
        return json.loads((self.folder / "result.json").read_text())


def environment(folder, session, program, descriptor):
    (folder / "session.yaml").write_text(session)
    variables = {
        "EFAAS_SESSION_FILE": str(folder / "session.yaml"),
        "EFAAS_QPUS": json.dumps([{"device": "fake", "endpoint": "127.0.0.1:1"}]),
        "EFAAS_JOURNAL": str(folder / "journal"),
        "EFAAS_PROGRESS_FD": str(descriptor),
    }
    if program is not None:
        (folder / "program.py").write_text(textwrap.dedent(program))
        variables["EFAAS_PROGRAM"] = str(folder / "program.py")
    return variables


@pytest.fixture
def run(tmp_path, monkeypatch, capfd, qpu):
    """Runs a runner's main in this process, to its end."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr(main, "LONGEST_PATIENCE_S", 0.2)

    def go(session, program=None, use=None):
        monkeypatch.setitem(Dispatcher.__init__.__kwdefaults__, "connect", (use or qpu).connect)
        capfd.readouterr()
        with tempfile.TemporaryFile() as pipe:  # never full, unlike a pipe that nobody reads
            code = main.main(environment(tmp_path, session, program, pipe.fileno()))
            pipe.seek(0)
            events = [json.loads(line) for line in pipe]
        return Outcome(tmp_path, code, events, capfd.readouterr().err)

    yield go
    for number, handler in handlers.items():
        signal.signal(number, handler)


class Process:
    """A runner as a process of its own, for what ends processes."""

    def __init__(self, folder, session, program=None, hold=False):
        self.folder = folder
        self.read, child = os.pipe()
        fake = os.path.join(os.path.dirname(__file__), "fake_qpu.py")
        self.process = subprocess.Popen(
            [sys.executable, "-c", START.format(fake=fake, hold=hold)],
            env={**os.environ, **environment(folder, session, program, child)},
            pass_fds=(child,),
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(child)
        self.events = []
        self.seen = threading.Condition()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        with os.fdopen(self.read) as pipe:
            for line in pipe:
                with self.seen:
                    self.events.append(json.loads(line))
                    self.seen.notify_all()

    def wait_for(self, wanted):
        with self.seen:
            assert self.seen.wait_for(lambda: any(wanted(event) for event in self.events), 50)

    def end(self):
        _, stderr = self.process.communicate(timeout=50)
        self.reader.join()
        return Outcome(self.folder, self.process.returncode, self.events, stderr)


def declared(optimizer="spsa: {calibrationSteps: 1}", limits=""):
    return SESSION.replace("OPTIMIZER", optimizer).replace("LIMITS", limits)


def with_program(limits=""):
    return PROGRAM_SESSION.replace("LIMITS", limits)


def test_a_completed_session_leaves_its_result_and_its_problem(tmp_path, run):
    runner = run(declared())
    assert runner.code == 0, runner.stderr
    result = runner.result()
    assert result["status"] == "Completed"
    assert result["iterations"] == 5
    assert result["exact"] == pytest.approx(-(1.25**0.5))
    assert result["error"] == pytest.approx(result["energy"] - result["exact"])
    assert result["shots"] == sum(device["shots"] for device in result["devices"].values())
    assert result["ttns_device_s"]["p50"] == pytest.approx(0.75 + 0.005)
    assert runner.events[-1]["state"] == "Completed"
    assert runner.events[-2] == {"event": "finished", "result": result}
    problem = json.loads((tmp_path / "problem.json").read_text())
    assert sorted(problem["terms"]) == [["XI", 0.5], ["ZZ", 1.0]]
    assert problem["starts"][0] == result["parameters"]
    assert problem["readoutMitigation"] is True


@pytest.mark.parametrize(
    ("session", "words"),
    [
        (declared("adam: {beta1: '1'}"), "spec.optimizer.adam.beta1: is 1"),
        (declared().replace("ZZ + 0.5 XI", "ZZ + X"), "has 1 qubit, the others have 2"),
        ("kind: Nothing", "kind 'Nothing' is not known here"),
        ("", "holds 0 VQASessions"),
        (with_program(), "EFAAS_PROGRAM: names no file"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(run, session, words):
    runner = run(session)
    assert runner.code == 2
    state, reason = runner.states[-1]
    assert state == "Failed"
    assert words in reason
    assert f"error: {reason}" == runner.stderr.strip().splitlines()[-1]


@pytest.mark.integration
def test_missing_variables_are_named():
    done = subprocess.run(
        [sys.executable, "-m", "efaas.runner"],
        env={k: v for k, v in os.environ.items() if not k.startswith("EFAAS_")},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 2
    assert "EFAAS_SESSION_FILE: is not set; start the session with `efaas run`" in done.stderr


def test_a_limit_expires_the_session(run):
    runner = run(declared(limits="shots: 250"))
    assert runner.code == 3
    state, reason = runner.states[-1]
    assert state == "Expired"
    assert "its limit spec.limits.shots is 250" in reason
    assert runner.result()["status"] == "Expired"
    assert runner.result()["final_evaluation"] is False


def test_without_a_qpu_it_asks_to_be_started_again(run, qpu):
    qpu.down = True
    runner = run(declared())
    assert runner.code == 75
    assert "Failed" not in dict(runner.states)
    assert "no QPU could be reached" in runner.stderr


PROGRAM = """
    import sys
    import efaas
    with efaas.session() as session:
        assert session.name == "small" and sys.argv[1:] == ["one", "two"] and __name__ == "__main__"
        energy = session.energy("circuit", [0.5], "ZZ")
        session.report(energy)
        {end}
"""


def test_a_program_that_finishes_completes(run):
    runner = run(
        with_program(), PROGRAM.format(end="session.finish(energy=energy, parameters=[0.5], note='x')")
    )
    assert runner.code == 0, runner.stderr
    result = runner.result()
    assert (result["parameters"], result["further"]) == ([0.5], {"note": "x"})
    assert result["energy"] == result["best"]
    assert runner.states[-1][0] == "Completed"


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("raise ValueError('no such thing')", "ValueError: no such thing"),
        ("print('it broke', file=sys.stderr); sys.exit(3)", "it broke"),
        ("sys.exit('gave up')", "gave up"),
        ("sys.exit(3)", "the program ended with exit code 3"),
        ("session.submit('circuit', [0.5], 'ZZ', shots=0)", "shots: is 0; at least 1 is needed"),
    ],
)
def test_a_program_that_fails_says_why(run, end, reason):
    runner = run(with_program(), PROGRAM.format(end=end))
    assert runner.code == 1
    assert runner.states[-1] == ("Failed", reason)
    assert runner.result()["status"] == "Failed"


def test_exit_code_0_completes_with_the_value_reported_last(run):
    runner = run(with_program(), PROGRAM.format(end="sys.exit(0)"))
    assert runner.code == 0, runner.stderr
    assert runner.result()["energy"] == runner.result()["best"]


def test_a_traceback_shows_the_program_and_not_its_host(run):
    runner = run(with_program(), "def f():\n    1 / 0\nf()\n")
    assert runner.code == 1
    assert "ZeroDivisionError: division by zero" in runner.stderr
    assert "program.py" in runner.stderr
    assert "runpy" not in runner.stderr


def test_a_program_that_is_run_again_must_ask_the_same(run, make_qpu):
    gone = PROGRAM.format(end="raise efaas.QpuUnavailable('gone')")
    assert run(with_program(), gone).code == 75
    idle = make_qpu()
    assert run(with_program(), PROGRAM.format(end="pass"), idle).code == 0
    assert idle.submitted == []
    again = run(with_program(), PROGRAM.replace("[0.5]", "[0.6]").format(end="pass"))
    assert again.code == 1
    assert again.states[-1][1].startswith("submit 0: asks for other parameters than when it was journalled")


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_and_resumably(tmp_path, run, number):
    runner = Process(tmp_path, declared(), hold=True)
    runner.wait_for(lambda event: event.get("reason") == "waiting for the QPU")
    runner.process.send_signal(number)
    assert runner.end().code == 75
    assert not (tmp_path / "result.json").exists()
    assert run(declared()).code == 0


@pytest.mark.integration
def test_a_program_that_computes_for_ever_ends_at_its_limit(tmp_path):
    program = "while True:\n    sum(range(1000))\n"
    runner = Process(tmp_path, with_program("duration: 500ms"), program).end()
    assert runner.code == 3
    state, reason = runner.states[-1]
    assert state == "Expired"
    assert "spec.limits.duration is 0.5 s" in reason
