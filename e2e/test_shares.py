"""Three teams that all want more than there is get device time by their weights."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.support.devices import TWIN, bring
from e2e.support.kubectl import MEDIUM_S, Document, Kubectl, wait_until
from e2e.support.sessions import ask_gateway, loop

WEIGHTS = {"team-one": 1, "team-two": 2, "team-three": 3}
LOOPS = 4
TIME_SCALE = "0.05"
WINDOW_DEVICE_S = 500.0


def _namespace(name: str, weight: int) -> Document:
    labels = {"efaas.dev/weight": str(weight), "pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


@pytest.fixture(scope="module", autouse=True)
def _teams(kubectl: Kubectl) -> Iterator[None]:
    bring(kubectl, {"left": {**TWIN, "slots": 16, "simulation": {"timeScale": TIME_SCALE}}, "right": TWIN})
    kubectl.apply([_namespace(name, weight) for name, weight in WEIGHTS.items()])
    yield
    kubectl("delete", "namespace", *WEIGHTS, "--timeout=100s", timeout_s=110)


def _used(kubectl: Kubectl) -> dict[str, float]:
    rows = ask_gateway(kubectl, "/usage", by="tenant")["items"]
    used = {row["tenant"]: float(row["qpu_s"]) for row in rows}
    return {name: used.get(name, 0.0) for name in WEIGHTS}


def test_qpu_seconds_are_proportional_to_weights(kubectl: Kubectl):
    here = {"device": {"matchLabels": {"efaas.dev/device": "left"}}}
    for name in WEIGHTS:
        sessions = [loop(f"loop-{at}", 10_000, name, seed=at, shots=4096, **here) for at in range(LOOPS)]
        kubectl.apply(sessions, name)

    def all_running() -> bool:
        states = [
            each.get("status", {}).get("state", "")
            for each in kubectl.everywhere("vqasessions")
            if each["metadata"]["namespace"] in WEIGHTS
        ]
        return states.count("Running") == LOOPS * len(WEIGHTS)

    wait_until("all loops to run", all_running, MEDIUM_S)
    wait_until("all teams to be charged", lambda: all(_used(kubectl).values()), MEDIUM_S)
    before = _used(kubectl)
    # What was used before all ran is made up for first: shares are those of all that was used.
    wait_until(
        "enough to be charged",
        lambda: sum(_used(kubectl).values()) >= sum(before.values()) + WINDOW_DEVICE_S,
        MEDIUM_S,
        every_s=1.0,
    )
    after = _used(kubectl)
    total = sum(after.values())
    shares = {name: used / total for name, used in after.items()}
    for name, weight in WEIGHTS.items():
        assert shares[name] == pytest.approx(weight / sum(WEIGHTS.values()), rel=0.1), shares
