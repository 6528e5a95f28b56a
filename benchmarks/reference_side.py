"""The rivals of `iteration.py`, run by an interpreter that has qiskit-ibm-runtime.

A process apart, because qiskit-ibm-runtime slows transpilation in the process that imports it, and the system
under test must not pay for that. Reads one JSON object a line from standard input and answers each with one.

- ``estimator``: ``EstimatorV2(mode=Session(backend))`` in local mode, as the tutorials write it: one call an
  iteration.
- ``sampler``: ``SamplerV2`` likewise, on the first measurement basis alone.
- ``loop``: circuits transpiled and an AerSimulator with the device's noise made once, then in each iteration
  parameters are assigned, all bases run by one ``AerSimulator.run``, and the energy is computed from counts.

Times are taken here, around the calls, so that the pipe to `iteration.py` costs the rivals nothing.
"""

from __future__ import annotations

import base64
import io
import json
import sys
import time
import warnings
from typing import Any

import numpy as np

FAKES = {
    "manila-5": "FakeManilaV2",
    "lagos-7": "FakeLagosV2",
    "perth-7": "FakePerth",
    "guadalupe-16": "FakeGuadalupeV2",
    "hanoi-27": "FakeHanoiV2",
    "kolkata-27": "FakeKolkataV2",
    "sherbrooke-127": "FakeSherbrooke",
    "torino-133": "FakeTorino",
}
"""The backends that the shipped snapshots were made from."""


class Rivals:
    """Both rivals on one device, circuit and observable."""

    def __init__(self, request: dict[str, Any]) -> None:
        from qiskit import QuantumCircuit, qpy, transpile
        from qiskit.quantum_info import SparsePauliOp
        from qiskit_aer import AerSimulator
        from qiskit_ibm_runtime import EstimatorV2, SamplerV2, Session, fake_provider

        self._shots: int = request["shots"]
        self._seed: int = request["seed"]
        circuit = qpy.load(io.BytesIO(base64.b64decode(request["qpy"])))[0]
        backend = getattr(fake_provider, FAKES[request["device"]])()
        operator = SparsePauliOp.from_list([(pauli, value) for pauli, value in request["terms"]])

        self._isa = transpile(circuit, backend=backend, seed_transpiler=1, optimization_level=2)
        self._observable = operator.apply_layout(self._isa.layout)
        measured = circuit.copy()
        measured.measure_all()
        self._measured = transpile(measured, backend=backend, seed_transpiler=1, optimization_level=2)
        self._session = Session(backend=backend)
        self._estimator = EstimatorV2(mode=self._session)
        self._sampler = SamplerV2(mode=self._session)
        for primitive in (self._estimator, self._sampler):
            primitive.options.default_shots = self._shots
            primitive.options.simulator.seed_simulator = self._seed

        self._groups = operator.group_commuting(qubit_wise=True)
        self._simulator = AerSimulator.from_backend(backend)
        circuits = []
        for group in self._groups:
            basis = QuantumCircuit(circuit.num_qubits)
            basis.compose(circuit, inplace=True)
            letters = np.array(list("IXYZ"))[_letters(group)]
            for qubit, letter in enumerate(letters):
                if letter == "Y":
                    basis.sdg(qubit)
                if letter in "XY":
                    basis.h(qubit)
            basis.measure_all()
            circuits.append(basis)
        self._bases = transpile(circuits, backend=backend, seed_transpiler=1, optimization_level=2)

    def estimator(self, parameters: list[float]) -> float:
        """One call of the Estimator; the energy."""
        result = self._estimator.run([(self._isa, self._observable, parameters)]).result()
        return float(result[0].data.evs)

    def sampler(self, parameters: list[float]) -> float:
        """One call of the Sampler; number of distinct outcomes."""
        result = self._sampler.run([(self._measured, parameters)]).result()
        return float(len(result[0].data.meas.get_counts()))

    def loop(self, parameters: list[float]) -> float:
        """One iteration of the loop on AerSimulator; the energy."""
        bound = [circuit.assign_parameters(parameters) for circuit in self._bases]
        result = self._simulator.run(bound, shots=self._shots, seed_simulator=self._seed).result()
        energy = 0.0
        for which, group in enumerate(self._groups):
            counts = result.get_counts(which)
            for pauli, coefficient in zip(group.paulis, group.coeffs, strict=True):
                mask = int(
                    "".join(
                        "1" if x or z else "0" for x, z in zip(pauli.x[::-1], pauli.z[::-1], strict=True)
                    ),
                    2,
                )
                signed = sum(
                    (-1) ** (int(bits, 2) & mask).bit_count() * count for bits, count in counts.items()
                )
                energy += float(coefficient.real) * signed / self._shots
        return energy


def _letters(group: Any) -> Any:
    """0 for I, 1 for X, 2 for Y, 3 for Z on each qubit, over all Paulis of a group."""
    x, z = group.paulis.x.any(axis=0), group.paulis.z.any(axis=0)
    return np.where(x & z, 2, np.where(x, 1, np.where(z, 3, 0)))


def main() -> None:
    warnings.simplefilter("ignore")
    rivals: Rivals | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "setup":
            rivals = Rivals(request)
            import qiskit
            import qiskit_aer
            import qiskit_ibm_runtime

            answer: dict[str, Any] = {
                "versions": {
                    "qiskit": qiskit.__version__,
                    "qiskit-aer": qiskit_aer.__version__,
                    "qiskit-ibm-runtime": qiskit_ibm_runtime.__version__,
                }
            }
        else:
            assert rivals is not None, "setup comes first"
            call = getattr(rivals, request["do"])
            start = time.perf_counter()
            value = call(request["parameters"])
            answer = {"seconds": time.perf_counter() - start, "value": value}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
