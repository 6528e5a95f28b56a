"""What all optimizers share: the order of ask and tell, checks of answers, previews, and state as JSON.

A method says how to compose its next questions (`_compose`) and how to take answers (`_take`). Both obey
one rule: attributes are bound anew, arrays are never changed in place. A shallow copy of an optimizer is
therefore a snapshot, which makes `preview` a copy and a tell, and costs microseconds.

State is declared, not programmed: `_kept` names the attributes that make up the state and how each is
written. Vectors are lists of numbers, so that a journal can be read by people; matrices are packed
little-endian float64 in base64, because a 48 × 48 metric as text would be 50 kB in every record. Python's
floats survive JSON exactly.

Randomness is counter-based: draw k of a method comes from Philox keyed with the seed and k. There is no
generator whose state could be lost; the seed and the iteration are all there is.
"""

from __future__ import annotations

import base64
import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar, Literal, Self

import numpy as np

from efaas.errors import InputError, ParameterError
from efaas.optimizers.base import Ask, Estimate, Outlook, Tell, Vector

LARGEST_VALUE = 1e100
"""Largest magnitude of an energy that is taken, so that its square stays finite in every method."""

STATE_FORMAT = 1
"""Version of what `state` writes."""

Kind = Literal["scalar", "vector", "matrix", "list"]
"""How an attribute is written: a JSON scalar, a 1-d array, a 2-d array, or a list of JSON values."""

_STREAM_BITS = 48


