"""Parametrised circuits: built, checked, and written as bytes that are the same in every process.

Importing this package does not load Qiskit (0.4 s); the functions do.
"""

from efaas.ansatze.build import build_ansatz
from efaas.ansatze.canonical import canonical_program, standard_form
from efaas.ansatze.openqasm import read_openqasm3
from efaas.ansatze.parameters import initial_point, overlap_circuit, parameter_shift_violations

__all__ = [
    "build_ansatz",
    "canonical_program",
    "initial_point",
    "overlap_circuit",
    "parameter_shift_violations",
    "read_openqasm3",
    "standard_form",
]
