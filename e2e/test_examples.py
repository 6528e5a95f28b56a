"""The first thing that somebody does with a cluster: apply an example."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from e2e.support.kubectl import Kubectl, condition

ROOT = Path(__file__).resolve().parents[1]
CHEMICAL_ACCURACY_HA = 0.0016


@pytest.fixture(scope="module")
def on_this_machine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What `efaas run` finds for the same file: its devices are frozen, so shots are the same everywhere."""
    command = [sys.executable, "-m", "efaas.cli", "run", "examples/h2.yaml", "--json"]
    runs = tmp_path_factory.mktemp("runs")
    finished = subprocess.run(
        [*command, "--runs-dir", str(runs)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=280
    )
    return {each["session"]: each for each in json.loads(finished.stdout)["sessions"]}


def test_h2_is_applied_and_completes_with_the_right_energies(
    kubectl: Kubectl, on_this_machine: dict[str, dict[str, Any]]
):
    kubectl.apply(ROOT / "examples" / "h2.yaml")
    for name in ("h2-ideal", "h2-noisy"):
        status = kubectl.wait_for_state(name, "Completed")
        assert condition(status, "Completed")["status"] == "True"
        found = float(status["result"]["energy"])
        expected = on_this_machine[f"default/{name}"]
        assert found == pytest.approx(expected["energy"], abs=1e-6)
        assert status["usage"]["shots"] == expected["usage"]["shots"]
    ideal = kubectl.session("h2-ideal")["result"]
    assert abs(float(ideal["energy"]) - float(ideal["exact"])) <= CHEMICAL_ACCURACY_HA


def test_tables_say_where_sessions_and_devices_are(kubectl: Kubectl):
    table = kubectl("get", "vqa,qpu")
    assert "h2-ideal" in table
    assert "Completed" in table
    assert "manila" in table
