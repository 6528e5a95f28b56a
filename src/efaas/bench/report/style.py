"""How plots look: one colour a policy, told apart by who sees few colours, on light and on dark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

FONT = ["DejaVu Sans"]
"""Comes with matplotlib, so that a plot is the same everywhere."""


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a theme."""

    name: str
    ink: str
    quiet: str
    grid: str
    ours: str
    rivals: tuple[str, ...]


LIGHT = Theme(
    "light",
    "#1b2430",
    "#667085",
    "#e4e7ec",
    "#0b62d6",
    ("#d9730d", "#b42318", "#7a3fb5", "#0e8a63", "#8a6d00"),
)
DARK = Theme(
    "dark",
    "#e6e9ef",
    "#98a2b3",
    "#313a48",
    "#6aa8ff",
    ("#f5a35c", "#ff7b72", "#c297ff", "#4cc9a0", "#d9bd4a"),
)

_RIVALS = ("sbq", "pf", "pq", "sr", "session-fifo")
_MARKERS = {"sbq": "s", "pf": "v", "pq": "D", "sr": "^", "session-fifo": "P"}
_DASHES = {"sr": (6, 2), "session-fifo": (2, 2)}


def colour(policy: str, theme: Theme) -> str:
    """Of a policy."""
    if policy in _RIVALS:
        return theme.rivals[_RIVALS.index(policy)]
    return theme.quiet if policy.startswith("bound") else theme.ours


def line(policy: str, theme: Theme) -> dict[str, Any]:
    """Arguments of a line: the project's own is solid and heavy, bounds are dotted and grey."""
    style: dict[str, Any] = {"color": colour(policy, theme), "linewidth": 1.5}
    if policy == "efaas":
        style |= {"linewidth": 2.6, "zorder": 5}
    elif policy.startswith("bound"):
        style |= {"linestyle": (0, (1, 2)), "linewidth": 1.6}
    elif policy == "efaas-tolerant":
        style |= {"linestyle": (0, (5, 1, 1, 1)), "linewidth": 1.9, "zorder": 4}
    elif policy == "efaas-exact":
        style |= {"linestyle": (0, (3, 1)), "linewidth": 1.9, "zorder": 4}
    elif policy in _DASHES:
        style |= {"linestyle": (0, _DASHES[policy])}
    return style


def marker(policy: str) -> str:
    """Shape of a policy's points."""
    return _MARKERS.get(policy, "o")


def recoloured(drawing: str, source: Theme, target: Theme) -> str:
    """An SVG drawn in one theme, in another: every colour of a drawing is one of its theme's."""
    pairs = zip(_colours(source), _colours(target), strict=True)
    swap = dict(pairs)
    pattern = "|".join(re.escape(ink) for ink in swap)
    return re.sub(pattern, lambda found: swap[found.group()], drawing)


def _colours(theme: Theme) -> tuple[str, ...]:
    return (theme.ink, theme.quiet, theme.grid, theme.ours, *theme.rivals)


@contextmanager
def themed(theme: Theme) -> Iterator[None]:
    """Draw in a theme, off screen, the same bytes each time."""
    import matplotlib as mpl

    settings: dict[str, Any] = {
        "font.family": "sans-serif",
        "font.sans-serif": FONT,
        "font.size": 10.5,
        "text.color": theme.ink,
        "axes.labelcolor": theme.ink,
        "axes.edgecolor": theme.quiet,
        "axes.titlesize": 11.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": theme.grid,
        "grid.linewidth": 0.8,
        "xtick.color": theme.quiet,
        "ytick.color": theme.quiet,
        "xtick.labelcolor": theme.ink,
        "ytick.labelcolor": theme.ink,
        "legend.frameon": False,
        "legend.fontsize": 9.5,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
        "svg.hashsalt": "efaas",
        "svg.fonttype": "path",
    }
    with mpl.rc_context(settings):
        yield


def plain_log(axis: Any) -> None:
    """Write a logarithmic axis's ticks as numbers, and more of them where it spans less than two decades."""
    import math

    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    low, high = axis.get_view_interval()
    decades = math.log10(high / low) if low > 0 else 9.0
    subs = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if decades < 0.8 else (1.0, 2.0, 5.0) if decades < 2.2 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(LogLocator(subs=tuple(range(2, 10))) if decades >= 2.2 else NullLocator())
    axis.set_minor_formatter(NullFormatter())
