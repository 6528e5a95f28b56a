"""Processes in which classical steps run ahead of the loop; a step that is not wanted any more is killed.

`efaas.sdk.step_worker` is the other end. A worker starts in the background when it is made (an interpreter
and whatever the function's module imports); until it is up, its steps wait.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from efaas.errors import InputError, JobFailed
from efaas.sdk import step_worker
from efaas.sdk.step_worker import ANSWER, HEAD, read_message, write_message

if TYPE_CHECKING:
    _StepFuture = concurrent.futures.Future[tuple[Any, float]]
else:
    _StepFuture = concurrent.futures.Future


class StepEnded(JobFailed):
    """A step that ran ahead raised, was dropped, or its process died."""

    cpu_s = 0.0
    """CPU seconds that it had used."""


def spare_cpus() -> int:
    """CPUs beside the one that the loop and the QPU's client need; 1 at least."""
    return max(1, len(os.sched_getaffinity(0)) - 1) if hasattr(os, "sched_getaffinity") else 1


def dump(function: Callable[[Any], Any]) -> bytes:
    """A function as bytes: by its name where another process can import it, else by its code.

    Raises:
        InputError: it cannot be written.
    """
    try:
        if getattr(function, "__module__", "") != "__main__":
            return b"p" + pickle.dumps(function, protocol=5)
    except (pickle.PicklingError, AttributeError, TypeError):
        pass
    try:
        import dill  # type: ignore[import-untyped]

        return b"d" + bytes(dill.dumps(function, recurse=True))
    except Exception as error:
        raise InputError(
            f"cannot be sent to another process ({error}); make it a function that uses picklable things",
            place="prepare",
        ) from None


class StepWorkers:
    """Runs one function in several processes.

    Args:
        function: of one argument; argument and value must be picklable.
        count: steps at once.
    """

    def __init__(self, function: Callable[[Any], Any], count: int) -> None:
        if count < 1:
            raise InputError(f"is {count}; at least 1 is needed", place="workers")
        self.count = count
        written = dump(function)
        self._workers = [_Worker(written) for _ in range(count)]
        self._free = list(self._workers)
        self._busy: dict[_StepFuture, _Worker] = {}
        self._lock = threading.Lock()

    @property
    def is_ready(self) -> bool:
        """Whether all workers have started and read the function.

        Raises:
            InputError: the function cannot be read there.
        """
        fault = next((worker.fault for worker in self._workers if worker.fault), "")
        if fault:
            raise InputError(
                f"cannot be loaded by another process ({fault}); put it into a module that can be imported",
                place="prepare",
            )
        return all(worker.is_ready for worker in self._workers)

    def start(self, what: Any) -> _StepFuture:
        """Run the function; gives its value and its CPU seconds.

        Raises:
            RuntimeError: no worker is free.
        """
        with self._lock:
            if not self._free:
                raise RuntimeError("no worker is free")
            worker = self._free.pop(0)
        try:
            argument = pickle.dumps(what, protocol=5)
        except Exception as error:
            with self._lock:
                self._free.append(worker)
            failed = _StepFuture()
            failed.set_exception(StepEnded(f"the step's argument cannot be pickled: {error}"))
            return failed
        future = _StepFuture()
        future.set_running_or_notify_cancel()
        with self._lock:
            self._busy[future] = worker
        worker.run(argument, lambda good, cpu_s, data: self._ended(future, good, cpu_s, data))
        return future

    def abandon(self, step: _StepFuture) -> None:
        """Kill a step; its future fails within a moment, and tells what it had used."""
        with self._lock:
            worker = self._busy.get(step)
        if worker is not None:
            worker.drop()

    def _ended(self, future: _StepFuture, good: bool, cpu_s: float, data: bytes) -> None:
        with self._lock:
            worker = self._busy.pop(future)
            self._free.append(worker)
        error: Exception | None = None
        if good:
            try:
                value = pickle.loads(data)
            except Exception as fault:
                error = StepEnded(f"the step's value cannot be read: {fault!r}")
        else:
            error = StepEnded(data.decode(errors="replace")[:500])
            error.cpu_s = cpu_s
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result((value, cpu_s))

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers:
            worker.close()


class _Worker:
    """One process."""

    def __init__(self, function: bytes) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", step_worker.__file__],  # by its path: the package would import far more
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self.is_ready, self.fault = False, ""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._number = 0
        self._lock = threading.Lock()
        self._ended: Callable[[bool, float, bytes], None] | None = None
        self._dead = False
        self._write(function)
        threading.Thread(target=self._listen, name="step-worker", daemon=True).start()

    def run(self, argument: bytes, ended: Callable[[bool, float, bytes], None]) -> None:
        with self._lock:
            self._number += 1
            self._ended = ended
            dead = self._dead
        if not dead:
            dead = not self._write(b"R" + HEAD.pack(self._number) + argument)
        if dead:
            self._end(False, 0.0, b"the worker process has ended")

    def drop(self) -> None:
        self._write(b"D" + HEAD.pack(self._number))

    def _write(self, message: bytes) -> bool:
        try:
            write_message(self._to, message)
        except OSError:
            return False
        return True

    def _end(self, good: bool, cpu_s: float, data: bytes) -> None:
        with self._lock:
            ended, self._ended = self._ended, None
        if ended is not None:
            ended(good, cpu_s, data)

    def _listen(self) -> None:
        while (message := read_message(self._from)) is not None:
            number, good, cpu_s = ANSWER.unpack(message[: ANSWER.size])
            if number == 0:
                self.is_ready = good
                self.fault = "" if good else message[ANSWER.size :].decode(errors="replace")[:300]
            elif number == self._number:
                self._end(good, cpu_s, message[ANSWER.size :])
        with self._lock:
            self._dead = True
        self._end(False, 0.0, b"the worker process has ended")

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # the step that it runs, too
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
