"""A runner that is light enough for hundreds of them on two cores: what images of users' programs may hold.

It speaks the contracts of a runner pod and nothing more: the environment of `efaas.runner.environment`, the
session's document, the journal at the gateway under its lease epoch, jobs on the QPU's stream, the
termination message, SIGTERM, and the exit codes. It has no optimizer and imports no Qiskit: evaluation n
asks for two angles that follow from n, so two runs of a session ask for the same jobs, and a job that was
charged before it was journalled is not charged again.

    python light_runner.py EVALUATIONS [THINK_S [EXIT_CODE]]
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import yaml

from efaas.client import QpuConnection, SessionIdentity
from efaas.errors import EfaasError, InputError, JobFailed, QpuUnavailable
from efaas.journal.opening import open_journal
from efaas.runner.environment import RunnerEnvironment

CIRCUIT = """OPENQASM 3.0;
include "stdgates.inc";
input float a;
input float b;
qubit[2] q;
ry(a) q[0];
ry(b) q[1];
cx q[0], q[1];
"""
OBSERVABLE = [("ZZ", 0.5), ("XI", 0.25)]
RESUMABLE = 75


def say(words: str) -> None:
    """A line of the log."""
    sys.stderr.write(words + "\n")
    sys.stderr.flush()


def run(evaluations: int, think_s: float) -> None:
    """Do what is left of the session."""
    environment = RunnerEnvironment.read()
    session = yaml.safe_load(environment.session_file.read_text())
    key = f"{session['metadata']['namespace']}/{session['metadata']['name']}"
    shots = session["spec"].get("shots", 100)
    epoch = environment.lease_epoch
    journal = open_journal(environment.journal, "session", key, epoch)
    done = [record for record in journal.records() if record["kind"] == "iteration"]
    own = environment.qpus[0]
    identity = SessionIdentity(key, seed=session["spec"].get("seed", 0), lease_epoch=epoch, token=own.token())
    charged = sum(record["jobs"][0]["shots"] for record in done)
    best = min((record["energy"] for record in done), default=None)
    with QpuConnection(own.address(), identity, patience_s=20.0) as qpu:
        circuit = qpu.register_circuit(CIRCUIT)
        observable = qpu.register_observable(OBSERVABLE)
        for number in range(len(done), evaluations):
            time.sleep(think_s)
            angles = [0.1 * number, 0.2 * number]
            began = time.time()
            job = qpu.submit(circuit.handle, angles, shots, evaluation=number, observables=[observable])
            result = job.result(timeout=60)
            charged += result.shots
            energy = float(result.evaluations[0].values[0])
            best = energy if best is None else min(best, energy)
            journal.append(
                {
                    "kind": "iteration",
                    "iteration": number,
                    "evaluation": number,
                    "energy": energy,
                    "std_error": float(result.evaluations[0].std_errors[0]),
                    "jobs": [
                        {
                            "id": result.job_id,
                            "device": own.device,
                            "shots": result.shots,
                            "qpu_s": result.qpu_s,
                            "timing": {},
                        }
                    ],
                    "epoch": epoch,
                    "pod": os.environ.get("HOSTNAME", ""),
                    "from_s": began,
                    "to_s": time.time(),
                }
            )
            say(f"evaluation {number}: {energy:.4f}")
    journal.append(
        {"kind": "finish", "epoch": epoch, "energy": best, "best": best, "iterations": evaluations}
    )
    journal.close()
    said = {"status": "Completed", "reason": "Done", "energy": best, "best": best, "exact": None}
    said |= {"std_error": 0.0, "iterations": evaluations, "shots": charged}
    target = os.environ.get("EFAAS_TERMINATION_MESSAGE")
    if target:
        Path(target).write_text(json.dumps(said))


def main(arguments: list[str]) -> int:
    """Run, and say by the exit code how it went."""

    def stop(*_: object) -> None:
        os._exit(RESUMABLE)

    signal.signal(signal.SIGTERM, stop)
    numbers = [float(each) for each in [*arguments, "0", "0", "0"][:3]]
    try:
        run(int(numbers[0]), numbers[1])
    except (QpuUnavailable, TimeoutError) as error:
        say(f"{error}; start the runner again")
        return RESUMABLE
    except JobFailed as error:
        say(f"error: {error}")
        return RESUMABLE if error.retry else 1
    except EfaasError as error:
        say(f"error: {error}")
        return 2 if isinstance(error, InputError) else RESUMABLE if error.retry else 1
    return int(numbers[2])


if __name__ == "__main__":
    code = main(sys.argv[1:])
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
