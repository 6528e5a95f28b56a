"""What the suite measures, told at its end: a line for each figure, with its target."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A measured figure."""

    name: str
    value: str
    target: str = ""
    reached: bool | None = None
    """None: it has no target of its own."""

    def __str__(self) -> str:
        if self.reached is None:
            return f"{self.name}: {self.value}"
        return f"{self.name}: {self.value} ({self.target}, {'reached' if self.reached else 'NOT REACHED'})"


FIGURES: list[Figure] = []


def tell(name: str, value: str, target: str = "", reached: bool | None = None) -> Figure:
    """Have a figure told at the end."""
    figure = Figure(name, value, target, reached)
    FIGURES.append(figure)
    return figure
