"""Where a session stands, and the journal that says so.

**One record an iteration.** When an optimizer has been told the answers to what it asked, one record goes
into the
journal: points, answers, job ids, times, use, and from time to time the optimizer's state. It is on disk
before the next points are asked. Nothing else is remembered: everything a `Trajectory` knows comes out of
its records, read back or just written, through the same door (`_take`), so a resumed session cannot differ
from one that was never stopped.

**Resume.** The optimizer goes on from the last state in the journal and is told again what was told since;
what it asks on the way is compared, to the bit, with what the journal says it asked.

**The state** of some methods is their whole history. It is written once as many bytes of records have piled
up as the last state had, so the journal is at most about twice as long as its records, and a resume replays
a bounded part.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from efaas.errors import InputError
from efaas.optimizers.base import Ask, Optimizer, Tell
from efaas.optimizers.factory import restore_optimizer
from efaas.optimizers.scan import Scan
from efaas.optimizers.stopping import StoppingRule
from efaas.runner.account import Account
from efaas.runner.journalled import job_record

if TYPE_CHECKING:
    from efaas.client import JobResult
    from efaas.journal import Journal
    from efaas.runner.foresight import Estimate
    from efaas.runner.progress import Progress

RECORD_FORMAT = 1
"""Version of the records."""

SCAN_WINDOW = 64
"""Jobs of a scan that are on their way at once, and so the most that are told out of order."""


class Trajectory:
    """What a session has asked and been told, on disk and in memory.

    Args:
        identity: what the trajectory depends on (problem, ansatz, optimizer, shots, seed), JSON-ready; a
            journal that was begun with another one is refused.
        make_optimizer: makes the optimizer as it was at the very beginning.
        journal: open for writing.
        rule: hears of every iteration, old and new.
        progress: hears of every evaluation, old and new.

    Attributes:
        optimizer: as it stands.
        account: what the session has used.
        next_evaluation: number of the next job.
        final: record of the final evaluation, once there is one.

    Raises:
        InputError: the journal is of another session, or the optimizer asks for something else than it says.
    """

    def __init__(
        self,
        identity: Mapping[str, Any],
        make_optimizer: Callable[[], Optimizer],
        journal: Journal,
        rule: StoppingRule,
        progress: Progress,
    ) -> None:
        self._journal = journal
        self._rule = rule
        self._progress = progress
        self.account = Account()
        self.next_evaluation = 0
        self.final: dict[str, Any] | None = None
        self._state_bytes = 0
        self._bytes_since_state = 0
        header = {"kind": "session", "format": RECORD_FORMAT, **identity}
        records = list(journal.records())
        if records:
            _must_be_same(records[0], header)
        else:
            journal.append(header, durable=False)
        self.optimizer = self._restored(records[1:], make_optimizer)
        for record in records[1:]:
            self._take(record, again=True)

    # --- new records --------------------------------------------------------------------------------

    def add_iteration(
        self,
        asked: Ask,
        answers: Tell,
        results: Sequence[JobResult],
        first_evaluation: int,
        times: Mapping[str, float],
        *,
        route: str = "",
        stepped_on: Estimate | None = None,
        chosen: Ask | None = None,
        durable: bool = True,
    ) -> None:
        """Write down what was asked and told; the optimizer has been told already.

        Args:
            asked: what was asked.
            answers: what was told.
            results: of the jobs that brought the answers.
            first_evaluation: number of the first of these jobs.
            times: ``cpu_s``, ``elapsed_s``, ``iteration_s``.
            route: why it did not run on the session's own device; empty if it did.
            stepped_on: the estimate that the next step was taken on, where it stands.
            chosen: the next points, where the estimate chose them but the whole result was told.
            durable: return only when it is on disk.
        """
        estimate = self.optimizer.estimate
        record: dict[str, Any] = {
            "kind": "iteration",
            "iteration": asked.iteration,
            "evaluation": first_evaluation,
            "asked": {"points": asked.points.tolist(), "overlaps": asked.overlaps.tolist()},
            "told": {
                "values": answers.values.tolist(),
                "std_errors": answers.std_errors.tolist(),
                "overlaps": answers.overlaps.tolist(),
            },
            "energy": estimate.value if estimate else None,
            "std_error": estimate.std_error if estimate else None,
            "iterations_done": self.optimizer.iteration,
            "jobs": [job_record(result, first_evaluation + index) for index, result in enumerate(results)],
            "route": route,
            **times,
        }
        if stepped_on is not None:
            record["stepped_on"] = stepped_on.record()
            if chosen is not None:
                record["next"] = {"points": chosen.points.tolist(), "overlaps": chosen.overlaps.tolist()}
            else:
                # The method remembers values at points, so it was told the estimate.
                record["final"] = {name: record["told"][name] for name in ("values", "std_errors")}
                record["told"] = {**record["told"], **stepped_on.record()}
        if self._bytes_since_state >= self._state_bytes:
            record["state"] = self.optimizer.state()
            self._state_bytes = len(json.dumps(record["state"]))
            self._bytes_since_state = 0
        self._bytes_since_state += _size(record)
        self._journal.append(record, durable=durable)
        self._take(record)

    def add_final(
        self,
        point: Sequence[float],
        results: Sequence[JobResult],
        times: Mapping[str, float],
        cut: Mapping[str, Any] | None,
        *,
        route: str = "",
    ) -> None:
        """Write down the final evaluation: its energy is that of the first result's only value."""
        record: dict[str, Any] = {
            "kind": "final",
            "iteration": self.optimizer.iteration,
            "evaluation": self.next_evaluation,
            "point": list(point),
            "energy": float(results[0].values[0, 0]),
            "std_error": float(results[0].std_errors[0, 0]),
            "jobs": [
                job_record(result, self.next_evaluation + index) for index, result in enumerate(results)
            ],
            "route": route,
            **times,
        }
        if cut is not None:
            record["cut"] = dict(cut)
        self._journal.append(record)
        self._take(record)

    def flush(self) -> None:
        """Return when everything is on disk."""
        self._journal.flush()

    # --- every record, new or read back -------------------------------------------------------------

    def _take(self, record: Mapping[str, Any], *, again: bool = False) -> None:
        if record["kind"] == "final":
            self.final = dict(record)
            # It is no step of the search, so it does not count as the best seen.
            best = self.account.best
            self.account.take(record)
            self.account.best = best
        else:
            self.account.take(record)
            self._rule.observe(
                iterations=record["iterations_done"],
                value=record["energy"],
                duration_s=record["elapsed_s"],
                qpu_time_s=self.account.usage.qpu_s,
            )
        self.next_evaluation = max(self.next_evaluation, record["evaluation"] + len(record["jobs"]))
        self._progress.iteration(self.account.event(record), again=again)

    def _restored(
        self, records: Sequence[Mapping[str, Any]], make_optimizer: Callable[[], Optimizer]
    ) -> Optimizer:
        steps = [record for record in records if record["kind"] == "iteration"]
        last = max((index for index, record in enumerate(steps) if "state" in record), default=-1)
        if last < 0:
            optimizer = make_optimizer()
        else:
            optimizer = restore_optimizer(steps[last]["state"])
            _choose_again(optimizer, steps[last])
            self._state_bytes = len(json.dumps(steps[last]["state"]))
            self._bytes_since_state = _size(steps[last])
        for record in steps[last + 1 :]:
            _tell_again(optimizer, record)
            self._bytes_since_state += _size(record)
        return optimizer


