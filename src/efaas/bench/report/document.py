"""What the report says: sections of prose, tables and plots, from the result folder's data."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from efaas.bench import live, records
from efaas.bench.energies_targets import table as energy_table
from efaas.bench.report import figures as fig
from efaas.bench.report.claims import claims_table, crossing_lines
from efaas.bench.report.plots_sweeps import scale_timings

REACHED, MISSED, OPEN = "reached", "not reached", "not measured"


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first column is left-aligned, the others right-aligned unless they are prose."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    prose: tuple[int, ...] = ()
    """Columns that hold words."""
    note: int | None = None
    """Column that a page shows below the first one, as it has no room for sentences beside numbers."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report."""

    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    plots: tuple[str, ...] = ()
    """Names of plots that belong here."""


@dataclass(frozen=True, slots=True)
class Document:
    """The whole report."""

    title: str
    intro: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    """Figures for the top: what, how much."""
    sections: tuple[Section, ...] = field(default=())


def build(out: Path) -> Document:
    """The report of a result folder.

    Args:
        out: result folder; what was not run is left out.
    """
    targets, checks = records.read_targets(out), records.read_checks(out)
    targets += [target for target in live.targets(out) if target.name not in {one.name for one in targets}]
    makers: tuple[Callable[[Path], Section | None], ...] = (
        lambda _: _targets(targets),
        _claims,
        _headline,
        _waiting,
        _duty,
        _convergence,
        _drift,
        _others,
        _sweeps,
        _ablations,
        _workload,
        _scale,
        _live,
        lambda _: _checks(checks),
        lambda _: _reading(),
    )
    sections = tuple(section for make in makers if (section := make(out)) is not None)
    return Document("EFaaS benchmark", _intro(out), _facts(targets, checks), sections)


def _intro(out: Path) -> tuple[str, ...]:
    lines = [
        "Every policy runs on one queue with the same arrivals and service times; waiting is what comes "
        "out, nothing about it goes in. The simulator drives the very objects that the QPU servers run. "
        "Each figure is a mean over seeds with its 95 % confidence interval; policies are compared in "
        "pairs, seed by seed. All times are device seconds."
    ]
    path = out / "bench.json"
    if path.exists():
        settings = json.loads(path.read_text())
        # Paths and numbers of processes change nothing.
        shown = {name: settings[name] for name in ("version", "seeds", "full") if name in settings}
        if shown:
            lines.append("Settings: " + ", ".join(f"{name} {value}" for name, value in shown.items()) + ".")
    return tuple(lines)


def _facts(targets: Sequence[records.Target], checks: Sequence[records.Check]) -> tuple[tuple[str, str], ...]:
    counted = [target for target in targets if target.reached is not None]
    return (
        ("targets reached", f"{sum(bool(target.reached) for target in counted)} of {len(counted)}"),
        ("not measured", str(len(targets) - len(counted))),
        ("checks that hold", f"{sum(check.holds for check in checks)} of {len(checks)}"),
    )


def verdict(target: records.Target) -> str:
    """Reached, not reached, or not measured."""
    return OPEN if target.reached is None else REACHED if target.reached else MISSED


def targets_table(targets: Sequence[records.Target]) -> Table:
    """What was to be reached, and what came of it."""
    rows = []
    for target in targets:
        unit = f" {target.unit}" if target.unit else ""
        sign = "≥" if target.at_least else "≤"
        value = "–"
        if target.reached is not None and target.value is not None:
            value = fig.Mean(target.value, target.half_width, target.seeds).text(digits=4) + unit
        rows.append(
            (
                target.name,
                value,
                f"{sign} {target.target:g}{unit}",
                verdict(target),
                target.paper or "–",
                str(target.seeds),
                target.reason,
            )
        )
    head = ("claim", "measured", "target", "verdict", "the paper", "n", "remark")
    return Table(head, tuple(rows), prose=(0, 3, 4, 6), note=6)


def _targets(targets: Sequence[records.Target]) -> Section | None:
    if not targets:
        return None
    text = "The mean over seeds decides; n is the number of seeds (or of pairs, traces, points)."
    return Section("What was to be reached", (text,), (targets_table(targets),))


