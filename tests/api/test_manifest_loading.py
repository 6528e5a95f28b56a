"""What the manifest loader takes, and in which words it refuses the rest."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from efaas.api.load import FILE_LIMIT_BYTES, load_documents, load_text
from efaas.api.meta import wire
from efaas.api.session import VQASession
from efaas.errors import ManifestError, ManifestFaults

SESSION = """
apiVersion: efaas.dev/v1alpha1
kind: VQASession
metadata: {name: h2}
spec:
  problem: {molecule: {name: H2, qubits: 4}}
  ansatz: {efficientSU2: {repetitions: 1}}
  optimizer: {spsa: {}}
"""
DEVICE = """
apiVersion: efaas.dev/v1alpha1
kind: QPUDevice
metadata: {name: manila}
spec: {model: {snapshot: manila-5}}
"""
CONFIG_MAP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: code}
data: {main.py: "print(1)"}
"""


def faults_of(text: str | bytes) -> list[str]:
    with pytest.raises(ManifestFaults) as raised:
        load_text(text, "file.yaml")
    return [str(fault) for fault in raised.value.faults]


def session_with(**spec: object) -> str:
    document = yaml.safe_load(SESSION)
    document["spec"].update(spec)
    return yaml.safe_dump(document)


def test_sessions_devices_and_config_maps_of_one_file_are_told_apart():
    documents = load_text("\n---\n".join([SESSION, DEVICE, CONFIG_MAP]))
    assert [session.key for session in documents.sessions] == ["default/h2"]
    assert [device.name for device in documents.devices] == ["manila"]
    assert documents.config_maps == {("default", "code"): {"main.py": "print(1)"}}


def test_a_list_document_is_unfolded_and_status_is_ignored():
    session = yaml.safe_load(SESSION) | {"status": {"anything": 1}}
    text = yaml.safe_dump({"kind": "List", "apiVersion": "v1", "items": [session, yaml.safe_load(DEVICE)]})
    documents = load_text(text)
    assert len(documents.sessions) == len(documents.devices) == 1


def test_a_session_survives_the_way_to_the_wire_and_back():
    session = load_text(session_with(shots=100, stop={"maxDuration": "1h30m", "tolerance": "1e-4"})).sessions[
        0
    ]
    assert VQASession.model_validate(wire(session)) == session
    assert wire(session)["spec"]["stop"]["maxDuration"] == "1h30m"
    assert wire(session)["spec"]["stop"]["tolerance"] == "0.0001"


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"shotss": 4}, "spec.shotss: unknown field; did you mean shots?"),
        (
            {"ansatz": {"efficientSU2": {"repititions": 1}}},
            "spec.ansatz.efficientSU2.repititions: unknown field; did you mean repetitions?",
        ),
        (
            {"optimizer": {"spsa": {"beta1": "0.9"}}},
            "spec.optimizer.spsa.beta1: unknown field; known here: "
            "calibrationSteps, lastAverage, learningRate, perturbation",
        ),
        (
            {"optimizer": {"spsa": {"perturbation": 0.1}}},
            "spec.optimizer.spsa.perturbation: write the number as a string, '0.1': the API has no floats",
        ),
        (
            {"stop": {"tolerance": "nan"}},
            "spec.stop.tolerance: 'nan' is not a finite decimal number such as '0.25' or '1e-3'",
        ),
        (
            {"stop": {"maxDuration": "10"}},
            "spec.stop.maxDuration: '10' is not a duration such as '250ms', '90s' or '1h30m'",
        ),
        ({"speculation": False}, "spec.speculation: YAML reads this as false; write it in quotes"),
        (
            {"speculation": "exact"},
            "spec.speculation: 'exact' is not one of 'Off', 'Exact' or 'Tolerant'; did you mean Exact?",
        ),
        ({"shots": 0}, "spec.shots: 0: input should be greater than or equal to 1"),
        (
            {"problem": {"terms": [{"pauli": "ZA", "coefficient": "1"}]}},
            "spec.problem.terms[0].pauli: 'ZA' does not match ^[IXYZ]+$",
        ),
        (
            {"ansatz": {"efficientSU2": {}, "qaoa": {}}},
            "spec.ansatz: set exactly one of efficientSU2, realAmplitudes, nLocal, qaoa, openqasm3; "
            "efficientSU2, qaoa are set",
        ),
        (
            {"program": {"image": "x"}},
            "spec: a program brings its own problem, ansatz and optimizer: remove problem or program",
        ),
    ],
)
def test_a_fault_names_file_document_field_and_remedy(spec: dict[str, object], sentence: str):
    assert faults_of(session_with(**spec)) == [f"file.yaml, VQASession h2: {sentence}"]


def test_all_faults_of_all_documents_are_told_at_once():
    text = "\n---\n".join(
        [session_with(shotss=1), session_with(shots=-1), DEVICE.replace("snapshot", "snapshots")]
    )
    assert len(faults_of(text)) == 3


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("kind: VQASesion", "document 1: kind 'VQASesion' is not known here; did you mean VQASession?"),
        ("[1, 2]", "document 1: is not a mapping with kind, metadata and spec"),
        ("a: [1", "line 1: is not YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: 1\na: 2", "line 2: is not YAML: the key 'a' is given twice"),
        (
            SESSION.replace("v1alpha1", "v1"),
            "VQASession h2: apiVersion: is 'efaas.dev/v1'; write efaas.dev/v1alpha1",
        ),
        (b"\xff\xfe\xff", "is not UTF-8 text (byte 0)"),
        ("a: " + "[" * 200 + "]" * 200, "document 1: is nested deeper than 64 levels"),
    ],
)
def test_what_is_not_a_manifest_is_refused_in_words(text: str | bytes, sentence: str):
    (fault,) = faults_of(text)
    assert sentence in fault
    assert fault.startswith("file.yaml")


def test_the_same_document_twice_is_refused():
    (fault,) = faults_of(SESSION + "---" + SESSION)
    assert fault == (
        "file.yaml, VQASession h2: metadata.name: stands a second time; "
        "it was first in file.yaml, VQASession h2"
    )


def test_aliases_that_unfold_without_end_are_refused():
    levels = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))
    (fault,) = faults_of(f"a0: &a0 [x, x]\n{levels}")
    assert "unfolds into more than" in fault


def test_a_file_that_is_missing_or_too_large_is_refused(tmp_path: Path):
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (FILE_LIMIT_BYTES + 1))
    with pytest.raises(ManifestFaults) as raised:
        load_documents([tmp_path / "missing.yaml", large])
    missing, too_large = map(str, raised.value.faults)
    assert missing.endswith("missing.yaml: cannot be read: No such file or directory")
    assert too_large.endswith("large.yaml: is larger than 4 MiB; split it")


def refused_or_read(data: bytes) -> None:
    with contextlib.suppress(ManifestError):
        load_text(data)


@given(st.binary(max_size=300))
def test_no_bytes_end_the_loader(data: bytes):
    refused_or_read(data)


@given(st.text(alphabet="[]{}:,-?&*!|>'\"%@`#\n \tab01.~=", max_size=120))
def test_no_yaml_like_text_ends_the_loader(text: str):
    refused_or_read(text.encode())


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(list(VQASession.model_fields["spec"].annotation.model_fields))  # type: ignore[union-attr]


@given(st.dictionaries(fields, values, max_size=6))
def test_no_values_in_known_fields_end_the_loader(spec: dict[str, object]):
    refused_or_read(session_with(**spec).encode())
