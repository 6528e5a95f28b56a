"""Programs of the ecosystem run with nothing but their imports changed, and find what diagonalisation finds.

Two on a noisy device, two on an ideal one; how close each comes is its algorithm's and its device's doing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).resolve().parents[2] / "examples" / "programs"

WITHIN = {
    # H2 in Hartree; the device's noise remains.
    "scipy_vqe": 0.06,
    # Three spins, no noise: 100 evaluations at 10 000 shots.
    "algorithms_vqe": 0.05,
    # Sampled: the best outcome is an eigenvalue.
    "algorithms_qaoa": 1e-9,
    "algorithms_sampling_vqe": 1e-9,
}


def run(name: str, state: Path) -> dict[str, str]:
    """What the program printed, by the first word of a line."""
    finished = subprocess.run(
        [sys.executable, str(PROGRAMS / f"{name}.py")],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "XDG_STATE_HOME": str(state)},
    )
    assert finished.returncode == 0, finished.stderr[-4000:]
    return dict(line.split(maxsplit=1) for line in finished.stdout.splitlines() if " " in line)


@pytest.mark.integration
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", sorted(WITHIN))
def test_a_program_finds_what_diagonalisation_finds(name: str, tmp_path: Path):
    said = run(name, tmp_path)
    energy, exact = float(said["energy"].split()[0]), float(said["exact"])
    assert abs(energy - exact) <= WITHIN[name]
    if "expectation" in said:  # no state lies below the ground state
        assert float(said["expectation"]) >= exact - 1e-9
    assert not list((tmp_path / "efaas" / "sessions").glob("*"))  # no session is left behind


def test_every_program_is_tested():
    assert {path.stem for path in PROGRAMS.glob("*.py")} == set(WITHIN)


@pytest.mark.parametrize("name", sorted(WITHIN))
def test_a_program_imports_of_efaas_what_it_would_import_elsewhere(name: str):
    imports = [line for line in (PROGRAMS / f"{name}.py").read_text().splitlines() if "efaas import" in line]
    assert {line.removeprefix("from efaas import ").split(" as ")[0] for line in imports} <= {
        "EstimatorV2",
        "SamplerV2",
        "Session",
    }
