"""Aer, called in one of two ways that give the same states and the same shots.

`ControllerSimulator`, the fast path, keeps the circuit as Aer's own object and hands the controller only the
angles of each call: no circuit is converted, no noise model is serialised, no result object is built. It uses
names that Aer does not promise (the controller, `AerConfig`, `assemble_circuits`). `PublicSimulator` does the
same by ``AerSimulator.run``. `self_check` compares the fast path at the start of a worker with a simulation
that shares none of this package's code for noise (Aer's noise model and probabilities), so that a changed Aer
costs speed and never a result.

`parse_s` is what a call spends outside of Aer's execution (angles, parameters, noise, result), `simulate_s`
the time that Aer itself says it executed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from efaas_qpu.engine.angles import AngleMap
from efaas_qpu.engine.channels import Complex

_DEVICE_THREADS = 1
_FUSION_QUBITS = 7
"""Below, Aer's fusion of gates costs more than it saves on a density matrix."""
STATE = "state"
"""Label under which a program saves its state."""
SELF_CHECK_TOLERANCE = 1e-12


@dataclass(slots=True)
class Program:
    """A circuit as a simulator keeps it."""

    circuit: Any
    """`QuantumCircuit` in operations that Aer takes, conditions already turned into jumps."""
    angles: AngleMap
    parameters: tuple[Any, ...]
    method: str
    noise: Any = None
    """`NoiseModel` for trajectories."""
    native: Any = None
    """The simulator's own form."""

    @property
    def bytes(self) -> int:
        """About how much memory it holds."""
        return 4096 * (2 + len(self.circuit.data))


@dataclass(frozen=True, slots=True)
class Timing:
    """Wall seconds of one call."""

    parse_s: float
    simulate_s: float


class Simulator(Protocol):
    """What the engine needs of a simulator."""

    def load(self, circuit: Any, parameters: tuple[Any, ...], method: str, noise: Any = None) -> Program:
        """Keep a circuit."""

    def states(self, program: Program, parameters: NDArray[np.float64]) -> tuple[list[Complex], Timing]:
        """Saved state for each parameter set."""

    def shots(
        self, program: Program, parameters: NDArray[np.float64], shots: int, seed: int
    ) -> tuple[list[str], Timing]:
        """Hexadecimal outcome of each shot for one parameter vector."""


def _compile(circuit: Any, parameters: tuple[Any, ...]) -> tuple[Any, list[tuple[int, int]], AngleMap]:
    """Turn conditions into jumps and find the angles.

    Returns:
        Circuit, (instruction, argument) of each angle, the angles.
    """
    if any(getattr(item.operation, "blocks", ()) for item in circuit.data):
        from qiskit_aer.backends.aer_compiler import compile_circuit

        circuit = compile_circuit([circuit])[0]
    places: list[tuple[int, int]] = []
    expressions: list[Any] = []
    for place, item in enumerate(circuit.data):
        for argument, value in enumerate(item.operation.params):
            if getattr(value, "parameters", None):
                places.append((place, argument))
                expressions.append(value)
    return circuit, places, AngleMap(parameters, expressions)


