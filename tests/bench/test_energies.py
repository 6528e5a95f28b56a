"""Energies: real, kept by their request, the same for the same ages, judged against exact diagonalisation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from efaas.bench import energies, records
from efaas.bench.energies import Iterated, Walked, cell_of, converged_s, walk
from efaas.bench.energies_problems import named_problem, problem_of
from efaas.bench.energies_source import EnergiesFailed, EnergyCache, EnergySource
from efaas.bench.energies_targets import faster, final_error, targets_of
from tests.bench.synthetic import write_experiment


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared, so that the module computes nothing twice."""
    return tmp_path_factory.mktemp("energies") / "kept.sqlite"


def steps(count: int, age_s: float | None, device: str = "qpu-0") -> list[Iterated]:
    return [Iterated(device, age_s, 4.0 * (number + 1), False) for number in range(count)]


def at(moment_s: float, error: float) -> Walked:
    return Walked(moment_s, None, None, None, -1.0 + error)


def test_convergence_counts_from_the_moment_after_which_the_energy_stays() -> None:
    walked = [at(0, 0.9), at(4, 0.01), at(8, 0.5), at(12, 0.02), at(16, -0.01)]
    assert converged_s(walked, -1.0, 0.05) == 12
    assert converged_s(walked, -1.0, 1.0) == 0
    assert converged_s([*walked, at(20, 0.06)], -1.0, 0.05) is None
    assert converged_s([], -1.0, 0.05) is None


def test_ages_fall_into_cells_of_ascending_middles() -> None:
    assert cell_of(0.0) == cell_of(300.0) == 150.0
    middles = [cell_of(age) for age in (10.0, 301.0, 1000.0, 3000.0, 5000.0, 1e6)]
    assert middles == sorted(set(middles))


def test_the_exact_energies_of_the_problems_are_those_of_their_matrices() -> None:
    # A transverse-field Ising chain of two sites: eigenvalues ±sqrt(1 + 4) and ±1 for J = h = 1.
    chain = named_problem("ising-2-realamplitudes")
    assert chain.exact == pytest.approx(-np.sqrt(5))
    assert chain.width == pytest.approx(2 * np.sqrt(5))


def test_four_qubit_sessions_are_lih_or_chains_and_larger_ones_chains() -> None:
    assert problem_of("", 4, "loop-0").name == "lih-4-realamplitudes"
    assert problem_of("", 4, "loop-1").name == "ising-4-realamplitudes"
    assert problem_of("EfficientSU2-6", 6, "loop-0").name == "ising-6-efficientsu2"


def test_a_trajectory_is_the_same_again_and_computes_nothing_then(tmp_path: Path) -> None:
    problem = named_problem("ising-2-realamplitudes")
    found = []
    for _ in range(2):
        kept = EnergyCache(tmp_path / "kept.sqlite")
        with EnergySource(kept, energies.SNAPSHOT) as source:
            found.append(walk(source, problem, 3, "loop", 0.0, steps(3, 100.0)))
            computed = source.computed
        kept.close()
    assert found[0] == found[1]
    assert computed == 0
    assert [step.known_s for step in found[0]] == [0.0, 4.0, 8.0, 12.0]


def test_trajectories_on_fresh_calibrations_are_shared_and_stale_ones_are_not(cache: Path) -> None:
    problem = named_problem("ising-2-realamplitudes")
    kept = EnergyCache(cache)
    with EnergySource(kept, energies.SNAPSHOT) as source:
        fresh = walk(source, problem, 3, "loop", 0.0, steps(2, 10.0))
        before = source.computed
        also = walk(source, problem, 3, "loop", 0.0, steps(2, 290.0))
        assert source.computed == before
        stale = walk(source, problem, 3, "loop", 0.0, steps(2, 500_000.0))
    kept.close()
    assert fresh == also
    assert abs(stale[0].energy - fresh[0].energy) > 1e-6


