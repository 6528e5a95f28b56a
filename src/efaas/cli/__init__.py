"""The command line: ``efaas run``, ``efaas submit``, ``efaas check``, ``efaas devices``, ``efaas version``.

Commands only read what was typed, call what does the work, and turn errors into one sentence each on stderr
with exit code 2. What a command needs is imported inside it, so that ``efaas --help`` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from efaas.cli.group import CommandGroup

POLICIES = ("efaas", "sbq", "pf", "sr", "pq", "session-fifo")
"""`efaas.api.device.QueuePolicy`, spelt out so that help needs no models; a test keeps them equal."""

SPECULATION_MODES = ("Off", "Exact", "Tolerant")
"""`efaas.api.session.SpeculationMode`, likewise."""


@click.group(
    cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
def main() -> None:
    """Run hybrid variational quantum algorithms as sessions."""


_FILES = click.argument("files", nargs=-1, metavar="FILE...", type=click.Path(path_type=Path))


def _weights(told: tuple[str, ...]) -> dict[str, float]:
    weights = {}
    for text in told:
        name, _, number = text.partition("=")
        try:
            weights[name] = float(number)
        except ValueError:
            weights[name] = 0.0
        if not name or not 0 < weights[name] <= 1e6:
            raise click.UsageError(f"--weight {text}: give NAMESPACE=N with N above 0, at most 1000000")
    return weights


@main.command()
@_FILES
@click.option("--json", "as_json", is_flag=True, help="Print one JSON summary on stdout and nothing else.")
@click.option(
    "--runs-dir",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where run folders go.",
)
@click.option(
    "--resume", metavar="RUN", help="Go on with an earlier run: its folder, or its name in --runs-dir."
)
@click.option(
    "--policy", type=click.Choice(POLICIES), help="Queue policy of all devices, in place of theirs."
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Seed of all sessions, in place of theirs.")
@click.option("--no-plot", is_flag=True, help="Draw no convergence plot.")
@click.option("--name", help="Name of the run; that of the first file if not given.")
@click.option(
    "--weight",
    "weights",
    multiple=True,
    metavar="NAMESPACE=N",
    help="Share of a namespace among all; 1 if not given.",
)
@click.option("--ui", is_flag=True, help="Show the run in a browser; prints the address.")
def run(
    files: tuple[Path, ...],
    as_json: bool,
    runs_dir: Path,
    resume: str | None,
    policy: str | None,
    seed: int | None,
    no_plot: bool,
    name: str | None,
    weights: tuple[str, ...],
    ui: bool,
) -> None:
    """Run the VQASessions of manifests on simulated QPUs, all on this machine.

    Sessions run at the same time on the QPUDevices of the same files, or on two default devices. Ctrl-C ends
    a run so that --resume can go on with it.

    Exit codes: 0 all sessions completed, 1 some failed or expired, 2 bad input, 130 interrupted.
    """
    if bool(files) == (resume is not None):
        problem = "leave out FILE with --resume" if files else "name a manifest FILE, or a run with --resume"
        raise click.UsageError(problem)
    from efaas.local.run import RunOptions
    from efaas.local.run import run as run_sessions

    options = RunOptions(
        files=files,
        runs_dir=runs_dir,
        resume=resume,
        name=name,
        policy=policy,
        seed=seed,
        plot=not no_plot,
        json=as_json,
        weights=_weights(weights),
        ui=ui,
    )
    sys.exit(run_sessions(options))


@main.command()
@_FILES
def check(files: tuple[Path, ...]) -> None:
    """Validate manifests without running them.

    Everything is checked that `efaas run` checks before it starts a process. Exit codes: 0 valid, 2 bad
    input.
    """
    if not files:
        raise click.UsageError("name a manifest FILE")
    from efaas.local.intake import make_plan, read_manifests

    plan = make_plan(read_manifests(files))
    for warning in plan.warnings:
        click.echo(f"warning: {warning}", err=True)
    for session in plan.documents.sessions:
        needs = plan.facts[session.key].qubits
        qubits = f"{needs} qubit{'s' if needs != 1 else ''}"
        where = ", ".join(plan.placement.get(session.key, ()))
        click.echo(f"{session.key}: {qubits}, {f'fits {where}' if where else 'suspended'}")


@main.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("arguments", nargs=-1)
@click.option("--name", default="", help="Name of the session; the script's with some letters if not given.")
@click.option("-n", "--namespace", help="Namespace; that of the context if not given.")
@click.option("--context", help="Context of the kubeconfig.")
@click.option("--kubeconfig", help="Kubeconfig file, as kubectl takes it.")
@click.option("--qubits", type=click.IntRange(1, 1000), help="Least number of qubits of the device.")
@click.option("--shots", type=click.IntRange(1, 100_000_000), help="Shots where the script names none.")
@click.option("--seed", type=click.IntRange(0, 2**53 - 1), help="Seed of everything random.")
@click.option("--speculation", type=click.Choice(SPECULATION_MODES), help="How far the script may run ahead.")
@click.option("--weight", type=click.IntRange(1, 1000), help="Share among the namespace's sessions.")
@click.option("--max-calibration-age", metavar="TIME", help="Such as 6h.")
@click.option("--max-duration", metavar="TIME", help="Ends the session, such as 30m.")
@click.option("--detach", is_flag=True, help="Do not follow the session.")
def submit(
    file: Path,
    arguments: tuple[str, ...],
    name: str,
    namespace: str | None,
    context: str | None,
    kubeconfig: str | None,
    qubits: int | None,
    shots: int | None,
    seed: int | None,
    speculation: str | None,
    weight: int | None,
    max_calibration_age: str | None,
    max_duration: str | None,
    detach: bool,
) -> None:
    """Run FILE in a cluster, and follow it: a manifest, or a Python script on the SDK or on primitives.

    The script becomes a ConfigMap and a VQASession with it; ARGUMENTS are the script's, its options after --.
    Ctrl-C stops following; the session goes on.

    Exit codes: 0 completed, 1 failed, expired or cancelled, 2 bad input, 130 no longer followed.
    """
    from efaas.cli.submit import submit as submit_file
    from efaas.cluster.submit import Wishes

    device = {"qubits": qubits, "maxCalibrationAge": max_calibration_age}
    spec = {
        "device": {key: value for key, value in device.items() if value is not None},
        "shots": shots,
        "seed": seed,
        "speculation": speculation,
        "weight": weight,
        "limits": {"duration": max_duration} if max_duration is not None else None,
    }
    submit_file(
        file,
        kubeconfig=kubeconfig,
        context=context,
        namespace=namespace,
        wishes=Wishes(name, {key: value for key, value in spec.items() if value}, arguments),
        detach=detach,
    )


@main.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("bench"),
    show_default=True,
    help="Result folder; started again with the same one, an interrupted benchmark goes on.",
)
@click.option("--full", is_flag=True, help="The whole grid instead of the target table; takes hours.")
@click.option(
    "--seeds", type=click.IntRange(1, 1000), default=20, show_default=True, help="Seeds of each cell."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A queue record to replay (CSV with backend, pending_jobs), for the experiment `arrivals`.",
)
@click.option("--only", multiple=True, metavar="EXPERIMENT", help="Only this experiment; may be repeated.")
@click.option("--processes", type=click.IntRange(1, 256), default=2, show_default=True)
@click.option("--no-energies", is_flag=True, help="Simulate time only: compute no energies.")
@click.option("--live", is_flag=True, help="Compare real QPU servers with the simulator, and nothing else.")
@click.option(
    "--cluster", is_flag=True, help="As --live, with QPU servers in pods of a cluster that has EFaaS."
)
@click.option("--kubeconfig", help="Of the cluster, with --cluster; as kubectl finds it if not given.")
@click.option("--context", help="Of the kubeconfig, with --cluster.")
@click.option("--report", "again", is_flag=True, help="Only make the report again, from the data in --out.")
@click.option("--table", is_flag=True, help="Only print targets and policies as Markdown, from the data.")
@click.option(
    "--docs",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Only put tables from the data into this Markdown page, between its marks; may be repeated.",
)
@click.option("--traces", type=click.Path(path_type=Path), help="Only write synthetic queue records here.")
def bench(
    out: Path,
    full: bool,
    seeds: int,
    data: Path | None,
    only: tuple[str, ...],
    processes: int,
    no_energies: bool,
    live: bool,
    cluster: bool,
    kubeconfig: str | None,
    context: str | None,
    again: bool,
    table: bool,
    docs: tuple[Path, ...],
    traces: Path | None,
) -> None:
    """Measure all policies on identical arrivals, and write a report.

    The last lines printed say what was to be reached and whether it was.
    """
    from efaas.cli.bench import BenchOptions, fill_pages, print_table, report_again, run_cluster, run_live
    from efaas.cli.bench import bench as run_bench

    if docs:
        return fill_pages(out, docs)
    if table:
        return print_table(out)
    if again:
        return report_again(out)
    if live:
        return run_live(out)
    if cluster:
        return run_cluster(out, kubeconfig, context)
    return run_bench(BenchOptions(out, full, seeds, data, only, processes, not no_energies, traces=traces))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def devices(as_json: bool) -> None:
    """List the device models that come with the project.

    Errors are medians over the device: of its two-qubit gates, of its single-qubit sx or x gates, and of its
    readout.
    """
    from efaas.cli.devices import list_devices

    list_devices(as_json)


@main.command()
def version() -> None:
    """Print the version."""
    import importlib.metadata

    click.echo(importlib.metadata.version("efaas"))


if __name__ == "__main__":
    main()
