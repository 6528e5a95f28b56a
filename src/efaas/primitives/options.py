"""Options of the primitives: the names that Qiskit users know, checked when they are set.

An option that does not exist is refused with the nearest one that does: an option that is silently ignored
is a wrong result that nobody notices.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from efaas.errors import InputError
from efaas.primitives.extrapolation import Extrapolator

DEFAULT_PRECISION = 0.015625
"""Standard error of a Pauli string at its worst: 1/64, which is 4096 shots."""

DEFAULT_SHOTS = 1024

MAX_SHOTS = 1_000_000
"""Shots of a parameter set and measurement basis that a QPU server takes."""


@dataclass
class _Options:
    """Fields that are checked whenever they are set; unknown ones are refused."""

    def __setattr__(self, name: str, value: Any) -> None:
        known = {item.name: item for item in dataclasses.fields(self)}
        name = self._aliases().get(name, name)
        if name not in known:
            raise InputError(_unknown(name, list(known)), place=f"options.{name}")
        if isinstance(value, Mapping) and dataclasses.is_dataclass(getattr(type(self)(), name, None)):
            part = getattr(type(self)(), name)
            part.update(**value)
            value = part
        object.__setattr__(self, name, self._checked(name, value))

    @staticmethod
    def _aliases() -> dict[str, str]:
        return {}

    def _checked(self, name: str, value: Any) -> Any:
        raise NotImplementedError

    def update(self, **values: Any) -> None:
        """Set several options.

        Raises:
            InputError: one is unknown or has a value that it cannot have; the text names it.
        """
        for name, value in values.items():
            setattr(self, name, value)

    @classmethod
    def of(cls, given: Any) -> Self:
        """Options from what a constructor takes: nothing, a mapping, or options (which are copied)."""
        if given is None:
            return cls()
        options = cls()
        if isinstance(given, cls):
            options.update(**{item.name: getattr(given, item.name) for item in dataclasses.fields(cls)})
        elif isinstance(given, Mapping):
            options.update(**given)
        else:
            raise InputError(
                f"is a {type(given).__name__}; give a dictionary or {cls.__name__}", place="options"
            )
        return options


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
    return f"is no option; {hint}"


@dataclass
class ZneOptions(_Options):
    """Zero-noise extrapolation."""

    noise_factors: tuple[int, ...] = (1, 3, 5)
    """Odd factors by which the gates of a circuit are multiplied, at least two, ascending."""
    extrapolator: Extrapolator = "exponential"
    """``exponential`` (falls back to linear where it cannot be fitted) or ``linear``."""

    def _checked(self, name: str, value: Any) -> Any:
        place = f"options.resilience.zne.{name}"
        if name == "extrapolator":
            if value not in ("linear", "exponential"):
                raise InputError(f"is {value!r}; it is 'linear' or 'exponential'", place=place)
            return value
        try:
            factors = tuple(float(factor) for factor in value)
        except (TypeError, ValueError):
            factors = ()
        whole = all(factor == int(factor) and factor >= 1 and factor % 2 == 1 for factor in factors)
        if len(factors) < 2 or not whole or list(factors) != sorted(set(factors)) or factors[-1] > 99:
            raise InputError(
                f"is {value!r}; give at least two odd numbers from 1 to 99, ascending", place=place
            )
        return tuple(int(factor) for factor in factors)


@dataclass
class ResilienceOptions(_Options):
    """Which errors are mitigated; None leaves it to `resilience_level`."""

    measure_mitigation: bool | None = None
    """Whether readout errors are corrected with the confusion matrices of the last calibration."""
    zne_mitigation: bool | None = None
    """Whether values are extrapolated to zero noise."""
    zne: ZneOptions = field(default_factory=ZneOptions)
    """How."""

    def _checked(self, name: str, value: Any) -> Any:
        place = f"options.resilience.{name}"
        if name == "zne":
            if not isinstance(value, ZneOptions):
                raise InputError(f"is a {type(value).__name__}; give a dictionary", place=place)
        elif value is not None and not isinstance(value, bool):
            raise InputError(f"is {value!r}; it is True, False or None", place=place)
        return value


@dataclass
class EstimatorOptions(_Options):
    """Options of `EstimatorV2`."""

    default_precision: float = DEFAULT_PRECISION
    """Target standard error where neither PUB nor run() gives one."""
    default_shots: int | None = None
    """Shots of each basis; goes before `default_precision` if it is set."""
    seed_estimator: int | None = None
    """Makes the same run() give the same values again; also called `seed_simulator`."""
    resilience_level: int = 1
    """0: nothing, 1: readout mitigation, 2: that and zero-noise extrapolation."""
    resilience: ResilienceOptions = field(default_factory=ResilienceOptions)
    """Each mitigation by itself; goes before the level."""

    @staticmethod
    def _aliases() -> dict[str, str]:
        return {"seed_simulator": "seed_estimator"}

    def _checked(self, name: str, value: Any) -> Any:
        place = f"options.{name}"
        if name == "default_precision":
            return positive(value, place)
        if name == "default_shots":
            return None if value is None else whole(value, place, 1, MAX_SHOTS)
        if name == "seed_estimator":
            return None if value is None else whole(value, place, 0, 2**53 - 1)
        if name == "resilience_level":
            return whole(value, place, 0, 2)
        if not isinstance(value, ResilienceOptions):
            raise InputError(f"is a {type(value).__name__}; give a dictionary", place=place)
        return value

    @property
    def precision(self) -> float:
        """Target standard error that the options ask for."""
        return self.default_precision if self.default_shots is None else self.default_shots**-0.5

    @property
    def mitigates_readout(self) -> bool:
        """Whether readout errors are corrected."""
        chosen = self.resilience.measure_mitigation
        return self.resilience_level >= 1 if chosen is None else chosen

    @property
    def noise_factors(self) -> tuple[int, ...]:
        """Factors of zero-noise extrapolation; 1 alone without it."""
        chosen = self.resilience.zne_mitigation
        wanted = self.resilience_level >= 2 if chosen is None else chosen
        return self.resilience.zne.noise_factors if wanted else (1,)


@dataclass
class SamplerOptions(_Options):
    """Options of `SamplerV2`."""

    default_shots: int = DEFAULT_SHOTS
    """Shots where neither PUB nor run() gives them."""
    seed_simulator: int | None = None
    """Makes the same run() give the same outcomes again."""

    def _checked(self, name: str, value: Any) -> Any:
        if name == "default_shots":
            return whole(value, f"options.{name}", 1, MAX_SHOTS)
        return None if value is None else whole(value, f"options.{name}", 0, 2**53 - 1)


def whole(value: Any, place: str, least: int, most: int) -> int:
    """A whole number within bounds.

    Raises:
        InputError: it is not.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or not least <= value <= most:
        raise InputError(f"is {value!r}; give a whole number from {least} to {most}", place=place)
    return int(value)


def positive(value: Any, place: str) -> float:
    """A positive finite number.

    Raises:
        InputError: it is not.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise InputError(f"is {value!r}; give a positive number", place=place)
    return number


def shots_for(precision: float, place: str) -> int:
    """Shots of each measurement basis for a target precision: ⌈1/ε²⌉, as Qiskit's BackendEstimatorV2 takes.

    A Pauli string then has a standard error of at most ε; a sum of terms in several bases may have a larger
    one, which `stds` states.

    Raises:
        InputError: the precision is not positive, or takes more than `MAX_SHOTS`.
    """
    number = positive(precision, place)
    # 1/ε² of ε = n^(-1/2) is n but for rounding, which must not cost a shot.
    shots = math.ceil(1 / number**2 * (1 - 1e-12))
    if shots > MAX_SHOTS:
        raise InputError(
            f"{number:g} takes {shots} shots, at most {MAX_SHOTS} are taken; ask for {MAX_SHOTS**-0.5:g} "
            "or more",
            place=place,
        )
    return max(1, shots)
