"""`efaas run`: from files to a finished run folder.

The order is what makes it fast and safe: check everything, write the folder, start all processes, and only
then import what is for people (terminal, gRPC for polling, plot). A run that is interrupted, or killed, goes
on from its folder: sessions that completed or expired are kept, all others continue from their journals.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TextIO

from efaas.api.device import Drift, QPUDevice
from efaas.core.identity import digest
from efaas.errors import InputError
from efaas.local.accounts import read_device_uses
from efaas.local.best_energy import BestEnergies
from efaas.local.exact import ExactEnergies
from efaas.local.folder import RunFolder, finite, read_json, write_json
from efaas.local.history import HistoryWriter, read_history
from efaas.local.intake import Plan, is_noisy, make_plan, override, read_manifests
from efaas.local.processes import Programs
from efaas.local.progress import (
    DeviceRecord,
    Evaluation,
    RunRecord,
    SessionRecord,
    State,
    integer,
    number,
    text,
)
from efaas.local.summary import summarize
from efaas.local.supervisor import Listener, Supervisor, Timings
from efaas.local.usage import audit

_EXACT_PATIENCE_S = 60.0
"""How long the report of a finished run waits for the exact energies."""

_KEPT_STATES = frozenset({State.COMPLETED.value, State.EXPIRED.value, State.CANCELLED.value})
"""Outcomes that a resumed run keeps; a failed session is tried again."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What was typed."""

    files: tuple[Path, ...] = ()
    runs_dir: Path = Path("runs")
    resume: str | None = None
    """Run folder, or its name in `runs_dir`, that is to go on."""
    name: str | None = None
    """Name of the run; that of the first file if not given."""
    policy: str | None = None
    """Queue policy of all devices, in place of theirs."""
    seed: int | None = None
    """Seed of all sessions, in place of theirs."""
    plot: bool = True
    json: bool = False
    """Whether stdout gets the summary and nothing else."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Shares of tenants (namespaces) among all; 1 for those not named."""
    ui: bool = False
    """Whether the gateway is started beside it, for its page."""
    programs: Programs = field(default_factory=Programs)
    timings: Timings = field(default_factory=Timings)


class View(Listener, Protocol):
    """A `Listener` that shows a run while its `with` block lasts."""

    def tick(self) -> None:
        """Called every second or so."""

    def __enter__(self) -> View:
        """Begin to show."""

    def __exit__(self, *exit_info: Any) -> None:
        """Stop showing."""


def run(options: RunOptions, stdout: TextIO | None = None, stderr: TextIO | None = None) -> int:
    """Run sessions, or go on with an earlier run.

    Args:
        options: what was typed.
        stdout: takes the view and the report, or the summary as JSON.
        stderr: takes warnings, errors and, with `json`, the progress.

    Returns:
        The exit code: 0 all completed, 1 some failed or expired, 2 bad input found by a runner, 130
        interrupted.

    Raises:
        InputError: bad input that was found before anything was started.
    """
    stdout, stderr = stdout or sys.stdout, stderr or sys.stderr
    folder, plan, started = _resumed(options) if options.resume else _new(options)
    try:
        for warning in plan.warnings:
            print(f"warning: {warning}", file=stderr)
        record = make_record(folder, plan, started)
        record.weights = read_weights(folder.read_run())
        known = read_history(folder.history)
        for session in record.sessions.values():
            session.take_history(line for line in known if line.session == session.key)
            _take_outcome(folder, session)
        _take_devices(folder, record)
        earlier_s = float((folder.read_run().get("wall_s")) or 0.0)
        begun = time.monotonic()
        exact = ExactEnergies(plan, record)
        with HistoryWriter(folder.history, known) as history:
            asyncio.run(_supervised(options, folder, plan, record, history, exact, stdout, stderr))
        _take_uses(folder, record)
        for fault in audit(record):
            print(f"warning: {fault}", file=stderr)
        exact.wait(0.0 if record.interrupted else _EXACT_PATIENCE_S)
        record.wall_s = earlier_s + time.monotonic() - begun
        write_json(folder.path / "run.json", {**folder.read_run(), "wall_s": record.wall_s})
        _conclude(options, folder, plan, record, stdout, stderr)
        return record.exit_code()
    finally:
        folder.unlock()


def _new(options: RunOptions) -> tuple[RunFolder, Plan, str]:
    documents = override(read_manifests(options.files), seed=options.seed, policy=options.policy)
    plan = make_plan(documents, policy=options.policy)
    now = datetime.now(UTC)
    folder = RunFolder.create(options.runs_dir, options.name or options.files[0].stem, now.astimezone())
    started = now.isoformat(timespec="seconds").replace("+00:00", "Z")
    version = importlib.metadata.version("efaas")
    about: dict[str, Any] = {"name": folder.name, "started": started, "version": version}
    if options.weights:
        about["weights"] = dict(options.weights)
    folder.write_documents(plan.documents, about)
    return folder, plan, started


