"""``efaas bench``: every policy on one queue, measured, checked, reported.

The command only reads what was typed and calls what does the work (`efaas.bench`). What was to be reached
stands in the last lines of what it prints, one line each, whether it was reached or not.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from efaas.errors import EfaasError, InputError

if TYPE_CHECKING:
    from efaas.bench.records import Target


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What was typed."""

    out: Path
    full: bool = False
    seeds: int = 20
    data: Path | None = None
    only: tuple[str, ...] = ()
    processes: int = 2
    energies: bool = True
    traces: Path | None = None


def bench(options: BenchOptions) -> None:
    """Run the benchmark.

    Raises:
        InputError: an experiment that does not exist, a record that cannot be read.
    """
    _must_have_packages()
    if options.traces is not None:
        from efaas.bench.arrivals import write_traces

        for path in write_traces(options.traces, options.seeds):
            click.echo(path)
        return
    from efaas.bench.checks import all_checks
    from efaas.bench.grid import TARGET_TABLE, tasks
    from efaas.bench.records import CHECKS, EXPERIMENTS, TARGETS, write
    from efaas.bench.run import run_grid
    from efaas.bench.targets import crossings, growth, targets

    unknown = [name for name in options.only if name not in EXPERIMENTS]
    if unknown:
        there = ", ".join(EXPERIMENTS)
        raise InputError(f"{unknown[0]!r} is no experiment; there are {there}", place="--only")
    out = options.out
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} cannot be made: {error.strerror}", place="--out") from None
    grid = tasks(full=options.full, seeds=options.seeds, data=options.data, only=options.only)
    with _progress() as progress:
        run_grid(out, grid, processes=options.processes, progress=progress)
    experiments = list(dict.fromkeys(task.experiment for task in grid))
    click.echo("checking against queueing theory", err=True)
    checks = all_checks(out, experiments)
    reached = targets(out)
    if options.energies and {"headline", "drift"} & set(experiments):
        reached += _measured("energies", lambda: _energies(out))
    from efaas.bench import live

    # A live comparison that was made in this folder before still stands.
    reached += live.targets(out)
    write(out / "data" / "targets.parquet", TARGETS, [target.row() for target in reached])
    write(out / "data" / "checks.parquet", CHECKS, [check.row() for check in checks])
    facts = [*crossings(out), *growth(out)]
    settings = {
        "version": importlib.metadata.version("efaas"),
        **{name: str(each) if isinstance(each, Path) else each for name, each in asdict(options).items()},
        "experiments": experiments,
        "target_table": list(TARGET_TABLE),
        "facts": facts,
    }
    (out / "bench.json").write_text(json.dumps(settings, indent=1, ensure_ascii=False) + "\n")
    _measured("report", lambda: _report(out))
    for check in checks:
        word = "holds" if check.holds else "DOES NOT HOLD"
        theory = f"theory {check.theory:.6g} ± {check.half_width:.2g}"
        click.echo(f"{check.name}: {check.measured:.6g} ({theory}, {word})")
    for line in (*facts, *(target.line() for target in reached)):
        click.echo(line)


@contextmanager
def _progress(begin: str = "simulating") -> Iterator[Callable[[int, int, str], None]]:
    """A bar on stderr that says what was simulated last, and how long the rest will take."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        shown = bar.add_task(begin, total=None)

        def advance(done: int, total: int, what: str) -> None:
            bar.update(shown, completed=done, total=total, description=what)

        yield advance


def _energies(out: Path) -> list[Target]:
    from efaas.bench import energies
    from efaas.bench.energies_targets import targets_of

    with _progress("energies") as progress:
        energies.compute(out, progress=lambda what, done, total: progress(done, total, what))
    return targets_of(out)


def run_live(out: Path) -> None:
    """Compare real QPU servers with the simulator, and put the outcome into the report of a folder.

    Raises:
        EfaasError: a server does not come up, or a job failed.
    """
    _must_have_packages()
    from efaas.bench import live

    with _progress("live") as progress:
        reached = live.run(out, progress=lambda what, done, total: progress(done, total, what))
    _add_targets(out, reached)


def run_cluster(out: Path, kubeconfig: str | None, context: str | None) -> None:
    """As `run_live`, with the QPU servers in pods of a cluster.

    Raises:
        InputError: there is no usable kubeconfig, or EFaaS is not installed there.
        EfaasError: a pod does not come up, or a job failed.
    """
    _must_have_packages()
    from efaas.bench import live
    from efaas.bench.cluster_servers import ClusterServers, installed_image
    from efaas.cluster.connection import SYSTEM_NAMESPACE, open_cluster

    cluster = open_cluster(kubeconfig, context, None)
    installed_image(cluster, SYSTEM_NAMESPACE)
    with _progress("cluster") as progress:
        reached = live.run(
            out,
            policies=live.CLUSTER_POLICIES,
            progress=lambda what, done, total: progress(done, total, what),
            where=live.CLUSTER,
            serve=lambda policy, scale: ClusterServers(cluster, live.SNAPSHOT, policy, scale),
        )
    _add_targets(out, reached)


def _add_targets(out: Path, reached: list[Target]) -> None:
    """Put targets into a folder's table, make its report again, and say them."""
    from efaas.bench.records import TARGETS, read_targets, write

    names = {target.name for target in reached}
    targets = [target for target in read_targets(out) if target.name not in names] + reached
    write(out / "data" / "targets.parquet", TARGETS, [target.row() for target in targets])
    _measured("report", lambda: _report(out))
    for target in reached:
        click.echo(target.line() if target.reached is False else f"{target.line()}: {target.reason}")


def report_again(out: Path) -> None:
    """Make report.html, report.md and plots/ from the data of a folder.

    Raises:
        InputError: there are no data.
    """
    _must_have_data(out)
    _report(out)


def fill_pages(out: Path, pages: tuple[Path, ...]) -> None:
    """Replace the marked parts of pages by tables from the data of a folder.

    Raises:
        InputError: there are no data, or a page has no marks.
    """
    from efaas.bench.report import fill

    _must_have_data(out)
    for page in pages:
        fill(page, out)
        click.echo(page)


def print_table(out: Path) -> None:
    """Print targets and policies as Markdown.

    Raises:
        InputError: there are no data.
    """
    from efaas.bench.report import table

    _must_have_data(out)
    click.echo(table(out), nl=False)


def _must_have_packages() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise InputError("the benchmark needs more: pip install 'efaas[bench,run,qpu]'") from error


def _must_have_data(out: Path) -> None:
    _must_have_packages()
    if not (out / "data").is_dir():
        raise InputError(f"{out} holds no data; run `efaas bench --out {out}` first", place="--out")


def _report(out: Path) -> list[Target]:
    from efaas.bench.report import write

    write(out)
    click.echo(f"{out / 'report.html'}\n{out / 'report.md'}", err=True)
    return []


def _measured(what: str, work: Callable[[], list[Target]]) -> list[Target]:
    """A part that needs more than simulations; without it the rest is worth having all the same."""
    try:
        return work()
    except (EfaasError, ImportError) as error:
        click.echo(f"warning: {what}: {error}", err=True)
        return []
