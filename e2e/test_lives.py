"""A session's life as its owner steers it: suspended, resumed, cancelled, its own program, refused."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from e2e.support.devices import TWIN, bring, device
from e2e.support.kubectl import SHORT_S, Kubectl, KubectlError, condition, wait_until
from e2e.support.sessions import ROOT, Undisturbed, loop, trajectory

DEVICES = {"left": TWIN, "right": {**TWIN, "simulation": {"timeScale": "0.3"}}}
SLOW = {"device": {"matchLabels": {"efaas.dev/device": "right"}}}


@pytest.fixture(scope="module", autouse=True)
def _devices(kubectl: Kubectl):
    bring(kubectl, DEVICES)


def _evaluations(kubectl: Kubectl, name: str) -> int:
    return len(trajectory(kubectl, name)["evaluation"])


def test_it_is_suspended_and_goes_on_where_it_was(kubectl: Kubectl, tmp_path_factory):
    document = loop("paused", 40, seed=4)
    frozen = [device(name, TWIN) for name in DEVICES]
    undisturbed = Undisturbed([*frozen, document], tmp_path_factory.mktemp("paused"))
    document["spec"].update(SLOW)
    kubectl.apply(document)
    kubectl.wait_for_state("paused", "Running")
    wait_until("evaluations", lambda: _evaluations(kubectl, "paused") >= 3, SHORT_S)
    kubectl("patch", "vqa", "paused", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    status = kubectl.wait_for_state("paused", "Suspended", within_s=60)
    assert condition(status, "Running")["status"] == "False"
    wait_until(
        "its runner to be gone",
        lambda: not kubectl.everywhere("pods", "efaas.dev/session-name=paused"),
        SHORT_S,
    )
    done = _evaluations(kubectl, "paused")
    assert done < len(undisturbed.energies("paused"))
    kubectl("patch", "vqa", "paused", "--type=merge", "-p", '{"spec":{"suspend":false}}')
    status = kubectl.wait_for_state("paused", "Completed")
    assert trajectory(kubectl, "paused")["energy"] == undisturbed.energies("paused")
    assert status["usage"]["shots"] == undisturbed.sessions["default/paused"]["usage"]["shots"]


def test_a_deleted_session_leaves_the_device_and_nothing_behind(kubectl: Kubectl):
    kubectl.apply(loop("unwanted", 400, **SLOW))
    kubectl.wait_for_state("unwanted", "Running")
    kubectl("delete", "vqa", "unwanted", "--timeout=60s", timeout_s=70)
    # What it owned is collected once it is gone.
    wait_until(
        "its runner to be gone",
        lambda: not kubectl.everywhere("pods", "efaas.dev/session-name=unwanted"),
        SHORT_S,
    )
    wait_until(
        "its ConfigMaps to be gone",
        lambda: "unwanted" not in kubectl("get", "configmaps", "-o", "name"),
        SHORT_S,
    )
    wait_until(
        "the slot to be free",
        lambda: kubectl.get("qpudevice", "right")["status"].get("activeSessions", 0) == 0,
        SHORT_S,
    )


def test_a_program_of_ones_own_completes(kubectl: Kubectl):
    documents = list(yaml.safe_load_all((ROOT / "examples" / "program.yaml").read_text()))
    for document in documents:
        if document["kind"] == "VQASession":
            # On the other device its many jobs would take two minutes.
            document["spec"].setdefault("device", {})["matchLabels"] = {"efaas.dev/device": "left"}
    kubectl.apply(documents)
    status = kubectl.wait_for_state("program", "Completed")
    # The ground state of -ZZ - (XI + IX)/2 is at -sqrt(2); gradient descent comes close on a noisy device.
    assert -1.45 < float(status["result"]["energy"]) < -1.2


MISTAKES = {
    "no ansatz": ({"ansatz": None}, "set problem, ansatz and optimizer, or a program"),
    "no such optimizer": ({"optimizer": {"sgd": {}}}, 'unknown field "spec.optimizer.sgd"'),
    "shots below one": ({"shots": 0}, "spec.shots"),
    "a molecule that is not shipped": (
        {"problem": {"molecule": {"name": "LiH", "qubits": 2}}},
        "this molecule is not shipped on that many qubits: H2 at 2 or 4, LiH at 4",
    ),
    "two optimizers": ({"optimizer": {"spsa": {}, "cobyla": {}}}, "set exactly one of spsa, qnSpsa"),
}


@pytest.mark.parametrize(("change", "words"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_bad_manifest_is_refused_in_words(kubectl: Kubectl, change, words: str):
    document = loop("bad", 5)
    document["spec"].update(change)
    document["spec"] = {key: value for key, value in document["spec"].items() if value is not None}
    with pytest.raises(KubectlError) as refusal:
        kubectl("apply", "-f", "-", stdin=yaml.safe_dump(document))
    assert words in str(refusal.value)


def test_what_no_device_can_take_says_so(kubectl: Kubectl):
    document = loop("wide", 5)
    document["spec"]["problem"] = {"isingChain": {"sites": 8}}
    kubectl.apply(document)

    def told() -> dict[str, Any] | None:
        admitted = condition(kubectl.session("wide"), "Admitted")
        return admitted if admitted.get("reason") == "NoDeviceFits" else None

    assert "5 qubits, 8 needed" in wait_until("a reason", told, SHORT_S)["message"]
    kubectl("delete", "vqa", "wide", "--timeout=30s")
