"""Helm, and the chart as it renders."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster import ROOT, SETUP, Cluster

CHART = ROOT / "charts" / "efaas"
NAMESPACE = "efaas-system"

Document = dict[str, Any]


class Refused(Exception):
    """Helm did not take the values."""


def helm(*arguments: str) -> str:
    """What helm prints; its error as `Refused`."""
    if shutil.which("helm") is None and SETUP.is_file():
        subprocess.run([str(SETUP)], check=True, stdout=subprocess.DEVNULL)
    answer = subprocess.run(["helm", *arguments], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise Refused(answer.stderr)
    return answer.stdout


def rendered(values: Document | None = None) -> list[Document]:
    """All documents of the chart with some values, hooks included."""
    text = subprocess_values(values)
    return [document for document in yaml.safe_load_all(text) if document]


def subprocess_values(values: Document | None) -> str:
    """The chart's text with values given on standard input."""
    answer = subprocess.run(
        ["helm", "template", "efaas", str(CHART), "--namespace", NAMESPACE, "--values", "-"],
        input=yaml.safe_dump(values or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        raise Refused(answer.stderr)
    return answer.stdout


def one(documents: list[Document], kind: str, name: str) -> Document:
    """The document of this kind and name."""
    found = [each for each in documents if each["kind"] == kind and each["metadata"]["name"] == name]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def pod_specs(documents: list[Document]) -> dict[str, Document]:
    """Specification of every pod that the chart makes, by kind and name of what makes it."""
    specs = {}
    for document in documents:
        spec = document.get("spec", {})
        name = f"{document['kind']}/{document['metadata']['name']}"
        match document["kind"]:
            case "Deployment" | "Job":
                specs[name] = spec["template"]["spec"]
            case "CronJob":
                specs[name] = spec["jobTemplate"]["spec"]["template"]["spec"]
            case "Pod":
                specs[name] = spec
    return specs


@pytest.fixture(scope="session")
def defaults() -> list[Document]:
    """The chart with its own values."""
    helm("version")
    return rendered()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real API server that enforces the restricted standard in the release's namespace."""
    folder: Path = tmp_path_factory.mktemp("chart")
    with Cluster(folder) as cluster:
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        cluster.api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE, "labels": labels}})
        cluster.create_namespace("team")
        yield cluster
