"""Energies of a drifting device at given calibration ages, for benchmarks, over a pipe.

``python -m efaas_qpu.energies`` reads one JSON object a line from stdin and answers each with one line on
stdout; it ends with its input. What comes out is what a QPU server would measure: the same engine, the same
drift, the same shots by identity. There is no queue and no clock here; who asks says how old the
calibration is.

Requests, by their ``op``:

- ``circuit``: `handle`, `program` (base64 of OpenQASM 3 or QPY), `terms` ([[Pauli string, coefficient], …]).
  Answered with the number of qubits and of measurement bases.
- ``evaluate``: `circuit`, `snapshot`, `seed` (of the drift; null: a frozen device), `age_s`, `points`,
  `shots`, `session_seed`, `job`, and optionally `centre` (a point whose energy is wanted without shot
  noise), `running` (shots after which a running estimate is wanted) and `ideal` (no noise at all). Answered
  with `values`, `std_errors`, `energy`, `running_values` and `running_errors`.
- ``exact``: as ``evaluate`` without shots: `energies` of the points; with `groups` (a list of lists of terms)
  the expectation of each group instead, shape (points, groups).

A device of seed s is `SETTLED_S` old when it is calibrated in full, so that its coherence has forgotten the
snapshot; circuits are laid out and readout is mitigated by what that calibration found; `age_s` later the job
runs on the true device. So energies are a function of (seed, age) alone and can be kept.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections import OrderedDict
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("QISKIT_PARALLEL", "FALSE")

SETTLED_S = 30 * 86_400.0
"""Device time of the calibration from which ages count."""
_DEVICES = 16
"""Devices that are kept, each with an engine at the age asked for last."""


class Energies:
    """Answers requests; keeps the engines used last."""

    def __init__(self) -> None:
        self._circuits: dict[str, tuple[str | bytes, tuple[tuple[str, float], ...]]] = {}
        self._devices: OrderedDict[tuple[Any, ...], list[Any]] = OrderedDict()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request's answer.

        Raises:
            EfaasError: a circuit or parameters that the engine refuses.
            KeyError: something is missing, or the circuit is not known.
        """
        match request["op"]:
            case "circuit":
                return self._circuit(request)
            case "evaluate":
                return self._evaluate(request)
            case "exact":
                return self._exact(request)
        raise KeyError(f"there is no operation {request['op']!r}")

    def _circuit(self, request: dict[str, Any]) -> dict[str, Any]:
        from efaas_qpu.engine.observables import check_terms, measurement_bases

        given = base64.b64decode(request["program"])
        program: str | bytes = given if request.get("binary", True) else given.decode()
        terms = tuple((str(pauli), float(value)) for pauli, value in request["terms"])
        self._circuits[request["handle"]] = (program, terms)
        return {"qubits": len(terms[0][0]), "bases": len(measurement_bases([check_terms(terms)]))}

    def _engine(self, request: dict[str, Any]) -> Any:
        from efaas.devices import load_snapshot
        from efaas.devices.drifting import DriftingDevice
        from efaas_qpu.engine.engine import Engine
        from efaas_qpu.engine.messages import Configuration

        handle, seed = request["circuit"], request.get("seed")
        ideal, age_s = bool(request.get("ideal")), float(request.get("age_s", 0.0))
        key = (request["snapshot"], None if ideal else seed, ideal)
        if key in self._devices:
            self._devices.move_to_end(key)
        else:
            snapshot = load_snapshot(request["snapshot"])
            if seed is None or ideal:
                device, engine = None, Engine(Configuration(snapshot, snapshot, not ideal, "Auto"))
            else:
                device = DriftingDevice.modelled(snapshot, int(seed))
                device.calibrate(SETTLED_S)
                engine = Engine(Configuration(device.known, snapshot, True, "Auto"))
            self._devices[key] = [device, engine, None]
            if len(self._devices) > _DEVICES:
                self._devices.popitem(last=False)
        device, engine, told_s = self._devices[key]
        if device is not None and told_s != age_s:
            true = device.true_state(SETTLED_S + age_s)
            engine.set_true_device(true.snapshot, true.over_rotations)
            self._devices[key][2] = age_s
        program, terms = self._circuits[handle]
        engine.prepare(handle, program)
        engine.prepare_observable(handle, terms)
        return engine

    def _evaluate(self, request: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        from efaas_qpu.engine.messages import Execute

        engine, handle = self._engine(request), request["circuit"]
        running = request.get("running")
        executed = engine.execute(
            Execute(
                request["job"],
                int(request["session_seed"]),
                handle,
                (handle,),
                np.array(request["points"], dtype=np.float64),
                int(request["shots"]),
                readout_mitigation=True,
                shot_ranges=() if running is None else (int(running),),
            )
        )
        answer: dict[str, Any] = _numbers("values", "std_errors", executed.evaluations)
        if running is not None:
            answer |= _numbers("running_values", "running_errors", executed.partial[0].evaluations)
        if request.get("centre") is not None:
            answer["energy"] = self._expectation(engine, handle, [request["centre"]])[0]
        return answer

    def _exact(self, request: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        engine, handle = self._engine(request), request["circuit"]
        if "groups" not in request:
            return {"energies": self._expectation(engine, handle, request["points"])}
        names = []
        for number, terms in enumerate(request["groups"]):
            names.append(f"{handle}/{number}")
            engine.prepare_observable(names[-1], tuple((str(p), float(c)) for p, c in terms))
        points = np.array(request["points"], dtype=np.float64)
        found = engine.expectation(handle, tuple(names), points, readout_mitigation=True)
        return {"energies": found.tolist()}

    @staticmethod
    def _expectation(engine: Any, handle: str, points: Any) -> list[float]:
        import numpy as np

        found = engine.expectation(
            handle, (handle,), np.array(points, dtype=np.float64), readout_mitigation=True
        )
        return [float(value) for value in found[:, 0]]


def _numbers(values: str, errors: str, evaluations: Any) -> dict[str, list[float]]:
    return {
        values: [float(one.values[0]) for one in evaluations],
        errors: [float(one.std_errors[0]) for one in evaluations],
    }


def main() -> int:
    """Serve stdin until it ends."""
    energies = Energies()
    for line in sys.stdin:
        try:
            answer = energies.answer(json.loads(line))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
