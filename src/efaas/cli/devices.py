"""What ``efaas devices`` prints of each shipped snapshot."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from statistics import median

import click

from efaas.devices.shipped import load_snapshot, snapshot_names
from efaas.devices.snapshot import DeviceSnapshot


@dataclass(frozen=True, slots=True)
class DeviceSummary:
    """A snapshot in one line. Errors and times are medians."""

    name: str
    qubits: int
    rep_delay_us: float
    two_qubit_gate: str
    two_qubit_error: float | None
    """None for a device of one qubit."""
    single_qubit_error: float | None
    readout_error: float
    """Mean of the two kinds of misreading."""
    t1_us: float
    t2_us: float
    calibrated_at: str


def summarize_snapshot(snapshot: DeviceSnapshot) -> DeviceSummary:
    """The snapshot's medians."""
    pairs = [(name, gate) for (name, qubits), gate in snapshot.gates.items() if len(qubits) == 2]
    # Virtual gates have no error and no length; they say nothing about a device.
    singles = [
        gate.error for (_, qubits), gate in snapshot.gates.items() if len(qubits) == 1 and gate.length_ns > 0
    ]
    return DeviceSummary(
        name=snapshot.name,
        qubits=snapshot.num_qubits,
        rep_delay_us=snapshot.rep_delay_us,
        two_qubit_gate="/".join(sorted({name for name, _ in pairs})),
        two_qubit_error=median(gate.error for _, gate in pairs) if pairs else None,
        single_qubit_error=median(singles) if singles else None,
        readout_error=median(
            (qubit.prob_meas1_prep0 + qubit.prob_meas0_prep1) / 2 for qubit in snapshot.qubits
        ),
        t1_us=median(qubit.t1_us for qubit in snapshot.qubits),
        t2_us=median(qubit.t2_us for qubit in snapshot.qubits),
        calibrated_at=snapshot.calibrated_at,
    )


def list_devices(as_json: bool) -> None:
    """Print all shipped snapshots, smallest first."""
    summaries = [summarize_snapshot(load_snapshot(name)) for name in snapshot_names()]
    if as_json:
        click.echo(json.dumps([asdict(summary) for summary in summaries], indent=2))
        return
    header = (
        "MODEL",
        "QUBITS",
        "REP DELAY",
        "2Q GATE",
        "2Q ERROR",
        "1Q ERROR",
        "READOUT",
        "T1",
        "T2",
        "CALIBRATED",
    )
    rows = [header, *(_row(summary) for summary in summaries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for row in rows:
        cells = (
            cell.ljust(width) if index in {0, 3, 9} else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        click.echo("  ".join(cells).rstrip())


def _row(summary: DeviceSummary) -> tuple[str, ...]:
    return (
        summary.name,
        str(summary.qubits),
        f"{summary.rep_delay_us:g} µs",
        summary.two_qubit_gate,
        _error(summary.two_qubit_error),
        _error(summary.single_qubit_error),
        _error(summary.readout_error),
        f"{summary.t1_us:.0f} µs",
        f"{summary.t2_us:.0f} µs",
        summary.calibrated_at[:10],
    )


def _error(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}"
