"""Numbers, durations and bounded strings as the API writes them.

The Kubernetes API has no floats: what is not an integer travels as a string. This is the one module that
parses those strings; above it the program sees `Decimal` and `timedelta`, and errors quote the text.
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

NUMBER_PATTERN = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"
"""A finite decimal number; nan and inf are not numbers here."""

DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
"""One or more amounts with a unit, such as ``250ms`` or ``1h30m``: those of Go that CEL rules can read."""

_UNIT_S = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}
_AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_LONGEST_TEXT = 64


def parse_number(text: object) -> Decimal:
    """Turn ``"-1.05"`` or ``"2e-3"`` into a Decimal.

    Raises:
        ValueError: not a string, too long, or not a finite decimal number; it says what to write.
    """
    if isinstance(text, Decimal):
        return text
    if not isinstance(text, str):
        raise ValueError(
            f"write the number as a string, {str(text)[:_LONGEST_TEXT]!r}: the API has no floats"
        )
    if len(text) > _LONGEST_TEXT or not re.fullmatch(NUMBER_PATTERN, text):
        raise ValueError(f"{text[:_LONGEST_TEXT]!r} is not a finite decimal number such as '0.25' or '1e-3'")
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a decimal number") from None


def parse_duration(text: object) -> timedelta:
    """Turn ``"250ms"``, ``"90s"`` or ``"1h30m"`` into a timedelta.

    Raises:
        ValueError: not a string of amounts with the units ms, s, m, h, or longer than a hundred years.
    """
    if isinstance(text, timedelta):
        return text
    if not isinstance(text, str) or len(text) > _LONGEST_TEXT or not re.fullmatch(DURATION_PATTERN, text):
        raise ValueError(f"{str(text)[:_LONGEST_TEXT]!r} is not a duration such as '250ms', '90s' or '1h30m'")
    seconds = sum((Decimal(amount) * _UNIT_S[unit] for amount, unit in _AMOUNT.findall(text)), Decimal(0))
    if seconds > Decimal(3_153_600_000):
        raise ValueError(f"{text!r} is longer than a hundred years")
    return timedelta(microseconds=int(seconds * 1_000_000))


def format_duration(duration: timedelta) -> str:
    """Write a timedelta as the API does, largest unit first: ``1h30m``, ``250ms``, ``0s``."""
    microseconds = duration // timedelta(microseconds=1)
    parts = []
    for unit, size in (("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000)):
        amount, microseconds = divmod(microseconds, size)
        if amount:
            parts.append(f"{amount}{unit}")
    if microseconds:
        parts.append(f"{Decimal(microseconds) / 1000:f}ms")
    return "".join(parts) or "0s"


def _format_number(number: Decimal) -> str:
    return str(number)


Number = Annotated[
    Decimal,
    BeforeValidator(parse_number),
    PlainSerializer(_format_number, return_type=str),
    WithJsonSchema({"type": "string", "pattern": NUMBER_PATTERN, "maxLength": _LONGEST_TEXT}),
]
"""A decimal number, written as a string."""

Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "maxLength": _LONGEST_TEXT}),
]
"""A length of time, written as amounts with units."""


def seconds(duration: Any) -> float:
    """Seconds of a timedelta as a float, for arithmetic inside the program."""
    return float(duration.total_seconds())
