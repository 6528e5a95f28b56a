"""A QPU in your own process, for testing programs without a server.

`FakeQpu` answers like a `QpuConnection`: the same methods, results, errors and job ids, at once and in the
calling thread. What an observable is worth is up to you: pass a function, or leave it to Qiskit's exact
statevector with the shot noise that the seed and the job's id give. It knows no device, no queue and no
noise other than that of shots::

    qpu = FakeQpu(evaluate=lambda program, observables, parameters: [parameters.sum()])
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from efaas.client.connection import QpuJob
from efaas.client.exchange import SessionIdentity, submit_message
from efaas.client.listener import PartialCallback, QueuedCallback, StartedCallback
from efaas.client.results import CircuitInfo, DeviceInfo, Evaluation, JobResult, Timing
from efaas.core.identity import BLOCK_SHOTS, circuit_digest, digest, observable_digest, shot_uniforms
from efaas.core.qpu.messages import JobKind
from efaas.errors import CircuitError, EfaasError, InputError, JobFailed, ParameterError, SessionEnded

Terms = tuple[tuple[str, float], ...]

Evaluate = Callable[[str | bytes, Sequence[Terms], NDArray[np.float64]], Sequence[float]]
"""From program, observables and one parameter vector (radians) to the exact value of each observable."""


class FakeQpu:
    """See the module's text.

    Args:
        identity: who speaks; ``default/test`` with seed 0 if not given.
        evaluate: exact values of observables; Qiskit's statevector if not given.
        parameters: names of a circuit's parameters, from its program; only needed with `evaluate`, where
            any number of parameters is taken otherwise.
        shot_s: device seconds of one shot, for usage.
        qubits: of the device.
    """

    def __init__(
        self,
        identity: SessionIdentity | None = None,
        *,
        evaluate: Evaluate | None = None,
        parameters: Callable[[str | bytes], Sequence[str]] | None = None,
        shot_s: float = 0.00025,
        qubits: int = 5,
    ) -> None:
        self.identity = identity or SessionIdentity("default/test")
        self.endpoint = "fake"
        self.reconnects = 0
        self.device = DeviceInfo("fake", qubits, 0, 0.0, BLOCK_SHOTS, "fake")
        self.submitted: list[str] = []
        """Ids of all jobs submitted, repetitions included."""
        self.acknowledged: list[str] = []
        """Ids of all results acknowledged."""
        self.failures: list[EfaasError] = []
        """Errors that the next jobs end with, first one first."""
        self._evaluate, self._parameters, self._shot_s = evaluate, parameters, shot_s
        self._programs: dict[str, tuple[str | bytes, CircuitInfo, Any]] = {}
        self._observables: dict[str, Terms] = {}
        self._kept: dict[str, JobResult] = {}
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def register_circuit(self, program: str | bytes) -> CircuitInfo:
        """Register a circuit, as `QpuConnection.register_circuit`.

        Raises:
            CircuitError: Qiskit cannot read it (without `evaluate`).
        """
        self._must_be_open()
        handle = circuit_digest(program)
        if handle not in self._programs:
            circuit = None if self._evaluate is not None else _read(program)
            if circuit is not None:
                names, qubits = [parameter.name for parameter in circuit.parameters], circuit.num_qubits
            else:
                names = list(self._parameters(program)) if self._parameters is not None else []
                qubits = self.device.qubits
            info = CircuitInfo(
                handle, tuple(names), qubits, self._shot_s * 1e6, self._shot_s, tuple(range(qubits)), 0.0
            )
            self._programs[handle] = (program, info, circuit)
        return self._programs[handle][1]

    def register_observable(self, terms: Iterable[tuple[str, float]]) -> str:
        """Register an observable, as `QpuConnection.register_observable`."""
        self._must_be_open()
        checked = tuple((pauli, float(coefficient)) for pauli, coefficient in terms)
        if not checked or any(set(pauli) - set("IXYZ") or not pauli for pauli, _ in checked):
            raise InputError(
                "an observable is one or more strings of the letters I, X, Y and Z", place="terms"
            )
        handle = observable_digest(checked)
        self._observables[handle] = checked
        return handle

    def submit(
        self,
        circuit: str,
        parameters: NDArray[np.float64] | Sequence[Sequence[float]] | Sequence[float],
        shots: int,
        *,
        evaluation: int,
        observables: Sequence[str] = (),
        readout_mitigation: bool = False,
        per_shot: bool = False,
        kind: JobKind = JobKind.LOOP,
        cpu_s: float = 0.0,
        on_queued: QueuedCallback | None = None,
        on_started: StartedCallback | None = None,
        on_partial: PartialCallback | None = None,
    ) -> QpuJob:
        """Run a job as `QpuConnection.submit` does, but at once: the future is done when it is returned."""
        self._must_be_open()
        message = submit_message(
            self.identity.session,
            circuit,
            parameters,
            shots,
            evaluation=evaluation,
            observables=observables,
            readout_mitigation=readout_mitigation,
            per_shot=per_shot,
            kind=kind,
            cpu_s=cpu_s,
        )
        self.submitted.append(message.job_id)
        job = QpuJob(self, message.job_id, on_queued, on_started, on_partial)
        listener = job.as_listener()
        listener.queued(0, 0.0, "the device is free")
        listener.started()
        values = np.array(message.parameters).reshape(message.parameter_sets, -1)
        try:
            if self.failures:
                raise self.failures.pop(0)
            kept = self._kept.get(message.job_id)
            if kept is None:
                kept = self._kept[message.job_id] = self._run(
                    message.job_id, circuit, values, shots, observables, per_shot
                )
                listener.done(kept)
            else:
                listener.done(_again(kept))
        except EfaasError as error:
            listener.failed(error)
        return job

    def _run(
        self,
        job_id: str,
        circuit: str,
        parameters: NDArray[np.float64],
        shots: int,
        observables: Sequence[str],
        per_shot: bool,
    ) -> JobResult:
        if circuit not in self._programs:
            raise InputError(f"no circuit {circuit} is registered; register it first", place="submit.circuit")
        program, info, read = self._programs[circuit]
        if (read is not None or self._parameters is not None) and parameters.shape[1] != len(info.parameters):
            raise ParameterError(
                f"sets have {parameters.shape[1]} numbers, the circuit has {len(info.parameters)} parameters",
                place="submit.parameters",
            )
        missing = [handle for handle in observables if handle not in self._observables]
        if missing:
            raise InputError(
                f"no observable {missing[0]} is registered; register it first", place="submit.observables"
            )
        terms = [self._observables[handle] for handle in observables]
        if not terms and read is None:
            raise InputError(
                "a fake with `evaluate` gives values only; pass observables", place="submit.observables"
            )
        evaluations = []
        for number, row in enumerate(parameters):
            if not terms:
                evaluations.append(self._outcomes(read, row, job_id, number, shots, per_shot))
            elif self._evaluate is not None:
                exact = np.asarray(self._evaluate(program, terms, row), dtype=np.float64)
                evaluations.append(_exact(exact))
            else:
                evaluations.append(self._values(read, row, terms, job_id, number, shots))
        total = shots * len(parameters)
        execution_s = total * self._shot_s
        timing = Timing(execution_s=execution_s, slices=1, attempts=1)
        return JobResult(job_id, "fake", tuple(evaluations), timing, 0, 0.0, total, execution_s)

    def _values(
        self,
        circuit: Any,
        row: NDArray[np.float64],
        observables: Sequence[Terms],
        job_id: str,
        number: int,
        shots: int,
    ) -> Evaluation:
        """Exact values with the normal error that `shots` shots of each term would have."""
        from qiskit.quantum_info import SparsePauliOp

        state = _state(circuit, row)
        values, errors = [], []
        seed = int(digest("fake", self.identity.seed, job_id, number), 16)
        random = np.random.default_rng(seed)
        for terms in observables:
            value, variance = 0.0, 0.0
            for pauli, coefficient in terms:
                expectation = float(state.expectation_value(SparsePauliOp(pauli)).real)
                value += coefficient * expectation
                variance += coefficient**2 * max(0.0, 1 - expectation**2) / shots
            errors.append(math.sqrt(variance))
            values.append(value + errors[-1] * random.standard_normal())
        empty = _exact(np.array(values))
        return Evaluation(empty.values, np.array(errors), empty.outcomes, empty.counts)

    def _outcomes(
        self, circuit: Any, row: NDArray[np.float64], job_id: str, number: int, shots: int, per_shot: bool
    ) -> Evaluation:
        """Outcomes of all qubits, drawn by the identity of their shots."""
        cumulative = np.cumsum(_state(circuit, row).probabilities())
        uniforms = shot_uniforms(self.identity.seed, job_id, number, 0, shots)
        drawn = np.minimum(np.searchsorted(cumulative, uniforms, side="right"), len(cumulative) - 1)
        counts = np.empty(0, dtype=np.uint64)
        if not per_shot:
            drawn, repeats = np.unique(drawn, return_counts=True)
            counts = repeats.astype(np.uint64)
        width = math.ceil(circuit.num_qubits / 8)
        outcomes = drawn.astype("<u8").reshape(-1, 1).view(np.uint8)[:, :width]
        return Evaluation(np.empty(0), np.empty(0), outcomes, counts, circuit.num_qubits)

    def cancel(self, job_id: str) -> None:
        """Do nothing: jobs end when they are submitted."""

    def acknowledge(self, job_id: str) -> None:
        """Note it, and forget the result."""
        self.acknowledged.append(job_id)
        self._kept.pop(job_id, None)

    def close(self) -> None:
        """Take nothing more."""
        self._is_closed = True

    def _must_be_open(self) -> None:
        if self._is_closed:
            raise SessionEnded("the stream was closed", place=self.endpoint)


def _exact(values: NDArray[np.float64]) -> Evaluation:
    if not np.isfinite(values).all():
        raise JobFailed(f"evaluate gave {values.tolist()}, which are not all finite", place="evaluate")
    nothing = np.empty((0, 0), dtype=np.uint8)
    return Evaluation(values, np.zeros_like(values), nothing, np.empty(0, dtype=np.uint64))


def _again(result: JobResult) -> JobResult:
    return replace(result, kept=True)


def _read(program: str | bytes) -> Any:
    try:
        if isinstance(program, str):
            from qiskit import qasm3

            circuit = qasm3.loads(program)
        else:
            from qiskit import qpy

            [circuit] = qpy.load(io.BytesIO(program))
    except Exception as error:
        reason = str(error)[:200] or type(error).__name__
        raise CircuitError(f"Qiskit cannot read it: {reason}", place="circuit") from None
    return circuit.remove_final_measurements(inplace=False)


def _state(circuit: Any, row: NDArray[np.float64]) -> Any:
    from qiskit.quantum_info import Statevector

    return Statevector(circuit.assign_parameters(row.tolist()))
