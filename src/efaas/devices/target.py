"""A device snapshot as Qiskit's transpiler sees it; Qiskit is imported only where one is built."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from efaas.devices.snapshot import DeviceSnapshot

if TYPE_CHECKING:
    from qiskit.transpiler import Target

_DT_S = 1e-9


def build_target(snapshot: DeviceSnapshot, *, control_flow: bool = False) -> Target:
    """The snapshot as a `Target`; gates that Qiskit does not know are left out.

    Args:
        snapshot: the device.
        control_flow: whether circuits may branch on outcomes (``if_else``) and have delays in sampling
            steps, which count as a nanosecond: the device has no sampling grid.
    """
    from qiskit.circuit import Delay, IfElseOp, Measure, Parameter, Reset
    from qiskit.circuit.library import get_standard_gate_name_mapping
    from qiskit.transpiler import InstructionProperties, QubitProperties, Target

    target = Target(
        num_qubits=snapshot.num_qubits,
        dt=_DT_S if control_flow else None,
        qubit_properties=[
            QubitProperties(
                t1=_finite(qubit.t1_us * 1e-6),
                t2=_finite(qubit.t2_us * 1e-6),
                frequency=qubit.frequency_ghz * 1e9 or None,
            )
            for qubit in snapshot.qubits
        ],
    )
    standard = get_standard_gate_name_mapping()
    by_name: dict[str, dict[tuple[int, ...], Any]] = {}
    for (name, qubits), gate in sorted(snapshot.gates.items()):
        by_name.setdefault(name, {})[qubits] = InstructionProperties(
            duration=gate.length_ns * 1e-9, error=gate.error
        )
    for name, properties in by_name.items():
        if name in standard and name not in ("measure", "reset", "delay"):
            target.add_instruction(standard[name], properties)
    readout = {
        (place,): InstructionProperties(
            duration=qubit.readout_length_ns * 1e-9,
            error=(qubit.prob_meas0_prep1 + qubit.prob_meas1_prep0) / 2,
        )
        for place, qubit in enumerate(snapshot.qubits)
    }
    target.add_instruction(Measure(), readout)
    target.add_instruction(Reset(), dict.fromkeys(readout))
    target.add_instruction(Delay(Parameter("t")), dict.fromkeys(readout))
    if control_flow:
        target.add_instruction(IfElseOp, name="if_else")
    return target


def _finite(value: float) -> float | None:
    """An ideal qubit lives for ever, which Qiskit writes as None."""
    return value if math.isfinite(value) else None
