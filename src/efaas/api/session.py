"""VQASession: what a person asks for, and what is reported back.

A session is one variational algorithm: a problem, an ansatz and an optimizer, or the user's own program, with
what it needs from a device and how much it may use. The models here are the single source: the CRD is made
from them. They check shape and ranges only; what needs mathematics (is the Hamiltonian Hermitian, does the
circuit fit a device) is checked by `efaas.problems`, `efaas.ansatze` and `efaas.core.placement`.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from efaas.api.meta import API_VERSION, Metadata, Model, Name
from efaas.api.quantities import Duration, Number

Qubits = Annotated[int, Field(ge=1, le=1000)]
Repetitions = Annotated[int, Field(ge=1, le=100)]
Entanglement = Literal["linear", "reverse_linear", "circular", "full", "pairwise", "sca"]


class OneOf(Model):
    """A model of which exactly one field is set; `choice` names it."""

    @model_validator(mode="after")
    def _exactly_one(self) -> OneOf:
        fields = type(self).model_fields
        given = [field.alias or name for name, field in fields.items() if getattr(self, name) is not None]
        if len(given) != 1:
            names = ", ".join(field.alias or name for name, field in fields.items())
            found = "none is" if not given else f"{', '.join(given)} are"
            raise ValueError(f"set exactly one of {names}; {found} set")
        return self

    @property
    def choice(self) -> str:
        """Name (snake_case) of the one field that is set."""
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)


# --- problems -------------------------------------------------------------------------------------


class PauliTerm(Model):
    """One term of a Hamiltonian."""

    pauli: Annotated[str, Field(pattern=r"^[IXYZ]+$", max_length=1000)]
    """Pauli string, one letter a qubit, qubit 0 rightmost (Qiskit's order)."""
    coefficient: Number
    """Real coefficient, in the unit of the energy."""


class Molecule(Model):
    """A Hamiltonian shipped with the project, in Hartree."""

    name: Literal["H2", "LiH"]
    """Chemical formula."""
    qubits: Qubits
    """How many qubits the mapping uses: H2 at 2 or 4, LiH at 4 (active space)."""


class IsingChain(Model):
    """Transverse-field Ising chain: H = -J Σ Z_i Z_(i+1) - h Σ X_i."""

    sites: Annotated[int, Field(ge=2, le=1000)]
    """Number of spins."""
    coupling: Number = Decimal(1)
    """J, dimensionless."""
    field: Number = Decimal(1)
    """h, dimensionless."""
    periodic: bool = False
    """Whether the last spin is coupled to the first."""


class HeisenbergChain(Model):
    """Heisenberg chain: H = J Σ (X_i X_(i+1) + Y_i Y_(i+1) + Δ Z_i Z_(i+1)) + h Σ Z_i."""

    sites: Annotated[int, Field(ge=2, le=1000)]
    """Number of spins."""
    coupling: Number = Decimal(1)
    """J, dimensionless."""
    anisotropy: Number = Decimal(1)
    """Δ, dimensionless."""
    field: Number = Decimal(0)
    """h, dimensionless."""
    periodic: bool = False
    """Whether the last spin is coupled to the first."""


class Edge(Model):
    """A weighted edge of a graph."""

    nodes: Annotated[tuple[Annotated[int, Field(ge=0, lt=1000)], ...], Field(min_length=2, max_length=2)]
    """The two nodes it joins; nodes are numbered from 0."""
    weight: Number = Decimal(1)
    """Weight of the edge."""


class MaxCut(Model):
    """Partition a graph's nodes so that the edges between the parts weigh most."""

    edges: Annotated[tuple[Edge, ...], Field(min_length=1, max_length=20_000)]
    """Edges, each named once."""


class Problem(OneOf):
    """The Hamiltonian whose ground state is looked for; exactly one of the fields."""

    terms: Annotated[tuple[PauliTerm, ...], Field(min_length=1, max_length=20_000)] | None = None
    """Pauli terms."""
    hamiltonian: Annotated[str, Field(max_length=65_536)] | None = None
    """The same as one readable line, such as ``-1.05 II + 0.39 IZ``."""
    molecule: Molecule | None = None
    """A molecule shipped with the project."""
    ising_chain: IsingChain | None = None
    """Transverse-field Ising chain."""
    heisenberg_chain: HeisenbergChain | None = None
    """Heisenberg chain."""
    max_cut: MaxCut | None = None
    """Maximum cut of a weighted graph."""


# --- ansätze --------------------------------------------------------------------------------------


class EfficientSU2(Model):
    """RY and RZ rotations with CX entanglement."""

    repetitions: Repetitions = 2
    """Number of entangling layers."""
    entanglement: Entanglement = "reverse_linear"
    """Which qubits are entangled."""


class RealAmplitudes(Model):
    """RY rotations with CX entanglement."""

    repetitions: Repetitions = 2
    """Number of entangling layers."""
    entanglement: Entanglement = "reverse_linear"
    """Which qubits are entangled."""


class NLocal(Model):
    """Layers of single-qubit rotations and two-qubit entanglers (Qiskit's n_local, formerly TwoLocal)."""

    rotations: Annotated[
        tuple[Literal["rx", "ry", "rz", "h", "x", "sx"], ...], Field(min_length=1, max_length=6)
    ] = ("ry",)
    """Single-qubit gates of a layer, in order."""
    entanglers: Annotated[
        tuple[Literal["cx", "cz", "ecr", "rxx", "ryy", "rzz"], ...], Field(min_length=1, max_length=3)
    ] = ("cz",)
    """Two-qubit gates of a layer, in order."""
    repetitions: Repetitions = 2
    """Number of entangling layers."""
    entanglement: Entanglement = "reverse_linear"
    """Which qubits are entangled."""


class Qaoa(Model):
    """The quantum approximate optimisation ansatz of the problem's Hamiltonian."""

    layers: Repetitions = 1
    """Number of alternating cost and mixer layers."""


class Ansatz(OneOf):
    """The parametrised circuit; exactly one of the fields."""

    efficient_su2: Annotated[EfficientSU2 | None, Field(alias="efficientSU2")] = None
    """RY and RZ rotations with CX entanglement."""
    real_amplitudes: RealAmplitudes | None = None
    """RY rotations with CX entanglement."""
    n_local: NLocal | None = None
    """Layers of chosen rotations and entanglers."""
    qaoa: Qaoa | None = None
    """Alternating cost and mixer layers."""
    openqasm3: Annotated[str, Field(max_length=262_144)] | None = None
    """A circuit of your own as OpenQASM 3, its parameters declared as ``input float``."""


# --- optimizers -----------------------------------------------------------------------------------

Iterations = Annotated[int, Field(ge=1, le=1_000_000)]


class Spsa(Model):
    """Simultaneous perturbation stochastic approximation (Spall 1998): two evaluations an iteration."""

    learning_rate: Number | None = None
    """Step size a; calibrated from the first evaluations if not given."""
    perturbation: Number = Decimal("0.1")
    """Perturbation size c, in radians."""
    calibration_steps: Annotated[int, Field(ge=0, le=1000)] = 25
    """Gradient samples (two evaluations each) that set the step size; used only without learningRate."""
    last_average: Annotated[int, Field(ge=1, le=1000)] = 1
    """Number of last iterates averaged for the final parameters."""


class QnSpsa(Model):
    """SPSA with a stochastic estimate of the quantum natural gradient's metric (Gacon et al. 2021)."""

    learning_rate: Number = Decimal("0.05")
    """Step size, in radians."""
    perturbation: Number = Decimal("0.1")
    """Perturbation size, in radians."""
    regularization: Number = Decimal("0.01")
    """Added to the metric's diagonal before it is inverted."""


class Adam(Model):
    """Adam on gradients from the parameter-shift rule: two evaluations a parameter and iteration."""

    learning_rate: Number = Decimal("0.1")
    """Step size, in radians."""
    beta1: Number = Decimal("0.9")
    """Decay of the mean of gradients."""
    beta2: Number = Decimal("0.99")
    """Decay of the mean of squared gradients."""


class Rotosolve(Model):
    """Sequential minimisation of one parameter at a time along its sinusoid (NFT, Nakanishi et al. 2020)."""

    reset_interval: Annotated[int, Field(ge=1, le=10_000)] = 32
    """Updates after which the value at the current point is measured anew, so that errors do not add up."""


class CmaEs(Model):
    """Covariance matrix adaptation evolution strategy."""

    step_size: Number = Decimal("0.5")
    """Initial standard deviation, in radians."""
    population: Annotated[int, Field(ge=4, le=10_000)] | None = None
    """Points a generation; 4 + 3 ln(parameters) if not given."""


class NelderMead(Model):
    """The downhill simplex method."""

    step_size: Number = Decimal("0.5")
    """Edge of the first simplex, in radians."""
    adaptive: bool = True
    """Whether coefficients are scaled to the number of parameters (Gao and Han 2012)."""


class Cobyla(Model):
    """Constrained optimisation by linear approximation (SciPy's)."""

    step_size: Number = Decimal("0.5")
    """First trust-region radius, in radians."""
    final_step_size: Number = Decimal("0.0001")
    """Trust-region radius at which it stops, in radians."""


class Powell(Model):
    """Powell's conjugate directions (SciPy's)."""

    parameter_tolerance: Number = Decimal("0.0001")
    """Relative change of parameters at which it stops."""


class Scan(Model):
    """No optimizer: points around the initial parameters are all submitted at once, as batch work."""

    points: Annotated[int, Field(ge=1, le=1_000_000)]
    """How many points are evaluated."""
    radius: Number = Decimal("3.141592653589793")
    """Points are uniform in a box of this half-width around the initial parameters, in radians."""
    points_per_job: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Parameter sets in one job."""


class Optimizer(OneOf):
    """The classical side of the loop; exactly one of the fields."""

    spsa: Spsa | None = None
    """Simultaneous perturbation stochastic approximation."""
    qn_spsa: QnSpsa | None = None
    """Quantum natural SPSA."""
    adam: Adam | None = None
    """Adam with parameter-shift gradients."""
    rotosolve: Rotosolve | None = None
    """Rotosolve/NFT."""
    cma_es: CmaEs | None = None
    """CMA-ES."""
    nelder_mead: NelderMead | None = None
    """Nelder-Mead."""
    cobyla: Cobyla | None = None
    """COBYLA."""
    powell: Powell | None = None
    """Powell."""
    scan: Scan | None = None
    """A parameter scan, run as batch work."""


class Stop(Model):
    """When the loop ends; the first rule that holds ends it."""

    max_iterations: Iterations = 200
    """Optimizer iterations."""
    tolerance: Number | None = None
    """Ends when the best value improved by less than this over the window."""
    window: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Iterations over which the tolerance is looked at."""
    max_duration: Duration | None = None
    """Wall time since the session's first iteration."""
    max_qpu_time: Duration | None = None
    """Device time used by the session."""


# --- the user's own program -----------------------------------------------------------------------


class ConfigMapKey(Model):
    """A key of a ConfigMap in the session's namespace."""

    name: Name
    """Name of the ConfigMap."""
    key: Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)]
    """Key in its data."""


