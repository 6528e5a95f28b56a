"""Numbers and durations as text."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efaas.api.quantities import format_duration, parse_duration, parse_number


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=36_000)))
def test_a_duration_survives_being_written_and_read(duration: timedelta):
    assert parse_duration(format_duration(duration)) == duration


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=12))
def test_a_number_survives_being_written_and_read(number: Decimal):
    assert parse_number(str(number)) == number


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("1h30m", 5400), ("48h", 172_800), ("1.5s", 1.5), ("0s", 0)]
)
def test_durations_are_sums_of_amounts(text: str, seconds: float):
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "5", "1 h", "-1s", "1y", "s", "1h 1m", 5, None, "9" * 70 + "s", "1d", "99999999999h"]
)
def test_what_is_not_a_duration_is_refused(text: object):
    with pytest.raises(ValueError, match=r"is not a duration|longer than"):
        parse_duration(text)


@pytest.mark.parametrize(
    "text", ["", "nan", "inf", "1e99999", "0x10", "1_0", "1,5", 0.5, 3, True, None, "1" * 65]
)
def test_what_is_not_a_number_is_refused(text: object):
    with pytest.raises(ValueError, match=r"is not a finite decimal number|as a string"):
        parse_number(text)
