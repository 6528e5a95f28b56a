"""Who reaches which port, tried from inside of the cluster."""

from __future__ import annotations

import pytest

from e2e.support.kubectl import MEDIUM_S, SHORT_S, Kubectl, wait_until
from e2e.support.pods import knock

SYSTEM = "efaas-system"
RUNNER = {
    "app.kubernetes.io/name": "efaas-runner",
    "app.kubernetes.io/part-of": "efaas",
    "app.kubernetes.io/managed-by": "efaas-operator",
}
GATEWAY = f"efaas-gateway.{SYSTEM}.svc"


@pytest.fixture(scope="module")
def device(kubectl: Kubectl) -> str:
    """IP of a device's pod."""

    def address() -> str:
        pods = kubectl.everywhere("pods", "app.kubernetes.io/name=efaas-qpu")
        found = [pod["status"].get("podIP", "") for pod in pods if pod["status"].get("phase") == "Running"]
        return str(found[0]) if found else ""

    found: str = wait_until("a QPU pod", address, MEDIUM_S)
    return found


# A runner pod is labelled so by the operator only; whoever labels a pod so himself still has no token.
@pytest.mark.parametrize(("labels", "open_"), [(RUNNER, True), ({}, False)], ids=["runner", "stranger"])
def test_a_devices_stream_is_open_to_runners_only(kubectl: Kubectl, device: str, labels, open_: bool):
    wait_until("the answer", lambda: knock(kubectl, device, 8470, labels) is open_, SHORT_S)


@pytest.mark.parametrize(("labels", "open_"), [(RUNNER, True), ({}, False)], ids=["runner", "stranger"])
def test_the_gateways_journals_are_open_to_runners_only(kubectl: Kubectl, labels, open_: bool):
    wait_until("the answer", lambda: knock(kubectl, GATEWAY, 8081, labels) is open_, SHORT_S)


def test_the_gateways_page_is_open_to_readers(kubectl: Kubectl):
    assert knock(kubectl, GATEWAY, 8080)


def test_nobody_reaches_metrics_unless_told(kubectl: Kubectl, device: str):
    assert not knock(kubectl, device, 9470)
