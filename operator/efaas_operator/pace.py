"""How often statuses are written: one session's seldom, all together no faster than a rate.

A moment of its own is set aside for each write that can wait, so that many who want to write get their turns
in order and nobody has to ask again and again. Writes that something depends on do not wait, but they take
their share of the rate, so the others are put off.
"""

from __future__ import annotations


class WritePace:
    """Moments for writes.

    Args:
        per_second: writes in all.
        interval_s: between two writes of one key.
    """

    def __init__(self, per_second: float, interval_s: float) -> None:
        self._gap_s = 1.0 / per_second
        self._interval_s = interval_s
        self._next_s = 0.0
        self._last: dict[str, float] = {}
        self._reserved: dict[str, float] = {}

    def wait_s(self, key: str, now_s: float, interval_s: float = 0.0) -> float:
        """How long this key has to wait with its write; 0: it may write now.

        Args:
            key: of the session.
            now_s: monotonic seconds.
            interval_s: since its last write, if that is more than the usual one.
        """
        last_s = self._last.get(key)
        if last_s is not None:
            left_s = last_s + max(self._interval_s, interval_s) - now_s
            if left_s > 0:
                return left_s
        turn_s = self._reserved.get(key)
        if turn_s is None:
            turn_s = self._reserved[key] = self._take_turn(now_s)
        return max(0.0, turn_s - now_s)

    def written(self, key: str, now_s: float) -> None:
        """The key has written, in its turn or without."""
        if self._reserved.pop(key, None) is None:
            self._take_turn(now_s)
        self._last[key] = now_s

    def forget(self, key: str) -> None:
        """The key is gone."""
        self._last.pop(key, None)
        self._reserved.pop(key, None)

    def _take_turn(self, now_s: float) -> float:
        turn_s = max(self._next_s, now_s)
        self._next_s = turn_s + self._gap_s
        return turn_s
