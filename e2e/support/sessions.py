"""Sessions of the tests, and what the gateway and this machine know of them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from e2e.support.kubectl import MEDIUM_S, Document, Kubectl
from efaas.cluster.connection import open_cluster
from efaas.cluster.gateway import open_gateway
from efaas.errors import EfaasError

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = "efaas-system"
_MOST_POINTS = 5000


def loop(name: str, iterations: int, namespace: str = "default", seed: int = 1, **spec: Any) -> Document:
    """H2 on two qubits with SPSA: small, and one job an iteration."""
    return {
        "apiVersion": "efaas.dev/v1alpha1",
        "kind": "VQASession",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "problem": {"molecule": {"name": "H2", "qubits": 2}},
            "ansatz": {"realAmplitudes": {"repetitions": 1}},
            "optimizer": {"spsa": {"calibrationSteps": 5}},
            "stop": {"maxIterations": iterations},
            "shots": 1024,
            "seed": seed,
            **spec,
        },
    }


def ask_gateway(kubectl: Kubectl, path: str, **query: Any) -> Any:
    """What the gateway answers to a reader; while it is away, it is asked again."""
    cluster = open_cluster(str(kubectl.kubeconfig), None, None)
    end = time.monotonic() + MEDIUM_S
    while True:
        try:
            with open_gateway(cluster, SYSTEM) as gateway:
                return gateway.get(path, query)
        except EfaasError:
            if time.monotonic() > end:
                raise
            time.sleep(1.0)


def trajectory(kubectl: Kubectl, name: str, namespace: str = "default") -> dict[str, list[Any]]:
    """Every evaluation of a session as the gateway has it, in columns."""
    found = ask_gateway(kubectl, f"/sessions/{namespace}/{name}/trajectory", points=_MOST_POINTS)
    assert found["total"] <= _MOST_POINTS
    columns: dict[str, list[Any]] = found["columns"]
    return columns


class Undisturbed:
    """The same sessions on the same devices as `efaas run` has them on this machine, where nothing breaks.

    Shots follow from session, job and seed, so a frozen device gives the same ones everywhere.
    """

    def __init__(self, documents: Sequence[Document], folder: Path) -> None:
        manifest = folder / "undisturbed.yaml"
        manifest.write_text(yaml.safe_dump_all(documents))
        command = [sys.executable, "-m", "efaas.cli", "run", str(manifest), "--json"]
        finished = subprocess.run(
            [*command, "--runs-dir", str(folder / "runs")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=280,
        )
        result = json.loads(finished.stdout)
        self.sessions: dict[str, dict[str, Any]] = {each["session"]: each for each in result["sessions"]}
        self._history = Path(result["folder"]) / "history.jsonl"

    def energies(self, name: str, namespace: str = "default") -> list[float]:
        """Of all evaluations of a session, in order."""
        lines = [json.loads(line) for line in self._history.read_text().splitlines()]
        mine = [each for each in lines if each["session"] == f"{namespace}/{name}"]
        return [each["energy"] for each in sorted(mine, key=lambda each: int(each["evaluation"]))]