def _resumed(options: RunOptions) -> tuple[RunFolder, Plan, str]:
    assert options.resume is not None
    given = (options.seed, options.policy, options.name)
    if options.files or options.weights or any(option is not None for option in given):
        raise InputError(
            "goes on with what the run was started with; leave out files, --seed, --policy, --weight and "
            "--name",
            place="--resume",
        )
    folder = RunFolder.open_existing(options.resume, options.runs_dir)
    try:
        return folder, make_plan(folder.read_documents()), str(folder.read_run().get("started", ""))
    except InputError:
        folder.unlock()
        raise


def read_weights(run: Mapping[str, Any]) -> dict[str, float]:
    """Weights of tenants from ``run.json``."""
    told = run.get("weights")
    pairs = told.items() if isinstance(told, dict) else ()
    return {name: weight for name, value in pairs if (weight := number(value)) is not None and weight > 0}


def make_record(folder: RunFolder, plan: Plan, started: str) -> RunRecord:
    """The records of a run before anything has happened."""
    noisy = {device.name: is_noisy(device) for device in plan.documents.devices}
    sessions = {}
    for session in plan.documents.sessions:
        facts = plan.facts[session.key]
        devices = tuple(plan.placement.get(session.key, ()))
        record = SessionRecord(session.key, facts.qubits, devices)
        method = session.spec.optimizer
        record.batch = method is not None and method.scan is not None
        if session.spec.suspend:
            record.state, record.reason = State.SUSPENDED, "spec.suspend is true"
        elif devices:
            record.device, record.noisy = devices[0], noisy[devices[0]]
        sessions[session.key] = record
    devices_by_name = {
        device.name: DeviceRecord(
            device.name,
            device.spec.model.snapshot or device.name,
            plan.device_qubits[device.name],
            noisy[device.name],
            twins=_twins(device),
        )
        for device in plan.documents.devices
    }
    return RunRecord(folder.name, str(folder.path), started, sessions, devices_by_name)


def _twins(device: QPUDevice) -> str:
    """What the counts of a frozen device follow from: devices with the same text are twins."""
    spec = device.spec
    if spec.calibration.drift is not Drift.FROZEN:
        return ""
    return digest(spec.model.model_dump_json(), spec.simulation.noise.value, spec.simulation.method.value)


def _take_outcome(folder: RunFolder, record: SessionRecord) -> None:
    """Keep what an earlier run of the folder has finished."""
    outcome = folder.read_outcome(record.key)
    if outcome is None or outcome.get("state") not in _KEPT_STATES:
        return
    record.apply({"event": "finished", "result": outcome.get("result")})
    record.state, record.reason = State(outcome["state"]), str(outcome.get("reason", ""))
    if outcome.get("device") in record.devices:
        record.device = outcome["device"]


def _take_devices(folder: RunFolder, record: RunRecord) -> None:
    """What an earlier run of the folder knew of the devices, for those that need not be started again."""
    for told in (read_json(folder.result) or {}).get("devices") or ():
        device = record.devices.get(text(told.get("device"))) if isinstance(told, dict) else None
        if device is None:
            continue
        for name in ("cold_starts", "warm_starts", "prepared_ahead"):
            setattr(device, name, integer(told.get(name)) or 0)
        for name in (
            "busy_s",
            "calibrating_s",
            "clock_s",
            "calibration_age_s",
            "cold_start_s",
            "warm_start_s",
        ):
            setattr(device, name, number(told.get(name)) or 0.0)
        device.duty_cycle = number(told.get("qdc_since_first_job")) or 0.0
        device.calibration_epoch = integer(told.get("calibration_epoch")) or 0
        device.started, device.condition = True, "Stopped"


def _take_uses(folder: RunFolder, record: RunRecord) -> None:
    """Read from the servers' logs where the time of the devices went."""
    for device in record.devices.values():
        device.uses = read_device_uses(folder.device(device.name) / "data" / "log")


# --- while it runs --------------------------------------------------------------------------------