def generator(seed: int, stream: int, position: int = 0) -> np.random.Generator:
    """A generator for one draw (or one run of draws) of a method.

    Args:
        seed: 0 ≤ seed < 2^64.
        stream: what the draw is for, 0 ≤ stream < 2^16; draws of different streams are independent.
        position: running number of the draw, 0 ≤ position < 2^48.
    """
    key = np.array([seed, (stream << _STREAM_BITS) | position], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


@lru_cache(maxsize=64)
def signs(seed: int, stream: int, position: int, size: int) -> Vector:
    """A Rademacher vector (each component +1 or -1 with probability one half), shape (size,), read-only.

    Taken from raw bits, so that it does not change with the version of numpy. The last ones are remembered:
    who draws ahead of need finds them drawn.
    """
    words = generator(seed, stream, position).bit_generator.random_raw(-(-size // 64))
    bits = np.unpackbits(np.asarray(words, dtype="<u8").view(np.uint8), bitorder="little")[:size]
    return frozen(np.where(bits, 1.0, -1.0))


def checked_initial(initial: object) -> Vector:
    """The initial point as a read-only vector of its own, shape (n,).

    Raises:
        ParameterError: not one-dimensional, empty, or not finite.
    """
    vector = np.array(initial, dtype=np.float64)
    if vector.ndim != 1 or vector.size == 0:
        raise ParameterError(
            f"has shape {vector.shape}; an optimizer needs one number for each of at least one parameter",
            place="initial point",
        )
    if not np.all(np.isfinite(vector)):
        raise ParameterError("holds a number that is not finite", place="initial point")
    return frozen(vector)


def frozen(array: Vector) -> Vector:
    """The same array, made read-only: what an optimizer gives out must not change its state."""
    array.setflags(write=False)
    return array


class AskTell(ABC):
    """Base of the shipped optimizers; see the module's text.

    Args:
        initial: first point, shape (n,), radians.
    """

    name: str
    takes_stale_points: ClassVar[bool] = False
    """Whether a step does not depend on where exactly its points were, so that `ask_instead` is sound."""
    _kept: ClassVar[Mapping[str, Kind]]

    def __init__(self, initial: Vector) -> None:
        self._point: Vector = checked_initial(initial)
        self._iteration = 0
        self._pending: Ask | None = None
        self._estimate: Estimate | None = None

    # --- what a method says ---------------------------------------------------------------------------

    @abstractmethod
    def _compose(self) -> Ask:
        """The next questions, a function of the state alone."""

    @abstractmethod
    def _take(self, asked: Ask, answers: Tell) -> None:
        """Take checked answers; binds attributes anew and changes no array in place."""

    # --- the contract ---------------------------------------------------------------------------------

    @property
    def iteration(self) -> int:
        """How many iterations are complete."""
        return self._iteration

    @property
    def finished(self) -> str | None:
        """Why the method itself has ended, in words; None while it goes on."""
        return None

    @property
    def point(self) -> Vector:
        """The parameters it would return if it were stopped now, shape (n,), radians."""
        return self._point

    @property
    def estimate(self) -> Estimate | None:
        """The energy that stands for the answers told last; None before the first."""
        return self._estimate

    def ask(self) -> Ask:
        """The next points; the same ones again until they are told.

        Raises:
            RuntimeError: the method has finished.
        """
        if self._pending is None:
            if (reason := self.finished) is not None:
                raise RuntimeError(f"nothing is left to ask: {reason}")
            self._pending = self._composed()
        return self._pending

    def _composed(self) -> Ask:
        asked = self._compose()
        frozen(asked.points)
        frozen(asked.overlaps)
        return asked

    def tell(self, answers: Tell) -> None:
        """Take the answers to the last ask.

        Raises:
            ValueError: wrong shapes or values that are not finite; the state is unchanged.
            RuntimeError: the method has finished.
        """
        asked = self.ask()
        checked = checked_answers(asked, answers)
        self._pending = None
        self._take(asked, checked)

    def preview(self, answers: Tell) -> Ask | None:
        """What would be asked next if these were the answers; None if it would be finished. Changes nothing.

        Raises:
            ValueError: as `tell`.
        """
        self.ask()
        twin = copy.copy(self)
        twin.tell(answers)
        return None if twin.finished is not None else twin._composed()

    def branches(self, overlaps: Vector | None = None) -> list[Tell]:  # noqa: ARG002
        """Answers to the pending ask that realise what may be asked next, likeliest first; by `preview`.

        Args:
            overlaps: shape (m,): fidelities of the pending ask, where they are known before its energies.

        Returns:
            Answers for each case that can be told exactly; none where the next points move in proportion to
            the pending values.
        """
        return []

    def outlook(self, overlaps: Vector | None = None) -> Outlook | None:  # noqa: ARG002
        """All that is known of the next ask while the pending energies are not; None: nothing is.

        It is computed once: what `tell` and the next `ask` need of it is kept. Changes nothing else.

        Args:
            overlaps: as in `branches`.
        """
        return None

    def ask_instead(self, asked: Ask) -> None:
        """Ask this, and not what the state leads to, until it is told.

        A step that was taken on the estimate from a result's first shots is on its way already when the
        whole result is told; a stochastic method goes on from the whole result all the same.

        Raises:
            ValueError: the method's steps depend on where its points are, or the shapes differ from its own
                ask.
        """
        own = self.ask()
        if not self.takes_stale_points:
            raise ValueError(f"{self.name} depends on where its points are")
        if own.points.shape != asked.points.shape or own.overlaps.shape != asked.overlaps.shape:
            raise ValueError("the shapes are not those of the method's own ask")
        self._pending = Ask(own.iteration, frozen(asked.points.copy()), frozen(asked.overlaps.copy()))

    def __copy__(self) -> Self:
        """A snapshot that goes its own way; shares arrays, which nobody changes."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    # --- state ----------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The whole state as JSON-ready values; floats survive the round trip exactly."""
        estimate = self._estimate
        written: dict[str, Any] = {
            "method": self.name,
            "format": STATE_FORMAT,
            "iteration": self._iteration,
            "point": self._point.tolist(),
            "estimate": estimate
            and {"point": estimate.point.tolist(), "value": estimate.value, "stdError": estimate.std_error},
        }
        for attribute, kind in self._kept.items():
            written[attribute] = _encoded(getattr(self, f"_{attribute}"), kind)
        return written

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Go on from a state.

        Raises:
            InputError: it is not a state of this method, or is damaged.
        """
        try:
            if state["method"] != cls.name or state["format"] != STATE_FORMAT:
                raise ValueError(f"method {state['method']!r}, format {state['format']!r}")
            optimizer = cls.__new__(cls)
            estimate = state["estimate"]
            optimizer._point = _vector(state["point"])
            optimizer._iteration = int(state["iteration"])
            optimizer._pending = None
            optimizer._estimate = estimate and Estimate(
                _vector(estimate["point"]), float(estimate["value"]), float(estimate["stdError"])
            )
            for attribute, kind in cls._kept.items():
                setattr(optimizer, f"_{attribute}", _decoded(state[attribute], kind))
            optimizer._restored()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"is not a state of {cls.name} in format {STATE_FORMAT} ({error}); start the session anew",
                place="optimizer state",
            ) from None
        return optimizer

    def _restored(self) -> None:  # noqa: B027  (most methods keep nothing outside their state)
        """Called on an optimizer made from a state: set up what is not part of it."""


def checked_answers(asked: Ask, answers: Tell) -> Tell:
    """The answers as float64 arrays, if they fit what was asked.

    Raises:
        ValueError: a shape is wrong, or a value is not finite, too large to be an energy, or a negative
            error.
    """
    count, pairs = asked.points.shape[0], asked.overlaps.shape[0]
    values = _answer(answers.values, "values", count)
    std_errors = _answer(answers.std_errors, "std_errors", count)
    if std_errors.size and std_errors.min() < 0:
        raise ValueError("std_errors: a standard error is negative")
    return Tell(values, std_errors, _answer(answers.overlaps, "overlaps", pairs))


def _answer(given: Vector, what: str, count: int) -> Vector:
    try:
        # A copy, because a caller may use its buffer again.
        array = np.array(given, dtype=np.float64) if not np.iscomplexobj(given) else None
    except (TypeError, ValueError):
        array = None
    if array is None:
        raise ValueError(f"{what}: not an array of real numbers")
    if array.shape != (count,):
        raise ValueError(f"{what}: shape {array.shape}, expected ({count},)")
    # NaN fails the comparison too. As Python floats, because most answers are one or two numbers and a
    # preview is to take microseconds.
    if not all(-LARGEST_VALUE <= number <= LARGEST_VALUE for number in array.tolist()):
        raise ValueError(f"{what}: a number is not finite, or larger than {LARGEST_VALUE:g}")
    return array


def _encoded(value: Any, kind: Kind) -> Any:
    if kind == "vector":
        return value.tolist() if value is not None else None
    if kind == "matrix":
        packed = np.ascontiguousarray(value, dtype="<f8").tobytes()
        return {"shape": list(value.shape), "float64": base64.b64encode(packed).decode("ascii")}
    return list(value) if kind == "list" else value


def _decoded(value: Any, kind: Kind) -> Any:
    if kind == "vector":
        return None if value is None else _vector(value)
    if kind == "matrix":
        rows, columns = value["shape"]
        packed = base64.b64decode(value["float64"], validate=True)
        matrix = np.frombuffer(packed, dtype="<f8").astype(np.float64).reshape(rows, columns)
        if not np.all(np.isfinite(matrix)):
            raise ValueError("a matrix is not finite")
        return frozen(matrix)
    if kind == "list":
        if not isinstance(value, list):
            raise TypeError(f"{value!r} is not a list")
        return list(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is not finite")
    return value


def _vector(value: object) -> Vector:
    vector = np.array(value, dtype=np.float64)
    if vector.ndim != 1 or not np.all(np.isfinite(vector)):
        raise ValueError("a vector has a wrong shape or is not finite")
    return frozen(vector)
