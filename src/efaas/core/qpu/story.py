"""What happened to whom: a bounded log, and the error that carries it.

A machine that is told something impossible must not guess. It raises `ProtocolError`, changes nothing, and
the error brings along the last things that happened to the job or session at fault, so that a failure in
the field arrives with its history.
"""

from __future__ import annotations

from collections import deque

from efaas.errors import EfaasError

STORY_ENTRIES = 512
"""Entries of the log that a machine keeps, over all jobs."""

_ERROR_ENTRIES = 20


class ProtocolError(EfaasError):
    """An event that cannot be: a bug in the host, or a host that answers twice.

    Args:
        message: what was impossible, in one sentence.
        story: what happened to the job or session before, oldest first, as (device seconds, text).
    """

    code = "Protocol"

    def __init__(self, message: str, *, place: str = "", story: tuple[tuple[float, str], ...] = ()) -> None:
        super().__init__(message, place=place)
        self.story = story

    def __str__(self) -> str:
        lines = [super().__str__(), *(f"  {now_s:.6f} s: {text}" for now_s, text in self.story)]
        return "\n".join(lines)


class Story:
    """The last `STORY_ENTRIES` things that happened, by whom they happened to."""

    def __init__(self) -> None:
        # (device seconds, job or session, text, its values), oldest first; bounded, so old stories fade.
        self._entries: deque[tuple[float, str, str, tuple[object, ...]]] = deque(maxlen=STORY_ENTRIES)

    def tell(self, now_s: float, whom: str, text: str, *values: object) -> None:
        """Add an entry; values go into the text's braces when it is read."""
        self._entries.append((now_s, whom, text, values))

    def of(self, whom: str) -> tuple[tuple[float, str], ...]:
        """The last entries about a job or session, oldest first."""
        found = [entry for entry in self._entries if entry[1] == whom][-_ERROR_ENTRIES:]
        return tuple((now_s, text.format(*values) if values else text) for now_s, _, text, values in found)