class Program(Model):
    """The user's own Python program on the SDK, in place of problem, ansatz and optimizer."""

    script: ConfigMapKey | None = None
    """A Python file in a ConfigMap (for `efaas run`, one of the same file)."""
    image: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    """A container image that holds the program; cluster only."""
    command: Annotated[tuple[Annotated[str, Field(max_length=4096)], ...], Field(max_length=64)] = ()
    """Command inside the image; its entry point if empty."""
    arguments: Annotated[tuple[Annotated[str, Field(max_length=4096)], ...], Field(max_length=64)] = ()
    """Arguments of the script or command."""

    @model_validator(mode="after")
    def _script_or_image(self) -> Program:
        if (self.script is None) == (self.image is None):
            raise ValueError("set exactly one of script, image")
        return self


# --- what the session needs and may use -----------------------------------------------------------


class DeviceRequirements(Model):
    """Which devices may run the session."""

    qubits: Qubits | None = None
    """Least number of qubits; that of the problem if not given. A program should give it."""
    match_labels: Annotated[dict[str, str], Field(max_length=32)] = Field(default_factory=dict)
    """Labels the QPUDevice must carry; each device carries ``efaas.dev/device: NAME`` by itself."""
    max_calibration_age: Duration | None = None
    """No iteration runs on a calibration older than this."""
    min_fidelity: Number | None = None
    """Least expected success probability of one circuit run, between 0 and 1."""


