"""A real API server takes every object, and gives each account the rights of the table and no other."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.conftest import NAMESPACE, rendered
from tests.chart.test_templates import EVERYTHING
from tests.support.cluster import Cluster

pytestmark = pytest.mark.cluster

RIGHTS = yaml.safe_load(Path(__file__).with_name("rights.yaml").read_text())
_SYSTEM_ROLES = {"system:kube-scheduler", "system:volume-scheduler", "system:auth-delegator"}
_FOREIGN = {"Certificate", "PodMonitor"}
"""Kinds of others that this API server does not have."""


def _kubectl(cluster: Cluster, documents: list[dict[str, Any]], *options: str) -> str:
    answer = subprocess.run(
        ["kubectl", f"--kubeconfig={cluster.kubeconfig}", "apply", "--server-side", "-f", "-", *options],
        input=yaml.safe_dump_all(documents),
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout + answer.stderr


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Cluster:
    """The chart's accounts and roles."""
    kinds = {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
    _kubectl(cluster, [_placed(each) for each in rendered() if each["kind"] in kinds])
    return cluster


def _placed(document: dict[str, Any]) -> dict[str, Any]:
    """A document with its namespace written down, as Helm sends it."""
    cluster_wide = {
        "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition",
    }  # fmt: skip
    if document["kind"] not in cluster_wide:
        document["metadata"].setdefault("namespace", NAMESPACE)
    return document


@pytest.mark.parametrize(
    "values",
    [{}, EVERYTHING, {"tls": {"mode": "Off"}, "networkPolicy": {"enabled": False}}],
    ids=["defaults", "everything", "open"],
)
def test_every_object_is_accepted(cluster: Cluster, values):
    documents = [_placed(each) for each in rendered(values) if each["kind"] not in _FOREIGN]
    said = _kubectl(cluster, documents, "--dry-run=server", "--validate=strict")
    assert said.count("serverside-applied") == len(documents)
    assert "would violate PodSecurity" not in said


def _asked(line: str) -> Iterator[dict[str, str]]:
    """The questions of a line: one for each verb."""
    what, _, where = line.rpartition(" in ")
    verbs, resource, *name = what.split()
    resource, _, subresource = resource.partition("/")
    resource, _, group = resource.partition(".")
    namespace = {"all": "", "system": NAMESPACE}.get(where, where)
    for verb in verbs.split(","):
        yield {
            "verb": verb,
            "group": group,
            "resource": resource,
            "subresource": subresource,
            "name": name[0] if name else "",
            "namespace": namespace,
        }


def _allowed(cluster: Cluster, account: str, question: dict[str, str]) -> bool:
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{NAMESPACE}", "system:authenticated"]
    user = f"system:serviceaccount:{NAMESPACE}:{account}"
    answer = cluster.api.create(
        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        {"spec": {"user": user, "groups": groups, "resourceAttributes": question}},
    )
    return bool(answer["status"]["allowed"])


@pytest.mark.parametrize("account", RIGHTS)
def test_an_account_may_do_what_the_table_allows_and_not_what_it_denies(installed: Cluster, account: str):
    for line in RIGHTS[account]["allowed"]:
        for question in _asked(line):
            assert _allowed(installed, account, question), f"{account} may not {line}: {question['verb']}"
    for line in RIGHTS[account]["denied"]:
        for question in _asked(line):
            assert not _allowed(installed, account, question), f"{account} may {line}: {question['verb']}"


def test_the_table_has_every_right_that_the_chart_gives():
    documents = rendered()
    roles = {(each["kind"], each["metadata"]["name"]): each for each in documents if "rules" in each}
    given: dict[str, set[tuple[str, ...]]] = {}
    for binding in documents:
        if not binding["kind"].endswith("RoleBinding"):
            continue
        reference = binding["roleRef"]
        if reference["name"] in _SYSTEM_ROLES or binding["metadata"].get("namespace") == "kube-system":
            continue
        where = "" if binding["kind"] == "ClusterRoleBinding" else NAMESPACE
        for rule, subject in itertools.product(
            roles[reference["kind"], reference["name"]]["rules"], binding["subjects"]
        ):
            assert "*" not in rule["verbs"] + rule["apiGroups"] + rule["resources"], binding["metadata"]
            for group, resource, verb, name in itertools.product(
                rule["apiGroups"], rule["resources"], rule["verbs"], rule.get("resourceNames", [""])
            ):
                plain, _, sub = resource.partition("/")
                right = (verb, group, plain, sub, name, where)
                given.setdefault(subject["name"], set()).add(right)
    for account, rights in given.items():
        listed = {
            tuple(question[key] for key in ("verb", "group", "resource", "subresource", "name", "namespace"))
            for line in RIGHTS[account]["allowed"]
            for question in _asked(line)
        }
        assert rights <= listed, f"{account}: {sorted(rights - listed)}"


def test_no_account_is_without_a_table():
    accounts = {each["metadata"]["name"] for each in rendered() if each["kind"] == "ServiceAccount"}
    assert accounts == {name for name in RIGHTS if not name.startswith("system:")}
