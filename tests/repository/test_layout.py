"""Rules of the repository that no linter keeps."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def tracked(*patterns: str) -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_the_standard_library_works_from_the_root():
    subprocess.run([sys.executable, "-c", "import collections, operator; operator.add"], cwd=ROOT, check=True)
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_locks_hold_hashes_and_no_addresses():
    locks = tracked("requirements/*.txt")
    assert locks
    for lock in locks:
        text = lock.read_text()
        assert "--hash=sha256:" in text
        assert not re.search(r"https?://|--index-url|--extra-index", text), lock


@pytest.mark.parametrize("package", ["efaas", "efaas.api.load", "efaas.core.identity", "efaas.cli"])
def test_light_packages_import_without_quantum_libraries(package: str):
    """The operator, the scheduler and the command line start without Qiskit."""
    program = (
        "import sys\n"
        "for name in ('qiskit', 'qiskit_aer', 'scipy', 'matplotlib'): sys.modules[name] = None\n"
        f"import {package}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", ["operator", "queue"])
def test_a_benchmark_named_like_pythons_own_module_stands_aside(name: str):
    script = f"import {name}, sys; print(sys.modules[{name!r}].__file__)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT / "benchmarks", check=True, capture_output=True, text=True
    )
    assert not done.stdout.startswith(str(ROOT))
    shown = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / f"{name}.py", "--help"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "usage:" in shown.stdout
