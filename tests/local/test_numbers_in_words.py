"""How numbers are written for people."""

from __future__ import annotations

import pytest

from efaas.local import words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0.0, "0 s"),
        (2.34e-7, "0.23 µs"),
        (850e-6, "850 µs"),
        (0.9996e-3, "1.00 ms"),  # not 1000 µs
        (1.2345e-3, "1.23 ms"),
        (0.0424, "42.4 ms"),
        (9.999, "10.0 s"),  # three digits also after rounding
        (59.9, "59.9 s"),
        (192.4, "3 min 12 s"),
        (7500.0, "2 h 05 min"),
        (3 * 86400.0, "3.0 d"),
    ],
)
def test_durations_have_three_digits_and_the_unit_that_fits(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (12.3, "12 s"), (99.4, "99 s"), (120.0, "2 min"), (7200.0, "2 h"), (400_000.0, "5 d")],
)
def test_ages_are_whole(seconds: float | None, text: str) -> None:
    assert words.age(seconds) == text


def test_energies_have_a_real_minus_and_no_negative_zero() -> None:
    assert words.energy(-1.85727) == "−1.8573"
    assert words.energy(-0.00001) == "0.0000"
    assert words.energy_with_error(-1.85727, 0.00213) == "−1.8573 ± 0.0021"
    assert words.energy_with_error(-1.85727, 0.0) == "−1.8573"
    assert words.energy_with_error(None, 0.1) == "–"


def test_shares_and_counts() -> None:
    assert words.percent(0.873) == "87 %"
    assert words.percent(0.0042) == "0.4 %"
    assert words.count(1, "shot") == "1 shot"
    assert words.count(4096, "shot") == "4,096 shots"
    assert words.signed(0.00613) == "+0.0061"
    assert words.signed(-0.3, 1) == "−0.3"
