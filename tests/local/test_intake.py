"""What is made of documents before anything is started: default devices, overrides, the run folder."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from efaas.api.load import load_text
from efaas.errors import InputError
from efaas.local.folder import RunFolder
from efaas.local.intake import make_plan, override

SESSION = """
---
apiVersion: efaas.dev/v1alpha1
kind: VQASession
metadata: {{name: {name}}}
spec:
  problem: {{isingChain: {{sites: {sites}}}}}
  ansatz: {{realAmplitudes: {{}}}}
  optimizer: {{spsa: {{}}}}
  {rest}
"""

PROGRAM = """
---
apiVersion: v1
kind: ConfigMap
metadata: {name: code}
data: {main.py: "print('off')\\n"}
---
apiVersion: efaas.dev/v1alpha1
kind: VQASession
metadata: {name: own}
spec: {program: {script: {name: code, key: main.py}}}
"""


def session(name: str = "a", sites: int = 3, rest: str = "seed: 1") -> str:
    return SESSION.format(name=name, sites=sites, rest=rest)


@pytest.mark.parametrize(
    ("sizes", "devices"),
    [
        ([3], ["manila-5", "guadalupe-16"]),
        ([3, 12], ["manila-5", "guadalupe-16"]),
        # Nothing fits the small one: the two smallest that fit.
        ([12], ["guadalupe-16", "hanoi-27"]),
        ([3, 20], ["manila-5", "hanoi-27"]),
        ([20], ["hanoi-27", "kolkata-27"]),
    ],
)
def test_a_manifest_without_devices_gets_two_that_fit(sizes: list[int], devices: list[str]) -> None:
    plan = make_plan(load_text("".join(session(f"s{index}", size) for index, size in enumerate(sizes))))
    assert [device.name for device in plan.documents.devices] == devices
    assert set(plan.placement) == {f"default/s{index}" for index in range(len(sizes))}


def test_a_model_that_a_session_asks_for_by_label_is_added_to_the_default_devices() -> None:
    label = "device: {matchLabels: {efaas.dev/device: kolkata-27}}"
    plan = make_plan(load_text(session("a") + session("b", rest=label)))
    assert [device.name for device in plan.documents.devices] == ["manila-5", "guadalupe-16", "kolkata-27"]
    assert plan.placement["default/b"] == ("kolkata-27",)


def test_no_default_device_is_large_enough() -> None:
    with pytest.raises(InputError, match=r"no device fits, 500 qubits are needed: torino-133 has 133 qubits"):
        make_plan(load_text(session(sites=500)))


def test_overrides_reach_every_session_and_device() -> None:
    documents = override(load_text(session("a") + session("b")), seed=9, policy="sbq")
    plan = make_plan(documents, policy="sbq")
    assert {session.spec.seed for session in plan.documents.sessions} == {9}
    assert {device.spec.queue.policy.value for device in plan.documents.devices} == {"sbq"}


def test_a_circuit_that_is_expected_to_fail_too_often_is_refused_with_the_figures() -> None:
    assert make_plan(load_text(session(rest='device: {minFidelity: "0.1"}'))).placement["default/a"]
    with pytest.raises(
        InputError, match=r"manila-5 has an expected fidelity of 0\.\d{3}, minFidelity is 0\.999"
    ):
        make_plan(load_text(session(rest='device: {minFidelity: "0.999"}')))


def test_the_folder_gives_the_documents_back(tmp_path: Path) -> None:
    plan = make_plan(load_text(session("a") + PROGRAM))
    folder = RunFolder.create(tmp_path / "runs", "a name/with: things", datetime(2026, 3, 14, 15, 9, 26))
    assert folder.name == "20260314-150926-a-name-with-things"
    folder.write_documents(plan.documents, {"name": folder.name})
    assert folder.read_documents() == plan.documents
    assert (folder.session("default/own") / "program.py").read_text() == "print('off')\n"
    alone = load_text((folder.session("default/a") / "session.yaml").read_text())
    assert alone.sessions == plan.documents.sessions[:1]


def test_documents_larger_than_one_manifest_are_split_and_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("efaas.local.folder.FILE_LIMIT_BYTES", 4000)
    documents = load_text("".join(session(f"s{index}") for index in range(12)))
    folder = RunFolder.create(tmp_path, "large", datetime(2026, 3, 14))
    folder.write_documents(documents, {})
    assert len(list(folder.path.glob("manifest*.yaml"))) > 1
    assert folder.read_documents() == documents


def test_two_runs_of_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    now = datetime(2026, 3, 14, 15, 9, 26)
    first, second = RunFolder.create(tmp_path, "h2", now), RunFolder.create(tmp_path, "h2", now)
    assert (first.name, second.name) == ("20260314-150926-h2", "20260314-150926-h2-2")


def test_lease_epochs_only_grow(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "h2", datetime(2026, 3, 14))
    folder.session("default/a").mkdir()
    assert [folder.next_lease("default/a") for _ in range(3)] == [1, 2, 3]


def test_a_runs_dir_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(InputError, match="choose another --runs-dir"):
        RunFolder.create(tmp_path / "runs", "h2", datetime(2026, 3, 14))
