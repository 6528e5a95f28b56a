"""Stand-ins for QPU server and runner that speak the same files and pipes, small enough to start in 20 ms."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent

import pytest

from efaas.local.processes import Programs
from efaas.local.supervisor import Timings

SERVER = """
    import json, os, signal, sys, time
    arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    data, address = arguments["--data"], arguments["--address-file"]
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with open(os.path.join(data, "starts"), "a") as file:
        file.write(f"{os.getpid()}\\n")
    starts = len(open(os.path.join(data, "starts")).readlines())
    plan = os.environ.get("FAKE_SERVER", "")
    if plan == "refuses" or (plan == "refuses on left" and "/left/" in data):
        print("efaas-qpu: the device file is bad", file=sys.stderr)
        sys.exit(2)
    with open(address + ".new", "w") as file:
        json.dump({"endpoint": "127.0.0.1:1", "pid": os.getpid()}, file)
    os.rename(address + ".new", address)
    if plan == "dies once" and starts == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    while True:
        time.sleep(60)
"""

# Counts evaluations in its journal, one file line each, and tells them; behaves as FAKE_RUNNER says.
RUNNER = """
    import json, os, signal, sys, time
    pipe = os.fdopen(int(os.environ["EFAAS_PROGRESS_FD"]), "w", buffering=1)
    epoch = int(os.environ["EFAAS_LEASE_EPOCH"])
    plan = os.environ.get("FAKE_RUNNER", "")
    qpus = json.loads(os.environ["EFAAS_QPUS"])
    journal = os.path.join(os.environ["EFAAS_JOURNAL"], "evaluations")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

    def tell(**event):
        print(json.dumps(event), file=pipe)

    def evaluated(number):
        energy = -1.0 + 1 / (number + 1)
        tell(event="iteration", iteration=number, evaluation=number, energy=energy, std_error=0.01,
             best=energy, ttns_s=0.001 * (number + 1), ttns_device_s=0.01, round_trip_s=0.002,
             qpu_s=1.5 * (number + 1), shots=100 * (number + 1),
             device=qpus[0]["device"], calibration_age_s=10.0, calibration_epoch=1,
             elapsed_s=0.1 * (number + 1))

    tell(event="state", state="Preparing", reason="building")
    if plan == "is killed at the start":
        os.kill(os.getpid(), signal.SIGKILL)
    done = len(open(journal).readlines()) if os.path.exists(journal) else 0
    for number in range(done):
        evaluated(number)
    if plan == "refuses":
        tell(event="state", state="Failed", reason="spec.ansatz: the circuit has no parameters")
        sys.exit(2)
    if plan == "fails":
        tell(event="state", state="Failed", reason="the QPU gave up on a job")
        sys.exit(1)
    if plan == "expires":
        tell(event="state", state="Expired", reason="limit reached: 100 shots")
        sys.exit(1)
    for number in range(done, 6):
        with open(journal, "a") as file:
            file.write(f"{number}\\n")
        evaluated(number)
        if number == 2 and plan == "is killed once" and epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 2 and plan == "asks again once" and epoch == 1:
            sys.exit(75)
        if plan == "is killed at every evaluation":
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 2 and (plan == "waits" or (plan == "waits on left" and qpus[0]["device"] == "left")):
            time.sleep(60)
        if plan == "takes half a second":
            time.sleep(0.1)
    if plan == "writes its problem":
        open(os.path.join(os.environ["EFAAS_JOURNAL"], "..", "problem.json"), "w").close()
    tell(event="finished", result={"energy": -0.9, "std_error": 0.002, "iterations": 6, "parameters": [0.5]})
    tell(event="state", state="Completed", reason="")
"""


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    server, runner = tmp_path / "server.py", tmp_path / "runner.py"
    server.write_text(dedent(SERVER))
    runner.write_text(dedent(RUNNER))
    python = (sys.executable, "-S", "-E")
    return Programs(server=(*python, str(server)), runner=(*python, str(runner)), best_energy=("false",))


@pytest.fixture
def timings() -> Timings:
    return Timings(restarts=3, backoff_s=0.01, longest_backoff_s=0.05, grace_s=1.0, address_poll_s=0.005)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "pair.yaml"
    path.write_text(
        dedent("""
        apiVersion: efaas.dev/v1alpha1
        kind: QPUDevice
        metadata: {name: left}
        spec: {model: {snapshot: manila-5}, slots: 1}
        ---
        apiVersion: efaas.dev/v1alpha1
        kind: VQASession
        metadata: {name: alpha}
        spec:
          problem: {hamiltonian: "-1 ZZ - 0.5 XI - 0.5 IX"}
          ansatz: {realAmplitudes: {repetitions: 1}}
          optimizer: {spsa: {}}
        """)
    )
    return path
