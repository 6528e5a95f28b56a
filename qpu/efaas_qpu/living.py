"""The simulated device behind a server: it drifts, is calibrated, and the engine is told in time.

`efaas.devices.drifting` knows what the device is at any moment; the engine simulates what it was told last.
`LivingDevice` stands between them, in front of the engine:

- Before a job runs, the true device at the job's start is told to the engine, on a grid of `GRID_S`: drift is
  slow (in a minute errors grow by a thousandth of what they grow in a day), and each change makes the engine
  build the noise of the circuits in use anew. No moment is ever before the newest calibration.
- After a calibration readout mitigation goes by the new values at once.
- A **plan** is a circuit prepared for one layout epoch, the last *full* calibration: its name in the engine
  is ``<handle>@<epoch>``. So a layout is a function of circuit and calibration; jobs that wait keep the plan
  that they were submitted with, and a server that comes up again finds the same layouts. The first plan is
  just ``<handle>``, and a frozen device, whose calibrations find nothing new, keeps it for ever: there the
  engine is never told anything.

Here starts are counted. A start is **cold** when a circuit had to be read, transpiled and prepared while a
session waited for it, at its registration or for a job whose plan had made way or was lost with a worker.
Else it is **warm**; what a warm start costs is the noise that is built anew when the device has moved.
Circuits that are prepared in the background, for an epoch that has just begun, are counted as neither.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from efaas.core.calibration import CalibrationEpoch, TypicalErrors, typical_errors
from efaas.core.qpu.messages import CalibrationScope
from efaas.devices import DeviceSnapshot
from efaas.devices.drifting import DriftingDevice
from efaas_qpu.engine.messages import Execute, Executed, Prepared, Rotations, WorkerFailed
from efaas_qpu.metrics import Metrics

GRID_S = 60.0
"""Device seconds between moments at which the engine is told the true device."""

_LATEST_S = 3e9
"""Device time after which the device stands still: the drift's paths end at a hundred years."""


class Engine(Protocol):
    """`efaas_qpu.engine.process.EngineProcess`, as far as the server uses it."""

    async def prepare(self, handle: str, program: str | bytes) -> Prepared:
        """Parse, transpile and prepare a circuit."""

    async def prepare_as(self, handle: str, known_as: str) -> Prepared:
        """Prepare a circuit once more, by today's layout, under another handle."""

    async def prepare_observable(self, handle: str, terms: tuple[tuple[str, float], ...]) -> int:
        """Prepare an observable; the number of its measurement bases."""

    async def execute(self, request: Execute) -> Executed:
        """Simulate a job."""

    async def set_known_device(self, snapshot: DeviceSnapshot, *, for_layout: bool = False) -> None:
        """Mitigate readout by these values from now on, and lay new circuits out by them."""

    async def set_true_device(self, snapshot: DeviceSnapshot, over_rotations: Rotations) -> None:
        """Simulate this device from now on."""


@dataclass(slots=True)
class Starts:
    """Starts of circuits since the process began; times are wall seconds."""

    cold: int = 0
    cold_s: float = 0.0
    warm: int = 0
    warm_s: float = 0.0
    ahead: int = 0
    """Circuits prepared in the background, for nobody who waited."""
    ahead_s: float = 0.0


