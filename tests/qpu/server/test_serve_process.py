"""`efaas-qpu serve` as a process, with Aer: energies, kills, restarts, ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from efaas.api.wire import qpu_pb2 as wire
from efaas.client import QpuConnection, SessionIdentity
from efaas.errors import InputError

pytestmark = pytest.mark.integration

START_S = 30.0
DEVICE = """
apiVersion: efaas.dev/v1alpha1
kind: QPUDevice
metadata: {{name: manila}}
spec:
  model: {{snapshot: manila-5}}
  simulation: {{noise: {noise}}}
"""

PROGRAM = """OPENQASM 3.0;
include "stdgates.inc";
input float a;
input float b;
input float c;
input float d;
qubit[4] q;
ry(a) q[0];
ry(b) q[1];
ry(c) q[2];
ry(d) q[3];
cx q[0], q[1];
cx q[1], q[2];
cx q[2], q[3];
"""

HAMILTONIAN = [
    ("IIIZ", 0.17),
    ("IIZZ", -0.22),
    ("ZIIZ", 0.16),
    ("XXXX", 0.045),
    ("YYXX", -0.045),
    ("IIII", -0.81),
]

PAULIS = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1, -1]),
}


def exact_energy(angles: np.ndarray) -> float:
    """Energy of the program's state, by plain linear algebra; qubit 0 is the last factor."""
    state = np.ones(1)
    for angle in reversed(angles):
        state = np.kron(state, [np.cos(angle / 2), np.sin(angle / 2)])
    for control in range(3):
        target = control + 1
        index = np.arange(16)
        state = state[np.where(index >> control & 1, index ^ (1 << target), index)]
    energy = 0.0
    for pauli, coefficient in HAMILTONIAN:
        matrix = np.eye(1)
        for letter in pauli:
            matrix = np.kron(matrix, PAULIS[letter])
        energy += coefficient * (state.conj() @ matrix @ state).real
    return energy


class Server:
    """A server process on one data folder; started again it has the same port."""

    def __init__(self, folder: Path, noise: str = "None") -> None:
        self.folder = folder
        self.device = folder / "device.yaml"
        self.device.write_text(DEVICE.format(noise=noise))
        self.token = folder / "token"
        self.token.write_text("sesame")
        self.token.chmod(0o600)
        self.address_file = folder / "address.json"
        self.address: dict[str, Any] = {}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str, stdin: int = subprocess.DEVNULL) -> None:
        self.address_file.unlink(missing_ok=True)
        command = [
            sys.executable,
            "-m",
            "efaas_qpu",
            "serve",
            "--device",
            self.device,
            "--data",
            self.folder / "data",
        ]
        command += ["--address-file", self.address_file, "--token-file", self.token]
        command += ["--listen", self.address.get("endpoint", "127.0.0.1:0"), *options]
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(command, stdin=stdin, stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + START_S
        while not self.address_file.exists():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "the server does not listen"
            time.sleep(0.01)
        self.address = json.loads(self.address_file.read_text())

    def connect(self, session: str = "team/loop") -> QpuConnection:
        identity = SessionIdentity(session, token="sesame", seed=7)
        return QpuConnection(self.address["endpoint"], identity, patience_s=START_S)

    def describe(self) -> wire.DeviceState:
        with grpc.insecure_channel(self.address["endpoint"]) as channel:
            method: Any = channel.unary_unary("/efaas.qpu.v1alpha1.Qpu/Describe")
            return wire.DeviceState.FromString(method(b"", wait_for_ready=True, timeout=START_S))

    def workers(self) -> list[int]:
        """Process ids of the server's children."""
        assert self.process is not None
        children = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = status.read_text().rpartition(")")[2].split()
                if int(fields[1]) == self.process.pid and fields[0] != "Z":
                    children.append(int(status.parent.name))
        return children

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.end()


def has_ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_until(condition: Any, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.01)


def test_energies_survive_a_killed_worker_and_a_killed_server(server):
    random = np.random.default_rng(0)
    points = random.uniform(-np.pi, np.pi, (12, 4))
    server.start()
    with server.connect() as qpu:
        circuit = qpu.register_circuit(PROGRAM)
        assert (circuit.parameters, circuit.qubits) == (("a", "b", "c", "d"), 4)
        energy = qpu.register_observable(HAMILTONIAN)

        def evaluate(number: int) -> Any:
            job = qpu.submit(circuit.handle, points[number], 4096, evaluation=number, observables=[energy])
            return job.result(timeout=START_S)

        def check(result: Any, number: int) -> None:
            distance = abs(result.values[0, 0] - exact_energy(points[number]))
            assert distance < 5 * result.std_errors[0, 0] + 1e-9
            assert result.std_errors[0, 0] < 0.02

        results = []
        for number in range(4):
            results.append(evaluate(number))
            check(results[-1], number)

        [worker] = server.workers()
        os.kill(worker, signal.SIGKILL)
        for number in range(4, 8):
            results.append(evaluate(number))
            check(results[-1], number)
        assert server.workers() != [worker]

        before = server.describe().sessions[0]
        [worker] = server.workers()
        server.kill()
        wait_until(lambda: has_ended(worker))
        server.start()
        for number in range(8):
            again = evaluate(number)
            assert again.kept
            assert again.values.tolist() == results[number].values.tolist()
        after = server.describe().sessions[0]
        assert (after.jobs_done, after.shots, after.qpu_s) == (before.jobs_done, before.shots, before.qpu_s)
        assert after.jobs_done == 8
        for number in range(8, 12):
            check(evaluate(number), number)
        assert qpu.reconnects >= 1


def test_a_worker_killed_in_the_middle_of_a_job_costs_one_retry(server):
    server.device.write_text(DEVICE.format(noise="Device, method: Trajectories"))
    server.start()
    with server.connect() as qpu:
        circuit = qpu.register_circuit(PROGRAM)
        qpu.submit(
            circuit.handle, [0.1] * 4, 10, evaluation=0, observables=[qpu.register_observable(HAMILTONIAN)]
        ).result()
        [worker] = server.workers()
        energy = qpu.register_observable(HAMILTONIAN)
        started: list[None] = []
        job = qpu.submit(
            circuit.handle,
            np.zeros((4, 4)),
            500,
            evaluation=1,
            observables=[energy],
            on_started=lambda: started.append(None),
        )
        wait_until(lambda: started or job.done())
        assert not job.done(), "the job is too short for this test"
        os.kill(worker, signal.SIGKILL)
        result = job.result(timeout=50)
        assert result.timing.attempts == 2
        assert result.values.shape == (4, 1)
        assert server.describe().sessions[0].jobs_done == 2


def test_it_ends_cleanly_when_told(server):
    server.start("--metrics-listen", "127.0.0.1:0")
    with grpc.insecure_channel(server.address["endpoint"]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        wait_until(lambda: stub.Check(request).status == health_pb2.HealthCheckResponse.SERVING, START_S)
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        [answer] = reflection.ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        )
        services = {service.name for service in answer.list_services_response.service}
        assert services >= {"efaas.qpu.v1alpha1.Qpu", "grpc.health.v1.Health"}
    with server.connect() as qpu:
        circuit = qpu.register_circuit(PROGRAM)
        job = qpu.submit(
            circuit.handle,
            [0.1] * 4,
            10,
            evaluation=0,
            observables=[qpu.register_observable([("ZIII", 1.0)])],
        )
        job.result(timeout=START_S)

        def metrics() -> str:
            with urllib.request.urlopen(f"http://{server.address['metrics']}/metrics") as page:
                return page.read().decode()

        assert 'efaas_qpu_jobs_total{kind="loop",outcome="completed"} 1.0' in metrics()
        wait_until(lambda: "efaas_qpu_sessions 1.0" in metrics())
        workers = server.workers()
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=10) == 0
        assert all(has_ended(worker) for worker in workers)
        assert not server.address_file.exists()


