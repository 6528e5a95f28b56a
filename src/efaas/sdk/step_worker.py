"""The process behind `efaas.sdk.workers`: runs one function again and again, each time in a fork of itself.

A fork costs about a millisecond and can be killed at any moment, so a step that nobody wants any more gives
its core back at once; a pool whose worker must finish first would make the next step wait. The price: what
a step remembers in module variables is gone when it ends. Not so what it imported: the step names those
modules with its value, and the process imports them too, so that only the first step waits for them.

Messages are a length (8 bytes, little-endian) and that many bytes. In: first the function, pickled; then
``R`` + number (8 bytes) + pickled argument, or ``D`` + number: drop that step. Out: number (8 bytes), 1 or 0
(it returned, or raised), CPU seconds (8 bytes), pickled value or error text; number 0 says that the function
was read. Standard output belongs to the
messages; what a step prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import select
import signal
import struct
import sys
from typing import Any, NoReturn

HEAD = struct.Struct("<Q")
ANSWER = struct.Struct("<Q?d")


def read_message(descriptor: int) -> bytes | None:
    """The next message; None at the end."""
    head = _exactly(descriptor, HEAD.size)
    return None if head is None else _exactly(descriptor, HEAD.unpack(head)[0])


def write_message(descriptor: int, data: bytes) -> None:
    """Write a message whole."""
    view = memoryview(HEAD.pack(len(data)) + data)
    while view:
        view = view[os.write(descriptor, view) :]


def _exactly(descriptor: int, size: int) -> bytes | None:
    parts = []
    while size:
        part = os.read(descriptor, min(size, 1 << 20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def load(data: bytes) -> Any:
    """A function that was written by `efaas.sdk.workers.dump`."""
    if data[:1] == b"d":
        import dill  # type: ignore[import-untyped]  # what Qiskit brings: pickles functions of the main script by their code

        return dill.loads(data[1:])
    return pickle.loads(data[1:])


def main() -> None:
    """Serve steps until standard input ends."""
    out = os.dup(1)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    first = read_message(0)
    if first is None:
        return
    try:
        function = load(first)
    except Exception as error:
        write_message(out, ANSWER.pack(0, False, 0.0) + repr(error).encode())
        return
    write_message(out, ANSWER.pack(0, True, 0.0))
    while (message := read_message(0)) is not None:
        if message[:1] == b"R":
            (number,) = HEAD.unpack(message[1:9])
            _run(function, number, message[9:], out)


def _run(function: Any, number: int, argument: bytes, out: int) -> None:
    """Run a step in a fork, and listen for its drop meanwhile."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        _child(function, argument, theirs)
    os.close(theirs)
    parts: list[bytes] = []
    dropped = False
    while True:
        ready, _, _ = select.select([ours, 0], [], [])
        if ours in ready:
            part = os.read(ours, 1 << 20)
            if not part:
                break
            parts.append(part)
        elif not dropped:
            message = read_message(0)
            if message is None or message[1:9] == HEAD.pack(number):
                dropped = True
                os.kill(child, signal.SIGKILL)
            if message is None:
                break
    os.close(ours)
    _, _, used = os.wait4(child, 0)
    modules, _, value = b"".join(parts).partition(b"\n")
    good = value[:1] == b"1" and not dropped
    text = value[1:] or b"the step was dropped, or its process died"
    write_message(out, ANSWER.pack(number, good, used.ru_utime + used.ru_stime) + text)
    if value and not dropped:
        _import_too(modules.decode().split())


def _import_too(names: list[str]) -> None:
    """Import what a step had to; one that cannot be imported here is the next step's business again."""
    for name in names:
        with contextlib.suppress(BaseException):
            importlib.import_module(name)


def _child(function: Any, argument: bytes, pipe: int) -> NoReturn:
    before = set(sys.modules)
    try:
        value = b"1" + pickle.dumps(function(pickle.loads(argument)), protocol=5)
    except BaseException as error:
        value = b"0" + repr(error).encode()
    modules = " ".join(name for name in sys.modules if name not in before)
    view = memoryview(modules.encode() + b"\n" + value)
    while view:
        view = view[os.write(pipe, view) :]
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
