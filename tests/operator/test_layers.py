"""The operator's image holds no quantum library, and what is built knows no cluster client."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["efaas_operator.build", "efaas_operator.reading"])
def test_it_imports_without_what_its_image_lacks(module: str):
    program = (
        "import sys\n"
        "for name in ('qiskit', 'qiskit_aer', 'grpc', 'kopf', 'kubernetes'): sys.modules[name] = None\n"
        f"import {module}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