def _size(record: Mapping[str, Any]) -> int:
    """About how many bytes a record takes without a state: what it asks, and a kilobyte for the rest."""
    return 1000 + len(json.dumps(record["asked"]))


def _must_be_same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    for name, value in expected.items():
        if found.get(name) != value:
            raise InputError(
                f"was begun by another session ({name} is not the same); put back the manifest that it was "
                "begun with, or start anew",
                place="journal",
            )


def _tell_again(optimizer: Optimizer, record: Mapping[str, Any]) -> None:
    """Tell an optimizer what it was told before, if it asks what it asked before.

    Raises:
        InputError: it asks for something else.
    """
    asked = _ask_again(optimizer, record["iteration"])
    points, overlaps = record["asked"]["points"], record["asked"]["overlaps"]
    if asked is None or asked.points.tolist() != points or asked.overlaps.tolist() != overlaps:
        raise InputError(
            f"the optimizer asks for other points than at evaluation {record['evaluation']} of the journal; "
            "go on with the version of EFaaS that began the session, or start anew",
            place="journal",
        )
    told = record["told"]
    answers = Tell(
        np.array(told["values"], dtype=np.float64),
        np.array(told["std_errors"], dtype=np.float64),
        np.array(told["overlaps"], dtype=np.float64),
    )
    if isinstance(optimizer, Scan):
        optimizer.tell_ask(asked.iteration, answers)
    else:
        optimizer.tell(answers)
        _choose_again(optimizer, record)


def _choose_again(optimizer: Any, record: Mapping[str, Any]) -> None:
    """Ask again what was chosen by an estimate."""
    chosen = record.get("next")
    if chosen is not None:
        own = optimizer.ask()
        points = np.array(chosen["points"], dtype=np.float64).reshape(own.points.shape)
        overlaps = np.array(chosen["overlaps"], dtype=np.float64).reshape(own.overlaps.shape)
        optimizer.ask_instead(Ask(own.iteration, points, overlaps))


def _ask_again(optimizer: Optimizer, number: int) -> Ask | None:
    if isinstance(optimizer, Scan):
        return next((asked for asked in optimizer.asks(SCAN_WINDOW) if asked.iteration == number), None)
    return optimizer.ask() if optimizer.finished is None else None
