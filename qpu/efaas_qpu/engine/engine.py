"""The engine of one device: prepares circuits, keeps them, and runs jobs.

This is what the worker process serves; it is also used in the caller's own process where nobody waits
meanwhile (`efaas_qpu.engine.reference`, tests). Prepared circuits are kept up to a bound of memory, the least
recently used is dropped.

Three devices meet here. Layouts go by the device as the last *full* calibration saw it, so that a layout is a
function of circuit and full calibration. Readout mitigation goes by what is known *now*, localised
calibrations included. What is simulated is the *true* device. `set_known_device` and `set_true_device` move
them; what of a prepared circuit depends on them is made anew when the circuit runs next.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from efaas.core.identity import BLOCK_SHOTS, block_seed
from efaas.devices.snapshot import DeviceSnapshot
from efaas.errors import CircuitError, ParameterError
from efaas_qpu.engine import observables as grouping_of
from efaas_qpu.engine import sampling
from efaas_qpu.engine.device import Device
from efaas_qpu.engine.estimates import Collected, Tables
from efaas_qpu.engine.messages import (
    Configuration,
    EngineReady,
    Execute,
    Executed,
    Prepared,
    Rotations,
    Term,
)
from efaas_qpu.engine.parse import parse
from efaas_qpu.engine.plan import (
    DENSITY_MATRIX,
    TRAJECTORIES,
    Plan,
    TrueDevice,
    confusion_inverses,
)
from efaas_qpu.engine.sampling import DensityMeasurement
from efaas_qpu.engine.simulator import Timing, choose_simulator

_TABLE_QUBITS = 12
"""Up to here the value of every outcome is tabulated; above, only of those that were seen."""
_BATCH_BYTES = 64 << 20
"""States that one call of the simulator returns."""


class UnknownHandle(CircuitError):
    """A circuit or observable that the engine does not have (any more); the process tells it again."""

    code = "UnknownHandle"


class Engine:
    """Prepares and runs circuits on one device.

    Args:
        configuration: the device, as known and as it is, and the limits.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._limits = configuration.limits
        self._method = configuration.method
        self._noisy = configuration.noisy
        self._known = cast(DeviceSnapshot, configuration.known)
        self._device = Device(self._known)
        self._true = TrueDevice(cast(DeviceSnapshot, configuration.true), {}, configuration.noisy)
        self._simulator, fast_path, warning = choose_simulator(force_public=configuration.force_public)
        self.ready = EngineReady(_versions(), fast_path, warning)
        self._plans: OrderedDict[str, tuple[Plan, Prepared]] = OrderedDict()
        self._observables: dict[str, tuple[Term, ...]] = {}

    def set_true_device(self, snapshot: DeviceSnapshot, over_rotations: Rotations) -> None:
        """Simulate another device from now on; what is known of it, and so layouts, stays.

        Raises:
            CircuitError: it has not the same number of qubits.
        """
        if snapshot.num_qubits != self._known.num_qubits:
            raise CircuitError(
                f"the true device has {snapshot.num_qubits} qubits, the known one {self._known.num_qubits}"
            )
        self._true = TrueDevice(snapshot, dict(over_rotations), self._noisy)

    def set_known_device(self, snapshot: DeviceSnapshot, for_layout: bool = False) -> None:
        """Mitigate readout by these values from now on; what is simulated stays.

        Args:
            snapshot: what calibrations know of the device now.
            for_layout: whether circuits that are prepared from now on are laid out by it as well; those that
                are prepared keep their layout.

        Raises:
            CircuitError: it has not the same number of qubits.
        """
        if snapshot.num_qubits != self._known.num_qubits:
            raise CircuitError(
                f"the known device has {snapshot.num_qubits} qubits, it had {self._known.num_qubits}"
            )
        self._known = snapshot
        if for_layout:
            self._device = Device(snapshot)
        for plan, _ in self._plans.values():
            plan.tables.clear()

    # --- preparation ----------------------------------------------------------------------------------------

    def prepare(self, handle: str, program: str | bytes, known: DeviceSnapshot | None = None) -> Prepared:
        """Parse, transpile and prepare a circuit.

        Args:
            handle: names it from now on.
            program: OpenQASM 3 or QPY.
            known: the device that the layout goes by; the one set last if not given.

        Raises:
            CircuitError: the circuit was refused.
        """
        if handle in self._plans:
            self._plans.move_to_end(handle)
            return self._plans[handle][1]
        start = time.perf_counter()
        circuit = parse(program, self._limits, max_qubits=self._known.num_qubits)
        device = self._device if known is None else Device(known)
        routed = device.route(circuit, self._limits)
        parameters = tuple(circuit.parameters)
        plan = Plan(handle, routed, parameters, device, self._simulator)
        plan.use(self._true, self._method, self._limits)
        if plan.method == TRAJECTORIES:
            plan.trajectory_program(None)
        else:
            plan.state_program()
            plan.measurement(None)
        plan.is_stale = False
        prepared = Prepared(
            handle=handle,
            parameters=tuple(parameter.name for parameter in parameters),
            qubits=circuit.num_qubits,
            bits=routed.bits,
            layout=routed.layout,
            duration_us=routed.duration_us,
            shot_s=(self._known.rep_delay_us + routed.duration_us) * 1e-6,
            prepare_s=time.perf_counter() - start,
            method=plan.method,
            physical=routed.physical,
        )
        self._plans[handle] = (plan, prepared)
        self._evict()
        return prepared

    def prepare_observable(self, handle: str, terms: Sequence[Term]) -> int:
        """Check and keep an observable; the number of measurement bases that it takes alone.

        Raises:
            CircuitError: its terms are not what an observable has.
        """
        checked = grouping_of.check_terms(terms)
        self._observables[handle] = checked
        return len(grouping_of.measurement_bases([checked]))

    def forget(self, handle: str) -> None:
        """Drop a prepared circuit."""
        self._plans.pop(handle, None)

    def _evict(self) -> None:
        total = sum(plan.bytes for plan, _ in self._plans.values())
        while total > self._limits.cache_bytes and len(self._plans) > 1:
            _, (plan, _) = self._plans.popitem(last=False)
            total -= plan.bytes

    def _plan(self, handle: str) -> Plan:
        if handle not in self._plans:
            raise UnknownHandle("the circuit is not prepared, register it again", place=handle)
        self._plans.move_to_end(handle)
        plan = self._plans[handle][0]
        plan.use(self._true, self._method, self._limits)
        return plan

    # --- execution ------------------------------------------------------------------------------------------

    def execute(self, request: Execute) -> Executed:
        """Run a job.

        Raises:
            UnknownHandle: the circuit or an observable is not (any more) there.
            ParameterError: wrong shape, or values that are not finite.
            CircuitError: observables that do not fit the circuit, or too many outcomes to keep.
        """
        start = time.perf_counter()
        plan = self._plan(request.circuit)
        parameters = self._check(plan, request)
        run = self._run_trajectories if plan.method == TRAJECTORIES else self._run_states
        executed = run(plan, request, parameters)
        if not plan.is_stale:
            return executed
        plan.is_stale = False
        running_s = executed.parse_s + executed.simulate_s + executed.sample_s
        return replace(executed, prepare_s=max(0.0, time.perf_counter() - start - running_s))

    def probabilities(
        self, circuit: str, parameters: NDArray[np.float64], bases: tuple[str, ...] | None
    ) -> NDArray[np.float64]:
        """Exact outcome probabilities, readout errors included.

        Args:
            circuit: handle of a circuit that is simulated by its state.
            parameters: shape (sets, parameters).
            bases: letters, qubit 0 rightmost; None: the circuit's own measurements.

        Returns:
            Shape (sets, bases, outcomes).

        Raises:
            CircuitError: the circuit is simulated by trajectories, which have no probabilities.
        """
        plan = self._plan(circuit)
        if plan.method == TRAJECTORIES:
            raise CircuitError("a circuit that is simulated by trajectories has no exact probabilities")
        measurement = plan.measurement(bases)
        states, _ = self._simulator.states(plan.state_program(), parameters)
        return np.stack([measurement(state) for state in states])

    def expectation(
        self,
        circuit: str,
        observables: tuple[str, ...],
        parameters: NDArray[np.float64],
        *,
        readout_mitigation: bool = False,
    ) -> NDArray[np.float64]:
        """Exact expectation values (what infinitely many shots would give), shape (sets, observables)."""
        plan = self._plan(circuit)
        tables = self._tables(plan, observables, mitigated=readout_mitigation)
        values = np.tile(np.array(tables.grouping.constants), (len(parameters), 1))
        bases = tables.grouping.bases
        measurement = plan.measurement(bases) if plan.method == DENSITY_MATRIX else None
        if isinstance(measurement, DensityMeasurement) and tables.weights is not None:
            dual = measurement.dual(tables.weights)
            if dual is not None:
                states, _ = self._simulator.states(plan.state_program(), parameters)
                values += np.array(states, dtype=complex).reshape(len(states), -1).view(np.float64) @ dual.T
                return values
        table = self.probabilities(circuit, parameters, bases)
        for basis in range(len(bases)):
            values += table[:, basis] @ self._weights(tables, basis, table.shape[2]).T
        return values

    def frequencies(self, circuit: str) -> NDArray[np.float64] | None:
        """Frequency of the energy in each parameter, shape (parameters,).

        None if some parameter sits in no or in several angles, or not linearly: the energy is then no
        sinusoid in it.
        """
        angles = self._plan(circuit).state_program().angles
        if not angles.affine or np.any(np.count_nonzero(angles.matrix, axis=0) != 1):
            return None
        return np.asarray(np.abs(angles.matrix.sum(axis=0)), dtype=np.float64)

    def _check(self, plan: Plan, request: Execute) -> NDArray[np.float64]:
        parameters = np.ascontiguousarray(request.parameters, dtype=np.float64)
        wanted = len(plan.parameters)
        if parameters.ndim != 2 or parameters.shape[1] != wanted:
            raise ParameterError(
                f"parameters of shape {parameters.shape} do not fit a circuit of {wanted} parameters, give "
                f"(sets, {wanted})",
                place="submit.parameters",
            )
        if parameters.shape[0] < 1:
            raise ParameterError("there is no parameter set, give at least one", place="submit.parameters")
        bad = np.argwhere(~np.isfinite(parameters))
        if len(bad):
            row, column = (int(place) for place in bad[0])
            raise ParameterError(
                f"{parameters[row, column]} is not a finite angle",
                place=f"submit.parameters[{row}][{column}]",
            )
        if request.shots < 1:
            raise ParameterError(
                f"{request.shots} shots cannot be run, ask for at least one", place="submit.shots"
            )
        for handle in request.observables:
            if handle not in self._observables:
                raise UnknownHandle("the observable is not registered, register it again", place=handle)
            width = len(self._observables[handle][0][0])
            if width != len(plan.routed.final):
                raise CircuitError(
                    f"the observable is on {width} qubits, the circuit has {len(plan.routed.final)}",
                    place="submit.observables",
                )
        row_bytes = 8 if request.observables else (plan.routed.bits + 7) // 8
        per_row = 1 if request.per_shot or not request.observables else 0
        kept = parameters.shape[0] * request.shots * row_bytes * per_row
        scratch = request.shots * 24
        if max(kept, scratch) > self._limits.result_bytes:
            raise CircuitError(
                f"{parameters.shape[0]} × {request.shots} shots give more outcomes than fit into "
                f"{self._limits.result_bytes >> 20} MiB, split the job",
                place="submit.shots",
            )
        return parameters

    def _tables(self, plan: Plan, handles: tuple[str, ...], *, mitigated: bool) -> Tables:
        key = (handles, mitigated)
        tables = plan.tables.get(key)
        if tables is None:
            grouping = grouping_of.group([self._observables[handle] for handle in handles])
            inverses = confusion_inverses(self._known, plan.routed) if mitigated and self._noisy else None
            qubits = len(plan.routed.final)
            weights = None
            if qubits <= _TABLE_QUBITS:
                outcomes = np.arange(2**qubits)
                weights = tuple(
                    grouping_of.outcome_weights(grouping, basis, outcomes, inverses)
                    for basis in range(len(grouping.bases))
                )
            if len(plan.tables) >= 64:
                plan.tables.clear()
            tables = plan.tables[key] = Tables(grouping, inverses, weights)
        return cast(Tables, tables)

    def _weights(self, tables: Tables, basis: int, outcomes: int) -> NDArray[np.float64]:
        if tables.weights is not None:
            return tables.weights[basis]
        return grouping_of.outcome_weights(tables.grouping, basis, np.arange(outcomes), tables.inverses)

    def _run_states(self, plan: Plan, request: Execute, parameters: NDArray[np.float64]) -> Executed:
        tables = (
            self._tables(plan, request.observables, mitigated=request.readout_mitigation)
            if request.observables
            else None
        )
        measurement = plan.measurement(tables.grouping.bases if tables else None)
        bases = len(tables.grouping.bases) if tables else 1
        program = plan.state_program()
        state_bytes = 16 << (len(plan.routed.physical) * (2 if plan.method == DENSITY_MATRIX else 1))
        batch = max(1, _BATCH_BYTES // state_bytes)
        # Counts are all that a final estimate needs; running ones must know which shot came first.
        counted = tables is not None and tables.weights is not None and not request.shot_ranges
        draw: Callable[..., NDArray[Any]] = sampling.draw_counts if counted else sampling.draw
        collected = Collected(request)
        parse_s = simulate_s = sample_s = 0.0
        for first in range(0, len(parameters), batch):
            states, timing = self._simulator.states(program, parameters[first : first + batch])
            parse_s += timing.parse_s
            simulate_s += timing.simulate_s
            start = time.perf_counter()
            for which, state in enumerate(states, start=first):
                table = measurement(state)
                drawn = [
                    draw(
                        table[basis],
                        request.session_seed,
                        request.job_id,
                        which * bases + basis,
                        request.shots,
                    )
                    for basis in range(bases)
                ]
                if tables is None:
                    places = tuple(bit for _, bit in plan.routed.measured)
                    collected.add_outcomes(
                        sampling.pack(drawn[0], places, plan.routed.bits), plan.routed.bits
                    )
                elif counted:
                    collected.add_counts(tables, drawn)
                else:
                    collected.add_estimates(tables, drawn)
            sample_s += time.perf_counter() - start
        return collected.executed(parse_s, simulate_s, sample_s)

    def _run_trajectories(self, plan: Plan, request: Execute, parameters: NDArray[np.float64]) -> Executed:
        tables = (
            self._tables(plan, request.observables, mitigated=request.readout_mitigation)
            if request.observables
            else None
        )
        bases: tuple[str | None, ...] = tables.grouping.bases if tables else (None,)
        collected = Collected(request)
        parse_s = simulate_s = sample_s = 0.0
        for which, row in enumerate(parameters):
            drawn: list[NDArray[np.int64]] = []
            for number, basis in enumerate(bases):
                memory, timing = self._blocks(plan, request, row, basis, which * len(bases) + number)
                parse_s += timing.parse_s
                simulate_s += timing.simulate_s
                start = time.perf_counter()
                if basis is None:
                    rows = sampling.rows_from_hex(memory, plan.routed.bits)
                    collected.add_outcomes(rows, plan.routed.bits)
                else:
                    drawn.append(
                        np.array([int(shot, 16) >> plan.first_bit for shot in memory], dtype=np.int64)
                    )
                sample_s += time.perf_counter() - start
            if tables:
                start = time.perf_counter()
                collected.add_estimates(tables, drawn)
                sample_s += time.perf_counter() - start
        return collected.executed(parse_s, simulate_s, sample_s)

    def _blocks(
        self, plan: Plan, request: Execute, row: NDArray[np.float64], basis: str | None, pair: int
    ) -> tuple[list[str], Timing]:
        """All shots of a pair, block by block, each block with a seed of its own."""
        program = plan.trajectory_program(basis)
        memory: list[str] = []
        parse_s = simulate_s = 0.0
        for block, first in enumerate(range(0, request.shots, BLOCK_SHOTS)):
            shots = min(BLOCK_SHOTS, request.shots - first)
            seed = block_seed(request.session_seed, request.job_id, pair, block)
            outcomes, timing = self._simulator.shots(program, row, shots, seed)
            memory += outcomes
            parse_s += timing.parse_s
            simulate_s += timing.simulate_s
        return memory, Timing(parse_s, simulate_s)


def _versions() -> str:
    import qiskit
    import qiskit_aer

    versions: Any = (
        f"qiskit {qiskit.__version__}",
        f"qiskit-aer {qiskit_aer.__version__}",
        f"numpy {np.__version__}",
    )
    return ", ".join(versions)
