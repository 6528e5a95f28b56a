"""The simulator: replay to the byte, closed forms of queueing theory, and the scenario of the comparison."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from efaas.core.qpu import POLICIES, CalibrationConfig, QpuConfig
from efaas.simulator import BatchStream, LoopSession, Measures, Simulator, percentile


def simulate(
    horizon_s: float = 300.0,
    *,
    devices: int = 2,
    loops: int = 2,
    load: float = 1.2,
    seed: int = 0,
    **fields: Any,
) -> Measures:
    config = QpuConfig(**fields)
    return Simulator(
        {f"d{n}": config for n in range(devices)},
        loops=[LoopSession(f"loop{n}", f"t{n}") for n in range(loops)],
        batch=[BatchStream(f"batch{n}", f"b{n}", load * devices / 4 / 5) for n in range(4)],
        seed=seed,
    ).run(horizon_s)


def log(policy: str, seed: int) -> list[str]:
    calibration = CalibrationConfig(frozen=False, interval_s=100.0, duration_s=10.0, max_age_s=500.0)
    config = QpuConfig(policy=policy, calibration=calibration)
    simulator = Simulator(
        {"a": config, "b": config},
        loops=[LoopSession("loop", "t", max_calibration_age_s=60.0)],
        batch=[BatchStream("batch", "b", 0.3)],
        seed=seed,
        failures=0.02,
        keep_log=True,
    )
    simulator.run(200)
    return simulator.log


class TestReplay:
    @pytest.mark.parametrize("policy", POLICIES)
    def test_the_same_seed_gives_the_same_decisions_to_the_byte(self, policy: str) -> None:
        first, second = log(policy, 1), log(policy, 1)
        assert "\n".join(first).encode() == "\n".join(second).encode()
        assert len(first) > 100

    def test_the_order_of_hashes_has_no_part_in_it(self) -> None:
        """Sets and dictionaries of strings iterate in another order in each process."""
        program = (
            "import hashlib\n"
            "from efaas.core.qpu import QpuConfig\n"
            "from efaas.simulator import BatchStream, LoopSession, Simulator\n"
            "loops = [LoopSession(f'l{n}', f't{n}') for n in range(3)]\n"
            "batch = [BatchStream(f'b{n}', f'u{n}', 0.2) for n in range(3)]\n"
            "config = QpuConfig()\n"
            "s = Simulator({'a': config, 'b': config}, loops=loops, batch=batch, keep_log=True)\n"
            "s.run(60)\n"
            "print(hashlib.sha256('\\n'.join(s.log).encode()).hexdigest())\n"
        )
        digests = {
            subprocess.run(
                [sys.executable, "-c", program],
                env={**os.environ, "PYTHONHASHSEED": seed},
                capture_output=True,
                check=True,
                text=True,
            ).stdout
            for seed in ("1", "2")
        }
        assert len(digests) == 1

    def test_another_seed_gives_others(self) -> None:
        assert log("efaas", 1) != log("efaas", 2)

    def test_policies_meet_the_same_jobs(self) -> None:
        jobs = []
        for policy in ("efaas", "sbq"):
            measures = simulate(100, policy=policy)
            jobs.append([(wait.session, wait.arrived_s, wait.device_s) for wait in measures.batch])
        assert jobs[0] == jobs[1]


class TestClosedForms:
    """One device, first come first served, no cost of turning: textbook queues."""

    def waits(self, load: float, seeds: Sequence[int]) -> list[float]:
        waits = []
        for seed in seeds:
            measures = simulate(
                20_000, devices=1, loops=0, load=load, seed=seed, policy="sbq", slice_cost_s=0.0
            )
            done = [w for w in measures.batch if w.start_s is not None and w.arrived_s > 1000]
            waits.append(sum((w.start_s or 0.0) - w.arrived_s for w in done) / len(done))
        return waits

    def test_mean_wait_is_that_of_m_m_1(self) -> None:
        waits = self.waits(0.5, range(6))
        mean = sum(waits) / len(waits)
        spread = math.sqrt(sum((w - mean) ** 2 for w in waits) / (len(waits) - 1) / len(waits))
        wanted = 0.5 / (1 - 0.5) * 5.0  # ρ/(1-ρ) · mean service
        assert abs(mean - wanted) < 3 * spread + 0.05 * wanted

    def test_duty_cycle_is_the_load_where_there_is_room(self) -> None:
        measures = simulate(20_000, devices=1, loops=0, load=0.5, policy="sbq", slice_cost_s=0.0)
        assert measures.duty_cycle == pytest.approx(0.5, abs=0.05)

    def test_a_lone_loop_waits_for_the_network_and_its_turn_only(self) -> None:
        measures = simulate(200, devices=1, loops=1, load=0.0)
        assert max(measures.ttns_s()) == pytest.approx(0.05 + 0.01)
        each_s = 200 / measures.iterations_done()
        assert each_s == pytest.approx(1.5 + 0.05 + 0.01 + 2.0, rel=0.05)


class TestTwoSaturatedDevices:
    """Batch jobs of mean 5 s at 120 % load, two loops: what the Dual-Resource Fair Queue is for."""

    @pytest.mark.parametrize("seed", range(2))
    def test_loops_start_at_once_and_devices_are_full(self, seed: int) -> None:
        measures = simulate(seed=seed)
        assert percentile(measures.ttns_s(after_s=20), 0.95) <= 0.35
        assert measures.duty_cycle >= 0.95

    def test_every_rival_loses_on_one_of_the_two(self) -> None:
        for policy in POLICIES[1:]:
            measures = simulate(policy=policy)
            late = percentile(measures.ttns_s(after_s=20), 0.95) > 0.35
            idle = measures.duty_cycle < 0.95
            assert late or idle, policy

    def test_slicing_and_gap_fitting_each_have_their_part(self) -> None:
        full, unfitted = simulate(), simulate(gap_fitting=False)
        whole = simulate(slice_s=None)
        means = [sum(m.ttns_s()) / len(m.ttns_s()) for m in (full, unfitted, whole)]
        assert means[0] < 0.75 * means[1]
        assert means[1] < 0.1 * means[2]
        assert full.duty_cycle > unfitted.duty_cycle - 0.005

    def test_no_iteration_runs_on_a_calibration_older_than_its_limit(self) -> None:
        calibration = CalibrationConfig(frozen=False, interval_s=600.0, duration_s=20.0)
        config = QpuConfig(calibration=calibration)
        loops = [LoopSession(f"l{n}", f"t{n}", max_calibration_age_s=50.0) for n in range(2)]
        batch = [BatchStream("b", "b", 0.3)]
        measures = Simulator({"a": config, "b": config}, loops=loops, batch=batch).run(400)
        assert 0 < measures.oldest_calibration_s <= 50.0


class TestMeasures:
    def test_device_time_is_where_it_was_booked(self) -> None:
        measures = simulate(100, load=1.5)
        for device in measures.devices.values():
            parts = (device.shots_s, device.turning_s, device.calibrating_s, device.idle_s)
            assert sum(parts) == pytest.approx(100)
            assert device.reserved_s <= device.idle_s
        shots_s = sum(device.shots_s for device in measures.devices.values())
        assert sum(measures.used_s.values()) == pytest.approx(shots_s)

    def test_an_iteration_that_never_started_counts_with_its_wait(self) -> None:
        measures = simulate(50, policy="sbq", load=3.0)
        waiting = [i for i in measures.iterations if i.start_s is None]
        assert waiting
        assert max(measures.ttns_s()) >= 50 - waiting[0].ready_s

    @pytest.mark.parametrize(
        ("values", "part", "wanted"),
        [([1.0], 0.95, 1.0), ([3.0, 1.0, 2.0], 0.5, 2.0), (list(map(float, range(1, 101))), 0.95, 95.0)],
    )
    def test_percentiles_are_values_that_were_seen(
        self, values: list[float], part: float, wanted: float
    ) -> None:
        assert percentile(values, part) == wanted

    def test_of_nothing_is_nan(self) -> None:
        assert math.isnan(percentile([], 0.5))


def test_a_loop_with_an_end_closes_its_session() -> None:
    config = QpuConfig()
    simulator = Simulator({"a": config}, loops=[LoopSession("l", "t", iterations=5)])
    measures = simulator.run(1000)
    assert measures.iterations_done() == 5
    assert simulator.devices["a"].machine.sessions == {}
