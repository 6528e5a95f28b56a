"""How the rate of background jobs changes with time: bursts, a recorded queue, and traces like it.

A queue record tells how many jobs waited on each device in each minute, not when jobs came. What is replayed
is the unrest of it: in each minute jobs come in proportion to by how much the queue *grew* in that minute of
the record, scaled so that the mean rate is that of the scenario (a load stays a load). The record's own slips
are mended first: a reading that jumps away and straight back is replaced by its neighbours' median.

Growth is not arrivals: what was served within the minute is missing, so a replay is burstier than the
arrivals were. It is a hard case, not a likeness.

`statistics` says what a trace is like (mean growth a minute, share of quiet minutes, persistence, spread);
`synthesise` makes queue lengths with the same: minutes are quiet or busy by a two-state Markov chain, growth
in busy ones is log-normal. Constants of the record that the project was developed with are `RECORDED`.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from efaas.errors import InputError
from efaas.simulator.workload import stream

MINUTES_A_BURST = 3.0
"""Mean length of a burst."""
BURST = 4.0
"""Rate in a burst, as a multiple of the mean rate."""
_LARGEST = 64 * 2**20
"""Bytes that a record may have, unpacked."""


def bursts(seed: int, minutes: int) -> tuple[float, ...]:
    """Relative rates of an on-off process: bursts of 4 times the mean rate for three minutes, quiet between.

    In the quiet a quarter of the mean rate comes; the shares of both make the mean 1.
    """
    random = stream(seed, "bursts")
    quiet = 0.25
    busy_share = (1 - quiet) / (BURST - quiet)
    leave_burst = 1 / MINUTES_A_BURST
    leave_quiet = leave_burst * busy_share / (1 - busy_share)
    busy = random.random() < busy_share
    rates = []
    for _ in range(minutes):
        rates.append(BURST if busy else quiet)
        if random.random() < (leave_burst if busy else leave_quiet):
            busy = not busy
    return tuple(rates)


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a queue's growth is like, minute by minute."""

    mean: float
    """Jobs by which the queue grew in a minute, shrinking counted as 0."""
    quiet_share: float
    """Minutes without growth."""
    quiet_stays: float
    """Probability that a minute without growth follows one without."""
    log_mean: float
    """Of the natural logarithm of growth where there is some."""
    log_spread: float
    """Its standard deviation."""


RECORDED = Statistics(mean=0.415, quiet_share=0.936, quiet_stays=0.940, log_mean=0.564, log_spread=1.111)
"""Pending jobs of 12 public devices in ten days of November 2023, all devices pooled."""


def growth(lengths: Sequence[int]) -> list[int]:
    """Growth of a queue in each minute, slips mended: a reading is the median of it and its neighbours."""
    padded = [lengths[0], *lengths, lengths[-1]]
    mended = [sorted(padded[place : place + 3])[1] for place in range(len(lengths))]
    return [max(0, after - before) for before, after in pairwise(mended)]


def statistics(lengths: Sequence[Sequence[int]]) -> Statistics:
    """What the growth of several queues is like, pooled."""
    grown = [growth(each) for each in lengths if len(each) > 2]
    pooled = np.array([value for each in grown for value in each], dtype=float)
    pairs = [(before == 0, after == 0) for each in grown for before, after in pairwise(each)]
    after_quiet = [after for before, after in pairs if before]
    logs = np.log(pooled[pooled > 0])
    return Statistics(
        mean=float(pooled.mean()),
        quiet_share=float((pooled == 0).mean()),
        quiet_stays=sum(after_quiet) / len(after_quiet) if after_quiet else 0.0,
        log_mean=float(logs.mean()) if len(logs) else 0.0,
        log_spread=float(logs.std()) if len(logs) else 0.0,
    )


def synthesise(like: Statistics, seed: int, minutes: int) -> list[int]:
    """Queue lengths whose growth is like a record's; the queue is served at the mean rate of its growth."""
    random = stream(seed, "trace")
    busy_stays = 1 - like.quiet_share * (1 - like.quiet_stays) / max(1e-9, 1 - like.quiet_share)
    quiet = bool(random.random() < like.quiet_share)
    lengths, length, served = [0], 0, 0.0
    for _ in range(minutes):
        if quiet:
            # What was served is seen where nothing came, as in the record.
            served = served + like.mean / max(like.quiet_share, 1e-9) if length else 0.0
            gone = min(length, int(served))
            served -= gone
            length -= gone
        else:
            length += max(1, round(math.exp(like.log_mean + like.log_spread * random.standard_normal())))
        lengths.append(length)
        stays = like.quiet_stays if quiet else busy_stays
        if random.random() >= stays:
            quiet = not quiet
    return lengths


def profile_of(lengths: Sequence[int], seed: int, minutes: int) -> tuple[float, ...]:
    """Relative rates of a part of a queue's record, from a minute that the seed chooses; their mean is 1."""
    grown = growth(lengths)
    if len(grown) < minutes:
        raise InputError(f"{len(grown)} minutes of a record, {minutes} are needed", place="--data")
    start = int(stream(seed, "part of the record").integers(0, len(grown) - minutes + 1))
    part = grown[start : start + minutes]
    mean = sum(part) / len(part)
    return tuple(value / mean for value in part) if mean > 0 else (1.0,) * minutes


def read_record(path: Path) -> dict[str, list[int]]:
    """Queue lengths by device from a CSV file (may be gzip) with the columns backend and pending_jobs.

    Raises:
        InputError: the file is not of this form, or too large.
    """
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            with gzip.open(io.BytesIO(raw)) as packed:
                raw = packed.read(_LARGEST + 1)
    except OSError as error:
        raise InputError(f"cannot be read: {error}", place=str(path)) from error
    if len(raw) > _LARGEST:
        raise InputError(f"is larger than {_LARGEST >> 20} MiB", place=str(path))
    queues: dict[str, list[int]] = defaultdict(list)
    try:
        for row in csv.DictReader(io.StringIO(raw.decode())):
            queues[row["backend"]].append(int(row["pending_jobs"]))
    except (KeyError, ValueError, UnicodeDecodeError) as error:
        raise InputError(
            f"is no queue record with the columns backend and pending_jobs ({error})", place=str(path)
        ) from error
    if not queues:
        raise InputError("holds no rows", place=str(path))
    return dict(queues)


def write_traces(folder: Path, seeds: int, minutes: int = 14_400) -> list[Path]:
    """Synthetic queue records like the recorded one, as CSV of the same form."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for seed in range(seeds):
        path = folder / f"pending-jobs-{seed}.csv"
        lines = ["time_utc,backend,pending_jobs,status"]
        for minute, length in enumerate(synthesise(RECORDED, seed, minutes - 1)):
            day, rest = divmod(minute, 1440)
            hour, left = divmod(rest, 60)
            lines.append(f"2024-01-{1 + day:02}T{hour:02}:{left:02}Z,synthetic-{seed},{length},active")
        path.write_text("\n".join(lines) + "\n")
        written.append(path)
    return written