class LivingDevice:
    """See the module's text.

    Args:
        drifting: the device, at the snapshot's calibration.
        engine: simulates; made for the drifting device's snapshot.
        metrics: where to count.
        epochs: calibrations from the log, oldest first.
        noisy: whether the engine simulates noise; the true device does not matter to it otherwise.
    """

    def __init__(
        self,
        drifting: DriftingDevice,
        engine: Engine,
        metrics: Metrics,
        epochs: Iterable[CalibrationEpoch] = (),
        *,
        noisy: bool = True,
    ) -> None:
        self.drifting = drifting
        self.starts = Starts()
        self.layout_epoch = 1
        """Calibration that layouts go by."""
        self.full_at_s = 0.0
        """Device time of the last full calibration."""
        self._engine, self._metrics, self._noisy = engine, metrics, noisy
        self._layout = drifting.known
        self._newest_s = 0.0
        # What the engine was told last; at first it is made for the snapshot.
        self._told_layout = self._told_known = drifting.snapshot
        self._told_true: tuple[float, int] | None = None
        self._errors = (0, TypicalErrors(0.0, 0.0, 0.0))
        self._true_error: tuple[tuple[float, int], float] = ((-1.0, 0), 0.0)
        for epoch in epochs:
            drifting.restore([epoch])
            self._take(epoch)

    @property
    def is_frozen(self) -> bool:
        """Whether the device never changes."""
        return self.drifting.drift.fixed

    @property
    def epoch(self) -> int:
        """Id of the last calibration, full or localised; 1 is that of the snapshot."""
        return self.drifting.record.epoch

    @property
    def errors(self) -> TypicalErrors:
        """Medians of what is known."""
        if self._errors[0] != self.epoch:
            parts, values = self.drifting.parts, self.drifting.record.values
            found = typical_errors(
                parts.gates, values.gate_error, values.prob_meas1_prep0, values.prob_meas0_prep1
            )
            self._errors = (self.epoch, found)
        return self._errors[1]

    def true_two_qubit_error(self, now_s: float) -> float:
        """Median infidelity of two-qubit gates as they really are, over-rotations included, on the grid."""
        moment_s = max(self._newest_s, min(now_s, _LATEST_S) // GRID_S * GRID_S)
        key = (moment_s, self.epoch)
        if self._true_error[0] != key:
            drifting, parts = self.drifting, self.drifting.parts
            true = drifting.drift.true_device(moment_s, drifting.record.calibrated_s)
            values = true.values
            found = typical_errors(
                parts.gates, true.gate_infidelity(parts), values.prob_meas1_prep0, values.prob_meas0_prep1
            )
            self._true_error = (key, found.two_qubit)
        return self._true_error[1]

    def plan(self, handle: str) -> str:
        """Name of a circuit's plan for the present layout epoch."""
        return handle if self.layout_epoch == 1 else f"{handle}@{self.layout_epoch}"

    def calibrate(self, now_s: float, scope: CalibrationScope, qubits: tuple[int, ...]) -> CalibrationEpoch:
        """A calibration ends now.

        Args:
            now_s: device time.
            scope: how much was calibrated.
            qubits: of a localised one.
        """
        epoch = self.drifting.calibrate(now_s, scope, qubits)
        self._take(epoch)
        return epoch

    def _take(self, epoch: CalibrationEpoch) -> None:
        self._newest_s = epoch.finished_s
        if epoch.scope is CalibrationScope.FULL:
            self.full_at_s = epoch.finished_s
            if not self.is_frozen:
                self.layout_epoch = epoch.id
                self._layout = self.drifting.known

    def true_moment(self, now_s: float) -> float:
        """The moment whose true device a job that starts now finds."""
        return min(_LATEST_S, max(self._newest_s, math.floor(now_s / GRID_S) * GRID_S))

    async def prepare(self, handle: str, program: str | bytes) -> Prepared:
        """Prepare a circuit for the present layout epoch.

        Raises:
            CircuitError: it was refused.
            WorkerFailed: no worker could be started.
        """
        await self._tell_known()
        prepared = await self._engine.prepare(self.plan(handle), program)
        self._count(prepared.prepare_s, cold=prepared.prepare_s > 0)
        return prepared

    async def prepare_ahead(self, handle: str, known_as: str) -> Prepared:
        """Prepare a circuit for the present layout epoch before anyone waits for it.

        Args:
            handle: of the circuit.
            known_as: name of its plan of an earlier epoch.

        Raises:
            CircuitError: it is not known any more.
            WorkerFailed: no worker could be started.
        """
        await self._tell_known()
        prepared = await self._engine.prepare_as(self.plan(handle), known_as)
        if prepared.prepare_s:
            self.starts.ahead += 1
            self.starts.ahead_s += prepared.prepare_s
            self._metrics.prepared_ahead.inc()
        return prepared

    async def prepare_observable(self, handle: str, terms: tuple[tuple[str, float], ...]) -> int:
        """Prepare an observable; the number of its measurement bases.

        Raises:
            CircuitError: its terms are not what an observable has.
        """
        return await self._engine.prepare_observable(handle, terms)

    async def execute(self, request: Execute, now_s: float) -> Executed:
        """Simulate a job on the device as it truly is at its start.

        Args:
            request: the job.
            now_s: device time of its start.

        Raises:
            EfaasError: what the engine raises.
        """
        await self._tell_known()
        await self._tell_true(now_s)
        executed = await self._engine.execute(request)
        self._count(executed.prepare_s, cold=executed.cold)
        return executed

    async def _tell_known(self) -> None:
        # Noted before it is done: whoever comes meanwhile waits for the engine behind this, and a worker that
        # fails on it is told when it is started again.
        layout, known = self._layout, self.drifting.known
        if layout is not self._told_layout:
            self._told_layout = self._told_known = layout
            with contextlib.suppress(WorkerFailed):
                await self._engine.set_known_device(layout, for_layout=True)
        if known is not self._told_known and known is self.drifting.known:
            self._told_known = known
            with contextlib.suppress(WorkerFailed):
                await self._engine.set_known_device(known)

    async def _tell_true(self, now_s: float) -> None:
        moment = (self.true_moment(now_s), self.epoch)
        if self.is_frozen or not self._noisy or moment == self._told_true:
            return
        self._told_true = moment
        true = self.drifting.true_state(moment[0])
        with contextlib.suppress(WorkerFailed):
            await self._engine.set_true_device(true.snapshot, true.over_rotations)

    def _count(self, seconds: float, *, cold: bool) -> None:
        starts = self.starts
        if cold:
            starts.cold += 1
            starts.cold_s += seconds
        else:
            starts.warm += 1
            starts.warm_s += seconds
        kind = "cold" if cold else "warm"
        self._metrics.starts.labels(kind).inc()
        self._metrics.start_seconds.labels(kind).inc(seconds)
