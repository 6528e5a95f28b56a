"""What comes back from a QPU server, as dataclasses with numpy arrays.

Nothing outside `efaas.client` sees a protobuf message: these classes are what the runner and the SDK work
with, and what the in-process fake makes. Times say whose seconds they are: device seconds are those of the
simulated device's clock, wall seconds those of this machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from efaas.api.wire import qpu_pb2 as wire
from efaas.errors import JobFailed


@dataclass(frozen=True, slots=True)
class CircuitInfo:
    """What the device made of a registered circuit."""

    handle: str
    """Digest of the program; jobs name the circuit by it."""
    parameters: tuple[str, ...]
    """Names, in the order in which a parameter vector gives their values."""
    qubits: int
    duration_us: float
    """One run of the transpiled circuit with its measurement."""
    shot_s: float
    """Device seconds of one shot: repetition delay + duration."""
    layout: tuple[int, ...]
    """Physical qubit of each circuit qubit."""
    prepare_s: float
    """Wall seconds that parsing, transpiling and preparing took; 0 when the server had it already."""


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """The server's welcome."""

    device: str
    qubits: int
    calibration_epoch: int
    calibration_age_s: float
    """Device seconds."""
    block_shots: int
    version: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured for one parameter set."""

    values: NDArray[np.float64]
    """Shape (observables,): expectation values."""
    std_errors: NDArray[np.float64]
    """Shape (observables,): standard errors of the values, from the shots."""
    outcomes: NDArray[np.uint8]
    """Shape (rows, ceil(bits / 8)), little-endian; no rows when observables were asked for."""
    counts: NDArray[np.uint64]
    """Shape (rows,): how often each row was seen; empty when rows are single shots in their order."""
    bits: int = 0
    """Classical bits of an outcome, bit 0 least significant."""

    def bitstrings(self) -> list[str]:
        """Each row as a bit string, bit 0 rightmost."""
        return [
            format(int.from_bytes(row.tobytes(), "little"), f"0{self.bits}b") if self.bits else ""
            for row in self.outcomes
        ]

    def counts_by_bitstring(self) -> dict[str, int]:
        """How often each bit string was seen, bit 0 rightmost."""
        counts: dict[str, int] = {}
        repeats = self.counts.tolist() if len(self.counts) else [1] * len(self.outcomes)
        for text, count in zip(self.bitstrings(), repeats, strict=True):
            counts[text] = counts.get(text, 0) + count
        return counts


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time of a job went.

    The time to next shot is network + queue + calibration: in wall seconds `network_s` + `wall_queue_s`, of
    which `wall_calibration_s` is calibration.
    """

    queue_s: float = 0.0
    """Device seconds from arrival to start, without calibration."""
    calibration_s: float = 0.0
    """Device seconds spent calibrating for this job."""
    execution_s: float = 0.0
    """Device seconds of its shots."""
    wall_queue_s: float = 0.0
    """Wall seconds from arrival to start, calibration included."""
    wall_calibration_s: float = 0.0
    """Wall seconds spent calibrating for this job."""
    wall_execution_s: float = 0.0
    """Wall seconds from start to end."""
    server_s: float = 0.0
    """Wall seconds from arrival of the submit at the server to sending of the result."""
    parse_s: float = 0.0
    """Wall seconds that Aer spent reading circuits and noise."""
    simulate_s: float = 0.0
    """Wall seconds that Aer spent simulating."""
    round_trip_s: float = 0.0
    """Wall seconds from submit to result, at the client."""
    late: bool = False
    """Whether the simulation took longer than the device time it stands for."""
    slices: int = 0
    attempts: int = 0

    @property
    def network_s(self) -> float:
        """Wall seconds on the way there: half of what the round trip took beyond the server's time."""
        return max(0.0, self.round_trip_s - self.server_s) / 2

    @property
    def ttns_s(self) -> float:
        """Time to next shot, wall seconds."""
        return self.network_s + self.wall_queue_s


