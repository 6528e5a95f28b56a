"""The classical nodes: a classical step, or a starting container, has one to itself; the others wait.

Steps that run ahead of their results start only on a node that nobody else waits for. A step that runs is
never taken off its node for another one; one that is abandoned leaves at once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

Started = Callable[[float], None]


class Nodes:
    """Classical nodes, first come first served.

    Args:
        count: how many; None: as many as are wanted.
    """

    def __init__(self, count: int | None) -> None:
        self.free: float = math.inf if count is None else count
        """Nodes that nobody has."""
        self._real: deque[Started] = deque()
        self._ahead: deque[Started] = deque()

    def acquire(self, now_s: float, started: Started, *, ahead: bool = False) -> None:
        """Call `started` as soon as there is a node, which may be now."""
        if self.free > 0:
            self.free -= 1
            started(now_s)
        else:
            (self._ahead if ahead else self._real).append(started)

    def release(self, now_s: float) -> None:
        """Give a node to whoever is next."""
        waiting = self._real or self._ahead
        if waiting:
            waiting.popleft()(now_s)
        else:
            self.free += 1

    def forget(self, started: Started) -> None:
        """Nobody wants this any more; it has not started."""
        self._ahead.remove(started)
