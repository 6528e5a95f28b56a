"""The run as lines, for logs and pipes: changes of state, and now and then how far each session is."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from efaas.local import words
from efaas.local.progress import DeviceRecord, Evaluation, RunRecord, SessionRecord, State, percentile

PROGRESS_INTERVAL_S = 5.0


class PlainView:
    """A `Listener` that writes lines.

    Args:
        record: the run.
        stream: where lines go.
        clock: wall seconds from any origin.
    """

    def __init__(
        self, record: RunRecord, stream: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._record = record
        self._stream = stream
        self._clock = clock
        self._started = self._told_at = clock()
        self._told: dict[str, tuple[object, ...]] = {}

    def __enter__(self) -> PlainView:
        """Nothing to prepare."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to clear away."""

    def session_changed(self, record: SessionRecord) -> None:
        """One line, unless the change is one between two iterations."""
        between = record.state in {State.RUNNING, State.QUEUED}
        told = ("going",) if between and record.history else (record.state, record.reason)
        if self._told.get(record.key) == told:
            return
        self._told[record.key] = told
        where = f" on {record.device}" if record.device and record.state is not State.PENDING else ""
        self._line(record.shown, f"{record.state.value}{where}", record.reason)

    def device_changed(self, record: DeviceRecord) -> None:
        """One line."""
        self._line(f"device {record.name}", record.condition, record.reason)

    def evaluated(self, record: SessionRecord, evaluation: Evaluation) -> None:  # noqa: ARG002
        """The first evaluation, and from then on one line every few seconds for all sessions."""
        if len(record.history) == 1:
            self._told[record.key] = ("going",)
            self._progress(record)
        self.tick()

    def note(self, text: str) -> None:
        """One line."""
        self._line("run", text)

    def tick(self) -> None:
        """Tell how far each session is, if it is time to."""
        now = self._clock()
        if now - self._told_at < PROGRESS_INTERVAL_S:
            return
        self._told_at = now
        for record in self._record.sessions.values():
            if record.history and not record.state.ended:
                self._progress(record)

    def _progress(self, record: SessionRecord) -> None:
        best = f"best {words.energy(record.best)}"
        ttns = f"TTNS p50 {words.duration(percentile(record.recent_ttns_s, 50))}"
        energy = words.energy_with_error(record.energy, record.std_error)
        self._line(record.shown, f"iteration {record.iterations}, energy {energy}, {best}, {ttns}")

    def _line(self, subject: str, text: str, reason: str = "") -> None:
        why = f" ({reason})" if reason else ""
        print(
            f"{self._clock() - self._started:7.1f} s  {subject}: {text}{why}", file=self._stream, flush=True
        )