def test_measured_values_agree_with_the_energy_without_shot_noise(cache: Path) -> None:
    """At one point of a chain, within four standard errors, the point's curvature allowed for."""
    problem = named_problem("ising-2-realamplitudes")
    point = [0.3] * problem.parameters
    kept = EnergyCache(cache)
    with EnergySource(kept, energies.SNAPSHOT) as source:
        answer = source.ask(
            problem.circuit,
            "evaluate",
            seed=5,
            age_s=150.0,
            points=[point],
            centre=point,
            shots=4096,
            session_seed=1,
            job="job",
        )
    kept.close()
    assert abs(answer["values"][0] - answer["energy"]) < 4 * answer["std_errors"][0]
    # Noise cannot push an energy below the ground state by more than mitigation's small overshoot.
    assert answer["energy"] > problem.exact - 0.2


def test_a_refused_request_names_the_circuit(cache: Path) -> None:
    problem = named_problem("ising-2-realamplitudes")
    kept = EnergyCache(cache)
    with (
        EnergySource(kept, energies.SNAPSHOT) as source,
        pytest.raises(EnergiesFailed, match=problem.circuit.handle),
    ):
        source.ask(problem.circuit, "exact", seed=1, age_s=0.0, points=[[0.1]])
    kept.close()


def rows(policy: str, moments: list[float | None], **more: object) -> list[dict[str, object]]:
    return [
        {
            "policy": policy,
            "seed": seed,
            "session": "s",
            "converged_s": moment,
            "complete": True,
            "final_relative_error": 0.03,
            **more,
        }
        for seed, moment in enumerate(moments)
    ]


def test_who_converges_in_a_fifth_of_the_time_is_80_percent_faster() -> None:
    found = faster(
        rows("efaas", [10.0, 20.0, None]) + rows("sbq", [50.0, 100.0, 70.0]), "efaas", "sbq", 80, ""
    )
    assert found.value == pytest.approx(80.0)
    assert found.reached
    assert "33 %" in found.reason  # the session that never converged is said


def test_equal_final_errors_are_no_worse_than_a_baseline() -> None:
    found = final_error(rows("efaas", [1.0, 1.0]) + rows("sr", [1.0, 1.0]))
    assert found.value == 0
    assert found.reached


def test_nothing_measured_is_said_and_not_taken_for_reached(tmp_path: Path) -> None:
    found = targets_of(tmp_path)
    assert found
    assert all(target.reached is None for target in found)


@pytest.mark.timeout(120)
def test_runs_get_trajectories_convergence_and_ages(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energies, "problem_of", lambda *_: named_problem("ising-2-realamplitudes"))
    monkeypatch.setattr(energies, "AGE_EDGES_S", energies.AGE_EDGES_S[:2])
    write_experiment(tmp_path, "headline", ["iterations=100,t_net_s=0.05"], policies=("efaas", "sbq"))
    write_experiment(tmp_path, "drift", ["calibrated"], policies=("efaas", "efaas-tolerant"), calibrated=True)
    assert energies.compute(tmp_path, cache=cache, workers=1, surrogate=False)
    folder = tmp_path / "data" / energies.FOLDER
    convergence = pq.read_table(folder / "convergence.parquet").to_pylist()
    # 2 experiments × 2 policies × 2 seeds × 2 sessions × 3 tolerances
    # and, in the headline, Nelder-Mead for EFaaS
    assert len(convergence) == 60
    trajectories = pq.read_table(folder / "trajectories.parquet").to_pylist()
    assert len(trajectories) == 20 * 5
    # On frozen devices a session's trajectory is the same under every policy; times differ.
    by_run = {
        (row["run"], row["session"], row["evaluation"]): row["energy"]
        for row in trajectories
        if row["run"].startswith("headline") and row["optimizer"] == "spsa"
    }
    for (run, session, number), energy in by_run.items():
        assert by_run[run.replace("sbq", "efaas"), session, number] == energy
    first = [path.read_bytes() for path in sorted(folder.iterdir())]
    assert energies.compute(tmp_path, cache=cache, workers=2, surrogate=False)
    assert [path.read_bytes() for path in sorted(folder.iterdir())] == first


def test_without_recorded_iterations_nothing_is_computed(tmp_path: Path) -> None:
    assert not energies.compute(tmp_path, cache=tmp_path / "kept.sqlite")
    assert records.read_targets(tmp_path) == []
