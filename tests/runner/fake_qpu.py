"""A QPU in this process: answers at once (or when told), from the job id alone, and counts what it
charges."""

import concurrent.futures
import threading

import numpy as np

from efaas.client.exchange import submit_message
from efaas.client.results import Evaluation, JobResult, Timing
from efaas.core.identity import circuit_digest, observable_digest, shot_uniforms
from efaas.errors import JobFailed, QpuUnavailable, SessionEnded


class FakeQpu:
    """Stands for a QPU server: what it measures follows from session seed and job id, as on a frozen
    device."""

    def __init__(self, device="fake"):
        self.device = device
        self.charged = {}
        self.runs = []
        self.submitted = []
        self.acknowledged = set()
        self.down = False
        self.hold = False
        self.errors = []
        self.connections = []
        self.lock = threading.Lock()

    def connect(self, endpoint, identity, patience_s):
        if self.down:
            raise QpuUnavailable("refused", place=endpoint)
        connection = FakeConnection(self, identity)
        self.connections.append(connection)
        return connection

    def drop(self):
        """Lose all connections."""
        self.down = True
        for connection in self.connections:
            connection.fail(QpuUnavailable("the connection was cut"))

    def result(self, identity, message):
        with self.lock:
            kept = message.job_id in self.charged
            self.runs.append(message.job_id)
            shots = message.shots * message.parameter_sets
            self.charged[message.job_id] = shots
        points = np.array(message.parameters).reshape(message.parameter_sets, -1)
        evaluations = tuple(self.evaluate(identity, message, row, point) for row, point in enumerate(points))
        return JobResult(
            job_id=message.job_id,
            device=self.device,
            evaluations=evaluations,
            timing=Timing(
                queue_s=0.5, calibration_s=0.25, wall_queue_s=0.01, server_s=0.02, round_trip_s=0.03
            ),
            calibration_epoch=1,
            calibration_age_s=10.0,
            shots=shots,
            qpu_s=shots * 1e-4,
            kept=kept,
        )

    def evaluate(self, identity, message, row, point):
        uniform = shot_uniforms(identity.seed, message.job_id, row, 0, 8)
        if message.observables:
            noise = (uniform[0] - 0.5) / np.sqrt(message.shots)
            values = np.array([float(np.cos(point).sum() + noise)] * len(message.observables))
            return Evaluation(
                values,
                np.full_like(values, 1 / np.sqrt(message.shots)),
                np.empty((0, 0), np.uint8),
                np.empty(0, np.uint64),
            )
        zeros = int(message.shots * (0.6 + 0.3 * uniform[0]))
        return Evaluation(
            np.empty(0),
            np.empty(0),
            np.array([[0], [1], [2]], np.uint8),
            np.array([zeros, message.shots - zeros - 1, 1], np.uint64),
            bits=2,
        )


class FakeConnection:
    def __init__(self, qpu, identity):
        self.qpu, self.identity = qpu, identity
        self.circuits, self.observables, self.open = set(), set(), {}
        self.closed = False

    def register_circuit(self, program):
        self._must_be_up()
        self.circuits.add(circuit_digest(program))

    def register_observable(self, terms):
        self._must_be_up()
        self.observables.add(observable_digest(terms))

    def submit(
        self,
        circuit,
        parameters,
        shots,
        *,
        on_queued=None,
        on_started=None,
        on_partial=None,
        per_shot=False,
        **options,
    ):
        assert circuit in self.circuits
        assert set(options["observables"]) <= self.observables
        message = submit_message(
            self.identity.session, circuit, parameters, shots, per_shot=per_shot, **options
        )
        job = concurrent.futures.Future()
        self.qpu.submitted.append(message)
        self.open[message.job_id] = (job, message)
        if self.qpu.errors:
            self._end(message.job_id, self.qpu.errors.pop(0))
        elif self.qpu.down:
            self._end(message.job_id, QpuUnavailable("the connection was cut"))
        elif not self.qpu.hold:
            self.answer(message.job_id)
        return job

    def answer(self, job_id):
        job, message = self.open.pop(job_id)
        job.set_result(self.qpu.result(self.identity, message))

    def _end(self, job_id, error):
        job, _ = self.open.pop(job_id, (None, None))
        if job is not None:
            job.set_exception(error)

    def fail(self, error):
        for job_id in list(self.open):
            self._end(job_id, error)

    def _must_be_up(self):
        if self.qpu.down:
            raise QpuUnavailable("the connection was cut")

    def cancel(self, job_id):
        if job_id in self.open:
            self._end(job_id, JobFailed("cancelled", place=f"job {job_id}"))

    def acknowledge(self, job_id):
        self.qpu.acknowledged.add(job_id)

    def close(self):
        self.closed = True
        self.fail(SessionEnded("the stream was closed"))
