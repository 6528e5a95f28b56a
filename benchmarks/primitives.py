"""What a call of EstimatorV2 and SamplerV2 costs beside the bare stream, on the same server in one run.

Both sides ask for the same thing: one parameter set of the same circuit, the same observable, the same shots.
The bare stream names circuit and observable by handles that were registered before; a primitive is called as
a person calls it, with circuit, observable and parameters. Calls alternate one by one, so that whatever else
the machine does weighs on both sides alike. The last lines are the figures.

    python benchmarks/primitives.py [--calls 300] [--device manila-5] [--noise]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from qiskit.circuit.library import efficient_su2
from qiskit.quantum_info import SparsePauliOp

from efaas.ansatze import canonical_program
from efaas.client import QpuConnection, SessionIdentity
from efaas.primitives import EstimatorV2, SamplerV2, Session, registry

LIMIT = 1.3
"""Most that a call of the estimator may take, in calls of the stream."""


def alternating(calls: int, *sides: Callable[[int], Any]) -> list[list[float]]:
    """Wall milliseconds of each call of each side, one call of each in turn."""
    times: list[list[float]] = [[] for _ in sides]
    for number in range(calls):
        # Whoever goes first in a round may find the server's caches warmer or the CPU colder.
        for place in np.roll(np.arange(len(sides)), number).tolist():
            start = time.perf_counter()
            sides[place](number)
            times[place].append((time.perf_counter() - start) * 1e3)
    return times


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--calls", type=int, default=300)
    arguments.add_argument("--device", default="manila-5")
    arguments.add_argument("--noise", action="store_true")
    arguments.add_argument("--shots", type=int, default=4096)
    given = arguments.parse_args()

    ansatz = efficient_su2(4, reps=2)
    hamiltonian = SparsePauliOp.from_sparse_list(
        [("ZZ", [place, place + 1], 1.0) for place in range(3)] + [("X", [place], 0.5) for place in range(4)],
        4,
    )
    measured = ansatz.measure_all(inplace=False)
    points = np.random.default_rng(0).uniform(-np.pi, np.pi, (given.calls, ansatz.num_parameters))

    with Session(given.device, seed=1, noise=given.noise) as session:
        estimator = EstimatorV2(mode=session, options={"default_shots": given.shots})
        sampler = SamplerV2(mode=session, options={"default_shots": given.shots})
        estimator.run([(ansatz, hamiltonian, points[0])]).result()
        sampler.run([(measured, points[0])]).result()

        entry = registry.read(session.session_id)
        identity = SessionIdentity("local/bare-stream", token=entry.token, seed=1)
        with QpuConnection(entry.endpoint, identity) as stream:
            values = stream.register_circuit(canonical_program(ansatz)).handle
            outcomes = stream.register_circuit(canonical_program(measured)).handle
            energy = stream.register_observable(
                [(text, float(value.real)) for text, value in hamiltonian.to_list()]
            )

            def bare(number: int) -> float:
                job = stream.submit(
                    values,
                    points[number],
                    given.shots,
                    evaluation=number,
                    observables=[energy],
                    readout_mitigation=True,
                )
                result = job.result()
                stream.acknowledge(result.job_id)
                return float(result.values[0, 0])

            def primitive(number: int) -> float:
                return float(estimator.run([(ansatz, hamiltonian, points[number])]).result()[0].data.evs)

            def bare_outcomes(number: int) -> Any:
                job = stream.submit(
                    outcomes, points[number], given.shots, evaluation=given.calls + number, per_shot=True
                )
                stream.acknowledge(job.result().job_id)

            def primitive_outcomes(number: int) -> Any:
                return sampler.run([(measured, points[number])]).result()[0].data.meas

            for warm_up in range(10):
                for side in (primitive, primitive_outcomes):
                    side(warm_up)
            estimates = alternating(given.calls, bare, primitive)
            samples = alternating(given.calls, bare_outcomes, primitive_outcomes)

    print(f"{given.calls} calls each, {given.device}, 4 qubits, {given.shots} shots a basis, wall ms")
    for name, (stream_ms, primitive_ms) in (("EstimatorV2", estimates), ("SamplerV2", samples)):
        one, other = statistics.median(stream_ms), statistics.median(primitive_ms)
        quarter = [float(np.percentile(side, 25)) for side in (stream_ms, primitive_ms)]
        print(
            f"{name}: stream {one:.3f} (lower quartile {quarter[0]:.3f}), primitive {other:.3f} "
            f"({quarter[1]:.3f}), ratio of medians {other / one:.3f}"
        )
    ratio = statistics.median(estimates[1]) / statistics.median(estimates[0])
    print(f"estimator over stream {ratio:.3f}, limit {LIMIT}: {'met' if ratio <= LIMIT else 'NOT MET'}")


if __name__ == "__main__":
    main()