class _Recorder:
    """Passes on what happens to the view, after it has been written down."""

    def __init__(self, history: HistoryWriter) -> None:
        self._history = history
        self.view: View | None = None

    def session_changed(self, record: SessionRecord) -> None:
        if self.view is not None:
            self.view.session_changed(record)

    def device_changed(self, record: DeviceRecord) -> None:
        if self.view is not None:
            self.view.device_changed(record)

    def evaluated(self, record: SessionRecord, evaluation: Evaluation) -> None:
        self._history.append(evaluation)
        if self.view is not None:
            self.view.evaluated(record, evaluation)

    def note(self, text: str) -> None:
        if self.view is not None:
            self.view.note(text)


async def _supervised(
    options: RunOptions,
    folder: RunFolder,
    plan: Plan,
    record: RunRecord,
    history: HistoryWriter,
    exact: ExactEnergies,
    stdout: TextIO,
    stderr: TextIO,
) -> None:
    recorder = _Recorder(history)
    best = BestEnergies(folder, options.programs)
    supervisor = Supervisor(
        folder,
        record,
        recorder,
        slots={device.name: device.spec.slots for device in plan.documents.devices},
        programs=options.programs,
        timings=options.timings,
        session_ended=best.find,
    )
    with _view(options, record, stdout, stderr) as view, _signals(supervisor, record, view):
        recorder.view = view
        from efaas.local.monitor import Monitor

        monitor = Monitor(folder, record)
        from efaas.local.tenants import TenantAccounts

        accounts = TenantAccounts.of(folder, record, plan)
        running = asyncio.create_task(supervisor.run(before_servers_end=monitor.ask))
        helpers = [
            asyncio.create_task(_tick(view, history)),
            asyncio.create_task(_watch(monitor)),
            asyncio.create_task(_later(exact)),
            asyncio.create_task(accounts.run()),
        ]
        if options.ui:
            from efaas.local.ui import Ui

            helpers.append(asyncio.create_task(Ui(folder, record, plan, supervisor, view.note).run()))
        try:
            await running
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            await monitor.close()


async def _tick(view: View, history: HistoryWriter) -> None:
    while True:
        await asyncio.sleep(1.0)
        history.flush()
        view.tick()


async def _watch(monitor: Any) -> None:
    # The first seconds belong to the start of the children; gRPC is imported after that.
    await asyncio.sleep(1.0)
    await monitor.run()


async def _later(exact: ExactEnergies) -> None:
    # Once the children have been started.
    await asyncio.sleep(0.2)
    exact.start()


@contextlib.contextmanager
def _signals(supervisor: Supervisor, record: RunRecord, view: View) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal end the run in order; a second one ends it at once."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt() -> None:
        record.interrupted = True
        supervisor.stop()
        view.note("ending; once more to end at once")
        for caught in numbers:
            loop.remove_signal_handler(caught)

    for caught in numbers:
        loop.add_signal_handler(caught, interrupt)
    try:
        yield
    finally:
        for caught in numbers:
            loop.remove_signal_handler(caught)


def _view(options: RunOptions, record: RunRecord, stdout: TextIO, stderr: TextIO) -> Any:
    if options.json or not stdout.isatty():
        from efaas.local.plain import PlainView

        return PlainView(record, stderr if options.json else stdout)
    from rich.console import Console

    from efaas.local.live import LiveView

    return LiveView(record, Console(file=stdout))


# --- at the end -----------------------------------------------------------------------------------


def _conclude(
    options: RunOptions, folder: RunFolder, plan: Plan, record: RunRecord, stdout: TextIO, stderr: TextIO
) -> None:
    summary = finite(summarize(record))
    write_json(folder.result, summary)
    plotted = options.plot and any(session.history for session in record.sessions.values())
    if plotted:
        from efaas.local.plot import plot_convergence

        plot_convergence(record, folder.plot, {key for key, facts in plan.facts.items() if facts.hartree})
    for session in record.sessions.values():
        if session.bad_input:
            print(f"error: VQASession {session.shown}: {session.reason}", file=stderr)
    if record.interrupted:
        print(f"Interrupted. Go on with: efaas run --resume {folder.path}", file=stderr)
    if options.json:
        json.dump(summary, stdout, indent=2, ensure_ascii=False, allow_nan=False)
        stdout.write("\n")
        return
    if (
        not any(session.history or session.result for session in record.sessions.values())
        and record.exit_code() == 2
    ):
        return
    from rich.console import Console

    from efaas.local.report import report

    console = Console(file=stdout, width=None if stdout.isatty() else 100, highlight=False, soft_wrap=False)
    console.print(report(summary, frozenset(key for key, facts in plan.facts.items() if facts.hartree)))
    files = [folder.result, folder.history, *([folder.plot] if plotted else [])]
    if any(session.state is State.FAILED for session in record.sessions.values()):
        files.append(folder.path / "logs")
    console.print("\n".join(str(path) for path in files), soft_wrap=True)
