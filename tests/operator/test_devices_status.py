"""What a device's status says, from what its server and its pod say; what its pod's troubles are called."""

from __future__ import annotations

from typing import Any

import pytest
from efaas_operator.build.device import Seen, Trouble, build_device_status
from efaas_operator.services.device_objects import pod_trouble
from efaas_operator.services.devices import _can_wait
from efaas_operator.services.statuses import difference
from hypothesis import given
from hypothesis import strategies as st

from efaas.api.reading import read_device
from efaas.api.status import QPUDeviceStatus
from efaas.api.wire import qpu_pb2 as wire
from efaas.core.placement import Health

NOW_S = 1_790_000_000.0
DEVICE: dict[str, Any] = {
    "metadata": {"name": "lab", "generation": 4},
    "spec": {
        "model": {"snapshot": "perth-7"},
        "simulation": {"timeScale": "0.5"},
        "calibration": {"drift": "Model", "maxAge": "24h"},
        "slots": 4,
    },
}


def described(**changes: Any) -> wire.DeviceState:
    fields: dict[str, Any] = {
        "device": "lab",
        "qubits": 7,
        "condition": "Ready",
        "calibration_epoch": 3,
        "calibration_age_s": 3600.0,
        "queue_depth": 2,
        "duty_cycle": 0.25,
        "slots_used": 1,
        "max_calibration_age_s": 86400.0,
        "expected_wait_s": 1.234,
        "local_calibration_s": 20.0,
        "one_qubit_error": 3e-4,
        "two_qubit_error": 1e-2,
        "readout_error": 0.02,
        "two_qubit_drift_per_s": 1e-9,
    }
    return wire.DeviceState(**fields | changes)


def seen(state: wire.DeviceState | None = None, **changes: Any) -> Seen:
    fields: dict[str, Any] = {
        "node": "n1",
        "endpoint": "qpu-lab.efaas-system.svc:8470",
        "described": state if state is not None else described(),
        "described_at_s": NOW_S,
    }
    return Seen(**fields | changes)


def reasons(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}


def test_figures_are_whole_and_the_scheduler_reads_them_back():
    warm = [wire.WarmCircuit(handle="h", epoch=3, sessions=["ns/s", "ns/program"])]
    state = described(warm=warm)
    status = build_device_status(DEVICE, seen(state, circuits={"ns/s": "0123abcd"}), {}, NOW_S)
    QPUDeviceStatus.model_validate(status)
    calibration = status["calibration"]
    assert (calibration["twoQubitErrorPpm"], calibration["twoQubitDriftPpbPerHour"]) == (10_000, 3600)
    assert calibration["localMilliseconds"] == 20_000
    assert (status["dutyCyclePermille"], status["expectedWaitMilliseconds"]) == (250, 1200)
    assert status["warmCircuits"] == [{"circuit": "0123abcd", "epoch": 3}]
    record = read_device({**DEVICE, "status": status}, NOW_S + 60)
    view = record.report.view
    # Half a wall second is a device second: an hour of device time is half an hour of the wall's.
    assert view.calibration_age_s == pytest.approx(3600 + 120)
    assert (view.health, view.qubits, view.slots) == (Health.READY, 7, 4)
    assert view.warm_circuits == {"0123abcd"}
    assert view.two_qubit_drift_per_s == pytest.approx(1e-9)


@pytest.mark.parametrize(
    ("given_", "state", "ready", "calibrated"),
    [
        (seen(), "Ready", ("True", "Serving"), ("True", "Fresh")),
        (
            seen(described(condition="Calibrating", calibration_left_s=10.0)),
            "Calibrating",
            ("True", "Serving"),
            ("False", "Calibrating"),
        ),
        (seen(described(frozen=True)), "Ready", ("True", "Serving"), ("True", "Frozen")),
        (seen(described(calibration_age_s=9e4)), "Ready", ("True", "Serving"), ("False", "Stale")),
        (seen(leaving="drained"), "Draining", ("False", "Draining"), ("True", "Fresh")),
        (
            seen(trouble=Trouble("NodeLost", "n1 is away")),
            "Down",
            ("False", "NodeLost"),
            ("Unknown", "NotReady"),
        ),
        (
            Seen(trouble=Trouble("NoNode", "label one", "Pending")),
            "Pending",
            ("False", "NoNode"),
            ("Unknown", "NotReady"),
        ),
    ],
)
def test_conditions_say_what_is_the_matter(given_, state, ready, calibrated):
    status = build_device_status(DEVICE, given_, {}, NOW_S)
    QPUDeviceStatus.model_validate(status)
    assert status["state"] == state
    assert reasons(status) == {"Ready": ready, "Calibrated": calibrated}


def test_what_a_device_was_stays_while_its_server_is_away():
    status = build_device_status(DEVICE, seen(trouble=Trouble("NotAnswering", "x")), {}, NOW_S)
    assert (status["qubits"], status["activeSessions"], status["warmCircuits"]) == (7, 0, [])
    assert status["calibration"]["epoch"] == 3


@given(st.floats(0, 2.4), st.integers(0, 9))
def test_a_status_made_again_a_moment_later_asks_for_no_write_in_haste(later_s, queue):
    before = build_device_status(DEVICE, seen(), {}, NOW_S)
    state = described(calibration_age_s=3600 + 2 * later_s, queue_depth=queue)
    after = build_device_status(DEVICE, seen(state, described_at_s=NOW_S + later_s), before, NOW_S + later_s)
    assert after["calibration"]["time"] == before["calibration"]["time"]
    assert after["conditions"] == before["conditions"]
    change = difference(before, after)
    assert _can_wait(before, after, change)
    assert not difference(after, after)
    new = build_device_status(DEVICE, seen(described(calibration_epoch=4)), before, NOW_S)
    assert not _can_wait(before, new, difference(before, new))


def pod(node: str | None = "n1", **status: Any) -> dict[str, Any]:
    spec = {"nodeName": node} if node else {}
    return {"metadata": {"name": "qpu-lab"}, "spec": spec, "status": status}


def container(**state: Any) -> dict[str, Any]:
    return {"phase": "Running", "containerStatuses": [{"name": "qpu", **state}]}


HERE = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
SILENT = {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}
ENDED = {"terminated": {"exitCode": 2, "message": "device.yaml: spec.model: is no snapshot"}}


@pytest.mark.parametrize(
    ("given_", "node", "reason", "words"),
    [
        (pod(None), None, "ServerStarting", "waits for its node"),
        (
            pod(None, conditions=[{"type": "PodScheduled", "status": "False", "message": "0/3 nodes"}]),
            None,
            "Unschedulable",
            "0/3 nodes",
        ),
        (pod(phase="Running"), SILENT, "NodeLost", "node n1 is not heard of"),
        (pod(phase="Running"), None, "NodeLost", "node n1"),
        (pod(phase="Pending"), HERE, "ServerStarting", "being started"),
        (
            pod(**container(state={"waiting": {"reason": "ErrImagePull", "message": "no such image"}})),
            HERE,
            "ErrImagePull",
            "no such image",
        ),
        (
            pod(**container(state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=ENDED)),
            HERE,
            "ServerFailed",
            "is no snapshot",
        ),
    ],
)
def test_a_pods_trouble_has_a_name_and_words(given_, node, reason, words):
    trouble = pod_trouble(given_, node)
    assert trouble is not None
    assert trouble.reason == reason
    assert words in trouble.message


def test_a_running_pod_is_no_trouble_even_after_a_crash():
    assert pod_trouble(pod(**container(state={"running": {}}, lastState=ENDED)), HERE) is None
