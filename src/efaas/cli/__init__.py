"""The command line: ``efaas run``, ``efaas check``, ``efaas devices``, ``efaas version``.

Commands only read what was typed, call what does the work, and turn errors into one sentence each on stderr
with exit code 2. What a command needs is imported inside it, so that ``efaas --help`` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from efaas.errors import EfaasError, InputError, ManifestFaults

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2

POLICIES = ("efaas", "sbq", "pf", "sr", "pq", "session-fifo")
"""`efaas.api.device.QueuePolicy`, spelt out so that help needs no models; a test keeps them equal."""


class _Group(click.Group):
    """A group in which every error raised on purpose ends as sentences on stderr and an exit code."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except EfaasError as error:
            for fault in error.faults if isinstance(error, ManifestFaults) else (error,):
                click.echo(f"error: {fault}", err=True)
            context.exit(EXIT_BAD_INPUT if isinstance(error, InputError) else EXIT_FAILED)
        except BrokenPipeError:
            # Whoever read stdout has gone (`efaas devices | head`); there is nobody to tell.
            sys.stdout = None
            context.exit(EXIT_FAILED)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Run hybrid variational quantum algorithms as sessions."""


_FILES = click.argument("files", nargs=-1, metavar="FILE...", type=click.Path(path_type=Path))


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
