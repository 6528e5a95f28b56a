"""The images hold what they run and nothing to break in with."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from e2e.support.kubectl import Kubectl

REGISTRY = os.environ.get("EFAAS_REGISTRY", "efaas.local/efaas")
TAG = os.environ.get("EFAAS_TAG", "dev")
LIMIT_MB = {"operator": 260, "scheduler": 260, "gateway": 320, "qpu": 600, "runner": 600}
STARTS = {
    "operator": ["efaas-operator", "--help"],
    "scheduler": ["efaas-scheduler", "--help"],
    "gateway": ["efaas-gateway", "--help"],
    "qpu": ["efaas-qpu", "--help"],
    "runner": ["python", "-c", "import efaas.runner.main, efaas.sdk, efaas.primitives"],
}
FOREIGN = {
    "operator": ["qiskit", "qiskit_aer", "scipy", "pyarrow", "efaas_qpu", "efaas_gateway", "efaas.runner"],
    "scheduler": ["qiskit", "qiskit_aer", "scipy", "grpc", "kopf", "efaas_operator", "efaas_qpu"],
    "gateway": ["qiskit", "qiskit_aer", "scipy", "numpy", "kopf", "efaas_operator", "efaas_qpu"],
    "qpu": ["qiskit_ibm_runtime", "kopf", "matplotlib", "efaas_operator", "efaas.runner"],
    "runner": ["qiskit_ibm_runtime", "qiskit_aer", "kopf", "efaas_qpu", "efaas_operator"],
}
ALWAYS_FOREIGN = ["pip", "setuptools", "wheel", "pytest", "ensurepip._bundled"]

pytestmark = [pytest.mark.usefixtures("kubectl"), pytest.mark.parametrize("part", LIMIT_MB)]


def _inspected(part: str) -> dict[str, Any]:
    text = subprocess.run(
        ["docker", "image", "inspect", f"{REGISTRY}-{part}:{TAG}"], capture_output=True, text=True, check=True
    ).stdout
    found: dict[str, Any] = json.loads(text)[0]
    return found


def _run(part: str, *command: str) -> subprocess.CompletedProcess[str]:
    options = ["--rm", "--read-only", "--network=none", "--tmpfs=/tmp", "--entrypoint", command[0]]
    image = f"{REGISTRY}-{part}:{TAG}"
    return subprocess.run(
        ["docker", "run", *options, image, *command[1:]], capture_output=True, text=True, check=False
    )


def test_it_is_as_small_as_it_should_be(part: str, kubectl: Kubectl):
    assert _inspected(part)["Size"] <= LIMIT_MB[part] * 1_000_000


def test_it_says_what_it_is_and_is_nobodys_root(part: str):
    configuration = _inspected(part)["Config"]
    assert configuration["User"] == "65532:65532"
    labels = configuration["Labels"]
    assert labels["org.opencontainers.image.title"] == f"efaas-{part}"
    assert {
        f"org.opencontainers.image.{name}" for name in ("description", "licenses", "revision", "version")
    } <= set(labels)
    assert configuration["Healthcheck"]["Test"]


def test_it_starts_on_a_read_only_root_without_a_network(part: str):
    done = _run(part, *STARTS[part])
    assert done.returncode == 0, done.stderr


def test_nothing_of_the_building_machine_is_in_it(part: str):
    known = {"PATH", "LANG", "HOME", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}
    known |= {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MALLOC_ARENA_MAX"}
    assert {each.partition("=")[0] for each in _inspected(part)["Config"]["Env"]} == known
    assert _run(part, "sh", "-c", "test ! -e /etc/pip.conf").returncode == 0
    # Trusted are the distribution's certificates alone, not those that the machine reaches registries with.
    count = "grep -c BEGIN /etc/ssl/certs/ca-certificates.crt; grep -c '^[^#!]' /etc/ca-certificates.conf"
    trusted, shipped = _run(part, "sh", "-c", count).stdout.split()
    assert trusted == shipped


def test_it_holds_nothing_that_it_does_not_run(part: str):
    code = (
        "import importlib.util, sys\n"
        "def there(name):\n"
        "    try: return importlib.util.find_spec(name) is not None\n"
        "    except ModuleNotFoundError: return False\n"
        "print(*[name for name in sys.argv[1:] if there(name)])"
    )
    done = _run(part, "python", "-c", code, *ALWAYS_FOREIGN, *FOREIGN[part])
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
    tools = _run(part, "sh", "-c", "command -v pip pip3 gcc cc make perl git curl wget")
    assert tools.stdout == ""
