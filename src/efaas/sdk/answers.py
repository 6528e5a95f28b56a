"""Answers to a program's submits: from its journal if it asked before, else from the QPU by way of it.

Every submit has a number, from 0 in the order of the program. Its result goes into the journal, with digests
of what was asked, before the program sees it; one thread writes them down in the order in which they come.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from efaas.errors import InputError
from efaas.optimizers.base import Tell
from efaas.runner.foresight import Estimate
from efaas.runner.journalled import result_from_record, result_record
from efaas.sdk.future import QuantumFuture

if TYPE_CHECKING:
    from efaas.client import JobResult
    from efaas.journal import Journal
    from efaas.runner.jobs import JobFuture

PROGRAM_FORMAT = 1
"""Version of a program's journal."""


class Answers:
    """See the module's text; usable from several threads.

    Args:
        journal: open for writing.
        session: ``namespace/name``.
        seed: of the session's shots.
        elapsed_s: wall seconds for which the session was alive.
        acknowledge: told the id of each job whose result is on disk.
        take: given each record, new or read back.
        fault: what a failed job's error is to be instead, if the session has ended.

    Attributes:
        alive_s: wall seconds for which the session was alive when its journal was last written.

    Raises:
        InputError: the journal was begun by another session.
    """

    def __init__(
        self,
        journal: Journal,
        session: str,
        seed: int,
        elapsed_s: Callable[[], float],
        acknowledge: Callable[[str], None],
        take: Callable[[Mapping[str, Any]], None],
        fault: Callable[[], Exception | None],
    ) -> None:
        self._journal = journal
        self._elapsed_s, self._acknowledge, self._take, self._fault = elapsed_s, acknowledge, take, fault
        self._records, self.alive_s = self._read({"session": session, "seed": seed})
        self._lock = threading.RLock()
        self._open: dict[JobFuture, tuple[QuantumFuture, dict[str, Any]]] = {}
        self._done: queue.SimpleQueue[JobFuture | None] = queue.SimpleQueue()
        self._settler = threading.Thread(target=self._settle_all, name="session-settler", daemon=True)
        self._settler.start()

    def _read(self, identity: Mapping[str, Any]) -> tuple[dict[int, dict[str, Any]], float]:
        """Records of submits by number, and the wall seconds that the session was alive before."""
        header = {"kind": "program", "format": PROGRAM_FORMAT, **identity}
        records = list(self._journal.records())
        if not records:
            self._journal.append(header, durable=False)
        elif records[0] != header:
            raise InputError(
                "was begun by another session; put back the manifest that it was begun with, or start anew",
                place="journal",
            )
        submits = {record["number"]: record for record in records[1:] if record["kind"] == "submit"}
        return submits, max((record["elapsed_s"] for record in records[1:]), default=0.0)

    # --- from the journal ---------------------------------------------------------------------------

    def record(self, number: int) -> dict[str, Any] | None:
        """What the journal says of a submit."""
        return self._records.get(number)

    def is_where_it_stopped(self, number: int) -> bool:
        """Whether this submit is the first that is not answered from the journal."""
        return number == 0 or number - 1 in self._records

    def replayed(self, record: Mapping[str, Any]) -> QuantumFuture:
        """The future of a submit that the journal answers; it has its result."""
        job = record["jobs"][0]
        future = QuantumFuture(record["number"], job["id"])
        if "stepped_on" in record:
            future.stepped_on = Estimate.from_record(record["stepped_on"])
        self._take(record)
        future.set_result(result_from_record(job))
        return future

    # --- from the QPU -------------------------------------------------------------------------------

    def expect(self, job: JobFuture, future: QuantumFuture, about: dict[str, Any]) -> None:
        """A job is on its way.

        Args:
            job: gives the result.
            future: the program's; has it when it is on disk.
            about: what the journal says beside the result: ``number``, ``asked``, ``cpu_s``, ``step``.
        """
        with self._lock:
            self._open[job] = (future, about)
        job.add_done_callback(lambda ended: self._done.put(ended))  # type: ignore[arg-type]

    def step_on(self, future: QuantumFuture, estimate: Estimate) -> None:
        """The next step was taken on this estimate; it stands if the result is close enough."""
        with self._lock:
            if any(future is open_future for open_future, _ in self._open.values()):
                future.stepped_on = estimate

    def pending(self) -> list[JobFuture]:
        """Jobs without a result on disk."""
        with self._lock:
            return list(self._open)

    def append(self, kind: str, about: Mapping[str, Any]) -> None:
        """Write something else down; returns when it is on disk."""
        self._journal.append({"kind": kind, "elapsed_s": self._elapsed_s(), **about})

    def close(self) -> None:
        """Write down what has come; to be called when no job can end any more."""
        self._done.put(None)
        self._settler.join(timeout=2.0)

    def _settle_all(self) -> None:
        while (job := self._done.get()) is not None:
            with self._lock:
                future, about = self._open.pop(job)
            try:
                result = job.result()
                if future.stepped_on is not None and not future.stepped_on.accepts(_told(result)):
                    future.stepped_on = None
                stepped_on = future.stepped_on
                record = {
                    "kind": "submit",
                    **about,
                    **({"stepped_on": stepped_on.record()} if stepped_on is not None else {}),
                    "elapsed_s": self._elapsed_s(),
                    "jobs": [result_record(result, about["number"])],
                }
                self._journal.append(record)
            except BaseException as error:
                future.set_exception(self._fault() or error)
                continue
            self._acknowledge(result.job_id)
            self._take(record)
            future.set_result(result)


def _told(result: JobResult) -> Tell:
    return Tell(result.values.ravel(), result.std_errors.ravel())
