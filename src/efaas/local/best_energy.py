"""The best energy that an ansatz can have on a noisy device: what a session's energy should be held against.

Under noise the exact ground state is out of reach, so distance to it says little about the optimizer.
`efaas-qpu best-energy` minimises the noisy expectation value itself, without shot noise. It runs beside the
run at low priority, one session at a time, with a time limit; a session without it loses nothing but a line
in the report.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from efaas.local.folder import RunFolder, read_json, write_json
from efaas.local.processes import Programs, end, last_line, start
from efaas.local.progress import SessionRecord, State, number

MOST_QUBITS = 8
"""Beyond this a density matrix takes too long to be minimised over."""

TIME_LIMIT_S = 90.0
_OUTPUT_LIMIT_BYTES = 4 * 1024 * 1024


class BestEnergies:
    """Finds the noisy optimum of sessions, one after the other.

    Args:
        folder: the run folder.
        programs: what to start.
        time_limit_s: wall seconds for one session.
    """

    def __init__(self, folder: RunFolder, programs: Programs, time_limit_s: float = TIME_LIMIT_S) -> None:
        self._folder = folder
        self._programs = programs
        self._time_limit_s = time_limit_s
        self._one_at_a_time = asyncio.Lock()

    async def find(self, record: SessionRecord) -> None:
        """Find it for a completed session, or say in its record why it is not known."""
        problem = self._folder.session(record.key) / "problem.json"
        if record.state is not State.COMPLETED or not record.noisy or not problem.is_file():
            return
        if record.qubits > MOST_QUBITS:
            record.noisy_best = {"reason": f"computed up to {MOST_QUBITS} qubits only"}
            return
        kept = self._folder.session(record.key) / "noisy-best.json"
        record.noisy_best = read_json(kept)
        if record.noisy_best is None:
            record.activity = "finding the best energy under noise"
            async with self._one_at_a_time:
                record.noisy_best = await self._compute(record)
            record.activity = ""
            if "energy" in record.noisy_best:
                write_json(kept, record.noisy_best)

    async def _compute(self, record: SessionRecord) -> dict[str, Any]:
        log = self._folder.log(f"best-energy-{record.key}")
        device = self._folder.device(record.device) / "device.yaml"
        problem = self._folder.session(record.key) / "problem.json"
        command = (*self._programs.best_energy, "--device", str(device), "--problem", str(problem))
        process = await start(command, log, {"OMP_NUM_THREADS": "1"}, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        try:
            async with asyncio.timeout(self._time_limit_s):
                output = await process.stdout.read(_OUTPUT_LIMIT_BYTES)
                code = await process.wait()
        except TimeoutError:
            return {"reason": f"not found within {self._time_limit_s:g} s"}
        finally:
            await end(process, 0.5)
        try:
            answer = json.loads(output)
        except ValueError:
            answer = None
        if code != 0 or not isinstance(answer, dict) or number(answer.get("energy")) is None:
            return {"reason": last_line(log) or f"its computation ended with code {code}"}
        return {name: answer.get(name) for name in ("energy", "parameters", "evaluations", "seconds")}