def _claims(out: Path) -> Section | None:
    made = claims_table(out)
    if made is None:
        return None
    text = (
        "What the paper claims over its four baselines, what EFaaS gains here, and the most that any "
        "policy could gain on this queue: the bound of zero waiting for TTNS and convergence, and the "
        "work-conserving bound for the duty cycle. A range that reaches beyond the bound is one that "
        "queueing does not allow in this setting.",
    )
    return Section("The paper's claims and what queueing allows", text, (Table(*made),))


_COLUMNS: tuple[tuple[str, str, float], ...] = (
    ("mean TTNS, s", "ttns_mean_s", 1),
    ("p50", "ttns_p50_s", 1),
    ("p95", "ttns_p95_s", 1),
    ("p99", "ttns_p99_s", 1),
    ("iteration, s", "iteration_mean_s", 1),
    ("QDC, %", "qdc", 100),
    ("background wait, s", "background_wait_s", 1),
    ("slowdown", "background_slowdown", 1),
    ("Jain", "jain", 1),
)


def policy_table(experiment: fig.Experiment, cell: str, columns: Sequence[tuple[str, str, float]]) -> Table:
    """Measures by policy in one cell."""
    rows = []
    for policy in experiment.policies(cell):
        cells = [fig.name_of(policy)]
        for _, column, scale in columns:
            mean = experiment.mean(cell, policy, column)
            cells.append("–" if mean is None else mean.text(scale))
        rows.append(tuple(cells))
    return Table(("policy", *(name for name, _, _ in columns)), tuple(rows))


def cells_table(experiment: fig.Experiment, column: str, scale: float = 1) -> Table:
    """One measure by cell and policy."""
    policies = experiment.policies()
    rows = []
    for cell in experiment.cells:
        means = [experiment.mean(cell, policy, column) for policy in policies]
        rows.append((cell, *("–" if mean is None else mean.text(scale) for mean in means)))
    return Table(("cell", *(fig.name_of(policy) for policy in policies)), tuple(rows))


def _headline(out: Path) -> Section | None:
    experiment = fig.Experiment(out, fig.MAIN)
    cell = experiment.main_cell()
    if cell is None:
        return None
    text = (
        f"{records.EXPERIMENTS[fig.MAIN]}. Shown: {cell}; TTNS counts the first iteration's wait. "
        "A bound is no policy but a limit.",
    )
    return Section("All policies on one queue", text, (policy_table(experiment, cell, _COLUMNS),), ("ttns",))


def _waiting(out: Path) -> Section | None:
    experiment = fig.Experiment(out, fig.MAIN)
    if len(experiment.cells) < 2:
        return None
    return Section(
        "Longer sessions, slower networks",
        ("Mean TTNS in seconds by cell.", *crossing_lines(experiment)),
        (cells_table(experiment, "ttns_mean_s"),),
        ("lengths",),
    )


def _duty(out: Path) -> Section | None:
    experiment = fig.Experiment(out, "duty")
    if not experiment:
        return None
    text = (f"{records.EXPERIMENTS['duty']}. Duty cycle in percent.",)
    return Section("Duty cycle", text, (cells_table(experiment, "qdc", 100),), ("duty",))


def _convergence(out: Path) -> Section | None:
    rows = energy_table(out, "convergence")
    if not rows:
        return None
    tolerances = sorted({row["tolerance"] for row in rows})
    table = []
    keys = {(row["experiment"], row["optimizer"]) for row in rows}
    for experiment, optimizer in sorted(keys, key=lambda key: (key[0] != "headline", key[1] != "spsa", key)):
        mine = [row for row in rows if (row["experiment"], row["optimizer"]) == (experiment, optimizer)]
        for policy in fig.in_order(row["policy"] for row in mine):
            cells = [fig.name_of(policy), experiment, optimizer]
            for tolerance in tolerances:
                cells += _converged(
                    [row for row in mine if (row["policy"], row["tolerance"]) == (policy, tolerance)]
                )
            table.append(tuple(cells))
    text = (
        "Time from a session's first parameters until the energy of the optimizer's point stays within a "
        "tolerance of exact diagonalisation (share of the spectrum's width), and the share of sessions "
        "that never do; means are over those that do. Energies are Aer's on the drifting device, optimizer"
        " and shots are real.",
    )
    head: tuple[str, ...] = ("policy", "experiment", "optimizer")
    for tolerance in tolerances:
        head += (f"within {100 * tolerance:g} %, s", "never")
    return Section("Convergence", text, (Table(head, tuple(table), prose=(0, 1, 2)),), ("convergence",))


