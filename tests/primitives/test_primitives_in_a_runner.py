"""Inside of a runner, primitives use its QPUs and its journal: run again, they ask the QPU nothing twice."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from qiskit.circuit.library import real_amplitudes

from efaas.api.load import load_text
from efaas.errors import InputError, ProgramNotDeterministic
from efaas.primitives import EstimatorV2, SamplerV2, Session
from efaas.runner.environment import QpuTarget, RunnerEnvironment
from efaas.runner.progress import Progress
from efaas.sdk import Session as ProgramSession
from efaas.sdk.current import adopt

# Test folders are no packages, so the module is loaded by its path.
_spec = importlib.util.spec_from_file_location(
    "fake_qpu", Path(__file__).parents[1] / "runner" / "fake_qpu.py"
)
fake_qpu = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake_qpu)

MANIFEST = """
apiVersion: efaas.dev/v1alpha1
kind: VQASession
metadata: {name: mine}
spec:
  program: {script: {name: code, key: main.py}}
  seed: 9
"""
ANSATZ = real_amplitudes(2, reps=1)


class Recorder(Progress):
    def __init__(self):
        super().__init__(None, None)
        self.energies = []

    def iteration(self, fields, *, again=False):
        self.energies.append(fields["energy"])


@pytest.fixture
def runner(tmp_path, monkeypatch):
    """Start the program anew, as its runner would."""
    monkeypatch.setenv("EFAAS_QPUS", json.dumps([{"device": "fake", "endpoint": "h:1"}]))
    document = load_text(MANIFEST).sessions[0]
    environment = RunnerEnvironment(tmp_path / "s.yaml", (QpuTarget("fake", "h:1"),), tmp_path / "journal")
    opened = []

    def start(qpu, progress=None):
        if opened:
            opened.pop().close()
        program = ProgramSession(environment, document, progress or Progress(), connect=qpu.connect)
        opened.append(program)
        adopt(program)
        return program

    yield start
    adopt(None)
    opened.pop().close()


def descent(points):
    """A loop whose next point depends on the energy, as a person would write it."""
    energies, point = [], np.full(ANSATZ.num_parameters, 0.3)
    with Session(backend="manila-5") as session:
        estimator = EstimatorV2(mode=session)
        for _ in range(points):
            energies.append(float(estimator.run([(ANSATZ, "ZZ", point)]).result()[0].data.evs))
            point = point + 0.1 * energies[-1]
    return energies


def test_a_program_that_is_run_again_goes_on_where_it_was(runner):
    qpu, again = fake_qpu.FakeQpu(), fake_qpu.FakeQpu()
    runner(qpu)
    first = descent(3)
    runner(again)
    second = descent(5)
    assert second[:3] == first
    assert len(qpu.charged) == 3
    assert len(again.charged) == 2


def test_asking_something_else_than_before_is_an_error(runner):
    qpu = fake_qpu.FakeQpu()
    runner(qpu)
    EstimatorV2().run([(ANSATZ, "ZZ", np.zeros(4))]).result()
    runner(qpu)
    with pytest.raises(ProgramNotDeterministic, match="other parameters"):
        EstimatorV2().run([(ANSATZ, "ZZ", np.ones(4))])


def test_the_session_is_the_programs_own(runner):
    program = runner(fake_qpu.FakeQpu())
    with Session(backend="any", max_time="1h") as session:
        assert session.session_id == program.key == "default/mine"
        assert session.seed == program.seed
        assert session.details()["backend_name"] == "fake"
        assert Session.from_id("default/mine").session_id == "default/mine"
        with pytest.raises(InputError, match="another session"):
            Session.from_id("default/other")
    assert session.status() == "Closed"
    with Session() as another:  # the program's session goes on
        assert EstimatorV2(mode=another).run([(ANSATZ, "ZZ", np.zeros(4))]).result(10) is not None


def test_energies_are_the_programs_progress(runner):
    progress = Recorder()
    runner(fake_qpu.FakeQpu(), progress)
    assert descent(3) == progress.energies


def test_a_seed_of_the_options_is_not_used_and_that_is_said(runner):
    runner(fake_qpu.FakeQpu())
    estimator = EstimatorV2(options={"seed_estimator": 3})
    with pytest.warns(UserWarning, match="session's own seed"):
        estimator.run([(ANSATZ, "ZZ", np.zeros(4))])


def test_samples_come_back_from_the_journal_shot_by_shot(runner):
    class Sampling(fake_qpu.FakeQpu):
        def evaluate(self, identity, message, row, point):
            found = super().evaluate(identity, message, row, point)
            random = np.random.default_rng(len(self.charged))
            rows = random.integers(0, 4, size=(message.shots, 1)).astype(np.uint8)
            return type(found)(found.values, found.std_errors, rows, np.empty(0, np.uint64), 2)

    circuit = ANSATZ.measure_all(inplace=False)
    arrays = []
    for qpu in (Sampling(), fake_qpu.FakeQpu()):
        runner(qpu)
        arrays.append(SamplerV2().run([(circuit, np.zeros(4))], shots=50).result()[0].data.meas.array)
    assert np.array_equal(*arrays)
    assert not qpu.charged
