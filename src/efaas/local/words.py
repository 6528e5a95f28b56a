"""Numbers as people read them: durations, energies with their errors, counts."""

from __future__ import annotations


def duration(value_s: float | None) -> str:
    """Three digits with the unit that fits: ``850 µs``, ``1.24 ms``, ``3 min 12 s``, ``2 h 05 min``."""
    if value_s is None:
        return "–"
    if value_s <= 0:
        return "0 s"
    for unit, size in (("µs", 1e-6), ("ms", 1e-3), ("s", 1.0)):
        amount = value_s / size
        if amount < (60 if unit == "s" else 999.5):
            return f"{_three_digits(amount)} {unit}"
    seconds = round(value_s)
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02} s"
    minutes = seconds // 60
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes / 1440:.1f} d"


def age(value_s: float | None) -> str:
    """A duration in whole units, for columns in which tenths are noise: ``12 s``, ``3 min``, ``2 h``."""
    if value_s is None:
        return "–"
    for unit, size, limit in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 72)):
        if value_s < limit * size:
            return f"{value_s / size:.0f} {unit}"
    return f"{value_s / 86400:.0f} d"


def energy(value: float | None) -> str:
    """Four decimals, a real minus sign."""
    return "–" if value is None else f"{round(value, 4) + 0.0:.4f}".replace("-", "−")


def energy_with_error(value: float | None, std_error: float | None) -> str:
    """``−1.8512 ± 0.0021``."""
    return energy(value) + (f" ± {std_error:.4f}" if value is not None and std_error else "")


def signed(value: float | None, digits: int = 4) -> str:
    """With its sign: ``+0.0061``, ``−0.0003``."""
    return "–" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def percent(share: float | None) -> str:
    """``87 %``, ``0.4 %``."""
    if share is None:
        return "–"
    return f"{share * 100:.0f} %" if share >= 0.1 else f"{share * 100:.1f} %"


def count(value: int, noun: str) -> str:
    """``1 shot``, ``4,096 shots``."""
    return f"{value:,} {noun}" if value == 1 else f"{value:,} {noun}s"


def _three_digits(amount: float) -> str:
    return f"{amount:.2f}" if amount < 9.995 else f"{amount:.1f}" if amount < 99.95 else f"{amount:.0f}"
