"""The installation itself: its own test, its tables, how it is upgraded."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from e2e.support.kubectl import MEDIUM_S, Kubectl, condition, wait_until

ROOT = Path(__file__).resolve().parents[1]
SYSTEM = "efaas-system"


def helm(kubectl: Kubectl, *arguments: str) -> str:
    """Run helm in the release's namespace."""
    answer = subprocess.run(
        ["helm", *arguments, "--namespace", SYSTEM],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
        env={**os.environ, "KUBECONFIG": str(kubectl.kubeconfig)},
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_two_replicas_of_operator_and_scheduler_run_and_one_of_each_leads(kubectl: Kubectl):
    for name in ("efaas-operator", "efaas-scheduler"):
        status = kubectl.get("deployment", name, SYSTEM)["status"]
        assert status["readyReplicas"] == 2
        lease = kubectl.get("lease", name, SYSTEM)
        pods = kubectl.everywhere("pods", f"app.kubernetes.io/name={name}")
        assert any(lease["spec"]["holderIdentity"].startswith(pod["metadata"]["name"]) for pod in pods)


def test_the_control_side_stays_off_the_qpu_nodes(kubectl: Kubectl):
    qpu_nodes = {node["metadata"]["name"] for node in kubectl.everywhere("nodes", "efaas.dev/qpu")}
    assert len(qpu_nodes) == 2
    for pod in kubectl.everywhere("pods", "app.kubernetes.io/part-of=efaas"):
        if pod["metadata"]["labels"]["app.kubernetes.io/name"] in ("efaas-operator", "efaas-gateway"):
            assert pod["spec"]["nodeName"] not in qpu_nodes, pod["metadata"]["name"]


def test_devices_are_up_each_on_a_node_of_its_own(kubectl: Kubectl):
    def up() -> list[str]:
        devices = kubectl.everywhere("qpudevices")
        ready = [
            each for each in devices if condition(each.get("status", {}), "Ready").get("status") == "True"
        ]
        return [each["status"]["node"] for each in ready] if len(ready) == 2 else []

    nodes = wait_until("two devices", up, MEDIUM_S)
    assert len(set(nodes)) == 2


def test_the_charts_own_test_passes(kubectl: Kubectl):
    said = helm(kubectl, "test", "efaas", "--timeout", "3m")
    assert said.count("Succeeded") >= 2


def test_certificates_are_there_and_are_not_made_anew_by_an_upgrade(kubectl: Kubectl):
    names = ("efaas-ca", "efaas-qpu-tls", "efaas-gateway-tls")
    before = {name: kubectl.get("secret", name, SYSTEM)["data"] for name in names}
    assert all({"tls.crt", "tls.key", "ca.crt"} <= set(data) for data in before.values())
    helm(kubectl, "upgrade", "efaas", "charts/efaas", "--reuse-values", "--wait", "--timeout", "5m")
    assert {name: kubectl.get("secret", name, SYSTEM)["data"] for name in names} == before
