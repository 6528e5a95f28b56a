"""Make the device snapshots that ship with the project from public fake backends.

The fake backends of ``qiskit-ibm-runtime`` (Apache-2.0) hold calibrations that IBM published for its devices.
They are slow to import and slow down every transpilation in an environment that has them, so the project
ships what it needs of them as small files, and this script makes the files. Run it in an environment of its
own::

    python -m venv devices-venv
    devices-venv/bin/python -m pip install -r requirements/devices.in --editable .
    devices-venv/bin/python scripts/make_devices.py

What is kept: unitary gates of the device's target with error and length, in the directions the device has;
T1, T2, frequency (0 where the source has none); both readout probabilities and the length of the readout; the
default repetition delay. Numbers have six significant digits. The same package version gives the same bytes.

What is repaired, and listed in each file under ``repairs``:

- a two-qubit gate without an error, or with an error of 1 (a calibration that failed): the pair loses this
  gate in both directions;
- T2 above 2·T1 (measured at different times): T2 becomes 2·T1;
- readout probabilities that sum to 1 or more (a readout that tells nothing or less): both become 0.49, so the
  qubit stays the one to avoid, and its confusion matrix can still be inverted.

Anything else that is missing or impossible ends the script.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.metadata
from pathlib import Path
from typing import Any

from efaas.devices import (
    DeviceSnapshot,
    GateCalibration,
    QubitCalibration,
    snapshot_from_json,
    snapshot_to_json,
)
from efaas.devices.document import GATE_QUBITS

DEVICES = {
    "manila-5": "FakeManilaV2",
    "lagos-7": "FakeLagosV2",
    "perth-7": "FakePerth",
    "guadalupe-16": "FakeGuadalupeV2",
    "hanoi-27": "FakeHanoiV2",
    "kolkata-27": "FakeKolkataV2",
    "sherbrooke-127": "FakeSherbrooke",
    "torino-133": "FakeTorino",
}
"""Name of the snapshot: class of the fake backend."""


def _six(value: float) -> float:
    return float(f"{value:.6g}")


def _qubits(backend: Any, repairs: list[str]) -> tuple[QubitCalibration, ...]:
    properties = backend.properties()
    qubits = []
    for index in range(backend.num_qubits):
        t1_us, t2_us = (_six(1e6 * value) for value in (properties.t1(index), properties.t2(index)))
        if t2_us > 2 * t1_us:
            repairs.append(
                f"qubit {index}: T2 {t2_us:g} us was above 2·T1 = {2 * t1_us:g} us and became that"
            )
            t2_us = 2 * t1_us
        one, zero = (
            _six(properties.qubit_property(index, key)[0]) for key in ("prob_meas1_prep0", "prob_meas0_prep1")
        )
        if one + zero >= 1:
            repairs.append(
                f"qubit {index}: readout errors {one:g} and {zero:g} summed to 1 or more and became 0.49 each"
            )
            one = zero = 0.49
        qubits.append(
            QubitCalibration(
                t1_us=t1_us,
                t2_us=t2_us,
                frequency_ghz=_six(1e-9 * properties.qubit_property(index).get("frequency", (0.0,))[0]),
                prob_meas1_prep0=one,
                prob_meas0_prep1=zero,
                readout_length_ns=_six(1e9 * properties.readout_length(index)),
            )
        )
    return tuple(qubits)


def _gates(backend: Any, repairs: list[str]) -> dict[tuple[str, tuple[int, ...]], GateCalibration]:
    target = backend.target
    gates: dict[tuple[str, tuple[int, ...]], GateCalibration] = {}
    failed: dict[tuple[str, tuple[int, ...]], str] = {}
    for name in sorted(set(target.operation_names) & set(GATE_QUBITS)):
        for qubits, values in sorted(target[name].items()):
            if (
                values is not None
                and values.error is not None
                and values.error < 1
                and values.duration is not None
            ):
                gates[name, qubits] = GateCalibration(
                    error=_six(values.error), length_ns=_six(1e9 * values.duration)
                )
            elif len(qubits) == 2:
                failed[name, tuple(sorted(qubits))] = (
                    "1" if values is not None and values.error else "missing"
                )
            else:
                raise SystemExit(f"{backend.name}: {name} on qubit {qubits[0]} has no error or no length")
    for (name, (low, high)), value in sorted(failed.items()):
        gates.pop((name, (low, high)), None)
        gates.pop((name, (high, low)), None)
        repairs.append(f"{name} on {low}-{high} was dropped: its error was {value}")
    return gates


def make(name: str, class_name: str) -> DeviceSnapshot:
    """Read one fake backend."""
    from qiskit_ibm_runtime import fake_provider

    backend = getattr(fake_provider, class_name)()
    repairs: list[str] = []
    qubits = _qubits(backend, repairs)
    gates = _gates(backend, repairs)
    version = importlib.metadata.version("qiskit-ibm-runtime")
    return DeviceSnapshot(
        name=name,
        source=f"{class_name} of qiskit-ibm-runtime {version} (Apache-2.0): calibration published by IBM",
        calibrated_at=backend.properties().last_update_date.isoformat(),
        rep_delay_us=_six(1e6 * backend.default_rep_delay),
        basis_gates=tuple(sorted({gate for gate, _ in gates})),
        qubits=qubits,
        gates=gates,
        repairs=tuple(repairs),
    )


def main() -> None:
    """Write all snapshots and print what was repaired."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = Path(__file__).resolve().parent.parent / "src" / "efaas" / "devices" / "data"
    parser.add_argument(
        "--output", type=Path, default=default, help="folder of the snapshots (default: %(default)s)"
    )
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    for name, class_name in DEVICES.items():
        snapshot = make(name, class_name)
        text = snapshot_to_json(snapshot)
        if snapshot_from_json(text, name) != snapshot:
            raise SystemExit(f"{name}: reading back what was written gives another snapshot")
        # mtime 0 keeps the bytes the same from run to run.
        data = gzip.compress(text.encode(), compresslevel=9, mtime=0)
        (folder / f"{name}.json.gz").write_bytes(data)
        print(
            f"{name}: {snapshot.num_qubits} qubits, {len(snapshot.edges)} directed pairs, {len(data)} bytes"
        )
        for repair in snapshot.repairs:
            print(f"  {repair}")


if __name__ == "__main__":
    main()