def test_the_token_is_asked_for(server):
    server.start()
    with pytest.raises(InputError, match="token"):
        QpuConnection(server.address["endpoint"], SessionIdentity("team/loop", token="guess"))


def test_it_ends_with_its_parent(server):
    ours, theirs = os.pipe()
    server.start("--with-parent", stdin=ours)
    os.close(ours)
    assert server.process is not None
    workers = server.workers()
    os.close(theirs)
    assert server.process.wait(timeout=10) == 0
    assert all(has_ended(worker) for worker in workers)


@pytest.mark.parametrize(
    ("document", "options", "sentence"),
    [
        ("kind: Nothing", [], "kind"),
        (DEVICE.format(noise="None").replace("manila-5", "manilla-5"), [], "manila-5"),
        (
            DEVICE.format(noise="None")
            + "---"
            + DEVICE.format(noise="None").replace("name: manila", "name: b"),
            [],
            "it must hold one",
        ),
        (DEVICE.format(noise="None"), ["--listen", "0.0.0.0:0"], "--token-file"),
        (DEVICE.format(noise="None"), ["--listen", "127.0.0.1:99999"], "0 to 65535"),
        (DEVICE.format(noise="None"), ["--metrics-listen", "9090"], "HOST:PORT"),
        (DEVICE.format(noise="None"), ["--health-listen", "127.0.0.1:70000"], "--health-listen: "),
        (DEVICE.format(noise="None"), ["--data", "/proc/none"], "--data: /proc/none cannot be made"),
        (DEVICE.format(noise="None"), ["--token-file", "/dev/zero"], "others can read it"),
        (
            DEVICE.format(noise="None"),
            ["--tls-cert", __file__, "--tls-key", __file__],
            f"{__file__}: is no certificate",
        ),
        (DEVICE.format(noise="None"), ["--address-file", "/proc/none"], "--address-file: /proc/none cannot"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_two(tmp_path, document, options, sentence):
    device = tmp_path / "device.yaml"
    device.write_text(document)
    command = [
        sys.executable,
        "-m",
        "efaas_qpu",
        "serve",
        "--device",
        device,
        "--data",
        tmp_path / "data",
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_S, check=False)
    assert (done.returncode, sentence in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_told(tmp_path):
    device = tmp_path / "device.yaml"
    device.write_text(DEVICE.format(noise="None"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [
            sys.executable,
            "-m",
            "efaas_qpu",
            "serve",
            "--device",
            device,
            "--data",
            tmp_path / "data",
        ]
        command += ["--listen", address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_S, check=False)
    assert done.returncode == 2
    assert f"cannot listen on {address}" in done.stderr


def test_the_server_itself_never_imports_qiskit():
    code = "import sys, efaas_qpu.serve; print(sorted(m for m in sys.modules if m.startswith('qiskit')))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=START_S, check=True
    )
    assert done.stdout.strip() == "[]"
