"""EFaaS: hybrid variational quantum algorithms as sessions.

What a program that runs as a session imports::

    import efaas

    with efaas.session() as session:
        energy = session.energy(circuit, point, hamiltonian)
        session.report(energy)
        session.finish(energy=energy, parameters=point)

Everything else is in the packages below this one. Importing `efaas` imports none of them: names are looked
up when they are first used, so a command line answers at once and a program pays for what it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from efaas.errors import (
        CircuitError,
        EfaasError,
        InputError,
        JobFailed,
        ParameterError,
        ProgramNotDeterministic,
        QpuUnavailable,
        SessionEnded,
    )
    from efaas.primitives import EstimatorV2, SamplerV2, Session
    from efaas.sdk import NextJob, QuantumFuture, as_completed, session, wait

_HOME = {
    "CircuitError": "efaas.errors",
    "EfaasError": "efaas.errors",
    "EstimatorV2": "efaas.primitives",
    "InputError": "efaas.errors",
    "JobFailed": "efaas.errors",
    "NextJob": "efaas.sdk",
    "ParameterError": "efaas.errors",
    "ProgramNotDeterministic": "efaas.errors",
    "QpuUnavailable": "efaas.errors",
    "QuantumFuture": "efaas.sdk",
    "SamplerV2": "efaas.primitives",
    "Session": "efaas.primitives",
    "SessionEnded": "efaas.errors",
    "as_completed": "efaas.sdk",
    "session": "efaas.sdk",
    "wait": "efaas.sdk",
}

__all__ = [
    "CircuitError",
    "EfaasError",
    "EstimatorV2",
    "InputError",
    "JobFailed",
    "NextJob",
    "ParameterError",
    "ProgramNotDeterministic",
    "QpuUnavailable",
    "QuantumFuture",
    "SamplerV2",
    "Session",
    "SessionEnded",
    "as_completed",
    "session",
    "wait",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("efaas")
    if name not in _HOME:
        raise AttributeError(f"module 'efaas' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
