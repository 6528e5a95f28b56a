"""The grid: resumable, the same bytes however it was run, targets decided from its tables alone."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from pathlib import Path

import pytest

from efaas.bench import estimates, records
from efaas.bench.arrivals import (
    RECORDED,
    bursts,
    growth,
    profile_of,
    read_record,
    statistics,
    synthesise,
    write_traces,
)
from efaas.bench.grid import SCALE_CELL, TARGET_TABLE, Task, tasks, workload
from efaas.bench.run import run_grid
from efaas.bench.scenario import Scenario
from efaas.bench.simulate import simulate
from efaas.bench.targets import crossings, targets
from efaas.errors import InputError

SHORT = Scenario(iterations=5, warm_up_s=30.0, opening_s=10.0, horizon_s=150.0)


def grid(cells: tuple[str, ...] = ("iterations=100,t_net_s=0.05",)) -> list[Task]:
    arms = ("efaas", "sr", "sbq", "bound-zero-wait", "bound-work-conserving")
    return [
        Task("headline", cell, SHORT, arms, seed, tuple(records.TABLES))
        for cell in cells
        for seed in range(2)
    ]


def bytes_of(out: Path) -> dict[str, str]:
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((out / "data").rglob("*.parquet"))
    }


class TestRun:
    def test_the_same_bytes_in_whatever_order_and_after_an_interruption(self, tmp_path: Path) -> None:
        run_grid(tmp_path / "a", grid(), processes=1)
        # Interrupted after one task, and gone on the other way round.
        run_grid(tmp_path / "b", grid()[1:], processes=1)
        told: list[tuple[int, int, str]] = []
        run_grid(
            tmp_path / "b", list(reversed(grid())), processes=1, progress=lambda *what: told.append(what)
        )
        assert [(done, total) for done, total, _ in told] == [(2, 2)]
        assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
        assert len(bytes_of(tmp_path / "a")) == len(records.TABLES)

    def test_other_settings_are_not_taken_for_the_same(self, tmp_path: Path) -> None:
        run_grid(tmp_path, grid(), processes=1)
        changed = [replace(task, scenario=replace(SHORT, load=0.5)) for task in grid()]
        told: list[int] = []
        run_grid(tmp_path, changed, processes=1, progress=lambda done, *_: told.append(done))
        assert told == [1, 2]

    def test_targets_come_from_the_tables(self, tmp_path: Path) -> None:
        run_grid(tmp_path, grid(), processes=1)
        found = {target.name: target for target in targets(tmp_path)}
        below = found["mean TTNS below sbq (iterations=100,t_net_s=0.05)"]
        rows = records.read(tmp_path, "headline", "runs")
        assert rows is not None
        means = {
            policy: [row["ttns_mean_s"] for row in rows.to_pylist() if row["policy"] == policy]
            for policy in ("efaas", "sbq")
        }
        assert below.value == pytest.approx(100 * (1 - sum(means["efaas"]) / sum(means["sbq"])))
        assert below.seeds == 2
        pq = found["mean TTNS below pq (iterations=100,t_net_s=0.05)"]
        assert pq.reached is None
        assert "not measured" in pq.line()
        assert crossings(tmp_path) == []


class TestGrid:
    def test_the_target_table_has_what_the_targets_need(self) -> None:
        found = tasks(full=False, seeds=1)
        assert {task.experiment for task in found} == set(TARGET_TABLE)
        assert any(task.cell == SCALE_CELL for task in found)
        assert len({(task.experiment, task.cell, task.seed) for task in found}) == len(found)

    def test_in_full_every_experiment_is_there(self) -> None:
        assert {task.experiment for task in tasks(full=True, seeds=1)} == set(records.EXPERIMENTS)

    @pytest.mark.parametrize("experiment", sorted(set(records.EXPERIMENTS) - {"scale"}))
    def test_every_cell_can_be_simulated(self, experiment: str) -> None:
        for task in tasks(full=True, seeds=1, only=(experiment,)):
            short = replace(task.scenario, warm_up_s=20.0, opening_s=10.0, horizon_s=60.0)
            rows = simulate(experiment, task.cell, short, task.arms[0], 0)["runs"]
            assert rows[0]["iterations_done"] > 0
            assert rows[0]["little_gap"] < 1e-9

    def test_the_workload_has_28_circuits_of_three_families(self) -> None:
        circuits = workload()
        assert len(circuits) == len({circuit.name for circuit in circuits}) == 28
        assert {circuit.name.split("-")[0] for circuit in circuits} == {
            "EfficientSU2",
            "RealAmplitudes",
            "TwoLocal",
        }
        assert {circuit.qubits for circuit in circuits} <= set(range(2, 17))

    def test_the_day_offers_its_load_with_its_sessions(self) -> None:
        (day,) = (task for task in tasks(full=False, seeds=1, only=("scale",)) if task.cell == SCALE_CELL)
        scenario = day.scenario
        loops = scenario.sessions * 100 * scenario.t_qpu_s / (scenario.qpus * scenario.horizon_s)
        assert scenario.load + loops == pytest.approx(0.6)
        assert (scenario.qpus, scenario.sessions, scenario.horizon_s) == (100, 1000, 86_400.0)


class TestArrivals:
    def test_bursts_keep_the_mean(self) -> None:
        rates = bursts(1, 20_000)
        assert sum(rates) / len(rates) == pytest.approx(1.0, rel=0.1)
        assert set(rates) == {0.25, 4.0}

    def test_growth_mends_a_reading_that_jumps_away_and_back(self) -> None:
        assert sum(growth([5, 5, 400, 5, 6, 7, 7])) == 2

    def test_a_profile_has_mean_1_and_follows_the_record(self) -> None:
        profile = profile_of([0, 4, 4, 4, 8, 8], seed=1, minutes=5)
        assert sum(profile) == pytest.approx(5.0)
        assert [value > 0 for value in profile] == [True, False, False, True, False]

    def test_synthetic_traces_are_like_what_they_are_made_from(self) -> None:
        like = statistics([synthesise(RECORDED, seed, 14_400) for seed in range(6)])
        assert like.quiet_share == pytest.approx(RECORDED.quiet_share, abs=0.03)
        assert like.quiet_stays == pytest.approx(RECORDED.quiet_stays, abs=0.03)
        assert like.log_mean == pytest.approx(RECORDED.log_mean, abs=0.35)
        assert like.log_spread == pytest.approx(RECORDED.log_spread, abs=0.35)

    def test_written_traces_are_read_like_a_record(self, tmp_path: Path) -> None:
        (path,) = write_traces(tmp_path, 1, minutes=100)
        assert read_record(path) == {"synthetic-0": synthesise(RECORDED, 0, 99)}

    def test_what_is_no_record_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "record.csv"
        path.write_text("a,b\n1,2\n")
        with pytest.raises(InputError, match="backend and pending_jobs"):
            read_record(path)
        with pytest.raises(InputError, match="cannot be read"):
            read_record(tmp_path / "nothing.csv")


class TestEstimates:
    def test_a_mean_and_its_interval(self) -> None:
        estimate = estimates.mean_of([1.0, 2.0, 3.0])
        assert estimate.value == 2.0
        assert estimate.half_width == pytest.approx(4.302653 / math.sqrt(3), rel=1e-5)

    def test_the_jackknife_of_a_mean_is_the_usual_interval(self) -> None:
        values = [1.0, 4.0, 2.0, 8.0]
        jackknifed = estimates.jackknife([(value,) for value in values], lambda mean: mean)
        assert jackknifed.half_width == pytest.approx(estimates.mean_of(values).half_width)

    def test_what_pairs_have_in_common_cancels(self) -> None:
        pairs = [(0.1 * common, common) for common in (1.0, 10.0, 100.0)]
        estimate = estimates.jackknife(pairs, estimates.percent_below)
        assert estimate.value == pytest.approx(90.0)
        assert estimate.half_width == pytest.approx(0.0, abs=1e-9)
