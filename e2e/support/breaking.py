"""What is broken, and how. Everything goes through Kubernetes or the nodes' containers, as accidents do."""

from __future__ import annotations

import os
import subprocess

from e2e.support.kubectl import MEDIUM_S, Kubectl, KubectlError, wait_until

SYSTEM = "efaas-system"


def kill_pod(kubectl: Kubectl, name: str, namespace: str = SYSTEM) -> str:
    """Have a pod killed without time to end in order; its UID."""
    uid = str(kubectl.get("pod", name, namespace)["metadata"]["uid"])
    kubectl("delete", "pod", name, "-n", namespace, "--grace-period=0", "--force", "--wait=false")
    return uid


def leader(kubectl: Kubectl, name: str) -> str:
    """Pod that holds a Lease."""
    holder = str(kubectl.get("lease", name, SYSTEM)["spec"].get("holderIdentity") or "")
    for pod in kubectl.everywhere("pods", f"app.kubernetes.io/name={name}"):
        if holder.startswith(str(pod["metadata"]["name"])):
            return str(pod["metadata"]["name"])
    return ""


def another_leads(kubectl: Kubectl, name: str, before: str) -> bool:
    """Whether a pod other than that one holds a Lease."""
    return leader(kubectl, name) not in ("", before)


def pod_named(kubectl: Kubectl, name: str) -> str:
    """The pod of an application that has one."""
    (found,) = [
        pod["metadata"]["name"]
        for pod in kubectl.everywhere("pods", f"app.kubernetes.io/name={name}")
        if "deletionTimestamp" not in pod["metadata"]
    ]
    return str(found)


def engine(*arguments: str) -> str:
    """Run the container engine that holds the nodes."""
    program = os.environ.get("EFAAS_ENGINE", "docker")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout


def kill_on_node(node: str, program: str) -> None:
    """Kill a program of a node; whoever keeps it there starts it again."""
    engine("exec", node, "pkill", "-KILL", "-x", program)


def node_ready(kubectl: Kubectl, node: str) -> bool:
    """Whether Kubernetes hears of a node."""
    conditions = kubectl.get("node", node)["status"]["conditions"]
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def answers(kubectl: Kubectl) -> bool:
    """Whether the API server does."""
    try:
        return kubectl("get", "--raw", "/readyz") == "ok"
    except (KubectlError, subprocess.TimeoutExpired):
        return False


def wait_for_deployments(kubectl: Kubectl) -> None:
    """Wait until the control side is whole again."""

    def whole() -> bool:
        deployments = kubectl.get("deployments", namespace=SYSTEM)["items"]
        return all(each["status"].get("readyReplicas", 0) == each["spec"]["replicas"] for each in deployments)

    wait_until("the control side to be whole", whole, MEDIUM_S)