class ControllerSimulator:
    """The fast path.

    Raises:
        ImportError, AttributeError: Aer's private interface is not what it was.
    """

    def __init__(self) -> None:
        from qiskit_aer import AerSimulator
        from qiskit_aer.backends.aer_compiler import assemble_circuits, generate_aer_config

        self._backend = AerSimulator(method="density_matrix", max_parallel_threads=_DEVICE_THREADS)
        self._execute = self._backend._controller.execute
        self._assemble = assemble_circuits
        self._configure = generate_aer_config

    def load(self, circuit: Any, parameters: tuple[Any, ...], method: str, noise: Any = None) -> Program:
        """Keep a circuit."""
        circuit, places, angles = _compile(circuit, parameters)
        aer, indices = self._assemble([circuit])
        aer[0].circ_id = 0
        config = self._configure([circuit], self._backend.options)
        config.method = method
        config.shots = 1
        config.fusion_enable = circuit.num_qubits >= _FUSION_QUBITS or method == "statevector"
        keys = [(indices[0][place], argument) for place, argument in places]
        model = noise.to_dict(serializable=True) if noise is not None else {}
        return Program(circuit, angles, parameters, method, noise, native=(aer, config, keys, model))

    def states(self, program: Program, parameters: NDArray[np.float64]) -> tuple[list[Complex], Timing]:
        """Saved state for each parameter set."""
        aer, config, keys, _ = program.native
        start = time.perf_counter()
        if keys:
            angles = program.angles(parameters).T.tolist()
            config.parameterizations = [list(zip(keys, angles, strict=True))]
        output = self._execute(aer, {}, config)
        _require_success(output)
        states = [result["data"][STATE] for result in output["results"]]
        if not keys:
            states *= len(parameters)
        total = time.perf_counter() - start
        executed = float(output["metadata"]["time_taken_execute"])
        return states, Timing(max(0.0, total - executed), executed)

    def shots(
        self, program: Program, parameters: NDArray[np.float64], shots: int, seed: int
    ) -> tuple[list[str], Timing]:
        """Hexadecimal outcome of each shot for one parameter vector."""
        aer, config, keys, model = program.native
        start = time.perf_counter()
        if keys:
            angles = program.angles(parameters[np.newaxis])[0].tolist()
            config.parameterizations = [[(key, [angle]) for key, angle in zip(keys, angles, strict=True)]]
        config.shots = shots
        config.seed_simulator = seed
        config.memory = True
        output = self._execute(aer, model, config)
        _require_success(output)
        memory: list[str] = output["results"][0]["data"]["memory"]
        total = time.perf_counter() - start
        executed = float(output["metadata"]["time_taken_execute"])
        return memory, Timing(max(0.0, total - executed), executed)


class PublicSimulator:
    """The same by Aer's public interface; some ten times slower for small circuits."""

    def __init__(self) -> None:
        from qiskit_aer import AerSimulator

        self._backend = AerSimulator

    def load(self, circuit: Any, parameters: tuple[Any, ...], method: str, noise: Any = None) -> Program:
        """Keep a circuit."""
        _, _, angles = _compile(circuit, parameters)
        options = {"noise_model": noise} if noise is not None else {}
        backend = self._backend(
            method=method,
            max_parallel_threads=_DEVICE_THREADS,
            fusion_enable=circuit.num_qubits >= _FUSION_QUBITS or method == "statevector",
            **options,
        )
        return Program(circuit, angles, parameters, method, noise, native=backend)

    def states(self, program: Program, parameters: NDArray[np.float64]) -> tuple[list[Complex], Timing]:
        """Saved state for each parameter set."""
        start = time.perf_counter()
        result = program.native.run([self._bind(program, row) for row in parameters], shots=1).result()
        if not result.success:
            raise RuntimeError(f"Aer failed: {result.status}")
        states = [np.asarray(result.data(which)[STATE]) for which in range(len(parameters))]
        executed = sum(float(item.time_taken) for item in result.results)
        return states, Timing(max(0.0, time.perf_counter() - start - executed), executed)

    def shots(
        self, program: Program, parameters: NDArray[np.float64], shots: int, seed: int
    ) -> tuple[list[str], Timing]:
        """Hexadecimal outcome of each shot for one parameter vector."""
        start = time.perf_counter()
        bound = self._bind(program, parameters)
        result = program.native.run(bound, shots=shots, seed_simulator=seed, memory=True).result()
        if not result.success:
            raise RuntimeError(f"Aer failed: {result.status}")
        memory: list[str] = result.results[0].data.memory
        executed = float(result.results[0].time_taken)
        return memory, Timing(max(0.0, time.perf_counter() - start - executed), executed)

    @staticmethod
    def _bind(program: Program, row: NDArray[np.float64]) -> Any:
        present = program.circuit.parameters
        return program.circuit.assign_parameters(
            {
                name: float(value)
                for name, value in zip(program.parameters, row, strict=True)
                if name in present
            }
        )


