"""A runner that is killed again and again ends with the trajectory of one that is not."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from efaas.journal import read_records

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

DEVICE = """
apiVersion: efaas.dev/v1alpha1
kind: QPUDevice
metadata: {name: manila}
spec: {model: {snapshot: manila-5}}
"""

SESSION = """
apiVersion: efaas.dev/v1alpha1
kind: VQASession
metadata: {name: h2}
spec:
  problem: {molecule: {name: H2, qubits: 2}}
  ansatz: {realAmplitudes: {repetitions: 1}}
  optimizer: {qnSpsa: {}}
  stop: {maxIterations: 60}
  shots: 512
  finalShots: 4096
  seed: 11
"""

PROGRAM_SESSION = """
apiVersion: efaas.dev/v1alpha1
kind: VQASession
metadata: {name: mine}
spec:
  program: {script: {name: code, key: main.py}}
  shots: 256
  seed: 12
"""

PROGRAM = """
import numpy as np
from qiskit.circuit.library import real_amplitudes
import efaas

circuit = real_amplitudes(2, reps=1)
with efaas.session() as session:
    random = np.random.default_rng(session.seed)
    point = np.zeros(4)
    for _ in range(60):
        step = random.choice([-0.2, 0.2], 4)
        plus, minus = session.submit(circuit, [point + step, point - step], "ZZ").result().values[:, 0]
        point = point - (plus - minus) * step
        session.report((plus + minus) / 2)
    counts = session.submit(circuit, point, per_shot=True).result().evaluations[0].counts_by_bitstring()
    session.finish(energy=session.energy(circuit, point, "ZZ"), parameters=point, counts=counts)
"""


class Server:
    """A QPU server that can be killed and started again on what it left behind."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        (folder / "device.yaml").write_text(DEVICE)
        (folder / "data").mkdir()
        (folder / "token").touch(mode=0o600)
        (folder / "token").write_text("a token for this test\n")
        self.log = (folder / "log").open("ab")
        self.start()

    def start(self):
        (self.folder / "address").unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "efaas_qpu", "serve"),
                *("--device", str(self.folder / "device.yaml"), "--data", str(self.folder / "data")),
                *("--address-file", str(self.folder / "address")),
                *("--token-file", str(self.folder / "token")),
                "--with-parent",
            ],
            stderr=self.log,
        )

    def kill(self):
        self.process.kill()
        self.process.wait()

    def target(self):
        return {
            "device": "manila",
            "addressFile": str(self.folder / "address"),
            "tokenFile": str(self.folder / "token"),
        }


class Life:
    """One life of a runner."""

    def __init__(self, folder, server, lease_epoch):
        read, child = os.pipe()
        variables = {
            "EFAAS_SESSION_FILE": str(folder / "session.yaml"),
            "EFAAS_QPUS": json.dumps([server.target()]),
            "EFAAS_JOURNAL": str(folder / "journal"),
            "EFAAS_LEASE_EPOCH": str(lease_epoch),
            "EFAAS_PROGRESS_FD": str(child),
            **({"EFAAS_PROGRAM": str(folder / "program.py")} if (folder / "program.py").exists() else {}),
        }
        self.log = (folder / "log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "efaas.runner"],
            env={**os.environ, **variables},
            pass_fds=(child,),
            stderr=self.log,
        )
        os.close(child)
        self.latest = -1
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self._listen, args=(read,), daemon=True)
        self.thread.start()

    def _listen(self, read):
        with os.fdopen(read) as pipe:
            for line in pipe:
                event = json.loads(line)
                with self.changed:
                    self.latest = max(self.latest, event.get("evaluation", -1))
                    self.changed.notify_all()
        with self.changed:
            self.latest = 10**9
            self.changed.notify_all()

    def wait_past(self, evaluation):
        with self.changed:
            assert self.changed.wait_for(lambda: self.latest >= evaluation, 100)

    def end(self):
        code = self.process.wait(timeout=100)
        self.thread.join(10)
        self.log.close()
        return code


def prepared(folder, session, program=None):
    folder.mkdir()
    (folder / "session.yaml").write_text(session)
    if program is not None:
        (folder / "program.py").write_text(program)
    return folder


def trajectory(folder):
    """All that must not depend on kills, to the bit: questions, answers, job ids, shots."""
    kept = []
    for record in read_records(folder / "journal"):
        jobs = [(job["id"], job["shots"], job.get("evaluations")) for job in record.get("jobs", [])]
        names = ("kind", "asked", "told", "energy", "point", "number")
        kept.append(({name: record.get(name) for name in names}, jobs))
    return kept


SAME = ("status", "energy", "std_error", "parameters", "iterations", "evaluations", "shots", "best")


@pytest.mark.parametrize(
    ("session", "program"), [(SESSION, None), (PROGRAM_SESSION, PROGRAM)], ids=["declared", "program"]
)
def test_kills_at_many_points_leave_no_trace(tmp_path, session, program):
    chance = random.Random(5)
    calm, rough = Server(tmp_path / "calm"), Server(tmp_path / "rough")
    try:
        whole = prepared(tmp_path / "whole", session, program)
        undisturbed = Life(whole, calm, 0)
        torn = prepared(tmp_path / "torn", session, program)
        lease_epoch = 0
        for past in (0, 1, 12, 40):
            life = Life(torn, rough, lease_epoch)
            life.wait_past(past)
            time.sleep(chance.uniform(0, 0.03))
            life.process.send_signal(signal.SIGKILL)
            assert life.end() == -signal.SIGKILL
            lease_epoch += 1
        # The server dies as well, under a runner that lives on.
        life = Life(torn, rough, lease_epoch)
        life.wait_past(42)
        rough.kill()
        rough.start()
        assert life.end() == 0, (torn / "log").read_text()
        assert undisturbed.end() == 0, (whole / "log").read_text()
        assert trajectory(torn) == trajectory(whole)
        results = [json.loads((folder / "result.json").read_text()) for folder in (torn, whole)]
        assert [results[0][name] for name in SAME] == [results[1][name] for name in SAME]
        # Device time is booked in whole nanoseconds of a clock that depends on when things happened.
        assert results[0]["qpu_s"] == pytest.approx(results[1]["qpu_s"], rel=1e-6)
    finally:
        for server in (calm, rough):
            server.kill()
            server.log.close()
