"""Runs the grid in processes, task by task, and puts the tables together.

A finished task leaves its tables in ``parts/`` and, last, a note with the digest of its settings; a run that
is started again does only what has no such note. The tables of an experiment are the parts in a fixed order,
so they do not depend on which process did what when.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from efaas.bench.grid import Task
from efaas.bench.records import TABLES, Rows, write
from efaas.bench.simulate import simulate

Progress = Callable[[int, int, str], None]
"""Hears of each task that is done: how many of how many, and which."""


def run_grid(out: Path, grid: Sequence[Task], *, processes: int, progress: Progress | None = None) -> None:
    """Simulate what is missing, then write the tables of every experiment of the grid.

    Args:
        out: result folder.
        grid: what to simulate.
        processes: that work at once; 1: this one.
        progress: hears what is done.
    """
    missing = [(out, task) for task in grid if not _done(out, task)]
    done = len(grid) - len(missing)
    for task in _worked(missing, processes):
        done += 1
        if progress is not None:
            progress(done, len(grid), f"{task.experiment} {task.cell} seed {task.seed}")
    for experiment in dict.fromkeys(task.experiment for task in grid):
        _assemble(out, [task for task in grid if task.experiment == experiment])
    _keep_timings(out, grid)


def _worked(missing: list[tuple[Path, Task]], processes: int) -> Iterable[Task]:
    if processes <= 1 or len(missing) <= 1:
        yield from map(_work, missing)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(processes, len(missing)), maxtasksperchild=50) as pool:
        yield from pool.imap_unordered(_work, missing)


def _work(given: tuple[Path, Task]) -> Task:
    """One task, in whichever process."""
    out, task = given
    tables: dict[str, Rows] = {name: [] for name in task.tables}
    seconds: dict[str, list[float]] = {}
    for policy in task.arms:
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        detail = len(task.tables) > 1
        rows = simulate(task.experiment, task.cell, task.scenario, policy, task.seed, detail=detail)
        seconds[policy] = [time.perf_counter() - wall_s, time.process_time() - cpu_s]
        for name, kept in tables.items():
            kept += rows.get(name, [])
    folder = _folder(out, task)
    for name, kept in tables.items():
        write(folder / f"{task.seed}.{name}.parquet", TABLES[name], kept)
    (folder / f"{task.seed}.json").write_text(json.dumps({"key": task.key, "seconds": seconds}))
    return task


def _folder(out: Path, task: Task) -> Path:
    return out / "parts" / task.experiment / (task.cell or "all")


def _note(out: Path, task: Task) -> dict[str, object]:
    path = _folder(out, task) / f"{task.seed}.json"
    try:
        note: dict[str, object] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return note


def _done(out: Path, task: Task) -> bool:
    return _note(out, task).get("key") == task.key


def _assemble(out: Path, tasks: list[Task]) -> None:
    """The tables of one experiment, whole or not at all."""
    ordered = sorted(tasks, key=lambda task: (task.cell, task.seed))
    for name, schema in TABLES.items():
        parts = [
            pq.read_table(_folder(out, task) / f"{task.seed}.{name}.parquet")
            for task in ordered
            if name in task.tables
        ]
        path = out / "data" / tasks[0].experiment / f"{name}.parquet"
        if not parts:
            path.unlink(missing_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".part")
        pq.write_table(pa.concat_tables(parts).cast(schema), beside, compression="zstd")
        beside.replace(path)


def _keep_timings(out: Path, grid: Sequence[Task]) -> None:
    """Wall and processor seconds of every run: the one file that differs from run to run."""
    timings = {
        f"{task.experiment}/{task.cell}/{policy}/{task.seed}": seconds
        for task in sorted(grid, key=lambda task: (task.experiment, task.cell, task.seed))
        for policy, seconds in _seconds(_note(out, task)).items()
    }
    (out / "timings.json").write_text(json.dumps(timings, indent=1) + "\n")


def _seconds(note: dict[str, object]) -> dict[str, list[float]]:
    seconds = note.get("seconds")
    return seconds if isinstance(seconds, dict) else {}