def _converged(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Mean time over seeds of the sessions that converge, and the share that never does."""
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        if row["converged_s"] is not None:
            by_seed.setdefault(row["seed"], []).append(row["converged_s"])
    mean = fig.Mean.of([sum(times) / len(times) for times in by_seed.values()])
    never = sum(row["converged_s"] is None for row in rows) / max(1, len(rows))
    return ["–" if mean is None else mean.text(), f"{100 * never:.0f} %"]


def _drift(out: Path) -> Section | None:
    experiment = fig.Experiment(out, "drift")
    cell = experiment.main_cell()
    if cell is None:
        return None
    columns = (
        ("iterations", "iterations_done", 1.0),
        ("ran stale", "ran_stale", 1.0),
        ("waited for calibration", "waited_for_calibration", 1.0),
        ("that wait, s", "calibration_wait_s", 1.0),
        ("oldest calibration, s", "oldest_calibration_s", 1.0),
        ("calibrating, %", "calibrating_share", 100.0),
        ("mean TTNS, s", "ttns_mean_s", 1.0),
    )
    text = [records.EXPERIMENTS["drift"] + f". Shown: {cell}."]
    surrogate = energy_table(out, "surrogate")
    if surrogate:
        errors = [abs(row["surrogate"] - row["aer"]) / row["shot_error"] for row in surrogate]
        sizes = sorted({row["qubits"] for row in surrogate})
        text.append(
            f"Above 8 qubits a surrogate stands in for Aer. On {len(errors)} points of "
            f"{', '.join(map(str, sizes))} qubits it is {sum(errors) / len(errors):.2f} shot standard errors "
            "from Aer on average."
        )
    return Section("Drift", tuple(text), (policy_table(experiment, cell, columns),), ("drift", "ages"))


def _others(out: Path) -> Section | None:
    experiment = fig.Experiment(out, "arrivals")
    tables: tuple[Table, ...] = ()
    text: tuple[str, ...] = ("What active loops' priority costs everybody else.",)
    if experiment:
        tables = (cells_table(experiment, "ttns_mean_s"), cells_table(experiment, "background_wait_s"))
        text += (f"{records.EXPERIMENTS['arrivals']}: mean TTNS, then mean background wait, seconds.",)
    return Section("Background work and fairness", text, tables, ("background", "fairness"))


def _sweeps(out: Path) -> Section | None:
    names = ("load", "sessions", "ratio", "alpha", "beta", "gamma", "tau")
    experiments = [experiment for name in names if (experiment := fig.Experiment(out, name))]
    if not experiments:
        return None
    tables = tuple(cells_table(experiment, "ttns_mean_s") for experiment in experiments)
    text = ("Mean TTNS in seconds by cell.",)
    return Section("Sweeps", text, tables, ("load", "sessions", "sensitivity"))


def _ablations(out: Path) -> Section | None:
    experiment = fig.Experiment(out, "ablations")
    cell = experiment.main_cell()
    if cell is None:
        return None
    table = policy_table(experiment, cell, _COLUMNS)
    return Section("Without each part", (records.EXPERIMENTS["ablations"] + ".",), (table,), ("ablations",))


def _workload(out: Path) -> Section | None:
    experiment = fig.Experiment(out, "workload")
    cell = experiment.main_cell()
    if cell is None:
        return None
    table = policy_table(experiment, cell, _COLUMNS)
    return Section("The paper's 28 circuits", (records.EXPERIMENTS["workload"] + ".",), (table,))


def _scale(out: Path) -> Section | None:
    experiment = fig.Experiment(out, "scale")
    if not experiment:
        return None
    took = scale_timings(out, experiment)
    rows = [
        (
            fig.name_of(row["policy"]),
            *(
                _count(row[name])
                for name in ("sessions", "qpus", "iterations_done", "background_jobs", "events")
            ),
            "–" if row["ttns_mean_s"] is None else fig.significant(row["ttns_mean_s"]),
            "–" if row["qdc"] is None else f"{100 * row['qdc']:.1f}",
            f"{took[row['run']]:.1f}" if row["run"] in took else "–",
        )
        for row in sorted(
            experiment.runs, key=lambda row: (-row["horizon_s"], row["sessions"], row["policy"], row["seed"])
        )
    ]
    head = (
        "policy",
        "hours",
        "sessions",
        "QPUs",
        "iterations",
        "background jobs",
        "events",
        "mean TTNS, s",
        "QDC, %",
        "processor, s",
    )
    return Section("Scale", (records.EXPERIMENTS["scale"] + ".",), (Table(head, tuple(rows)),), ("scale",))


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _live(out: Path) -> Section | None:
    runs = {where: live.comparison(out, where) for where in (live.LOCAL, live.CLUSTER)}
    table = []
    for where, policy in (
        (where, policy)
        for where, rows in runs.items()
        for policy in fig.in_order(row["policy"] for row in rows)
    ):
        mine = [row for row in runs[where] if row["policy"] == policy]
        live_s = sum(row["live_s"] for row in mine) / len(mine)
        simulated_s = sum(row["simulated_s"] for row in mine) / len(mine)
        network_s = sum(row["network_s"] for row in mine) / len(mine)
        table.append(
            (
                fig.name_of(policy),
                "processes" if where == live.LOCAL else "pods of a cluster",
                fig.significant(live_s),
                fig.significant(simulated_s),
                f"{100 * (simulated_s / live_s - 1):+.1f} %",
                fig.significant(network_s),
                f"{mine[0]['time_scale']:g}",
                str(len(mine)),
                str(sum(row["iterations"] for row in mine)),
                str(sum(row["late"] for row in mine)),
            )
        )
    if not table:
        return None
    text = (
        "The same traces through real QPU servers, real streams and real VQEs in scaled device time, "
        "and through the simulator, with arrivals at each device, classical times, service times and "
        "network as the live run had them: what is compared is who waits for whom. Late iterations are "
        "those whose simulation outlasted the device time it stands for.",
    )
    head = (
        "policy",
        "QPU servers are",
        "live TTNS, s",
        "simulated, s",
        "difference",
        "real network, s",
        "time scale",
        "traces",
        "iterations",
        "late",
    )
    return Section(
        "Model against reality", text, (Table(head, tuple(table)),), ("live",) if runs[live.LOCAL] else ()
    )


def _checks(checks: Sequence[records.Check]) -> Section | None:
    if not checks:
        return None
    rows = tuple(
        (
            check.name,
            fig.significant(check.theory, 5),
            fig.significant(check.measured, 5),
            f"± {fig.significant(check.half_width, 2)}",
            "holds" if check.holds else "does not hold",
        )
        for check in checks
    )
    text = "Closed forms of queueing theory and laws of conservation that the simulator must obey."
    return Section(
        "The benchmark's checks of itself",
        (text,),
        (Table(("law", "theory", "measured", "within", "verdict"), rows, prose=(0,)),),
    )


def _reading() -> Section:
    return Section(
        "Words",
        (
            "**TTNS**, time to next shot: from the moment the classical side has the next parameters to "
            "the moment the QPU starts on them: network, queue and calibration. **QDC**, quantum duty "
            "cycle: device time of shots over all device time; calibration is not use. **SBQ**: every "
            "iteration is a new job at the tail of one line. **PF**: as SBQ, after a container's cold "
            "start of 2 to 8 s. **PQ**: a pilot pays the queue once, then launches tasks at 0.5 s. **SR**:"
            " a session has its QPU for life. **Session-FIFO**: as SR, with an interactive time to live of"
            " 60 s and a maximum of 8 h, and no calibration meanwhile.",
        ),
    )


def json_ready(document: Document) -> dict[str, Any]:
    """The document's tables as plain values, for tests and for people who want the numbers."""
    return {
        section.title: [
            {"head": list(table.head), "rows": [list(row) for row in table.rows]} for table in section.tables
        ]
        for section in document.sections
    }
