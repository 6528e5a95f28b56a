"""A QPU as Qiskit's transpiler sees it: `Backend`, a `BackendV2` made from a device snapshot.

``generate_preset_pass_manager(backend=Backend("manila-5"))`` and ``transpile(circuit, Backend("manila-5"))``
work, and circuits that they make are taken by the primitives. Circuits run by primitives only: `run` says so.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import yaml
from qiskit.providers import BackendV2, Options
from qiskit.transpiler import Target

from efaas.api.device import Noise, QPUDevice
from efaas.api.load import load_text
from efaas.api.meta import wire
from efaas.devices import (
    DeviceSnapshot,
    GateCalibration,
    QubitCalibration,
    ideal,
    load_snapshot,
    snapshot_from_json,
    snapshot_to_json,
)
from efaas.devices.target import build_target
from efaas.errors import InputError

DEFAULT_DEVICE = "manila-5"
"""The device that is served where none is named."""


class Backend(BackendV2):  # type: ignore[misc]
    """A simulated device that a local session serves.

    Args:
        device: name of a shipped snapshot (`efaas devices` lists them), a `DeviceSnapshot`, a `QPUDevice`,
            or another provider's `BackendV2`, whose target becomes a snapshot.
        noise: whether gates, decoherence and readout err; without, only shot noise remains.
        time_scale: wall seconds for each second of device time; 0 runs as fast as it simulates.
        seed: of the device's drift, where the `QPUDevice` has one.

    Raises:
        InputError: there is no such device, or it cannot be served; the text says why.
    """

    def __init__(
        self,
        device: str | DeviceSnapshot | QPUDevice | BackendV2 = DEFAULT_DEVICE,
        *,
        noise: bool = True,
        time_scale: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._document, self.snapshot, self._shipped = _document(device, noise, time_scale, seed)
        super().__init__(
            name=self._document.name,
            description=self.snapshot.source,
            backend_version=self.snapshot.calibrated_at,
        )
        self._target: Target | None = None

    @classmethod
    def of(cls, given: Any) -> Backend:
        """A backend from what `Session` takes; None is the default device."""
        if isinstance(given, cls):
            return given
        return cls(DEFAULT_DEVICE if given is None else given)

    @classmethod
    def of_document(cls, text: str) -> Backend:
        """The backend whose `document` this is."""
        documents = load_text(text)
        device = documents.devices[0]
        if device.spec.model.snapshot is not None:
            return cls(device)
        [data] = documents.config_maps.values()
        noise = device.spec.simulation.noise is Noise.DEVICE
        return cls(snapshot_from_json(data["snapshot.json"]), noise=noise)

    def with_noise(self, noise: bool) -> Backend:
        """The same device, with or without noise."""
        other = copy.copy(self)
        spec = self._document.spec
        simulation = spec.simulation.model_copy(update={"noise": Noise.DEVICE if noise else Noise.NONE})
        other._document = self._document.model_copy(
            update={"spec": spec.model_copy(update={"simulation": simulation})}
        )
        other._target = None
        return other

    @property
    def noisy(self) -> bool:
        """Whether gates, decoherence and readout err."""
        return self._document.spec.simulation.noise is Noise.DEVICE

    @property
    def target(self) -> Target:
        """Gates, errors, lengths and coupling of the last calibration."""
        if self._target is None:
            self._target = build_target(self.snapshot if self.noisy else ideal(self.snapshot))
        return self._target

    @property
    def max_circuits(self) -> int | None:
        """None: as many as wanted."""
        return None

    @classmethod
    def _default_options(cls) -> Options:
        return Options()

    def run(self, run_input: Any, **options: Any) -> Any:  # noqa: ARG002
        """Refused: circuits run by primitives.

        Raises:
            InputError: always.
        """
        raise InputError(
            "runs circuits by primitives only; use EstimatorV2 or SamplerV2 with mode=Session(backend)",
            place=f"backend {self.name}",
        )

    def document(self) -> str:
        """The QPUDevice, with its snapshot if that is not a shipped one, as YAML for a QPU server."""
        documents: list[dict[str, Any]] = [wire(self._document)]
        if not self._shipped:
            documents.append(
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": "snapshot"},
                    "data": {"snapshot.json": snapshot_to_json(self.snapshot)},
                }
            )
        return "---\n".join(yaml.safe_dump(document, sort_keys=False) for document in documents)


def _document(
    device: Any, noise: bool, time_scale: float, seed: int
) -> tuple[QPUDevice, DeviceSnapshot, bool]:
    """The QPUDevice to serve, its snapshot, and whether that is shipped."""
    if isinstance(device, QPUDevice):
        name = device.spec.model.snapshot
        if name is None:
            raise InputError(
                "has its snapshot in a ConfigMap; give the DeviceSnapshot instead", place="backend"
            )
        return device, load_snapshot(name, place="backend"), True
    shipped = isinstance(device, str)
    if shipped:
        snapshot = load_snapshot(device, place="backend")
        model: dict[str, Any] = {"snapshot": device}
    elif isinstance(device, DeviceSnapshot | BackendV2):
        snapshot = device if isinstance(device, DeviceSnapshot) else snapshot_of(device)
        model = {"configMap": {"name": "snapshot", "key": "snapshot.json"}}
    else:
        raise InputError(
            f"is a {type(device).__name__}; give the name of a device, a DeviceSnapshot, a QPUDevice or a "
            "Qiskit BackendV2",
            place="backend",
        )
    if not (math.isfinite(time_scale) and time_scale >= 0):
        raise InputError(f"is {time_scale}; give a number that is not negative", place="time_scale")
    spec = {
        "model": model,
        "simulation": {
            "noise": "Device" if noise else "None",
            "timeScale": str(time_scale),
            "seed": seed,
        },
    }
    # Snapshots and devices are named by DNS labels; other providers' backends need not be.
    label = re.sub(r"[^a-z0-9]+", "-", snapshot.name.lower()).strip("-")[:63] or "device"
    device = QPUDevice.model_validate({"metadata": {"name": label}, "spec": spec})
    return device, replace(snapshot, name=label), shipped


_LONG_US = 1e6
"""Coherence time where a backend gives none: a second, which no circuit notices."""


def snapshot_of(backend: BackendV2) -> DeviceSnapshot:
    """Another provider's backend as a snapshot: what its target says about gates, coherence and readout.

    Readout errors are taken as equal for 0 and 1, since a target has one number. Gates without an error or
    length count as perfect and instantaneous; those that always fail are left out.

    Raises:
        InputError: the backend has no qubits with gates between them, as simulators have not.
    """
    target = backend.target
    qubits = target.num_qubits or 0
    gates: dict[tuple[str, tuple[int, ...]], GateCalibration] = {}
    for name in target.operation_names:
        if name in ("measure", "reset", "delay"):
            continue
        for where, properties in _on_qubits(target, name):
            error, length_ns = _number(properties, "error"), _number(properties, "duration") * 1e9
            if error < 1:
                gates[name, where] = GateCalibration(error, length_ns)
    if not qubits or not any(len(where) == 2 for _, where in gates):
        raise InputError(
            f"{backend.name} says nothing of its qubits and couplings; give the name of a device, such as "
            f"{DEFAULT_DEVICE!r}",
            place="backend",
        )
    readout = {where[0]: properties for where, properties in _on_qubits(target, "measure")}
    about = target.qubit_properties or [None] * qubits
    calibrations = []
    for place in range(qubits):
        error = min(_number(readout.get(place), "error"), 0.5)
        t1_us = _number(about[place], "t1") * 1e6 or _LONG_US
        t2_us = _number(about[place], "t2") * 1e6 or _LONG_US
        calibrations.append(
            QubitCalibration(
                t1_us=t1_us,
                t2_us=min(t2_us, 2 * t1_us),
                frequency_ghz=_number(about[place], "frequency") * 1e-9,
                prob_meas1_prep0=error,
                prob_meas0_prep1=error,
                readout_length_ns=_number(readout.get(place), "duration") * 1e9,
            )
        )
    delay_s = getattr(backend, "default_rep_delay", None) or 250e-6
    return DeviceSnapshot(
        name=str(backend.name),
        source=f"the target of the backend {backend.name}",
        calibrated_at=datetime.now(UTC).isoformat(timespec="seconds"),
        rep_delay_us=float(delay_s) * 1e6,
        basis_gates=tuple(sorted({name for name, _ in gates})),
        qubits=tuple(calibrations),
        gates=gates,
    )


def _on_qubits(target: Target, name: str) -> Iterable[tuple[tuple[int, ...], Any]]:
    if name not in target.operation_names:
        return []
    return [(tuple(where), properties) for where, properties in target[name].items() if where is not None]


def _number(properties: Any, name: str) -> float:
    value = getattr(properties, name, None)
    return float(value) if value is not None and math.isfinite(value) else 0.0
