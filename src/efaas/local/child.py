"""``python -m efaas.local.child MODULE …`` is ``python -m MODULE …`` that ends with its supervisor.

A runner whose supervisor was killed with ``kill -9`` would go on using a QPU that nobody watches. On Linux
the kernel is asked to end it then (parent-death signal); elsewhere a thread looks every half second who its
parent is. This is done here, inside the child, because code between fork and exec is not safe in a parent
that has threads.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys
import threading
import time

PARENT_VARIABLE = "EFAAS_PARENT"
"""Environment variable with the process id of the supervisor."""

_PR_SET_PDEATHSIG = 1
_LOOK_EVERY_S = 0.5


def end_with_parent(parent: int) -> None:
    """Have this process ended when its parent, whose id is given, has ended."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(parent,), name="parent-watch", daemon=True).start()
    if os.getppid() != parent:  # it ended before it could be watched
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
    os._exit(1)


def main() -> None:
    """Tie this process to its parent and become the module that was asked for."""
    parent = os.environ.pop(PARENT_VARIABLE, "")
    if parent.isdigit():
        end_with_parent(int(parent))
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
