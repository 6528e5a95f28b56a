"""The paper's claims beside what was measured, and beside the most that any policy could gain here."""

from __future__ import annotations

from pathlib import Path

from efaas.bench.energies import TOLERANCE
from efaas.bench.energies_problems import SPSA
from efaas.bench.energies_targets import faster
from efaas.bench.energies_targets import table as energy_table
from efaas.bench.records import RIVALS
from efaas.bench.report import figures as fig

PAPER_TTNS = (11.4, 94.3)
"""Percent by which the paper's TTNS is below its baselines', least and most."""
PAPER_QDC = (2.02, 15.78)
"""Percentage points by which its duty cycle is above."""
PAPER_CONVERGENCE = (83.2, 98.3)
"""Percent by which it converges faster."""

Made = tuple[tuple[str, ...], tuple[tuple[str, ...], ...], tuple[int, ...]]


def allows(low: float, high: float, bound: float | None) -> str:
    """Whether a gain in this range is possible where `bound` is the most that there is to gain."""
    if bound is None:
        return "–"
    if bound >= high:
        return "all of the range"
    if bound >= low:
        return f"up to {fig.significant(bound)}"
    return "none of the range"


def claims_table(out: Path) -> Made | None:
    """Rows: claim, rival, the paper's range, EFaaS here, most possible, what of the range queueing allows."""
    experiment = fig.Experiment(out, fig.MAIN)
    cell = experiment.main_cell()
    if cell is None:
        return None
    present = experiment.policies(cell)
    rivals = [rival for rival in RIVALS if rival in present]
    rows: list[tuple[str, ...]] = []
    for rival in rivals:
        here = experiment.change(cell, "efaas", rival, "ttns_mean_s")
        most = experiment.change(cell, "bound-zero-wait", rival, "ttns_mean_s")
        rows.append(_row("TTNS, % lower", rival, PAPER_TTNS, here, most))
    duty = fig.Experiment(out, "duty")
    source, place = (duty, duty.cells[0]) if duty else (experiment, cell)
    for rival in rivals:
        here = points(source, place, "efaas", rival)
        most = points(source, place, "bound-work-conserving", rival)
        rows.append(_row("QDC, points higher", rival, PAPER_QDC, here, most))
    moments = [
        row
        for row in energy_table(out, "convergence")
        if row["experiment"] == "headline" and row["tolerance"] == TOLERANCE and row["optimizer"] == SPSA
    ]
    for rival in rivals if moments else ():
        mine = faster(moments, "efaas", rival, 0.0, "")
        limit = faster(moments, "bound-zero-wait", rival, 0.0, "")
        here = None if mine.value is None else fig.Mean(mine.value, mine.half_width, mine.seeds)
        most = None if limit.value is None else fig.Mean(limit.value, limit.half_width, limit.seeds)
        rows.append(_row("convergence, % faster", rival, PAPER_CONVERGENCE, here, most))
    head = ("claim", "over", "the paper", "EFaaS here", "most possible", "queueing allows")
    return head, tuple(rows), (0, 5)


def _row(
    claim: str, rival: str, paper: tuple[float, float], here: fig.Mean | None, most: fig.Mean | None
) -> tuple[str, ...]:
    low, high = paper
    return (
        claim,
        fig.name_of(rival),
        f"{low:g} to {high:g}",
        "–" if here is None else here.text(),
        "–" if most is None else most.text(),
        allows(low, high, None if most is None else most.value),
    )


def points(experiment: fig.Experiment, cell: str, ours: str, theirs: str) -> fig.Mean | None:
    """Percentage points of duty cycle by which ours is above theirs, paired by seed."""
    mine, others = experiment.values(cell, ours, "qdc"), experiment.values(cell, theirs, "qdc")
    return fig.Mean.of(
        [
            100 * (own - other)
            for seed, other in others.items()
            if other is not None and (own := mine.get(seed)) is not None
        ]
    )


def crossing_lines(experiment: fig.Experiment) -> tuple[str, ...]:
    """From which length of a session a reservation's TTNS per iteration is lower than EFaaS's."""
    lines = []
    for network in sorted({row["t_net_s"] for row in experiment.runs}):
        for rival in ("sr", "session-fifo"):
            found = crossing(experiment, network, rival)
            if found is not None:
                lines.append(
                    f"At a network of {network:g} s one way, {fig.name_of(rival)}'s mean TTNS is {found}."
                )
    return tuple(lines)


def crossing(experiment: fig.Experiment, network: float, rival: str) -> str | None:
    """In words, by interpolation of the rival's one-off wait: ttns(n) = later + (first - later) / n."""
    rows = [row for row in experiment.runs if row["t_net_s"] == network and row["iterations"]]
    longest = max((row["iterations"] for row in rows), default=None)
    if longest is None:
        return None
    last = [row for row in rows if row["iterations"] == longest]

    def mean(policy: str, column: str) -> float | None:
        found = fig.Mean.of([row[column] for row in last if row["policy"] == policy])
        return None if found is None else found.value

    first, later = mean(rival, "ttns_first_s"), mean(rival, "ttns_later_s")
    own_first, own_later = mean("efaas", "ttns_first_s"), mean("efaas", "ttns_later_s")
    if first is None or later is None or own_first is None or own_later is None:
        return None
    gain = own_later - later
    cost = (first - later) - (own_first - own_later)
    if gain <= 0:
        return "above EFaaS's at any length"
    if cost <= 0:
        return "below EFaaS's at any length"
    return f"below EFaaS's from {cost / gain:,.0f} iterations on"
