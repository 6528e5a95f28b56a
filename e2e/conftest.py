"""The cluster: made from nothing by `scripts/kind_up.sh`, and what is kept of it when a test fails."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.support.evidence import collect
from e2e.support.kubectl import Kubectl
from e2e.support.report import FIGURES

ROOT = Path(__file__).resolve().parents[1]
CLUSTER = "efaas-e2e"
RESULTS = ROOT / "e2e-results"
_LONGEST_TEST_S = 600
_ORDER = (
    "test_examples",
    "test_images",
    "test_installation",
    "test_ports",
    "test_command_line",
    "test_lives",
    "test_streams",
    "test_figures",
    "test_shares",
    "test_freshness",
    "test_faults",
    "test_uninstallation",
)
_KUBECTL = pytest.StashKey[Kubectl]()


def _on(variable: str) -> bool:
    return os.environ.get(variable) == "1"


def _run(*command: str, environment: dict[str, str] | None = None, timeout_s: float = 900.0) -> None:
    subprocess.run(
        command, cwd=ROOT, check=True, timeout=timeout_s, env={**os.environ, **(environment or {})}
    )


@pytest.fixture(scope="session")
def kubectl(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """kubectl of a fresh cluster with EFaaS in it."""
    kubeconfig = tmp_path_factory.mktemp("cluster") / "kubeconfig"
    environment = {"KUBECONFIG": str(kubeconfig), "EFAAS_CLUSTER": CLUSTER}
    if not _on("EFAAS_E2E_REUSE") and not _on("EFAAS_E2E_AS_IS"):
        _run("kind", "delete", "cluster", "--quiet", "--name", CLUSTER, environment=environment)
    kubectl = Kubectl(kubeconfig)
    request.config.stash[_KUBECTL] = kubectl
    try:
        if _on("EFAAS_E2E_AS_IS"):
            _run("kind", "export", "kubeconfig", "--quiet", "--name", CLUSTER, environment=environment)
        else:
            _run("scripts/kind_up.sh", environment=environment)
        kubectl(
            "label", "namespace", "default", "pod-security.kubernetes.io/enforce=restricted", "--overwrite"
        )
    except BaseException:
        if kubeconfig.exists():
            collect(kubectl, RESULTS / "set-up")
        raise
    yield kubectl
    if not any(_on(each) for each in ("EFAAS_E2E_KEEP", "EFAAS_E2E_REUSE", "EFAAS_E2E_AS_IS")):
        _run("kind", "delete", "cluster", "--quiet", "--name", CLUSTER, environment=environment)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bound each test, without the cluster's making, which the first one's set-up is, and put them in order.

    Those that take the installation as it is come first, then those with devices of their own, the end last.
    """
    items.sort(key=lambda item: _ORDER.index(item.path.stem) if item.path.stem in _ORDER else len(_ORDER) - 2)
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_LONGEST_TEST_S, func_only=True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    """Keep what can be known when a test has failed, while it is still there."""
    report: pytest.TestReport = yield
    kubectl = item.config.stash.get(_KUBECTL, None)
    if report.failed and report.when == "call" and kubectl is not None:
        folder = RESULTS / f"{time.strftime('%H%M%S')}-{re.sub('[^a-z0-9]+', '-', item.name.lower())[:80]}"
        collect(kubectl, folder)
        report.sections.append(("What is kept of the cluster", str(folder)))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell what was measured."""
    if FIGURES:
        terminalreporter.section("measured")
        for figure in FIGURES:
            terminalreporter.line(str(figure))
