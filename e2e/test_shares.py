"""Three teams that all want more than there is get device time by their weights."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.support.devices import TWIN, bring
from e2e.support.kubectl import LONG_S, Document, Kubectl, wait_until
from e2e.support.report import tell
from e2e.support.sessions import ask_gateway, loop

WEIGHTS = {"team-one": 1, "team-two": 2, "team-three": 3}
LOOPS = 4
TIME_SCALE = "0.1"
WINDOW_DEVICE_S = 300.0
# The step size is given, so that a first iteration, which yields to other loops, is no longer than theirs.
OPTIMIZER = {"spsa": {"learningRate": "0.1"}}


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
    here = {"device": {"matchLabels": {"efaas.dev/device": "left"}}, "optimizer": OPTIMIZER}
    for name in WEIGHTS:
        kubectl.apply([loop(f"loop-{at}", 10_000, name, seed=at, **here) for at in range(LOOPS)], name)

    def all_are_loops() -> bool:
        """Each has come back for more, so that it is no first iteration any more."""
        done = [
            int((each.get("status", {}).get("progress") or {}).get("iterations", 0))
            for each in kubectl.everywhere("vqasessions")
            if each["metadata"]["namespace"] in WEIGHTS
        ]
        return len(done) == LOOPS * len(WEIGHTS) and min(done) >= 3

    wait_until("all loops to be on their way", all_are_loops, LONG_S)
    # Those that came late are made up to first. Who led is served again when they are even.
    begun = _used(kubectl)
    wait_until(
        "all teams to be served",
        lambda: all(used > begun[name] for name, used in _used(kubectl).items()),
        LONG_S,
    )
    before = _used(kubectl)
    wait_until(
        "enough to be charged",
        lambda: sum(_used(kubectl).values()) >= sum(before.values()) + WINDOW_DEVICE_S,
        LONG_S,
        every_s=1.0,
    )
    gained = {name: used - before[name] for name, used in _used(kubectl).items()}
    shares = {name: used / sum(gained.values()) for name, used in gained.items()}
    tell(
        "QPU seconds of teams with weights 1:2:3",
        " : ".join(f"{shares[name] * sum(WEIGHTS.values()):.2f}" for name in WEIGHTS),
        "within 10 %",
        all(
            shares[name] == pytest.approx(weight / sum(WEIGHTS.values()), rel=0.1)
            for name, weight in WEIGHTS.items()
        ),
    )
    for name, weight in WEIGHTS.items():
        assert shares[name] == pytest.approx(weight / sum(WEIGHTS.values()), rel=0.1), shares
