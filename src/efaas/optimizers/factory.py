"""Makes an optimizer from its specification, or from a state; imports only the method in use.

The API's models check shapes and types. What a number must be to make sense is checked here, against one
table, and a fault names the field as the manifest writes it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from efaas.errors import InputError, ManifestError
from efaas.optimizers.base import Optimizer, Vector

if TYPE_CHECKING:
    from efaas.api.session import Optimizer as OptimizerSpec
    from efaas.optimizers.asktell import AskTell

METHODS: Mapping[str, tuple[str, str]] = {
    "spsa": ("spsa", "Spsa"),
    "qn_spsa": ("spsa", "QnSpsa"),
    "adam": ("adam", "Adam"),
    "rotosolve": ("rotosolve", "Rotosolve"),
    "cma_es": ("cma_es", "CmaEs"),
    "nelder_mead": ("nelder_mead", "NelderMead"),
    "cobyla": ("scipy_methods", "Cobyla"),
    "powell": ("scipy_methods", "Powell"),
    "scan": ("scan", "Scan"),
}
"""Module and class of each method, by its name in the specification (snake_case)."""


@dataclass(frozen=True, slots=True)
class _Range:
    """Which numbers a field takes."""

    least: float
    most: float
    unit: str = ""

    def fault(self, value: float) -> str | None:
        if self.least <= value <= self.most:
            return None
        return f"is {value:g}; it must be at least {self.least:g} and at most {self.most:g}{self.unit}"


_ANGLE = _Range(1e-9, 100.0, " rad")
_RATE = _Range(1e-9, 1e6)
_DECAY = _Range(0.0, 0.999999)

_RANGES: Mapping[str, Mapping[str, _Range]] = {
    "spsa": {"learning_rate": _RATE, "perturbation": _ANGLE},
    "qn_spsa": {
        "learning_rate": _RATE,
        "perturbation": _ANGLE,
        "regularization": _Range(1e-9, 1e6),
    },
    "adam": {"learning_rate": _RATE, "beta1": _DECAY, "beta2": _DECAY},
    "rotosolve": {},
    "cma_es": {"step_size": _ANGLE},
    "nelder_mead": {"step_size": _Range(1e-5, 100.0, " rad")},
    "cobyla": {"step_size": _ANGLE, "final_step_size": _ANGLE},
    "powell": {"parameter_tolerance": _Range(1e-12, 1.0)},
    "scan": {"radius": _ANGLE},
}


def make_optimizer(spec: OptimizerSpec, initial: Vector, seed: int) -> Optimizer:
    """A fresh optimizer.

    Args:
        spec: `spec.optimizer` of a VQASession.
        initial: first point, shape (n,), n ≥ 1, radians.
        seed: of everything random in the method, 0 ≤ seed < 2^64.

    Raises:
        ManifestError: a value is out of range; its place is such as ``spec.optimizer.spsa.perturbation``.
        ParameterError: the initial point is empty or not finite.
    """
    options = checked_options(spec)
    if not 0 <= seed < 2**64:
        raise InputError(f"is {seed}; it must be at least 0 and below 2^64", place="seed")
    made: Optimizer = _method(spec.choice)(initial, seed, **options)
    return made


def restore_optimizer(state: Mapping[str, Any]) -> Optimizer:
    """The optimizer that `Optimizer.state` was taken from; it goes on to the bit.

    Raises:
        InputError: it is not the state of an optimizer, or is damaged.
    """
    name = state.get("method")
    if not isinstance(name, str) or name not in METHODS:
        raise InputError(f"names no known method ({name!r}); start the session anew", place="optimizer state")
    restored: Optimizer = _method(name).from_state(state)
    return restored


def checked_options(spec: OptimizerSpec) -> dict[str, Any]:
    """The options of the chosen method as Python numbers, their ranges checked.

    Raises:
        ManifestError: a value is out of range.
    """
    method = getattr(spec, spec.choice)
    options: dict[str, Any] = {}
    for field in type(method).model_fields:
        value = getattr(method, field)
        if isinstance(value, Decimal):
            value = float(value)
            if (fault := _RANGES[spec.choice][field].fault(value)) is not None:
                raise ManifestError(fault, place=_place(spec, field))
        options[field] = value
    _check_together(spec, options)
    return options


def _check_together(spec: OptimizerSpec, options: Mapping[str, Any]) -> None:
    """Rules between two fields."""
    if spec.choice == "spsa" and options["learning_rate"] is None and options["calibration_steps"] == 0:
        raise ManifestError(
            "is 0, but without learningRate the step size comes from calibration; set one of the two",
            place=_place(spec, "calibration_steps"),
        )
    if spec.choice == "cobyla" and options["final_step_size"] > options["step_size"]:
        raise ManifestError(
            f"is {options['final_step_size']:g}; it must be at most stepSize, {options['step_size']:g}",
            place=_place(spec, "final_step_size"),
        )


def _place(spec: OptimizerSpec, field: str) -> str:
    method = getattr(spec, spec.choice)
    outer = type(spec).model_fields[spec.choice].alias or spec.choice
    return f"spec.optimizer.{outer}.{type(method).model_fields[field].alias or field}"


def _method(name: str) -> Any:
    module, kind = METHODS[name]
    found: type[AskTell] = getattr(importlib.import_module(f"efaas.optimizers.{module}"), kind)
    return found
