"""What the server and the worker say to each other.

All are picklable and import without Qiskit. Arrays of float64 are C-contiguous with the parameter set as the
first axis. Outcomes are rows of ceil(bits / 8) bytes, little-endian, classical bit 0 in the least significant
place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from efaas.errors import EfaasError

Term = tuple[str, float]
"""A Pauli string, one letter a circuit qubit with qubit 0 rightmost, and its coefficient."""

Rotations = Mapping[tuple[str, tuple[int, ...]], float]
"""Over-rotations in radians by (gate name, physical qubits)."""


class _Quick:
    """Pickled as a call of its class, which takes a third of what a slotted dataclass takes by itself."""

    __slots__ = ()
    __match_args__: ClassVar[tuple[str, ...]]

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), tuple(getattr(self, name) for name in self.__match_args__)


class WorkerFailed(EfaasError):
    """The worker process died or hung; the same request again starts a new one and can succeed.

    Args:
        message: what happened, in one sentence.
        how: whether it ended by itself (or was killed), or had to be killed because it took too long.
    """

    code = "WorkerFailed"
    retry = True

    def __init__(self, message: str, *, how: Literal["died", "hung"]) -> None:
        super().__init__(message)
        self.how = how


@dataclass(frozen=True, slots=True)
class Limits:
    """What a circuit or a job may cost. Times are wall seconds."""

    start_s: float = 60.0
    """From the start of the process until it says that it is ready."""
    prepare_s: float = 20.0
    """Parsing, transpiling and preparing one circuit; a circuit that needs longer is refused."""
    execute_s: float = 600.0
    """One job; a worker that needs longer is taken for hung and killed."""
    program_bytes: int = 512 * 1024
    """Length of a program."""
    instructions: int = 50_000
    """Operations of a circuit after its own gate definitions and loops are written out."""
    depth: int = 20_000
    """Longest chain of operations."""
    classical_bits: int = 1024
    """Classical bits of a circuit."""
    parameters: int = 4096
    """Parameters of a circuit."""
    simulation_bytes: int = 1 << 30
    """Memory of the state of one simulation."""
    density_matrix_qubits: int = 10
    """Active qubits up to which method Auto computes noisy outcome probabilities instead of trajectories."""
    cache_bytes: int = 256 << 20
    """Memory of prepared circuits in the worker; the least recently used one is dropped."""
    program_cache_bytes: int = 64 << 20
    """Memory of programs in the parent, from which a new worker is told what was prepared."""
    process_bytes: int = 8 << 30
    """Address space of the worker process."""
    result_bytes: int = 256 << 20
    """Memory of one job's outcomes."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a worker must know to be an engine."""

    known: object
    """`DeviceSnapshot` that layout and mitigation go by."""
    true: object
    """`DeviceSnapshot` whose noise and readout are simulated."""
    noisy: bool
    method: str
    limits: Limits = field(default_factory=Limits)
    force_public: bool = False
    """Use Aer's public interface even if the fast path works (tests)."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A circuit that is ready to run."""

    handle: str
    parameters: tuple[str, ...]
    """Names in the order in which a parameter vector gives their values."""
    qubits: int
    bits: int
    """Classical bits of an outcome when it runs without observables."""
    layout: tuple[int, ...]
    """Physical qubit of each circuit qubit."""
    duration_us: float
    """One run of the transpiled circuit, with rotations into a basis and measurement."""
    shot_s: float
    """Device seconds of one shot: repetition delay and duration."""
    prepare_s: float
    """Wall seconds to parse, transpile and prepare; 0 when it was warm."""
    method: str
    """How it is simulated: statevector, density_matrix or trajectories."""
    physical: tuple[int, ...] = ()
    """All physical qubits in use, those that routing goes through included; ascending."""


@dataclass(frozen=True, slots=True)
class Execute(_Quick):
    """One job."""

    job_id: str
    session_seed: int
    circuit: str
    observables: tuple[str, ...]
    """Handles; none: outcomes of the circuit's own measurements."""
    parameters: NDArray[np.float64]
    """Shape (sets, parameters), radians."""
    shots: int
    """For each parameter set and measurement basis."""
    readout_mitigation: bool = False
    per_shot: bool = False
    """Outcomes in the order of shots rather than counted."""
    shot_ranges: tuple[int, ...] = ()
    """Cumulative numbers of shots at which a running estimate is wanted, ascending, below `shots`."""


@dataclass(frozen=True, slots=True)
class Evaluation(_Quick):
    """What came out for one parameter set."""

    values: NDArray[np.float64]
    """Shape (observables,)."""
    std_errors: NDArray[np.float64]
    """Shape (observables,); NaN where one shot was all there was."""
    outcomes: bytes | None
    """Without observables: rows of outcomes, see the module."""
    counts: NDArray[np.int64] | None
    """How often each row was seen; None when rows are single shots in order."""
    bits: int


@dataclass(frozen=True, slots=True)
class PartialEstimate(_Quick):
    """Running estimate after the first `shots` shots of every pair."""

    shots: int
    evaluations: tuple[Evaluation, ...]


@dataclass(frozen=True, slots=True)
class Executed(_Quick):
    """A job's result."""

    evaluations: tuple[Evaluation, ...]
    partial: tuple[PartialEstimate, ...]
    parse_s: float
    """Wall seconds that Aer spent reading circuits, parameters and noise."""
    simulate_s: float
    """Wall seconds that Aer spent simulating."""
    sample_s: float
    """Wall seconds for shots and estimates."""
    prepare_s: float = 0.0
    """Wall seconds to make the circuit ready because it was not: the true device had moved, or it is cold."""
    cold: bool = False
    """Whether the circuit had to be read and transpiled again: it had made way, or the worker is new."""


@dataclass(frozen=True, slots=True)
class EngineReady:
    """The worker is up."""

    versions: str
    """Of the simulator's packages, for people."""
    fast_path: bool
    """Whether Aer's controller is called directly; its public interface otherwise."""
    warning: str = ""
    """Why not, if not."""
