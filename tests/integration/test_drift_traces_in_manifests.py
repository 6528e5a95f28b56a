"""A trace in a manifest: `efaas run` and the QPU server repair and refuse it in the same words."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from efaas_qpu.serve import read_device, read_trace

from efaas.api.load import load_documents
from efaas.errors import EfaasError, ManifestFaults
from efaas.local.intake import make_plan

SESSION = """\
apiVersion: efaas.dev/v1alpha1
kind: VQASession
metadata: {name: h2}
spec:
  problem: {molecule: {name: H2, qubits: 2}}
  ansatz: {efficientSU2: {repetitions: 1}}
  optimizer: {spsa: {}}
  shots: 100
"""
DEVICE = """\
apiVersion: efaas.dev/v1alpha1
kind: QPUDevice
metadata: {name: driven}
spec:
  model: {snapshot: manila-5}
  calibration: {drift: Trace, trace: {name: days, key: trace.json}}
"""


def trace(**changes: Any) -> dict[str, Any]:
    qubit = {
        "t1Us": [100, 90, 110],
        "t2Us": [90, 80, 100],
        "probMeas1Prep0": [0.01, 0.02, 0.01],
        "probMeas0Prep1": [0.03, 0.03, 0.04],
    }
    return {
        "format": "efaas.dev/drift-trace/v1",
        "name": "test",
        "days": [0, 1, 2],
        "qubits": [{**qubit, **changes.pop("qubit", {})}, *([qubit] * 4)],
        **changes,
    }


def write(folder: Path, document: dict[str, Any] | None, device: str = DEVICE) -> Path:
    parts = [device]
    if document is not None:
        config_map = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "days"},
            "data": {"trace.json": json.dumps(document)},
        }
        parts.append(json.dumps(config_map))
    path = folder / "device.yaml"
    path.write_text("\n---\n".join(parts))
    (folder / "session.yaml").write_text(SESSION)
    return path


def plan(path: Path) -> Any:
    return make_plan(load_documents([path, path.parent / "session.yaml"]))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (trace(days=[0, 1, 12]), "nothing is recorded from day 1 to day 12"),
        (trace(qubit={"t1Us": [100, -1, 100]}), "qubits[0].t1Us[1]"),
        (trace(qubit={"probMeas1Prep0": [0.5, 0.5, 0.5], "probMeas0Prep1": [0.6, 0.5, 0.5]}), "qubits[0]"),
        (trace(gates=[{"gate": "cx", "qubits": [0, 4], "error": [0.1, 0.1, 0.1]}]), "gates[0]"),
    ],
)
def test_both_refuse_what_cannot_be_in_the_same_sentence(
    tmp_path: Path, document: dict[str, Any], words: str
) -> None:
    path = write(tmp_path, document)
    with pytest.raises(ManifestFaults) as by_run:
        plan(path)
    device, snapshot = read_device(path)
    with pytest.raises(EfaasError) as by_server:
        read_trace(path, device, snapshot)
    [fault] = by_run.value.faults
    assert fault.message == by_server.value.message
    assert fault.place.removeprefix("QPUDevice driven: ") == by_server.value.place.removeprefix(f"{path}: ")
    assert words in str(fault)


def test_both_tell_what_was_repaired(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, trace(qubit={"t2Us": [90, 500, None]}))
    warnings = plan(path).warnings
    device, snapshot = read_device(path)
    with caplog.at_level(logging.WARNING):
        read = read_trace(path, device, snapshot)
    assert read is not None
    assert len(warnings) == 2
    place = "spec.calibration.trace: "
    assert [text.partition(place)[2] for text in warnings] == [
        record.getMessage().partition(place)[2] for record in caplog.records
    ]
    assert "above 2·T1 on day" in warnings[1]


def test_a_device_without_its_trace_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, None)
    with pytest.raises(ManifestFaults, match="ConfigMap days is not in the manifest"):
        plan(path)
    device, snapshot = read_device(path)
    with pytest.raises(EfaasError, match="holds no ConfigMap 'days'"):
        read_trace(path, device, snapshot)
    for changed in (
        DEVICE.replace(", trace: {name: days, key: trace.json}", ""),
        DEVICE.replace("Trace", "Model"),
    ):
        write(tmp_path, None, changed)
        with pytest.raises(ManifestFaults, match="set trace for drift: Trace, and only for that"):
            plan(path)
