"""The worker process: an engine behind a socket.

Started as ``python -m efaas_qpu.engine.worker FD``; FD is one end of a socket pair. A message either way is
an 8-byte little-endian length and a pickle (both ends are this package in the same installation; nothing from
outside reaches the unpickler as a pickle). Requests are ``(number, name, arguments)``, answers ``(number,
True, result)`` or ``(number, False, error)`` with an error as (kind, message, place). One request is served
at a time.

The process ends with its parent: at the end of the socket, or, while Aer computes, by the signal that Linux
sends when the parent is gone.
"""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import resource
import signal
import socket
import struct
import sys
from typing import Any

# Before numpy or Aer start their threads: a QPU is one process of many on its machine, and for small circuits
# one thread is fastest.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("QISKIT_PARALLEL", "FALSE")

HEADER = struct.Struct("<Q")
_PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> int:
    """Serve requests until the parent closes the socket.

    Args:
        argv: file descriptor of the socket, process id of the parent.
    """
    _end_with(int(argv[1]))
    # Ctrl-C at a terminal reaches the whole group; the parent decides when the worker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=int(argv[0])) as connection:
        serve(connection)
    return 0


def serve(connection: socket.socket) -> None:
    """Read the configuration, answer that the engine is ready, then answer requests in order."""
    from efaas.errors import EfaasError, ParameterError
    from efaas_qpu.engine.engine import Engine, UnknownHandle

    number, _, (configuration,) = _receive(connection) or (0, "", (None,))
    if configuration is None:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (configuration.limits.process_bytes, hard))
    engine = Engine(configuration)
    _warm_up(engine)
    gc.collect()
    # What is there now stays for ever: the collector need not walk through all of Qiskit in the middle of a
    # job.
    gc.freeze()
    _send(connection, (number, True, engine.ready))
    while (request := _receive(connection)) is not None:
        number, name, arguments = request
        try:
            answer = (number, True, getattr(engine, name)(*arguments))
        except UnknownHandle as error:
            answer = (number, False, ("unknown", error.message, error.place))
        except ParameterError as error:
            answer = (number, False, ("parameters", error.message, error.place))
        except EfaasError as error:
            answer = (number, False, ("circuit", error.message, error.place))
        except MemoryError:
            answer = (number, False, ("circuit", "simulating it takes more memory than the QPU may use", ""))
        except Exception as error:
            text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            kind, text = (
                ("circuit", f"it cannot be prepared: {text}") if name == "prepare" else ("internal", text)
            )
            answer = (number, False, (kind, text, ""))
        _send(connection, answer)


def _warm_up(engine: Any) -> None:
    """Load what the first circuit would have to wait for: transpiler passes, parsers."""
    import io

    from qiskit import QuantumCircuit, qpy
    from qiskit.circuit import Parameter

    circuit = QuantumCircuit(2)
    angle = Parameter("a")
    circuit.ry(angle, 0)
    circuit.cx(0, 1)
    buffer = io.BytesIO()
    qpy.dump(circuit, buffer)
    try:
        engine.prepare("", buffer.getvalue())
    finally:
        engine.forget("")


def _end_with(parent: int) -> None:
    try:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:
        os._exit(0)


def _receive(connection: socket.socket) -> Any:
    header = _receive_exactly(connection, HEADER.size)
    if header is None:
        return None
    data = _receive_exactly(connection, HEADER.unpack(header)[0])
    return None if data is None else pickle.loads(data)


def _receive_exactly(connection: socket.socket, size: int) -> bytes | None:
    parts: list[bytes] = []
    while size:
        part = connection.recv(min(size, 1 << 20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _send(connection: socket.socket, message: Any) -> None:
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    connection.sendall(HEADER.pack(len(data)) + data)


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except (BrokenPipeError, ConnectionResetError):
        raise SystemExit(0) from None
