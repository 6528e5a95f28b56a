"""The worker process: it may die or hang, and the next call works again."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from efaas_qpu.engine.messages import Execute, Limits, WorkerFailed
from efaas_qpu.engine.process import EngineProcess

from efaas.devices import load_snapshot
from efaas.errors import CircuitError, ParameterError

pytestmark = pytest.mark.integration

BOMB = "OPENQASM 3.0; qubit q; rx(" + "+".join(["1"] * 60_000) + ") q;"
"""Within all limits of size, but its parser takes long for it."""


def endless(sets: int, parameters: int) -> Execute:
    """A job that keeps the worker for long."""
    return Execute("0-long", 1, "c", ("h",), np.zeros((sets, parameters)), 100_000)


def quick(parameters: int) -> Execute:
    return Execute("0-quick", 1, "c", ("h",), np.zeros((1, parameters)), 1000)


async def alive(process: EngineProcess, program: bytes) -> None:
    await process.prepare("c", program)
    assert await process.prepare_observable("h", (("ZZZ", 1.0), ("XXX", 0.5))) == 2


def run(scenario: Any) -> None:
    asyncio.run(asyncio.wait_for(scenario, 50))


def test_a_killed_worker_costs_one_call(ansatz: Any, as_qpy: Any) -> None:
    async def scenario() -> None:
        async with EngineProcess(load_snapshot("perth-7"), noisy=True) as process:
            await process.start()
            count = ansatz(3).num_parameters
            await alive(process, as_qpy(ansatz(3)))
            before = await process.execute(quick(count))
            job = asyncio.create_task(process.execute(endless(2000, count)))
            await asyncio.sleep(0.1)
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            with pytest.raises(WorkerFailed) as caught:
                await job
            assert caught.value.how == "died"
            assert caught.value.retry
            # The new worker is told the circuit and the observable again, by itself.
            after = await process.execute(quick(count))
            assert after.evaluations[0].values.tolist() == before.evaluations[0].values.tolist()
            assert process.starts == 2
            await process.close()
            assert process.pid is None

    run(scenario())


def test_a_hung_worker_is_ended_and_replaced(ansatz: Any, as_qpy: Any) -> None:
    async def scenario() -> None:
        async with EngineProcess(
            load_snapshot("perth-7"), noisy=True, limits=Limits(execute_s=1.0)
        ) as process:
            count = ansatz(3).num_parameters
            await alive(process, as_qpy(ansatz(3)))
            await process.execute(quick(count))
            pid = process.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            begin = time.monotonic()
            with pytest.raises(WorkerFailed) as caught:
                await process.execute(quick(count))
            assert caught.value.how == "hung"
            assert time.monotonic() - begin < 3
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
            await process.execute(quick(count))

    run(scenario())


def test_a_circuit_that_takes_too_long_to_read_is_refused(ansatz: Any, as_qpy: Any) -> None:
    async def scenario() -> None:
        async with EngineProcess(
            load_snapshot("perth-7"), noisy=True, limits=Limits(prepare_s=1.0)
        ) as process:
            await process.start()
            with pytest.raises(CircuitError, match=r"took longer than 1 s|nested too deeply"):
                await process.prepare("bomb", BOMB)
            await alive(process, as_qpy(ansatz(3)))
            await process.execute(quick(ansatz(3).num_parameters))

    run(scenario())


def test_errors_of_input_arrive_as_they_were_raised(ansatz: Any, as_qpy: Any) -> None:
    async def scenario() -> None:
        async with EngineProcess(load_snapshot("perth-7"), noisy=True) as process:
            with pytest.raises(CircuitError, match="the circuit has 8 qubits, the device has 7") as circuit:
                await process.prepare("big", as_qpy(ansatz(8)))
            assert circuit.value.place == "circuit"
            await alive(process, as_qpy(ansatz(3)))
            count = ansatz(3).num_parameters
            with pytest.raises(ParameterError) as parameters:
                await process.execute(Execute("0-n", 1, "c", ("h",), np.full((1, count), np.nan), 10))
            assert parameters.value.place == "submit.parameters[0][0]"
            with pytest.raises(CircuitError, match="register it again"):
                await process.execute(Execute("0-n", 1, "other", ("h",), np.zeros((1, count)), 10))
            assert process.starts == 1

    run(scenario())


def test_what_the_worker_dropped_is_prepared_again(ansatz: Any, as_qpy: Any) -> None:
    async def scenario() -> None:
        async with EngineProcess(
            load_snapshot("perth-7"), noisy=True, limits=Limits(cache_bytes=1)
        ) as process:
            program = as_qpy(ansatz(3))
            await alive(process, program)
            await process.prepare("other", as_qpy(ansatz(2)))
            await process.execute(quick(ansatz(3).num_parameters))
            assert process.starts == 1
            warm = await process.prepare("c", program)
            assert warm.prepare_s == 0

    run(scenario())


def test_a_cancelled_call_leaves_the_next_one_its_own_answer(ansatz: Any, as_qpy: Any) -> None:
    async def scenario() -> None:
        async with EngineProcess(load_snapshot("perth-7"), noisy=True) as process:
            count = ansatz(3).num_parameters
            await alive(process, as_qpy(ansatz(3)))
            wanted = await process.execute(quick(count))
            for sets in (100, 5000):
                job = asyncio.create_task(process.execute(endless(sets, count)))
                await asyncio.sleep(0.01)
                job.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await job
                found = await process.execute(quick(count))
                assert found.evaluations[0].values.tolist() == wanted.evaluations[0].values.tolist()

    run(scenario())


def test_the_true_device_outlives_the_worker(ansatz: Any, as_qpy: Any) -> None:
    async def scenario() -> None:
        snapshot = load_snapshot("perth-7")
        async with EngineProcess(snapshot, noisy=True) as process:
            count = ansatz(3).num_parameters
            await alive(process, as_qpy(ansatz(3)))
            known = await process.execute(quick(count))
            await process.set_true_device(snapshot, dict.fromkeys(snapshot.gates, 0.5))
            drifted = await process.execute(quick(count))
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            with pytest.raises(WorkerFailed):
                await process.execute(quick(count))
            again = await process.execute(quick(count))
            assert known.evaluations[0].values.tolist() != drifted.evaluations[0].values.tolist()
            assert again.evaluations[0].values.tolist() == drifted.evaluations[0].values.tolist()

    run(scenario())


def test_the_worker_ends_with_its_parent() -> None:
    parent = subprocess.run(
        [
            sys.executable,
            "-c",
            "import asyncio, os\n"
            "from efaas.devices import load_snapshot\n"
            "from efaas_qpu.engine.process import EngineProcess\n"
            "async def main():\n"
            "    process = EngineProcess(load_snapshot('manila-5'), noisy=True)\n"
            "    await process.start()\n"
            "    print(process.pid, flush=True)\n"
            "    os._exit(0)\n"
            "asyncio.run(main())\n",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    pid = int(parent.stdout)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as status:
                if status.read().rpartition(")")[2].split()[0] == "Z":
                    return
        except FileNotFoundError:
            return
        time.sleep(0.02)
    pytest.fail("the worker is still there")


def test_the_parent_imports_no_qiskit() -> None:
    code = (
        "import sys\n"
        "import efaas_qpu.engine.process, efaas_qpu.engine.observables, efaas_qpu.engine.messages\n"
        "raise SystemExit(any(name.partition('.')[0] in ('qiskit', 'qiskit_aer') for name in sys.modules))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