@dataclass(frozen=True, slots=True)
class JobResult:
    """A completed job."""

    job_id: str
    device: str
    evaluations: tuple[Evaluation, ...]
    """One for each parameter set."""
    timing: Timing
    calibration_epoch: int
    calibration_age_s: float
    """Device seconds, when the job started."""
    shots: int
    """Shots charged."""
    qpu_s: float
    """Device seconds charged."""
    kept: bool = False
    """Whether the server had kept it and returned it again without a run."""

    @property
    def values(self) -> NDArray[np.float64]:
        """Shape (parameter sets, observables): expectation values."""
        return np.stack([evaluation.values for evaluation in self.evaluations])

    @property
    def std_errors(self) -> NDArray[np.float64]:
        """Shape (parameter sets, observables): standard errors of `values`."""
        return np.stack([evaluation.std_errors for evaluation in self.evaluations])


def evaluation_from_wire(message: wire.Evaluation, job_id: str = "") -> Evaluation:
    """Decode one evaluation.

    Raises:
        JobFailed: the rows of outcomes do not have the length that the number of bits says.
    """
    bits = message.outcomes.bits
    width = (bits + 7) // 8
    data = message.outcomes.outcomes
    counts = np.array(message.outcomes.counts, dtype=np.uint64)
    rows = len(data) // width if width else 0
    if rows * width != len(data) or (len(counts) and len(counts) != rows):
        raise JobFailed(
            f"the server sent {len(data)} bytes of outcomes and {len(counts)} counts for {bits} bits",
            place=f"job {job_id}",
        )
    return Evaluation(
        values=np.array(message.values, dtype=np.float64),
        std_errors=np.array(message.std_errors, dtype=np.float64),
        outcomes=np.frombuffer(data, dtype=np.uint8).reshape(rows, width),
        counts=counts,
        bits=bits,
    )


def result_from_wire(message: wire.Result, *, device: str, round_trip_s: float) -> JobResult:
    """Decode a result.

    Args:
        message: as received.
        device: name of the device that ran it.
        round_trip_s: wall seconds since the job was submitted.

    Raises:
        JobFailed: the outcomes are malformed or a value is not finite.
    """
    timing = message.timing
    evaluations = tuple(evaluation_from_wire(item, message.job_id) for item in message.evaluations)
    for number, evaluation in enumerate(evaluations):
        if not all(map(math.isfinite, message.evaluations[number].values)):
            raise JobFailed(
                f"the server sent the values {evaluation.values.tolist()}, which are not all finite",
                place=f"job {message.job_id}",
            )
    return JobResult(
        job_id=message.job_id,
        device=device,
        evaluations=evaluations,
        timing=Timing(
            queue_s=timing.queue_s,
            calibration_s=timing.calibration_s,
            execution_s=timing.execution_s,
            wall_queue_s=timing.wall_queue_s,
            wall_calibration_s=timing.wall_calibration_s,
            wall_execution_s=timing.wall_execution_s,
            server_s=timing.server_s,
            parse_s=timing.parse_s,
            simulate_s=timing.simulate_s,
            round_trip_s=round_trip_s,
            late=timing.late,
            slices=timing.slices,
            attempts=timing.attempts,
        ),
        calibration_epoch=message.calibration_epoch,
        calibration_age_s=message.calibration_age_s,
        shots=message.shots,
        qpu_s=message.qpu_s,
        kept=message.kept,
    )


def circuit_from_wire(message: wire.CircuitRegistered) -> CircuitInfo:
    """Decode the answer to a registration."""
    return CircuitInfo(
        handle=message.handle,
        parameters=tuple(message.parameters),
        qubits=message.qubits,
        duration_us=message.duration_us,
        shot_s=message.shot_s,
        layout=tuple(message.layout),
        prepare_s=message.prepare_s,
    )


def device_from_wire(message: wire.Welcome) -> DeviceInfo:
    """Decode the welcome."""
    return DeviceInfo(
        device=message.device,
        qubits=message.qubits,
        calibration_epoch=message.calibration_epoch,
        calibration_age_s=message.calibration_age_s,
        block_shots=message.block_shots,
        version=message.version,
    )
