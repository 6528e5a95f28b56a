"""The stream to a QPU server: `QpuStream` for asyncio, `QpuConnection` for everyone else.

::

    identity = SessionIdentity("default/h2", seed=7)
    with QpuConnection("127.0.0.1:50051", identity) as qpu:
        circuit = qpu.register_circuit(openqasm3)
        energy = qpu.register_observable([("ZZ", 1.0), ("XI", 0.5)])
        job = qpu.submit(circuit.handle, [0.1, 0.2], 1024, evaluation=0, observables=[energy])
        print(job.result().values)

`efaas.client.testing.FakeQpu` answers like a `QpuConnection` without a server.
"""

from efaas.client.connection import QpuConnection, QpuJob
from efaas.client.exchange import Exchange, SessionIdentity, submit_message
from efaas.client.listener import JobListener, StreamJob
from efaas.client.results import CircuitInfo, DeviceInfo, Evaluation, JobResult, Timing
from efaas.client.stream import QpuStream
from efaas.client.trust import Trust

__all__ = [
    "CircuitInfo",
    "DeviceInfo",
    "Evaluation",
    "Exchange",
    "JobListener",
    "JobResult",
    "QpuConnection",
    "QpuJob",
    "QpuStream",
    "SessionIdentity",
    "StreamJob",
    "Timing",
    "Trust",
    "submit_message",
]