def _require_success(output: Any) -> None:
    if not isinstance(output, dict) or not output.get("success", False):
        status = output.get("status", "no status") if isinstance(output, dict) else output
        details = ""
        if isinstance(output, dict):
            details = "; ".join(str(item.get("status", "")) for item in output.get("results", []))
        raise RuntimeError(f"Aer failed: {status} {details}".strip())


def choose_simulator(*, force_public: bool = False) -> tuple[Simulator, bool, str]:
    """The fast path if it is there and right.

    Returns:
        Simulator, whether it is the fast path, and why not if not.
    """
    if force_public:
        return PublicSimulator(), False, "the public interface of Aer was asked for"
    try:
        simulator = ControllerSimulator()
        difference = self_check(simulator)
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        return (
            PublicSimulator(),
            False,
            f"Aer's controller cannot be called directly ({type(error).__name__}: {text})",
        )
    if not difference <= SELF_CHECK_TOLERANCE:
        return (
            PublicSimulator(),
            False,
            f"Aer's controller differs from its public interface by {difference:.1e}",
        )
    return simulator, True, ""


def self_check(simulator: Simulator) -> float:
    """Greatest difference of outcome probabilities from Aer's public interface on a small noisy circuit.

    The circuit under test holds its noise as superoperators in place; the reference is the bare circuit under
    a `NoiseModel` of Aer's own errors. Parameters, two sets, in a shared angle and in a sum, are part of it.
    """
    from qiskit import QuantumCircuit
    from qiskit.circuit import Instruction, Parameter
    from qiskit.quantum_info import SuperOp
    from qiskit_aer import AerSimulator
    from qiskit_aer.noise import NoiseModel, depolarizing_error, thermal_relaxation_error

    first, second = Parameter("a"), Parameter("b")
    # T2 below T1: the other way round, Aer needs scipy.linalg, whose import takes longer than all of this.
    one = depolarizing_error(0.01, 1).compose(thermal_relaxation_error(70.0, 50.0, 0.5))
    two = depolarizing_error(0.05, 2)
    model = NoiseModel(basis_gates=["rz", "sx", "cx"])
    model.add_all_qubit_quantum_error(one, ["sx"])
    model.add_all_qubit_quantum_error(two, ["cx"])
    bare, noisy = QuantumCircuit(2), QuantumCircuit(2)
    for qubit, angle in ((0, first), (1, 2 * second - first + 0.3)):
        for circuit in (bare, noisy):
            circuit.sx(qubit)
            if circuit is noisy:
                circuit.append(Instruction("superop", 1, 0, [SuperOp(one).data]), [qubit])
            circuit.rz(angle, qubit)
            circuit.sx(qubit)
            if circuit is noisy:
                circuit.append(Instruction("superop", 1, 0, [SuperOp(one).data]), [qubit])
    bare.cx(0, 1)
    noisy.cx(0, 1)
    noisy.append(Instruction("superop", 2, 0, [SuperOp(two).data]), [0, 1])
    save_state(noisy, "density_matrix")
    bare.save_probabilities()
    values = np.array([[0.4, -1.1], [2.0, 0.7]])
    program = simulator.load(noisy, (first, second), "density_matrix")
    states, _ = simulator.states(program, values)
    reference = AerSimulator(method="density_matrix", noise_model=model)
    binds = {first: values[:, 0].tolist(), second: values[:, 1].tolist()}
    result = reference.run(bare, parameter_binds=[binds], shots=1).result()
    worst = 0.0
    for which, state in enumerate(states):
        wanted = np.asarray(result.data(which)["probabilities"])
        worst = max(worst, float(np.abs(np.real(np.diag(np.asarray(state))) - wanted).max()))
    return worst


def save_state(circuit: Any, method: str) -> None:
    """End a circuit with saving its state."""
    import qiskit_aer  # noqa: F401 - adds the save methods to QuantumCircuit

    if method == "density_matrix":
        circuit.save_density_matrix(label=STATE)
    else:
        circuit.save_statevector(label=STATE)
