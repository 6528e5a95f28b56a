"""When the release goes, what it brought goes; what stays does so on purpose."""

from __future__ import annotations

import pytest

from e2e.support.kubectl import MEDIUM_S, Kubectl, wait_until
from e2e.test_installation import SYSTEM, helm

# Of kube-controller-manager, in every namespace.
_OF_EVERY_NAMESPACE = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
_NAMESPACED = "pods,configmaps,secrets,serviceaccounts,roles,rolebindings,leases,services,jobs,cronjobs"
_CLUSTER_WIDE = "clusterroles,clusterrolebindings"


@pytest.fixture(scope="module", autouse=True)
def _as_installed(kubectl: Kubectl):
    """Have the release's own devices again, as other tests brought theirs, and none of the others."""
    kubectl("delete", "vqasessions", "--all", "--all-namespaces", "--timeout=60s", timeout_s=90)
    kubectl("delete", "qpudevices", "--all", "--timeout=60s", timeout_s=90)
    helm(kubectl, "upgrade", "efaas", "charts/efaas", "--reuse-values", "--wait", "--timeout", "5m")
    assert kubectl("get", "qpudevices", "-o", "name") != ""


def test_uninstallation_leaves_no_orphan(kubectl: Kubectl):
    helm(kubectl, "uninstall", "efaas", "--wait", "--timeout", "3m")

    def left() -> set[str]:
        kinds = f"{_NAMESPACED},persistentvolumeclaims,networkpolicies,poddisruptionbudgets"
        names = set(kubectl("get", kinds, "-n", SYSTEM, "-o", "name").split())
        wide = kubectl("get", _CLUSTER_WIDE, "-o", "name").split()
        found = names | {name for name in wide if "efaas" in name}
        found |= set(
            kubectl(
                "get",
                "rolebindings",
                "-n",
                "kube-system",
                "-o",
                "name",
                "-l",
                "app.kubernetes.io/part-of=efaas",
            ).split()
        )
        return found - _OF_EVERY_NAMESPACE

    wait_until("nothing to be left", lambda: left() == set() or None, MEDIUM_S)
    assert kubectl("get", "qpudevices", "-o", "name") == ""


def test_nodes_are_as_they_were(kubectl: Kubectl):
    for node in kubectl.everywhere("nodes"):
        assert "efaas.dev/session" not in node["status"]["capacity"]
        assert not [taint for taint in node["spec"].get("taints", ()) if "efaas" in taint["key"]]
        assert not [key for key in node["metadata"]["annotations"] if key.startswith("efaas.dev/")]


def test_sessions_would_survive(kubectl: Kubectl):
    assert "vqasessions.efaas.dev" in kubectl("get", "customresourcedefinitions", "-o", "name")
