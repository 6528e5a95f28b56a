"""Durations as qiskit-ibm-runtime takes them: seconds, or a text such as ``"1h 30m"``."""

from __future__ import annotations

import re

from efaas.errors import InputError

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(given: int | float | str | None) -> float | None:
    """Wall seconds of `max_time`.

    Raises:
        InputError: it is no positive duration.
    """
    if given is None:
        return None
    total = -1.0
    if isinstance(given, str):
        text = given.replace(" ", "")
        if re.fullmatch(r"(\d+(\.\d+)?[smhd])+", text):
            total = sum(float(part[:-1]) * _UNITS_S[part[-1]] for part in re.findall(r"[\d.]+[smhd]", text))
    elif not isinstance(given, bool):
        total = float(given)
    if not 0 < total < 1e9:
        raise InputError(f'is {given!r}; give seconds, or a text such as "1h 30m"', place="max_time")
    return total