class SpeculationMode(StrEnum):
    """How far the classical side may run ahead of the quantum results."""

    OFF = "Off"
    EXACT = "Exact"
    TOLERANT = "Tolerant"


class Limits(Model):
    """Ends the session, as Expired, when one is reached."""

    duration: Duration | None = None
    """Wall time since admission."""
    idle: Duration | None = None
    """Wall time without a job."""
    shots: Annotated[int, Field(ge=1)] | None = None
    """Shots charged."""
    qpu_time: Duration | None = None
    """Device time charged."""


class VQASessionSpec(Model):
    """What a person asks for: `problem`, `ansatz` and `optimizer`, or a `program`."""

    problem: Problem | None = None
    """Hamiltonian whose ground state is looked for."""
    ansatz: Ansatz | None = None
    """Parametrised circuit."""
    optimizer: Optimizer | None = None
    """Classical side of the loop."""
    initial_parameters: Annotated[tuple[Number, ...], Field(max_length=100_000)] | None = None
    """First point, in radians; drawn from the seed if not given."""
    stop: Stop = Field(default_factory=Stop)
    """When the loop ends."""
    program: Program | None = None
    """The user's own program, in place of the fields above."""

    shots: Annotated[int, Field(ge=1, le=100_000_000)] = 4096
    """Shots for each measurement basis of each evaluation."""
    final_shots: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """Shots for each basis of one last evaluation at the best point; as `shots` if not given."""
    readout_mitigation: bool = True
    """Whether readout errors are corrected with the calibrated confusion matrices."""
    seed: Annotated[int, Field(ge=0, le=2**53 - 1)] = 0
    """Seed of everything random in the session: first point, optimizer, shots."""

    device: DeviceRequirements = Field(default_factory=DeviceRequirements)
    """Which devices may run the session."""
    speculation: SpeculationMode = SpeculationMode.OFF
    """How far the classical side may run ahead."""
    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    """Share of this session among those of its namespace."""
    limits: Limits = Field(default_factory=Limits)
    """How much the session may use."""
    suspend: bool = False
    """Whether the session is held; it goes on from its journal when this is taken back."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """Seconds after its end when the object is deleted."""

    @model_validator(mode="after")
    def _problem_or_program(self) -> VQASessionSpec:
        declared = [name for name in ("problem", "ansatz", "optimizer") if getattr(self, name) is not None]
        if self.program is not None and declared:
            raise ValueError(
                f"a program brings its own problem, ansatz and optimizer: remove {declared[0]} or program"
            )
        if self.program is None and len(declared) != 3:
            missing = next(name for name in ("problem", "ansatz", "optimizer") if getattr(self, name) is None)
            raise ValueError(f"set problem, ansatz and optimizer, or a program; {missing} is missing")
        return self


class VQASession(Model):
    """A variational algorithm, run as one session."""

    api_version: Literal["efaas.dev/v1alpha1"] = API_VERSION  # type: ignore[assignment]
    kind: Literal["VQASession"] = "VQASession"
    metadata: Metadata
    spec: VQASessionSpec

    @property
    def key(self) -> str:
        """``namespace/name``: the session's identity in logs, journals and job ids."""
        return f"{self.metadata.namespace}/{self.metadata.name}"
